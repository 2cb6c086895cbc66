"""Depth: blocks repeated, dropped, inserted, re-ordered or replaced.

Every function returns the new model and, for each of its blocks, the number of the block of the base that it came from
(None for a new one).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.derivations.layouts import Model, fresh

__all__ = ["arranged", "dropped", "grafted", "inserted", "reordered", "reset", "upscaled", "wrapped"]

Layers = list[int | None]
Changed = tuple[Model, Layers]


def arranged(model: Model, order: Sequence[int | None], rng: np.random.Generator, outputs: float = 0.0) -> Changed:
    """Blocks in another order, with new ones between them.

    Args:
        model: The base.
        order: For each new block the number of the old one, or None for a block of initial weights.
        rng: Where initial weights come from.
        outputs: Factor on what new blocks write to the residual stream; 0 makes them the identity.

    Returns:
        The model, and ``order``.
    """
    blocks = model.blocks()
    chosen = [fresh(blocks[0], rng, outputs) if number is None else blocks[number] for number in order]
    return model.with_blocks(chosen), list(order)


def upscaled(model: Model, rng: np.random.Generator) -> Changed:
    """Up-scaling: two copies, the first without its last third, the second without its first (Kim et al. 2023)."""
    depth = model.size("depth")
    cut = depth // 3
    return arranged(model, [*range(depth - cut), *range(cut, depth)], rng)


def dropped(model: Model, rng: np.random.Generator) -> Changed:
    """A third of the blocks removed, none of them at an end."""
    depth = model.size("depth")
    gone = set(range(2, depth - 1, 2)) if depth > 4 else {depth // 2}
    return arranged(model, [number for number in range(depth) if number not in gone], rng)


def inserted(model: Model, rng: np.random.Generator) -> Changed:
    """Two new blocks between the old ones, the identity at first."""
    order: Layers = list(range(model.size("depth")))
    order.insert(4, None)
    order.insert(2, None)
    return arranged(model, order, rng, outputs=0.0)


def wrapped(model: Model, rng: np.random.Generator) -> Changed:
    """New random blocks before and behind all others."""
    return arranged(model, [None, None, *range(model.size("depth")), None], rng, outputs=1.0)


def reordered(model: Model, rng: np.random.Generator) -> Changed:
    """Neighbours exchanged, all but the ends."""
    order = list(range(model.size("depth")))
    for at in range(1, len(order) - 2, 2):
        order[at], order[at + 1] = order[at + 1], order[at]
    return arranged(model, order, rng)


def reset(model: Model, rng: np.random.Generator) -> Changed:
    """The last two blocks drawn anew."""
    depth = model.size("depth")
    return arranged(model, [*range(depth - 2), None, None], rng, outputs=1.0)


def grafted(model: Model, donor: Model) -> tuple[Model, Layers, Layers]:
    """Two blocks taken from an unrelated model.

    Args:
        model: The base.
        donor: A model of the same shape.

    Returns:
        The model, the blocks that came from the base, and those that came from the donor.
    """
    depth, others = model.size("depth"), donor.blocks()
    theirs = {1, depth - 2}
    blocks = [others[n] if n in theirs else block for n, block in enumerate(model.blocks())]
    ours = [None if n in theirs else n for n in range(depth)]
    return model.with_blocks(blocks), ours, [n if n in theirs else None for n in range(depth)]
