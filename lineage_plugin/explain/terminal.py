"""A page for the terminal."""

from __future__ import annotations

import re
import textwrap
from typing import Final

from lineage_plugin._links import DOCS
from lineage_plugin.explain.pages import page, parts

__all__ = ["explain"]

MIN_WIDTH: Final = 40
MAX_WIDTH: Final = 110

_LINK: Final = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")
_BOLD, _CYAN, _PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[0m"


def explain(code: str, *, color: bool = False, width: int = 80) -> str:
    """Say what a finding code means.

    Args:
        code: The code; small letters are forgiven.
        color: Whether ANSI colours may be used.
        width: Columns to wrap to, within 40 to 110; lines of examples are not wrapped.

    Returns:
        The text, ending in one newline.

    Raises:
        UsageError: When there is no such code; the message names the nearest one.
    """
    found = page(code)
    width = min(max(width, MIN_WIDTH), MAX_WIDTH)
    level = f"({found.level}{', fixable' if found.fixable else ''})"
    blocks = [f"{_styled(f'{found.code} {found.title}', _BOLD, color)} {level}"]
    for part in parts(found):
        text = textwrap.indent(part.text, "    ") if part.code else _wrapped(part.text, width)
        blocks.append(f"{_styled(part.heading, _CYAN, color)}\n{text}" if part.heading else text)
    blocks.append(found.uri)
    return "\n\n".join(blocks) + "\n"


def _wrapped(text: str, width: int) -> str:
    text = _LINK.sub(lambda link: f"{link[1]} ({_address(link[2])})", text)
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _address(target: str) -> str:
    return target if "://" in target else f"{DOCS}/{target}"


def _styled(text: str, style: str, color: bool) -> str:
    return f"{style}{text}{_PLAIN}" if color else text
