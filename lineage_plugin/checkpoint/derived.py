"""Tensors that are computed from stored ones: quantised, transposed, put in another order.

A :class:`Derived` says which parts of which stored tensors it needs for some of its own rows and columns, and computes
them from that. Nothing else is read, so that a few rows of a quantised matrix cost a few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.matrix import Block
from lineage_plugin.checkpoint.types import Selection, TensorInfo

__all__ = ["Derived", "Reordered", "Transposed"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Derived(Protocol):
    """A tensor that is computed from stored ones when it is read."""

    @property
    def info(self) -> TensorInfo:
        """The tensor as later stages see it; ``dtype`` is ``F32``."""

    def needs(self, part: Block) -> Sequence[Selection]:
        """Return what of the stored tensors is needed for a part of this one.

        Args:
            part: A checked selection of this tensor. Its matrix may be any of those that
                :class:`~lineage_plugin.checkpoint.types.Selection` describes.
        """

    def compute(self, part: Block, stored: Sequence[NDArray[np.generic]]) -> FloatArray:
        """Return the part.

        Args:
            part: The same as in :meth:`needs`.
            stored: What it asked for, in order: floats as float32, whole numbers as they are stored. Not to be written
                to.

        Returns:
            ``[rows, columns]``.

        Raises:
            UnreadableCheckpoint: When the stored numbers make no sense.
        """


@dataclass(frozen=True, eq=False, slots=True)
class Transposed:
    """A matrix that is stored the other way round, ``[columns, rows]``.

    Attributes:
        info: The tensor.
        stored: Name of the stored tensor, a matrix.
    """

    info: TensorInfo
    stored: str

    def needs(self, part: Block) -> Sequence[Selection]:
        """Return the selection with rows and columns exchanged."""
        return [Selection(self.stored, part.columns, part.rows)]

    def compute(self, part: Block, stored: Sequence[NDArray[np.generic]]) -> FloatArray:
        """Return what was read, turned."""
        return np.ascontiguousarray(stored[0].T, dtype=np.float32)


@dataclass(frozen=True, eq=False, slots=True)
class Reordered:
    """A matrix, or vector, whose rows are stored in another order.

    Attributes:
        info: The tensor.
        stored: The tensor whose rows are the same in another order; stored, or derived itself.
        order: ``[rows]`` where each row is stored.
    """

    info: TensorInfo
    stored: Derived | str
    order: IntArray

    def needs(self, part: Block) -> Sequence[Selection]:
        """Return what is needed of the rows where they are stored."""
        if isinstance(self.stored, str):
            return [Selection(self.stored, self._places(part)[0], part.columns, part.width)]
        return self.stored.needs(self._inner(part))

    def compute(self, part: Block, stored: Sequence[NDArray[np.generic]]) -> FloatArray:
        """Return the rows in their own order."""
        back = self._places(part)[1]
        if isinstance(self.stored, str):
            return np.asarray(stored[0], np.float32)[back]
        return self.stored.compute(self._inner(part), stored)[back]

    def _places(self, part: Block) -> tuple[IntArray, IntArray]:
        """Return the stored rows wanted, increasing, and where each row of the part is among them."""
        places = self.order if part.rows is None else self.order[part.rows]
        wanted, back = np.unique(places, return_inverse=True)
        return wanted, back.reshape(-1)

    def _inner(self, part: Block) -> Block:
        return Block(self.info, part.height, part.width, self._places(part)[0], part.columns)
