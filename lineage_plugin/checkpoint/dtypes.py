"""Stored number types: their sizes, and how the decodable ones become float32.

The names are those of the safetensors format. ``F8_E4M3`` is the variant without infinities (``float8_e4m3fn`` of
torch and ml_dtypes), ``F8_E5M2`` the IEEE-like one (FP8 Formats for Deep Learning, arXiv:2209.05433).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["BITS", "decode", "storage_dtype", "stored_values"]

BITS: dict[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Bits of one element by type name; a file with any other type is unreadable."""

_FLOATS: dict[str, str] = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1"}
"""The numpy type that holds the stored bits of each decodable type."""
_WHOLE: dict[str, str] = {
    **{"BOOL": "u1", "U8": "u1", "I8": "i1", "F8_E8M0": "u1"},
    **{"I16": "<i2", "U16": "<u2", "I32": "<i4", "U32": "<u4", "I64": "<i8", "U64": "<u8"},
}
"""The same for what quantised weights are made of, which is handed on as whole numbers."""


def storage_dtype(info: TensorInfo, where: str, *, whole: bool = False) -> np.dtype[np.generic]:
    """Return the numpy type that holds a tensor's stored bits.

    Args:
        info: The tensor.
        where: The file, for messages.
        whole: Whether whole numbers are welcome, too.

    Raises:
        UnsupportedEncoding: When tensors of this type are listed but not decoded.
    """
    kind = _FLOATS.get(info.dtype) or (_WHOLE.get(info.dtype) if whole else None)
    if kind is None:
        raise UnsupportedEncoding(
            where,
            f"tensor '{shown(info.name)}' is stored as {info.dtype}, which is not decoded",
            f"Give a checkpoint in one of {', '.join(_FLOATS)}.",
        )
    return np.dtype(kind)


def stored_values(stored: NDArray[np.generic], dtype: str) -> NDArray[np.generic]:
    """Return stored bits as numbers: floats as float32, whole numbers as they are.

    Args:
        stored: Array of :func:`storage_dtype`, any shape.
        dtype: Name of the stored type.
    """
    return decode(stored, dtype) if dtype in _FLOATS else stored


def decode(stored: NDArray[np.generic], dtype: str) -> NDArray[np.float32]:
    """Return stored bits as float32.

    Every decodable type but F64 is a subset of float32, so that the result is exact. F64 is rounded to nearest: 29 bits
    of the significand are lost, values beyond 3.4e38 become infinite and values below 1.4e-45 become zero. NaN and
    infinities are passed on.

    Args:
        stored: Array of :func:`storage_dtype`, any shape.
        dtype: Name of the stored type.

    Returns:
        A new array of the same shape.
    """
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        wide = stored.astype(np.uint32)
        wide <<= np.uint32(16)
        return wide.view(np.float32)
    if dtype in ("F8_E4M3", "F8_E5M2"):
        return _float8_table(dtype)[stored.astype(np.uint8, copy=False)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return stored.astype(np.float32)


@lru_cache(maxsize=2)
def _float8_table(dtype: str) -> NDArray[np.float32]:
    """The float32 value of each of the 256 bit patterns."""
    import ml_dtypes  # 30 ms that only FP8 checkpoints pay

    kind = ml_dtypes.float8_e4m3fn if dtype == "F8_E4M3" else ml_dtypes.float8_e5m2
    table: NDArray[np.float32] = np.arange(256, dtype=np.uint8).view(kind).astype(np.float32)
    table.setflags(write=False)
    return table
