"""Matrices of levels and scales: ``(level - zero) * scale + offset``, row by row.

This is how compressed-tensors, FP8, MLX, MXFP4 and NVFP4 checkpoints hold a weight. The levels are numbers of their own
or packed fields; the scales are a grid of blocks, sometimes with a second one for the whole matrix; zero points, and
offsets in their place, are a grid too.

The product is computed in float32. Levels have at most 8 significant bits and scales of 16-bit types 11, so that the
result is exact for those, and rounded once for float32 scales. The libraries round it once more, to the type that
they compute in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import FloatArray, IntArray, Stored
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes._grid import Grid
from lineage_plugin.checkpoint.schemes._packing import Fields, look_up
from lineage_plugin.checkpoint.types import Selection
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["Levels", "Order", "Scaled", "Zeros"]


@dataclass(frozen=True, eq=False, slots=True)
class Levels:
    """Where the levels are, and what they stand for.

    Attributes:
        tensor: The stored tensor.
        fields: How they are packed; None for one element each.
        table: The number each field stands for; None when it stands for itself.
        offset: What is subtracted from each field.
    """

    tensor: str
    fields: Fields | None = None
    table: FloatArray | None = None
    offset: int = 0

    def need(self, rows: IntArray | None, columns: IntArray | None, width: int) -> Selection:
        """Return what is read for some rows and columns of a matrix of ``width`` columns."""
        if self.fields is None:
            return Selection(self.tensor, rows, columns, width)
        return Selection(self.tensor, rows, self.fields.words(columns), self.fields.length(width))

    def numbers(self, stored: NDArray[np.generic], columns: IntArray | None, width: int) -> FloatArray:
        """Return the levels as numbers, a new array ``[rows, columns]``."""
        raw = stored if self.fields is None else self.fields.levels(stored, columns, width)
        if self.table is not None:
            return look_up(self.table, raw.astype(np.uint8, copy=False))
        numbers = raw.astype(np.float32)
        if self.offset:
            numbers -= np.float32(self.offset)
        return numbers


@dataclass(frozen=True, eq=False, slots=True)
class Zeros:
    """Zero points: a grid like that of the scales, packed along its rows where ``bits`` says so.

    Attributes:
        grid: The grid; where it is packed, ``grid.tensor`` holds ``[planes, words, columns]``.
        bits: Bits of a field, one after the other in words of 32 bits; None for one element each.
        offset: What is subtracted from each field.
    """

    grid: Grid
    bits: int | None = None
    offset: int = 0

    def need(self, rows: IntArray | None, columns: IntArray | None) -> Selection:
        """Return what is read for some rows and columns of the stack of matrices."""
        plain = self.grid.need(rows, columns)
        if self.bits is None or rows is None:
            return plain
        first, last, _ = self._words(rows, self.bits)
        return Selection(plain.tensor, np.union1d(first, last), plain.columns, plain.width)

    def entries(self, stored: NDArray[np.generic], rows: IntArray | None) -> FloatArray:
        """Return the zero points of some rows, ``[rows, entries]``; one row when all rows share it."""
        if self.bits is None:
            return self.grid.entries(stored, rows)
        every = np.arange(self.grid.planes * self.grid.height, dtype=np.int64) if rows is None else rows
        first, last, shift = self._words(every, self.bits)
        words = stored.astype(np.int64) & 0xFFFFFFFF
        if rows is not None:
            here = np.union1d(first, last)
            first, last = np.searchsorted(here, first), np.searchsorted(here, last)
        # A field may begin in one word and end in the next.
        wide = words[first] | np.where(last > first, 1, 0)[:, None] * (words[last] << 32)
        fields = wide >> shift[:, None] & (1 << self.bits) - 1
        found: FloatArray = (fields - self.offset).astype(np.float32)
        return found

    def _words(self, rows: IntArray, bits: int) -> tuple[IntArray, IntArray, IntArray]:
        """Return the first and the last word of each row's field, and its first bit in the first word."""
        height = self.grid.height
        start = rows % height * bits
        plane = rows // height * Fields(bits).length(height)
        return plane + start // 32, plane + (start + bits - 1) // 32, start % 32


@dataclass(frozen=True, eq=False, slots=True)
class Order:
    """Which group each column belongs to, where that is not its place: GPTQ with the columns of a group apart.

    Attributes:
        tensor: The stored vector.
        size: Columns of a group.
        count: Number of groups.
        where: The model, for messages.
    """

    tensor: str
    size: int
    count: int
    where: str

    def groups(self, stored: NDArray[np.generic], columns: IntArray | None) -> IntArray:
        """Return the group of each column.

        Raises:
            UnreadableCheckpoint: When there is no such group.
        """
        groups = stored.reshape(-1).astype(np.int64)
        if groups.size and np.all(groups == -1):
            # The library's mark for an order that was never set.
            return (np.arange(groups.size, dtype=np.int64) if columns is None else columns) // self.size
        if np.any((groups < 0) | (groups >= self.count)):
            raise UnreadableCheckpoint(
                self.where,
                f"'{shown(self.tensor)}' names groups that do not exist",
                "Get the file again.",
            )
        return groups


@dataclass(frozen=True, eq=False, slots=True)
class Scaled:
    """A matrix, or a stack of matrices, of levels and scales.

    Satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`.

    Attributes:
        height: Rows of all matrices together.
        width: Columns.
        levels: The levels.
        scales: Grids whose entries are multiplied with each other, the finest first; the others have one column.
        divided: Whether the scale is divided by the grids after the first, instead of multiplied.
        zeros: What is subtracted from the levels; its grid is like that of the first scales.
        order: Which group of scales and zero points each column belongs to; None for its place.
        offsets: What is added to the products; a grid like that of the first scales.
    """

    height: int
    width: int
    levels: Levels
    scales: tuple[Grid, ...]
    divided: bool = False
    zeros: Zeros | None = None
    order: Order | None = None
    offsets: Grid | None = None

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the levels, scales and zero points of some rows and columns."""
        # Before the groups of the columns are read, it is not known which of the scales they need.
        grouped = columns if self.order is None else None
        needed = [self.levels.need(rows, columns, self.width)]
        needed += [grid.need(rows, grouped) for grid in self.scales]
        if self.zeros is not None:
            needed.append(self.zeros.need(rows, grouped))
        if self.offsets is not None:
            needed.append(self.offsets.need(rows, grouped))
        if self.order is not None:
            needed.append(Selection(self.order.tensor, columns, width=1))
        return needed

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]`` from what :meth:`needs` asked for.

        Raises:
            UnreadableCheckpoint: When columns belong to groups that do not exist.
        """
        values = self.levels.numbers(stored[0], columns, self.width)
        read = iter(stored[1:])
        scale, *others = (grid.entries(next(read), rows) for grid in self.scales)
        for other in others:
            scale = scale / other if self.divided else scale * other
        zero = None if self.zeros is None else self.zeros.entries(next(read), rows)
        offset = None if self.offsets is None else self.offsets.entries(next(read), rows)
        groups = None if self.order is None else self.order.groups(next(read), columns)
        for operation, entries in ((np.subtract, zero), (np.multiply, scale), (np.add, offset)):
            if entries is None:
                continue
            if groups is None:
                self.scales[0].apply(operation, values, entries, columns, self.width)
            else:
                operation(values, entries[:, groups], out=values)
        return values
