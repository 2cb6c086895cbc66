"""Samples and groups made by hand, without a checkpoint behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lineage_plugin.anatomy.types import UnitGroup, Vectors
from lineage_plugin.evidence.coins import draw_pairs
from lineage_plugin.evidence.sample import Probe, Sample, entropy


def group(
    units: int,
    roles: Sequence[tuple[str, int, bool]],
    *,
    name: str = "mlp",
    layer: int = 0,
    swap: bool = True,
    block: np.ndarray | None = None,
) -> UnitGroup:
    """A group of ``units`` units; ``roles`` are (role, dim, odd)."""
    vectors = tuple(
        Vectors(role, f"{name}.{layer}.{role}", 0, np.arange(units)[:, None], dim, None, odd)
        for role, dim, odd in roles
    )
    labels = np.zeros(units, np.int64) if block is None else block
    return UnitGroup(name, layer, swap, labels, vectors)


def sample(
    suspect: Sequence[np.ndarray],
    base: Sequence[np.ndarray],
    odd: Sequence[bool],
    *,
    name: str = "mlp",
    layer: int = 0,
    swap: bool = True,
    seed: int = 0,
    pairs: np.ndarray | None = None,
    block: np.ndarray | None = None,
) -> Sample:
    """A sample of all units of a group."""
    units = base[0].shape[0]
    roles = tuple(f"r{i}" for i in range(len(base)))
    made = group(
        units, [(r, b.shape[1], o) for r, b, o in zip(roles, base, odd)], name=name, layer=layer, swap=swap, block=block
    )
    if pairs is None:
        pairs = draw_pairs(made.block, [*entropy(seed, made), 1]) if swap else np.empty((0, 2), np.int64)
    probe = Probe(made, made, np.arange(units), roles)
    as32 = tuple(np.asarray(a, np.float32) for a in suspect), tuple(np.asarray(b, np.float32) for b in base)
    return Sample(probe, roles, tuple(odd), as32[0], as32[1], pairs)
