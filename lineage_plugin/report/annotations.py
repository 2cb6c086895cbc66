"""Annotations: the workflow commands by which a step shows findings at the lines of a pull request.

Source: GitHub Docs, "Workflow commands for GitHub Actions". What ends up in a command was chosen by strangers in part,
so every value is made one inert line by :func:`~lineage_plugin.text.one_line` before it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from lineage_plugin.findings import CODES, Finding, Level
from lineage_plugin.report.places import place
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report

__all__ = ["KINDS", "MOST_OF_A_KIND", "Kind", "annotation", "escaped", "of_finding"]

Kind = Literal["error", "warning", "notice"]

KINDS: Final[dict[Level, Kind]] = {"error": "error", "warning": "warning", "note": "notice"}
"""How findings of each level are shown, the gravest first."""

MOST_OF_A_KIND: Final = 10
"""Annotations of a kind that GitHub shows of a step."""


def annotation(
    kind: Kind,
    lines: Iterable[str],
    *,
    title: str,
    file: str | None = None,
    line: int | None = None,
    column: int | None = None,
) -> str:
    """Return the command that annotates a line of a file, or the run.

    Args:
        kind: How it is shown.
        lines: The text, line by line; each is made inert.
        title: Its title.
        file: Path from the top of the repository, or None.
        line: Line in the file, from 1, or None.
        column: Character in the line, from 1, or None.

    Returns:
        One line, without its end.
    """
    properties = {} if file is None else {"file": file}
    if file is not None and line is not None:
        properties |= {"line": str(line), "endLine": str(line)} | ({} if column is None else {"col": str(column)})
    properties["title"] = one_line(title, 200)
    said = "%0A".join(escaped(one_line(text, 2000)) for text in lines)
    return f"::{kind} {','.join(f'{name}={_property(value)}' for name, value in properties.items())}::{said}"


def of_finding(found: Finding, report: Report) -> str:
    """Return the command that annotates the line that a finding is about, or the run where it is about none."""
    said = found.message if report.folder is not None else f"{report.suspect.id}: {found.message}"
    ignored = "" if found.ignored is None else f"Taken back by the card: {found.ignored}"
    file = place(report, found.file)
    if file is not None and Path(file).is_absolute():
        file = None  # it lies outside the repository
    return annotation(
        KINDS[found.level],
        [line for line in (said, ignored, found.help, *found.suggestion) if line],
        title=f"{found.code} {CODES[found.code].title}",
        file=file,
        line=found.line,
        column=found.column,
    )


def escaped(text: str) -> str:
    """Return a text as it stands in the data of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return escaped(text).replace(":", "%3A").replace(",", "%2C")
