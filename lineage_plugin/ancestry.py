"""What a registry of known models says about a model and its card: LIN102 and LIN105."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lineage_plugin.card import Declaration, read_front_matter
from lineage_plugin.checkpoint import Checkpoint, Cost
from lineage_plugin.findings import Finding
from lineage_plugin.fingerprint.known import Held, made
from lineage_plugin.fingerprint.nearness import CLEAR, lead, unit_cosines
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.assemble import compared, identical
from lineage_plugin.judge.types import Comparison
from lineage_plugin.judge.undeclared import Known, undeclared_findings
from lineage_plugin.report.phrases import plural
from lineage_plugin.subject import Printed, Subject, summary_of

if TYPE_CHECKING:
    from lineage_plugin.fingerprint.registry.relatives import Relative
    from lineage_plugin.fingerprint.registry.scan import KnownModels

__all__ = ["InRegistry", "in_registry"]

_SHOWN = 5
"""Relatives that a report shows."""


@dataclass(frozen=True, slots=True)
class InRegistry:
    """What a registry has.

    Attributes:
        comparisons: With relatives that the card does not declare.
        findings: LIN102 or LIN105.
    """

    comparisons: tuple[Comparison, ...] = ()
    findings: tuple[Finding, ...] = ()


def in_registry(
    subject: Subject | Printed,
    known: KnownModels,
    declaration: Declaration,
    bases: Sequence[Checkpoint | Held],
    comparisons: Sequence[Comparison],
    *,
    card: str | None,
) -> InRegistry:
    """Look for relatives of a model in a registry.

    Args:
        subject: The model.
        known: The registry.
        declaration: What its card declares.
        bases: The declared bases, opened; empty when they were not looked at.
        comparisons: Those with the declared bases.
        card: Text of the card, or None.

    Returns:
        Comparisons with undeclared relatives, and what they mean.

    Raises:
        InputError: When a model or the registry cannot be read.
        HubError: When the Hub does not deliver.
    """
    mine, options = subject.fingerprint(), subject.options
    declared = {claim.id for claim in declaration.bases} | {comparison.base.id for comparison in comparisons}
    relatives = tuple(
        replace(one, relation="identical", identical=True) if subject.is_copy_of(one.fingerprint) else one
        for one in known.relatives(mine, options, sorted(declared))
    )
    others = [one for one in relatives if one.id not in declared]
    cosines = {one.id: unit_cosines(mine, one.fingerprint) for one in relatives}
    prints = _declared_prints(subject, known, declaration, bases) if others and comparisons else []
    nearest = [unit_cosines(mine, found) for found in prints]

    def standing(at: int, one: Relative) -> Known:
        kind = _comparison(one, len(known), options.bar).kind
        behind = relatives[at + 1 : at + 2]
        return Known(
            id=one.id,
            relation=one.relation,
            kind=kind,
            standing=one.standing,
            ahead=all(lead(cosines[one.id], cosines[other.id]) >= CLEAR for other in behind),
            nearer=one.evidence.direction == "suspect-from-base"
            and bool(nearest)
            and all(lead(cosines[one.id], other) >= CLEAR for other in nearest),
        )

    standings = [standing(at, one) for at, one in enumerate(relatives)]
    shown = [_comparison(one, len(known), options.bar) for one in (others if comparisons else relatives)[:_SHOWN]]
    if shown:
        shown[0] = replace(shown[0], suspect_cost=subject.charge())
    fenced = card is not None and read_front_matter(card).line is not None
    return InRegistry(tuple(shown), undeclared_findings(declaration, comparisons, standings, fenced=fenced))


def _declared_prints(
    subject: Subject | Printed, known: KnownModels, declaration: Declaration, bases: Sequence[Checkpoint | Held]
) -> list[Fingerprint]:
    """Return fingerprints of the declared bases: those at hand, of the registry, or made of what was opened."""
    found = []
    names = [claim.id for claim in declaration.bases]
    for at, base in enumerate(bases):
        held = base.fingerprint if isinstance(base, Held) else None
        held = held or (known.get(names[at]) if at < len(names) else None)
        found.append(held or made(base, subject.options))  # type: ignore[arg-type]
    return found


def _comparison(one: Relative, models: int, bar: float) -> Comparison:
    """Return a relative as the report shows it."""
    shown = replace(summary_of(one.fingerprint, one.id), revision=one.fingerprint.source.revision)
    divided = "; the e-value has been divided by their number" if models > 1 else ""
    said = f"Found in a registry of {plural(models, 'model')}{divided}."
    if one.identical:
        return replace(identical(shown, (Cost(), Cost())), limits=(said,))
    found = compared(one.evidence, bar, shown, (Cost(), Cost()))
    return replace(found, limits=(*found.limits, said))
