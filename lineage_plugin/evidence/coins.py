"""The statistics whose signs are the coins.

A coin is heads when its statistic is positive. Under the null hypothesis that the two models were trained from
independent random initialisations, relabelling the units of one model leaves the joint law unchanged and negates the
statistic, so that heads and tails are equally likely whatever the architecture, the data and the recipe
(``docs/method.md``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["cosines", "draw_pairs", "sign_statistics", "swap_statistics"]

TIE = 1e-12
"""Statistics below this are rounding: exact ties of weights on a coarse grid."""

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


def cosines(a: FloatArray, b: FloatArray) -> Float64Array:
    """Return the cosine of each row of ``a`` with the same row of ``b``.

    Args:
        a: ``[units, dim]``.
        b: ``[units, dim]``.

    Returns:
        ``[units]``; 0 where a row is zero, NaN where a row holds a value that is not finite.
    """
    # float64: squares of large float32 values overflow, and sums over 10^4 elements lose digits.
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        dot = np.einsum("ud,ud->u", x, y)
        scale = np.sqrt(np.einsum("ud,ud->u", x, x)) * np.sqrt(np.einsum("ud,ud->u", y, y))
        cosine: Float64Array = np.where(scale == 0.0, 0.0, dot / scale)
    return cosine


def draw_pairs(block: IntArray, seed: Sequence[int]) -> IntArray:
    """Pair units inside their blocks at random.

    The draw looks at labels only, never at weights, so any pairing keeps the coins fair.

    Args:
        block: ``[units]`` labels; only units of equal label are paired.
        seed: Entropy of the draw.

    Returns:
        ``[pairs, 2]`` positions into ``block``; every unit in at most one pair.
    """
    keys = np.random.default_rng(seed).random(block.shape)
    order = np.lexsort(np.stack([keys, block.astype(np.float64)]))
    label = block[order]
    _, first, count = np.unique(label, return_index=True, return_counts=True)
    rank = np.arange(label.shape[0]) - np.repeat(first, count)
    left = np.flatnonzero((rank % 2 == 0) & (rank + 1 < np.repeat(count, count)))
    return np.stack([order[left], order[left + 1]], axis=1).astype(np.int64)


def swap_statistics(
    suspect: Sequence[FloatArray], base: Sequence[FloatArray], odd: Sequence[bool], pairs: IntArray
) -> Float64Array:
    """Return the statistic of each swap coin.

    ``D = f(A_i,B_i) + f(A_j,B_j) - f(A_i,B_j) - f(A_j,B_i)`` with ``f`` the sum over a unit's vectors of their cosine,
    in absolute value where a sign flip of the unit negates the vector: swapping ``i`` and ``j`` in one model negates
    ``D``, flipping signs leaves it alone. The sum is ordered so that it is negated to the last bit.

    A pair with a zero vector on any side has no coin (0, a tie): padding stands in the same place in independent
    models, and a pad against a pad would win every comparison.

    Args:
        suspect: One ``[units, dim]`` array a role.
        base: The same for the base.
        odd: For each role, whether a sign flip negates it.
        pairs: ``[pairs, 2]`` disjoint positions along the units.

    Returns:
        ``[pairs]``.
    """
    i, j = pairs[:, 0], pairs[:, 1]
    total = np.zeros(pairs.shape[0], dtype=np.float64)
    padded = np.zeros(pairs.shape[0], dtype=bool)
    for a, b, is_odd in zip(suspect, base, odd, strict=True):
        parts = [cosines(a[p], b[q]) for p, q in ((i, i), (j, j), (i, j), (j, i))]
        if is_odd:
            parts = [np.abs(part) for part in parts]
        total += (parts[0] - parts[2]) + (parts[1] - parts[3])
        empty = np.asarray(~a.any(axis=1) | ~b.any(axis=1))
        padded |= empty[i] | empty[j]
    total[padded | (np.abs(total) < TIE)] = 0.0
    return total


def sign_statistics(suspect: Sequence[FloatArray], base: Sequence[FloatArray], odd: Sequence[bool]) -> Float64Array:
    """Return the statistic of each sign coin.

    The sum of the cosines of the vectors that a sign flip of the unit negates. The units must have been matched by
    information that sign flips do not change (here: identity order).

    Args:
        suspect: One ``[units, dim]`` array a role.
        base: The same for the base.
        odd: For each role, whether a sign flip negates it.

    Returns:
        ``[units]``; zeros (ties) when no role is odd.
    """
    total = np.zeros(base[0].shape[0], dtype=np.float64)
    for a, b, is_odd in zip(suspect, base, odd, strict=True):
        if is_odd:
            total += cosines(a, b)
    total[np.abs(total) < TIE] = 0.0
    return total
