"""Several relatives at once: the weights of a merge, and which member of a family is the parent.

Each base is first compared by itself; what follows here is about their differences, which one comparison cannot see.
All of it is estimation with intervals, no exact evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lineage_plugin.anatomy import analyse
from lineage_plugin.card import Declaration, read_card
from lineage_plugin.checkpoint import Checkpoint, Cost, open_checkpoint
from lineage_plugin.errors import HubError, InputError
from lineage_plugin.evidence.closest import closest_parent
from lineage_plugin.evidence.family_read import Member
from lineage_plugin.evidence.parents import merge_weights
from lineage_plugin.findings import Finding
from lineage_plugin.judge.parents import (
    closest_findings,
    closest_of,
    common_ancestor,
    merge_findings,
    merge_of,
    without_trace,
)
from lineage_plugin.judge.types import Closest, Comparison, Merge
from lineage_plugin.options import Options

__all__ = ["Relatives", "weigh_relatives"]

CARD_LIMIT = 1 << 20
PRESENT = 0.05
"""Lower end of a weight's interval from which a parent is part of a merge."""


@dataclass(frozen=True, slots=True)
class Relatives:
    """What the relatives show together.

    Attributes:
        merge: The suspect as a combination of its parents; None for fewer than two.
        closest: The closest parent among the candidates; None when there were no candidates.
        comparisons: The comparisons, of kind ``merge`` where several parents have weight.
        findings: LIN105 and LIN106.
        cost: What reading the candidates and the ancestor cost.
    """

    merge: Merge | None
    closest: Closest | None
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]
    cost: Cost


def weigh_relatives(
    suspect: Checkpoint,
    bases: Sequence[Checkpoint],
    comparisons: Sequence[Comparison],
    declaration: Declaration,
    options: Options,
    *,
    candidates: Sequence[str] = (),
    ancestor: str | None = None,
) -> Relatives:
    """Weigh several parents against each other.

    Args:
        suspect: The suspect.
        bases: The bases that were compared.
        comparisons: One a base, in the same order.
        declaration: What the card declares.
        options: Choices of the run.
        candidates: Further members of the family, paths or ids.
        ancestor: The common ancestor, a path or id; None: what the parents' own cards agree on.

    Returns:
        Weights, closest parent and what they mean.

    Raises:
        UsageError: When a candidate or the ancestor does not exist.
        InputError: When one of them cannot be read.
        HubError: When the Hub does not deliver one that was asked for.
    """
    shared = [
        base for base, found in zip(bases, comparisons, strict=True) if found.relation in ("derived", "shared-init")
    ]
    if not shared or (len(bases) < 2 and not candidates):
        return Relatives(None, None, tuple(comparisons), (), Cost())
    me = _member(suspect)
    opened = [open_checkpoint(name, options=options) for name in candidates]
    family = [_member(base) for base in (*bases, *opened)]
    origin = _origin(family, options, ancestor)
    read = [*opened, *([origin.checkpoint] if origin is not None and origin not in family else [])]
    merge, closest, found, results = None, None, list[Finding](), tuple(comparisons)
    if len(bases) > 1:
        fit = merge_weights(me, family[: len(bases)], origin, seed=options.seed)
        merge = merge_of(fit)
        found.extend(merge_findings(fit, declaration, comparisons))
        gone = without_trace(fit, comparisons)
        present = [p.id for p in merge.parents if p.id not in gone and p.low is not None and p.low > PRESENT]
        if len(present) > 1:
            results = tuple(
                replace(result, kind="merge") if result.base.id in present and result.relation == "derived" else result
                for result in comparisons
            )
    if candidates:
        standing = closest_parent(me, family, origin, seed=options.seed)
        closest = closest_of(standing)
        found.extend(closest_findings(standing, declaration))
    cost = Cost()
    for checkpoint in read:
        cost = cost + checkpoint.cost()
    return Relatives(merge, closest, results, tuple(found), cost)


def _member(checkpoint: Checkpoint) -> Member:
    return Member(checkpoint.id, checkpoint, analyse(checkpoint.tensors, checkpoint.config))


def _origin(family: Sequence[Member], options: Options, named: str | None) -> Member | None:
    """Return the common ancestor: the one named, or the one on which all cards of the family build."""
    if named is not None:
        known = next((member for member in family if member.id == named), None)
        return known or _member(open_checkpoint(named, options=options))
    cards = {
        member.id: read_card(member.checkpoint.text("README.md", CARD_LIMIT), file="README.md")[0] for member in family
    }
    found = common_ancestor(cards)
    known = next((member for member in family if member.id == found), None)
    if known is not None or found is None or options.offline or all(member.checkpoint.local for member in family):
        return known
    from lineage_plugin.checkpoint.hub import open_hub

    try:
        # What a stranger's card names is opened on the Hub only, and is a help, not a need.
        return _member(open_hub(found, None, token=options.token, endpoint=options.endpoint, budget=options.budget))
    except (HubError, InputError):
        return None
