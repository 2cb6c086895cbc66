"""Which file holds where none is named, and that a publisher's file can only make a check stricter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lineage_plugin.errors import UnreadableCheckpoint, UsageError
from lineage_plugin.policy.find import find_policy

LOOSE = "version: 1\nfail-on: never\nlevels: {LIN101: off, LIN201: error}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a model in it, neither with a policy."""
    (tmp_path / "models" / "theirs").mkdir(parents=True)
    (tmp_path / "models" / "theirs" / "w.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_where_there_is_none_there_is_none(home: Path) -> None:
    for model in ("models/theirs", "owner/name", "no such/thing at all"):
        assert find_policy(model) is None


def test_that_of_the_current_folder_counts_whole(home: Path) -> None:
    (home / ".lineage.yml").write_text(LOOSE)
    for model in ("models/theirs", "models/theirs/w.safetensors", "owner/name"):
        found = find_policy(model)
        assert found is not None
        assert (found.file, found.fail_on, found.levels["LIN101"], found.ignored) == (
            ".lineage.yml",
            "never",
            "off",
            (),
        )


@pytest.mark.parametrize("model", ["models/theirs", "models/theirs/w.safetensors"])
def test_that_beside_the_model_counts_so_far_as_it_is_stricter(model: str, home: Path) -> None:
    (home / "models" / "theirs" / ".lineage.yml").write_text(LOOSE)
    found = find_policy(model)
    assert found is not None
    assert (found.file, found.fail_on, dict(found.levels)) == ("models/theirs/.lineage.yml", None, {"LIN201": "error"})
    assert found.stricter_only
    assert found.ignored == ("fail-on: never", "LIN101: off")


def test_that_beside_the_model_does_not_take_the_place_of_ones_own(home: Path) -> None:
    (home / ".lineage.yml").write_text("version: 1\nlevels: {LIN201: error}\n")
    (home / "models" / "theirs" / ".lineage.yml").write_text("version: 1\n")
    found = find_policy("models/theirs")
    assert found is not None
    assert found.levels == {"LIN201": "error"}


@pytest.mark.parametrize(
    ("below", "model"),
    [("", "."), ("", "w.safetensors"), ("", "../theirs/"), ("deep/er", "../.."), ("deep", "../w.safetensors")],
)
def test_working_in_a_download_makes_its_policy_nobodys_own(
    below: str, model: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = home / "models" / "theirs"
    here = theirs / below
    here.mkdir(parents=True, exist_ok=True)
    (here / ".lineage.yml").write_text(LOOSE)
    (theirs / ".lineage.yml").write_text(LOOSE)
    monkeypatch.chdir(here)
    found = find_policy(model)
    assert found is not None
    assert found.stricter_only


def test_a_link_to_the_model_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "models" / "theirs" / ".lineage.yml").write_text(LOOSE)
    (home / "link").symlink_to(home / "models" / "theirs")
    monkeypatch.chdir(home / "models" / "theirs")
    found = find_policy(str(home / "link"))
    assert found is not None
    assert found.stricter_only


def test_that_beside_a_card_that_was_given(home: Path) -> None:
    (home / "cards").mkdir()
    (home / "cards" / ".lineage.yml").write_text(LOOSE)
    (home / "models" / "theirs" / ".lineage.yml").write_text("version: 1\n")
    for model in ("models/theirs", "owner/name"):
        found = find_policy(model, "cards/README.md")
        assert found is not None
        assert (found.file, found.stricter_only) == ("cards/.lineage.yml", True)


def test_a_link_out_of_the_model_is_not_followed(home: Path) -> None:
    (home / "secret").write_text("password: 1\n")
    (home / "models" / "theirs" / ".lineage.yml").symlink_to(home / "secret")
    with pytest.raises(UnreadableCheckpoint, match="leads out of the model folder"):
        find_policy("models/theirs")


def test_a_broken_policy_is_not_passed_over(home: Path) -> None:
    (home / "models" / "theirs" / ".lineage.yml").write_text("version: 3\n")
    with pytest.raises(UsageError, match=r"models/theirs/\.lineage\.yml:1: version"):
        find_policy("models/theirs")


def test_what_is_there_and_no_file_is_not_passed_over(home: Path) -> None:
    path = home / ".lineage.yml"
    path.symlink_to(home / "gone")
    with pytest.raises(UsageError, match="cannot be read"):
        find_policy("owner/name")
    path.unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        with pytest.raises(UsageError, match="not a regular file"):
            find_policy("owner/name")
