"""The pages as Markdown, for ``docs/rules`` and the index ``docs/findings.md``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Final

from lineage_plugin.explain.pages import Page, Part, parts

__all__ = ["index", "markdown"]

_WIDTH: Final = 120
_LINK: Final = re.compile(r"\]\((?![a-z]+:)([^)]+)\)")
_GROUPS: Final = {
    "LIN1": "lineage against weights",
    "LIN2": "the card",
    "LIN3": "inputs",
    "LIN4": "the policy",
}
_INTRODUCTION: Final = """\
# Finding codes

Codes are stable: a code is never given another meaning. Each has a page, which `lineage lint --explain LIN205` prints,
too. A finding names the file, the line and the column that it is about, where there are any.

- `error` makes the exit code 1; change that with `--fail-on`, or the levels with a [policy](policy.md). The level below
  is the one by default; some findings are reported at another one, and the page says when.
- *Fixable* are codes of which `lineage lint --fix` can repair some or all cases.
- Findings on the card (LIN2xx) can be accepted where they are, by a comment in the front matter that says why. They
  stay in every report, as notes with the reason: [LIN213](rules/LIN213.md) says how.

This page and those under `rules/` are made by `python -m lineage_plugin.explain docs`.
"""


def markdown(page: Page) -> str:
    """Return a page as Markdown.

    Args:
        page: The page.

    Returns:
        The text of ``docs/rules/<code>.md``, ending in one newline.
    """
    level = f"*{page.level}*" + (", fixable with `lineage lint --fix`" if page.fixable else "")
    blocks = [f"# {page.code} {page.title}", f"{level} · [all codes](../findings.md) · [policy](../policy.md)"]
    blocks += [_block(part, page) for part in parts(page)]
    return "\n\n".join(blocks) + "\n"


def index(pages: Iterable[Page]) -> str:
    """Return the index of all pages as Markdown.

    Args:
        pages: The pages.

    Returns:
        The text of ``docs/findings.md``, ending in one newline; each code has an anchor such as ``lin101``.
    """
    pages = list(pages)
    lines = [_INTRODUCTION]
    for prefix, group in _GROUPS.items():
        lines += [f"## {prefix}xx: {group}", "", "| code | what it says | level | fixable |", "|---|---|---|---|"]
        for page in pages:
            if page.code.startswith(prefix):
                anchor, fixable = f'<a id="{page.code.lower()}"></a>', "yes" if page.fixable else ""
                lines.append(
                    f"| {anchor}[{page.code}](rules/{page.code}.md) | {page.title} | {page.level} | {fixable} |"
                )
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _block(part: Part, page: Page) -> str:
    if part.code:
        language = "yaml" if page.code.startswith("LIN2") else "text"
        heading = f"**{part.heading}**\n\n" if part.heading else ""
        return f"{heading}```{language}\n{part.text}\n```"
    lead = f"**{part.heading}:** ".replace("--fix", "`--fix`") if part.heading else ""
    text = lead + _LINK.sub(r"](../\1)", part.text)
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
