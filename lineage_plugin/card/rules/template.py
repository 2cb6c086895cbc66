"""The rule about what a template left open: LIN214."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lineage_plugin.card.body import read_body
from lineage_plugin.card.located import Located
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import quoted

__all__ = ["template_not_filled_in"]

_KEYS: Final = frozenset(
    {
        "base_model_relation",
        "base_model_revision",
        "datasets",
        "language",
        "library_name",
        "license",
        "license_link",
        "license_name",
        "model_name",
        "pipeline_tag",
        "tags",
    }
)
"""Keys looked at: prompts and examples of a card hold braces of their own, and LIN207 has the word on base_model."""
_OPEN: Final = re.compile(r"\[?more information needed\]?\Z|\{\{[^\r\n]{0,200}\}\}", re.IGNORECASE)
_LINE: Final = re.compile(
    r"[ \t]{0,8}(?:[-*+] )?(?:\*\*)?(?P<what>Finetuned from model|Fine-tuned from model|Base model|License)"
    r"(?: ?\[optional\])? ?:?(?:\*\*)?:?[ \t]{0,8}(?P<open>\[More Information Needed\]|\{\{[^\r\n]{0,200}\}\})",
    re.IGNORECASE,
)


@rule("LIN214")
def template_not_filled_in(card: Card) -> Iterator[Finding]:
    """Report places about base and licence that a template left open.

    Why: templates write ``[More Information Needed]`` or leave ``{{ license }}`` where nothing was given. A reader who
    looks for the base or the licence finds nothing there, and other programs take it for a value.

    Looked at are values of the front matter and the lines of the text about base and licence; other sections may stay
    open.

    Example::

        - **Finetuned from model [optional]:** [More Information Needed]

    Repair::

        - **Finetuned from model:** owner/name
    """
    help_ = "Write what is the case, or remove it."
    for entry in card.front_matter.entries:
        if entry.key.text not in _KEYS:
            continue
        for value in (entry.value, *entry.value.items):
            if _is_open(value):
                yield finding(
                    "LIN214",
                    f"{entry.key.text} is left as the template had it: {quoted(value.text, 60)}",
                    file=card.file,
                    line=value.line,
                    column=value.column,
                    help=help_,
                )
    if "[More Information Needed]" not in card.text and "{{" not in card.text:
        return
    seen = set()
    for row in read_body(card.text).rows:
        found = _LINE.match(row.text)
        if found is None or found["what"].lower() in seen:
            continue
        seen.add(found["what"].lower())
        yield finding(
            "LIN214",
            f"the line {quoted(found['what'])} is left as the template had it: {quoted(found['open'], 60)}",
            file=card.file,
            line=row.number,
            column=found.start("open") + 1,
            help=help_,
        )


def _is_open(value: Located) -> bool:
    return value.kind == "string" and _OPEN.match((value.text or "").strip()) is not None
