"""Applies relabellings of an anatomy to real tensors, the biases of the units included."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lineage_plugin.anatomy import UnitGroup, Vectors
from lineage_plugin.checkpoint.types import TensorInfo

Tensors = dict[str, np.ndarray]

# Maps whose output side is the unit: their bias has one element per unit. Those of o, down and fc2 do not move.
OUTPUTS = ("gate", "up", "fc1", "q", "k", "v")
DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "uint8": "U8", "bool": "BOOL"}


def describe(tensors: Mapping[str, np.ndarray]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(name, tuple(t.shape), DTYPES[str(t.dtype)], "model.safetensors", 0, t.nbytes)
        for name, t in tensors.items()
    }


def info(name: str, *shape: int, dtype: str = "BF16", file: str = "model.safetensors") -> TensorInfo:
    return TensorInfo(name, shape, dtype, file, 0, 2 * int(np.prod(shape, dtype=object)))


def infos(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    return {name: info(name, *shape) for name, shape in shapes.items()}


def random_permutation(group: UnitGroup, rng: np.random.Generator) -> np.ndarray:
    """A random permutation within the blocks, the identity for a group without swaps."""
    order = np.arange(group.units)
    if group.swap:
        for label in np.unique(group.block):
            members = np.flatnonzero(group.block == label)
            order[members] = rng.permutation(members)
    return order


def relabel(
    tensors: Tensors,
    group: UnitGroup,
    order: np.ndarray,
    signs: np.ndarray,
    odd: Callable[[Vectors], bool] = lambda v: v.odd,
) -> Tensors:
    """Put unit ``order[i]`` in place of unit i, and multiply its odd vectors by ``signs[i]``."""
    changed = dict(tensors)
    for vectors in group.vectors:
        sign = signs if odd(vectors) else np.ones(group.units)
        old = changed[vectors.tensor]
        matrix = old.reshape(-1, vectors.width).copy()
        lines = matrix if vectors.axis == 0 else matrix.T
        start, stop = vectors.span or (0, lines.shape[1])
        lines[vectors.index, start:stop] = sign[:, None, None] * lines[vectors.index[order], start:stop]
        changed[vectors.tensor] = matrix.reshape(old.shape)
        bias = _bias_of(vectors, changed)
        if bias is not None:
            name, offset = bias
            flat = changed[name].reshape(-1).copy()
            at = vectors.index + offset
            flat[at] = sign[:, None] * flat[at[order]]
            changed[name] = flat.reshape(changed[name].shape)
    return changed


def read(tensors: Tensors, vectors: Vectors) -> np.ndarray:
    """The vectors themselves, ``[units, k, length]``."""
    matrix = tensors[vectors.tensor].reshape(-1, vectors.width)
    lines = matrix if vectors.axis == 0 else matrix.T
    return lines[vectors.index][:, :, slice(*(vectors.span or (None, None)))]


def _bias_of(vectors: Vectors, tensors: Tensors) -> tuple[str, int] | None:
    """The bias that the units own, and where it begins in the flattened bias tensor."""
    if vectors.role not in OUTPUTS:
        return None
    if vectors.tensor.endswith(".weight"):
        name = vectors.tensor.removesuffix("weight") + "bias"
        return (name, 0) if name in tensors else None
    name = vectors.tensor + "_bias"  # stacked experts of GPT-OSS: [experts, 2 * units]
    if name not in tensors:
        return None
    assert vectors.span is not None
    expert = vectors.span[0] // (vectors.span[1] - vectors.span[0])
    return name, expert * vectors.width


def relabel_all(tensors: Tensors, groups: tuple[UnitGroup, ...], rng: np.random.Generator) -> Tensors:
    """Relabel every group at random, all at once."""
    for group in groups:
        signs = rng.choice([-1.0, 1.0], group.units) if group.flip else np.ones(group.units)
        tensors = relabel(tensors, group, random_permutation(group, rng), signs)
    return tensors
