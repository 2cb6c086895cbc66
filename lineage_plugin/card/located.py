"""Values of a card that remember where they were written."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Final, Literal

from lineage_plugin.findings import Level
from lineage_plugin.fixes import Fix

__all__ = ["Entry", "Kind", "Lines", "Located", "Problem", "json_position"]

Kind = Literal["string", "number", "boolean", "date", "null", "list", "mapping"]

LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Located:
    """A value and where it was written.

    Attributes:
        value: The text of a scalar as written (quotes and folding undone), None for null, a tuple of :class:`Located`
            for a list, a tuple of :class:`Entry` for a mapping.
        kind: What YAML takes the value for. A number, boolean or date is known by its kind; its value stays text.
        line: Line in the file, from 1. An alias stands where it is used; a folded or literal block stands on the first
            line of its text.
        column: Character in that line, from 1.
    """

    value: str | tuple[Located, ...] | tuple[Entry, ...] | None
    kind: Kind
    line: int
    column: int

    @property
    def text(self) -> str | None:
        """The text of a scalar; None for null, lists and mappings."""
        return self.value if isinstance(self.value, str) else None

    @property
    def items(self) -> tuple[Located, ...]:
        """The values of a list; empty for everything else."""
        return self.value if self.kind == "list" else ()  # type: ignore[return-value]  # the kind says which

    @property
    def each(self) -> tuple[Located, ...]:
        """The values of a list; of anything else the value itself, which stands for a list of one."""
        return self.items if self.kind == "list" else (self,)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of a mapping; empty for everything else."""
        return self.value if self.kind == "mapping" else ()  # type: ignore[return-value]  # the kind says which

    @property
    def is_blank(self) -> bool:
        """Whether it states nothing at all: null, text without a visible character, or a list of such."""
        if self.kind == "list":
            return all(item.is_blank for item in self.items)
        return self.kind == "null" or (self.kind == "string" and not (self.text or "").strip())


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping with its value."""

    key: Located
    value: Located


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the metadata of a card; reported as LIN207.

    Attributes:
        message: One sentence without a full stop.
        line: Line in the file, from 1, or None.
        column: Character in that line, from 1, or None.
        level: ``error`` when something was not used because of it, else ``warning`` or ``note``.
        help: What to do about it.
        file: The file it is in; empty for the card itself.
        fix: What would repair it, or None.
    """

    message: str
    line: int | None = None
    column: int | None = None
    level: Level = "error"
    help: str = ""
    file: str = ""
    fix: Fix | None = None


class Lines:
    """Positions in a text as line and column.

    The parser's own line numbers are not used: YAML 1.1 also breaks lines at U+0085, U+2028 and U+2029, editors and CI
    annotations do not.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(found.end() for found in LINE_BREAK.finditer(text))]

    def at(self, index: int) -> tuple[int, int]:
        """Return line and column, both from 1, of a character."""
        line = bisect_right(self._starts, min(index, len(self.text)))
        return line, index - self._starts[line - 1] + 1

    def around(self, index: int) -> tuple[int, int, int]:
        """Return where the line of a character begins, where it ends before its break, and where behind it."""
        line = bisect_right(self._starts, index)
        start = self._starts[line - 1]
        if line == len(self._starts):
            return start, len(self.text), len(self.text)
        behind = self._starts[line]
        return start, behind - (2 if self.text.endswith("\r\n", start, behind) else 1), behind


def json_position(text: str, key: str, value: str = "") -> tuple[int | None, int | None]:
    """Return line and column of a value in JSON.

    Args:
        text: The JSON.
        key: Its key as it is written there, quotes included. Of several the last one counts, as it does to parsers.
        value: What the value begins with as it is written there; parts of the document may have the key, too.

    Returns:
        Line and column, both from 1; None and None when there is no such value.
    """
    pattern = rf"{re.escape(key)}[ \t\r\n]{{0,40}}:[ \t\r\n]{{0,40}}(?={re.escape(value)})"
    last = deque(re.finditer(pattern, text), maxlen=1)
    return Lines(text).at(last[0].end()) if last else (None, None)
