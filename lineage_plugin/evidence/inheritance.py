r"""Derived, or only the same seed: does the shared energy follow what the base *learned*?

Two runs from one initialisation share the raw random draw and nothing else; a descendant shares what its base learned,
too. Training makes some rows of a matrix much larger than others, while an initialisation gives all rows about the same
energy. So along the rows :math:`r` of a matrix the shared energy :math:`\langle A_r, B_r\rangle` grows in proportion to
:math:`|B_r|^2` for a descendant and hardly at all for a shared draw. The *row-energy slope* is the elasticity
:math:`\beta` in

.. math::

    \mathrm{E}\langle A_r, B_r\rangle = \exp(\alpha_m + \beta \log |B_r|^2)

with one intercept :math:`\alpha_m` a matrix, fitted by Poisson pseudo maximum likelihood, which, unlike a regression of
logarithms, stays consistent when the noise changes with the energy and needs no positive left side (Santos Silva &
Tenreyro 2006, doi:10.1162/rest.88.4.641).

A random draw of :math:`d` Gaussian numbers has by itself a spread :math:`v = 2/d` (a variance) of the log energy, which
a twin shares with slope 1. With :math:`V` the spread found, the slope along the *learned* spread is

.. math::  \beta_L = (\beta V - v) / (V - v).

Descent has :math:`\beta_L = 1` whatever :math:`v` is; a base whose rows are no more unequal than a random draw
(:math:`V` not above :math:`v`: hardly trained) has none, and nothing can be told. The interval is a percentile
bootstrap over units within matrices (Efron & Tibshirani 1993, ch. 13).

Only exchangeable units are looked at. The energy of a rotary pair follows its frequency, which is fixed from outside:
twins agree on it, and their slope would come out as 1 (measured: 1.05 and 1.14).

The *inheritance curve* shows the same along the base's singular directions: with :math:`B = \sum_r s_r u_r v_r^T`, the
coefficient :math:`c_r = u_r^T A v_r / s_r` is flat for a descendant and falls at the strongest directions, the learned
ones, for a shared draw. Its *contrast* is the coefficient of the strongest tenth over that of the weaker half.

Slope and contrast are calibrated evidence, not exact: which values occur was measured on trained models
(``docs/method.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.sample import Sample

__all__ = [
    "Curve",
    "Descent",
    "Grams",
    "RowEnergies",
    "descent",
    "grams",
    "inheritance_curve",
    "row_energies",
    "slope_interval",
]

Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

BOOTSTRAPS = 200
ROW_LIMIT = 4000
"""Rows used for the slope; more would narrow an interval that layers, not rows, limit."""
BINS = 10
CURVE_LEAST = 16
CURVE_UNITS = 128
CURVE_MATRICES = 24


@dataclass(frozen=True, eq=False, slots=True)
class RowEnergies:
    """Shared and own energy of the sampled rows of one matrix.

    Attributes:
        shared: ``[rows]`` products ``<A_r, B_r>``.
        base: ``[rows]`` energies ``|B_r|^2``, positive.
        suspect: ``[rows]`` energies ``|A_r|^2``, positive.
        dim: Elements of a row.
    """

    shared: Float64Array
    base: Float64Array
    suspect: Float64Array
    dim: int

    def exchanged(self) -> RowEnergies:
        """Return the same with the roles of the two models exchanged."""
        return RowEnergies(self.shared, self.suspect, self.base, self.dim)


def row_energies(sample: Sample) -> list[RowEnergies]:
    """Return the row energies of each matrix of a sample, leaving out zero rows and values that are not finite."""
    result = []
    for a, b in zip(sample.suspect, sample.base, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            shared = np.einsum("ud,ud->u", a, b, dtype=np.float64)
            base = np.einsum("ud,ud->u", b, b, dtype=np.float64)
            suspect = np.einsum("ud,ud->u", a, a, dtype=np.float64)
        usable = np.isfinite(shared) & np.isfinite(base) & (base > 0) & np.isfinite(suspect) & (suspect > 0)
        result.append(RowEnergies(shared[usable], base[usable], suspect[usable], b.shape[1]))
    return result


def slope_interval(matrices: Sequence[RowEnergies], seed: int) -> tuple[float | None, float | None, float | None]:
    """Return the row-energy slope and its 95% bootstrap interval.

    Args:
        matrices: Row energies of several matrices; those of fewer than four rows, or whose shared energies do not sum
            to a positive number, say nothing about the slope and are left out.
        seed: Seed of the bootstrap.

    Returns:
        ``(slope, low, high)`` along the learned spread; all None when no matrix is left, or when the rows of the base
        are no more unequal than those of a random draw.
    """
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 0x51])
    usable = [m for m in matrices if m.shared.shape[0] >= 4 and m.shared.sum() > 0]
    if not usable:
        return None, None, None
    share = min(1.0, ROW_LIMIT / sum(m.shared.shape[0] for m in usable))
    x, y, own, start = [], [], [], []
    position = 0
    for matrix in usable:
        rows = matrix.shared.shape[0]
        chosen = np.sort(rng.permutation(rows)[: max(4, int(rows * share))])
        log_energy = np.log(matrix.base[chosen])
        x.append(log_energy - log_energy.mean())
        # Each matrix is measured in units of its own energy, so that none outweighs the others by its scale.
        y.append(matrix.shared[chosen] / matrix.base[chosen].mean())
        own.append(np.full(chosen.shape[0], 2.0 / matrix.dim))
        start.append(position)
        position += chosen.shape[0]
    rows_x, rows_y, starts = np.concatenate(x), np.concatenate(y), np.asarray(start)
    drawn = float(np.mean(np.concatenate(own)))
    sizes = np.diff([*start, position])
    resampled = np.concatenate(
        [rng.multinomial(size, np.full(size, 1.0 / size), size=BOOTSTRAPS) for size in sizes], axis=1
    ).astype(np.float64)
    slope = float(_learned_slope(rows_x, rows_y, starts, np.ones((1, position)), drawn)[0])
    draws = _learned_slope(rows_x, rows_y, starts, resampled, drawn)
    # A replicate without a learned spread has no slope; the interval must not be narrower for its absence.
    if not np.isfinite(slope) or float(np.mean(np.isfinite(draws))) < 0.975:
        return None, None, None
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return slope, float(low), float(high)


def _learned_slope(
    x: Float64Array, y: Float64Array, starts: IntArray, weights: Float64Array, drawn: float
) -> Float64Array:
    """Return the slope along the learned spread for each row of weights; NaN where there is no such spread."""
    mass = np.add.reduceat(weights, starts, axis=1)
    mean = np.add.reduceat(weights * x, starts, axis=1) / mass
    within = np.add.reduceat(weights * x * x, starts, axis=1) - mass * mean**2
    # Degrees of freedom: one mean was fitted a matrix.
    spread = within.sum(axis=1) / np.maximum(mass.sum(axis=1) - starts.shape[0], 1.0)
    slope = _poisson_slope(x, y, starts, weights)
    learned = spread - drawn
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(learned > 0.1 * drawn, (slope * spread - drawn) / learned, np.nan)


def _poisson_slope(x: Float64Array, y: Float64Array, starts: IntArray, weights: Float64Array) -> Float64Array:
    """Return the pseudo-likelihood slope for each row of bootstrap weights.

    With the intercepts profiled out the score is ``sum_m [sum wyx - sum wy * sum wx e^(bx) / sum w e^(bx)]``, which
    falls in ``b`` as long as every matrix has positive ``sum wy``; Newton steps, bounded, find its root.
    """
    beta = np.zeros(weights.shape[0])
    total_y = np.add.reduceat(weights * y, starts, axis=1)
    # A resample without positive shared energy has no likelihood; it drops out of that replicate.
    total_y = np.maximum(total_y, 0.0)
    total_yx = np.add.reduceat(weights * (y * x), starts, axis=1) * (total_y > 0)
    for _ in range(40):
        tilt = weights * np.exp(np.clip(beta[:, None] * x, -60.0, 60.0))
        mass = np.add.reduceat(tilt, starts, axis=1)
        mass = np.where(mass > 0, mass, 1.0)
        mean = np.add.reduceat(tilt * x, starts, axis=1) / mass
        spread = np.add.reduceat(tilt * x * x, starts, axis=1) / mass - mean**2
        score = (total_yx - total_y * mean).sum(axis=1)
        curvature = (total_y * spread).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.clip(np.where(curvature > 0, score / curvature, np.nan), -1.0, 1.0)
        beta = np.clip(beta + step, -20.0, 20.0)
        if not np.any(np.abs(step) > 1e-8):
            break
    return beta


@dataclass(frozen=True, eq=False, slots=True)
class Grams:
    """Inner products between the sampled rows of one matrix: all that the curve needs, and much less than the rows.

    Attributes:
        suspect: ``A A^T``.
        cross: ``A B^T``.
        base: ``B B^T``.
        rank: Number of directions: the lesser of rows and columns.
    """

    suspect: Float64Array
    cross: Float64Array
    base: Float64Array
    rank: int

    def exchanged(self) -> Grams:
        """Return the same with the roles of the two models exchanged."""
        return Grams(self.base, self.cross.T, self.suspect, self.rank)


@dataclass(frozen=True, slots=True)
class Curve:
    """The inheritance curve and its contrast.

    Attributes:
        points: ``(share of directions, coefficient)``, strongest first; the share is counted to the middle of the bin.
        contrast: Coefficient of the strongest tenth over that of the weaker half; None when it has none.
        low: Lower end of its 95% bootstrap interval, over matrices.
        high: Upper end.
    """

    points: tuple[tuple[float, float], ...] = ()
    contrast: float | None = None
    low: float | None = None
    high: float | None = None


NO_CURVE = Curve()


@dataclass(frozen=True, slots=True)
class Descent:
    """Both statistics, for one of the two models in the place of the ancestor.

    Attributes:
        slope: Row-energy slope; None when it could not be estimated.
        low: Lower end of its 95% interval.
        high: Upper end.
        curve: Inheritance curve with its contrast.
    """

    slope: float | None = None
    low: float | None = None
    high: float | None = None
    curve: Curve = NO_CURVE


def descent(matrices: Sequence[Grams], rows: Sequence[RowEnergies], seed: int) -> Descent:
    """Return both statistics, the base of the matrices taken as the ancestor.

    Args:
        matrices: Inner products, for the curve.
        rows: Row energies, for the slope.
        seed: Seed of the bootstraps.

    Returns:
        The statistics.
    """
    return Descent(*slope_interval(rows, seed), inheritance_curve(matrices, seed))


def grams(sample: Sample) -> list[Grams]:
    """Return the inner products of the first units of each matrix of a sample, leaving out small and broken ones."""
    result = []
    for a, b in zip(sample.suspect, sample.base, strict=True):
        if min(b.shape) < CURVE_LEAST:
            continue
        left, right = a[:CURVE_UNITS].astype(np.float64), b[:CURVE_UNITS].astype(np.float64)
        with np.errstate(all="ignore"):
            products = (left @ left.T, left @ right.T, right @ right.T)
        if all(np.isfinite(product).all() and product.any() for product in products):
            result.append(Grams(*products, rank=min(right.shape)))
    return result


def inheritance_curve(matrices: Sequence[Grams], seed: int) -> Curve:
    """Return the coefficient kept along the base's singular directions.

    Nothing rectangular is decomposed: with ``u`` the eigenvectors of ``B B^T``, ``s_r u_r^T A v_r = u_r^T A B^T u_r``.

    Args:
        matrices: Inner products of dependent models; at most 24 of them, evenly spread, are used.
        seed: Seed of the bootstrap.

    Returns:
        The curve; empty when no matrix is large enough.
    """
    shared, own = [], []
    for matrix in matrices[:: max(1, -(-len(matrices) // CURVE_MATRICES))]:
        energy, u = np.linalg.eigh(matrix.base)
        energy, u = np.maximum(energy[::-1][: matrix.rank], 0.0), u[:, ::-1][:, : matrix.rank]
        place = np.arange(matrix.rank) * BINS // matrix.rank
        scale = float(energy.sum())
        shared.append(np.bincount(place, np.einsum("ur,uv,vr->r", u, matrix.cross, u, optimize=True), BINS) / scale)
        own.append(np.bincount(place, energy, BINS) / scale)
    if not shared:
        return Curve()
    numerator, denominator = np.stack(shared), np.stack(own)
    if (denominator.sum(axis=0) <= 0).any():
        return Curve()
    coefficients = numerator.sum(axis=0) / denominator.sum(axis=0)
    points = tuple(((index + 0.5) / BINS, float(value)) for index, value in enumerate(coefficients))
    rng = np.random.default_rng([seed & 0xFFFFFFFF, 0xC0])
    count = numerator.shape[0]
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=BOOTSTRAPS).astype(np.float64)
    draws = _contrast(weights @ numerator, weights @ denominator)
    contrast = float(_contrast(numerator.sum(axis=0, keepdims=True), denominator.sum(axis=0, keepdims=True))[0])
    if count < 4 or not (np.isfinite(draws).all() and np.isfinite(contrast)):
        return Curve(points)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Curve(points, contrast, float(low), float(high))


def _contrast(numerator: Float64Array, denominator: Float64Array) -> Float64Array:
    half = BINS // 2
    strong = numerator[:, 0] / denominator[:, 0]
    weak = numerator[:, half:].sum(axis=1) / denominator[:, half:].sum(axis=1)
    # A weak half that keeps nothing leaves nothing to compare with.
    contrast: Float64Array = np.where(weak > 0, strong / np.where(weak > 0, weak, 1.0), np.nan)
    return contrast
