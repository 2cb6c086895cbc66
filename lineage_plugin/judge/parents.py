"""Findings about parents: merges (LIN106) and the closest parent (LIN105).

Both rest on estimates with intervals, not on exact coins; the messages say so by their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lineage_plugin.card import BaseClaim, Declaration
from lineage_plugin.evidence.closest import ClosestParent
from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.parents import MergeFit
from lineage_plugin.findings import Finding, finding
from lineage_plugin.judge.types import Candidate, Closest, Comparison, Interval, Merge, MergeParent
from lineage_plugin.text import one_line

__all__ = [
    "closest_findings",
    "closest_of",
    "common_ancestor",
    "merge_findings",
    "merge_of",
    "without_trace",
]

NO_TRACE = 0.05
"""Upper end of a weight's interval, reaching down to 0, below which a parent has left no trace. A weight that is
clearly negative is a trace: task arithmetic subtracts models."""


def common_ancestor(cards: Mapping[str, Declaration]) -> str | None:
    """Return the model from which all parents of a merge descend, as far as their own cards say.

    Args:
        cards: For each parent its declaration, by id.

    Returns:
        The model in which all their chains of declarations end: a base that all of them declare, or the one parent
        that declares none and on which the others build. None when the chains end apart, or in a merge.
    """
    ends = {_end(start, cards) for start in cards}
    return ends.pop() if len(ends) == 1 else None


def _end(start: str, cards: Mapping[str, Declaration]) -> str | None:
    """Follow the declarations from one parent as far as they lead inside the merge, and one step beyond."""
    current, seen = start, {start}
    while current in cards and cards[current].bases:
        if len(cards[current].bases) > 1:
            return None
        current = cards[current].bases[0].id
        if current in seen:  # cards that name each other
            return None
        seen.add(current)
    return current


def without_trace(fit: MergeFit, comparisons: Sequence[Comparison] = ()) -> tuple[str, ...]:
    """Return the parents that left no trace in a merge.

    Args:
        fit: The weights.
        comparisons: The suspect against each parent; a parent whose coins are silent left no trace either.

    Returns:
        Ids of parents whose weight's interval holds 0 and ends below :data:`NO_TRACE`, or that are unrelated. Empty
        when none of the parents left a trace: then it is no merge of these, and other findings say so.
    """
    silent = {comparison.base.id for comparison in comparisons if comparison.relation == "unrelated"}
    parents = [parent for parent in fit.parents if parent.id != fit.ancestor]
    gone = tuple(parent.id for parent in parents if parent.id in silent or _is_nothing(parent.weight))
    return gone if len(gone) < len(parents) else ()


def _is_nothing(weight: MatrixEffect) -> bool:
    return (
        weight.low is not None
        and weight.high is not None
        and -2 * NO_TRACE < weight.low <= 0.0
        and weight.high < NO_TRACE
    )


def merge_findings(
    fit: MergeFit, declaration: Declaration, comparisons: Sequence[Comparison] = ()
) -> tuple[Finding, ...]:
    """Return what the weights of a merge mean for the declaration.

    Args:
        fit: The weights.
        declaration: What the card declares.
        comparisons: The suspect against each parent.

    Returns:
        One LIN106 for each declared parent without trace.
    """
    declared = {claim.id: claim for claim in declaration.bases}
    weights = {parent.id: parent.weight for parent in fit.parents}
    found = []
    for name in without_trace(fit, comparisons):
        weight = weights[name]
        claim = declared.get(name)
        numbers = (
            ""
            if weight.estimate is None or weight.high is None
            else f": weight {abs(round(weight.estimate, 2)):.2f}, at most {max(weight.high, 0.0):.2f}"
        )
        shares = any(one.base.id == name and one.relation == "derived" for one in comparisons)
        what = "adds nothing to the merge that the other parents lack" if shares else "left no trace in the merge"
        found.append(
            _here(
                "LIN106",
                f"{one_line(name, 200)} {what}{numbers}",
                claim,
                declaration,
                "Remove it from base_model, or check that the merge used it; name it with --ancestor if the other "
                "parents descend from it.",
            )
        )
    return tuple(found)


def closest_findings(found: ClosestParent, declaration: Declaration) -> tuple[Finding, ...]:
    """Return what the closest parent means for the declaration.

    Args:
        found: The closest parent among the candidates.
        declaration: What the card declares.

    Returns:
        LIN105 when the suspect descends from a candidate that is not declared although a declared one was among the
        candidates; a note when it lies between two of them, one of which is not declared.
    """
    candidates = {standing.id for standing in found.standings}
    declared = [claim for claim in declaration.bases if claim.id in candidates]
    if not declared:
        return ()
    names = {claim.id for claim in declared}
    claim = declared[0]
    said = one_line(claim.id, 200)
    if found.choice is not None and found.choice not in names:
        nearer = one_line(found.choice, 200)
        return (
            _here(
                "LIN105",
                f"{nearer} is a closer parent than {said}: {one_line(found.reason, 600)} (an estimate)",
                claim,
                declaration,
                f"If the model was made from {nearer}, name that as base_model.",
            ),
        )
    undeclared = [name for name in found.between if name not in names]
    if len(found.between) == 2 and undeclared:
        message = f"{one_line(found.reason, 600)}; {one_line(undeclared[0], 200)} is not declared (an estimate)"
        help_ = "If it is a merge, list every parent under base_model."
        return (_here("LIN105", message, claim, declaration, help_, note=True),)
    return ()


def _here(
    code: str, message: str, claim: BaseClaim | None, declaration: Declaration, help_: str, *, note: bool = False
) -> Finding:
    file, line = (claim.file, claim.line) if claim is not None else (declaration.file, declaration.line)
    column = None if claim is None else claim.column
    return finding(code, message, file=file, line=line, column=column, help=help_, level="note" if note else "warning")


def merge_of(fit: MergeFit) -> Merge:
    """Return a fit as the report shows it."""
    return Merge(
        parents=tuple(
            MergeParent(
                parent.id,
                parent.weight.estimate,
                parent.weight.low,
                parent.weight.high,
                tuple((str(layer), Interval.of(effect)) for layer, effect in parent.layers),
            )
            for parent in fit.parents
        ),
        ancestor=fit.ancestor,
        scale=Interval.of(fit.scale),
        unexplained=fit.unexplained,
        structure=fit.structure,
        style=fit.style,
        summary=_summary(fit),
    )


def _summary(fit: MergeFit) -> str:
    """Return the fit in one plain sentence."""
    if fit.reason is not None or fit.unexplained is None:
        return f"the weights could not be estimated: {one_line(fit.reason or 'nothing was read', 600)}"
    uneven = "; the weights differ from layer to layer" if fit.uneven else ""
    if fit.structure == "rounding":
        return f"the parents explain everything to rounding{uneven}"
    share = f"{100 * fit.unexplained:.3g}%"
    what = {
        "sparse": "its differences from the ancestor are sparse, as DARE and TIES leave them",
        "low-rank": "it is low-rank, as an adapter merged afterwards leaves it",
        "dense": "training after the merge, dropped elements or another parent would leave it",
    }[fit.structure or "dense"]
    meaning = "; of TIES the weights say which share of each parent's update arrived" if fit.style == "ties" else ""
    return f"{share} of the change is not explained by the parents: {what}{meaning}{uneven}"


def closest_of(found: ClosestParent) -> Closest:
    """Return the closest parent as the report shows it."""
    return Closest(
        id=found.choice,
        reason=one_line(found.reason, 600),
        between=found.between,
        ancestor=found.ancestor,
        candidates=tuple(
            Candidate(
                standing.id,
                standing.weight.estimate,
                standing.weight.low,
                standing.weight.high,
                Interval.of(standing.weakest),
            )
            for standing in found.standings
        ),
    )
