"""Tensors whose elements do not lie one after the other: transposed matrices, slices, images with the channels last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from lineage_plugin.checkpoint.derived import Derived, FloatArray, IntArray, Stored
from lineage_plugin.checkpoint.dtypes import BITS
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Strided", "is_contiguous", "span", "strided"]


def is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Return whether elements lie one after the other in C order."""
    expected = 1
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent != 1 and stride != expected:
            return False
        expected *= extent
    return True


def span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Return how many elements lie from the first to the last element of a tensor that is not empty."""
    return 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class Strided:
    """A tensor that is a view of a stored matrix.

    Satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`, with a row for each index of the first axis.

    Attributes:
        shape: Its shape.
        strides: Elements between neighbours along each axis.
        stored: Name of the matrix, or vector, that holds its elements.
        first: Where its first element is in the stored matrix, in C order.
        axis: 0 when every row of the tensor lies in one row of the stored matrix, 1 when every column of it does, None
            when neither holds, and it can only be read as a whole.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    stored: str
    first: int
    axis: int | None

    @property
    def height(self) -> int:
        """Rows."""
        return self.shape[0] if self.shape else 1

    @property
    def width(self) -> int:
        """Columns."""
        return prod(self.shape[1:])

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the rows of the stored matrix that hold the rows, or columns, of the tensor."""
        if self.axis is None:
            return [Selection(self.stored)]
        outer, places = self._places(rows, columns)
        return [Selection(self.stored, outer, np.unique(places))]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the elements in the order of the tensor."""
        if self.axis is not None:
            picks = np.unique(self._places(rows, columns)[1], return_inverse=True)[1].reshape(-1)
            taken = stored[0][:, picks]
            return np.ascontiguousarray(taken if self.axis == 0 else taken.T, dtype=np.float32)
        flat = np.ascontiguousarray(stored[0]).reshape(-1)
        steps = tuple(stride * flat.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(flat[self.first :], self.shape, steps, writeable=False)
        whole = np.ascontiguousarray(view, dtype=np.float32).reshape(self.height, self.width)
        whole = whole if rows is None else whole[rows]
        return whole if columns is None else whole[:, columns]

    def _places(self, rows: IntArray | None, columns: IntArray | None) -> tuple[IntArray | None, IntArray]:
        """Return the rows of the stored matrix that are needed, and where in each of them the elements are."""
        if self.axis == 1:
            down = np.arange(self.height, dtype=np.int64) if rows is None else rows
            return columns, self.first + down * self.strides[0]
        across = np.arange(self.width, dtype=np.int64) if columns is None else columns
        places = np.full(across.shape, self.first, np.int64)
        for extent, stride in zip(reversed(self.shape[1:]), reversed(self.strides[1:]), strict=True):
            places += across % extent * stride
            across = across // extent
        return rows, places


def strided(
    info: TensorInfo, strides: tuple[int, ...], offset: int, storage: tuple[int, int], stored_name: str
) -> tuple[Derived, TensorInfo]:
    """Return a tensor whose elements do not lie one after the other, and the stored matrix that it is made of.

    Args:
        info: The tensor as it is stored; ``offset`` and ``nbytes`` are set here. It is not empty.
        strides: Elements between neighbours along each axis.
        offset: Its first element, counted in elements from the start of the storage. All elements are inside it.
        storage: Where the storage begins in the file, in bytes, and how many elements it has.
        stored_name: Name for the stored matrix, which no tensor has.
    """
    shape, (begin, count) = info.shape, storage
    plan: tuple[int, int, int, int, int | None] | None = None
    if shape:
        inner = span(shape[1:], strides[1:])
        plan = _pitched(0, shape[0], strides[0], inner, offset, count)
        if plan is None and len(shape) == 2:
            plan = _pitched(1, shape[1], strides[1], span(shape[:1], strides[:1]), offset, count)
    if plan is None:
        plan = (1, span(shape, strides), offset, 0, None)
    height, width, base, first, axis = plan
    itemsize = BITS[info.dtype] // 8
    nbytes = height * width * itemsize
    at = begin + base * itemsize
    stored = replace(info, name=stored_name, shape=(height, width), offset=at, nbytes=nbytes)
    own = min(nbytes, prod(shape) * itemsize)
    seen = replace(info, offset=at + first * itemsize, nbytes=own)
    return Derived(seen, Strided(shape, strides, stored_name, first, axis)), stored


def _pitched(
    axis: int, height: int, pitch: int, inner: int, offset: int, count: int
) -> tuple[int, int, int, int, int | None] | None:
    """Return height, width and first element of the matrix whose rows are ``pitch`` elements, if it is in the storage.

    Near the end of the storage the last row may not be whole; the matrix then begins that much earlier.
    """
    base = min(offset, count - height * pitch)
    if base < 0 or offset - base + inner > pitch:
        return None
    return height, pitch, base, offset - base, axis
