"""How the weights of bitsandbytes are decoded; :mod:`~lineage_plugin.checkpoint.schemes.bitsandbytes` finds them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import FloatArray, IntArray, Stored
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes._bitsandbytes_state import TABLES, State, parse_state
from lineage_plugin.checkpoint.schemes._packing import Fields, look_up
from lineage_plugin.checkpoint.types import Selection, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["STORAGE", "EightBit", "FourBit", "text_of"]

_CHUNK = 1 << 18

STORAGE = {
    "U8": Fields(4, 8, (1, 0)),
    "I8": Fields(4, 8, (1, 0)),
    "BF16": Fields(4, 16, (1, 0, 3, 2)),
    "F32": Fields(4, 32, (1, 0, 3, 2, 5, 4, 7, 6)),
}
"""Where the levels are in each type that ``bnb_4bit_quant_storage`` may name. Of F16 not every pattern survives being
read as a number."""

_INT8_UNIT = np.float32(7.874015718698502e-3)
"""1 / 127, as bitsandbytes rounds it."""


@dataclass(frozen=True, eq=False, slots=True)
class FourBit:
    """A matrix of four-bit levels; satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`.

    Attributes:
        height: Rows.
        width: Columns.
        weight: The packed levels.
        where: The model, for messages.
        state: What is assumed of its state, the offset apart.
    """

    height: int
    width: int
    weight: TensorInfo
    where: str
    state: State

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the words and the blocks that hold the elements, and the state."""
        name = self.weight.name
        fields = STORAGE[self.weight.dtype]
        if self._whole_words():
            needs = [Selection(name, rows, fields.words(columns), fields.length(self.width))]
        else:
            flat = None if rows is None and columns is None else self._flat(rows, columns)
            needs = [Selection(name, fields.words(flat), None, 1)]
        blocks, per_row = self._blocks(rows, columns)
        if per_row is None:
            needs.append(Selection(f"{name}.absmax", blocks, None, 1))
        else:
            needs.append(Selection(f"{name}.absmax", rows, per_row, self.width // self.state.block))
        needs.append(Selection(f"{name}.quant_state.bitsandbytes__{self.state.kind}"))
        if self.state.nested:
            groups = None if blocks is None else np.unique(blocks // self.state.nested)
            needs.append(Selection(f"{name}.nested_absmax", groups, None, 1))
            needs.append(Selection(f"{name}.nested_quant_map", None, None, 1))
        return needs

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        state = parse_state(text_of(stored[2]), self.state.kind, self.state.nested > 0, self.weight.name, self.where)
        if replace(state, offset=0.0) != replace(self.state, offset=0.0):
            raise UnreadableCheckpoint(
                self.where,
                f"the quant_state of '{shown(self.weight.name, 120)}' is not that of its namesakes in other layers",
                "Save the model again with one setting for all layers.",
            )
        blocks, per_row = self._blocks(rows, columns)
        scales = self._scales(stored, blocks, state.offset)
        table = TABLES[state.kind]
        fields = STORAGE[self.weight.dtype]
        words = _bits(stored[0], self.weight.dtype)
        if self._whole_words():
            levels = fields.levels(words, columns, self.width)
        else:
            flat = None if rows is None and columns is None else self._flat(rows, columns)
            levels = fields.levels(words.reshape(1, -1), flat, self.height * self.width)
        shape = (
            self.height if rows is None else int(rows.size),
            self.width if columns is None else int(columns.size),
        )
        values = look_up(table, levels).reshape(shape)
        if columns is None and self.width % state.block == 0:
            grouped = values.reshape(shape[0], -1, state.block)
            grouped *= scales.reshape(shape[0], -1, 1)
        elif per_row is not None and columns is not None:
            values *= scales.reshape(shape[0], -1)[:, np.searchsorted(per_row, columns // state.block)]
        else:
            self._scale(values, rows, columns, blocks, scales)
        return values

    def _scale(
        self,
        values: FloatArray,
        rows: IntArray | None,
        columns: IntArray | None,
        blocks: IntArray | None,
        scales: FloatArray,
    ) -> None:
        """Scale elements whose blocks do not end where rows do, some rows at a time: places take twice the memory."""
        down = np.arange(self.height, dtype=np.int64) if rows is None else rows
        step = max(1, _CHUNK // values.shape[1])
        for start in range(0, values.shape[0], step):
            some = slice(start, start + step)
            owner = self._flat(down[some], columns)
            owner //= self.state.block
            place = owner if blocks is None else np.searchsorted(blocks, owner)
            values[some] *= scales[place].reshape(-1, values.shape[1])

    def _whole_words(self) -> bool:
        """Whether every row begins with a word."""
        return self.width * 4 % STORAGE[self.weight.dtype].word == 0

    def _flat(self, rows: IntArray | None, columns: IntArray | None) -> IntArray:
        """Return the places of the elements in the flattened matrix, increasing."""
        down = np.arange(self.height, dtype=np.int64) if rows is None else rows
        across = np.arange(self.width, dtype=np.int64) if columns is None else columns
        return (down[:, None] * self.width + across).reshape(-1)

    def _blocks(self, rows: IntArray | None, columns: IntArray | None) -> tuple[IntArray | None, IntArray | None]:
        """Return the blocks that hold the elements, and which of its row's blocks those are where each row has its own.

        Returns:
            Blocks, increasing, None for all; blocks of a row, increasing, None where rows share blocks or all are read.
        """
        size = self.state.block
        if rows is None and columns is None:
            return None, None
        if self.width % size == 0:
            count = self.width // size
            per_row = np.arange(count, dtype=np.int64) if columns is None else np.unique(columns // size)
            down = np.arange(self.height, dtype=np.int64) if rows is None else rows
            return (down[:, None] * count + per_row).reshape(-1), per_row
        if columns is None and rows is not None:
            first, last = rows * self.width // size, (rows * self.width + self.width - 1) // size
            reach = np.arange(self.width // size + 2, dtype=np.int64)
            return np.unique(np.minimum(first[:, None] + reach, last[:, None])), None
        return np.unique(self._flat(rows, columns) // size), None

    def _scales(self, stored: Stored, blocks: IntArray | None, offset: float) -> FloatArray:
        """Return the scale of each block, in order."""
        raw = stored[1].reshape(-1)
        if not self.state.nested:
            return np.asarray(raw, np.float32)
        groups, table = np.asarray(stored[3], np.float32).reshape(-1), np.asarray(stored[4], np.float32).reshape(-1)
        own = (np.arange(raw.size, dtype=np.int64) if blocks is None else blocks) // self.state.nested
        place = own if blocks is None else np.searchsorted(np.unique(own), own)
        scales = look_up(table, raw.astype(np.uint8, copy=False))
        scales *= groups[place]
        scales += np.float32(offset)
        return scales


@dataclass(frozen=True, eq=False, slots=True)
class EightBit:
    """A matrix of whole numbers with a scale a row; satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`.

    Attributes:
        height: Rows.
        width: Columns.
        weight: Name of the numbers.
        scales: Name of the scales.
    """

    height: int
    width: int
    weight: str
    scales: str

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the numbers and the scales of the rows."""
        return [Selection(self.weight, rows, columns, self.width), Selection(self.scales, rows, None, 1)]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        values = stored[0].astype(np.float32)
        values *= np.asarray(stored[1], np.float32).reshape(-1, 1)
        values *= _INT8_UNIT
        return values


def text_of(stored: NDArray[np.generic]) -> bytes:
    """Return a text that is stored as a vector of bytes."""
    return np.ascontiguousarray(stored).tobytes()


def _bits(stored: NDArray[np.generic], dtype: str) -> NDArray[np.generic]:
    """Return levels that were read as numbers of a storage type as the words they are."""
    if dtype in ("U8", "I8"):
        return stored
    words = np.ascontiguousarray(stored).view(np.uint32)
    # bfloat16 is the upper half of a float32.
    return (words >> np.uint32(16)).astype(np.uint16) if dtype == "BF16" else words
