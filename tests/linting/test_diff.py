"""Diffs: those of difflib, and nothing in them is obeyed."""

from __future__ import annotations

import difflib
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage_plugin.linting.diff import colored, unified_diff

CARD = b"---\nbase_model: [a/b, c/d, e/f] # bases\nlicense: mit\n---\n# T\n"


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


def test_diffs_of_long_cards_with_changes_far_apart_are_cheap() -> None:
    body = [b"%d\n" % number for number in range(60_000)]
    start = time.process_time()
    said = unified_diff(b"".join(body), b"".join([b"first\n", *body[1:-1], b"last\n"]), "x").splitlines()
    assert [row for row in said[2:] if row[0] in "+-"] == ["-0", "+first", "-59999", "+last"]
    alike = [b"%d\n" % (number % 7) for number in range(60_000)]
    assert "+last" in unified_diff(b"".join(alike), b"".join([b"first\n", *alike[1:-1], b"last\n"]), "x")
    assert time.process_time() - start < 2.0


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_diff_of_plain_lines_is_a_patch(tmp_path: Path) -> None:
    new = CARD.replace(b"mit", b"other").removesuffix(b"\n")
    (tmp_path / "README.md").write_bytes(CARD)
    patch = unified_diff(CARD, new, "README.md").encode()
    subprocess.run(["git", "apply", "-p0", "-"], cwd=tmp_path, input=patch, check=True)
    assert (tmp_path / "README.md").read_bytes() == new


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
