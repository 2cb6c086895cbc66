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
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
_ROWS, _COLUMNS, _ELEMENTS = 64, 2048, 1 << 14
"""At most so many rows, columns, and elements a test are looked at: more would not change the answer."""
_LARGEST = 255
"""Largest integer level: 8 bits with a zero point at the end of the range."""
_SLACK = 0.5625
"""Steps of storage that rounding may move a value: half a one, and an eighth of that for an earlier rounding to a type
three bits wider."""
_FLOOR = {"F16": 2.0**-24, "F8_E4M3": 2.0**-9, "F8_E5M2": 2.0**-16}
_SIGNIFICAND = {"BF16": 8, "F16": 11, "F32": 20, "F64": 20, "F8_E4M3": 4, "F8_E5M2": 3}
"""Significant bits of storage; of wider types only 20 are trusted, for dequantisers round on their way."""

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""NormalFloat: Dettmers, Pagnoni, Holtzman & Zettlemoyer, QLoRA (arXiv:2305.14314), appendix E."""
_FP4_HALF = (0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
"""The 4-bit float of bitsandbytes, whose one subnormal is 1/192 of the largest value."""
_E2M1_HALF = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""OCP Microscaling Formats v1.0, section 5.3.3; the element of MXFP4 and NVFP4."""
_IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""The non-linear 4-bit levels of ggml (``kvalues_iq4nl``)."""


def _mirrored(half: tuple[float, ...]) -> Float64Array:
    return np.array([-x for x in half[::-1]] + [0.0] + list(half))


_BOOKS: dict[str, tuple[Float64Array, tuple[float, ...]]] = {
    "NF4": (np.array(_NF4), tuple(x for x in _NF4 if abs(x) > 0.2)),
    "FP4": (_mirrored(_FP4_HALF), (12.0, 8.0, 6.0, 4.0)),
    "E2M1": (_mirrored(_E2M1_HALF), (6.0, 4.0, 3.0, 2.0)),
    "IQ4_NL": (np.array(_IQ4_NL, dtype=np.float64), tuple(float(x) for x in _IQ4_NL)),
}
"""Levels by name, and those that the value of largest modulus may stand for, in a part of a group as well."""
_SIGNED_SCALE = frozenset({"IQ4_NL"})
"""Books that are written with a scale of either sign."""
_FLOATS = {"E5M2": 3, "E4M3": 4}
"""Significant bits of the short floats."""


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
        fitting: Share of the groups that fit.
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
    fitting: float
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


@dataclass(frozen=True, eq=False, slots=True)
class _Fit:
    """How each of ``[b]`` groups fits: whether, at what chance (log10, at most 0), with how many levels and noise."""

    fits: BoolArray
    chance: Float64Array
    levels: NDArray[np.int64]
    noise: Float64Array


@dataclass(frozen=True, eq=False, slots=True)
class _Blocks:
    """Groups ``[b, g]`` of weights with the rounding that storage explains.

    Attributes:
        values: ``[b, g]``.
        slack: ``[b, g]`` distance by which rounding may have moved a value.
        top: ``[b]`` position of the value of largest modulus.
        significand: Significant bits of storage.
    """

    values: Float64Array
    slack: Float64Array
    top: NDArray[np.int64]
    significand: int

    def __getitem__(self, chosen: NDArray[np.int64]) -> _Blocks:
        return replace(self, values=self.values[chosen], slack=self.slack[chosen], top=self.top[chosen])

    @property
    def peak(self) -> Float64Array:
        """``[b, 1]`` value of largest modulus, with its sign."""
        return np.take_along_axis(self.values, self.top[:, None], axis=1)

    def tolerance(self) -> Float64Array:
        """``[b, g]`` distance allowed, in weights: a value's own rounding, and that of the scale's."""
        share = np.take_along_axis(self.slack, self.top[:, None], axis=1) / np.abs(self.peak)
        return self.slack + np.abs(self.values) * share

    def judge(
        self, level: NDArray[np.generic], offset: Float64Array, cell: Float64Array, tolerance: Float64Array
    ) -> tuple[BoolArray, Float64Array]:
        """Return which groups fit, and the log10 chance of each; distances are those to the nearest levels."""
        counted = self.values != 0.0
        np.put_along_axis(counted, self.top[:, None], False, axis=1)
        # Stored values are themselves a grid: at most so many lie within tolerance, of at least so many in the cell.
        step = self.slack / _SLACK
        within = np.floor(2.0 * tolerance / step + 1e-9) + 1.0
        # Nothing lies beyond the largest value: of the cell there only the lower part is left, a quarter at worst.
        whole = cell
        cell = np.where(np.abs(self.values) + tolerance >= np.abs(self.peak), cell / 4.0, cell)
        inside = np.maximum(1.0, np.floor(cell / step - 1e-9))
        odds = np.log10(np.minimum(1.0, within / inside), where=counted, out=np.zeros_like(tolerance))
        fine: BoolArray = np.all(offset <= tolerance, axis=1)
        # One scale times one level is one stored value: values that differ and share a level, beyond doubt, are none.
        left = np.flatnonzero(fine)
        order = np.argsort(level[left], axis=1, kind="stable")
        gap, jump = (np.diff(np.take_along_axis(x[left], order, axis=1), axis=1) for x in (level, self.values))
        doubtful = np.take_along_axis((2.0 * tolerance >= whole)[left], order, axis=1)
        clash = (gap == 0) & (jump != 0) & ~doubtful[:, 1:] & ~doubtful[:, :-1]
        fine[left] = ~clash.any(axis=1)
        chance: Float64Array = odds.sum(axis=1)
        return fine, chance


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
    rows = rows[_spread(rows.shape[0], _ROWS), :_COLUMNS]
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
        and found.levels > (2 << _FLOATS[other.book or ""]) + 1
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
            found = _claim(_blocks(matrix, size, significand, floor), scheme, book, tries, fit, sharing, size)
            if found is None:
                break  # Groups are nested: what does not fit does not fit in larger ones.
            if found.log10_chance <= CHANCE:
                yield found
    if m >= 8 and not _repeats_columns(matrix):
        yield from _few_values(matrix, shapes, significand, floor)


def _families() -> Iterator[tuple[Scheme, str | None, int, Callable[[_Blocks], _Fit]]]:
    yield "integer", None, _LARGEST, _fit_integers
    for name, bits in _FLOATS.items():
        yield "float", name, 1 << (bits - 1), partial(_fit_float, bits=bits)
    for name, (book, anchors) in _BOOKS.items():
        signed = name in _SIGNED_SCALE
        yield "codebook", name, len(anchors), partial(_fit_book, book=book, anchors=anchors, signed=signed)


def _claim(
    blocks: _Blocks,
    scheme: Scheme,
    book: str | None,
    tries: int,
    fit: Callable[[_Blocks], _Fit],
    sharing: Sharing,
    size: int,
) -> Grid | None:
    """Return the grid at one size of group, with ``fitting`` 0 when no group could be tested, or None when it fails."""
    if not blocks.top.shape[0]:
        return Grid(scheme, 1, 1, book, sharing, size, 0.0, 0.0, None)
    count = blocks.top.shape[0]
    if count > 64 and fit(blocks[_spread(count, 16)]).fits.mean() < 0.75:
        return None  # A look at a few groups spares the rest.
    result = fit(blocks)
    share = float(result.fits.mean())
    if share < _FITTING:
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
    return Grid(scheme, bits, levels, book, sharing, size, share, float(chance), noise)


def _blocks(matrix: Float64Array, size: int, significand: int, floor: float) -> _Blocks:
    """Cut the rows into groups, leaving out those in which there is nothing to see: one value, or hardly any."""
    if size > matrix.shape[1]:
        cut = matrix.reshape(1, -1)
    else:
        whole = matrix.shape[1] // size * size
        cut = matrix[:, :whole].reshape(-1, size)
    cut = cut[_spread(cut.shape[0], max(16, _ELEMENTS // size))]
    cut = cut[:, _spread(cut.shape[1], _COLUMNS)]
    present = cut != 0.0
    lowest = np.where(present, cut, np.inf).min(axis=1)
    highest = np.where(present, cut, -np.inf).max(axis=1)
    cut = cut[(lowest < highest) & (present.sum(axis=1) >= 4)]
    # A zero is exact but for what storage cannot tell from it.
    spacing = np.where(cut == 0.0, 2.0**-149, np.ldexp(1.0, np.frexp(cut)[1] - significand))
    slack = np.maximum(spacing, floor) * _SLACK
    return _Blocks(cut, slack, np.argmax(np.abs(cut), axis=1).astype(np.int64), significand)


def _fit_integers(blocks: _Blocks) -> _Fit:
    """Fit ``scale * k``, ``|k| <= 255``, with the largest value standing for each ``k``; the smallest that fits."""
    count = blocks.top.shape[0]
    size, peak, tolerance = np.abs(blocks.values), np.abs(blocks.peak), blocks.tolerance()
    # The smallest values are the most telling: they alone rule out nearly all scales.
    order = np.argsort(np.where(size > 0, size, np.inf), axis=1)
    few = np.unique(np.concatenate([np.arange(min(4, order.shape[1])), _spread(order.shape[1], 8)]))
    sub = np.take_along_axis(size, order[:, few], axis=1) / peak
    sub_tolerance = np.take_along_axis(tolerance, order[:, few], axis=1) / peak
    steps = np.arange(1, _LARGEST + 1, dtype=np.float64)
    scaled = sub[:, None, :] * steps[None, :, None]
    near = np.abs(scaled - np.rint(scaled)) <= sub_tolerance[:, None, :] * steps[None, :, None]
    possible: BoolArray = np.all(near, axis=2)
    fits, chance = np.zeros(count, np.bool_), np.zeros(count)
    levels, noise = np.ones(count, np.int64), np.zeros(count)
    power = (blocks.values**2).mean(axis=1)
    for step in np.flatnonzero(possible.any(axis=0)) + 1:
        open_ = np.flatnonzero(possible[:, step - 1] & ~fits)
        if not open_.size:
            continue
        part = blocks[open_]
        unit = peak[open_] / step
        level = np.rint(part.values / unit)
        fine, odds = part.judge(level, np.abs(part.values - level * unit), unit, tolerance[open_])
        taken = open_[fine]
        fits[taken], chance[taken] = True, odds[fine]
        highest, lowest = (np.maximum(level[fine].max(axis=1), 0), np.minimum(level[fine].min(axis=1), 0))
        levels[taken] = (highest - lowest).astype(np.int64) + 1
        if step == 1:
            levels[taken[level[fine].all(axis=1)]] = 2
        noise[taken] = (peak[taken, 0] / step) ** 2 / 12.0 / power[taken]
    return _Fit(fits, chance, levels, noise)


def _fit_float(blocks: _Blocks, bits: int) -> _Fit:
    """Fit floats of ``bits`` significant bits at any scale: only the significand of the scale matters."""
    best: _Fit | None = None
    size, peak, tolerance = np.abs(blocks.values), np.abs(blocks.peak), blocks.tolerance()
    power = (size**2).mean(axis=1)
    for anchor in range(1 << (bits - 1), 1 << bits):
        fraction, exponent = np.frexp(size * (anchor / peak))
        unit = np.ldexp(peak / anchor, exponent)
        level = np.rint(np.ldexp(fraction, bits))
        offset = np.abs(fraction - np.ldexp(level, -bits))
        fine, odds = blocks.judge(np.copysign(level * unit, blocks.values), offset * unit, unit * 2.0**-bits, tolerance)
        noise = (unit * 2.0**-bits) ** 2 * (size > 0)
        fit = _Fit(fine, odds, np.full(fine.shape, 256, np.int64), noise.mean(axis=1) / 12.0 / power)
        best = fit if best is None else _either(best, fit)
    assert best is not None  # noqa: S101 - the loop runs at least twice
    return best


def _fit_book(blocks: _Blocks, book: Float64Array, anchors: tuple[float, ...], *, signed: bool) -> _Fit:
    """Fit the levels of a code book, the value of largest modulus standing for each anchor."""
    best: _Fit | None = None
    peak, tolerance = blocks.peak, blocks.tolerance()
    power = (blocks.values**2).mean(axis=1)
    gap = np.diff(book)
    middle = book[:-1] + gap / 2
    cell = (np.append(gap, gap[-1]) + np.append(gap[0], gap)) / 2
    for anchor in anchors:
        scale = peak / anchor
        if not signed:
            scale = np.abs(scale)
        scaled = blocks.values / scale
        level = np.searchsorted(middle, scaled)
        modulus = np.abs(scale)
        fine, odds = blocks.judge(level, np.abs(scaled - book[level]) * modulus, cell[level] * modulus, tolerance)
        noise = ((cell[level] * modulus) ** 2).mean(axis=1) / 12.0 / power
        fit = _Fit(fine, odds, np.full(fine.shape, book.shape[0], np.int64), noise)
        best = fit if best is None else _either(best, fit)
    assert best is not None  # noqa: S101 - every book has an anchor
    return best


def _either(one: _Fit, other: _Fit) -> _Fit:
    """Return the fit of each group that fits; of two, that with the smaller chance."""
    second = other.fits & (~one.fits | (other.chance < one.chance))
    pick = [np.where(second, b, a) for a, b in ((one.chance, other.chance), (one.noise, other.noise))]
    return _Fit(one.fits | other.fits, pick[0], np.where(second, other.levels, one.levels), pick[1])


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
        blocks = _blocks(matrix, size, significand, floor)
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
        share = float(fits.mean())
        if share < 0.9:
            continue
        occupancy = _occupancy(number[fits] / distinct[fits])
        chance = -_NEAR * occupancy * (distinct - near)[fits] / math.log(10)
        levels = int(distinct[fits].max()) + int(not present.all())
        bits = max(1, math.ceil(math.log2(levels)))
        if bits <= 5 and chance.sum() <= CHANCE:
            yield Grid("values", bits, levels, None, sharing, size, share, float(chance.sum()), None)


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


def _spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` positions below ``count``, evenly spread and increasing."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.floor(np.linspace(0, count - 1, most)).astype(np.int64)
