"""Lines of a stored GGUF tensor: the rows along its fastest extent, decoded from just the blocks that are needed.

Every type packs a line in blocks of its own (``numbers.py``), so that some columns of some lines cost the blocks which
hold them. Decoding is left to the reference, :func:`gguf.quants.dequantize`. The classes satisfy
:class:`~lineage_plugin.checkpoint.derived.Matrix`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import FloatArray, IntArray, Stored
from lineage_plugin.checkpoint.gguf_files.numbers import Numbers
from lineage_plugin.checkpoint.types import Selection
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["BlockLines", "SwappedLines", "has_library", "is_decodable", "missing_library"]

_AT_ONCE = 1 << 22
"""Elements decoded at once: the reference takes several times the memory of its result."""


@dataclass(frozen=True, eq=False, slots=True)
class SwappedLines:
    """Lines of numbers in the big-endian order; the stored tensor holds their bytes.

    Attributes:
        stored: Name of the stored tensor, ``[height, width * size]`` bytes.
        height: Number of lines.
        width: Elements of a line.
        kind: The name safetensors gives the type.
    """

    stored: str
    height: int
    width: int
    kind: str

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the bytes of the same rows and columns."""
        size = _BIG[self.kind].itemsize
        return [Selection(self.stored, rows, _spread(columns, size), self.width * size)]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return them as float32."""
        raw = np.ascontiguousarray(stored[0], np.uint8).view(_BIG[self.kind])
        if self.kind == "BF16":
            wide: FloatArray = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
            return wide
        return raw.astype(np.float32)


_BIG: dict[str, np.dtype[np.generic]] = {
    kind: np.dtype(code)
    for kind, code in {
        **{"F64": ">f8", "F32": ">f4", "F16": ">f2", "BF16": ">u2"},
        **{"I8": ">i1", "I16": ">i2", "I32": ">i4", "I64": ">i8"},
    }.items()
}


@dataclass(frozen=True, eq=False, slots=True)
class BlockLines:
    """Lines of blocks.

    Attributes:
        stored: Name of the stored tensor, ``[height, bytes of a line]``.
        height: Number of lines.
        width: Elements of a line, a multiple of a block's.
        numbers: The type.
        big_endian: Whether 16-bit numbers inside a block stand the other way round.
        where: The tensor, for messages.
    """

    stored: str
    height: int
    width: int
    numbers: Numbers
    big_endian: bool
    where: str

    @property
    def pitch(self) -> int:
        """Bytes of a line."""
        return self.width // self.numbers.elements * self.numbers.nbytes

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the blocks that hold the columns."""
        return [Selection(self.stored, rows, _spread(self._blocks(columns), self.numbers.nbytes), self.pitch)]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return the decoded columns."""
        raw = np.asarray(stored[0], np.uint8)
        kept = self._within(columns)
        width = raw.shape[1] // self.numbers.nbytes * self.numbers.elements
        result = np.empty((raw.shape[0], width if kept is None else kept.size), np.float32)
        if not result.size:
            return result
        step = max(1, _AT_ONCE // width)
        for first in range(0, raw.shape[0], step):
            values = self._decode(raw[first : first + step])
            result[first : first + step] = values if kept is None else values[:, kept]
        return result

    def _blocks(self, columns: IntArray | None) -> IntArray | None:
        return None if columns is None else np.unique(columns // self.numbers.elements)

    def _within(self, columns: IntArray | None) -> IntArray | None:
        """Return where the columns are among those of their blocks."""
        if columns is None:
            return None
        size = self.numbers.elements
        _, place = np.unique(columns // size, return_inverse=True)
        return place.reshape(-1).astype(np.int64) * size + columns % size

    def _decode(self, raw: NDArray[np.uint8]) -> FloatArray:
        try:
            from gguf.constants import GGMLQuantizationType
            from gguf.quants import dequantize
        except ImportError:
            raise missing_library(self.where, self.numbers.name) from None
        if self.big_endian:
            blocks = np.array(raw).reshape(-1, self.numbers.nbytes)
            for at in self.numbers.halves or ():
                blocks[:, [at, at + 1]] = blocks[:, [at + 1, at]]
            raw = blocks.reshape(raw.shape)
        try:
            kind = GGMLQuantizationType[self.numbers.name]
            values: FloatArray = np.asarray(dequantize(np.ascontiguousarray(raw), kind), np.float32)
        except (KeyError, NotImplementedError):
            raise UnsupportedEncoding(
                self.where,
                f"the installed gguf library does not decode {self.numbers.name}",
                "Upgrade it: pip install --upgrade gguf.",
            ) from None
        return values.reshape(raw.shape[0], -1)


def is_decodable(numbers: Numbers, big_endian: bool) -> bool:
    """Return whether tensors of a type can be read."""
    if not numbers.decoded:
        return False
    return numbers.plain is not None or not big_endian or numbers.halves is not None


def has_library() -> bool:
    """Return whether the ``gguf`` library is installed; finding out does not import it."""
    return find_spec("gguf") is not None


def missing_library(where: str, kind: str) -> UnsupportedEncoding:
    """Return the error that says that the ``gguf`` library is missing.

    Args:
        where: The file or tensor.
        kind: The type that it would decode.
    """
    return UnsupportedEncoding(
        where, f"weights are quantised as {kind}", "Reading them needs `pip install 'lineage-plugin[gguf]'`."
    )


def _spread(indices: IntArray | None, size: int) -> IntArray | None:
    """Return the positions of the bytes that elements or blocks of a size take."""
    if indices is None:
        return None
    return (indices[:, None] * size + np.arange(size, dtype=np.int64)).reshape(-1)
