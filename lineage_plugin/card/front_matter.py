"""The front matter of a model card, with the line of every value.

A model card is a README.md that begins with YAML between two ``---`` lines::

    ---
    base_model: owner/name
    ---
    # The card itself

Findings have to point at a line, so the YAML is not loaded into plain Python values but read into
:class:`~lineage_plugin.card.located.Located` ones. Whatever the bytes are, the answer is a :class:`FrontMatter` whose
``problems`` say what is wrong; nothing is raised.

Where several readings are possible, this one follows ``huggingface_hub``: YAML 1.1 scalars, the last of two equal keys,
an opening fence that only white space may precede.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from lineage_plugin.card.located import Entry, Lines, Located, Problem
from lineage_plugin.card.yaml_values import MAX_PROBLEMS, Refused, read_yaml
from lineage_plugin.fixes import Fix, TrimFence

__all__ = ["MAX_SIZE", "Block", "FrontMatter", "find_block", "read_front_matter"]

MAX_SIZE: Final = 512 * 1024
"""Largest front matter read, in characters. Embedding models with thousands of benchmark results fill 300 KB."""

_OPENING: Final = re.compile(r"\s*---(?P<blank>[ \t]*)(?:\r\n|\r|\n|\Z)")
_CLOSING: Final = re.compile(r"(?:\r\n|\r|\n)---[ \t]*(?=[\r\n]|\Z)")
_LFS_POINTER: Final = "version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What stands between the fences of a card.

    Attributes:
        entries: Top-level keys in the order of the file.
        line: Line of the opening fence, or None when the card has no front matter.
        problems: What is wrong with it.
        readable: False when front matter is there, or was meant to be, but could not be read; ``entries`` is then
            empty.
    """

    entries: tuple[Entry, ...] = ()
    line: int | None = None
    problems: tuple[Problem, ...] = field(default=())
    readable: bool = True

    def entry(self, key: str) -> Entry | None:
        """Return the entry of a top-level key, the last one if it is repeated, or None."""
        return next((entry for entry in reversed(self.entries) if entry.key.value == key), None)

    def text(self, key: str) -> str | None:
        """Return the text of a top-level key without blanks around it; None when there is none."""
        value = self.get(key)
        return None if value is None else (value.text or "").strip() or None

    def get(self, key: str) -> Located | None:
        """Return the value of a top-level key, or None when there is no such key."""
        entry = self.entry(key)
        return None if entry is None else entry.value


@dataclass(frozen=True, slots=True)
class Block:
    """Where the front matter stands in a text.

    Attributes:
        fence: Where the dashes of its opening line begin.
        blank: Where the dashes end, and the blanks behind them.
        start: Where the YAML begins.
        end: Where it ends: at the line break before the closing line.
        closed: Where the closing line ends.
    """

    fence: int
    blank: tuple[int, int]
    start: int
    end: int
    closed: int


def find_block(text: str) -> Block | None:
    """Return where the front matter of a card stands.

    Args:
        text: The text of the card, without a byte order mark.

    Returns:
        Its place, or None when there is no opening line, or no closing one.
    """
    opening = _OPENING.match(text)
    if opening is None:
        return None
    # The line break of the opening fence may be that of the closing one: an empty block.
    closing = _CLOSING.search(text, opening.end("blank"))
    if closing is None:
        return None
    start = min(opening.end(), closing.start())
    # A mark here is no text to libyaml, which counts its positions from behind it.
    start += text.startswith("\ufeff", start)
    return Block(opening.start("blank") - 3, opening.span("blank"), start, closing.start(), closing.end())


def read_front_matter(card: str | bytes) -> FrontMatter:
    """Read the front matter of a model card.

    Args:
        card: The text of the card, or its bytes (UTF-8, with or without a byte order mark). Only the first
            ``MAX_SIZE`` are looked at.

    Returns:
        The values with their positions, and the problems found. Bad content never raises.
    """
    if isinstance(card, bytes) and card[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _unreadable(Problem("the card is UTF-16 text", 1, 1, help="Save the file as UTF-8."))
    whole = len(card) <= MAX_SIZE
    window = card[:MAX_SIZE]
    # Bad bytes survive as lone surrogates and are reported where they stand, if that is inside the fences.
    text = window.decode("utf-8", "surrogateescape") if isinstance(window, bytes) else window
    text = text.removeprefix("\ufeff")

    opening = _OPENING.match(text)
    if opening is None:
        return _without_fence(text)
    block = find_block(text)
    if block is None or (block.closed == len(text) and not whole):
        fence_line, fence_column = Lines(text[: opening.end()]).at(opening.start("blank") - 3)
        message = "the front matter is not closed" if whole else f"the front matter exceeds {MAX_SIZE // 1024} KiB"
        help_ = "End the block with a line of three dashes." if whole else "Move the bulk of it into the card's text."
        return _unreadable(Problem(message, fence_line, fence_column, help=help_), fence_line)

    lines = Lines(text[: block.closed])
    fence_line, fence_column = lines.at(block.fence)
    collected: list[Problem] = []
    if opening["blank"]:
        collected.append(
            Problem(
                "the opening line of the front matter has blanks after its dashes",
                fence_line,
                fence_column,
                "warning",
                "Remove them: huggingface_hub does not recognise the block otherwise.",
                fix=Fix("Remove the blanks behind the dashes that open the front matter", (TrimFence(),)),
            )
        )
    try:
        entries = read_yaml(text[block.start : block.end], block.start, lines, collected)
    except Refused as refused:
        return FrontMatter((), fence_line, (*_capped(collected), refused.problem), readable=False)
    return FrontMatter(entries, fence_line, _capped(collected))


def _without_fence(text: str) -> FrontMatter:
    """Answer for text that does not begin with a fence: no front matter, unless it cannot be a card at all."""
    if "\0" in text[:4096]:
        return _unreadable(Problem("the card is not UTF-8 text", 1, 1, help="Save the file as UTF-8."))
    if text.startswith(_LFS_POINTER):
        return _unreadable(
            Problem("the card is a Git LFS pointer, not its content", 1, 1, help="Fetch it with: git lfs pull.")
        )
    return FrontMatter()


def _unreadable(problem: Problem, line: int | None = None) -> FrontMatter:
    return FrontMatter((), line, (problem,), readable=False)


def _capped(problems: list[Problem]) -> tuple[Problem, ...]:
    if len(problems) <= MAX_PROBLEMS:
        return tuple(problems)
    next_one = problems[MAX_PROBLEMS]
    return (*problems[:MAX_PROBLEMS], Problem("further problems are not listed", next_one.line, next_one.column))
