"""Matrices made of other ones: some of their rows, in another order, transposed.

Each view stays lazy: rows and columns wanted of it become rows and columns wanted of what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lineage_plugin.checkpoint.derived import FloatArray, IntArray, Matrix, Stored
from lineage_plugin.checkpoint.types import Selection

__all__ = ["Order", "Ordered", "Part", "Plain", "Turned", "axes_order"]

Order = Callable[[IntArray], IntArray]
"""Where rows are stored."""


@dataclass(frozen=True, eq=False, slots=True)
class Plain:
    """A stored tensor as a matrix; satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`, as all here do.

    Attributes:
        tensor: Its name.
        height: Rows.
        width: Columns.
    """

    tensor: str
    height: int
    width: int

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the same rows and columns."""
        return [Selection(self.tensor, rows, columns, self.width)]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return them as float32."""
        return np.asarray(stored[0], np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """A run of rows, such as one expert of many.

    Attributes:
        matrix: The whole.
        first: The first row.
        height: Number of rows.
    """

    matrix: Matrix
    first: int
    height: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.matrix.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of the whole."""
        return self.matrix.needs(self._places(rows), columns)

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return rows of the whole."""
        return self.matrix.compute(self._places(rows), columns, stored)

    def _places(self, rows: IntArray | None) -> IntArray:
        return self.first + (np.arange(self.height, dtype=np.int64) if rows is None else rows)


@dataclass(frozen=True, eq=False, slots=True)
class Ordered:
    """The same rows in another order.

    Attributes:
        matrix: The rows as they are stored.
        order: Where each row is stored.
    """

    matrix: Matrix
    order: Order

    @property
    def height(self) -> int:
        """Rows."""
        return self.matrix.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.matrix.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of the rows where they are stored."""
        return self.matrix.needs(self._places(rows)[0], columns)

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the rows in their own order."""
        places, back = self._places(rows)
        found: FloatArray = self.matrix.compute(places, columns, stored)[back]
        return found

    def _places(self, rows: IntArray | None) -> tuple[IntArray, IntArray]:
        """Return the stored rows wanted, increasing, and where each row is among them."""
        places = self.order(np.arange(self.height, dtype=np.int64) if rows is None else rows)
        wanted, back = np.unique(places, return_inverse=True)
        return wanted, back.reshape(-1)


@dataclass(frozen=True, eq=False, slots=True)
class Turned:
    """Matrices below one another, such as the experts of a layer, each transposed.

    Attributes:
        matrix: The matrices as they are stored. It needs the same number of selections for any rows and columns.
        count: How many they are.
    """

    matrix: Matrix
    count: int = 1

    @property
    def height(self) -> int:
        """Rows: columns of the stored ones, for each of the matrices."""
        return self.matrix.width * self.count

    @property
    def width(self) -> int:
        """Columns: rows of one stored matrix."""
        return self.matrix.height // self.count

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed: of all matrices at once, or of each of those that have some of the rows."""
        return [need for asked in self._stored(rows, columns) for need in self.matrix.needs(*asked)]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return what was read, turned."""
        asked = self._stored(rows, columns)
        take = len(stored) // len(asked)
        found = [self.matrix.compute(*ask, stored[i * take : (i + 1) * take]) for i, ask in enumerate(asked)]
        if rows is None and self.count > 1:
            stack = found[0].reshape(self.count, -1, self.matrix.width).transpose(0, 2, 1)
            return np.ascontiguousarray(stack).reshape(self.height, -1)
        turned = [np.ascontiguousarray(values.T) for values in found]
        return turned[0] if len(turned) == 1 else np.concatenate(turned)

    def _stored(self, rows: IntArray | None, columns: IntArray | None) -> list[tuple[IntArray | None, IntArray | None]]:
        """Return the stored rows and columns: one pair for all matrices, or one for each that has some of the rows."""
        if self.count == 1:
            return [(columns, rows)]
        if rows is None:
            if columns is None:
                return [(None, None)]
            return [((np.arange(self.count, dtype=np.int64)[:, None] * self.width + columns).reshape(-1), None)]
        across = np.arange(self.width, dtype=np.int64) if columns is None else columns
        which, own = np.divmod(rows, self.matrix.width)
        edges = np.flatnonzero(np.diff(which)) + 1
        firsts = which[np.concatenate([[0], edges])]
        parts = zip(firsts.tolist(), np.split(own, edges), strict=True)
        return [(n * self.width + across, None if k.size == self.matrix.width else k) for n, k in parts]


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
