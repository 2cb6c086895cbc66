"""Answers on disk: what was put comes back, and a damaged, old or foreign file is no answer."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lineage_plugin import Options, compare
from lineage_plugin.web import answers
from lineage_plugin.web.answers import Answers, Kept, key_of

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = key_of({"question": 1})


@pytest.fixture(scope="module")
def kept() -> Kept:
    report = compare(str(EXAMPLES / "liar"), str(EXAMPLES / "base"), options=Options(offline=True))
    return Kept(report, (("owner/base", None, "0" * 40), ("owner/other", "v1", "1" * 40)))


def test_what_was_kept_comes_back_without_loss(kept: Kept, tmp_path: Path) -> None:
    shelf = Answers(tmp_path, 1 << 20)
    shelf.put(KEY, kept)
    assert shelf.get(KEY, "compare") == kept
    assert shelf.get(key_of({"question": 2}), "compare") is None
    assert shelf.get(KEY, "tree") is None, "a report is no family"


def test_a_damaged_or_foreign_file_is_no_answer(kept: Kept, tmp_path: Path) -> None:
    shelf = Answers(tmp_path, 1 << 20)
    shelf.put(KEY, kept)
    (file,) = tmp_path.rglob("*.json")
    good = file.read_bytes()
    head, _, body = good.partition(b"\n")
    other = key_of({"question": 2})
    (tmp_path / other[:2]).mkdir(exist_ok=True)
    (tmp_path / other[:2] / f"{other}.json").write_bytes(good)
    assert shelf.get(other, "compare") is None, "the answer to another question"
    for bad in (b"", b"{}", b"[" * 100_000, head, body, good[:-1], good.replace(b"unrelated", b"identical"), b"\xff\n"):
        file.write_bytes(bad)
        assert shelf.get(KEY, "compare") is None
    file.write_bytes(good)
    assert shelf.get(KEY, "compare") == kept


def test_an_answer_is_one_for_a_day(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Answers(tmp_path, 1 << 20)
    shelf.put(KEY, kept)
    now = time.time()
    for moved, there in ((answers.LONGEST - 60, True), (answers.LONGEST + 60, False), (-60, False)):
        monkeypatch.setattr(answers.time, "time", lambda moved=moved: now + moved)
        assert (shelf.get(KEY, "compare") is not None) == there


def test_the_folder_does_not_grow_beyond_its_limit(kept: Kept, tmp_path: Path) -> None:
    Answers(tmp_path, 1 << 20).put(KEY, kept)
    (file,) = tmp_path.rglob("*.json")
    shelf = Answers(tmp_path, 3 * file.stat().st_size)
    for number in range(8):
        shelf.put(key_of({"question": 10 + number}), kept)
    assert len(list(tmp_path.rglob("*.json"))) <= 3
    assert shelf.get(key_of({"question": 17}), "compare") == kept


def test_a_folder_that_cannot_be_written_keeps_nothing(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shelf = Answers(tmp_path / "file" / "below", 1 << 20)
    shelf.put(KEY, kept)
    assert shelf.get(KEY, "compare") is None


def test_a_file_is_plain_json(kept: Kept, tmp_path: Path) -> None:
    Answers(tmp_path, 1 << 20).put(KEY, kept)
    (file,) = tmp_path.rglob("*.json")
    head, body = file.read_bytes().split(b"\n")
    assert json.loads(head)["schema"] == "lineage-kept-answer/1"
    assert set(json.loads(body)) == {"rests", "result"}
