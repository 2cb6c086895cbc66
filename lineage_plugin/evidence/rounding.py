"""What two quantised models leave exchangeable.

A coin is fair because relabelling the units of *one* model leaves the joint law of both unchanged. Where one of the two
is stored as it was trained, that model is the one relabelled, and nothing needs to be known of how the other was
rounded. Where both are quantised, relabelling and rounding must commute: exchanging two units before quantisation has
to give the same as exchanging them after it. It does inside a block of numbers that share a scale, because the scale
is a function of the set of numbers (largest magnitude, least squares), and in rows that have their scales for
themselves. Hence, for matrices that are quantised in both models,

* units are exchangeable only with those whose vectors lie in the same blocks;
* that goes for all vectors of a kind of unit as soon as both models have rounded some of them;
* vectors are left out where the quantiser treats the units one after the other (GPTQ: Frantar et al.,
  arXiv:2210.17323, corrects each column by the errors of those before it);
* signs are not tossed: levels need not be symmetric (NF4, zero points), so that rounding and negation do not commute;
* channels of the residual stream are left alone where token embeddings are quantised: blocks run along the channels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from math import gcd

import numpy as np

from lineage_plugin.anatomy.types import Anatomy, UnitGroup, Vectors
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.evidence.pairing import kind

__all__ = ["common_block", "exchangeable"]

_Place = tuple[str, str]
"""Kind of unit and role."""

_UNITS_NOTE = (
    "Both models are quantised, so units that both have rounded were exchanged only where rounding treats them alike, "
    "and their signs were not tossed."
)
_CHANNELS_NOTE = (
    "Token embeddings are quantised in both models, so channels of the residual stream were not exchanged or flipped."
)


def exchangeable(
    suspect: tuple[Mapping[str, TensorInfo], Anatomy], base: tuple[Mapping[str, TensorInfo], Anatomy]
) -> tuple[Anatomy, Anatomy]:
    """Restrict two anatomies to what rounding leaves exchangeable.

    Layers are restricted alike, the strictest one for all, so that they can still be compared with each other.

    Args:
        suspect: Tensors and anatomy of the suspect.
        base: The same of the base.

    Returns:
        Both anatomies; unchanged unless vectors of one kind of unit, whatever their roles, or the token
        embeddings are quantised in both models.
    """
    mine, others = (_blocks(tensors, anatomy) for tensors, anatomy in (suspect, base))
    # One model is relabelled, with all the vectors of a unit at once. Where both have rounded some of a kind's vectors,
    # though not the same ones, neither may be relabelled freely, so what either shares counts. Experts are set against
    # dense layers, hence kinds and not names of groups.
    both = {name for name, _ in mine} & {name for name, _ in others}
    blocks = {
        place: common_block(mine.get(place, set()) | others.get(place, set()))
        for place in mine.keys() | others.keys()
        if place[0] in both
    }
    channels = not (_has_quantised_tokens(*suspect) and _has_quantised_tokens(*base))
    if not blocks and channels:
        return suspect[1], base[1]
    return _restricted(suspect[1], blocks, channels), _restricted(base[1], blocks, channels)


def _blocks(tensors: Mapping[str, TensorInfo], anatomy: Anatomy) -> dict[_Place, set[int]]:
    """Return how many units share a scale, for each kind of unit and role that is quantised in some layer."""
    found: dict[_Place, set[int]] = {}
    for group in anatomy.groups:
        for vectors in group.vectors:
            encoding = tensors[vectors.tensor].encoding
            if encoding is not None:
                found.setdefault((kind(group), vectors.role), set()).add(encoding.shared[vectors.axis])
    return found


def common_block(sizes: Collection[int]) -> int:
    """Return the size of blocks that lie inside blocks of all the sizes; -1 where all units may change places, 0: none.

    Units that have their scales for themselves (1) may change places like those that share one scale (-1).
    """
    limits = {size for size in sizes if size not in (-1, 1)}
    if not limits:
        return -1
    size = gcd(*limits)
    return 0 if 0 in limits or size == 1 else size


def _has_quantised_tokens(tensors: Mapping[str, TensorInfo], anatomy: Anatomy) -> bool:
    info = tensors.get(anatomy.stream.embedding) if anatomy.stream is not None else None
    return info is not None and info.encoding is not None


def _restricted(anatomy: Anatomy, blocks: Mapping[_Place, int], channels: bool) -> Anatomy:
    groups = tuple(found for group in anatomy.groups if (found := _restrict(group, blocks)) is not None)
    stream = anatomy.stream if channels or anatomy.stream is None else replace(anatomy.stream, swap=False)
    notes = [_UNITS_NOTE] * bool(blocks) + [_CHANNELS_NOTE] * (not channels)
    return replace(anatomy, groups=groups, stream=stream, limits=(*anatomy.limits, *notes))


def _restrict(group: UnitGroup, blocks: Mapping[_Place, int]) -> UnitGroup | None:
    if all(name != kind(group) for name, _ in blocks):
        return group
    kept: list[Vectors] = []
    labels = [group.block]
    for vectors in group.vectors:
        size = blocks.get((kind(group), vectors.role), -1)
        if size == 0:
            continue
        # A flip turns all of a unit's odd vectors, so one that is rounded takes the sign from the others, too.
        kept.append(replace(vectors, odd=False))
        if size > 1:
            labels.extend((vectors.index // size).T)
    if not kept:
        return None
    _, block = np.unique(np.stack(labels, axis=1), axis=0, return_inverse=True)
    return replace(group, vectors=tuple(kept), block=block.reshape(-1).astype(np.int64))
