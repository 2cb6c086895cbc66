"""Values: rounding to a grid, noise. Shapes and names stay.

Only the matrices of the blocks are rounded, as quantisers do; the result is stored as usual, "quantised in memory".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.derivations.layouts import Array, Model

__all__ = ["int4", "int8", "nf4", "noisy"]

NF4 = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    dtype=np.float32,
)
"""Quantiles of the normal distribution, Dettmers et al. 2023, appendix E."""


def _matrices(model: Model, change: Callable[[Array], Array]) -> Model:
    """Change every matrix of the blocks."""
    prefix = model.layout.prefix
    return model.with_tensors(
        {n: change(a).astype(np.float32) for n, a in model.tensors.items() if n.startswith(prefix) and a.ndim == 2}
    )


def _grouped(array: Array, group: int, rounded: Callable[[Array], Array]) -> Array:
    """Apply a function to groups of neighbours within rows, the last one shorter where the row does not divide."""
    if array.shape[1] % group:
        group = array.shape[1]
    return rounded(array.reshape(-1, group)).reshape(array.shape)


def int4(model: Model, group: int = 32) -> Model:
    """Sixteen equal steps between the least and the greatest weight of each group of neighbours."""

    def rounded(parts: Array) -> Array:
        low, high = parts.min(1, keepdims=True), parts.max(1, keepdims=True)
        step = np.maximum((high - low) / 15, 1e-12)
        return np.rint((parts - low) / step) * step + low

    return _matrices(model, lambda array: _grouped(array, group, rounded))


def int8(model: Model) -> Model:
    """255 symmetric steps of each row."""

    def rounded(array: Array) -> Array:
        step = np.maximum(np.abs(array).max(1, keepdims=True) / 127, 1e-12)
        return np.rint(array / step) * step

    return _matrices(model, rounded)


def nf4(model: Model, group: int = 64) -> Model:
    """The nearest of sixteen normal quantiles, scaled by the greatest magnitude of each group of neighbours."""

    def rounded(parts: Array) -> Array:
        scale = np.maximum(np.abs(parts).max(1, keepdims=True), 1e-12)
        middles = (NF4[1:] + NF4[:-1]) / 2
        return NF4[np.searchsorted(middles, parts / scale)] * scale

    return _matrices(model, lambda array: _grouped(array, group, rounded))


def noisy(model: Model, relative: float, rng: np.random.Generator) -> Model:
    """White noise, its standard deviation a share of each matrix's root mean square."""

    def changed(array: Array) -> Array:
        return array + relative * np.sqrt(np.mean(array**2)) * rng.standard_normal(array.shape, dtype=np.float32)

    return _matrices(model, changed)
