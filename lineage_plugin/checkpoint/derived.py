"""Tensors that are computed from stored ones: quantised, transposed, put in another order.

A :class:`Matrix` says which parts of which stored tensors it needs for some of its rows and columns, and computes them
from that. Nothing else is read, so that a few rows of a quantised matrix cost a few rows. A :class:`Derived` tensor is
such a matrix under a name and in a shape, and may be seen as a matrix of any other width, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.matrix import Block
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Derived", "FloatArray", "IntArray", "Matrix", "Stored"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Stored = Sequence[NDArray[np.generic]]
"""What was read: floats as float32, whole numbers as they are stored. Not to be written to."""


class Matrix(Protocol):
    """A matrix of which some rows and columns can be computed."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what of the stored tensors is needed.

        Args:
            rows: Strictly increasing; None for all.
            columns: The same of the columns.
        """

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]`` from what :meth:`needs` asked for.

        Raises:
            UnreadableCheckpoint: When the stored numbers make no sense.
        """


@dataclass(frozen=True, eq=False, slots=True)
class Derived:
    """A tensor that is computed when it is read.

    Attributes:
        info: The tensor as later stages see it. Its ``dtype`` is ``F32``, but that of the stored tensor where numbers
            were only put elsewhere.
        matrix: Its elements in the same C order: ``height * width`` is its size.
    """

    info: TensorInfo
    matrix: Matrix

    def needs(self, part: Block) -> list[Selection]:
        """Return what of the stored tensors is needed for a checked selection of this one."""
        if 0 in part.shape:
            return []
        touched = _touched(part, self.matrix.width)
        return self.matrix.needs(touched.rows, touched.columns)

    def compute(self, part: Block, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]`` of the part from what :meth:`needs` asked for.

        Raises:
            UnreadableCheckpoint: When the stored numbers make no sense.
        """
        if 0 in part.shape:
            return np.zeros(part.shape, np.float32)
        touched = _touched(part, self.matrix.width)
        return touched.shaped(self.matrix.compute(touched.rows, touched.columns, stored))


@dataclass(frozen=True, eq=False, slots=True)
class _Touched:
    """The rows and columns of a matrix that a part of another width touches.

    Attributes:
        rows: Rows of the matrix, strictly increasing, or None for all.
        columns: Its columns, strictly increasing, or None for all.
        places: ``[rows, columns]`` of the part: where each element lies among the touched ones, in C order; None when
            they only have to be given another shape.
        shape: Shape of the part.
    """

    rows: IntArray | None
    columns: IntArray | None
    places: IntArray | None
    shape: tuple[int, int]

    def shaped(self, values: FloatArray) -> FloatArray:
        """Return the part from the touched rows and columns."""
        if self.places is None:
            return values.reshape(self.shape)
        part: FloatArray = values.reshape(-1)[self.places]
        return part


def _touched(part: Block, width: int) -> _Touched:
    """Return what a part touches of a matrix that has another width, such as experts ``[experts, units * hidden]``."""
    if part.width == width:
        return _Touched(part.rows, part.columns, None, part.shape)
    if part.rows is None and part.columns is None:
        return _Touched(None, None, None, part.shape)
    if part.columns is None and part.width % width == 0:
        # Whole rows of the part are whole rows of the matrix, so many of them.
        each = part.width // width
        whole = None if part.rows is None else (part.rows[:, None] * each + np.arange(each)).reshape(-1)
        return _Touched(whole, None, None, part.shape)
    rows = np.arange(part.height, dtype=np.int64) if part.rows is None else part.rows
    columns = np.arange(part.width, dtype=np.int64) if part.columns is None else part.columns
    flat = rows[:, None] * part.width + columns
    touched, row = np.unique(flat // width, return_inverse=True)
    column = flat % width
    wanted = np.unique(column)
    places = row.reshape(flat.shape) * wanted.size + np.searchsorted(wanted, column)
    return _Touched(touched, wanted, places, part.shape)
