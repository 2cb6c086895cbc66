r"""Which member of a family the suspect descends from.

For two members P and Q the coefficient of :math:`S - Q` on :math:`P - Q` is 1 for a descendant of P and 0 for one of Q,
as long as the suspect's own update is orthogonal to what sets P and Q apart. It is not: models trained from one base on
similar text move in similar directions, and far siblings reach coefficients of 0.6 to 1.4 (measured). What they have in
common is what training shares; a descendant has *all* of its parent, the noise of its training included.

So the coefficient is taken along directions, and the *weakest* of them decide. On one half of the columns the
directions are found along which the coefficient is least (eigenvectors of the symmetrised :math:`(P-Q)(S-Q)^T` in the
metric of :math:`(P-Q)(P-Q)^T`); on the other half the coefficient is measured in the weakest quarter of them. Since
directions and coefficient come from different columns, the choice adds no bias for a descendant: its weakest
coefficient stays near 1. That of a sibling falls towards 0, however large its coefficient on the whole. A merge is flat
in between.

This is an estimate with an interval over matrices, not an exact test: once models share weights, no relabelling
symmetry is left that would negate anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lineage_plugin.evidence.combination import t95
from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.family_read import Block, Member, family_mismatch, read_family
from lineage_plugin.evidence.moments import Moments, moments
from lineage_plugin.evidence.parents import NOTHING, MergeFit, fit_merge

__all__ = ["ClosestParent", "Standing", "closest_parent", "contrasts", "decide"]

Float64Array = NDArray[np.float64]

DIRECTIONS = 64
"""Most directions, that is units, of a matrix that are looked at."""
UNITS = 32
"""Fewest units read of a matrix: among a few there is no direction that shared training leaves out."""
RIDGE = 0.3
"""Added to the metric, as a share of its mean: directions without difference have no coefficient."""
WHOLE = 0.6
"""Weakest coefficient above which, with its whole interval, a member is contained whole."""
GONE = 0.4
"""Weakest coefficient below which, with its whole interval, a member is not contained whole."""
SHARE = 0.25
"""Weight that the ancestor must keep, with its whole interval, to be called the parent. A suspect that went very far
may lack a parent's weakest directions, but on the whole its coefficient stays near 1."""
FLAT = 0.15
"""Difference of the strongest and the weakest coefficient below which one lies between two members: a merge."""
TRACE = 0.2
"""Scale of the combination below which the suspect has no trace of the family."""
LEAST_DIRECTIONS = 24
LEAST_MATRICES = 4


@dataclass(frozen=True, slots=True)
class Standing:
    """One member of the family as a possible parent.

    Attributes:
        id: The member.
        weight: Its weight in the least squares combination of all members: 1 for a parent, 0 for a bystander, if
            updates were orthogonal; with 95% interval.
        weakest: Coefficient along the weakest directions of what sets it apart from ``against``; with 95% interval.
        against: The member against which it stands worst: the ancestor where there is one.
    """

    id: str
    weight: MatrixEffect
    weakest: MatrixEffect
    against: str | None


@dataclass(frozen=True, slots=True)
class ClosestParent:
    """Which member the suspect descends from.

    Attributes:
        choice: Its id, or None when it cannot be told.
        standings: Every member, the ancestor last when it is no candidate itself.
        between: Two members between which the suspect lies, as a merge does; empty when it does not.
        reason: Why, in a plain phrase.
        ancestor: The common ancestor, or None when it is not known.
    """

    choice: str | None
    standings: tuple[Standing, ...]
    reason: str
    between: tuple[str, ...] = ()
    ancestor: str | None = None


def closest_parent(
    suspect: Member,
    candidates: Sequence[Member],
    ancestor: Member | None = None,
    *,
    seed: int = 0,
    limit: int | None = None,
) -> ClosestParent:
    """Read the family and say which member the suspect descends from.

    Args:
        suspect: The model in question.
        candidates: Members of one family, such as a base, its instruct version and other fine-tunes.
        ancestor: Their common ancestor; may be one of the candidates. Without one, the base of a family cannot be told
            from a common ancestor of all, and more is left open.
        seed: Seed of the draw of units.
        limit: Bytes that may be read of each model, or None for the default of
            :func:`~lineage_plugin.evidence.family_read.read_family`.

    Returns:
        The choice, with each member's standing.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    others = [c for c in candidates if ancestor is None or c.id != ancestor.id]
    family = [*others, *([ancestor] if ancestor is not None else [])]
    ids = [member.id for member in family]
    members = [suspect, *family]
    mismatch = family_mismatch(members) if len(family) > 1 else "there is only one candidate"
    if mismatch is not None:
        standings = tuple(Standing(name, NOTHING, NOTHING, None) for name in ids)
        return ClosestParent(None, standings, mismatch, ancestor=ancestor.id if ancestor is not None else None)
    second: list[Moments] = []
    found: list[Float64Array] = []
    with threadpool_limits(limits=1):
        for block in read_family(members, seed=seed, limit=limit, least=UNITS):
            second.append(moments(block))
            found.append(contrasts(block, _scale(second[-1]), seed))
    fit = fit_merge(second, ids, ancestor=ancestor is not None)
    return decide(found, fit, ids)


def contrasts(block: Block, scale: float = 1.0, seed: int = 0) -> Float64Array:
    """Return the weakest coefficient of each member against each other one, for one matrix.

    Args:
        block: The suspect first.
        scale: The suspect is divided by it: weight decay has shrunk it.
        seed: Seed of the halves.

    Returns:
        ``[members, members]`` without the suspect; entry ``[p, q]`` is the coefficient of ``S - Q`` on ``P - Q`` along
        its weakest quarter of directions. NaN where it cannot be measured.
    """
    values = block.values.astype(np.float64)
    if values.shape[1] > values.shape[2]:
        values = values.transpose(0, 2, 1)
    values = values[:, :DIRECTIONS]
    suspect, members = values[0] / scale, values[1:]
    halves = np.random.default_rng([seed & 0xFFFFFFFF, values.shape[2]]).permutation(values.shape[2])
    halves = halves[: halves.shape[0] // 2 * 2].reshape(2, -1)
    count = members.shape[0]
    result = np.full((count, count), np.nan)
    if min(halves.shape[1], values.shape[1]) < LEAST_DIRECTIONS:
        return result
    for p in range(count):
        for q in range(p + 1, count):
            low, high = _extremes(suspect - members[q], members[p] - members[q], halves)
            # Exchanging P and Q turns every coefficient c into 1 - c.
            result[p, q], result[q, p] = low, 1.0 - high
    return result


def _extremes(update: Float64Array, apart: Float64Array, halves: NDArray[np.int64]) -> tuple[float, float]:
    """Return the coefficient of ``update`` on ``apart`` in its weakest and in its strongest quarter of directions."""
    shared, own = [], []
    for fit, test in (halves, halves[::-1]):
        metric = apart[:, fit] @ apart[:, fit].T
        cross = apart[:, fit] @ update[:, fit].T
        if not metric.any():
            return math.nan, math.nan
        energy, axes = np.linalg.eigh(metric)
        white = axes / np.sqrt(np.maximum(energy, 0.0) + RIDGE * energy.mean())
        directions = white @ np.linalg.eigh(white.T @ (cross + cross.T) @ white)[1]
        left, right = directions.T @ apart[:, test], directions.T @ update[:, test]
        shared.append(np.einsum("rc,rc->r", left, right))
        own.append(np.einsum("rc,rc->r", left, left))
    numerator, denominator = np.sum(shared, axis=0), np.sum(own, axis=0)
    quarter = max(1, numerator.shape[0] // 4)
    ends = [
        float(numerator[part].sum() / denominator[part].sum()) if denominator[part].sum() > 0.0 else math.nan
        for part in (slice(0, quarter), slice(-quarter, None))
    ]
    return ends[0], ends[1]


def _scale(matrix: Moments) -> float:
    """Return the scale of one matrix, kept where it makes sense."""
    gram = matrix.gram.sum(axis=0)
    spread = np.sqrt(np.diag(gram)[1:])
    spread[spread == 0.0] = 1.0
    solution = np.linalg.lstsq(gram[1:, 1:] / spread[:, None] / spread, gram[1:, 0] / spread, rcond=1e-10)[0]
    return float(np.clip(1.0 + solution[-1] / spread[-1], 0.5, 1.5))


def decide(matrices: Iterable[Float64Array], fit: MergeFit, ids: Sequence[str]) -> ClosestParent:
    """Decide from the contrasts of all matrices.

    Args:
        matrices: One a matrix, as :func:`contrasts` returns them.
        fit: The least squares combination of the same members.
        ids: The members in the order of the contrasts, the ancestor last when ``fit`` has one.

    Returns:
        The choice.
    """
    stack = np.stack([*matrices, np.full((len(ids), len(ids)), np.nan)])
    table = [[_interval(stack[:, p, q]) for q in range(len(ids))] for p in range(len(ids))]
    weights = {parent.id: parent.weight for parent in fit.parents}
    last = len(ids) - 1
    standings, whole = [], []
    for p, name in enumerate(ids):
        rivals = [q for q in range(len(ids)) if q != p and table[p][q].low is not None]
        worst = min(rivals, key=lambda q: table[p][q].low or 0.0, default=None)
        against = last if fit.ancestor is not None and p != last else worst
        weakest = NOTHING if against is None else table[p][against]
        standings.append(Standing(name, weights.get(name, NOTHING), weakest, None if against is None else ids[against]))
        if len(rivals) == last and all((table[p][q].low or 0.0) > WHOLE for q in rivals):
            whole.append(p)
    choice, between, reason = _choose(table, whole, fit, ids)
    return ClosestParent(choice, tuple(standings), reason, between, fit.ancestor)


def _choose(
    table: Sequence[Sequence[MatrixEffect]], whole: Sequence[int], fit: MergeFit, ids: Sequence[str]
) -> tuple[str | None, tuple[str, ...], str]:
    if fit.reason is not None:
        return None, (), fit.reason
    if fit.scale.high is not None and fit.scale.high < TRACE:
        return None, (), "the suspect has no trace of this family"
    pairs = [(p, q) for p in range(len(ids)) for q in range(p + 1, len(ids)) if _is_between(table[p][q], table[q][p])]
    if pairs:
        p, q = pairs[0]
        return None, (ids[p], ids[q]), f"the suspect lies between {ids[p]} and {ids[q]}, as a merge of them does"
    # At most one can be contained whole against every other: the coefficients of a pair sum to 1.
    if whole:
        return ids[whole[0]], (), f"the suspect contains all that sets {ids[whole[0]]} apart from the others"
    last = len(ids) - 1
    if fit.ancestor is not None:
        upper = [table[p][last].high for p in range(last)]
        kept = next(parent.weight.low for parent in fit.parents if parent.id == fit.ancestor)
        if all(high is not None and high < GONE for high in upper) and kept is not None and kept > SHARE:
            others = "the other candidates" if last > 1 else ids[0]
            return ids[last], (), f"the suspect lacks what {others} learned beyond {ids[last]}"
    return None, (), "the intervals leave more than one parent possible"


def _is_between(forth: MatrixEffect, back: MatrixEffect) -> bool:
    """Whether the coefficient is well inside (0, 1) in the weakest and in the strongest directions alike."""
    if forth.low is None or forth.high is None or back.low is None or back.high is None:
        return False
    weakest, strongest = forth.low, 1.0 - back.low
    return strongest - weakest < FLAT and weakest > 0.05 and strongest < 0.95


def _interval(values: Float64Array) -> MatrixEffect:
    """Return the mean over matrices with its 95% interval."""
    values = values[np.isfinite(values)]
    count = values.shape[0]
    if count < LEAST_MATRICES:
        return NOTHING
    mean, reach = float(values.mean()), t95(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return MatrixEffect(mean, mean - reach, mean + reach)
