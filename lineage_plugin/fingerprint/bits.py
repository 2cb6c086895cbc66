"""Counting in packed bits: how far sign bits agree, and the cosine that stands behind it."""

from __future__ import annotations

import functools
from math import comb

import numpy as np
from numpy.typing import NDArray

__all__ = ["cosine_table", "dots", "popcount", "words"]

ByteArray = NDArray[np.uint8]
IntArray = NDArray[np.int64]
Float64Array = NDArray[np.float64]

_DEGREE = 24
"""Degree from which a polynomial is the sine on this interval to ten digits."""


def words(packed: ByteArray) -> NDArray[np.unsignedinteger]:
    """View packed bits ``[..., bytes]`` as the widest words that divide them: ``[..., words]``."""
    size = packed.shape[-1]
    kind = next(kind for kind in (np.uint64, np.uint32, np.uint16, np.uint8) if size % np.dtype(kind).itemsize == 0)
    viewed: NDArray[np.unsignedinteger] = np.ascontiguousarray(packed).view(kind)
    return viewed


def popcount(values: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """Return the number of ones in each word."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(values))
    # numpy before 2.0: sums of ever wider fields (Warren 2012, section 5-1), twenty times faster than a table.
    kind, size = values.dtype.type, 8 * values.dtype.itemsize
    ones = (1 << size) - 1
    with np.errstate(over="ignore"):
        x = values - (values >> kind(1) & kind(ones // 3))
        x = (x & kind(ones // 5)) + (x >> kind(2) & kind(ones // 5))
        x = x + (x >> kind(4)) & kind(ones // 17)
        return np.asarray((x * kind(ones // 255) >> kind(size - 8)).astype(np.uint8))


def dots(a: ByteArray, b: ByteArray) -> IntArray:
    """Return agreements less disagreements of packed bits, which broadcast: the inner products of their signs.

    Args:
        a: ``[..., bytes]``.
        b: ``[..., bytes]``.

    Returns:
        ``[...]``, between minus and plus the number of bits.
    """
    apart: IntArray = popcount(np.bitwise_xor(words(a), words(b))).sum(axis=-1, dtype=np.int64)
    return np.asarray(8 * a.shape[-1] - 2 * apart, dtype=np.int64)


@functools.lru_cache(maxsize=16)
def cosine_table(bits: int) -> Float64Array:
    r"""Return the estimate of a cosine for each number of agreeing bits.

    The number of agreements is binomial with :math:`p = 1 - \theta/\pi`, and :math:`\cos\theta = \sin(\pi(p - 1/2))`.
    Putting the share of agreements into the sine is biased towards zero, by 7% for 16 bits and small cosines. A
    polynomial :math:`\sum_k c_k \binom{n}{k} p^k (1-p)^{n-k}` is the expectation of :math:`c_k` under the binomial law,
    so the Bernstein coefficients of (a polynomial that is practically) the sine are an unbiased estimate (Lehmann &
    Casella 1998, section 2.1). Checked against the binomial law: off by less than 1e-6 for
    every angle and every number of bits from 8 to 256.

    Args:
        bits: Number of bits, 8 or more.

    Returns:
        ``[bits + 1]``.
    """
    degree = min(bits, _DEGREE)
    p = (np.cos(np.linspace(0.0, np.pi, 512)) + 1.0) / 2.0
    basis = np.stack([comb(degree, k) * p**k * (1 - p) ** (degree - k) for k in range(degree + 1)], axis=1)
    # The least squares are steadied: coefficients that oscillate would be unbiased, too, and noisier.
    left = basis.T @ basis + 1e-6 * np.eye(degree + 1)
    table: Float64Array = np.linalg.solve(left, basis.T @ np.sin(np.pi * (p - 0.5)))
    while table.shape[0] <= bits:
        share = np.arange(table.shape[0] + 1) / table.shape[0]
        table = np.append(0.0, table) * share + np.append(table, 0.0) * (1 - share)
    table.setflags(write=False)
    return table
