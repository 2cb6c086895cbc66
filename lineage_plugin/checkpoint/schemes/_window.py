"""Any matrix of a tensor, in terms of the rows in which it is stored.

A quantised matrix is stored row by row, and what a row needs (its words, its scales) is known only for that width. A
selection may ask for another width: fused experts ``[experts, units, hidden]`` are one row per expert by default.
:class:`Window` says which stored rows and columns a part touches, and puts what was computed of them into its shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.matrix import Block

__all__ = ["Window", "window"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Window:
    """The stored rows and columns that a part touches.

    Attributes:
        rows: Stored rows, strictly increasing, or None for all.
        columns: Columns of the stored matrix, strictly increasing, or None for all.
        places: ``[rows, columns]`` of the part: where each element lies among the touched ones, in C order; None when
            they only have to be given another shape.
        shape: Shape of the part.
    """

    rows: IntArray | None
    columns: IntArray | None
    places: IntArray | None
    shape: tuple[int, int]

    def shaped(self, values: FloatArray) -> FloatArray:
        """Return the part.

        Args:
            values: ``[rows, columns]`` what was computed of the touched rows and columns.
        """
        if self.places is None:
            return values.reshape(self.shape)
        part: FloatArray = values.reshape(-1)[self.places]
        return part


def window(part: Block, width: int) -> Window:
    """Return what a part touches of a tensor that is stored in rows of another width.

    Args:
        part: The part.
        width: Columns of the stored matrix; positive.
    """
    if part.width == width:
        return Window(part.rows, part.columns, None, part.shape)
    if part.rows is None and part.columns is None:
        return Window(None, None, None, part.shape)
    if part.columns is None and part.width % width == 0:
        # Whole rows of the part are whole rows of the stored matrix, so many of them.
        each = part.width // width
        whole = None if part.rows is None else (part.rows[:, None] * each + np.arange(each)).reshape(-1)
        return Window(whole, None, None, part.shape)
    rows = np.arange(part.height, dtype=np.int64) if part.rows is None else part.rows
    columns = np.arange(part.width, dtype=np.int64) if part.columns is None else part.columns
    flat = rows[:, None] * part.width + columns
    touched, row = np.unique(flat // width, return_inverse=True)
    column = flat % width
    wanted = np.unique(column)
    places = row.reshape(flat.shape) * wanted.size + np.searchsorted(wanted, column)
    return Window(touched, wanted, places, part.shape)
