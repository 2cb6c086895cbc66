"""Reading layers that are packed along their columns, GPTQ and AWQ, in every way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from tests.hub import LocalHub

from .gptq_samples import LAYER, Made, save

__all__ = ["WEIGHT", "WIDE", "check", "spent", "window_of_a_wide_layer"]

WEIGHT = f"{LAYER}.weight"
WIDE = (4, 512, 4096, 128)
"""Bits, inputs, outputs, and inputs of a group of a layer whose rows of words are worth a request."""


def check(checkpoint: StoredCheckpoint, name: str, weight: NDArray[np.float32], seed: int = 0) -> None:
    """Read all of a weight, and parts of every kind."""
    assert checkpoint.tensors[name].shape == weight.shape
    np.testing.assert_array_equal(checkpoint.read([Selection(name)])[0], weight)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        rows, columns = (np.sort(rng.permutation(n)[: rng.integers(1, n)]) for n in weight.shape)
        few = np.arange(*np.sort(rng.choice(weight.shape[1] + 1, 2, replace=False)))
        wanted = [(rows, None), (None, columns), (None, few), (rows, columns), (rows[:1], few)]
        for found, (a, b) in zip(checkpoint.read([Selection(name, *w) for w in wanted]), wanted, strict=True):
            part = weight if a is None else weight[a]
            np.testing.assert_array_equal(found, part if b is None else part[:, b])
    wide = 2 * weight.shape[1]
    again = checkpoint.read([Selection(name, np.array([1]), np.array([0, 3, wide - 1]), wide)])[0]
    np.testing.assert_array_equal(again, weight.reshape(-1, wide)[[1]][:, [0, 3, -1]])
    assert checkpoint.read([Selection(name, np.array([], np.int64))])[0].shape == (0, weight.shape[1])


def spent(checkpoint: StoredCheckpoint, rows: list[int] | None, columns: list[int] | None) -> int:
    """Return the bytes of tensors that rows and columns of the layer made by hand cost."""
    before = checkpoint.cost()
    picks = (None if indices is None else np.array(indices) for indices in (rows, columns))
    checkpoint.read([Selection(WEIGHT, *picks)])
    return checkpoint.cost().since(before).tensor_bytes


def window_of_a_wide_layer(hub: LocalHub, made: Made, settings: dict[str, object]) -> int:
    """Read 16 inputs of one group of a layer over the Hub, in three requests at most; return the bytes they cost."""
    save(hub.root / "owner" / "wide", made.tensors, settings)
    wide = open_hub("owner/wide", endpoint=hub.endpoint)
    before, columns = wide.cost(), np.arange(256, 272)
    np.testing.assert_array_equal(wide.read([Selection(WEIGHT, None, columns)])[0], made.weight[:, columns])
    cost = wide.cost().since(before)
    assert cost.requests <= 3
    return cost.tensor_bytes
