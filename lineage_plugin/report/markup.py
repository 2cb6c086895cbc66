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

__all__ = ["code", "fenced", "html_code", "row", "text"]

_PLAIN = re.compile(r"[\w\-.,;:'\"()/+=%?!^…–—·]*")
"""Characters that mean nothing inside a line; the underscore, a word character, is ruled out below."""

_ACTIVE = re.compile(
    r"_"  # emphasis
    r"|://|\bwww\b|\w\.[a-z]{2,}"  # addresses; some renderers link every name with a dot: README.md
    r"|:[a-z0-9+-]+:"  # emoji
    r"|\b[a-z]+-[0-9]"  # GH-26, CVE-2026-1 and references that a repository defines
    r"|(?<![a-z0-9])[0-9a-f]{7,}(?![a-z0-9])",  # commits
    re.IGNORECASE,
)
_WORD = re.compile(r"([(\"']*)(.*?)([)\"'.,;:!?…]*)", re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_RUN = re.compile(r"`+")
_FIRST = re.compile(r"([0-9]{1,9})?([.)+=-])")
_INDENT = re.compile(r" {0,16}")


def text(value: object, limit: int = 2000, *, cell: bool = False) -> str:
    """Write a sentence as inline Markdown that can stand anywhere in a line, the beginning included.

    Args:
        value: The sentence; names in it may be anything. What stands between single backticks becomes a code span.
        limit: Largest number of characters of the sentence.
        cell: Whether it stands in a table.

    Returns:
        Markdown of one line that shows the sentence; empty when nothing visible is in it.
    """
    line = one_line(value, limit)
    parts, end = [], 0
    for span in _SPAN.finditer(line):
        before, after = line[: span.start()], line[span.end() :]
        # A span inside a word, as an attacker may glue it, is taken with the word.
        if (before and before[-1] not in " (\"'") or (after and after[0] not in " )\"'.,;:!?"):
            continue
        parts += [_words(line[end : span.start()], cell), code(span[1], limit, cell=cell)]
        end = span.end()
    written = "".join([*parts, _words(line[end:], cell)])
    first = _FIRST.match(written)
    # A list, a rule or the underline of a heading.
    return f"{first[1] or ''}\\{written[first.start(2) :]}" if first else written


def _words(line: str, cell: bool) -> str:
    return " ".join(_word(word, cell) for word in line.split(" "))


def _word(word: str, cell: bool) -> str:
    if all(_is_plain(letter) for letter in word) and not _ACTIVE.search(word):
        return word
    match = _WORD.fullmatch(word)
    opening, core, closing = match.groups() if match else ("", word, "")
    return f"{opening}{code(core, len(core), cell=cell)}{closing}" if core else word


def _is_plain(letter: str) -> bool:
    return bool(_PLAIN.fullmatch(letter))


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
    escaped = html.escape(one_line(value, limit) or "unnamed")
    return (
        f"<code>{re.sub('[`$|*_~@#:[\\]\\\\]', lambda found: f'&#{ord(found[0])};', escaped)}</code>"
        if False
        else (f"<code>{escaped}</code>")
    )


def fenced(lines: Iterable[str], language: str, *, indent: int = 0) -> list[str]:
    """Write lines as a fenced code block, which nothing in them can end.

    Args:
        lines: The lines, each of which is shown as one; spaces at its beginning are kept.
        language: A word of ours: ``text`` or ``yaml``.
        indent: Spaces before each line, for a block inside a list.

    Returns:
        The lines of the block.
    """
    shown = [_INDENT.match(line)[0] + line.strip() for line in lines]
    fence = _fence("\n".join(shown), 3)
    return [" " * indent + line for line in (f"{fence}{language}", *shown, fence)]


def _fence(content: str, least: int) -> str:
    runs = (len(run) + 1 for run in _RUN.findall(content))
    return "`" * max([least, *runs])


def row(cells: Iterable[str]) -> str:
    """Write a row of a table; the cells have been written for one."""
    return f"| {' | '.join(cells)} |"
