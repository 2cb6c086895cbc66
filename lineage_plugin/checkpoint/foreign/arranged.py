"""Tensors whose elements lie in another order, or in several pieces: kernels of Flax, Keras and ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.matrix import Block
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Arranged", "Store", "torch_axes"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def torch_axes(rank: int) -> tuple[int, ...]:
    """Return the stored axis for each axis of PyTorch, for the kernel of a linear or convolutional layer.

    Flax and Keras store ``[in, out]``, ``[width, in, out]`` and ``[height, width, in, out]`` (flax.linen.Conv,
    keras.layers.Conv2D); PyTorch ``[out, in]``, ``[out, in, width]`` and ``[out, in, height, width]``.
    """
    return (rank - 1, rank - 2, *range(rank - 2)) if rank >= 2 else tuple(range(rank))


@dataclass(frozen=True, eq=False, slots=True)
class Arranged:
    """A tensor whose axes are stored in another order, in one piece or several.

    Attributes:
        info: The tensor.
        pieces: The stored tensors that hold its elements, one after the other.
        sizes: Elements of each.
        axes: The stored axis for each axis of the tensor.
    """

    info: TensorInfo
    pieces: tuple[str, ...]
    sizes: tuple[int, ...]
    axes: tuple[int, ...]

    def needs(self, part: Block) -> Sequence[Selection]:
        """Return the stored elements: rows and columns exchanged for a matrix, single elements for anything else."""
        if self._turned(part):
            return [Selection(self.pieces[0], part.columns, part.rows)]
        if part.rows is None and part.columns is None:
            return [Selection(piece) for piece in self.pieces]
        places = np.sort(self._places(part))
        bounds = np.concatenate(([0], np.cumsum(self.sizes, dtype=np.int64)))
        edges = np.searchsorted(places, bounds)
        return [
            Selection(piece, places[edges[n] : edges[n + 1]] - bounds[n], width=1)
            for n, piece in enumerate(self.pieces)
            if edges[n] < edges[n + 1]
        ]

    def compute(self, part: Block, stored: Sequence[NDArray[np.generic]]) -> FloatArray:
        """Return the part in the order of the tensor."""
        if self._turned(part):
            return np.ascontiguousarray(stored[0].T, dtype=np.float32)
        flat = np.concatenate(
            [np.asarray(piece, np.float32).reshape(-1) for piece in stored] or [np.empty(0, np.float32)]
        )
        if part.rows is None and part.columns is None:
            whole = flat.reshape(self._stored_shape()).transpose(self.axes)
            return np.ascontiguousarray(whole).reshape(part.height, part.width)
        result = np.empty_like(flat)
        result[np.argsort(self._places(part))] = flat
        return result.reshape(part.shape)

    def _turned(self, part: Block) -> bool:
        """Whether this is a matrix that is stored the other way round, in one piece, and read as such."""
        return self.axes == (1, 0) and len(self.pieces) == 1 and part.width == self.info.shape[1]

    def _stored_shape(self) -> tuple[int, ...]:
        shape = [0] * len(self.axes)
        for axis, extent in zip(self.axes, self.info.shape, strict=True):
            shape[axis] = extent
        return tuple(shape)

    def _places(self, part: Block) -> IntArray:
        """Return where each element of the part is among the stored ones."""
        rows = np.arange(part.height, dtype=np.int64) if part.rows is None else part.rows
        columns = np.arange(part.width, dtype=np.int64) if part.columns is None else part.columns
        left = (rows[:, None] * part.width + columns).reshape(-1)
        shape = self._stored_shape()
        places = np.zeros(left.size, np.int64)
        for axis, extent in zip(reversed(self.axes), reversed(self.info.shape), strict=True):
            left, index = np.divmod(left, max(1, extent))
            places += index * prod(shape[axis + 1 :])
        return places


class Store:
    """Collects what a walker finds: tensors as they are, and tensors in another order with what they are made of."""

    def __init__(self) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        self.derived: dict[str, Arranged] = {}
        self.hidden: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.derived or (name in self.tensors and name not in self.hidden)

    def add(self, name: str, pieces: Sequence[TensorInfo], shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
        """Add a tensor.

        Args:
            name: Its name.
            pieces: What holds its elements, in order.
            shape: Its shape as it is stored.
            axes: The stored axis for each of its own axes.
        """
        first = pieces[0]
        if len(pieces) == 1 and axes == tuple(range(len(shape))):
            self.tensors[name] = TensorInfo(name, shape, first.dtype, first.file, first.offset, first.nbytes)
            return
        parts = []
        for piece in pieces:
            stored = f"{piece.file}@{piece.offset}"
            whole = shape if len(pieces) == 1 else (piece.size,)
            self.tensors[stored] = TensorInfo(stored, whole, piece.dtype, piece.file, piece.offset, piece.nbytes)
            self.hidden.add(stored)
            parts.append(stored)
        total = sum(piece.nbytes for piece in pieces)
        mine = tuple(shape[axis] for axis in axes)
        info = TensorInfo(name, mine, "F32", first.file, first.offset, total)
        self.derived[name] = Arranged(info, tuple(parts), tuple(piece.size for piece in pieces), axes)
