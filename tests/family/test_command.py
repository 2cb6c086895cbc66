"""The command ``lineage tree``."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from lineage_plugin.cli import main
from lineage_plugin.family.report.json_report import schema
from tests.family.kit import EXAMPLES, copy, example
from tests.hub import LocalHub


def test_exit_codes_and_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tree", example("base"), example("honest"), "--quiet", "--offline"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("TREE: 2 models: one family of 2.") and shown.err == ""
    file = tmp_path / "tree.json"
    arguments = ["tree", example("base"), example("liar"), "--format", "json", "--output", str(file), "--bar", "4"]
    assert main([*arguments, "--seed", "7", "--budget", "64MB"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and "The tree is in" in shown.err
    data = json.loads(file.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema()).validate(data)
    assert data["settings"] == {"bar": 4.0, "seed": 7, "budget": 64_000_000, "fingerprints": "auto"}
    assert data["exit_code"] == 1


def test_unreadable_models_end_in_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = copy("base", tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no tensors")
    assert main(["tree", example("base"), example("honest"), str(broken), "--quiet"]) == 2
    assert "not read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "MODEL"),
        ([example("base")], "2 to 64"),
        ([example("base"), example("honest"), "--format", "sarif"], "invalid choice"),
        ([example("base"), example("honest"), "--fingerprints", "only"], "invalid choice"),
        ([example("base"), example("honest"), "--output", "no/such/folder/t"], "does not exist"),
        ([example("base"), example("honest"), "--bar", "1"], "evidence bar"),
    ],
)
def test_wrong_calls_are_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tree", *arguments]) == 2
    shown = capsys.readouterr()
    assert says in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_a_hub_that_denies_ends_in_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    base, honest = example("base"), example("honest")
    with LocalHub(tmp_path, mounts={"a/gated": EXAMPLES / "honest"}) as hub:
        hub.faults.gated.add("a/gated")
        assert main(["tree", base, honest, "a/gated", "--endpoint", hub.endpoint, "--quiet"]) == 4
        # Files that are wrong come first: they are certain.
        assert main(["tree", base, honest, "a/gated", "a/gone", "--endpoint", hub.endpoint, "--quiet"]) == 2
    shown = capsys.readouterr().out
    assert shown.count("not read:") == 3 and "one family of 2" in shown
