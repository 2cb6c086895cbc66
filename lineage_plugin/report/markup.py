r"""GitHub-flavoured Markdown: what strangers chose, written so that it is shown and nothing else.

A backslash or an entity keeps the parser from seeing markup, but mentions, references to issues and commits, emoji and
alike are looked for later, in the text of the rendered page, where both have become what they stood for. No renderer
looks into code, though. So a word that could be taken for anything becomes a code span, and words of letters, digits
and harmless punctuation stay what they are:

    >>> text("ping @team, see #12: <b>10^459.8</b> (about 0.05)")
    'ping `@team`, see `#12`: `<b>10^459.8</b>` (about 0.05)'

Rules of GitHub: https://docs.github.com/get-started/writing-on-github/working-with-advanced-formatting and
https://github.github.com/gfm/; the words between which it looks for names are those of its HTML pipeline, which skips
``pre``, ``code`` and ``a``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from lineage_plugin.text import one_line

__all__ = ["code", "fenced", "html_code", "row", "text", "verbatim"]

_PLAIN = re.compile(r"[\w\-.,;:'\"()/+=%?!^…–—·]*")
"""Words of characters that mean nothing inside a line, but for the underscore, which is ruled out below."""

_ACTIVE = re.compile(
    r"_"  # emphasis
    r"|://|\bwww\b|\w\.[a-z]{2,}"  # addresses; some renderers link every name with a dot: README.md
    r"|:[a-z0-9+-]+:"  # emoji
    r"|\b[a-z]+-[0-9]"  # GH-26, CVE-2026-1 and references that a repository defines
    r"|(?<![a-z0-9])[0-9a-f]{7,}(?![a-z0-9])",  # commits
    re.IGNORECASE,
)
_OPENING, _CLOSING = "(\"'", ")\"'.,;:!?…"
# A span is one only where it is a word of its own: fences that touch would be read as one.
_PIECE = re.compile(rf"([{_OPENING}]*)`([^` ](?:[^`]*[^` ])?)`([{_CLOSING}]*)(?= |\Z)|[^ ]+")
_RUN = re.compile(r"`+")
_FIRST = re.compile(r"([0-9]{1,9})(?=[.)](?: |$))|(?=[+=:/-])")
"""Where a backslash goes in what would be a list, a rule, the underline of a heading or of a table's head, or a command
to a bot that reads comments."""


def text(value: object, limit: int = 2000, *, cell: bool = False) -> str:
    """Write a sentence as inline Markdown that can stand anywhere in a line, the beginning included.

    Args:
        value: The sentence; names in it may be anything. What stands between single backticks becomes a code span.
        limit: Largest number of characters of the sentence.
        cell: Whether it stands in a table.

    Returns:
        Markdown of one line that shows the sentence; empty when nothing visible is in it.
    """
    pieces = (_piece(found, cell) for found in _PIECE.finditer(one_line(value, limit)))
    written = " ".join(pieces)
    first = _FIRST.match(written)
    return f"{first[0]}\\{written[first.end() :]}" if first else written


def _piece(found: re.Match[str], cell: bool) -> str:
    """Write a word, or what the author of the sentence put between backticks."""
    word = found[0]
    if found[2] is not None:
        return f"{found[1]}{code(found[2], 2000, cell=cell)}{found[3]}"
    if _PLAIN.fullmatch(word) and not _ACTIVE.search(word):
        return word
    core = word.lstrip(_OPENING).rstrip(_CLOSING)
    opening, _, closing = word.partition(core)
    return f"{opening}{code(core, 2000, cell=cell)}{closing}"


def code(value: object, limit: int = 200, *, cell: bool = False) -> str:
    """Write a name as a code span.

    Args:
        value: The name.
        limit: Largest number of characters of the name.
        cell: Whether it stands in a table, where a bar ends the cell even inside code.

    Returns:
        The span; ``unnamed`` when nothing visible is in the name.
    """
    name = one_line(value, limit)
    if not name:
        return "unnamed"
    fence = _fence(name, 1)
    pad = " " if name[0] == "`" or name[-1] == "`" else ""
    span = f"{fence}{pad}{name}{pad}{fence}"
    return span.replace("|", r"\|") if cell else span


def html_code(value: object, limit: int = 200) -> str:
    """Write a name as an HTML element, for places where Markdown is not read, such as ``<summary>``."""
    return f"<code>{html.escape(one_line(value, limit) or 'unnamed')}</code>"


def fenced(lines: Iterable[str], language: str, *, indent: int = 0) -> list[str]:
    """Write lines as a fenced code block, which nothing in them can end.

    Args:
        lines: The lines; each has passed :func:`~lineage_plugin.text.one_line` or :func:`verbatim`.
        language: A word of ours: ``text`` or ``yaml``.
        indent: Spaces before each line, for a block inside a list.

    Returns:
        The lines of the block.
    """
    shown = list(lines)
    fence = _fence("\n".join(shown), 3)
    return [" " * indent + line for line in (f"{fence}{language}", *shown, fence)]


def _fence(content: str, least: int) -> str:
    runs = (len(run) + 1 for run in _RUN.findall(content))
    return "`" * max([least, *runs])


def verbatim(line: str, limit: int = 300) -> str:
    """Return a line as :func:`~lineage_plugin.text.one_line` does, with the spaces that it begins with."""
    return " " * min(16, len(line) - len(line.lstrip(" "))) + one_line(line, limit)


def row(cells: Iterable[str]) -> str:
    """Write a row of a table; the cells have been written for one."""
    return f"| {' | '.join(cells)} |"
