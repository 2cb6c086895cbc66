"""Fitting the levels of a quantiser to groups of weights; see :mod:`lineage_plugin.evidence.grid` for the rule."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BOOKS",
    "FLOATS",
    "LARGEST",
    "MOST_COLUMNS",
    "SIGNED_SCALE",
    "Blocks",
    "Fit",
    "cut_blocks",
    "fit_book",
    "fit_float",
    "fit_integers",
    "spread",
]

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MOST_COLUMNS = 2048
"""At most so many columns of a matrix, and elements of a group, are looked at: more would not change the answer."""
_ELEMENTS = 1 << 14
"""At most so many elements a test are looked at."""
LARGEST = 255
"""Largest integer level: 8 bits with a zero point at the end of the range."""
_SLACK = 0.5625
"""Steps of storage that rounding may move a value: half a one, and an eighth of that for an earlier rounding to a type
three bits wider."""

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


BOOKS: dict[str, tuple[Float64Array, tuple[float, ...]]] = {
    "NF4": (np.array(_NF4), tuple(x for x in _NF4 if abs(x) > 0.2)),
    "FP4": (_mirrored(_FP4_HALF), (12.0, 8.0, 6.0, 4.0)),
    "E2M1": (_mirrored(_E2M1_HALF), (6.0, 4.0, 3.0, 2.0)),
    "IQ4_NL": (np.array(_IQ4_NL, dtype=np.float64), tuple(float(x) for x in _IQ4_NL)),
}
"""Levels by name, and those that the value of largest modulus may stand for, in a part of a group as well."""
SIGNED_SCALE = frozenset({"IQ4_NL"})
"""Books that are written with a scale of either sign."""
FLOATS = {"E5M2": 3, "E4M3": 4}
"""Significant bits of the short floats."""


@dataclass(frozen=True, eq=False, slots=True)
class Fit:
    """How each of ``[b]`` groups fits: whether, at what chance (log10, at most 0), with how many levels and noise."""

    fits: BoolArray
    chance: Float64Array
    levels: NDArray[np.int64]
    noise: Float64Array


@dataclass(frozen=True, eq=False, slots=True)
class Blocks:
    """Groups ``[b, g]`` of weights with the rounding that storage explains.

    Attributes:
        values: ``[b, g]``.
        slack: ``[b, g]`` distance by which rounding may have moved a value.
        top: ``[b]`` position of the value of largest modulus.
    """

    values: Float64Array
    slack: Float64Array
    top: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.int64]) -> Blocks:
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


def cut_blocks(matrix: Float64Array, size: int, significand: int, floor: float) -> Blocks:
    """Cut the rows into groups, leaving out those in which there is nothing to see: one value, or hardly any."""
    if size > matrix.shape[1]:
        cut = matrix.reshape(1, -1)
    else:
        whole = matrix.shape[1] // size * size
        cut = matrix[:, :whole].reshape(-1, size)
    cut = cut[spread(cut.shape[0], max(16, _ELEMENTS // size))]
    cut = cut[:, spread(cut.shape[1], MOST_COLUMNS)]
    present = cut != 0.0
    lowest = np.where(present, cut, np.inf).min(axis=1)
    highest = np.where(present, cut, -np.inf).max(axis=1)
    cut = cut[(lowest < highest) & (present.sum(axis=1) >= 4)]
    # A zero is exact but for what storage cannot tell from it.
    spacing = np.where(cut == 0.0, 2.0**-149, np.ldexp(1.0, np.frexp(cut)[1] - significand))
    slack = np.maximum(spacing, floor) * _SLACK
    return Blocks(cut, slack, np.argmax(np.abs(cut), axis=1).astype(np.int64))


def fit_integers(blocks: Blocks) -> Fit:
    """Fit ``scale * k``, ``|k| <= 255``, with the largest value standing for each ``k``; the smallest that fits."""
    count = blocks.top.shape[0]
    size, peak, tolerance = np.abs(blocks.values), np.abs(blocks.peak), blocks.tolerance()
    # The smallest values are the most telling: they alone rule out nearly all scales.
    order = np.argsort(np.where(size > 0, size, np.inf), axis=1)
    few = np.unique(np.concatenate([np.arange(min(4, order.shape[1])), spread(order.shape[1], 8)]))
    sub = np.take_along_axis(size, order[:, few], axis=1) / peak
    sub_tolerance = np.take_along_axis(tolerance, order[:, few], axis=1) / peak
    steps = np.arange(1, LARGEST + 1, dtype=np.float64)
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
    return Fit(fits, chance, levels, noise)


def fit_float(blocks: Blocks, bits: int) -> Fit:
    """Fit floats of ``bits`` significant bits at any scale: only the significand of the scale matters."""
    best: Fit | None = None
    size, peak, tolerance = np.abs(blocks.values), np.abs(blocks.peak), blocks.tolerance()
    power = (size**2).mean(axis=1)
    for anchor in range(1 << (bits - 1), 1 << bits):
        fraction, exponent = np.frexp(size * (anchor / peak))
        unit = np.ldexp(peak / anchor, exponent)
        level = np.rint(np.ldexp(fraction, bits))
        offset = np.abs(fraction - np.ldexp(level, -bits))
        fine, odds = blocks.judge(np.copysign(level * unit, blocks.values), offset * unit, unit * 2.0**-bits, tolerance)
        noise = (unit * 2.0**-bits) ** 2 * (size > 0)
        fit = Fit(fine, odds, np.full(fine.shape, 256, np.int64), noise.mean(axis=1) / 12.0 / power)
        best = fit if best is None else _either(best, fit)
    assert best is not None  # noqa: S101 - the loop runs at least twice
    return best


def fit_book(blocks: Blocks, book: Float64Array, anchors: tuple[float, ...], *, signed: bool) -> Fit:
    """Fit the levels of a code book, the value of largest modulus standing for each anchor."""
    best: Fit | None = None
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
        fit = Fit(fine, odds, np.full(fine.shape, book.shape[0], np.int64), noise)
        best = fit if best is None else _either(best, fit)
    assert best is not None  # noqa: S101 - every book has an anchor
    return best


def _either(one: Fit, other: Fit) -> Fit:
    """Return the fit of each group that fits; of two, that with the smaller chance."""
    second = other.fits & (~one.fits | (other.chance < one.chance))
    pick = [np.where(second, b, a) for a, b in ((one.chance, other.chance), (one.noise, other.noise))]
    return Fit(one.fits | other.fits, pick[0], np.where(second, other.levels, one.levels), pick[1])


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` positions below ``count``, evenly spread and increasing."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.floor(np.linspace(0, count - 1, most)).astype(np.int64)
