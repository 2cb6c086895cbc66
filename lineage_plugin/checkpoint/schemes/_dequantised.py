"""Quantised tensors whose rows lie one after the other, and the selections that may be made of them.

A :class:`Codec` decodes some rows and columns of one matrix, its own. Callers may see the same tensor as matrices of
other widths, or transposed: :class:`Dequantised` turns what they ask for into rows and columns of the codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.matrix import Block
from lineage_plugin.checkpoint.schemes._window import window
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Codec", "Dequantised", "Experts", "Rows"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Stored = Sequence[NDArray[np.generic]]


class Codec(Protocol):
    """A quantised matrix."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what of the stored tensors is needed, always the same number of selections.

        Args:
            rows: Strictly increasing, not empty; None for all.
            columns: The same of the columns.
        """

    def decode(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]`` from what :meth:`needs` asked for.

        Raises:
            UnreadableCheckpoint: When the stored numbers make no sense.
        """


@dataclass(frozen=True, eq=False, slots=True)
class Dequantised:
    """A tensor that a codec decodes; satisfies :class:`~lineage_plugin.checkpoint.derived.Derived`.

    Attributes:
        info: The tensor. Its last extent is the width of the codec, or its height when ``turned``.
        codec: Decodes it.
        turned: Whether the codec has rows and columns the other way round; only for a tensor of two dimensions.
    """

    info: TensorInfo
    codec: Codec
    turned: bool = False

    def needs(self, part: Block) -> Sequence[Selection]:
        """Return what of the stored tensors is needed."""
        if 0 in part.shape:
            return []
        touched = window(part, self.info.shape[-1])
        if self.turned:
            return self.codec.needs(touched.columns, touched.rows)
        return self.codec.needs(touched.rows, touched.columns)

    def compute(self, part: Block, stored: Stored) -> FloatArray:
        """Return the part."""
        if 0 in part.shape:
            return np.zeros(part.shape, np.float32)
        touched = window(part, self.info.shape[-1])
        if self.turned:
            values = np.ascontiguousarray(self.codec.decode(touched.columns, touched.rows, stored).T)
        else:
            values = self.codec.decode(touched.rows, touched.columns, stored)
        return touched.shaped(values)


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Some successive rows of a codec, as one expert of a stack; satisfies :class:`Codec`.

    Attributes:
        codec: Decodes the stack.
        first: First row.
        height: How many rows.
    """

    codec: Codec
    first: int
    height: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.codec.width

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what of the stored tensors is needed."""
        return self.codec.needs(self._places(rows), columns)

    def decode(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        return self.codec.decode(self._places(rows), columns, stored)

    def _places(self, rows: IntArray | None) -> IntArray:
        return self.first + (np.arange(self.height, dtype=np.int64) if rows is None else rows)


@dataclass(frozen=True, eq=False, slots=True)
class Experts:
    """A stack of matrices, each stored the other way round; satisfies :class:`Codec`.

    Attributes:
        codec: Decodes ``[experts * columns, rows]``.
        experts: How many matrices there are.
    """

    codec: Codec
    experts: int

    @property
    def height(self) -> int:
        """Rows of all experts, one expert after the other."""
        return self.experts * self.codec.width

    @property
    def width(self) -> int:
        """Columns."""
        return self.codec.height // self.experts

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return what is needed: of all experts at once, or of those that have some of the rows."""
        return [need for places, own in self._stored(rows, columns) for need in self.codec.needs(places, own)]

    def decode(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        asked = self._stored(rows, columns)
        take = len(stored) // len(asked)
        found = [self.codec.decode(*ask, stored[i * take : (i + 1) * take]) for i, ask in enumerate(asked)]
        if rows is None:
            stack = found[0].reshape(self.experts, -1, self.codec.width).transpose(0, 2, 1)
            return np.ascontiguousarray(stack).reshape(self.height, -1)
        return np.concatenate([np.ascontiguousarray(values.T) for values in found])

    def _stored(self, rows: IntArray | None, columns: IntArray | None) -> list[tuple[IntArray | None, IntArray | None]]:
        """Return the rows and columns of the codec: one pair for everything, or one for each expert with rows."""
        if rows is None:
            if columns is None:
                return [(None, None)]
            return [((np.arange(self.experts, dtype=np.int64)[:, None] * self.width + columns).reshape(-1), None)]
        names = np.arange(self.width, dtype=np.int64) if columns is None else columns
        expert, own = np.divmod(rows, self.codec.width)
        edges = np.flatnonzero(np.diff(expert)) + 1
        firsts = expert[np.concatenate([[0], edges])]
        parts = zip(firsts.tolist(), np.split(own, edges), strict=True)
        return [(e * self.width + names, None if k.size == self.codec.width else k) for e, k in parts]
