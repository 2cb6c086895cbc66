"""Width: hidden units, heads and residual channels removed, key-value heads pooled.

What is removed is the least important by the norms of what a unit reads and writes, as simple pruning tools do it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.derivations.layouts import Array, Block, Layout, Model

__all__ = ["heads_pruned", "kv_pooled", "stream_pruned", "units_pruned"]

Index = NDArray[np.int64]


def _taken(block: Block, axes: Mapping[str, tuple[str, ...]], chosen: Mapping[str, Index]) -> dict[str, Array]:
    """Select along every axis of a kind in ``chosen``."""
    made = {}
    for suffix, array in block.items():
        for axis, kind in enumerate(axes[suffix]):
            if kind in chosen:
                array = np.take(array, chosen[kind], axis=axis)
        made[suffix] = array
    return made


def _energy(block: Block, layout: Layout, kind: str, units: int) -> Array:
    """Importance of ``units`` equal parts of an axis: product over tensors of the norms of what is theirs."""
    importance = np.zeros(units)
    for suffix, array in block.items():
        if array.ndim == 2 and kind in (kinds := layout.block[suffix]):
            axis = kinds.index(kind)
            parts = np.square(np.moveaxis(array, axis, 0).reshape(units, -1), dtype=np.float64)
            importance += np.log(parts.sum(1) + 1e-30)
    return importance.astype(np.float32)


def units_pruned(model: Model, share: float, *, sort: bool = False) -> Model:
    """Keep the most important hidden units of every MLP.

    Args:
        model: The base.
        share: Share of the units that is kept.
        sort: Store them most important first, as some pruning tools do, instead of in their old order.

    Returns:
        The smaller model.
    """
    kept = round(share * model.size("units"))
    blocks = []
    for block in model.blocks():
        order = np.argsort(-_energy(block, model.layout, "unit", model.size("units")), kind="stable")[:kept]
        blocks.append(_taken(block, model.layout.block, {"unit": order if sort else np.sort(order)}))
    return model.with_blocks(blocks, units=kept)


def _channels(heads: Index, size: int) -> Index:
    """Channels of some heads of equal size."""
    return (heads[:, None] * size + np.arange(size)).reshape(-1)


def _head_axes(model: Model, kept: Index) -> dict[str, Index]:
    """Channels along every kind of head axis, when these key-value groups are kept."""
    size, all_heads, kv = model.head_size, model.size("heads"), model.size("kv")
    queries = _channels(kept, all_heads // kv)
    fused = np.concatenate([part * all_heads * size + _channels(kept, size) for part in range(3)])
    return {
        "query": _channels(queries, size),
        "kv": _channels(kept, size),
        "fused": fused,
        "heads": _channels(kept, 3 * size),
    }


def _best_groups(block: Block, model: Model, kept: int) -> Index:
    """The key-value groups of a block with the greatest output weights, in their old order."""
    energy = _energy(block, model.layout, "query", model.size("kv"))
    return np.sort(np.argsort(-energy, kind="stable")[:kept])


def heads_pruned(model: Model, kept: int) -> Model:
    """Keep some key-value groups, with the queries that use them, in every block.

    Args:
        model: A model whose heads are not tied to its width.
        kept: Key-value groups that are kept.

    Returns:
        The smaller model.
    """
    blocks = [
        _taken(block, model.layout.block, _head_axes(model, _best_groups(block, model, kept)))
        for block in model.blocks()
    ]
    return model.with_blocks(blocks, heads=kept * model.size("heads") // model.size("kv"), kv=kept)


def stream_pruned(model: Model, width: int) -> Model:
    """Keep the residual channels that embeddings and blocks use most.

    Where heads are the width divided (GPT-2, GPT-NeoX), heads go in proportion.

    Args:
        model: The base.
        width: Channels that are kept.

    Returns:
        The smaller model.
    """
    layout, blocks = model.layout, model.blocks()
    energy = np.zeros(model.size("width"))
    for axes, tensors in [(layout.outside, model.outside()), *((layout.block, block) for block in blocks)]:
        for name, array in tensors.items():
            if array.ndim == 2 and "stream" in axes[name]:
                squares = np.square(array, dtype=np.float64)
                energy += squares.sum(1 - axes[name].index("stream")) / squares.sum()
    stream = np.sort(np.argsort(-energy, kind="stable")[:width])
    outside = _taken(model.outside(), layout.outside, {"stream": stream})
    if not layout.tied:
        narrow = [_taken(block, layout.block, {"stream": stream}) for block in blocks]
        return model.with_blocks(narrow, outside, width=width)
    heads = width // model.head_size
    narrow = [
        _taken(block, layout.block, {"stream": stream} | _head_axes(model, _best_groups(block, model, heads)))
        for block in blocks
    ]
    return model.with_blocks(narrow, outside, width=width, heads=heads, units=model.size("units"))


def kv_pooled(model: Model, kept: int) -> Model:
    """Pool key-value heads into fewer by their means (Ainslie et al. 2023, "GQA").

    Args:
        model: A model with separate key and value projections.
        kept: Key-value heads afterwards, a divisor of those there are.

    Returns:
        The model with more queries per key-value head.
    """
    layout, size = model.layout, model.head_size
    blocks = []
    for block in model.blocks():
        made = dict(block)
        for suffix, array in block.items():
            if layout.block[suffix][0] == "kv":
                parts = array.reshape(kept, -1, size, *array.shape[1:])
                made[suffix] = parts.mean(axis=1).reshape(kept * size, *array.shape[1:]).astype(np.float32)
        blocks.append(made)
    return model.with_blocks(blocks, kv=kept)
