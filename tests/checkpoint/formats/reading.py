"""Reading a checkpoint in every way and holding it against arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint import Checkpoint, Selection

__all__ = ["agrees"]


def agrees(checkpoint: Checkpoint, expected: Mapping[str, NDArray[np.generic]]) -> None:
    """Assert that every array is there, bit for bit: whole, by rows, by columns, by both, and with another width."""
    rng = np.random.default_rng(0)
    for name, array in expected.items():
        assert checkpoint.tensors[name].shape == array.shape, name
        matrix = array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(-1, 1)
        other = array.reshape(-1, array.shape[-1] if array.ndim else 1)
        rows, columns = (np.unique(rng.integers(0, extent, 3)) for extent in matrix.shape)
        some = np.unique(rng.integers(0, other.shape[0], 3))
        few = np.unique(rng.integers(0, other.shape[1], 2))
        width = other.shape[1]
        found = checkpoint.read(
            [
                Selection(name),
                Selection(name, rows=rows),
                Selection(name, columns=columns),
                Selection(name, rows=rows, columns=columns),
                Selection(name, width=width),
                Selection(name, rows=some, width=width),
                Selection(name, rows=some, columns=few, width=width),
                Selection(name, width=1),
            ]
        )
        wanted = [
            matrix,
            matrix[rows],
            matrix[:, columns],
            matrix[rows][:, columns],
            other,
            other[some],
            other[some][:, few],
            array.reshape(-1, 1),
        ]
        for have, want in zip(found, wanted):
            np.testing.assert_array_equal(have, want.astype(np.float32), err_msg=name)
