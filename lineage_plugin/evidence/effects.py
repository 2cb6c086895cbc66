"""How much of the base is left: effect sizes with confidence intervals.

Coins say *whether* two models are dependent; the effects say how much they share. All are built from differences
``a = A_i - A_j`` and ``b = B_i - B_j`` of the two units of a pair, which removes what every unit of a matrix has in
common (independent models agree on column means) and makes each estimate symmetric about zero under the null.
Units without a partner but with a sign symmetry (rotary pairs) stand for themselves.

* share kept: ``sum <a,b> / sum <b,b>``, the coefficient of the suspect on the base;
* the reverse coefficient ``sum <a,b> / sum <a,a>``;
* cosine: ``sum <a,b> / sqrt(sum <a,a> sum <b,b>)``.

The interval of a ratio of sums is the linearised (delta method) one of survey sampling: Cochran, Sampling Techniques
(1977), section 6.3, with pairs as the sampling units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.sample import Sample

__all__ = ["Differences", "MatrixEffect", "cosine", "differences", "ratio_interval"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]

Z95 = 1.959963984540054
"""Two-sided 95% point of the normal law."""


@dataclass(frozen=True, eq=False, slots=True)
class Differences:
    """Second moments of the pair differences of one matrix.

    Attributes:
        suspect_layer: Layer in the suspect.
        base_layer: Layer in the base.
        cross: ``[pairs]`` products ``<a, b>``.
        suspect: ``[pairs]`` energies ``<a, a>``.
        base: ``[pairs]`` energies ``<b, b>``.
    """

    suspect_layer: int
    base_layer: int
    cross: Float64Array
    suspect: Float64Array
    base: Float64Array


@dataclass(frozen=True, slots=True)
class MatrixEffect:
    """A ratio of sums with its 95% interval; None when there is nothing to divide by."""

    estimate: float | None
    low: float | None
    high: float | None


def differences(sample: Sample) -> list[Differences]:
    """Return the pair differences of each matrix of a sample, leaving out values that are not finite."""
    probe = sample.probe
    result = []
    for a, b, is_odd in zip(sample.suspect, sample.base, sample.odd, strict=True):
        if sample.pairs.shape[0]:
            i, j = sample.pairs[:, 0], sample.pairs[:, 1]
            with np.errstate(invalid="ignore"):
                left, right = a[i].astype(np.float64) - a[j], b[i].astype(np.float64) - b[j]
        elif is_odd:
            left, right = a.astype(np.float64), b.astype(np.float64)
        else:
            continue
        with np.errstate(invalid="ignore", over="ignore"):
            cross = np.einsum("pd,pd->p", left, right)
            own = np.einsum("pd,pd->p", left, left)
            other = np.einsum("pd,pd->p", right, right)
        usable = np.isfinite(cross) & np.isfinite(own) & np.isfinite(other)
        result.append(Differences(probe.suspect.layer, probe.base.layer, cross[usable], own[usable], other[usable]))
    return result


def ratio_interval(numerator: Float64Array, denominator: Float64Array) -> MatrixEffect:
    """Return ``sum(numerator) / sum(denominator)`` with its linearised 95% interval.

    Args:
        numerator: ``[n]``.
        denominator: ``[n]``, not negative.

    Returns:
        The ratio and its interval; all None when the denominators sum to zero or there are fewer than two terms.
    """
    total = float(denominator.sum())
    count = numerator.shape[0]
    if count < 2 or total <= 0.0 or not math.isfinite(total):
        return MatrixEffect(None, None, None)
    ratio = float(numerator.sum()) / total
    residual = numerator - ratio * denominator
    error = math.sqrt(count / (count - 1) * float(residual @ residual)) / total
    return MatrixEffect(ratio, ratio - Z95 * error, ratio + Z95 * error)


def cosine(parts: Sequence[Differences]) -> float:
    """Return the cosine of the pair differences of some matrices taken together; 0 when one side is zero.

    Each matrix counts alike, whatever its scale: the mean over matrices of their cosines, weighted by their pairs.
    """
    weighted, weight = 0.0, 0
    for part in parts:
        scale = math.sqrt(float(part.suspect.sum())) * math.sqrt(float(part.base.sum()))
        if scale > 0.0:
            weighted += part.cross.shape[0] * float(part.cross.sum()) / scale
            weight += part.cross.shape[0]
    return weighted / weight if weight else 0.0
