"""Tensors whose elements do not lie one after the other: transposed matrices, slices, images with the channels last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.dtypes import BITS
from lineage_plugin.checkpoint.matrix import Block, gather
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Strided", "is_contiguous", "span", "strided"]

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


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

    Attributes:
        info: The tensor.
        stored: The matrix, or vector, that holds its elements.
        strides: Elements between neighbours along each axis.
        first: Where its first element is in the stored matrix, in C order.
        axis: 0 when every row of the tensor lies in one row of the stored matrix, 1 when every column of it does, None
            when neither holds, and it can only be read as a whole.
    """

    info: TensorInfo
    stored: TensorInfo
    strides: tuple[int, ...]
    first: int
    axis: int | None

    def needs(self, part: Block) -> Sequence[Selection]:
        """Return the rows of the stored matrix that hold the rows, or columns, of the part."""
        if not self._is_lazy(part):
            return [Selection(self.stored.name)]
        outer, places = self._places(part)
        return [Selection(self.stored.name, outer, np.unique(places))]

    def compute(self, part: Block, stored: Sequence[NDArray[np.generic]]) -> FloatArray:
        """Return the elements in the order of the tensor."""
        if self._is_lazy(part):
            picks = np.unique(self._places(part)[1], return_inverse=True)[1].reshape(-1)
            taken = stored[0][:, picks]
            return np.ascontiguousarray(taken if self.axis == 0 else taken.T, dtype=np.float32)
        flat = np.ascontiguousarray(stored[0]).reshape(-1)
        steps = tuple(stride * flat.itemsize for stride in self.strides)
        view = np.lib.stride_tricks.as_strided(flat[self.first :], self.info.shape, steps, writeable=False)
        matrix = np.ascontiguousarray(view, dtype=np.float32).reshape(part.height, part.width)
        return np.ascontiguousarray(gather(matrix, part), dtype=np.float32)

    def _is_lazy(self, part: Block) -> bool:
        """Whether the part is seen as the matrix that the tensor is by itself."""
        shape = self.info.shape
        return self.axis is not None and (part.height, part.width) == (shape[0], prod(shape[1:]))

    def _places(self, part: Block) -> tuple[IntArray | None, IntArray]:
        """Return the rows of the stored matrix that are needed, and where in each of them the elements are."""
        if self.axis == 1:
            rows = np.arange(part.height, dtype=np.int64) if part.rows is None else part.rows
            return part.columns, self.first + rows * self.strides[0]
        columns = np.arange(part.width, dtype=np.int64) if part.columns is None else part.columns
        places = np.full(columns.shape, self.first, np.int64)
        for extent, stride in zip(reversed(self.info.shape[1:]), reversed(self.strides[1:]), strict=True):
            places += columns % extent * stride
            columns = columns // extent
        return part.rows, places


def strided(
    info: TensorInfo, strides: tuple[int, ...], offset: int, storage: tuple[int, int], stored_name: str
) -> Strided:
    """Describe a tensor whose elements do not lie one after the other.

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
    kind = "F32" if info.dtype in _FLOATS else info.dtype
    seen = replace(info, dtype=kind, offset=at + first * itemsize, nbytes=own)
    return Strided(seen, stored, strides, first, axis)


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
