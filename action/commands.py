"""Workflow commands and files: how a step talks to GitHub's runner.

Source: GitHub Docs, "Workflow commands for GitHub Actions". What ends up in a command was chosen by strangers in part,
so every value is made one inert line by :func:`~lineage_plugin.text.one_line` before it is escaped.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TextIO

from lineage_plugin.text import one_line

__all__ = ["annotation", "group", "inert", "write_outputs"]

Kind = Literal["error", "warning", "notice"]


def annotation(
    kind: Kind, lines: Iterable[str], *, title: str, file: str | None = None, line: int | None = None
) -> str:
    """Return the command that annotates a line of a file, or the run.

    Args:
        kind: How it is shown.
        lines: The text, line by line; each is made inert.
        title: Its title.
        file: Path from the top of the repository, or None.
        line: Line in the file, from 1, or None.

    Returns:
        One line, without its end.
    """
    place = (
        {} if file is None else {"file": file, **({} if line is None else {"line": str(line), "endLine": str(line)})}
    )
    properties = {**place, "title": one_line(title, 200)}
    said = "%0A".join(_data(one_line(text, 2000)) for text in lines)
    return f"::{kind} {','.join(f'{name}={_property(value)}' for name, value in properties.items())}::{said}"


@contextmanager
def group(stream: TextIO, title: str) -> Iterator[None]:
    """Fold what is printed inside under a title."""
    stream.write(f"::group::{_data(one_line(title, 200))}\n")
    try:
        yield
    finally:
        stream.write("::endgroup::\n")


@contextmanager
def inert(stream: TextIO) -> Iterator[None]:
    """Keep the runner from taking anything that is printed inside for a command."""
    word = secrets.token_hex(16)
    stream.write(f"::stop-commands::{word}\n")
    try:
        yield
    finally:
        stream.write(f"::{word}::\n")


def write_outputs(path: Path | None, values: dict[str, str]) -> None:
    """Set outputs of the step; without a file nothing is set."""
    if path is None:
        return
    with path.open("a", encoding="utf-8", errors="replace", newline="\n") as file:
        for name, value in values.items():
            # A delimiter that no value can know: what follows a forged one would be another output.
            end = f"end_{secrets.token_hex(16)}"
            file.write(f"{name}<<{end}\n{value}\n{end}\n")


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
