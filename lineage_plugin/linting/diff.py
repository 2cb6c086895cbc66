r"""What repairs would change in a card, shown so that no terminal and no CI runner obeys anything in it.

>>> print(unified_diff(b"---\nlicense: MIT\n---\n", b"---\nlicense: mit\n---\n", "README.md"), end="")
--- README.md
+++ README.md
@@ -1,3 +1,3 @@
 ---
-license: MIT
+license: mit
 ---
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Final

from lineage_plugin.card.located import LINE_BREAK
from lineage_plugin.text import one_line

__all__ = ["colored", "unified_diff"]

_CONTEXT: Final = 3
_COLORS: Final = {"---": "1", "+++": "1", "@@ ": "36", "-": "31", "+": "32"}
# A runner takes a line for a command that begins with two colons, whatever blanks stand before them.
_COMMAND: Final = re.compile(r"^(\s*:):|##\[")


def unified_diff(old: bytes, new: bytes, name: str) -> str:
    r"""Show what differs between two cards.

    Characters that a terminal or a CI runner would obey, or that nobody sees, are shown as escapes such as ``\x1b``;
    so are carriage returns where the two cards have line ends of several kinds. It is for readers: of a card with none
    of these whose lines end with a line feed alone it is a patch, too, but other line ends are not in it.

    Args:
        old: The old card.
        new: The new card.
        name: Its path.

    Returns:
        The lines of the diff, each ended; empty when nothing differs.
    """
    before, after = _rows(old), _rows(new)
    kinds = {_line_break(row) for row in (*before, *after)} - {""}
    # Cards are long and changes few: what is the same at both ends is not compared.
    head = _common(before, after, min(len(before), len(after)))
    tail = _common(before[::-1], after[::-1], min(len(before), len(after)) - head)
    first, last = max(head - _CONTEXT, 0), max(tail - _CONTEXT, 0)
    before, after = before[first : len(before) - last], after[first : len(after) - last]
    said: list[str] = []
    for group in SequenceMatcher(None, before, after).get_grouped_opcodes(_CONTEXT):
        (_, a, _, c, _), (_, _, b, _, d) = group[0], group[-1]
        said.append(f"@@ -{_range(first + a, b - a)} +{_range(first + c, d - c)} @@\n")
        for tag, i, j, k, m in group:
            pairs = [(" ", before[i:j])] if tag == "equal" else [("-", before[i:j]), ("+", after[k:m])]
            said += [line for sign, rows in pairs for row in rows for line in _shown(sign, row, len(kinds) > 1)]
    title = one_line(name, 300)
    return "".join([f"--- {title}\n", f"+++ {title}\n", *said]) if said else ""


def _rows(card: bytes) -> list[str]:
    """Return the lines of a card with their breaks."""
    text = card.decode("utf-8", "surrogateescape")
    ends = [found.end() for found in LINE_BREAK.finditer(text)]
    starts = [0, *ends]
    rows = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    return rows if rows[-1] else rows[:-1]


def _line_break(row: str) -> str:
    return row[len(row.rstrip("\r\n")) :]


def _common(one: Sequence[str], other: Sequence[str], most: int) -> int:
    """Return how many rows are the same at the beginning."""
    return next((index for index in range(most) if one[index] != other[index]), most)


def _range(start: int, length: int) -> str:
    """Write a range of lines as diffs do: an empty one is that behind a line."""
    return f"{start + 1}" if length == 1 else f"{start + (length > 0)},{length}"


def _shown(sign: str, row: str, mixed: bool) -> Iterator[str]:
    """Yield a line of a diff, fit to print."""
    line_break = _line_break(row)
    text = row.rstrip("\r\n") + (line_break if mixed and line_break != "\n" else "")
    visible = "".join(c if c.isprintable() or c == "\t" else _escape(c) for c in text)
    visible = _COMMAND.sub(lambda found: f"{found[1]}\\x3a" if found[1] else "##\\x5b", visible)
    yield f"{sign}{visible}\n"
    if not line_break:
        yield "\\ No newline at end of file\n"


def _escape(character: str) -> str:
    code = ord(character)
    if character in "\r\n":
        return "\\r" if character == "\r" else "\\n"
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that is not UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def colored(diff: str) -> str:
    """Return a diff with the colours of a terminal."""
    lines = []
    for line in diff.splitlines():
        color = next((code for start, code in _COLORS.items() if line.startswith(start)), None)
        lines.append(line if color is None else f"\x1b[{color}m{line}\x1b[0m")
    return "".join(f"{line}\n" for line in lines)
