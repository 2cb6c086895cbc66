"""All relabellings of a few units, and the law of coins over them.

Fixed sign bits, every relabelling of one model: under the null all are equally likely. Two instruments. Where no
statistic is zero, the coins are jointly fair exactly when they take each of their outcomes equally often. Where some
are, or units are left out, the mean of the e-value over the group is 1, to the last digits, if each coin that is
counted is fair given those before it; a mean that is not 1 proves that they are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.fingerprint.align import ShelfPair
from lineage_plugin.fingerprint.coins import LayerTosses, toss_swaps
from lineage_plugin.fingerprint.compare import _agreement, _coins


def wreath(units: int) -> np.ndarray:
    """All orders that exchanges of neighbouring blocks make: ``[2^(units - 1), units]``, units a power of two."""
    if units == 1:
        return np.zeros((1, 1), np.int64)
    half = wreath(units // 2)
    left, right = (part.ravel() for part in np.meshgrid(*[np.arange(half.shape[0])] * 2, indexing="ij"))
    blocks = half[left], half[right] + units // 2
    return np.concatenate([np.concatenate(blocks, axis=1), np.concatenate(blocks[::-1], axis=1)])


def all_flips(units: int) -> np.ndarray:
    """All choices of units that are negated: ``[2^units, units]`` of 0 and 255."""
    return np.array(list(itertools.product((0, 255), repeat=units)), np.uint8)


def nodes(units: int) -> list[tuple[int, int]]:
    """The blocks whose halves have a coin: ``(first unit, units)``, the largest first."""
    sizes = [units >> level for level in range(units.bit_length() - 1)]
    return [(start, size) for size in sizes for start in range(0, units, size)]


def tree_outcomes(even: np.ndarray, units: int) -> np.ndarray:
    """Heads (1), tails (-1) or tie (0) of each coin of the first units of a tile.

    Args:
        even: ``[cases, 16, 16]`` values of ``f``.
        units: A power of two up to 16.

    Returns:
        ``[cases, units - 1]``, in the order of :func:`nodes`. The code under test returns counts, so what the coins of
        a block and all below it come to is asked for, block by block, and differences are taken.
    """
    blocks = nodes(units)
    usable = np.zeros((len(blocks), 16), bool)
    for at, (start, size) in enumerate(blocks):
        usable[at, start : start + size] = True
    cases = even.shape[0]
    tossed = toss_swaps(
        np.repeat(even[:, None], len(blocks), axis=0),
        np.tile(usable, (cases, 1)),
        16,
        np.arange(cases * len(blocks)),
    )
    total = (2 * tossed.heads - tossed.coins).reshape(cases, -1)
    own = total.copy()
    for at, (start, size) in enumerate(blocks):
        if size > 2:
            for half in (start, start + size // 2):
                own[:, at] -= total[:, blocks.index((half, size // 2))]
    return own


def toss(pair: ShelfPair) -> list[tuple[str, LayerTosses]]:
    """The coins of two shelves as a comparison tosses them."""
    return _coins(pair, [_agreement(pair, mine, theirs) for mine, theirs in pair.strips])


def e_value(pairs: Sequence[ShelfPair]) -> float:
    """The e-value of all coins of some shelves."""
    tossed = [layer for pair in pairs for _, layer in toss(pair)]
    coins, heads = (sum(int(part.sum()) for part in parts) for parts in zip(*((t.coins, t.heads) for t in tossed)))
    return float(10 ** log10_e_value(heads, coins))


def mean_e(pairs: Callable[..., Sequence[ShelfPair]], *ways: Sequence[object]) -> float:
    """The mean e-value over all combinations of some relabellings."""
    return float(np.mean([e_value(pairs(*way)) for way in itertools.product(*ways)]))
