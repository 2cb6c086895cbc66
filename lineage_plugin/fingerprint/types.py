"""What a fingerprint is made of.

A *shelf* holds the same units of all layers that have groups of one form; a *strip* is one role of a shelf. Models of
one shape have shelves of one form, so the coins of all layers are tossed in a few array operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["FORMAT", "Fingerprint", "Shelf", "ShelfForm", "Source", "StreamSketch", "Strip", "TokenizerSketch"]

FORMAT = "lineage-fingerprint/1"

ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

ShelfForm = tuple[str, int, int, int, bool]


@dataclass(frozen=True, eq=False, slots=True)
class Strip:
    """One role of a shelf.

    Attributes:
        role: Field name of the matrix, such as ``up``.
        dim: Elements of a unit's vector.
        odd: Whether the sign flip of a unit negates its vector.
        bits: ``[layers, units, bits / 8]`` packed sign bits, see :mod:`lineage_plugin.fingerprint.sketch`.
        energy: ``[layers, measured]`` base-2 logarithms of the squared lengths of the first units' vectors; NaN where a
            vector is zero or not finite. None are measured where units may not change places.
        step: ``[layers]`` distance between neighbouring values of ``energy``: they are rounded to a grid.
        axes: ``[layers, 16, axes]`` the strongest principal directions of the first 16 units, as combinations of them;
            no layers where there are fewer units.
        strength: ``[layers, axes]`` energy of the first 16 units along each of them.
        shared: Units that share a scale of the quantiser: -1 all, 1 none, 0 where the quantiser treats one unit after
            the other; None where the matrix is not quantised.
        packing: How the matrix is quantised, such as ``Q4_K``; empty where it is not.
    """

    role: str
    dim: int
    odd: bool
    bits: ByteArray
    energy: FloatArray
    step: FloatArray
    axes: FloatArray
    strength: FloatArray
    shared: int | None = None
    packing: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Shelf:
    """The first units of groups of one form, one group a layer.

    Attributes:
        kind: ``mlp``, ``value``, ``query-key``, ``experts`` or ``channels``.
        part: Number of the expert, else 0.
        units: Units of a whole group.
        block: Neighbouring units that may change places: those of equal ``unit // block``.
        swap: Whether units may change places at all.
        layers: Numbers of the layers, increasing (of the tensors, for an unknown graph).
        strips: The roles.
        usable: ``[layers, held]`` units whose vectors are finite and not zero in every role.
        clone: ``[layers, held]`` units that nearly repeat an earlier one of their group: no coins of their own.
        repeats: ``[layers]`` position of the first layer that the layer's units repeat; its own where it repeats none.
        ordered: Whether the units are sorted by size: they are not exchangeable, and only signs are tossed.
        names: Names of the tensors, one a layer, for an unknown graph; else empty.
    """

    kind: str
    part: int
    units: int
    block: int
    swap: bool
    layers: tuple[int, ...]
    strips: tuple[Strip, ...]
    usable: BoolArray
    clone: BoolArray
    repeats: IntArray
    ordered: bool = False
    names: tuple[str, ...] = ()

    @property
    def held(self) -> int:
        """Units that are held of each group."""
        return int(self.usable.shape[1])

    @property
    def form(self) -> ShelfForm:
        """What must agree for two shelves to be set against each other, their roles aside."""
        return (self.kind, self.part, self.units, self.block, self.swap)


@dataclass(frozen=True, eq=False, slots=True)
class StreamSketch:
    """Sign bits of channels of the residual stream, over a few token rows.

    Attributes:
        width: Channels of the stream.
        rows: Rows of the embedding.
        first: First of the 64 rows that were read.
        flip: Whether a channel's sign is arbitrary.
        swap: Whether channels are exchangeable; those that are sorted are not.
        bits: ``[channels, bits / 8]`` of the first channels.
        usable: ``[channels]`` channels that are finite and not constant, and no near repeats of an earlier one.
        quantised: Whether the embedding is.
    """

    width: int
    rows: int
    first: int
    flip: bool
    swap: bool
    bits: ByteArray
    usable: BoolArray
    quantised: bool = False


@dataclass(frozen=True, slots=True)
class TokenizerSketch:
    """Which tokenizer belongs to the model.

    Attributes:
        file: Name of the file that holds the vocabulary.
        size: Its bytes.
        sha256: Its digest, where known without reading it.
    """

    file: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a fingerprint was made of.

    Attributes:
        id: Model id, or the name that a local model was given; never a path.
        revision: Commit on the Hub, or None.
        format: Weight format and quantisation, such as ``safetensors``.
        files: Weight files: size and sha256 (None where it was not known) by name.
        parameters: Number of parameters.
        architecture: Class name of the configuration, or the family, or None.
        tool: Name and version of the program that made it.
    """

    id: str
    revision: str | None
    format: str
    files: Mapping[str, tuple[int, str | None]]
    parameters: int
    architecture: str | None
    tool: str


@dataclass(frozen=True, eq=False, slots=True)
class Fingerprint:
    """A model, as small as its coins allow.

    Attributes:
        source: What it was made of.
        family: Layout name; ``unknown`` for an unknown graph.
        exact: Whether coins of different groups may be pooled.
        layers: Number of layers (tensors, for an unknown graph).
        width: Size of the residual stream; 0 when not known.
        shelves: The units.
        stream: The residual stream; None when it is not known.
        tokenizer: The tokenizer; None when there is none beside the weights.
        limits: Plain sentences about what was assumed or left out.
        part: Prefix of the tensors looked at, of composites; else "".
    """

    source: Source
    family: str
    exact: bool
    layers: int
    width: int
    shelves: tuple[Shelf, ...]
    stream: StreamSketch | None = None
    tokenizer: TokenizerSketch | None = None
    limits: tuple[str, ...] = field(default=())
    part: str = ""
