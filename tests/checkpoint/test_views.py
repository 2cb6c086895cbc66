"""Computed tensors: any rows and columns of any width, from just what they need."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import Derived, Matrix
from lineage_plugin.checkpoint.foreign.arranged import Arranged
from lineage_plugin.checkpoint.gguf_files.views import InTurns
from lineage_plugin.checkpoint.matrix import block, gather
from lineage_plugin.checkpoint.types import Selection, TensorInfo
from lineage_plugin.checkpoint.views import Ordered, Part, Plain, Turned

Array = NDArray[np.float32]


def selected(array: Array, selection: Selection) -> Array:
    """What a selection takes of an array, without any laziness."""
    part = block(selection, TensorInfo(selection.tensor, array.shape, "F32", "file", 0, array.nbytes))
    return np.asarray(gather(array.reshape(part.height, part.width), part), np.float32)


def made(kind: str, cube: Array, rng: np.random.Generator) -> tuple[Matrix, Array]:
    """A view of matrices below one another, and what it should be."""
    count, height, width = cube.shape
    flat = cube.reshape(-1, width)
    plain = Plain("x", count * height, width)
    if kind == "turned":
        return Turned(plain, count), cube.transpose(0, 2, 1)
    if kind == "ordered":
        order = rng.permutation(count * height)
        return Ordered(plain, order.__getitem__), flat[order]
    if kind == "part":
        return Part(plain, (count - 1) * height, height), cube[-1]
    if kind == "in turns":
        both = np.stack([cube, -cube], -1).reshape(count, height, 2 * width)
        return InTurns(plain, Plain("y", count * height, width)), both
    axes = tuple(int(axis) for axis in rng.permutation(3))
    moved = cube.transpose(axes)
    return Arranged(moved.shape, axes, ("x",), (cube.size,)), moved


@pytest.mark.parametrize("kind", ["turned", "ordered", "part", "in turns", "arranged"])
def test_any_part_of_any_width(kind: str) -> None:
    rng = np.random.default_rng(0)

    def some(extent: int) -> NDArray[np.int64] | None:
        return None if rng.random() < 0.3 else np.flatnonzero(rng.random(extent) < 0.5)

    for _ in range(300):
        cube = rng.normal(size=rng.integers(1, 7, 3)).astype(np.float32)
        stored = {"x": cube.reshape(-1, cube.shape[2]), "y": -cube.reshape(-1, cube.shape[2])}
        matrix, expected = made(kind, cube, rng)
        tensor = Derived(TensorInfo("w", expected.shape, "F32", "file", 0, cube.nbytes), matrix)
        width = int(rng.choice([n for n in range(1, expected.size + 1) if expected.size % n == 0]))
        whole = block(Selection("w", width=width), tensor.info)
        selection = Selection("w", some(whole.height), some(whole.width), width)
        part = block(selection, tensor.info)
        found = tensor.compute(part, [selected(stored[need.tensor], need) for need in tensor.needs(part)])
        np.testing.assert_array_equal(found, selected(np.ascontiguousarray(expected), selection))


def test_only_the_matrices_that_have_the_rows_are_read() -> None:
    needs = Turned(Plain("x", 12, 5), 3).needs(np.array([1, 2, 14]), None)
    assert [(need.rows.tolist(), need.columns.tolist()) for need in needs if need.rows is not None] == [
        ([0, 1, 2, 3], [1, 2]),
        ([8, 9, 10, 11], [4]),
    ]
