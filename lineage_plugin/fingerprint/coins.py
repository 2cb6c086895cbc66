r"""The coins of two fingerprints, all layers at once.

Swap coins are those of ``docs/method.md``: exchanging two units in one model negates a statistic and leaves the law
unchanged. Here they are taken from the whole tree of a tile of 16 neighbours. On the lowest level units
:math:`2i, 2i+1` change places, on the next one pairs of units, then fours, then eights. With :math:`F(P, Q)` the sum of
:math:`f(A_a, B_b)` over the units :math:`a` of block :math:`P` and :math:`b` of block :math:`Q`, the coin of two
neighbouring blocks is heads when

.. math::  D = F(P, P) + F(Q, Q) - F(P, Q) - F(Q, P) > 0.

*Why they are jointly fair.* Draw for every pair of neighbouring blocks whether they change places: that is a uniform
element of the iterated wreath product of 15 swaps, a group of relabellings. Exchanging P and Q negates their ``D``;
exchanging blocks inside P or inside Q leaves it alone, because F is a sum over whole blocks. So each statistic is
negated by its own swap, left alone by those below it, and depends otherwise only on those above it: the order from the
largest blocks down to single units is triangular, and the 15 coins are independent and fair (rule 1 of the ledger).
Signal and noise of ``D`` grow alike, so a coin of a large block tells as much as one of two units; a tile gives 15 swap
coins instead of 8, and one sign coin a unit.

Here :math:`f` is agreements less disagreements of the sign bits: those of the roles that a flip of the unit leaves
alone, and the magnitude of the sum of the others, which one flip negates together. A block with a unit that has no
coin, or that spans units which may not change places, has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.fingerprint.bits import dots
from lineage_plugin.fingerprint.sketch import TILE

__all__ = ["LayerTosses", "agreement", "merge_repeats", "tiles", "toss_signs", "toss_swaps"]

ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False, slots=True)
class LayerTosses:
    """Coins and heads of one kind, layer by layer: ``[layers]`` each."""

    coins: IntArray
    heads: IntArray


def tiles(values: NDArray[Number], fill: object) -> NDArray[Number]:
    """Cut units into tiles: ``[layers, units, ...]`` to ``[layers, tiles, 16, ...]``, the last one filled up."""
    layers, units = values.shape[:2]
    missing = -units % TILE
    if missing:
        rest = np.full((layers, missing, *values.shape[2:]), fill, dtype=values.dtype)
        values = np.concatenate([values, rest], axis=1)
    return values.reshape(layers, -1, TILE, *values.shape[2:])


def agreement(suspect: ByteArray, base: ByteArray) -> IntArray:
    """Return agreements less disagreements of each unit of the suspect with each unit of its tile of the base.

    Args:
        suspect: ``[layers, units, bytes]`` packed bits.
        base: The same of the base.

    Returns:
        ``[layers, tiles, 16, 16]``, the suspect's units first.
    """
    a, b = tiles(suspect, 0), tiles(base, 0)
    return dots(a[:, :, :, None, :], b[:, :, None, :, :])


def toss_swaps(even: IntArray, usable: BoolArray, block: int, repeats: IntArray) -> LayerTosses:
    """Toss the swap coins of the trees of all tiles.

    Args:
        even: ``[layers, tiles, 16, 16]`` values of ``f``, which ignore signs where these are free.
        usable: ``[layers, units]`` units that may have coins.
        block: Neighbouring units that may change places: those of equal ``unit // block``.
        repeats: ``[layers]`` position of the first layer that each layer repeats.

    Returns:
        Coins and heads of each layer; those of layers that repeat each other at the first of them.
    """
    fine = tiles(usable, False)
    units = fine.shape[1] * TILE
    label = (np.arange(units) // block).reshape(1, -1, TILE)
    lowest = highest = label
    coins, heads = np.zeros((2, even.shape[0]), dtype=np.int64)
    totals = even
    while totals.shape[-1] > 1:
        left, right = slice(0, None, 2), slice(1, None, 2)
        same = np.diagonal(totals, axis1=-2, axis2=-1)
        cross = totals[..., left, right], totals[..., right, left]
        statistic = same[..., left] + same[..., right]
        for part in cross:
            statistic = statistic - np.diagonal(part, axis1=-2, axis2=-1)
        fair = fine[..., left] & fine[..., right]
        fair = fair & (lowest[..., left] == highest[..., right])
        statistic = merge_repeats(np.where(fair, statistic, 0), repeats)
        coins += (statistic != 0).sum(axis=(1, 2))
        heads += (statistic > 0).sum(axis=(1, 2))
        totals = totals[..., left, :] + totals[..., right, :]
        totals = totals[..., left] + totals[..., right]
        fine = fine[..., left] & fine[..., right]
        lowest, highest = lowest[..., left], highest[..., right]
    return LayerTosses(coins, heads)


def toss_signs(odd: IntArray, usable: BoolArray, repeats: IntArray) -> LayerTosses:
    """Toss the sign coin of each unit.

    Args:
        odd: ``[layers, units]`` sums over the roles that a flip negates.
        usable: ``[layers, units]``.
        repeats: As for :func:`toss_swaps`.

    Returns:
        Coins and heads of each layer.
    """
    statistic = merge_repeats(np.where(usable, odd, 0), repeats)
    return LayerTosses((statistic != 0).sum(axis=1), (statistic > 0).sum(axis=1))


def merge_repeats(statistic: IntArray, repeats: IntArray) -> IntArray:
    """Add up the statistics of layers that repeat each other, at the first of them; the others have none."""
    if np.array_equal(repeats, np.arange(repeats.shape[0])):
        return statistic
    merged = np.zeros_like(statistic)
    np.add.at(merged, repeats, statistic)
    return merged
