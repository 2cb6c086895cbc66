"""Units of attention: value channels, and query-key channels or rotary pairs.

With H query heads over KV key-value heads, query head h reads key-value head ``h // (H / KV)``.

*Value channels.* Channel c of a key-value head is a row of V and, for every query head of the group, a column of O. The
map between them is linear, so channels of one head may change places and change sign.

*Query-key channels.* Scores are inner products of query and key, so without rotary embeddings channels of one head may
change places and change sign, in all query heads of the group and the key at once. With rotary embeddings only the sign
of a whole pair may change (see :mod:`lineage_plugin.anatomy.rotary`); channels that do not turn stay free. A
normalisation of queries and keys by their root mean square is even, so signs may still change; when its gains are
shared by all heads, channels of a single head may no longer change places.

Biases move with their rows and are left out of the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.channels import Channels, IndexPool
from lineage_plugin.anatomy.rotary import Rotary
from lineage_plugin.anatomy.settings import Settings
from lineage_plugin.anatomy.types import UnitGroup

__all__ = ["CROSS", "FREE", "Heads", "QueryKeyNorm", "heads_of", "query_key_groups", "value_group"]

IntArray = NDArray[np.int64]
QueryKeyNorm = Literal["none", "shared", "own"]
"""Gains of a root-mean-square norm on queries and keys: none, shared by all heads, or one per channel of each head."""

FREE = 1
"""Part number of the channels that do not turn, beside rotary pairs."""
CROSS = 2
"""Part number offset of attention to another stack."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The head structure of an attention layer.

    Attributes:
        query: Number of query heads; a multiple of ``key_value``.
        key_value: Number of key-value heads.
        size: Channels of a query or key head.
        value_size: Channels of a value head.
    """

    query: int
    key_value: int
    size: int
    value_size: int

    @property
    def group(self) -> int:
        """Query heads per key-value head."""
        return self.query // self.key_value


def heads_of(
    settings: Settings, q: int, k: int, v: int, o: int, *, names: tuple[str, ...], head_size: int | None = None
) -> Heads | str:
    """Work out the head structure from the configuration and check it against the shapes.

    Args:
        settings: Configuration of the stack.
        q: Channels of all query heads.
        k: Channels of all key heads.
        v: Channels of all value heads.
        o: Channels that the output projection reads.
        names: Settings that hold the number of query heads.
        head_size: Channels of a head where the shapes tell it.

    Returns:
        The head structure, or the reason why it is not known.
    """
    query = settings.integer(*names)
    size = head_size
    if size is None and query is not None and q % query == 0:
        size = q // query
    if size is None and query is None:
        size = settings.integer("head_dim")
    if size is None:
        return (
            "the configuration does not give the number of heads"
            if query is None
            else "the configured number of attention heads does not fit the shapes"
        )
    if q % size or k % size:
        return "the configured number of attention heads does not fit the shapes"
    heads, key_value = q // size, k // size
    claims = (
        (query, heads),
        (settings.integer("num_key_value_heads"), key_value),
        (settings.integer("head_dim"), size),
    )
    if any(claimed is not None and claimed != found for claimed, found in claims):
        return "the configured number of attention heads does not fit the shapes"
    if heads % key_value or v % key_value or o != heads * (v // key_value):
        return "the shapes of its tensors do not fit together"
    return Heads(heads, key_value, size, v // key_value)


def value_group(pool: IndexPool, layer: int, heads: Heads, v: Channels, o: Channels, *, part: int = 0) -> UnitGroup:
    """Make the group of the value channels of one layer.

    Args:
        pool: Where index arrays come from.
        layer: Index of the layer.
        heads: Head structure.
        v: Output side of the value projection.
        o: Input side of the output projection.
        part: 0, or :data:`CROSS`.

    Returns:
        The group.
    """
    size = heads.value_size
    single = _Choice("single", 0, size)
    return UnitGroup(
        name="value",
        layer=layer,
        swap=size > 1,
        block=pool.labels(heads.key_value * size, size, v.tensor.file),
        vectors=(
            v.vectors(_index(pool, v, size, heads.key_value, 1, single), odd=True),
            o.vectors(_index(pool, o, size, heads.key_value, heads.group, single), odd=True),
        ),
        part=part,
    )


def query_key_groups(
    pool: IndexPool,
    layer: int,
    heads: Heads,
    q: Channels,
    k: Channels,
    *,
    rotary: Rotary | None,
    norm: QueryKeyNorm = "none",
    part: int = 0,
) -> Iterator[UnitGroup]:
    """Make the groups of the query and key channels of one layer.

    Args:
        pool: Where index arrays come from.
        layer: Index of the layer.
        heads: Head structure.
        q: Output side of the query projection.
        k: Output side of the key projection.
        rotary: The rotary embedding, or None when positions do not enter here.
        norm: Normalisation of queries and keys.
        part: 0, or :data:`CROSS`.

    Yields:
        Rotary pairs (``part`` as given), then free channels (``part`` + :data:`FREE` when there are pairs too).
    """
    turning = 0 if rotary is None else rotary.size
    choices: list[tuple[_Choice, bool, int]] = []
    if rotary is not None:
        choices.append((_Choice(rotary.pairing, 0, turning // 2), False, part))
    if heads.size > turning:
        free = heads.size - turning
        choices.append((_Choice("single", turning, free), norm != "shared" and free > 1, part + bool(turning) * FREE))
    for choice, swap, number in choices:
        yield UnitGroup(
            name="query-key",
            layer=layer,
            swap=swap,
            block=pool.labels(heads.key_value * choice.count, choice.count, q.tensor.file),
            vectors=(
                q.vectors(_index(pool, q, heads.size, heads.key_value, heads.group, choice), odd=True),
                k.vectors(_index(pool, k, heads.size, heads.key_value, 1, choice), odd=True),
            ),
            part=number,
        )


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which channels of a head are units: ``count`` single channels from ``first`` on, or ``count`` rotary pairs."""

    pairing: Literal["single", "half", "interleaved"]
    first: int
    count: int

    def channels(self, unit: IntArray) -> IntArray:
        if self.pairing == "half":
            return np.stack((unit, unit + self.count), axis=1)
        if self.pairing == "interleaved":
            return np.stack((2 * unit, 2 * unit + 1), axis=1)
        return self.first + unit[:, None]


def _index(pool: IndexPool, channels: Channels, size: int, key_value: int, group: int, choice: _Choice) -> IntArray:
    """Return ``[units, group * channels of a unit]`` positions: by key-value head, unit, query head, channel."""
    units = key_value * choice.count
    per_unit = group * (1 if choice.pairing == "single" else 2)

    def make() -> IntArray:
        unit = np.arange(units, dtype=np.int64)
        head = (unit // choice.count)[:, None] * group + np.arange(group, dtype=np.int64)
        inside = choice.channels(unit % choice.count)
        return channels.positions(head[:, :, None], inside[:, None, :], size).reshape(units, per_unit)

    key = ("heads", channels.start, channels.step, channels.head_stride, size, key_value, group, choice)
    return pool.get(key, units, per_unit, make, channels.tensor.file)
