r"""The lineage section of a model card: put in, replaced or removed, and nothing else touched.

The section stands between two HTML comments, each a line of its own from its first column on::

    <!-- lineage:begin - written by "lineage upload --write-card", what is edited in here is lost -->
    ...
    <!-- lineage:end -->

    >>> card = b"# Model\r\n"
    >>> with_section(with_section(card, "## Lineage"), None) == card
    True

Cards are bytes here: a byte order mark, line ends of several kinds, bytes that are not UTF-8 and a missing last line
break stay as they are. What stands in the front matter or in a block of code is the author's text, whatever it looks
like. Which lines are code is found by the rules of CommonMark 0.31 for fences, as far as they concern lines that begin
in the first column: indented code, quotations and the fences of list items hold no such line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import Final

from lineage_plugin.card.front_matter import FrontMatter, read_front_matter
from lineage_plugin.card.located import LINE_BREAK
from lineage_plugin.errors import UsageError

__all__ = ["with_section"]

_BEGIN: Final = '<!-- lineage:begin - written by "lineage upload --write-card", what is edited in here is lost -->'
_END: Final = "<!-- lineage:end -->"
_ROW: Final = re.compile(r"[^\r\n]+")
_BREAKS: Final = ("\n", "\r\n", "\r")

_MARK: Final = re.compile(r"<!--[ \t]*lineage:(begin|end)(?![\w-])(?P<whole>(?:(?!-->).)*-->[ \t]*\Z)?")
_DASHES: Final = re.compile(r"---[ \t]*")
_ITEM: Final = re.compile(r"( {0,3})(?:[-+*]|[0-9]{1,9}[.)])(?= |\Z)")
_STARTS: Final = re.compile(r" {0,3}(?:#{1,6}(?: |\Z)|>|```|~~~|<)")
_FENCE: Final = re.compile(r"(?P<place> *(?P<items>(?:(?:[-+*]|[0-9]{1,9}[.)]) +)*))(?P<fence>`{3,}|~{3,})")
_HTML: Final = tuple(
    (re.compile(rf" {{0,3}}{start}", re.IGNORECASE), re.compile(end, re.IGNORECASE))
    for start, end in (
        (r"<!--", r"-->"),
        (r"<(?:script|pre|style|textarea)(?:[ \t>]|\Z)", r"</(?:script|pre|style|textarea)>"),
        (r"<\?", r"\?>"),
        (r"<!\[CDATA\[", r"\]\]>"),
        (r"<![a-z]", r">"),
    )
)
"""Blocks of HTML that blank lines do not end (kinds 1 to 5 of CommonMark): a fence in them is none."""


def with_section(card: bytes, section: str | None) -> bytes:
    """Return a card with this section in it, or without any.

    A section that is there is replaced where it stands, up to the line break behind its last line. Otherwise the
    section follows the card after a blank line, and ends without a line break when the card did. Its line breaks are
    those that the rest of the card has most of. Doing it twice is doing it once.

    Removing takes the two marks, what is between them, the line break behind, and the blank line before. What was
    there before comes back byte for byte when the section was put at the end by this function and the card was not
    changed around it since; replacing the section any number of times does not matter.

    Args:
        card: The bytes of the card; empty for none.
        section: The Markdown of the section; None to remove the one that is there, if any.

    Returns:
        The bytes of the new card. All bytes outside the section are those of the old one.

    Raises:
        UsageError: When the marks of a section are damaged, or there are several; when nothing may be added, since the
            file is UTF-16 text or a Git LFS pointer, or ends inside a block of code.
        ValueError: When the section itself holds a mark, a line of three dashes or an open block of code.
    """
    front = read_front_matter(card)
    if section is not None:
        _refuse_other_files(card, front)
    # Bad bytes survive as lone surrogates.
    text = card.decode("utf-8", "surrogateescape")
    seen = _scan(text, _front_matter_end(front, text))
    found = _section(text, seen.marks)
    if section is None:
        return card if found is None else _encoded(_without(text, *found))
    if found is not None:
        written = _written(section, _dominant(_without(text, *found)))
        return _encoded(text[: found[0]] + written + text[found[1] :])
    if seen.unclosed is not None:
        where = f"the model card, line {_number(text, seen.unclosed)}"
        raise UsageError(
            f"{where}: the block of code that begins here is not closed, so that a section behind it would be shown as "
            "code. Close it with a line of the same marks."
        )
    line_break = _dominant(text)
    written = _written(section, line_break)
    if not text:
        return _encoded(written + line_break)
    if not text.endswith(("\r", "\n")):
        return _encoded(text + 2 * line_break + written)
    # A line feed would become part of the break before it.
    blank = "\r" if text.endswith("\r") and line_break == "\n" else line_break
    return _encoded(text + blank + written + line_break)


@dataclass(frozen=True, slots=True)
class _Mark:
    """A line that begins or ends a section, and the characters from its first to its break."""

    begins: bool
    whole: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Fence:
    """An open block of code.

    Attributes:
        marks: What it was opened with.
        column: Where the list item that it is in has its text; 0 outside of lists.
        start: Where the line begins that opened it.
    """

    marks: str
    column: int
    start: int

    def holds(self, line: str) -> bool:
        """Return whether a line with text is still inside: what is indented less than a list item ends it."""
        return _indentation(line) >= self.column

    def ends_with(self, line: str) -> bool:
        """Return whether a line closes the block."""
        shown = line.strip(" ")
        return (
            not shown.strip(self.marks[0]) and len(shown) >= len(self.marks) and _indentation(line) <= self.column + 3
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a card holds: its marks outside of code, and where the block of code begins that it ends in."""

    marks: tuple[_Mark, ...]
    unclosed: int | None


def _refuse_other_files(card: bytes, front: FrontMatter) -> None:
    """Refuse what is no card, and would be damaged by text behind it."""
    utf_16 = card[:2] in (b"\xff\xfe", b"\xfe\xff")
    # A card with a stray NUL is one.
    if not front.readable and front.line is None and (utf_16 or b"\0" not in card[:4096]):
        problem = front.problems[0]
        raise UsageError(f"no lineage section can be added: {problem.message}. {problem.help}")


def _front_matter_end(front: FrontMatter, text: str) -> int:
    """Return where the line ends that closes the front matter; 0 when there is none, or when it is not closed."""
    if front.line is None:
        return 0
    start = 0
    ends = (found.span() for found in LINE_BREAK.finditer(text))
    for number, (end, after) in enumerate(chain(ends, [(len(text), len(text))]), 1):
        if number > front.line and _DASHES.fullmatch(text, start, end):
            return end
        start = after
    return 0


def _scan(text: str, start: int) -> _Seen:
    """Go through the lines from a character on."""
    marks: list[_Mark] = []
    fence: _Fence | None = None
    html: re.Pattern[str] | None = None  # what ends the block of HTML
    item: int | None = None  # where the text of the outermost list item stands
    last = start  # where the last line ended that was not blank
    for found in _ROW.finditer(text, start + text.startswith("\ufeff", start)):
        line = found[0].expandtabs(4)
        if not line.strip(" "):
            continue
        blank, last = text[last : found.start()] not in ("", *_BREAKS), found.end()
        if fence is not None and fence.holds(line):
            fence = None if fence.ends_with(line) else fence
            continue
        ends = blank or fence is not None or _STARTS.match(line) is not None
        fence = None
        mark = _MARK.match(found[0])
        if mark is not None:
            marks.append(_Mark(mark[1] == "begin", mark["whole"] is not None, *found.span()))
            html = item = None
        elif html is not None:
            html = None if html.search(line) else html
        else:
            item = _item(line, item, ends)
            fence = _opened(line, item, found.start())
            html = None if fence is not None else _html(line)
    return _Seen(tuple(marks), fence.start if fence is not None and not fence.column else None)


def _number(text: str, start: int) -> int:
    """Return the number, from 1, of the line that a character is in."""
    return 1 + sum(_breaks(text[:start]).values())


def _breaks(text: str) -> dict[str, int]:
    """Return how many line breaks there are of each kind."""
    both = text.count("\r\n")
    return {"\n": text.count("\n") - both, "\r\n": both, "\r": text.count("\r") - both}


def _indentation(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _item(line: str, item: int | None, ends: bool) -> int | None:
    """Return where the text of the outermost list item stands that a line is in; None outside of lists.

    Behind a paragraph a line may belong to it however little it is indented, unless the paragraph ``ends`` before it.
    """
    found = _ITEM.match(line)
    if found is not None and (item is None or len(found[1]) < item):
        return found.end() + 1
    return None if item is not None and ends and _indentation(line) < item else item


def _opened(line: str, item: int | None, start: int) -> _Fence | None:
    """Return the block of code that a line opens."""
    found = _FENCE.match(line) if "```" in line or "~~~" in line else None
    indentation = _indentation(line)
    if found is None or (indentation > 3 and (item is None or indentation < item)):
        return None
    if found["fence"][0] == "`" and "`" in line[found.end() :]:
        return None  # code inside a line
    if found["items"]:
        return _Fence(found["fence"], len(found["place"]), start)
    return _Fence(found["fence"], item if item is not None and indentation >= item else 0, start)


def _html(line: str) -> re.Pattern[str] | None:
    """Return what ends the block of HTML that a line opens and does not close."""
    ends = next((end for start, end in _HTML if start.match(line)), None) if "<" in line else None
    return None if ends is None or ends.search(line) else ends


def _section(text: str, marks: tuple[_Mark, ...]) -> tuple[int, int] | None:
    """Return where the section begins and ends, marks included; None when there is none."""
    for before, mark, after in zip((None, *marks), marks, (*marks[1:], None), strict=False):
        if not mark.whole:
            raise _damaged(text, mark, "is not a comment on a line of its own", "Restore the line, or remove it.")
        if mark.begins and (after is None or after.begins):
            until = "" if after is None else f" before line {_number(text, after.start)}"
            help_ = f"Put {_END} on a line of its own where the section ends, outside of code, or remove this mark."
            raise _damaged(text, mark, f"has no lineage:end{until}", help_)
        if not mark.begins and (before is None or not before.begins):
            help_ = "Remove this mark, and what is left of its section."
            raise _damaged(text, mark, "has no lineage:begin", help_)
    if len(marks) > 2:
        first = _number(text, marks[0].start)
        raise _damaged(text, marks[2], f"begins a second section; the first is in line {first}", "Remove one of them.")
    return (marks[0].start, marks[1].end) if marks else None


def _damaged(text: str, mark: _Mark, problem: str, remedy: str) -> UsageError:
    name = "lineage:begin" if mark.begins else "lineage:end"
    return UsageError(f"the model card, line {_number(text, mark.start)}: the mark {name} {problem}. {remedy}")


def _without(text: str, start: int, end: int) -> str:
    """Return the card without its section."""
    before, after = text[:start], text[end:]
    # Of a card that did not end its last line, neither did the section.
    before = re.sub(r"(?:\r\n|\r|\n){1,2}\Z" if not after else r"(?:\r\n|\r|\n)\Z", "", before)
    return before + LINE_BREAK.sub("", after, count=1)


def _dominant(text: str) -> str:
    """Return the line break that is used most."""
    found = _breaks(text)
    return max(_BREAKS, key=lambda kind: found[kind])


def _written(section: str, line_break: str) -> str:
    rows = LINE_BREAK.split(section.strip("\r\n"))
    written = "\n".join((_BEGIN, "", *rows, "", _END))
    seen = _scan(written, 0)
    if [mark.begins for mark in seen.marks] != [True, False] or any(_DASHES.fullmatch(row) for row in rows):
        raise ValueError("the section holds a mark, a line of three dashes or an open block of code")
    return line_break.join((_BEGIN, "", *rows, "", _END))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
