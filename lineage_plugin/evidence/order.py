"""Units that were sorted: an order that is no longer exchangeable.

Pruning tools sort units by importance. Two sorted models agree in their order without sharing anything, so swap coins
are not fair for them; sign coins are. The order of the *suspect* alone decides whether swap coins are tossed: the coins
belong to the base's units and are fair given everything about the suspect, so the decision costs no validity.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["SORTED_Z", "is_sorted", "order_score"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]

SORTED_Z = 5.0
"""Normal score of the rank correlation from which units count as sorted (two-sided chance 6e-7 a test)."""


def order_score(roles: Sequence[FloatArray], sorted_within: NDArray[np.int64]) -> Float64Array:
    """Return how closely the units' norms, and the sums of their weights, follow their positions.

    Under exchangeability Spearman's rank correlation of ``n`` units has mean 0 and variance ``1/(n-1)`` exactly
    (Kendall & Gibbons, Rank Correlation Methods, 1990, ch. 4).

    Args:
        roles: One ``[units, dim]`` array a role, units in increasing position.
        sorted_within: ``[units]`` block labels; ranks are taken inside each block, since tools sort inside a head.

    Returns:
        ``[2 * roles + 1]`` normal scores: energies of each role and of all together, then sums; 0 for fewer than 4
        units.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        energy = np.stack([np.einsum("ud,ud->u", role, role, dtype=np.float64) for role in roles])
        # Tools sort by mean activation, too, which the sum of a unit's incoming weights stands for.
        sums = np.stack([role.sum(axis=1, dtype=np.float64) for role in roles])
    keys = np.nan_to_num(np.concatenate([energy, energy.sum(axis=0, keepdims=True), sums]))
    numerator = np.zeros(keys.shape[0])
    variance = 0.0
    for label in np.unique(sorted_within):
        block = keys[:, sorted_within == label]
        size = block.shape[1]
        if size < 2:
            continue
        # Equal keys (padding, or values that are not numbers) have no order.
        tied = (block == block[:, :1]).all(axis=1)
        rank = np.argsort(np.argsort(block, axis=1, kind="stable"), axis=1) - (size - 1) / 2
        place = np.arange(size) - (size - 1) / 2
        rho = np.where(tied, 0.0, rank @ place / (place @ place))
        numerator += rho * (size - 1)
        variance += size - 1
    if variance < 3:
        return np.zeros(keys.shape[0])
    scores: Float64Array = numerator / np.sqrt(variance)
    return scores


def is_sorted(scores: Sequence[Float64Array]) -> bool:
    """Return whether units of one kind are sorted, from the scores of its groups.

    Args:
        scores: One :func:`order_score` a group (all of one kind, such as every layer's MLP).

    Returns:
        True when one group alone, or all together, are sorted beyond :data:`SORTED_Z`.
    """
    if not scores:
        return False
    stacked = np.stack(list(scores))
    together = stacked.sum(axis=0) / np.sqrt(stacked.shape[0])
    return bool(np.abs(stacked).max() > SORTED_Z or np.abs(together).max() > SORTED_Z)
