"""Where the files of findings are: paths that an annotation or an editor can open."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lineage_plugin import api
from lineage_plugin.judge.types import Report
from lineage_plugin.report.places import place

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "models")
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "model.safetensors").write_bytes(b"no tensors")
    monkeypatch.chdir(tmp_path)


def card_of(report: Report) -> str | None:
    return place(report, report.declared.file)


def places(report: Report) -> dict[str, str | None]:
    return {found.code: place(report, found.file) for found in report.findings}


@pytest.mark.parametrize(
    "model", ["models/liar", "./models/liar/", "models/liar/model.safetensors", "models/../models/liar"]
)
def test_the_files_of_a_folder_are_named_from_here(model: str) -> None:
    found = places(api.check(model, bases=["models/base"]))
    assert found.keys() >= {"LIN101", "LIN205"}
    assert {str(Path(str(path)).resolve()) for path in found.values()} == {str(Path("models/liar/README.md").resolve())}
    assert not any(Path(str(path)).is_absolute() for path in found.values())


def test_of_an_absolute_folder_the_path_is_absolute() -> None:
    folder = Path("models/liar").resolve()
    assert places(api.check(str(folder), bases=["models/base"]))["LIN101"] == f"{folder}/README.md"


def test_a_card_that_was_given_lies_where_it_was_said_to() -> None:
    card = Path("cards") / "CARD.md"
    card.parent.mkdir()
    shutil.copy("models/liar/README.md", card)
    report = api.check("models/honest", bases=["models/base"], card=str(card))
    assert card_of(report) == "cards/CARD.md"
    assert places(report)["LIN205"] == "cards/CARD.md"


def test_unreadable_weights_are_named_once_below_their_folder() -> None:
    assert places(api.check("models/broken"))["LIN302"] == "models/broken/model.safetensors"


@pytest.mark.parametrize("card", ["models/liar", "models/liar/README.md"])
def test_lint_names_the_card(card: str) -> None:
    assert card_of(api.lint(card)) == "models/liar/README.md"


def test_a_model_in_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("models/liar")
    assert places(api.check(".", bases=["../base"]))["LIN101"] == "README.md"


def test_what_is_on_the_hub_has_no_place_here() -> None:
    report = api.lint("models/liar")
    assert card_of(replace(report, folder=None)) is None
    assert place(report, None) is None
