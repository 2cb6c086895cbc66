"""Findings about lineage (LIN1xx): what the weights say about what the card declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lineage_plugin.card import Declaration
from lineage_plugin.findings import Finding, finding
from lineage_plugin.judge.types import Comparison, Verdict
from lineage_plugin.text import one_line

__all__ = ["lineage_findings", "verdict_of"]

_KIND_OF_RELATION: Mapping[str, frozenset[str]] = {
    "finetune": frozenset({"finetune", "partial"}),
    "quantized": frozenset({"quantized"}),
    "merge": frozenset({"finetune", "partial", "merge", "quantized"}),
    "adapter": frozenset({"adapter"}),
}
"""Kinds that agree with each declared relation; a merge looks like a fine-tune of each of its parents."""


def lineage_findings(comparisons: Sequence[Comparison], declaration: Declaration) -> tuple[Finding, ...]:
    """Return what the comparisons mean for the declaration.

    Args:
        comparisons: One a base, declared or given.
        declaration: What the card declares, for the line that a finding points at.

    Returns:
        The findings, in the order of the comparisons.
    """
    found = []
    for comparison in comparisons:
        file, line = _place(comparison, declaration)
        base = one_line(comparison.base.id, 200)
        match comparison.relation:
            case "unrelated":
                found.append(
                    finding(
                        "LIN101",
                        f"the weights do not support {base} as the base: {comparison.summary}",
                        file=file,
                        line=line,
                        help="Correct base_model, or remove it if the model was trained from scratch.",
                    )
                )
            case "shared-init":
                found.append(
                    finding(
                        "LIN107",
                        f"shares a common start with {base}, but not what {base} learned",
                        file=file,
                        line=line,
                        help="Two runs from the same initial weights are siblings; neither is the base of the other.",
                    )
                )
            case "identical":
                found.append(
                    finding(
                        "LIN104",
                        f"the weight files are identical to those of {base}",
                        file=file,
                        line=line,
                        help="If this is a copy, say so in the card, or link to the original instead.",
                    )
                )
            case "derived":
                found.extend(_relation_finding(comparison, declaration, file, base))
            case "inconclusive" if comparison.evidence.coins == 0 and not comparison.layers:
                found.append(
                    finding(
                        "LIN304",
                        f"nothing could be compared with {base}: {comparison.summary}",
                        file=file,
                        line=line,
                        help="The declared base is neither confirmed nor refuted.",
                    )
                )
    return tuple(found)


def _relation_finding(
    comparison: Comparison, declaration: Declaration, file: str | None, base: str
) -> tuple[Finding, ...]:
    declared = declaration.effective_relation
    if declared is None or comparison.kind is None or comparison.kind in _KIND_OF_RELATION[declared]:
        return ()
    return (
        finding(
            "LIN103",
            f"declared as {declared} of {base}, but the weights are those of a {comparison.kind}",
            file=file,
            line=declaration.relation_line or declaration.line,
            help=f"Set base_model_relation to {comparison.kind if comparison.kind == 'quantized' else 'finetune'}.",
        ),
    )


def _place(comparison: Comparison, declaration: Declaration) -> tuple[str | None, int | None]:
    """Return where the base is declared: its own line when the card names it, else the line of base_model."""
    for claim in declaration.bases:
        if claim.id == comparison.base.id:
            return claim.file, claim.line
    return declaration.file, declaration.line


def verdict_of(findings: Sequence[Finding], comparisons: Sequence[Comparison]) -> Verdict:
    """Return ``fail`` for any error, else ``undecided`` when a base was not or could not be compared, else ``pass``."""
    if any(found.level == "error" for found in findings):
        return "fail"
    unseen = any(found.code == "LIN202" for found in findings)
    if unseen or any(comparison.relation == "inconclusive" for comparison in comparisons):
        return "undecided"
    return "pass"
