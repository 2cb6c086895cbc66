r"""Sign bits of pseudo-random directions: the sketch of a vector that coins and cosines can be read from.

A vector :math:`x` of :math:`d` numbers is padded with zeros to a power of two :math:`N`, turned by
:math:`R = H D_2 H D_1` with :math:`H` the Walsh-Hadamard matrix and :math:`D_1, D_2` diagonal matrices of pseudo-random
signs, and the signs of the first :math:`K` coordinates of :math:`R x` are kept. Two vectors at an angle
:math:`\theta` agree in a bit with probability :math:`1 - \theta/\pi` (Goemans & Williamson 1995,
doi:10.1145/227683.227684; Charikar 2002, doi:10.1145/509907.509965), here over the draw of the signs; two rounds of
:math:`HD` make the directions as good as Gaussian ones for the purpose (Andoni et al. 2015, arXiv:1509.02897).

Why not signs of the coordinates themselves: weights that were pruned or rounded are zero in many places, and a zero has
no sign, so that flipping a unit would not flip its bits. A sum over all coordinates is zero now and then where levels
are coarse; then the sign of the vector's first coordinate that is not zero decides. So flipping a vector flips all its
bits, and exchanging two vectors exchanges their bits: that is all that fair coins ask for. Outlying coordinates do no
harm either, for the bits see the angle between whole vectors.

Only additions and subtractions of numbers in float64 are used, in an order that is written down here and in
``docs/fingerprint.md``, so the bits of a vector are the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["TILE", "signs", "sketch"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]

TILE = 16
"""Neighbouring units that are turned by the same rotation; only bits of one tile can be set against each other."""
_CHUNK = 1 << 21
"""Elements that are turned at a time."""
_GOLDEN = 0x9E3779B97F4A7C15


def signs(key: int, count: int) -> Float64Array:
    """Return a fixed sequence of signs: the top bits of the SplitMix64 generator (Steele et al. 2014).

    Args:
        key: Start of the sequence, below 2^64.
        count: Length.

    Returns:
        ``[count]`` of 1 and -1.
    """
    with np.errstate(over="ignore"):
        state = np.uint64(key) + np.uint64(_GOLDEN) * np.arange(1, count + 1, dtype=np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return np.where(state >> np.uint64(63), -1.0, 1.0)


def sketch(vectors: FloatArray, bits: int, first: int = 0) -> tuple[ByteArray, BoolArray]:
    """Return the sign bits of some vectors, one a unit, in the order of the units.

    Args:
        vectors: ``[units, dim]``.
        bits: Bits a vector, a power of two from 8 on; shorter vectors are padded up to it.
        first: Number of the first unit; it decides which tile, and so which rotation, each unit belongs to.

    Returns:
        ``[units, bits / 8]`` packed bits, 1 for a positive sum, the first in the highest place of the first byte; and
        ``[units]`` whether the vector has bits at all: it is finite and not zero. All bits of others are 0.
    """
    units, dim = vectors.shape
    size = max(bits, 1 << max(0, int(dim - 1).bit_length()))
    packed = np.zeros((units, bits // 8), dtype=np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        usable: BoolArray = np.asarray(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
    # A sum may be exactly 0 where levels are coarse. It takes the sign of the first element, which a flip flips, too.
    leading = np.take_along_axis(vectors, (vectors != 0).argmax(axis=1)[:, None], axis=1)[:, 0] > 0
    step = max(1, _CHUNK // size)
    numbers = first + np.arange(units)
    for start in range(0, units, step):
        rows = slice(start, start + step)
        turned = np.zeros((numbers[rows].shape[0], size))
        tiles, place = np.unique(numbers[rows] // TILE, return_inverse=True)
        turned[:, :dim] = np.where(usable[rows, None], vectors[rows], 0.0)
        turned[:, :dim] *= np.stack([signs(_key(dim, 1, int(tile)), dim) for tile in tiles])[place]
        turned = _hadamard(turned) * signs(_key(dim, 2, 0), size)
        # The first coordinates of a transform are the transform of the sums over equal low places.
        while turned.shape[1] > bits:
            half = turned.shape[1] // 2
            turned = turned[:, :half] + turned[:, half:]
        sums = _hadamard(turned)
        packed[rows] = np.packbits((sums > 0.0) | ((sums == 0.0) & leading[rows, None]), axis=1)
    packed[~usable] = 0
    return packed, usable


def _key(dim: int, turn: int, tile: int) -> int:
    return (dim << 32 | turn << 24 | tile) & 0xFFFFFFFFFFFFFFFF


def _hadamard(rows: Float64Array) -> Float64Array:
    """Return the Walsh-Hadamard transform of each row, in natural order, not scaled."""
    count, size = rows.shape
    span = 1
    while span < size:
        halves = rows.reshape(count, size // (2 * span), 2, span)
        rows = np.stack([halves[:, :, 0] + halves[:, :, 1], halves[:, :, 0] - halves[:, :, 1]], axis=2)
        span *= 2
        rows = rows.reshape(count, size)
    return rows
