"""From traits of the weights, never from names, to the kind of derivation.

Several traits may hold at once. The kind is then the one that says most about where the weights come from, in this
order, and the sentence names the others:

1. ``merge``: weights of several parents;
2. ``upcycled``: experts made of a dense layer;
3. ``upscaled``: more layers, or wider ones, than the base has;
4. ``pruned``: layers or units left out, or weights set to zero;
5. ``partial``: layers that do not come from the base;
6. ``quantized``: a grid, or a narrower storage type, that the base does not have;
7. ``adapter``: a difference of low rank;
8. ``finetune``: none of these.

A change of structure comes before quantisation, for a quantised copy promises the base's function in fewer bits, and a
model of other depth is a quantised copy of something else. Quantisation comes before adapters, which it hides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.grid import Grid
from lineage_plugin.evidence.lowrank import LowRank

__all__ = ["Facts", "dead_units", "kind_of", "semi_structured", "sparsity"]

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

_CHANCE = -12.0
"""Decimal logarithm of the chance from which a pattern of zeros is no accident."""
_SPARSE = 0.05
"""Share of zeros beyond the base's from which weights count as pruned."""
_SPARSE_GRID = 0.2
"""The same beyond the zeros that a grid itself makes, which are known for a normal law only."""
_SPARSE_PACKED = 0.6
"""Share of zeros from which packed weights count as pruned: two bits leave about half."""
_ON_GRID = 0.5
"""Share of the matrices that must lie on a grid; embeddings, heads and routers are commonly left as they are."""
_BEYOND = 3.0
"""Change over that of quantisation alone from which the weights were also trained; error-correcting quantisers move
weights by up to about twice the rounding."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about a suspect that shares weights with the base.

    Attributes:
        compared: Matrices that were compared; with none, no kind is given.
        parents: Parents with a weight that is not zero, the base included.
        experts_from_dense: Whether experts descend from a dense layer of the base.
        layers: Layers of the suspect.
        base_layers: Layers of the base.
        repeated: Layers of the base that stand in the suspect more than once.
        dropped: Layers of the base that stand nowhere in the suspect.
        without_trace: Names of the suspect's layers that show no trace of the base.
        units_kept: Hidden units of the suspect's layers over the base's: below 1 when pruned, above when widened.
        width_kept: The same for the residual stream.
        grids: For each matrix looked at, the grid that it lies on.
        base_grids: The same for the base.
        narrow_dtype: How the suspect's weights are packed into fewer than 16 bits, where the base's are not packed so.
        base_narrow_dtype: The same of the base, whatever the suspect's are.
        low_rank: The rank of the differences, when low.
        change: Root mean square of the differences, relative to the weights; None when not known.
        rounded: Whether all differences are those of conversion to another storage type.
        zeros: Share of exact zeros in the suspect's matrices.
        base_zeros: The same for the base.
        zero_pattern: ``(n, of)`` when at most ``n`` of each ``of`` neighbours are not zero.
        dead: Units whose weights are all zero in the suspect and not in the base.
    """

    compared: int
    parents: int = 1
    experts_from_dense: bool = False
    layers: int | None = None
    base_layers: int | None = None
    repeated: int = 0
    dropped: int = 0
    without_trace: tuple[str, ...] = ()
    units_kept: float = 1.0
    width_kept: float = 1.0
    grids: tuple[Grid | None, ...] = ()
    base_grids: tuple[Grid | None, ...] = ()
    narrow_dtype: str | None = None
    base_narrow_dtype: str | None = None
    low_rank: LowRank | None = None
    change: float | None = None
    rounded: bool = False
    zeros: float = 0.0
    base_zeros: float = 0.0
    zero_pattern: tuple[int, int] | None = None
    dead: int = 0


def sparsity(rows: FloatArray) -> float:
    """Return the share of exact zeros, of either sign; 0 for an empty array."""
    return float(np.mean(rows == 0)) if rows.size else 0.0


def dead_units(rows: FloatArray) -> BoolArray:
    """Return which rows of ``[m, d]`` are zero throughout."""
    dead: BoolArray = (rows == 0).all(axis=1)
    return dead


def semi_structured(rows: FloatArray) -> tuple[int, int] | None:
    """Return the pattern of semi-structured pruning, ``n`` of ``m`` neighbours kept, such as ``(2, 4)``.

    With a share ``z`` of zeros scattered at random, a group keeps at most ``n`` of ``m`` with a binomial probability;
    the pattern is claimed when all groups doing so is too unlikely for chance (Mishra et al., arXiv:2104.08378).

    Args:
        rows: ``[m, d]`` rows as stored: groups are neighbours along a row.

    Returns:
        The pattern of smallest group, or None.
    """
    alive = rows[~dead_units(rows)]
    if not alive.size:
        return None
    zero = sparsity(alive)
    for kept, of in ((1, 4), (2, 4), (4, 8)):
        whole = alive.shape[1] // of * of
        count = (alive[:, :whole].reshape(-1, of) != 0).sum(axis=1)
        if not count.size or (count > kept).any():
            continue
        chance = sum(math.comb(of, k) * (1 - zero) ** k * zero ** (of - k) for k in range(kept + 1))
        if chance > 0 and count.size * math.log10(min(1.0, chance)) <= _CHANCE:
            return kept, of
    return None


def kind_of(facts: Facts) -> tuple[str | None, str]:
    """Return the kind of derivation and a sentence of why.

    Args:
        facts: What was found out.

    Returns:
        The kind, first in the order of this module that holds, and a sentence that names all that hold; None when
        nothing was compared.
    """
    if facts.compared < 1:
        return None, "no matrix could be compared, so that the kind of derivation is not known"
    found: list[tuple[str, str]] = []
    if facts.parents > 1:
        found.append(("merge", f"weights of {facts.parents} parents"))
    if facts.experts_from_dense:
        found.append(("upcycled", "experts made of the base's dense layers"))
    found += _structure(facts)
    found += _zeros(facts)
    if facts.without_trace and not any(kind == "upscaled" for kind, _ in found):
        found.append(("partial", f"layers without a trace of the base: {', '.join(facts.without_trace)}"))
    found += _narrower(facts)
    if facts.low_rank is not None:
        found.append(("adapter", _adapter(facts.low_rank)))
    if not found and facts.change == 0.0:
        return None, "no value that was read differs from the base's"
    if not found and facts.rounded:
        return None, "the values differ from the base's by no more than conversion to another storage type does"
    if not found and facts.base_narrow_dtype is not None:
        return _of_narrow_base(facts, facts.base_narrow_dtype)
    if not found:
        return (
            "finetune",
            "no mark of pruning, quantisation or a low-rank update; further training, noise or a merge look like this",
        )
    order = ("merge", "upcycled", "upscaled", "pruned", "partial", "quantized", "adapter")
    found.sort(key=lambda one: order.index(one[0]))
    return found[0][0], "; also ".join(reason for _, reason in found)


def _structure(facts: Facts) -> list[tuple[str, str]]:
    found = []
    if facts.layers is not None and facts.base_layers is not None and facts.layers != facts.base_layers:
        counts = f"{facts.layers} layers against the base's {facts.base_layers}"
        if facts.layers > facts.base_layers:
            parts = [f"{facts.repeated} of the base's repeated"] if facts.repeated else []
            parts += [f"without a trace of it: {', '.join(facts.without_trace)}"] if facts.without_trace else []
            found.append(("upscaled", f"{counts}{' (' * bool(parts)}{'; '.join(parts)}{')' * bool(parts)}"))
        else:
            found.append(("pruned", counts))
    elif facts.repeated and facts.dropped:
        found.append(("partial", f"{facts.repeated} layers of the base repeated in place of {facts.dropped} others"))
    for share, what in ((facts.units_kept, "hidden units"), (facts.width_kept, "residual channels")):
        if share < 1.0:
            found.append(("pruned", f"{share:.0%} of the base's {what}"))
        elif share > 1.0:
            found.append(("upscaled", f"{share:.2f} times the base's {what}"))
    return found


def _zeros(facts: Facts) -> list[tuple[str, str]]:
    found = []
    allowed = facts.base_zeros + _SPARSE
    coarse = [one for one in facts.grids if one is not None]
    if facts.narrow_dtype is not None:
        # Not every packed matrix has been looked at, and few levels have many zeros among them.
        allowed = max(allowed, _SPARSE_PACKED)
    elif coarse:
        # Coarse levels have a zero among them, which takes erf(step / sqrt(8)) of weights with a normal law.
        share = float(np.mean([0.5 if one.noise is None else math.erf(1.2247 * one.noise) for one in coarse]))
        allowed = max(facts.base_zeros, share) + _SPARSE_GRID
    if facts.zero_pattern is not None:
        n, of = facts.zero_pattern
        found.append(("pruned", f"at most {n} of every {of} neighbouring weights are not zero"))
    elif facts.zeros > allowed:
        before = f" against {facts.base_zeros:.0%} in the base" if facts.base_zeros else ""
        found.append(("pruned", f"{facts.zeros:.0%} of the weights are zero{before}"))
    if facts.dead:
        found.append(("pruned", f"{facts.dead} units are zero throughout that are not in the base"))
    return found


def _of_narrow_base(facts: Facts, packing: str) -> tuple[str | None, str]:
    """Say what became of a base that is itself quantised: unpacked or unrounded, or trained further."""
    noise = [one.noise for one in facts.base_grids if one is not None and one.noise is not None]
    if facts.change is None or not noise:
        return (
            "finetune",
            f"the base is stored as {packing}; its rounding hides whether the weights were trained further",
        )
    if facts.change <= _BEYOND * float(np.median(noise)):
        return None, f"the values differ from the base's by no more than its own rounding does ({packing})"
    return (
        "finetune",
        f"the weights differ by {facts.change:.1%}, more than the rounding of the base ({packing}) explains",
    )


def _narrower(facts: Facts) -> list[tuple[str, str]]:
    found = [one for one in facts.grids if one is not None]
    if facts.narrow_dtype is not None:
        against = f", the base's as {facts.base_narrow_dtype}" if facts.base_narrow_dtype is not None else ""
        return [("quantized", f"the weights are stored as {facts.narrow_dtype}{against}{_trained(facts, found)}")]
    fewest = min((one.bits for one in facts.base_grids if one is not None), default=None)
    if fewest is not None:
        found = [one for one in found if one.bits < fewest]
    if not found or len(found) < _ON_GRID * len(facts.grids):
        return []
    # Matrices may differ in their grids; the commonest one speaks.
    texts: Sequence[str] = [one.text for one in found]
    common = max(dict.fromkeys(texts), key=texts.count)
    reason = f"{len(found)} of {len(facts.grids)} matrices lie on a grid: {common}"
    return [("quantized", reason + _trained(facts, found))]


def _trained(facts: Facts, grids: Sequence[Grid]) -> str:
    """Say whether the weights were trained before they were rounded."""
    noise = [one.noise for one in grids if one.noise is not None]
    if facts.change is not None and noise and facts.change > _BEYOND * float(np.median(noise)):
        return f", and changed by {facts.change:.1%}, more than that rounding explains: trained before"
    return ""


def _adapter(found: LowRank) -> str:
    reason = f"differences are of rank {found.rank} in {found.low} of {len(found.spectra)} matrices: a merged adapter"
    if found.touched and found.untouched:
        reason += f" on {', '.join(found.touched)} ({', '.join(found.untouched)} untouched)"
    return reason
