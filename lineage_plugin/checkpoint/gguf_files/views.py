"""Lines in another arrangement: what the converter of llama.cpp did to a tensor, undone when it is read.

Each view is a matrix made of another one or two, and stays lazy: rows and columns wanted of it become rows and columns
wanted of what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.gguf_files.blocks import FloatArray, IntArray, Lines, Stored
from lineage_plugin.checkpoint.matrix import Block
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Arranged", "InTurns", "Order", "Ordered", "Part", "Shifted", "Turned", "axes_order", "grouped_order"]

Order = Callable[[IntArray], IntArray]
"""Where rows are stored."""


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """A run of rows, such as one expert of many.

    Attributes:
        lines: The whole.
        first: The first row.
        height: Number of rows.
    """

    lines: Lines
    first: int
    height: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.lines.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of the whole."""
        return self.lines.needs(self._rows(rows), columns)

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return rows of the whole."""
        return self.lines.compute(self._rows(rows), columns, stored)

    def _rows(self, rows: IntArray | None) -> IntArray:
        return self.first + (np.arange(self.height, dtype=np.int64) if rows is None else rows)


@dataclass(frozen=True, eq=False, slots=True)
class Ordered:
    """The same rows in another order.

    Attributes:
        lines: The rows as they are stored.
        order: Where each row is stored.
    """

    lines: Lines
    order: Order

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.lines.height

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.lines.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of the rows where they are stored."""
        return self.lines.needs(self._places(rows)[0], columns)

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the rows in their own order."""
        places, back = self._places(rows)
        found: FloatArray = self.lines.compute(places, columns, stored)[back]
        return found

    def _places(self, rows: IntArray | None) -> tuple[IntArray, IntArray]:
        places = self.order(np.arange(self.height, dtype=np.int64) if rows is None else rows)
        wanted, back = np.unique(places, return_inverse=True)
        return wanted, back.reshape(-1)


@dataclass(frozen=True, eq=False, slots=True)
class Shifted:
    """The same numbers with one added to all.

    Attributes:
        lines: The numbers as they are stored.
        amount: What is added.
    """

    lines: Lines
    amount: float

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.lines.height

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.lines.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of the stored numbers."""
        return self.lines.needs(rows, columns)

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the sums."""
        found: FloatArray = self.lines.compute(rows, columns, stored) + np.float32(self.amount)
        return found


@dataclass(frozen=True, eq=False, slots=True)
class Turned:
    """Matrices below one another, each transposed.

    Attributes:
        lines: The matrices as they are stored.
        count: How many they are.
    """

    lines: Lines
    count: int = 1

    @property
    def height(self) -> int:
        """Number of rows: columns of the stored ones, for each of the matrices."""
        return self.lines.width * self.count

    @property
    def width(self) -> int:
        """Number of columns: rows of one stored matrix."""
        return self.lines.height // self.count

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of the stored matrices."""
        return self.lines.needs(*self._stored(rows, columns)[:2])

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return what was read, turned."""
        theirs, inner, which, place = self._stored(rows, columns)
        values = self.lines.compute(theirs, inner, stored)
        if which is None or place is None:
            if self.count == 1:
                return np.ascontiguousarray(values.T)
            cube = values.reshape(self.count, -1, values.shape[1])
            return np.ascontiguousarray(cube.transpose(0, 2, 1)).reshape(-1, cube.shape[1])
        across = self.width if columns is None else columns.size
        matrices = int(which[-1]) + 1 if which.size else 0
        cube = values.reshape(matrices, across, values.shape[1])
        found: FloatArray = cube.transpose(0, 2, 1)[which, place]
        return found

    def _stored(
        self, rows: IntArray | None, columns: IntArray | None
    ) -> tuple[IntArray | None, IntArray | None, IntArray | None, IntArray | None]:
        """Return rows and columns as they are stored, and for each row which matrix and which column among them."""
        if self.count == 1:
            return columns, rows, None, None
        across = np.arange(self.width, dtype=np.int64) if columns is None else columns
        if rows is None:
            every = np.arange(self.count, dtype=np.int64)
            return _cross(every, self.width, across), None, None, None
        matrices, which = np.unique(rows // self.lines.width, return_inverse=True)
        inner, place = np.unique(rows % self.lines.width, return_inverse=True)
        return _cross(matrices, self.width, across), inner, which.reshape(-1), place.reshape(-1)


@dataclass(frozen=True, eq=False, slots=True)
class InTurns:
    """Columns of two matrices in turns.

    Attributes:
        first: The even columns.
        second: The odd columns; of the same shape.
    """

    first: Lines
    second: Lines

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.first.height

    @property
    def width(self) -> int:
        """Number of columns."""
        return 2 * self.first.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of both."""
        even, odd = _halves(columns)
        return [*self.first.needs(rows, even), *self.second.needs(rows, odd)]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the columns."""
        even, odd = _halves(columns)
        parts = len(self.first.needs(rows, even))
        left = self.first.compute(rows, even, stored[:parts])
        right = self.second.compute(rows, odd, stored[parts:])
        result = np.empty((left.shape[0], left.shape[1] + right.shape[1]), np.float32)
        second = np.arange(result.shape[1]) % 2 == 1 if columns is None else columns % 2 == 1
        result[:, ~second], result[:, second] = left, right
        return result


@dataclass(frozen=True, eq=False, slots=True)
class Arranged:
    """A tensor of the model, computed from lines; satisfies :class:`~lineage_plugin.checkpoint.derived.Derived`.

    Attributes:
        info: The tensor.
        lines: Its elements in the same C order: ``height * width`` is its size.
    """

    info: TensorInfo
    lines: Lines

    def needs(self, part: Block) -> Sequence[Selection]:
        """Return what of the stored tensors is needed for a part."""
        if 0 in part.shape:
            return []
        rows, columns, _ = self._wanted(part)
        return self.lines.needs(rows, columns)

    def compute(self, part: Block, stored: Sequence[NDArray[np.generic]]) -> FloatArray:
        """Return the part."""
        if 0 in part.shape:
            return np.empty(part.shape, np.float32)
        rows, columns, finish = self._wanted(part)
        return finish(self.lines.compute(rows, columns, stored))

    def _wanted(self, part: Block) -> tuple[IntArray | None, IntArray | None, Callable[[FloatArray], FloatArray]]:
        """Return the rows and columns of the lines that hold a part, and how to pick the part out of them."""
        width, rows, columns = self.lines.width, part.rows, part.columns
        if part.width == width:
            return rows, columns, _same
        if part.width % width == 0:
            # Several lines make a row, as of a matrix [experts, units * width].
            each = part.width // width
            if columns is None:
                inner = None if rows is None else _cross(rows, each, np.arange(each, dtype=np.int64))
                return inner, None, lambda values: values.reshape(-1, part.width)
            across, which = np.unique(columns // width, return_inverse=True)
            within, place = np.unique(columns % width, return_inverse=True)
            every = np.arange(part.height, dtype=np.int64) if rows is None else rows

            def pick(values: FloatArray) -> FloatArray:
                return values.reshape(every.size, across.size, within.size)[:, which.reshape(-1), place.reshape(-1)]

            return _cross(every, each, across), within, pick
        if width % part.width == 0 and rows is not None:
            # A line makes several rows.
            each = width // part.width
            lines, which = np.unique(rows // each, return_inverse=True)

            def cut(values: FloatArray) -> FloatArray:
                found = values.reshape(lines.size, each, part.width)[which.reshape(-1), rows % each]
                return found if columns is None else found[:, columns]

            return lines, None, cut

        def whole(values: FloatArray) -> FloatArray:
            found = values.reshape(part.height, part.width)
            found = found if rows is None else found[rows]
            return found if columns is None else found[:, columns]

        return None, None, whole


def axes_order(shape: tuple[int, ...], axes: tuple[int, ...]) -> Order:
    """Return where rows are stored when the row axis was reshaped, its axes exchanged, and flattened again.

    Args:
        shape: Extents that the row axis of the model was split into.
        axes: Their order in the file.
    """
    stored = tuple(shape[axis] for axis in axes)

    def order(rows: IntArray) -> IntArray:
        place = np.unravel_index(rows, shape)
        return np.ravel_multi_index(tuple(place[axis] for axis in axes), stored).astype(np.int64)

    return order


def grouped_order(groups: int, each: int, size: int) -> Order:
    """Return where rows are stored that the model has group by group and the file has queries, keys, values.

    Args:
        groups: Number of groups.
        each: Query heads of a group; one key and one value head follow them.
        size: Rows of a head.
    """
    heads = groups * each

    def order(rows: IntArray) -> IntArray:
        group, head, channel = np.unravel_index(rows, (groups, each + 2, size))
        place = np.where(head < each, group * each + head, heads + (head - each) * groups + group)
        return (place * size + channel).astype(np.int64)

    return order


def _same(values: FloatArray) -> FloatArray:
    return values


def _cross(outer: IntArray, each: int, inner: IntArray) -> IntArray:
    """Return ``outer * each + inner`` for all pairs, increasing."""
    return (outer[:, None] * each + inner).reshape(-1)


def _halves(columns: IntArray | None) -> tuple[IntArray | None, IntArray | None]:
    if columns is None:
        return None, None
    return columns[columns % 2 == 0] // 2, columns[columns % 2 == 1] // 2
