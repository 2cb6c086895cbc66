"""Workflow commands: what a stranger writes stays inside the text of an annotation."""

from __future__ import annotations

import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from action.commands import annotation, group, inert, write_outputs


def test_an_annotation_is_one_line_with_everything_escaped() -> None:
    said = annotation("error", ["100% wrong: a, b", "second"], title="LIN101: x, y", file="a,b:c%d/README.md", line=3)
    assert said == (
        "::error file=a%2Cb%3Ac%25d/README.md,line=3,endLine=3,title=LIN101%3A x%2C y::100%25 wrong: a, b%0Asecond"
    )


def test_without_a_file_there_is_no_line() -> None:
    assert annotation("notice", ["m"], title="t", line=3) == "::notice title=t::m"


@given(st.text(), st.text(), st.text())
def test_nothing_breaks_out(text: str, title: str, file: str) -> None:
    said = annotation("warning", [text, text], title=title, file=file, line=1)
    assert "\n" not in said and "\r" not in said
    properties, _, data = said.removeprefix("::warning ").partition("::")
    assert "::" not in data
    assert [item.split("=")[0] for item in properties.split(",")] == ["file", "line", "endLine", "title"]


def test_what_is_printed_inert_is_fenced_by_a_word_that_differs_each_time() -> None:
    words = set()
    for _ in range(2):
        stream = io.StringIO()
        with group(stream, "a\n::error::b"), inert(stream):
            stream.write("::error::from a card\n")
        lines = stream.getvalue().splitlines()
        assert lines[0].startswith("::group::a : :error: :b")
        word = lines[1].removeprefix("::stop-commands::")
        assert lines[2:] == ["::error::from a card", f"::{word}::", "::endgroup::"]
        words.add(word)
    assert len(words) == 2 and all(len(word) == 32 for word in words)


def test_outputs_cannot_forge_others(tmp_path: Path) -> None:
    path = tmp_path / "output"
    write_outputs(path, {"verdict": "pass\nend_0\nverdict=fail", "relation": ""})
    lines = path.read_text().splitlines()
    end = lines[0].removeprefix("verdict<<")
    assert lines[1:5] == ["pass", "end_0", "verdict=fail", end]
    assert end not in ("end_0", lines[5].removeprefix("relation<<"))
    write_outputs(None, {"verdict": "pass"})
