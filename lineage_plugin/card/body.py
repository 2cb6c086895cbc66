"""The text of a card below its front matter: the lines that a reader sees, and the blocks of code.

Cards quote other cards, show commands and carry remarks of the template they were made from. What stands in a block of
code, in an HTML comment, in a quotation or below a heading "Original model card" is not said of this model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import Final

from lineage_plugin.card.front_matter import MAX_SIZE, find_block
from lineage_plugin.card.located import LINE_BREAK

__all__ = ["MAX_TEXT", "Body", "CodeBlock", "Row", "read_body"]

MAX_TEXT: Final = 512 * 1024
"""Characters below the front matter that are looked at."""

_FENCE: Final = re.compile(r"[ \t]*(?:[-*+][ \t]+)?(?P<marks>`{3,}|~{3,})(?P<info>[^`]*)\Z")
_QUOTED: Final = re.compile(r" {0,3}>")
_COPIED: Final = re.compile(r" {0,3}#{1,6} [^\r\n]{0,80}?original model card", re.IGNORECASE)
_HIDES: Final = "<!--"
_SHOWS: Final = "-->"


@dataclass(frozen=True, slots=True)
class Row:
    """A line that is not blank.

    Attributes:
        number: Its number in the card, from 1.
        text: What is seen of it; comments are blanked, so that columns stay.
    """

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block of code.

    Attributes:
        language: The first word behind the opening fence, in lower case.
        start: Where its first line begins in ``Body.text``.
        end: Where its last line ends.
        line: Number of its first line in the card, from 1.
        above: The last line seen before it.
    """

    language: str
    start: int
    end: int
    line: int
    above: str


@dataclass(frozen=True, slots=True)
class Body:
    """What a card says below its front matter.

    Attributes:
        text: The card, so far as it is looked at, without a byte order mark.
        rows: The lines that are seen, blank ones left out.
        blocks: The blocks of code.
    """

    text: str
    rows: tuple[Row, ...]
    blocks: tuple[CodeBlock, ...]


def read_body(card: str) -> Body:
    """Read the text of a card; the time it takes grows with its length alone.

    Args:
        card: The whole card, front matter included; anything at all.

    Returns:
        What is seen of it.
    """
    text = card[: MAX_SIZE + MAX_TEXT].removeprefix("\ufeff")
    rows: list[Row] = []
    blocks: list[CodeBlock] = []
    fence = language = ""
    begins, first, above, hidden = 0, 0, "", False
    block = find_block(text)
    start = 0 if block is None else block.closed
    text = text[: start + MAX_TEXT]
    below = 1 + len(LINE_BREAK.findall(text, 0, start))
    ends = (found.span() for found in LINE_BREAK.finditer(text, start))
    for number, (end, after) in enumerate(chain(ends, [(len(text), len(text))]), below):
        row, begin, start = text[start:end], start, after
        if not row:
            continue
        if fence:
            if row.strip(" \t").strip(fence[0]) == "" and row.count(fence[0]) >= len(fence):
                blocks.append(CodeBlock(language, begins, begin, first, above))
                fence = ""
        elif (opened := _opened(row)) is not None and not hidden:
            fence = opened["marks"]
            language = (opened["info"].split() or [""])[0].lower()[:40]
            begins, first = after, number + 1
        else:
            row, hidden = _seen(row, hidden)
            if _COPIED.match(row):
                break
            if row.strip() and not _QUOTED.match(row):
                rows.append(Row(number, row))
                above = row
    return Body(text, tuple(rows), tuple(blocks))


def _opened(row: str) -> re.Match[str] | None:
    return _FENCE.match(row) if "```" in row or "~~~" in row else None


def _seen(row: str, hidden: bool) -> tuple[str, bool]:
    """Blank the comments of a line; say whether one is open at its end."""
    if not hidden and _HIDES not in row:
        return row, False
    parts: list[str] = []
    at = 0
    while at < len(row):
        mark = row.find(_SHOWS if hidden else _HIDES, at)
        if mark < 0:
            parts.append(" " * (len(row) - at) if hidden else row[at:])
            break
        until = mark + len(_SHOWS) if hidden else mark
        parts.append(" " * (until - at) if hidden else row[at:until])
        at, hidden = until, not hidden
    return "".join(parts), hidden
