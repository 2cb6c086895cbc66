"""Numbers that blocks of a matrix share: scales and zero points, stored as a smaller matrix.

A stack of matrices ``[experts, rows, columns]`` has one such grid each. :class:`Grid` reads the entries that some rows
and columns need, and spreads them over those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import FloatArray, IntArray
from lineage_plugin.checkpoint.dtypes import decode
from lineage_plugin.checkpoint.schemes._packing import scale_e8m0
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["FLOATS", "Grid", "ScaleKind", "fit"]

ScaleKind = Literal["number", "E8M0", "E4M3"]
"""How scales are stored: as numbers, or as bytes that hold an exponent of two or a float of eight bits."""
FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""Stored types of scales that are numbers themselves."""
_EXPONENTS = frozenset({"U8", "F8_E8M0"})
"""Stored types of scales that are exponents of two (OCP Microscaling Formats 1.0, 5.4.1)."""
_WHOLE = frozenset({"I8", "U8", "I16", "I32", "I64"})
_USUAL = 128
"""Edge of a block when nothing says otherwise (DeepSeek-V3, arXiv:2412.19437, 3.3.2)."""


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """A stored tensor with one number for each block of a matrix.

    Attributes:
        tensor: Its name.
        planes: How many grids are stacked: the number of matrices, or 1 for one that all share.
        shape: Rows and columns of one grid.
        block: Rows and columns of the matrix that share an entry; the last blocks may be cut.
        height: Rows of one matrix.
        kind: How an entry is stored.
    """

    tensor: str
    planes: int
    shape: tuple[int, int]
    block: tuple[int, int]
    height: int
    kind: ScaleKind = "number"

    def need(self, rows: IntArray | None, columns: IntArray | None) -> Selection:
        """Return what is read for some rows and columns of the stack of matrices; None for all."""
        wanted, _ = self._rows(rows)
        return Selection(self.tensor, wanted, self._columns(columns)[0], self.shape[1])

    def entries(self, stored: NDArray[np.generic], rows: IntArray | None) -> FloatArray:
        """Return the entries of some rows, for the columns that were read.

        Args:
            stored: What was read for :meth:`need`.
            rows: The rows, or None for all.

        Returns:
            ``[rows, entries]``; one row when all rows share it.
        """
        if self.kind == "E8M0":
            values = scale_e8m0(stored)
        else:
            values = decode(stored, "F8_E4M3") if self.kind == "E4M3" else np.asarray(stored, np.float32)
        back = self._rows(rows)[1]
        return values if back is None or values.shape[0] == 1 else values[back]

    def apply(
        self, operation: np.ufunc, values: FloatArray, entries: FloatArray, columns: IntArray | None, width: int
    ) -> None:
        """Combine every value with the entry of its block, in place.

        Args:
            operation: What to do, such as ``np.multiply``.
            values: ``[rows, columns]``.
            entries: ``[rows, entries]`` or ``[1, entries]``, of :meth:`entries` or computed from it.
            columns: The columns of the values, or None for all.
            width: Columns of the matrix.
        """
        count, wide = self.shape[1], self.block[1]
        if entries.shape[1] == 1:
            operation(values, entries, out=values)
        elif columns is not None:
            operation(values, entries[:, self._columns(columns)[1]], out=values)
        elif width == count * wide:
            blocks = values.reshape(values.shape[0], count, wide)
            operation(blocks, entries[:, :, None], out=blocks)
        else:
            operation(values, np.repeat(entries, wide, axis=1)[:, :width], out=values)

    def _rows(self, rows: IntArray | None) -> tuple[IntArray | None, IntArray | None]:
        """Return the rows of the grid to read, and which of them each row of the matrices uses."""
        if self.planes == 1 and self.shape[0] == 1:
            return None, None
        if self.block[0] == 1:
            return rows, None
        if rows is None:
            plane = np.arange(self.planes, dtype=np.int64)[:, None] * self.shape[0]
            inside = np.arange(self.height, dtype=np.int64) // self.block[0]
            return None, (plane + inside).reshape(-1)
        own = rows % self.height // self.block[0]
        if self.planes > 1:
            own = own + rows // self.height * self.shape[0]
        wanted, back = np.unique(own, return_inverse=True)
        return wanted, back.reshape(-1)

    def _columns(self, columns: IntArray | None) -> tuple[IntArray | None, IntArray]:
        if columns is None or self.shape[1] == 1:
            return None, np.zeros(0, np.int64)
        wanted, back = np.unique(columns // self.block[1], return_inverse=True)
        return wanted, back.reshape(-1)


def fit(
    info: TensorInfo,
    planes: int,
    height: int,
    width: int,
    hint: tuple[int, int] | None = None,
    *,
    whole: bool = False,
) -> tuple[Grid, tuple[int, int]] | None:
    """Lay a tensor of scales over a stack of matrices.

    Args:
        info: The scales: one for all; one a matrix; one a row; or a grid, the last blocks of which may be cut.
        planes: Number of matrices.
        height: Rows of each.
        width: Columns of each.
        hint: Rows and columns of a block, as the settings have it. They count where they fit the shape of the grid;
            then 128 does; otherwise its extents divide those of the matrix, as transformers has it.
        whole: Whether whole numbers stand for themselves: zero points.

    Returns:
        The grid, and the rows and columns that share a scale, -1 for all; None when it does not fit.
    """
    known = FLOATS | (_WHOLE if whole else _EXPONENTS)
    if info.dtype not in known or info.size == 0:
        return None
    laid = _lay(info.shape, planes, height)
    if laid is None:
        return None
    stacked, rows, columns = laid
    high = _edge(height, rows, None if hint is None else hint[0])
    wide = _edge(width, columns, None if hint is None else hint[1])
    if high is None or wide is None:
        return None
    if (high, wide) == (1, 1) and min(height, width) > 1:
        # A number for each element is no scale: it can make any matrix of any other.
        return None
    kind: ScaleKind = "E8M0" if not whole and info.dtype in _EXPONENTS else "number"
    grid = Grid(info.name, stacked, (rows, columns), (high, wide), height, kind)
    # One grid for several matrices is one for all rows only where it has a single row.
    if stacked == 1 and planes > 1 and rows > 1:
        return None
    return grid, (-1 if rows == stacked == 1 else high, -1 if columns == 1 else wide)


def _lay(shape: Sequence[int], planes: int, height: int) -> tuple[int, int, int] | None:
    """Return stacked grids, rows and columns of each."""
    size = prod(shape)
    if size == 1:
        return 1, 1, 1
    if len(shape) == 4 and planes == 1 and shape[1] == shape[3] == 1:
        # ModelOpt keeps the extents of a block, as 1.
        shape = (shape[0], shape[2])
    if len(shape) >= 2:
        lead, rows, columns = prod(shape[:-2]), shape[-2], shape[-1]
        if lead in (1, planes):
            return lead, rows, columns
        if (lead, rows, columns) == (1, planes * height, 1):
            return planes, height, 1
        return None
    if size == planes * height:
        return planes, height, 1
    if size == height and planes == 1:
        return 1, height, 1
    return (planes, 1, 1) if size == planes else None


def _edge(extent: int, count: int, hint: int | None) -> int | None:
    """Return how much of an extent each of ``count`` blocks covers."""
    if count == 1:
        return extent
    for edge in (hint, _USUAL):
        if edge is not None and -(-extent // edge) == count:
            return edge
    return extent // count if extent % count == 0 else None
