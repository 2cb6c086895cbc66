"""Findings about lineage (LIN1xx): what the weights say about what the card declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from lineage_plugin.card import Declaration
from lineage_plugin.evidence.facts import shows_nothing
from lineage_plugin.findings import Finding, finding
from lineage_plugin.judge.types import Comparison, LayerEvidence
from lineage_plugin.text import one_line

__all__ = ["lineage_findings"]

_STRUCTURAL = frozenset({"partial", "pruned", "upscaled", "upcycled"})
_KIND_OF_RELATION: Mapping[str, frozenset[str]] = {
    # A merged adapter is published as full weights, so both words are right for it.
    "finetune": _STRUCTURAL | {"finetune", "adapter"},
    "quantized": frozenset({"quantized"}),
    "merge": _STRUCTURAL | {"finetune", "merge", "quantized", "adapter"},
    "adapter": frozenset({"adapter"}),
}
"""Kinds that agree with each declared relation; a merge looks like a fine-tune of each of its parents."""
_RELATION_OF_KIND: Mapping[str, str] = {"quantized": "quantized", "merge": "merge"}
"""What to declare for each kind; ``finetune`` for all others."""
_KIND_WORDS: Mapping[str, str] = {
    "finetune": "a fine-tuned model",
    "adapter": "a model with a low-rank update merged in",
    "quantized": "a quantised model",
    "merge": "a merge",
    "pruned": "a pruned model",
    "upscaled": "an up-scaled model",
    "upcycled": "a mixture of experts made from it",
    "partial": "a model with parts replaced",
}


def lineage_findings(comparisons: Sequence[Comparison], declaration: Declaration) -> tuple[Finding, ...]:
    """Return what the comparisons mean for the declaration.

    Args:
        comparisons: One a base, declared or given.
        declaration: What the card declares, for the line that a finding points at.

    Returns:
        The findings, in the order of the comparisons.
    """
    found: list[Finding] = []
    for comparison in comparisons:
        place = _place(comparison, declaration, len(comparisons))
        found.extend(_findings(comparison, declaration, partial(finding, **place), declared=bool(place)))
    return tuple(found)


def _findings(
    comparison: Comparison, declaration: Declaration, here: Callable[..., Finding], *, declared: bool
) -> Iterator[Finding]:
    base = one_line(comparison.base.id, 200)
    match comparison.relation:
        case "unrelated":
            yield here(
                "LIN101",
                f"the weights do not support {base} as the base: {comparison.summary}",
                help=_correction(declaration) if declared else "",
            )
        case "shared-init":
            yield here(
                "LIN107",
                f"shares a common start with {base}, but not what {base} learned",
                help="Two runs from the same initial weights look like this, and so does an early checkpoint. Correct "
                "base_model, or name the start that both were trained from.",
            )
        case "identical":
            yield here(
                "LIN104",
                f"the weight files are identical to those of {base}",
                help="If this is a copy, say so in the card, or link to the original instead.",
            )
        case "derived":
            yield from _of_descent(comparison, declaration, here, base)
        case "inconclusive" if _nothing_compared(comparison):
            yield here(
                "LIN304",
                f"nothing could be compared with {base}: {comparison.summary}",
                help="The declared base is neither confirmed nor refuted.",
            )
        case "inconclusive" if comparison.evidence.coins == 0 and comparison.kind == "adapter":
            yield here(
                "LIN304",
                f"{base}: {comparison.summary}",
                level="note",
                help="An adapter without saved weights cannot be checked further; exit code 3 is what it ends in.",
            )


def _correction(declaration: Declaration) -> str:
    if declaration.is_adapter:
        return "Declare the base that the adapter was trained on."
    return "Correct base_model, or remove it if the model was trained from scratch."


def _of_descent(
    comparison: Comparison, declaration: Declaration, here: Callable[..., Finding], base: str
) -> Iterator[Finding]:
    declared, kind = declaration.effective_relation, comparison.kind
    if declared is not None and kind is not None and kind not in _KIND_OF_RELATION[declared]:
        yield here(
            "LIN103",
            f"declared as {declared} of {base}, but the weights are those of {_KIND_WORDS[kind]}",
            line=declaration.relation_line or declaration.line,
            column=None,
            help=f"Set base_model_relation to {_RELATION_OF_KIND.get(kind, 'finetune')}.",
        )
    silent = ", ".join(one_line(row.suspect) for row in _silent_layers(comparison.layers))
    if kind == "partial" or (silent and kind != "upscaled"):
        yield here(
            "LIN109",
            f"layers without a trace of {base}: {silent}" if silent else _part(comparison, base),
            help="Say in the card which layers were replaced or trained anew.",
        )
    if comparison.scrubbed is not None:
        yield here(
            "LIN108",
            f"{base} was found only after undoing: {'; '.join(comparison.scrubbed.how)}",
            help="Converters and pruning tools re-order weights, too. If you did it, say in the card how and why.",
        )
    if comparison.direction.indication == "base-from-suspect":
        yield here(
            "LIN103",
            f"{base} looks like the descendant, not the ancestor (an indication, not evidence)",
            level="note",
            help="Check dates and commit history: which of the two was there first?",
        )


def _nothing_compared(comparison: Comparison) -> bool:
    """Whether no coin was tossed although weights of the base were to be expected: not so for a bare adapter."""
    return comparison.evidence.coins == 0 and not comparison.layers and comparison.kind != "adapter"


def _part(comparison: Comparison, base: str) -> str:
    why = f": {one_line(comparison.changes[-1], 300)}" if comparison.changes else ""
    return f"only a part comes from {base}{why}"


def _place(comparison: Comparison, declaration: Declaration, compared: int) -> dict[str, Any]:
    """Return where the base is declared: its own line, or that of base_model when it can only be the one declared."""
    for claim in declaration.bases:
        if claim.id == comparison.base.id:
            return {"file": claim.file, "line": claim.line, "column": claim.column}
    if compared <= len(declaration.bases):
        return {"file": declaration.file, "line": declaration.line}
    return {}


def _silent_layers(layers: Sequence[LayerEvidence]) -> tuple[LayerEvidence, ...]:
    """Return the layers that show no trace of the base although they had the coins to show it."""
    return tuple(row for row in layers if row.base is None or shows_nothing(row.coins, row.heads, row.cosine))
