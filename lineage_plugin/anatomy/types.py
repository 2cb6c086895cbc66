"""What a checkpoint is made of: groups of exchangeable units.

A *unit* is one hidden degree of freedom whose label is arbitrary: a neuron of an MLP, a channel of a value head, a
rotary pair. A :class:`UnitGroup` says where all the vectors of its units are stored and which relabellings leave the
model's function unchanged; that is all the coins need to know about an architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Anatomy", "Gain", "Stream", "UnitGroup", "Vectors"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Vectors:
    """One vector per unit (or ``k`` of them), all stored in one tensor.

    The tensor is seen as a matrix of ``width`` columns (see :class:`lineage_plugin.checkpoint.Selection`).

    Attributes:
        role: Field name of the matrix: ``gate``, ``up``, ``down``, ``q``, ``k``, ``v``, ``o``, ``fc1``, ``fc2``, ...
        tensor: Name of the tensor.
        axis: 0 when a unit's vectors are rows of the matrix, 1 when they are columns.
        index: ``[units, k]`` positions of each unit's vectors along ``axis``.
        width: Columns of the matrix.
        span: ``(start, stop)`` along the other axis that holds the vectors' elements; None for all of it.
        odd: Whether the sign flip of a unit negates these vectors. Always False where the group has no sign symmetry.
    """

    role: str
    tensor: str
    axis: int
    index: IntArray
    width: int
    span: tuple[int, int] | None = None
    odd: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class UnitGroup:
    """Units of one layer that stand in the same place of the network.

    Attributes:
        name: ``mlp``, ``value``, ``query-key``, ``experts`` or ``channels``.
        layer: Index of the layer (of the tensor, for an unknown graph).
        part: Index of the expert when each expert is a group of its own, else 0.
        swap: Whether units of equal ``block`` may change places. Rotary pairs may not.
        block: ``[units]`` labels; only units of equal label are exchangeable (one KV head, one expert).
        vectors: Where the units' vectors are.
    """

    name: str
    layer: int
    swap: bool
    block: IntArray
    vectors: tuple[Vectors, ...]
    part: int = 0

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.block.shape[0])

    @property
    def flip(self) -> bool:
        """Whether a unit's sign may be flipped."""
        return any(v.odd for v in self.vectors)

    @property
    def by_role(self) -> dict[str, Vectors]:
        """Where the vectors of each role are."""
        return {vectors.role: vectors for vectors in self.vectors}

    @property
    def key(self) -> tuple[str, int, int]:
        """Identity inside one anatomy: name, layer, part."""
        return (self.name, self.layer, self.part)


@dataclass(frozen=True, slots=True)
class Gain:
    """The gain vector of a normalisation.

    Attributes:
        tensor: Name of the tensor, one element per channel of the residual stream.
        plus_one: Whether the layer multiplies by one plus the stored value (Gemma).
    """

    tensor: str
    plus_one: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Stream:
    """The residual stream: the channels that all layers read and write.

    Its channels have no names either: exchanging two of them in every tensor at once leaves the function unchanged
    (and flipping one's sign, where the normalisation has no mean). One group a model, so it is described apart.

    Attributes:
        width: Number of channels.
        embedding: Tensor of token embeddings, ``[tokens, width]``.
        unembedding: Tensor of the output projection, ``[tokens, width]``; None when it is tied or not stored.
        norm: ``rms`` (signs are free, rotations possible once gains are folded) or ``layer`` (mean subtracted: no sign
            is free).
        swap: Whether channels are exchangeable: nothing fixed, such as sinusoidal positions, is added to the stream.
        reads: For the key of each unit group, the gain that multiplies the stream before the group's incoming vectors
            read it; missing when the norm stands elsewhere or has no gain.
        writes: For the key of each unit group, the gain applied to what its outgoing vectors write (post-norms).
        final: Gain before the output projection.
    """

    width: int
    embedding: str
    unembedding: str | None
    norm: Literal["rms", "layer"]
    swap: bool
    reads: Mapping[tuple[str, int, int], Gain]
    writes: Mapping[tuple[str, int, int], Gain]
    final: Gain | None

    @property
    def flip(self) -> bool:
        """Whether a channel's sign may be flipped."""
        return self.swap and self.norm == "rms"


@dataclass(frozen=True, eq=False, slots=True)
class Anatomy:
    """The exchangeable units of a checkpoint.

    Attributes:
        family: Layout name, such as ``llama`` or ``gpt2``; ``unknown`` for the conservative path.
        exact: Whether the groups follow from a known graph, so that their coins are jointly fair. For an unknown graph
            coins are tossed per tensor and never pooled.
        layers: Number of layers (tensors, for an unknown graph).
        width: Size of the residual stream; 0 when there is none or it is not known.
        groups: The unit groups, by layer.
        limits: Plain sentences about what was assumed or left out.
        stream: The residual stream, where its tensors are known beyond doubt.
        part: Prefix of the tensors looked at, when others of the checkpoint were left aside (composites); else "".
    """

    family: str
    exact: bool
    layers: int
    width: int
    groups: tuple[UnitGroup, ...]
    limits: tuple[str, ...] = field(default=())
    stream: Stream | None = None
    part: str = ""
