"""Who came first? An indication, never evidence.

An update is nearly orthogonal to the weights it starts from, so a child contains its base whole (the coefficient of the
child on the base is near 1, in every matrix) while the base contains only a part of its child. Two siblings each lost
something of their common ancestor. A coefficient that is merely the larger of the two says little: of two siblings the
one that moved more looks like the child of the other, which is why the larger one must also be near 1. What remains to
mislead is a sibling that hardly moved, which is, to within a few per cent, the base itself; and a child that was shrunk
by a factor just as much as its energy was: it and its base are then each other's mirror images. Other shrinking and
scaling hides the direction, and nothing is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.effects import Differences

__all__ = ["indicate_direction"]

Direction = Literal["suspect-from-base", "base-from-suspect", "siblings", "unclear"]

APART = 1.03
"""Ratio of the two coefficients from which one model is called the nearer to the common ancestor."""
AGREEMENT = 0.8
"""Share of the matrices that must point the same way, and contain the ancestor whole."""
WHOLE = (0.97, 1.08)
"""Coefficients with which a model contains the other whole (measured: 0.98 to 1.05 of children on their base)."""
WHOLE_MATRIX = (0.9, 1.12)
"""The same for one matrix."""
LOST = 0.95
"""Coefficient below which a model has lost a part of the other."""


def indicate_direction(
    parts: Sequence[Differences], suspect_on_base: float | None, base_on_suspect: float | None
) -> Direction:
    """Return ``suspect-from-base``, ``base-from-suspect``, ``siblings`` or ``unclear``.

    Args:
        parts: Pair differences of each matrix.
        suspect_on_base: Coefficient of the suspect on the base.
        base_on_suspect: The reverse coefficient.

    Returns:
        The indication.
    """
    if suspect_on_base is None or base_on_suspect is None or not min(suspect_on_base, base_on_suspect) > 0:
        return "unclear"
    sums = np.array([(p.cross.sum(), p.suspect.sum(), p.base.sum()) for p in parts], dtype=np.float64).reshape(-1, 3)
    sums = sums[np.isfinite(sums).all(axis=1) & (sums[:, 1] > 0) & (sums[:, 2] > 0)]
    if sums.shape[0] == 0:
        return "unclear"
    forward, backward = sums[:, 0] / sums[:, 2], sums[:, 0] / sums[:, 1]
    if suspect_on_base >= APART * base_on_suspect and _contains(suspect_on_base, forward, backward):
        return "suspect-from-base"
    if base_on_suspect >= APART * suspect_on_base and _contains(base_on_suspect, backward, forward):
        return "base-from-suspect"
    ratio = suspect_on_base / base_on_suspect
    if max(suspect_on_base, base_on_suspect) < LOST and 1 / APART < ratio < APART:
        return "siblings"
    return "unclear"


def _contains(overall: float, child: NDArray[np.float64], parent: NDArray[np.float64]) -> bool:
    """Whether the child contains the parent whole, altogether and in most matrices, and not the other way round."""
    inside = (child > parent) & (child >= WHOLE_MATRIX[0]) & (child <= WHOLE_MATRIX[1])
    return WHOLE[0] <= overall <= WHOLE[1] and float(np.mean(inside)) >= AGREEMENT
