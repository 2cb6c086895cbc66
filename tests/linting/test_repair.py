"""Repairs: one after the other, until nothing is left, shown safely and written whole or not at all."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage_plugin.card import read_card
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import Finding, finding
from lineage_plugin.fixes import Change, Fix, RemoveItem, RenameKey, SetItem, SetKey, TrimFence
from lineage_plugin.linting.repair import MAX_PASSES, Repaired, colored, fixed, repair, unified_diff, write_back
from tests.card.corpus import CASES, Case

CARD = b"---\nbase_model: [a/b, c/d, e/f] # bases\nlicense: mit\n---\n# T\n"


def found(*changes: Change, title: str = "Do it") -> Finding:
    return finding("LIN207", "something is wrong", fix=Fix(title, changes) if changes else None)


def lint(card: bytes) -> Sequence[Finding]:
    return read_card(card)[1]


def test_repairs_are_made_one_after_the_other() -> None:
    first, second = found(SetKey("license", "apache-2.0")), found(SetItem("base_model", 1, "n/m"))
    done = repair(CARD, [found(), first, second])
    assert done.card == CARD.replace(b"mit", b"apache-2.0").replace(b"c/d", b"n/m")
    assert (done.applied, done.refused) == ((first, second), ())
    assert repair(CARD, [found()]) == Repaired(CARD)


def test_items_are_counted_as_they_were_when_the_findings_were_made() -> None:
    repairs = [
        found(RemoveItem("base_model", 0)),
        found(SetItem("base_model", 2, "x/y")),
        found(RemoveItem("base_model", 1)),
    ]
    done = repair(CARD, repairs)
    assert done.card == CARD.replace(b"a/b, c/d, e/f", b"x/y")
    assert len(done.applied) == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SetKey("license", "other"), SetKey("license", "apache-2.0")),
        (RemoveItem("base_model", 1), SetItem("base_model", 1, "x/y")),
        (RemoveItem("base_model", 1), SetKey("base_model", "x/y")),
        (RenameKey("license", "licence"), SetKey("license", "other")),
        (RenameKey("license", "licence"), SetKey("licence", "other")),
    ],
)
def test_what_collides_is_left_for_the_next_pass(first: Change, second: Change) -> None:
    alone = repair(CARD, [found(first)])
    assert repair(CARD, [found(first), found(second)]) == alone
    assert len(alone.applied) == 1


def test_the_same_repair_is_made_once_and_counts_twice() -> None:
    twice = [found(RemoveItem("base_model", 1), title="One"), found(RemoveItem("base_model", 1), title="Other")]
    done = repair(CARD, twice)
    assert done.card == CARD.replace(b"c/d, ", b"")
    assert done.applied == tuple(twice)
    fence = [found(TrimFence()), found(TrimFence())]
    assert repair(b"--- \nx: y\n---\n", fence) == Repaired(b"---\nx: y\n---\n", tuple(fence))


def test_what_is_ignored_is_not_repaired() -> None:
    ignored = replace(found(SetKey("license", "other")), ignored="we know", level="note")
    assert repair(CARD, [ignored]) == Repaired(CARD)


def test_what_cannot_be_repaired_is_said() -> None:
    bad, good = found(SetKey("license", "x"), SetItem("none", 0, "y")), found(SetKey("license", "other"))
    done = repair(CARD, [bad, good])
    assert done.card == CARD.replace(b"mit", b"other")
    assert done.refused == ((bad, "there is no none in the front matter"),)
    assert done.applied == (good,)


def test_lint_and_repair_until_nothing_is_left() -> None:
    address = "https://huggingface.co/a/b"
    card = f"--- \r\nbase_model:\r\n- {address}\r\n- a/b\r\n-\r\n- {address}\r\n- c/d\r\n---".encode()
    done = fixed(lint, card)
    assert done.card == b"---\r\nbase_model:\r\n- a/b\r\n- c/d\r\n---"
    assert [f.code for f in done.applied] == ["LIN207"] * len(done.applied)
    assert done.refused == ()
    assert fixed(lint, done.card) == Repaired(done.card)


SMALL = [case for case in CASES if case.content is not None and len(case.content) < 50_000]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_corpus_is_repaired_in_one_go(case: Case) -> None:
    assert case.content is not None
    card = case.content.encode("utf-8", "surrogatepass") if isinstance(case.content, str) else case.content
    done = fixed(lint, card)
    again = fixed(lint, done.card)
    assert (again.card, again.applied) == (done.card, ())
    assert not any(f.fix for f in lint(done.card) if f not in [refused for refused, _ in again.refused])
    grave = [sum(f.code == "LIN207" and f.level != "note" for f in lint(text)) for text in (card, done.card)]
    assert grave[1] <= grave[0]


def test_a_repair_that_does_not_last_is_a_defect() -> None:
    def swaps(card: bytes) -> list[Finding]:
        return [found(SetKey("license", "b" if b"license: a" in card else "a"))]

    done = fixed(swaps, CARD)
    assert done.card == CARD.replace(b"mit", b"b")
    assert len(done.applied) == 2
    assert [reason for _, reason in done.refused] == [
        "the repair does not last, which is a defect of lineage: please report it"
    ]

    def grows(card: bytes) -> list[Finding]:
        return [found(SetKey("license", "x" * (card.count(b"x") + 1)))]

    endless = fixed(grows, CARD)
    assert len(endless.applied) == MAX_PASSES
    assert "defect" in endless.refused[0][1]

    # One that changes nothing would come back for ever.
    same = found(SetKey("license", "mit"))
    ((refused, why),) = fixed(lambda card: [same], CARD).refused
    assert refused == same
    assert "defect" in why


# Diffs.


def test_a_diff_is_that_of_difflib() -> None:
    new = CARD.replace(b"mit", b"other") + b"more\n" * 3
    expected = difflib.unified_diff(
        CARD.decode().splitlines(True), new.decode().splitlines(True), "docs/README.md", "docs/README.md"
    )
    assert unified_diff(CARD, new, "docs/README.md") == "".join(expected)
    assert unified_diff(CARD, CARD, "README.md") == ""


rows = st.lists(st.sampled_from("abcdefgh"), max_size=30).map(lambda rows: "".join(f"{row}\n" for row in rows))


@settings(max_examples=100, deadline=None)
@given(rows, rows)
@example("a\n" * 9, "a\n" * 10)
@example("", "a\n")
@example("a\nb\n", "")
def test_diffs_apply(old: str, new: str) -> None:
    """What the diff says, done to the old text, gives the new one."""
    said = unified_diff(old.encode(), new.encode(), "x").split("\n")[2:-1]
    before, result, at = old.split("\n")[:-1], [], 0
    for line in said:
        header = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", line)
        if header is not None:
            start = int(header[1]) - (header[2] != "0")
            result += before[at:start]
            at = start
            assert len(result) == int(header[3]) - (header[4] != "0")
        elif line[0] == "+":
            result.append(line[1:])
        else:
            assert before[at] == line[1:]
            result += [line[1:]] if line[0] == " " else []
            at += 1
    assert result + before[at:] == new.split("\n")[:-1]


def test_a_missing_last_line_break_is_said() -> None:
    old, new = b"---\nx: y\n---", b"---\nx: z\n---"
    assert unified_diff(old, new, "c").endswith(" ---\n\\ No newline at end of file\n")
    assert unified_diff(b"a", b"b", "c").splitlines()[3:] == [
        *("-a", "\\ No newline at end of file", "+b", "\\ No newline at end of file")
    ]


def test_line_ends_are_shown_where_they_differ() -> None:
    assert unified_diff(b"a\r\nb\r\n", b"a\r\nc\r\n", "x").splitlines()[3:] == [" a", "-b", "+c"]
    assert unified_diff(b"a\rb\r", b"a\rc\r", "x").splitlines()[3:] == [" a", "-b", "+c"]
    assert unified_diff(b"a\r\nb\rc\n", b"a\r\nd\rc\n", "x").splitlines()[3:] == [" a\\r\\n", "-b\\r", "+d\\r", " c"]


def test_nothing_in_a_diff_is_obeyed() -> None:
    rows = ["::error::x", " \t::warning::y", "##[error]z", "\x1b[2J\u202e\u200b\x85\u2028"]
    old = "\n".join([*rows[:2], "", *rows[2:], ""]).encode() + b"\xff"
    said = unified_diff(old, old.replace(b"\n\n", b"\n::add-mask::e\n"), "a\n::error::b\x1b[31m")
    assert said.splitlines()[:2] == ["--- a : :error: :b", "+++ a : :error: :b"]
    before, after = (
        [" :\\x3aerror::x", "  \t:\\x3awarning::y"],
        [" ##\\x5berror]z", " \\x1b[2J\\u202e\\u200b\\x85\\u2028"],
    )
    assert said.splitlines()[3:-2] == [*before, "-", "+:\\x3aadd-mask::e", *after]
    assert said.splitlines()[-2:] == [" \\xff", "\\ No newline at end of file"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60), st.text(max_size=20))
def test_diffs_of_anything_can_be_printed(old: bytes, new: bytes, name: str) -> None:
    said = unified_diff(old, new, name)
    said.encode()
    assert bool(said) == (old != new)
    for line in said.split("\n"):
        assert line.replace("\t", "").isprintable()
        assert not line.lstrip().startswith("::")
    assert re.sub(r"\x1b\[[0-9]*m", "", colored(said)) == said


def test_diffs_of_long_cards_are_cheap() -> None:
    body = b"".join(b"%d\n" % number for number in range(60_000))
    said = unified_diff(b"---\nx: y\n---\n" + body, b"---\nx: z\n---\n" + body, "x")
    assert said.splitlines()[2] == "@@ -1,5 +1,5 @@"


def test_colours() -> None:
    said = colored(unified_diff(b"a\nb\n", b"a\nc\n", "x")).splitlines()
    assert [re.findall(r"\x1b\[(\d+)m", line) for line in said] == [
        ["1", "0"],
        ["1", "0"],
        ["36", "0"],
        [],
        ["31", "0"],
        ["32", "0"],
    ]


# Writing back.


def test_a_card_is_written_back_with_its_permissions(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"old")
    card.chmod(0o640)
    write_back(card, b"old", b"new")
    assert card.read_bytes() == b"new"
    assert stat.S_IMODE(card.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def refusal(path: Path, old: bytes = b"old") -> str:
    with pytest.raises(UsageError) as refused:
        write_back(path, old, b"new")
    assert str(refused.value).isprintable()
    return str(refused.value)


def test_a_card_that_changed_meanwhile_is_not_written(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"edited")
    assert "changed" in refusal(card)
    assert card.read_bytes() == b"edited"
    card.unlink()
    assert "No such file" in refusal(card)
    assert not card.exists()
    card.mkdir()
    assert "not a regular file" in refusal(card)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README.md")
    assert "not a regular file" in refusal(tmp_path / "README.md")


def test_links_are_followed_inside_of_the_folder_only(tmp_path: Path) -> None:
    home = tmp_path / "model"
    home.mkdir()
    outside = tmp_path / "outside.md"
    outside.write_bytes(b"old")
    card = home / "README.md"
    card.symlink_to(outside)
    assert "link" in refusal(card)
    assert outside.read_bytes() == b"old"
    card.unlink()
    (home / "CARD.md").write_bytes(b"old")
    card.symlink_to("CARD.md")
    write_back(card, b"old", b"new")
    assert card.is_symlink()
    assert (home / "CARD.md").read_bytes() == b"new"
    card.unlink()
    card.symlink_to("README.md")
    refusal(card)


def test_a_file_of_the_cache_of_the_hub_is_not_written(tmp_path: Path) -> None:
    snapshot, blob = tmp_path / "snapshots" / "0f", tmp_path / "blobs" / "abc"
    snapshot.mkdir(parents=True)
    blob.parent.mkdir()
    blob.write_bytes(b"old")
    (snapshot / "README.md").symlink_to("../../blobs/abc")
    assert "link" in refusal(snapshot / "README.md")
    assert blob.read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
def test_a_failure_leaves_the_old_card_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"old")

    def fails(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, call) if call == "fsync" else (Path, call)), fails)
    assert "No space left" in refusal(card)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"README.md": b"old"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is permitted here")
def test_what_is_read_only_stays_as_it_is(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_bytes(b"old")
    card.chmod(0o444)
    assert "not permitted" in refusal(card)
    assert card.read_bytes() == b"old"
