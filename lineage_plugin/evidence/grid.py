"""Does a matrix lie on a coarse grid, that is: was it quantised and then stored in a wider type?

A quantiser writes ``scale * level`` with one scale for a group of weights and few levels. Three families of levels are
tried on every group: integers (through zero, so that integer zero points need no case of their own), short floats
(any scale), and published code books; last, any few values at all (learned code books, grids with a real offset).

The null is that values are drawn from a smooth law and rounded to the storage type. A value is then any of those that
storage has in the cell of the level nearest to it, and fits with the share of them that lie within tolerance of the
level. The tolerance is what rounding to storage explains, no more, so that a grid which is that of the storage type
itself (all values in one octave, subnormal halves) carries no evidence. The largest value of a group fixes the scale
and is spent; the product over the others, times the number of scales tried, bounds the chance that a group fits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.grid_fits import (
    BOOKS,
    FLOATS,
    LARGEST,
    MOST_COLUMNS,
    SIGNED_SCALE,
    Blocks,
    Fit,
    cut_blocks,
    fit_book,
    fit_float,
    fit_integers,
    spread,
)

__all__ = ["CHANCE", "Grid", "grid", "significant_bits"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Scheme = Literal["binary", "ternary", "integer", "float", "codebook", "values"]
Sharing = Literal["group", "row", "column group", "column", "matrix"]

CHANCE = -12.0
"""Decimal logarithm of the chance of a false alarm, per matrix, from which a grid is claimed."""
_FITTING = 0.98
"""Share of the groups that must fit: packers leave a ragged last group, or a few outliers, as they are."""
_GROUPS = (16, 32, 64, 128, 256)
_ROWS = 64
"""At most so many rows are looked at: more would not change the answer."""
_FLOOR = {"F16": 2.0**-24, "F8_E4M3": 2.0**-9, "F8_E5M2": 2.0**-16}
_SIGNIFICAND = {"BF16": 8, "F16": 11, "F32": 20, "F64": 20, "F8_E4M3": 4, "F8_E5M2": 3}
"""Significant bits of storage; of wider types only 20 are trusted, for dequantisers round on their way."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid that a matrix lies on.

    Attributes:
        scheme: Family of levels; ``values`` for a code book that is not a published one, or a grid with a real offset.
        bits: Bits that the levels take, from 1 to 8.
        levels: Most levels seen in use in one group (for ``float``, those of the format).
        book: Name of the levels when they are published ones, such as ``NF4`` or ``E4M3``.
        sharing: What shares one scale. A ``column group`` is a run of rows as they were passed.
        group: Weights that share one scale, as far as could be seen: a divisor of the true size when rows are shorter.
        log10_chance: Decimal logarithm of a bound on the chance that rounding to storage alone does this.
        noise: Root mean square error of rounding to these levels, relative to that of the weights: what quantisation
            alone changes. None for ``values``.
    """

    scheme: Scheme
    bits: int
    levels: int
    book: str | None
    sharing: Sharing
    group: int
    log10_chance: float
    noise: float | None

    @property
    def text(self) -> str:
        """Return the grid in words, such as ``4 bits (NF4), one scale per 64 weights``."""
        named = {"binary": "binary", "ternary": "ternary", "integer": "integer", "values": "few values"}
        scale = {"group": f"{self.group} weights", "column group": f"{self.group} weights of a column"}
        kind = self.book or named[self.scheme]
        size = f"{self.bits} bit{'s' if self.bits > 1 else ''}"
        return f"{size} ({kind}), one scale per {scale.get(self.sharing, self.sharing)}"


def significant_bits(rows: FloatArray) -> int:
    """Return how many significant bits the values use: 24 for float32, 8 for bfloat16 stored in any wider type.

    Args:
        rows: Any shape; zeros and values that are not finite are passed over.

    Returns:
        The largest number of bits between the first and the last that is set; 0 when there is nothing to look at.
    """
    usable = rows[np.isfinite(rows) & (rows != 0)]
    if not usable.size:
        return 0
    whole = np.ldexp(np.frexp(np.abs(usable))[0], 24).astype(np.int64)
    return 24 - int(np.log2((whole & -whole).min()))


def grid(rows: FloatArray, dtype: str) -> Grid | None:
    """Return the grid a matrix lies on, or None when it is not on one.

    Training on after quantisation moves values off the grid, so that nothing is found then.

    Args:
        rows: ``[m, d]`` rows of the matrix as stored, neighbours in runs; float32 values of the stored ones.
        dtype: Name of the stored type, as safetensors gives it.

    Returns:
        The description that costs the fewest bits a weight, scales at 16 bits included; None when no grid fits at a
        chance below :data:`CHANCE`, when there is too little to look at, or when the type is not a float.
    """
    if rows.ndim != 2 or min(rows.shape) < 1 or dtype not in _SIGNIFICAND:
        return None
    rows = rows[spread(rows.shape[0], _ROWS), :MOST_COLUMNS]
    if not np.isfinite(rows).all() or not rows.any():
        return None
    used = significant_bits(rows)
    # A wide type may hold values of a narrower one: conversion between storage types is no quantisation.
    significand = min(_SIGNIFICAND[dtype], next(size for size in (8, 11, 20, 24) if used <= size))
    floor = _FLOOR.get("F16" if significand == 11 else dtype, 0.0)
    found = [
        one
        for columns in (False, True)
        for one in _along(np.asarray(rows.T if columns else rows, np.float64), significand, floor, columns=columns)
    ]
    floats = [one for one in found if one.scheme == "float"]
    return min((one for one in found if not _is_float(one, floats)), key=_cost, default=None)


def _cost(found: Grid) -> float:
    # A scale of 16 bits a group; levels that nothing explains have an offset too, and half a bit for being unexplained.
    unknown = found.scheme == "values"
    share = (32.0 if unknown else 16.0) / found.group
    return math.log2(found.levels) + share + 0.5 * unknown + 0.01 * found.sharing.startswith("column")


def _is_float(found: Grid, floats: Sequence[Grid]) -> bool:
    """Whether integers are in truth short floats: beyond ``2^p`` few integers have only ``p`` significant bits."""
    return found.scheme == "integer" and any(
        (other.sharing, other.group) == (found.sharing, found.group)
        and found.levels > (2 << FLOATS[other.book or ""]) + 1
        for other in floats
    )


def _along(matrix: Float64Array, significand: int, floor: float, *, columns: bool) -> Iterator[Grid]:
    """Yield the grids found with scales shared along the rows of ``matrix``, at the widest sharing of each family."""
    m, d = matrix.shape
    sizes = [size for size in _GROUPS if size < d]
    shapes: list[tuple[Sharing, int]] = [("column group" if columns else "group", size) for size in sizes]
    shapes.append(("column" if columns else "row", d))
    if not columns:
        shapes.append(("matrix", m * d))
    for scheme, book, tries, fit in _families():
        for sharing, size in shapes:
            if size < 8:
                continue
            found = _claim(cut_blocks(matrix, size, significand, floor), scheme, book, tries, fit, sharing, size)
            if found is None:
                break  # Groups are nested: what does not fit does not fit in larger ones.
            if found.log10_chance <= CHANCE:
                yield found
    if m >= 8 and not _repeats_columns(matrix):
        yield from _few_values(matrix, shapes, significand, floor)


def _families() -> Iterator[tuple[Scheme, str | None, int, Callable[[Blocks], Fit]]]:
    yield "integer", None, LARGEST, fit_integers
    for name, bits in FLOATS.items():
        yield "float", name, 1 << (bits - 1), partial(fit_float, bits=bits)
    for name, (book, anchors) in BOOKS.items():
        signed = name in SIGNED_SCALE
        yield "codebook", name, len(anchors), partial(fit_book, book=book, anchors=anchors, signed=signed)


def _claim(
    blocks: Blocks,
    scheme: Scheme,
    book: str | None,
    tries: int,
    fit: Callable[[Blocks], Fit],
    sharing: Sharing,
    size: int,
) -> Grid | None:
    """Return the grid at one size of group, of chance 1 when no group could be tested, or None when it fails."""
    if not blocks.top.shape[0]:
        return Grid(scheme, 1, 1, book, sharing, size, 0.0, None)
    count = blocks.top.shape[0]
    if count > 64 and fit(blocks[spread(count, 16)]).fits.mean() < 0.75:
        return None  # A look at a few groups spares the rest.
    result = fit(blocks)
    if result.fits.mean() < _FITTING:
        return None
    kept = int(result.fits.sum())
    chance = np.minimum(0.0, result.chance[result.fits] + math.log10(tries)).sum()
    chance += (math.lgamma(count + 1) - math.lgamma(kept + 1) - math.lgamma(count - kept + 1)) / math.log(10)
    levels = int(result.levels[result.fits].max())
    if scheme == "integer" and levels > 272:  # rounding to bfloat16 leaves 8 bits uncertain by a few levels
        return None
    if scheme == "integer" and levels <= 3:
        scheme = "ternary" if levels == 3 else "binary"
    noise = float(np.sqrt(np.mean(result.noise[result.fits])))
    bits = min(8, max(1, math.ceil(math.log2(levels))))
    return Grid(scheme, bits, levels, book, sharing, size, float(chance), noise)


_NEAR = 3
"""Storage steps within which a smooth law puts other values beside those that repeat."""


def _few_values(
    matrix: Float64Array, shapes: list[tuple[Sharing, int]], significand: int, floor: float
) -> Iterator[Grid]:
    """Yield a grid of at most 32 values a group, whatever they are.

    Repeats alone mean little (storage itself repeats where values crowd), but where a smooth law repeats values, it
    also fills the storage steps beside them. With ``n`` values on ``u`` distinct ones the mean occupancy ``a`` of a
    step solves ``n/u = a / (1 - exp(-a))``, and :data:`_NEAR` empty steps beside a value have chance ``exp(-3a)``.
    """
    for sharing, size in shapes:
        if size < 32 or sharing == "matrix":
            continue
        blocks = cut_blocks(matrix, size, significand, floor)
        if not blocks.top.shape[0]:
            continue
        values = np.sort(blocks.values, axis=1)
        present = values != 0.0
        # Neighbours in storage, counted in steps of the smaller of the two.
        step = np.maximum(np.ldexp(1.0, np.frexp(values)[1] - significand), floor)
        gap, both = np.diff(values, axis=1), present[:, 1:] & present[:, :-1]
        repeated: BoolArray = np.equal(gap, 0.0) & both
        same = repeated.sum(axis=1)
        near = ((gap > 0.0) & (gap <= _NEAR * np.minimum(step[:, 1:], step[:, :-1]))).sum(axis=1)
        number = present.sum(axis=1)
        distinct = number - same
        # In a widened layer values come in twos, and nothing more.
        thrice = np.any(repeated[:, 1:] & repeated[:, :-1], axis=1)
        fits = (distinct <= 32) & (same >= 0.25 * number) & (near <= 0.25 * distinct) & thrice
        if fits.mean() < 0.9:
            continue
        occupancy = _occupancy(number[fits] / distinct[fits])
        chance = -_NEAR * occupancy * (distinct - near)[fits] / math.log(10)
        levels = int(distinct[fits].max()) + int(not present.all())
        bits = max(1, math.ceil(math.log2(levels)))
        if bits <= 5 and chance.sum() <= CHANCE:
            yield Grid("values", bits, levels, None, sharing, size, float(chance.sum()), None)


def _occupancy(ratio: Float64Array) -> Float64Array:
    """Solve ``ratio = a / (1 - exp(-a))`` for ``a``: the fixed point contracts for every ratio above 1."""
    a = np.maximum(ratio, 1.0)
    for _ in range(60):
        a = ratio * -np.expm1(-a)
    return a


def _repeats_columns(matrix: Float64Array) -> bool:
    """Return whether many columns are copies of others (a widened layer), which repeats values in every row."""
    rng = np.random.default_rng(0)
    marks = rng.standard_normal(matrix.shape[0]) @ matrix
    marks = marks[marks != 0.0]
    return bool(marks.size and np.unique(marks).size < 0.8 * marks.size)
