"""Workflow commands and files: how a step talks to GitHub's runner.

Source: GitHub Docs, "Workflow commands for GitHub Actions". Annotations are those of
:mod:`lineage_plugin.report.annotations`; as there, every value is made one inert line before it is escaped.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lineage_plugin.report.annotations import escaped
from lineage_plugin.text import one_line

__all__ = ["group", "inert", "write_outputs"]


@contextmanager
def group(stream: TextIO, title: str) -> Iterator[None]:
    """Fold what is printed inside under a title."""
    stream.write(f"::group::{escaped(one_line(title, 200))}\n")
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
