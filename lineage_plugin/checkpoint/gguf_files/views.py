"""What the converter of llama.cpp did to a tensor beyond exchanging rows and axes, undone when it is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lineage_plugin.checkpoint.derived import FloatArray, IntArray, Matrix, Stored
from lineage_plugin.checkpoint.types import Selection
from lineage_plugin.checkpoint.views import Order

__all__ = ["InTurns", "Shifted", "grouped_order"]


@dataclass(frozen=True, eq=False, slots=True)
class Shifted:
    """The same numbers with one number added to all.

    Attributes:
        matrix: The numbers as they are stored.
        amount: What is added.
    """

    matrix: Matrix
    amount: float

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.matrix.height

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.matrix.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed of the stored numbers."""
        return self.matrix.needs(rows, columns)

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the sums."""
        found: FloatArray = self.matrix.compute(rows, columns, stored) + np.float32(self.amount)
        return found


@dataclass(frozen=True, eq=False, slots=True)
class InTurns:
    """Columns of two matrices in turns.

    Attributes:
        first: The even columns.
        second: The odd columns; of the same shape.
    """

    first: Matrix
    second: Matrix

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


def _halves(columns: IntArray | None) -> tuple[IntArray | None, IntArray | None]:
    if columns is None:
        return None, None
    return columns[columns % 2 == 0] // 2, columns[columns % 2 == 1] // 2
