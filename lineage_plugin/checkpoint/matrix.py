"""A tensor seen as a matrix, and where the selected part of it lies.

:class:`Block` is a selection that has been checked against its tensor. For bytes at hand :func:`gather` picks the
elements out of the memory map; for bytes elsewhere :func:`segments` says which stretches of the file to fetch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Block", "Segments", "block", "gather", "segments"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """A checked selection.

    Attributes:
        info: The tensor.
        height: Rows of the matrix.
        width: Columns of the matrix.
        rows: Selected rows, or None for all.
        columns: Selected columns, or None for all.
    """

    info: TensorInfo
    height: int
    width: int
    rows: IntArray | None
    columns: IntArray | None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the selected part."""
        rows = self.height if self.rows is None else int(self.rows.size)
        columns = self.width if self.columns is None else int(self.columns.size)
        return rows, columns


@dataclass(frozen=True, eq=False, slots=True)
class Segments:
    """Equally long stretches of a file that hold some columns of a block.

    Attributes:
        starts: ``[n]`` position of each stretch in the file, increasing.
        length: Bytes of each stretch.
        target: Columns of the result that the stretches fill.
        picks: Columns to keep of each stretch, counted from its start; None when it is kept whole.
    """

    starts: IntArray
    length: int
    target: slice
    picks: IntArray | None


def block(selection: Selection, info: TensorInfo) -> Block:
    """Check a selection against its tensor.

    Args:
        selection: What is asked for.
        info: The tensor it names.

    Returns:
        The selection with its matrix.

    Raises:
        ValueError: When the width does not divide the tensor, or rows or columns are not strictly increasing indices
            inside the matrix. That is a mistake of the caller, not of the input.
    """
    size = info.size
    if selection.width is not None:
        if selection.width <= 0 or size % selection.width:
            raise ValueError(f"{selection.tensor}: {size} elements are no matrix of width {selection.width}")
        height, width = size // selection.width, selection.width
    elif len(info.shape) <= 1:
        height, width = size, 1
    else:
        height, width = info.shape[0], 1
        for extent in info.shape[1:]:
            width *= extent
    rows = _indices(selection.rows, height, "rows", selection.tensor)
    columns = _indices(selection.columns, width, "columns", selection.tensor)
    return Block(info, height, width, rows, columns)


def _indices(indices: IntArray | None, extent: int, axis: str, tensor: str) -> IntArray | None:
    if indices is None:
        return None
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"{tensor}: {axis} are not a vector of integers")
    array = array.astype(np.int64, copy=False)
    if array.size and (array[0] < 0 or array[-1] >= extent or np.any(array[1:] <= array[:-1])):
        raise ValueError(f"{tensor}: {axis} are not strictly increasing indices below {extent}")
    return array


def gather(matrix: NDArray[np.generic], part: Block) -> NDArray[np.generic]:
    """Return the selected part of a matrix that is in memory or mapped, touching nothing else.

    Args:
        matrix: ``[height, width]`` stored elements.
        part: What to take of it.

    Returns:
        ``[rows, columns]``; a view when everything is selected.
    """
    rows, columns = part.rows, part.columns
    if columns is None:
        return matrix if rows is None else matrix[rows]
    window = matrix[:, _as_slice(columns)] if _is_run(columns) else None
    if rows is None:
        return matrix[:, columns] if window is None else window
    return matrix[rows[:, None], columns] if window is None else window[rows]


def segments(part: Block, itemsize: int, gap: int) -> list[Segments]:
    """Return the stretches of the file that hold a block.

    Columns closer than ``gap`` bytes go into one stretch: fetching what lies between is cheaper than another request.

    Args:
        part: What to read; not empty.
        itemsize: Bytes of one element.
        gap: Largest number of unwanted bytes inside a stretch.
    """
    info = part.info
    if part.rows is None and part.columns is None:
        return [Segments(np.array([info.offset], np.int64), info.nbytes, slice(0, part.width), None)]
    pitch = part.width * itemsize
    rows = np.arange(part.height, dtype=np.int64) if part.rows is None else part.rows
    first = info.offset + rows * pitch
    if part.columns is None:
        return [Segments(first, pitch, slice(0, part.width), None)]
    groups: list[Segments] = []
    breaks = np.flatnonzero((np.diff(part.columns) - 1) * itemsize > gap) + 1
    edges = [0, *breaks.tolist(), int(part.columns.size)]
    for begin, end in pairwise(edges):
        columns = part.columns[begin:end]
        origin = int(columns[0])
        length = (int(columns[-1]) + 1 - origin) * itemsize
        picks = None if _is_run(columns) else columns - origin
        groups.append(Segments(first + origin * itemsize, length, slice(begin, end), picks))
    return groups


def _is_run(indices: IntArray) -> bool:
    return indices.size > 0 and int(indices[-1]) - int(indices[0]) + 1 == indices.size


def _as_slice(run: IntArray) -> slice:
    return slice(int(run[0]), int(run[-1]) + 1)
