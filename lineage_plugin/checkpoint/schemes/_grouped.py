"""Rows of packed levels with a scale, and perhaps an offset, for each run of columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.dtypes import decode
from lineage_plugin.checkpoint.schemes._dequantised import Stored
from lineage_plugin.checkpoint.schemes._packing import Fields, look_up, scale_e8m0
from lineage_plugin.checkpoint.types import Selection

__all__ = ["Grouped", "ScaleKind"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

ScaleKind = Literal["number", "E8M0", "E4M3"]
"""How scales are stored: as numbers, or as bytes that hold an exponent of two or a float of eight bits."""


@dataclass(frozen=True, eq=False, slots=True)
class Grouped:
    """A matrix ``table[level] * scale + offset``; satisfies :class:`Codec`.

    Attributes:
        height: Rows.
        width: Columns.
        weight: Name of the packed levels, ``[height, words]``.
        fields: How the levels lie in the words.
        table: Value by level; None when the level is the value.
        scales: Name of the scales, ``[height, width / group]``.
        scale: How they are stored.
        offsets: Name of the offsets, of the same shape; None when there are none.
        group: Columns that share a scale; divides ``width``.
    """

    height: int
    width: int
    weight: str
    fields: Fields
    table: FloatArray | None
    scales: str
    scale: ScaleKind
    offsets: str | None
    group: int

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the words and the groups that hold the columns."""
        groups = None if columns is None else np.unique(columns // self.group)
        count = self.width // self.group
        needs = [Selection(self.weight, rows, self.fields.words(columns), self.fields.length(self.width))]
        needs.append(Selection(self.scales, rows, groups, count))
        if self.offsets is not None:
            needs.append(Selection(self.offsets, rows, groups, count))
        return needs

    def decode(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        levels = self.fields.levels(stored[0], columns, self.width)
        values = levels.astype(np.float32) if self.table is None else look_up(self.table, levels)
        scales = self._scales(stored[1])
        offsets = None if self.offsets is None else np.asarray(stored[2], np.float32)
        if columns is None:
            grouped = values.reshape(values.shape[0], -1, self.group)
            grouped *= scales[..., None]
            if offsets is not None:
                grouped += offsets[..., None]
            return values
        own = columns // self.group
        place = np.searchsorted(np.unique(own), own)
        values *= scales[:, place]
        if offsets is not None:
            values += offsets[:, place]
        return values

    def _scales(self, stored: NDArray[np.generic]) -> FloatArray:
        if self.scale == "E8M0":
            return scale_e8m0(stored)
        if self.scale == "E4M3":
            return decode(stored, "F8_E4M3")
        return np.asarray(stored, np.float32)
