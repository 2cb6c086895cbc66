"""The grids on which fingerprints keep real numbers, so that they are the same before a file is written and after.

What makes a fingerprint rounds with these functions; the format is described in ``docs/fingerprint.md``.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST", "LEAST_STEP", "LEVELS", "elements", "quantise_axes", "quantise_energy", "quantise_strength"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Array = NDArray[np.generic]

LEAST_STEP = 2.0**-12
"""Finest grid of energies: 0.02% of an energy."""
LEVELS, LARGEST = 255, (1 << 15) - 1
"""Levels of a grid, and the largest multiple of its step."""
_MOST_EXPONENT = 8
_MOST_STRENGTH = float.fromhex("0x1.fep127")
"""Largest bfloat16."""


def quantise_energy(log2_values: Float64Array, usable: BoolArray) -> tuple[FloatArray, float]:
    """Round the logarithms of energies to the grid that the file keeps: at most 255 neighbouring multiples of a step.

    Args:
        log2_values: ``[measured]`` base-2 logarithms.
        usable: ``[measured]`` whether there is such a value; those that are not finite are left out anyway.

    Returns:
        ``[measured]`` the nearest multiples of the step, NaN where there is no value; and the step, the least power of
        two from :data:`LEAST_STEP` on that is coarse enough. The error is at most half a step: 1/250 of the spread,
        2^-15 of the largest value or half of :data:`LEAST_STEP`, whichever is most.

    Raises:
        ValueError: When the values lie further apart than logarithms of float32 numbers can.
    """
    good = usable & np.isfinite(log2_values)
    rounded = np.full(log2_values.shape, np.nan, dtype=np.float32)
    step = LEAST_STEP
    if good.any():
        ends = np.array([log2_values[good].min(), log2_values[good].max()], dtype=np.float64)
        while not _fits(np.rint(ends / step)):
            step *= 2
        if step > 2.0**_MOST_EXPONENT:
            raise ValueError(f"energies from 2^{ends[0]:g} to 2^{ends[1]:g} are none")
        rounded[good] = np.rint(log2_values[good].astype(np.float64) / step) * step + 0.0
    return rounded, step


def _fits(ends: Float64Array) -> bool:
    return bool(ends[1] - ends[0] < LEVELS and np.abs(ends).max() <= LARGEST)


def quantise_axes(axes: NDArray[np.floating]) -> FloatArray:
    """Round the elements of unit vectors to multiples of 1/127."""
    return elements(np.rint(axes * 127.0))


def elements(levels: Array) -> FloatArray:
    """Return the elements of unit vectors that levels from -127 to 127 stand for."""
    found: FloatArray = levels.astype(np.float32) / np.float32(127.0)
    return found


def quantise_strength(strength: NDArray[np.floating]) -> FloatArray:
    """Round energies to bfloat16, by at most 1/256 of their value; negative ones are rounding errors and become 0."""
    rounded: FloatArray = np.clip(strength, 0.0, _MOST_STRENGTH).astype(ml_dtypes.bfloat16).astype(np.float32)
    return rounded
