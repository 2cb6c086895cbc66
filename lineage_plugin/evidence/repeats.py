"""Repeats inside one model: up-scaled layers, upcycled experts, cloned neurons, copied heads.

Copies of one random draw are not independent coins (independence ledger, rule 1): an unlucky draw would be counted once
per copy. Repeats are found by tossing the model against itself, layer against layer, and their coins are merged.

The search sees one model only. Merging keeps the coins exactly fair: swapping units ``i`` and ``j`` in all copies at
once is a symmetry, and it leaves the search's own statistics unchanged. A group merged without need costs coins, never
validity; a missed repeat is made unlikely by a low bar.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.evalue import log10_e_value

__all__ = [
    "REPEAT_BAR",
    "REPEAT_COSINE",
    "SEARCH_ELEMENTS",
    "SEARCH_UNITS",
    "repeat_classes",
    "repeated_units",
    "search_elements",
    "search_units",
]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

REPEAT_BAR = 4.0
"""``log10 E`` of the self-comparison from which two groups of one model count as repeats."""

REPEAT_COSINE = 0.5
"""Median cosine of equal units from which they count as repeats however few they are."""

CLONE_COSINE = 0.75
"""Cosine of two units of one group, the least of their roles, from which the second is a clone of the first."""

SKETCH_DIM = 128

SEARCH_UNITS = 64
"""Most units of a group that a search looks at."""

SEARCH_ELEMENTS = 256
"""Most elements of a unit's vector that a search looks at: they are kept for every layer."""


def repeat_classes(
    groups: Sequence[Sequence[FloatArray]], odd: Sequence[bool], pairs: IntArray, flip: bool
) -> IntArray:
    """Return a class label for each group; groups of equal label repeat each other.

    Two groups repeat each other when their self-comparison reaches :data:`REPEAT_BAR`, or when their units lie nearer
    than :data:`REPEAT_COSINE` (a handful of units cannot reach any bar).

    Args:
        groups: For each group, one ``[units, dim]`` array a role: the same units of every group.
        odd: For each role, whether a sign flip negates it.
        pairs: ``[pairs, 2]`` positions along the units; see :func:`search_units`.
        flip: Whether the units have a sign symmetry, so that agreement of signs counts too.

    Returns:
        ``[groups]`` labels: the smallest number of a group in the class.
    """
    count = len(groups)
    label = np.arange(count, dtype=np.int64)
    if count < 2:
        return label
    i, j = pairs[:, 0], pairs[:, 1]
    swap = np.zeros((i.shape[0], count, count))
    sign = np.zeros((groups[0][0].shape[0], count, count))
    nearness = np.zeros_like(sign)
    for role, is_odd in enumerate(odd):
        units = _normalised(np.stack([group[role] for group in groups], axis=1))
        even = np.abs if is_odd else np.positive
        swap += even(_gram(units[i], units[i])) + even(_gram(units[j], units[j]))
        swap -= even(_gram(units[i], units[j])) + even(_gram(units[j], units[i]))
        same = _gram(units, units)
        nearness += even(same) / len(odd)
        if is_odd:
            sign += same
    coins = (swap != 0).sum(axis=0)
    heads = (swap > 0).sum(axis=0)
    if flip:
        coins = coins + (sign != 0).sum(axis=0)
        heads = heads + (sign > 0).sum(axis=0)
    near = np.median(nearness, axis=0) >= REPEAT_COSINE
    # E rises with the heads, so groups near one half need no evaluation.
    suspicious = np.triu(near | (heads > 0.5 * coins + np.sqrt(coins)), k=1)
    for first, second in np.argwhere(suspicious):
        tossed = log10_e_value(int(heads[first, second]), int(coins[first, second])) >= REPEAT_BAR
        if tossed or near[first, second]:
            low, high = sorted((int(label[first]), int(label[second])))
            label[label == high] = low
    return label


def repeated_units(roles: Sequence[FloatArray]) -> BoolArray:
    """Say which units of a group are clones of an earlier unit of it: widened MLPs, KV heads stored several times.

    Clones are near in every role: units that lie along one common direction in one of them are no clones. Long vectors
    are sketched by a fixed Gaussian projection, which moves a cosine by about 0.09; a unit left out without need costs
    a coin, nothing else.

    Args:
        roles: One ``[units, dim]`` array a role.

    Returns:
        ``[units]``.
    """
    count = roles[0].shape[0]
    nearness: FloatArray = np.ones((count, count), dtype=np.float32)
    for role in roles:
        sketch = role
        if role.shape[1] > 2 * SKETCH_DIM:
            rng = np.random.default_rng(role.shape[1])
            with np.errstate(invalid="ignore", over="ignore"):
                sketch = np.nan_to_num(role) @ rng.standard_normal((role.shape[1], SKETCH_DIM), dtype=np.float32)
        units = _normalised(sketch[:, None, :])[:, 0, :]
        nearness = np.minimum(nearness, np.abs(units @ units.T))
    return np.asarray(np.tril(nearness >= CLONE_COSINE, k=-1).any(axis=1))


def search_units(pairs: IntArray, units: int) -> tuple[IntArray, IntArray]:
    """Choose the units that a search looks at: it is no measurement, and a bounded number is enough.

    Args:
        pairs: ``[pairs, 2]`` positions along the units of a sample.
        units: Number of its units.

    Returns:
        ``[m]`` positions of the chosen units, and ``[p, 2]`` the pairs among them as positions into the chosen.
    """
    if not pairs.shape[0]:
        return np.arange(min(units, SEARCH_UNITS), dtype=np.int64), pairs
    kept = pairs[: SEARCH_UNITS // 2]
    chosen = np.unique(kept)
    return chosen, np.searchsorted(chosen, kept).astype(np.int64)


def search_elements(dim: int) -> IntArray:
    """Choose the elements of a vector that a search looks at, evenly over its length, for the same reason.

    Args:
        dim: Number of elements.

    Returns:
        Increasing positions, at most :data:`SEARCH_ELEMENTS`.
    """
    chosen: IntArray = np.linspace(0, dim - 1, min(dim, SEARCH_ELEMENTS)).round().astype(np.int64)
    return chosen


def _gram(a: FloatArray, b: FloatArray) -> FloatArray:
    product: FloatArray = a @ b.transpose(0, 2, 1)
    return product


def _normalised(units: FloatArray) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore", over="ignore"):
        norm = np.sqrt(np.einsum("ugd,ugd->ug", units, units, dtype=np.float64))[..., None]
        scaled = np.where((norm > 0) & np.isfinite(norm), units / np.where(norm > 0, norm, 1.0), 0.0)
    return np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
