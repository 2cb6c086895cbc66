"""Tensors whose elements lie in another order, or in several pieces: kernels of Flax, Keras and ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from lineage_plugin.checkpoint.derived import Derived, FloatArray, IntArray, Matrix, Stored
from lineage_plugin.checkpoint.types import Selection, TensorInfo
from lineage_plugin.checkpoint.views import Plain, Turned

__all__ = ["Arranged", "Store", "torch_axes"]


def torch_axes(rank: int) -> tuple[int, ...]:
    """Return the stored axis for each axis of PyTorch, for the kernel of a linear or convolutional layer.

    Flax and Keras store ``[in, out]``, ``[width, in, out]`` and ``[height, width, in, out]`` (flax.linen.Conv,
    keras.layers.Conv2D); PyTorch ``[out, in]``, ``[out, in, width]`` and ``[out, in, height, width]``.
    """
    return (rank - 1, rank - 2, *range(rank - 2)) if rank >= 2 else tuple(range(rank))


@dataclass(frozen=True, eq=False, slots=True)
class Arranged:
    """A tensor whose axes are stored in another order, in one piece or several.

    Satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`, with a row for each index of the first axis.

    Attributes:
        shape: Its own shape.
        axes: The stored axis for each of its own axes.
        pieces: The stored tensors that hold its elements, one after the other.
        sizes: Elements of each.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    pieces: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def height(self) -> int:
        """Rows."""
        return self.shape[0] if self.shape else 1

    @property
    def width(self) -> int:
        """Columns."""
        return prod(self.shape[1:])

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the stored elements: all, or just those wanted."""
        if rows is None and columns is None:
            return [Selection(piece) for piece in self.pieces]
        places = np.sort(self._places(rows, columns))
        bounds = np.concatenate(([0], np.cumsum(self.sizes, dtype=np.int64)))
        edges = np.searchsorted(places, bounds)
        return [
            Selection(piece, places[edges[n] : edges[n + 1]] - bounds[n], width=1)
            for n, piece in enumerate(self.pieces)
            if edges[n] < edges[n + 1]
        ]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the elements in the order of the tensor."""
        flat = np.concatenate([np.asarray(piece, np.float32).reshape(-1) for piece in stored])
        if rows is None and columns is None:
            whole = flat.reshape(self._stored_shape()).transpose(self.axes)
            return np.ascontiguousarray(whole).reshape(self.height, self.width)
        result = np.empty_like(flat)
        result[np.argsort(self._places(rows, columns))] = flat
        return result.reshape(self.height if rows is None else rows.size, -1)

    def _stored_shape(self) -> tuple[int, ...]:
        shape = [0] * len(self.axes)
        for axis, extent in zip(self.axes, self.shape, strict=True):
            shape[axis] = extent
        return tuple(shape)

    def _places(self, rows: IntArray | None, columns: IntArray | None) -> IntArray:
        """Return where each element is among the stored ones."""
        down = np.arange(self.height, dtype=np.int64) if rows is None else rows
        across = np.arange(self.width, dtype=np.int64) if columns is None else columns
        left = (down[:, None] * self.width + across).reshape(-1)
        shape = self._stored_shape()
        places = np.zeros(left.size, np.int64)
        for axis, extent in zip(reversed(self.axes), reversed(self.shape), strict=True):
            left, index = np.divmod(left, max(1, extent))
            places += index * prod(shape[axis + 1 :])
        return places


class Store:
    """Collects what a walker finds: tensors as they are, and tensors in another order with what they are made of."""

    def __init__(self) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        self.derived: dict[str, Derived] = {}
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
        mine = tuple(shape[axis] for axis in axes)
        matrix: Matrix = Arranged(mine, axes, tuple(parts), tuple(piece.size for piece in pieces))
        if axes == (1, 0) and len(parts) == 1:
            matrix = Turned(Plain(parts[0], *shape))
        total = sum(piece.nbytes for piece in pieces)
        self.derived[name] = Derived(TensorInfo(name, mine, first.dtype, first.file, first.offset, total), matrix)
