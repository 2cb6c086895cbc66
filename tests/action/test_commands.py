"""Workflow commands and files: what a stranger writes is no command and no output."""

from __future__ import annotations

import io
from pathlib import Path

from action.commands import group, inert, write_outputs


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
