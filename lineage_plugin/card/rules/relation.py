"""The rule about the declared relation: LIN203."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from lineage_plugin.card.declaration import RELATIONS
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import quoted

__all__ = ["unknown_relation"]

_MEANT: Final = {
    "awq": "quantized",
    "continued": "finetune",
    "dpo": "finetune",
    "gguf": "quantized",
    "gptq": "quantized",
    "instruct": "finetune",
    "lora": "adapter",
    "mergekit": "merge",
    "peft": "adapter",
    "qlora": "adapter",
    "quant": "quantized",
    "sft": "finetune",
}
"""Words that cards use for a relation and that no spelling distance leads from."""


@rule("LIN203")
def unknown_relation(card: Card) -> Iterator[Finding]:
    """Report a ``base_model_relation`` that the Hub does not know.

    Why: nothing validates the value when the card is saved, and other tools look for the four known ones. They are
    case-sensitive.

    Example::

        base_model_relation: fine-tuned

    Repair::

        base_model_relation: finetune
    """
    value = card.front_matter.get("base_model_relation")
    if value is None or card.declaration.relation is not None or value.kind == "null":
        return
    text = (value.text or "").strip()
    if not text and value.kind == "string":
        return
    help_ = f"Use one of {', '.join(RELATIONS)}."
    if value.kind in ("list", "mapping"):
        message = f"base_model_relation is a {value.kind}, not one relation"
    else:
        message = f"base_model_relation {quoted(text)} is not known to the Hub"
        meant = _nearest(text)
        if meant is not None:
            help_ = f"Did you mean {meant}? {help_}"
    yield finding("LIN203", message, file=card.file, line=value.line, help=help_)


def _nearest(text: str) -> str | None:
    """Return the relation that was probably meant."""
    word = "".join(filter(str.isalpha, text[:40])).lower()
    if word in _MEANT:
        return _MEANT[word]
    close = get_close_matches(word, RELATIONS, n=1, cutoff=0.6)
    return close[0] if close else None
