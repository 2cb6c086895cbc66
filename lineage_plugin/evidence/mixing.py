r"""Value channels that were mixed inside their heads.

Between V and O stands a linear map, so any invertible mixing of the channels of a head, undone in O, changes nothing;
channel by channel nothing is left to compare. What the head does as a whole, the product ``O_h V_h``, is unchanged:

.. math::  \langle O_A V_A, O_B V_B\rangle = \sum_{ij} (O_A^T O_B)_{ij} (V_A V_B^T)_{ij},

which needs no matrix larger than a head. A description of what was done, no evidence.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import UnitGroup

__all__ = ["MIXED", "head_cosines", "is_mixed"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]

MIXED = 0.4
"""Median cosine of the heads' products from which their channels were mixed, where channels share nothing."""
EXCESS = 0.2
"""How much that must exceed what channels matched one by one explain."""


def head_cosines(
    group: UnitGroup, suspect: tuple[FloatArray, FloatArray], base: tuple[FloatArray, FloatArray]
) -> Float64Array:
    """Return, for each head of the suspect and of the base, the cosine of what they do as a whole.

    Args:
        group: The base's value channels; its blocks are the heads.
        suspect: V rows and O columns of all channels, ``[channels, width]`` and ``[channels, k * width]``.
        base: The same of the base.

    Returns:
        ``[heads, heads]``; 0 where a head is zero.
    """
    heads = int(group.block.max()) + 1
    size = group.units // heads
    width = base[0].shape[1]

    def split(pair: tuple[FloatArray, FloatArray]) -> tuple[Float64Array, Float64Array]:
        v, o = (part.astype(np.float64) for part in pair)
        # One matrix for all query heads of a group would mix their order in; their sum over k is enough here.
        return v.reshape(heads, size, width), o.reshape(heads, size, -1, width).sum(axis=2)

    (va, oa), (vb, ob) = split(suspect), split(base)
    cross = np.einsum("hiw,gjw->hgij", oa, ob) * np.einsum("hiw,gjw->hgij", va, vb)
    own = np.einsum("hiw,hjw->hij", oa, oa) * np.einsum("hiw,hjw->hij", va, va)
    other = np.einsum("hiw,hjw->hij", ob, ob) * np.einsum("hiw,hjw->hij", vb, vb)
    scale = np.sqrt(np.maximum(own.sum(axis=(1, 2)), 0))[:, None] * np.sqrt(np.maximum(other.sum(axis=(1, 2)), 0))
    found: Float64Array = np.divide(cross.sum(axis=(2, 3)), scale, out=np.zeros((heads, heads)), where=scale > 0)
    return found


def is_mixed(layers: Iterable[Float64Array], nearness: float) -> bool:
    """Say whether the heads of several layers do more alike as wholes than their channels do one by one.

    Of channels that correspond one by one, in whatever order and sign, the product has about the cosine of V times that
    of O, the square of either.

    Args:
        layers: One :func:`head_cosines` a layer; heads may stand in another order.
        nearness: Mean cosine of V over the channels matched one by one; 0 when none were.
    """
    found = [np.nanmax(cosines, axis=0) for cosines in layers if cosines.size]
    return bool(found) and float(np.median(np.concatenate(found))) >= max(MIXED, nearness**2 + EXCESS)
