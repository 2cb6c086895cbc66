"""What four bits of bitsandbytes mean: the values of the levels, and the JSON text that is kept beside a weight.

Source of the text: ``QuantState.as_dict(packed=True)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["REMEDY", "TABLES", "State", "parse_state"]

FloatArray = NDArray[np.float32]

REMEDY = "Get the files again or save the model again."
"""What to do about damaged parts."""
_LARGEST_BLOCK = 1 << 20

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Quantiles of the normal distribution (QLoRA, appendix E), as bitsandbytes has them."""
_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
"""A sign and three bits; divided by the largest."""
TABLES: dict[str, FloatArray] = {
    "nf4": np.array(_NF4, np.float32),
    "fp4": (np.array([*_FP4, *(-value for value in _FP4)], np.float32) / np.float32(12)).astype(np.float32),
}
"""The value of each level."""


@dataclass(frozen=True, slots=True)
class State:
    """What the JSON text beside a weight says.

    Attributes:
        kind: ``nf4`` or ``fp4``.
        shape: Shape of the matrix.
        block: Elements that share a scale.
        nested: Scales that share one of their own; 0 without double quantisation.
        offset: What is added to the scales, then.
    """

    kind: str
    shape: tuple[int, ...]
    block: int
    nested: int
    offset: float


def parse_state(text: bytes, kind: str, nested: bool, name: str, where: str) -> State:
    """Parse the text.

    Args:
        text: The bytes of the tensor.
        kind: ``nf4`` or ``fp4``, as the name of the tensor has it.
        nested: Whether there are scales of the scales.
        name: The weight, for messages.
        where: The model, for messages.

    Raises:
        UnreadableCheckpoint: When it is none, or what it says cannot be.
    """
    at = f"{where}: the quant_state of '{shown(name, 120)}'"
    document = load_object(text, where=at, what="text", values=200, containers=20, remedy=REMEDY)

    def wrong(problem: str) -> UnreadableCheckpoint:
        return UnreadableCheckpoint(at, problem, REMEDY)

    def whole(value: object, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
            raise wrong(f"holds {shown(value, 40)} where a number of elements is expected")
        return value

    shape = document.get("shape")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 8:
        raise wrong("holds no shape")
    extents = tuple(whole(extent, 1 << 40) for extent in shape)
    if document.get("quant_type") != kind:
        raise wrong(f"is not one of {kind.upper()}, as its name says")
    block = whole(document.get("blocksize"), _LARGEST_BLOCK)
    if not nested:
        return State(kind, extents, block, 0, 0.0)
    offset = document.get("nested_offset")
    if not isinstance(offset, int | float) or isinstance(offset, bool) or not isfinite(offset):
        raise wrong("holds no nested_offset")
    return State(kind, extents, block, whole(document.get("nested_blocksize"), _LARGEST_BLOCK), float(offset))
