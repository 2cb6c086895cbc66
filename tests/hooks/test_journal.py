"""Overrides: a reason is a sentence, and it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.journal import reason_given, record, trailer
from lineage_plugin.outcome import Outcome
from lineage_plugin.targets import Target


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LINEAGE_OVERRIDE", raising=False)
    return tmp_path / "cache"


@pytest.mark.parametrize("given", ["x", "123456789", " \n ok \t ", "\x1b\x1b"])
def test_too_short_a_reason_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no reason"):
        reason_given(given)
    monkeypatch.setenv("LINEAGE_OVERRIDE", given)
    if given.strip():
        with pytest.raises(UsageError, match="no reason"):
            reason_given()


def test_where_a_reason_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason_given() is None
    monkeypatch.setenv("LINEAGE_OVERRIDE", "  ")
    assert reason_given() is None
    monkeypatch.setenv("LINEAGE_OVERRIDE", " said by the environment ")
    assert reason_given() == "said by the environment"
    assert reason_given("said by the call") == "said by the call"
    lines = reason_given("two\nlines\x1b[31m of text")
    assert lines is not None and lines.isprintable()


def test_what_an_override_leaves_in_the_journal(cache: Path) -> None:
    outcome = Outcome(Target("me/model"), 4, None, "no connection")
    for number in range(2):
        record("me/model", f"reason number {number}", [outcome], {"model.safetensors": "ab"})
    lines = [json.loads(line) for line in (cache / "overrides.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["reason number 0", "reason number 1"]
    assert lines[0]["blocked"][0] == {
        "model": "me/model", "exit_code": 4, "findings": [], "problem": "no connection",
    }  # fmt: skip
    assert lines[0]["sha256"] == {"model.safetensors": "ab"}
    assert (cache / "overrides.jsonl").stat().st_mode & 0o077 == 0
    assert trailer("why not", [outcome]) == "Lineage-Override: what could not be checked: why not"


def test_what_is_not_recorded_is_not_overridden(cache: Path) -> None:
    cache.write_text("no folder")
    with pytest.raises(UsageError, match="cannot be recorded"):
        record("me/model", "a reason of some length", [], {})
