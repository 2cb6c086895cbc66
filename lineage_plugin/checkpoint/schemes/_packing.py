"""Levels of a few bits, packed into the words of a stored tensor.

Writers put fields of 2, 3, 4, 6 or 8 bits into bytes or 32-bit words, the first field into the low bits. A field whose
width does not divide the word continues in the low bits of the next one (3 bits of GPTQ and MLX: 32 fields in three
words). Files are little endian, so that a row of words is one stream of bits, low bits of each byte first, whatever the
width of the word. AWQ and others permute the fields inside each word on top of that.

:class:`Fields` says which words hold some columns and takes them out, so that only those words need be read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["E2M1", "Fields", "look_up", "scale_e8m0", "unpack"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
LevelArray = NDArray[np.uint8]

_CHUNK = 1 << 20

E2M1: FloatArray = np.array(
    [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6],
    np.float32,
)
"""The value of each four-bit float: sign, two exponent bits, one of the fraction. OCP Microscaling Formats 1.0, 5.3."""
E2M1.setflags(write=False)


@dataclass(frozen=True, slots=True)
class Fields:
    """How the levels of a row lie in its words.

    Attributes:
        bits: Bits of a field, 1 to 8.
        word: Bits of a word, 8, 16, 32 or 64.
        order: Where each field of a word lies in it, counted from the low bits; None for one after the other. AWQ has
            ``(0, 4, 1, 5, 2, 6, 3, 7)``. Only where the width of a field divides that of the word.
    """

    bits: int
    word: int = 32
    order: tuple[int, ...] | None = None

    def length(self, count: int) -> int:
        """Return how many words a row of ``count`` fields takes."""
        return -(-count * self.bits // self.word)

    def words(self, columns: IntArray | None) -> IntArray | None:
        """Return the words that hold some columns.

        Args:
            columns: Fields of a row, strictly increasing, or None for all.

        Returns:
            Words of the row, strictly increasing, or None for all.
        """
        if columns is None:
            return None
        first = columns * self.bits // self.word
        last = (columns * self.bits + self.bits - 1) // self.word
        return np.union1d(first, last)

    def levels(self, stored: NDArray[np.generic], columns: IntArray | None, count: int) -> LevelArray:
        """Return the fields of some columns.

        Args:
            stored: ``[..., words]`` what was read of the rows: the words that :meth:`words` gave.
            columns: The same fields, or None for all.
            count: Fields of a whole row; what lies behind them in the last word is left out.

        Returns:
            ``[..., columns]`` unsigned levels.
        """
        words = self.words(columns)
        if columns is None or words is None:
            return unpack(stored, self.bits, self.order)[..., :count]
        if self.word % self.bits == 0:
            per = self.word // self.bits
            places = np.searchsorted(words, columns // per) * per + columns % per
            return unpack(stored, self.bits, self.order)[..., places]
        raw = _as_bytes(stored)
        size = self.word // 8
        start = columns * self.bits
        low, high = start // 8, (start + self.bits - 1) // 8
        # Only the words read are here: a byte is found by its word.
        low = np.searchsorted(words, low // size) * size + low % size
        high = np.searchsorted(words, high // size) * size + high % size
        return _window(raw[..., low], raw[..., high], start % 8, self.bits)


def unpack(stored: NDArray[np.generic], bits: int, order: tuple[int, ...] | None = None) -> LevelArray:
    """Return all fields of packed words, along the last axis, low bits first.

    Args:
        stored: ``[..., words]`` whole numbers as they are stored, little endian and of any width.
        bits: Bits of a field, 1 to 8.
        order: Where each field of a word lies in it; see :class:`Fields`.

    Returns:
        ``[..., words * width / bits]`` unsigned levels; the remainder of a row that holds no whole field is left out.
    """
    raw = _as_bytes(stored)
    lead, size = raw.shape[:-1], raw.shape[-1]
    if bits == 8:
        fields = raw
    elif 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        fields = (raw[..., None] >> shifts) & np.uint8((1 << bits) - 1)
        fields = fields.reshape(*lead, size * (8 // bits))
    else:
        start = np.arange(size * 8 // bits, dtype=np.int64) * bits
        fields = _window(raw[..., start // 8], raw[..., (start + bits - 1) // 8], start % 8, bits)
    if order is None:
        return fields
    per = len(order)
    grouped = fields.reshape(*lead, fields.shape[-1] // per, per)[..., list(order)]
    return grouped.reshape(fields.shape)


def look_up(table: FloatArray, levels: LevelArray) -> FloatArray:
    """Return the value of each level.

    numpy turns indices into eight bytes each; piece by piece that stays small.

    Args:
        table: Value by level; there must be one for every level that occurs.
        levels: Any shape.
    """
    flat = np.ascontiguousarray(levels).reshape(-1)
    values = np.empty(flat.size, np.float32)
    for start in range(0, flat.size, _CHUNK):
        np.take(table, flat[start : start + _CHUNK], out=values[start : start + _CHUNK], mode="clip")
    return values.reshape(levels.shape)


def scale_e8m0(exponents: NDArray[np.generic]) -> FloatArray:
    """Return the powers of two that eight-bit exponents with bias 127 stand for.

    Source: OCP Microscaling Formats 1.0, 5.4.1. 255 is NaN; 0 is 2**-127, which float32 holds as a subnormal number.
    """
    raw = exponents.astype(np.uint8, copy=False)
    with np.errstate(over="ignore"):
        scale: FloatArray = np.ldexp(np.float32(1), raw.astype(np.int32) - 127).astype(np.float32, copy=False)
    scale[raw == 255] = np.nan
    return scale


def _as_bytes(stored: NDArray[np.generic]) -> LevelArray:
    """Return the bytes of each row, the low byte of a word first."""
    little = np.ascontiguousarray(stored)
    little = little.astype(little.dtype.newbyteorder("<"), copy=False)
    if little.dtype.itemsize == 1:
        return little.view(np.uint8)
    return little.view(np.uint8).reshape(*stored.shape[:-1], stored.shape[-1] * little.dtype.itemsize)


def _window(low: LevelArray, high: LevelArray, shift: IntArray, bits: int) -> LevelArray:
    """Return fields that lie in one byte or across two."""
    wide = low.astype(np.uint16)
    wide |= high.astype(np.uint16) << np.uint16(8)
    # Where the field lies in one byte, both are the same byte, and the mask drops the second copy.
    wide >>= shift.astype(np.uint16)
    wide &= np.uint16((1 << bits) - 1)
    return wide.astype(np.uint8)
