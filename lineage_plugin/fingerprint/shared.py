r"""What two fingerprints share: the statistics of ``evidence/inheritance.py`` and ``effects.py``, from their bits.

The inner product of two vectors is estimated as :math:`|a|\,|b|\,\hat c` with lengths from the fingerprints and
:math:`\hat c` the unbiased estimate of the cosine from sign bits
(:func:`lineage_plugin.fingerprint.bits.cosine_table`). The noise of the bits does not depend on which model is the
ancestor and averages out over units. It enters the intervals by itself, since these are taken from the scatter of the
estimates. Lengths are rounded to 1/255 of their spread, which adds less than 0.0002 of the variance of their
logarithms: too little to matter.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.effects import Z95
from lineage_plugin.evidence.inheritance import Curve, Descent
from lineage_plugin.fingerprint.bits import cosine_table, dots
from lineage_plugin.fingerprint.coins import tiles
from lineage_plugin.fingerprint.plan import axes_units
from lineage_plugin.fingerprint.sketch import TILE
from lineage_plugin.fingerprint.types import Strip

__all__ = ["Moments", "Products", "curve", "descent", "pair_moments", "products", "slope_interval"]

Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

BOOTSTRAPS = 200
_MOST_LOG2 = 300.0
"""Size of the base-2 logarithm of a squared length: the squares of 2^31 float32 numbers are from 2^-298 to 2^287."""
LEAST_MATRICES = 4
"""Matrices from which the contrast has an interval."""


@dataclass(frozen=True, eq=False, slots=True)
class Products:
    """Estimated inner products between the measured units of one role, tile by tile.

    Attributes:
        cross: ``[layers, tiles, 16, 16]`` products of the suspect's units (first) with the base's; NaN where unknown.
        suspect: ``[layers, units]`` energies.
        base: The same of the base.
        suspect_pairs: ``[layers, units / 2]`` products of the two units of a pair within the suspect.
        base_pairs: The same within the base.
        dim: Elements of a vector.
        suspect_own: ``[layers, 16, 16]`` the suspect's first units with each other, estimated from the same bits.
        base_own: The same of the base.
        alike: ``[layers]`` share of the noise of ``base_own`` that is in ``cross``, too.
    """

    cross: Float64Array
    suspect: Float64Array
    base: Float64Array
    suspect_pairs: Float64Array
    base_pairs: Float64Array
    dim: int
    suspect_own: Float64Array
    base_own: Float64Array
    alike: Float64Array

    def exchanged(self) -> Products:
        """Return the same with the roles of the two models exchanged."""
        return Products(
            self.cross.swapaxes(-1, -2),
            self.base,
            self.suspect,
            self.base_pairs,
            self.suspect_pairs,
            self.dim,
            self.base_own,
            self.suspect_own,
            self.alike,
        )

    @property
    def own(self) -> Float64Array:
        """``[layers, units]`` products of units of equal number."""
        same: Float64Array = np.diagonal(self.cross, axis1=-2, axis2=-1).reshape(self.cross.shape[0], -1)
        return same[:, : self.base.shape[1]]


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Second moments of pair differences, ``[layers, pairs]`` each; 0 where a pair is not usable.

    Attributes:
        cross: Products of the suspect's and the base's difference.
        suspect: Energies of the suspect's.
        base: Energies of the base's.
        usable: Which pairs count.
    """

    cross: Float64Array
    suspect: Float64Array
    base: Float64Array
    usable: BoolArray

    def cosines(self) -> Float64Array:
        """Return the cosine of each pair; 0 where one of its energies is not positive, as noise can make it."""
        scale = np.sqrt(np.maximum(self.suspect, 0.0) * np.maximum(self.base, 0.0))
        cosine: Float64Array = np.where(scale > 0, self.cross / np.where(scale > 0, scale, 1.0), 0.0)
        return cosine

    def layer_cosines(self) -> tuple[Float64Array, IntArray]:
        """Return for each layer the cosine of all its pairs together, and how many they are."""
        scale = np.sqrt(np.maximum(self.suspect.sum(axis=1), 0.0) * np.maximum(self.base.sum(axis=1), 0.0))
        cosine: Float64Array = np.where(scale > 0, self.cross.sum(axis=1) / np.where(scale > 0, scale, 1.0), 0.0)
        return cosine, np.where(scale > 0, self.usable.sum(axis=1), 0)


def products(agreement: IntArray, bits: int, suspect: tuple[Strip, IntArray], base: tuple[Strip, IntArray]) -> Products:
    """Estimate the inner products of the units whose lengths both fingerprints have.

    Args:
        agreement: ``[layers, tiles, 16, 16]`` agreements less disagreements, suspect's units first.
        bits: Number of bits compared.
        suspect: A strip, and the positions of its layers.
        base: The same of the base.

    Returns:
        The products.
    """
    units = min(suspect[0].energy.shape[1], base[0].energy.shape[1])
    units -= units % 2
    held = -(-units // TILE)
    log_a, log_b = (_known(strip.energy[at, :units]) for strip, at in (suspect, base))
    length_a, length_b = (tiles(np.exp2(log / 2), np.nan) for log in (log_a, log_b))
    table = cosine_table(bits)
    cosine = table[(agreement[:, :held] + bits) // 2]
    pairs = [
        table[(dots(strip.bits[at, 0:units:2, : bits // 8], strip.bits[at, 1:units:2, : bits // 8]) + bits) // 2]
        * np.exp2((log[:, ::2] + log[:, 1::2]) / 2)
        for (strip, at), log in zip((suspect, base), (log_a, log_b), strict=True)
    ]
    owns = []
    for (strip, at), length in zip((suspect, base), (length_a, length_b), strict=True):
        first = strip.bits[at, : min(TILE, held * TILE), : bits // 8]
        size = length.reshape(at.shape[0], -1)[:, : first.shape[1]]
        owns.append(table[(dots(first[:, :, None], first[:, None]) + bits) // 2] * size[:, :, None] * size[:, None])
    return Products(
        cross=cosine * length_a[..., :, None] * length_b[..., None, :],
        suspect=np.exp2(log_a),
        base=np.exp2(log_b),
        suspect_pairs=pairs[0],
        base_pairs=pairs[1],
        dim=base[0].dim,
        suspect_own=owns[0],
        base_own=owns[1],
        alike=np.diagonal(agreement[:, 0], axis1=-2, axis2=-1)[:, :units].sum(axis=1) / (max(units, 1) * bits),
    )


def _known(energy: NDArray[np.float32]) -> Float64Array:
    """Return logarithms of energies, NaN for those that no vector of float32 numbers has: strangers write anything."""
    log = energy.astype(np.float64)
    return np.where(np.abs(log) <= _MOST_LOG2, log, np.nan)


def pair_moments(found: Products, block: int) -> Moments:
    """Return second moments of the pair differences, see :mod:`lineage_plugin.evidence.effects`.

    Args:
        found: The products of one role, whose units may change places.
        block: Neighbouring units that may.

    Returns:
        The moments.
    """
    left, right = slice(0, None, 2), slice(1, None, 2)
    own = found.own
    count = own.shape[1] // 2
    cross = own[:, left] + own[:, right]
    for one, other in ((left, right), (right, left)):
        apart = np.diagonal(found.cross[..., one, other], axis1=-2, axis2=-1)
        cross = cross - apart.reshape(own.shape[0], -1)[:, :count]
    suspect = found.suspect[:, left] + found.suspect[:, right] - 2 * found.suspect_pairs
    base = found.base[:, left] + found.base[:, right] - 2 * found.base_pairs
    even = 2 * np.arange(count)
    usable = np.isfinite(cross + suspect + base) & (even // block == (even + 1) // block)
    cross, suspect, base = (np.where(usable, part, 0.0) for part in (cross, suspect, base))
    return Moments(cross, suspect, base, usable)


def descent(
    rows: Sequence[Products], chosen: Sequence[BoolArray], strips: Sequence[tuple[Strip, IntArray]], seed: int
) -> Descent:
    """Return slope and contrast, the base of the products taken as the ancestor.

    Args:
        rows: The products, one a role.
        chosen: ``[layers]`` which layers share something, one a role.
        strips: The base's strips and the positions of their layers.
        seed: Seed of the bootstrap.

    Returns:
        The statistics.
    """
    return Descent(*slope_interval(rows, chosen), curve(rows, chosen, strips, seed))


def slope_interval(
    rows: Sequence[Products], chosen: Sequence[BoolArray]
) -> tuple[float | None, float | None, float | None]:
    r"""Return the row-energy slope along the learned spread, with a 95% interval.

    The estimate is that of :mod:`lineage_plugin.evidence.inheritance`: Poisson pseudo maximum likelihood with one
    intercept a matrix, then the random spread taken out. The interval is that of the influence function (the sandwich
    of Huber 1967; White 1982), units being the clusters: slope and spread are functionals of the same rows, so the
    influence on the learned slope is the sum of both influences by the chain rule.

    Args:
        rows: The products.
        chosen: Which layers of each take part.

    Returns:
        ``(slope, low, high)``; all None when the rows of the base are no more unequal than those of a random draw.
    """
    xs, ys, groups, drawn = [], [], [], []
    count = 0
    for found, layers in zip(rows, chosen, strict=True):
        shared, energy = found.own[layers], found.base[layers]
        usable = np.isfinite(shared) & np.isfinite(energy) & (energy > 0)
        total = np.where(usable, shared, 0.0).sum(axis=1)
        kept = (usable.sum(axis=1) >= 4) & (total > 0)
        usable &= kept[:, None]
        at = np.broadcast_to((count + np.cumsum(kept) - 1)[:, None], usable.shape)
        groups.append(at[usable])
        xs.append(np.log(energy[usable]))
        ys.append(shared[usable])
        drawn.append(np.full(int(usable.sum()), 2.0 / found.dim))
        count += int(kept.sum())
    if not count:
        return None, None, None
    group, x, y = np.concatenate(groups), np.concatenate(xs), np.concatenate(ys)
    size = np.bincount(group, minlength=count)
    # Each matrix is measured in units of its own energy, so that none outweighs the others by its scale.
    y = y / (np.bincount(group, np.exp(x)) / size)[group]
    x = x - (np.bincount(group, x) / size)[group]
    slope, influence = _poisson(x, y, group)
    if slope is None:
        return None, None, None
    freedom = max(x.shape[0] - count, 1)
    spread = float((x**2).sum()) / freedom
    random = float(np.mean(np.concatenate(drawn)))
    learned = spread - random
    if not learned > 0.1 * random:
        return None, None, None
    value = (slope * spread - random) / learned
    on_spread = (x**2 - spread * (1 - 1 / size[group])) / freedom
    effect = influence * spread / learned + on_spread * (slope - value) / learned
    half = Z95 * float(np.sqrt((effect**2).sum()))
    return value, value - half, value + half


def _poisson(x: Float64Array, y: Float64Array, group: IntArray) -> tuple[float | None, Float64Array]:
    """Return the pseudo-likelihood slope with one intercept a group, and the influence of each row on it."""
    total = np.bincount(group, y)
    along = float((y * x).sum())
    beta = 0.0
    for _ in range(40):
        tilt = np.exp(np.clip(beta * x, -60.0, 60.0))
        mass = np.bincount(group, tilt)
        mean = np.bincount(group, tilt * x) / mass
        curvature = float((total * (np.bincount(group, tilt * x * x) / mass - mean**2)).sum())
        if not curvature > 0:
            return None, x
        step = float(np.clip((along - float((total * mean).sum())) / curvature, -1.0, 1.0))
        beta = float(np.clip(beta + step, -20.0, 20.0))
        if abs(step) < 1e-9:
            break
    fitted = (total / mass)[group] * tilt
    return beta, (y - fitted) * (x - mean[group]) / curvature


def curve(
    rows: Sequence[Products], chosen: Sequence[BoolArray], strips: Sequence[tuple[Strip, IntArray]], seed: int
) -> Curve:
    """Return what is kept along the base's strongest directions, and along all others.

    The directions are those of the base's own rows, known exactly but for a rounding of 1/254; only the products with
    the suspect are estimated. The contrast is the coefficient of the strongest eighth of the directions over that of
    the remainder.

    Args:
        rows: The products.
        chosen: Which layers take part.
        strips: The base's strips and the positions of their layers.
        seed: Seed of the bootstrap over matrices.

    Returns:
        The curve; empty when no matrix has enough units.
    """
    parts, share = [], 0.0
    for found, layers, (strip, at) in zip(rows, chosen, strips, strict=True):
        units = axes_units(strip.bits.shape[1])
        if not strip.axes.size or found.base.shape[1] < units:
            continue
        share = strip.axes.shape[2] / units
        axes, strength = strip.axes[at, :units].astype(np.float64), strip.strength[at].astype(np.float64).sum(axis=1)
        length = np.sqrt((axes**2).sum(axis=1, keepdims=True))
        axes = axes / np.where(length > 0, length, np.nan)
        cross, energy = found.cross[:, 0, :units, :units], found.base[:, :units].sum(axis=1)
        strong = np.einsum("lua,luv,lva->l", axes, cross, axes)
        # Bits that misjudge products of the base's own units, whose strength is known, misjudge the suspect's alike.
        own = np.einsum("lua,luv,lva->l", axes, found.base_own[:, :units, :units], axes)
        alike = np.clip(found.alike.mean(), 0.0, 1.0) * np.sqrt(found.suspect[:, :units].sum(axis=1) / energy)
        strong = strong - alike * (own - strength)
        whole = np.einsum("luu->l", cross)
        table = np.stack([strong, strength, whole - strong, energy - strength], axis=1) / energy[:, None]
        parts.append(table[layers & np.isfinite(table).all(axis=1)])
    table = np.concatenate(parts) if parts else np.zeros((0, 4))
    if not table.shape[0]:
        return Curve()
    total = table.sum(axis=0)
    if not (total[[1, 3]] > 0).all():
        return Curve()
    points = ((share / 2, float(total[0] / total[1])), ((1 + share) / 2, float(total[2] / total[3])))
    count = table.shape[0]
    draws, contrast = _contrast(_resampling(seed, count) @ table), float(_contrast(total[None])[0])
    if count < LEAST_MATRICES or not (np.isfinite(draws).all() and np.isfinite(contrast)):
        return Curve(points)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Curve(points, contrast, float(low), float(high))


@functools.lru_cache(maxsize=64)
def _resampling(seed: int, count: int) -> Float64Array:
    """Return how often each matrix is drawn in each replicate, ``[replicates, matrices]``: the same in every run."""
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 0xC0])
    return rng.multinomial(count, np.full(count, 1.0 / count), size=BOOTSTRAPS).astype(np.float64)


def _contrast(table: Float64Array) -> Float64Array:
    # A replicate may have drawn nothing of one kind.
    with np.errstate(divide="ignore", invalid="ignore"):
        strong, rest = table[:, 0] / table[:, 1], table[:, 2] / table[:, 3]
    # A remainder that keeps nothing leaves nothing to compare with.
    contrast: Float64Array = np.where(rest > 0, strong / np.where(rest > 0, rest, 1.0), np.nan)
    return contrast
