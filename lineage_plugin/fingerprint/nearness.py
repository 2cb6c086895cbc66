r"""Which of several relatives is the nearest: an estimate, never evidence.

A model is nearer to its parent than to its parent's parent, and nearer to both than to its siblings, since updates are
nearly orthogonal: with :math:`S = P + \delta`, :math:`\cos(S, P) = |P|/|S|` while a sibling :math:`T` has
:math:`|P|^2/(|S||T|)`. Both cosines are estimated on the same units by the same bits, so their difference is paired,
and what the bits of the suspect happen to be cancels in part.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.fingerprint.align import pair_shelves, same_layers
from lineage_plugin.fingerprint.bits import cosine_table, dots
from lineage_plugin.fingerprint.types import Fingerprint

__all__ = ["CLEAR", "lead", "unit_cosines"]

Float64Array = NDArray[np.float64]
CLEAR = 5.0
"""Standard errors by which one relative must be nearer than another to be preferred."""

_Place = tuple[str, int, int, str]
"""Kind, part, layer and role."""


def unit_cosines(suspect: Fingerprint, base: Fingerprint) -> dict[_Place, Float64Array]:
    """Return the estimated cosine of each unit with the unit of its number, where structures agree.

    Args:
        suspect: One model.
        base: The other.

    Returns:
        ``[units]`` for each kind, part, layer and role; NaN where a unit has no vector.
    """
    found: dict[_Place, Float64Array] = {}
    for pair in same_layers(pair_shelves(suspect, base)):
        usable = pair.suspect.usable[pair.mine, : pair.units] & pair.base.usable[pair.theirs, : pair.units]
        for mine, theirs in pair.strips:
            size = min(mine.bits.shape[2], theirs.bits.shape[2])
            same = dots(mine.bits[pair.mine, : pair.units, :size], theirs.bits[pair.theirs, : pair.units, :size])
            cosine = np.where(usable, cosine_table(8 * size)[(same + 8 * size) // 2], np.nan)
            for at, row in zip(pair.mine, cosine, strict=True):
                found[pair.base.kind, pair.base.part, pair.suspect.layers[at], mine.role] = row
    return found


def lead(one: dict[_Place, Float64Array], other: dict[_Place, Float64Array]) -> float:
    """Return by how many standard errors one relative is nearer than another.

    Args:
        one: Cosines of the suspect with one relative, see :func:`unit_cosines`.
        other: Those with the other.

    Returns:
        The mean of the differences over its standard error, units being independent; 0 when nothing can be compared,
        infinite when all differences are the same.
    """
    apart = [
        one[place][:size] - other[place][:size]
        for place in one.keys() & other.keys()
        for size in (min(one[place].shape[0], other[place].shape[0]),)
    ]
    values = np.concatenate(apart) if apart else np.zeros(0)
    values = values[np.isfinite(values)]
    if values.shape[0] < 2:
        return 0.0
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(values.shape[0])
    return mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
