r"""Merges: how much of each parent is in the suspect.

Linear merges, task arithmetic and spherical interpolation put every tensor of the suspect into the span of its parents
and their common ancestor. With reference :math:`R` (the ancestor, or the last parent when there is none) and the other
models :math:`P_i`,

.. math::  S - R = \sum_i c_i (P_i - R) + \gamma R + \varepsilon,

fitted by least squares over elements. :math:`1 + \gamma` is the *scale*: 1 for a linear merge, above 1 for SLERP, below
1 after weight decay. The weights are :math:`w_i = c_i / (1 + \gamma)`, and the reference has :math:`1 - \sum w_i`; so
the fit does not depend on which model is the reference. What is left, :math:`\varepsilon`, is rounding for a plain
merge, and otherwise training after the merge, dropped elements (DARE, TIES), or a parent that was not declared.

**Rounding.** Fine-tunes move most weights by less than a step of the storage type, and a merge of such moves rounds to
the nearest stored value: 0.3 of one step is 0. Over all elements the weights 0.3 and 0.7 of two bfloat16 fine-tunes at
a distance of 0.1% come out as 0.16 and 0.84. Hence only *resolved* elements count: those where the models differ by at
several steps (:mod:`lineage_plugin.evidence.moments`), chosen without looking at the suspect. There rounding is noise,
and the weights unbiased.

**Dropped elements.** DARE drops elements at random and rescales the others, which leaves :math:`E[c_i]` the recipe's
weight (Yu et al. 2023, arXiv:2311.03099). TIES keeps the largest elements and drops those of the minority sign (Yadav
et al. 2023, arXiv:2306.01708): there :math:`c_i` is the share of the parent's update that arrived, not the number in
the recipe.

Intervals are linearised ("sandwich") with runs of units as sampling units, and again with matrices as sampling units;
the wider one is given. The latter matters when the weights truly differ from matrix to matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lineage_plugin.evidence.combination import combine
from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.family_read import Member, family_mismatch, read_family
from lineage_plugin.evidence.moments import SINGULAR, Moments, moments

__all__ = ["NOTHING", "MergeFit", "ParentWeight", "fit_merge", "merge_weights"]

Float64Array = NDArray[np.float64]

LEAST_RESOLVED = 256
"""Resolved elements without which nothing is estimated."""
ROUNDING_SLACK = 4.0
"""Residual energy, in units of one rounding of the suspect, up to which it is called rounding. Tools that merge in the
storage type round every intermediate result, too (measured: up to 2.5)."""
LOW_RANK = 0.95
"""Share of the residual energy in its strongest quarter of directions from which it is called low-rank."""
SPARSE = 0.05
"""Share of resolved elements that equal the ancestor exactly from which differences are called sparse."""
BY_SIZE = 0.7
"""Energy share over count share of those elements below which they were chosen by size (TIES), not at random (DARE)."""
FLOAT_NOISE = 1e-12
"""Residual, as a share of the energy fitted, that is rounding of this computation."""
UNEVEN = 0.02
"""Difference of the weights of two layers, their intervals being disjoint, from which weights are called uneven."""

NOTHING = MatrixEffect(None, None, None)
"""An estimate that could not be made."""


@dataclass(frozen=True, slots=True)
class ParentWeight:
    """The weight of one parent.

    Attributes:
        id: The parent.
        weight: Over all matrices, each counting by its resolved elements whatever its scale; with 95% interval.
        layers: The same by layer.
    """

    id: str
    weight: MatrixEffect
    layers: tuple[tuple[int, MatrixEffect], ...] = ()


@dataclass(frozen=True, slots=True)
class MergeFit:
    """The suspect as a combination of its parents.

    Attributes:
        parents: The parents' weights, in the order given; the ancestor's last when it is no parent itself.
        ancestor: Id of the common ancestor, or None when the parents were set against each other alone.
        scale: Common factor of the combination: 1 for a linear merge.
        unexplained: Share of the energy of the suspect's difference from the ancestor (without one: from the nearest
            parent) that no combination of the parents explains, each matrix fitted on its own; None when nothing could
            be fitted.
        rounding: Share that rounding to the stored precision explains.
        structure: What the unexplained part looks like: ``rounding``, ``sparse``, ``low-rank`` or ``dense``.
        style: ``linear``, ``slerp``, ``dare`` or ``ties``, a hint; None when it cannot be told.
        uneven: Whether the weights differ between layers.
        still: Share of the resolved elements at which the suspect equals the ancestor; None without one.
        resolved: Share of all elements at which the models differ by enough steps of the storage type to count.
        reason: Why a weight is missing, a plain phrase; None when all were estimated.
    """

    parents: tuple[ParentWeight, ...]
    ancestor: str | None
    scale: MatrixEffect = NOTHING
    unexplained: float | None = None
    rounding: float = 0.0
    structure: str | None = None
    style: str | None = None
    uneven: bool = False
    still: float | None = None
    resolved: float = 0.0
    reason: str | None = None


def merge_weights(
    suspect: Member,
    parents: Sequence[Member],
    ancestor: Member | None = None,
    *,
    seed: int = 0,
    limit: int | None = None,
) -> MergeFit:
    """Read the family and estimate the weights of a merge.

    Args:
        suspect: The merged model.
        parents: The declared parents, one or more.
        ancestor: Their common ancestor; may be one of the parents. None when it is not known.
        seed: Seed of the draw of units.
        limit: Bytes that may be read of each model, or None for the default of
            :func:`~lineage_plugin.evidence.family_read.read_family`.

    Returns:
        The fit. Where the structures differ or there is nothing to read, its weights are unknown and ``reason`` says
        why.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    ids = [parent.id for parent in parents]
    others = [p for p in parents if ancestor is None or p.id != ancestor.id]
    members = [suspect, *others, *([ancestor] if ancestor is not None else [])]
    mismatch = family_mismatch(members) if len(members) > 2 else "there is nothing to weigh one parent against"
    if mismatch is not None:
        return _unknown(ids, ancestor.id if ancestor is not None else None, mismatch)
    # Many small products: BLAS threads would only wait for each other.
    with threadpool_limits(limits=1):
        read = [moments(block) for block in read_family(members, seed=seed, limit=limit)]
    return fit_merge(read, [member.id for member in members[1:]], ancestor=ancestor is not None, order=ids)


def fit_merge(
    matrices: Iterable[Moments], models: Sequence[str], *, ancestor: bool, order: Sequence[str] | None = None
) -> MergeFit:
    """Estimate the weights of a merge from second moments.

    Args:
        matrices: The matrices, blocks having held the suspect, then ``models``.
        models: Ids of the parents, the ancestor last when there is one.
        ancestor: Whether the last of the models is the ancestor.
        order: Ids to report, in this order; an ancestor among them is a parent itself. None for all of ``models``.

    Returns:
        The fit.
    """
    named = models[-1] if ancestor else None
    wanted = list(order) if order is not None else list(models)
    shown = [*wanted, *([named] if named is not None and named not in wanted else [])]
    usable = [m for m in matrices if m.resolved > 0 and _spread(m) > 0.0]
    elements, resolved = sum(m.elements for m in usable), sum(m.resolved for m in usable)
    if resolved < LEAST_RESOLVED:
        return _unknown(shown, named, "the models differ by too few steps of their storage type to be told apart")
    factors = [m.resolved / _spread(m) for m in usable]
    grams = [m.gram * factor for m, factor in zip(usable, factors, strict=True)]
    total = np.sum([gram.sum(axis=0) for gram in grams], axis=0)
    reason = _confounded(total, models)
    if reason is not None:
        return _unknown(shown, named, reason)
    found = combine(grams)
    left = sum(m.residual * factor for m, factor in zip(usable, factors, strict=True))
    rounding = sum(m.rounding * factor for m, factor in zip(usable, factors, strict=True))
    energy = _distance(total, ancestor=ancestor)
    to_rounding = left <= ROUNDING_SLACK * rounding + FLOAT_NOISE * float(total[0, 0])
    pair = len(models) == 2 or (ancestor and len(models) == 3)
    arc = _arc(usable, found) if to_rounding and pair else None
    style = ("slerp" if arc is not None else "linear") if to_rounding else _dropped(usable) if ancestor else None
    layers = sorted({m.layer for m in usable})
    by_layer = [combine([g for g, m in zip(grams, usable, strict=True) if m.layer == layer]) for layer in layers]
    weights = {
        name: ParentWeight(
            name,
            _on_arc(found[place], arc),
            tuple((layer, _on_arc(of[place], arc)) for layer, of in zip(layers, by_layer, strict=True)),
        )
        for place, name in enumerate(models)
    }
    return MergeFit(
        parents=tuple(weights[name] for name in shown if name in weights),
        ancestor=named,
        scale=found[-1],
        unexplained=min(1.0, left / energy) if energy > 0.0 else 0.0,
        rounding=rounding / energy if energy > 0.0 else 0.0,
        structure="rounding" if to_rounding else "sparse" if style is not None else _structure(usable, factors),
        style=style,
        uneven=any(_is_uneven(weight.layers) for weight in weights.values()),
        still=sum(m.still for m in usable) / resolved if ancestor else None,
        resolved=resolved / elements,
    )


def _unknown(ids: Sequence[str], ancestor: str | None, reason: str) -> MergeFit:
    return MergeFit(tuple(ParentWeight(name, NOTHING) for name in ids), ancestor, reason=reason)


def _spread(matrix: Moments) -> float:
    """Return the energy of the differences between the models other than the suspect."""
    return float(np.trace(matrix.gram.sum(axis=0)[1:-1, 1:-1]))


def _confounded(total: Float64Array, models: Sequence[str]) -> str | None:
    """Say why the weights are not determined, or None when they are."""
    # Distances between all models, the reference standing at the origin.
    inner = np.zeros((len(models), len(models)))
    inner[:-1, :-1] = total[1:-1, 1:-1]
    own = np.diag(inner)
    apart = own[:, None] + own - 2.0 * inner
    same = np.argwhere(np.triu(apart <= SINGULAR * own.max(), 1))
    if same.size:
        one, other = (models[i] for i in same[0])
        return f"{one} and {other} hold the same weights"
    spread = np.sqrt(np.diag(total)[1:])
    if not (spread > 0.0).all() or np.linalg.eigvalsh(total[1:, 1:] / spread[:, None] / spread)[0] < SINGULAR:
        return "one of the parents is itself a combination of the others"
    return None


def _distance(total: Float64Array, *, ancestor: bool) -> float:
    """Return the energy of the suspect's difference from the ancestor, or from the nearest parent."""
    from_reference = float(total[0, 0])
    if ancestor:
        return from_reference
    return min(from_reference, float((total[0, 0] + np.diag(total)[1:-1] - 2.0 * total[0, 1:-1]).min()))


def _arc(matrices: Sequence[Moments], found: Sequence[MatrixEffect]) -> float | None:
    """Return the angle between the two parents when the scale is that of a spherical interpolation, else None.

    SLERP at t puts sin((1-t)a)/sin(a) and sin(ta)/sin(a) on parents at the angle a (Shoemake 1985,
    doi:10.1145/325165.325242). When a is so small that both scales lie in the interval, linear and spherical
    interpolation are the same thing.
    """
    scale, weight = found[-1], found[1].estimate
    if scale.estimate is None or scale.high is None or weight is None or not 0.0 < weight < 1.0:
        return None
    angles, mass = [], []
    for matrix in matrices:
        first, cross, second = matrix.parents[0, 0], matrix.parents[0, 1], matrix.parents[1, 1]
        if first > 0.0 < second:
            angles.append(math.acos(min(1.0, max(-1.0, cross / math.sqrt(first * second)))))
            mass.append(float(matrix.gram[:, -1, -1].sum()) * matrix.resolved / _spread(matrix))
    angle = np.array(angles)
    curved = (angle > 1e-6) & (angle < math.pi - 1e-3)
    if not curved.any():
        return None
    place = _along(weight, angle)
    ratio = (np.sin((1.0 - place) * angle) + np.sin(place * angle)) / np.where(curved, np.sin(angle), 1.0)
    expected = float(np.average(np.where(curved, ratio, 1.0), weights=mass))
    reach = scale.high - scale.estimate
    close = abs(scale.estimate - expected) <= max(reach, 0.15 * abs(expected - 1.0))
    return float(angle.mean()) if close and abs(scale.estimate - 1.0) > reach else None


def _along(weight: float, angle: Float64Array) -> Float64Array:
    """Return the place on the arc, 0 to 1, at which the chord is divided by this weight."""
    place: Float64Array = np.arctan2(weight * np.sin(angle), 1.0 - weight + weight * np.cos(angle)) / angle
    return place


def _on_arc(weight: MatrixEffect, arc: float | None) -> MatrixEffect:
    if arc is None or weight.estimate is None or weight.low is None or weight.high is None:
        return weight
    return MatrixEffect(*(float(_along(value, np.array(arc))) for value in (weight.estimate, weight.low, weight.high)))


def _dropped(matrices: Sequence[Moments]) -> str | None:
    """Return the style of merging that leaves the ancestor's elements standing: ``dare``, ``ties``, or None."""
    count, resolved = sum(m.still for m in matrices), sum(m.resolved for m in matrices)
    if count < SPARSE * resolved:
        return None
    share = sum(m.still_energy * m.resolved for m in matrices) / count
    return "ties" if share < BY_SIZE else "dare"


def _structure(matrices: Sequence[Moments], factors: Sequence[float]) -> str:
    energy = np.array([m.residual * factor for m, factor in zip(matrices, factors, strict=True)])
    share = np.array([m.concentrated for m in matrices])
    usable = np.isfinite(share) & (energy > 0.0)
    if not usable.any():
        return "dense"
    return "low-rank" if float(np.average(share[usable], weights=energy[usable])) >= LOW_RANK else "dense"


def _is_uneven(layers: Sequence[tuple[int, MatrixEffect]]) -> bool:
    known = [
        (effect.estimate, effect.low, effect.high)
        for _, effect in layers
        if effect.estimate is not None and effect.low is not None and effect.high is not None
    ]
    if len(known) < 2:
        return False
    least, most = min(known), max(known)
    return most[0] - least[0] > UNEVEN and most[1] > least[2]
