"""The conservative path: units of tensors whose place in the network is not known.

Without a graph only this much can be said of a weight tensor: its output channels are units when they are *hidden*,
that is, when another tensor consumes them and nothing marks them as tokens, classes, positions, pixels or bins, whose
meaning is fixed from outside and equal in all models. Units of one tensor may then change places; their vectors are the
incoming weights alone. Coins of different tensors may depend on each other (skip connections share channels), so they
are tossed tensor by tensor, never pooled.

Within a tensor coins must be independent too. Two things can spoil that. Several rows may belong to one unit: the gates
of a recurrent cell make one unit of as many vectors, and other fused tensors are left out by name. Both axes may be the
same units: recurrent weights are left out. Units are exchangeable only with their neighbour (2i, 2i + 1), so that
blocks that are fused for other reasons are not mixed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.channels import Channels, IndexPool
from lineage_plugin.anatomy.stacks import is_float
from lineage_plugin.anatomy.types import Anatomy, UnitGroup
from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["analyse_unknown"]

IntArray = NDArray[np.int64]

_SMALLEST = 5
_KERNEL_AREAS = (3, 5, 7, 9, 11, 16, 25, 27, 49, 64, 81, 121, 125)
"""Plausible numbers of taps of a flattened convolution kernel."""
_GATES = (1, 3, 4)
"""Vectors per unit of a plain recurrent cell, a GRU and an LSTM."""

_MEANING_PARTS = ("embed", "vocab", "token", "classif", "logit", "posit", "pixel")
_MEANING_WORDS = frozenset(
    {"bin", "bins", "cls", "class", "classes", "head", "heads", "label", "labels", "lm", "output", "outputs"}
    | {"pos", "score", "scores", "tok", "wpe", "wte"}
)
_MIXED_WORDS = frozenset(
    {"k", "key", "keys", "kv", "q", "qk", "qkv", "queries", "query", "rotary", "wk", "wkv", "wq", "wqkv"}
)
_MIXED = re.compile(r"in_proj|c_attn|w_pack|gate_up|deconv|transpos|(?:^|[._])w1[23](?:[._]|$)|glu")
_RECURRENT_WORDS = frozenset({"hh", "hr", "recurrent"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SIZE_SETTINGS = re.compile(
    r"(?:vocab|image|patch)_size|num_(?:labels|classes|mel_bins|channels)|n_(?:mels|positions|classes)"
    r"|max_position_embeddings|max_(?:source|target)_positions"
)


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A weight tensor whose output axis is known."""

    info: TensorInfo
    out: int
    inputs: int
    last: bool
    """Whether the output axis is the last one (``kernel``) or the first (``weight``)."""

    def reads(self) -> frozenset[int]:
        """Return the numbers of channels it may read: its input axis, or a share of a flattened kernel's."""
        read = {self.inputs}
        if len(self.info.shape) == 2 and "conv" in self.info.name.lower():
            read.update(self.inputs // area for area in _KERNEL_AREAS if self.inputs % area == 0)
        return frozenset(read)


def analyse_unknown(tensors: Mapping[str, TensorInfo], config: Mapping[str, object]) -> Anatomy:
    """Find units tensor by tensor.

    Args:
        tensors: Tensors by name.
        config: ``config.json``; only sizes that mark a meaning are taken from it.

    Returns:
        An anatomy with one group per usable tensor, ``exact`` False.
    """
    matrices = [matrix for name in sorted(tensors, key=_natural) if (matrix := _oriented(name, tensors)) is not None]
    marked = _marked_sizes(tensors, config)
    readers = Counter(reader for matrix in matrices for reader in matrix.reads())
    pool = IndexPool()
    groups: list[UnitGroup] = []
    for matrix in matrices:
        units = _hidden_units(matrix, readers, tensors, marked)
        if units is not None:
            groups.append(_group(pool, len(groups), matrix, units))
    limits = [
        "The architecture is not known: every tensor was judged on its own, assuming that neighbouring output channels "
        "of a hidden layer are interchangeable, and their evidence was averaged.",
    ]
    left_out = sum(len(info.shape) > 1 for info in tensors.values()) - len(groups)
    if left_out:
        what = (
            "1 weight tensor was left out: its" if left_out == 1 else f"{left_out} weight tensors were left out: their"
        )
        limits.append(f"{what} output channels are not certain to be hidden.")
    return Anatomy("unknown", False, len(groups), 0, tuple(groups), tuple(limits))


def _oriented(name: str, tensors: Mapping[str, TensorInfo]) -> _Matrix | None:
    """Decide which axis of a tensor is the output: by the length of its bias, or else by its name."""
    info = tensors[name]
    if len(info.shape) < 2 or not is_float(info):
        return None
    first, last = info.shape[0], info.shape[-1]
    stem, _, leaf = name.rpartition(".")
    by_name = {"weight": False, "kernel": True}.get("weight" if leaf.startswith("weight_") else leaf)
    bias = tensors.get(f"{stem}.{leaf.replace('weight', 'bias')}" if "weight" in leaf else f"{stem}.bias")
    by_bias: bool | None = None
    if bias is not None and len(bias.shape) == 1:
        length = bias.shape[0]
        if (length == first) != (length == last):
            by_bias = length == last
        elif length != first and length in info.shape:
            return None  # a transposed convolution: [in, out, ...]
    is_last = by_name if by_bias is None else by_bias
    if is_last is None:
        return None
    if is_last:
        return _Matrix(info, last, info.shape[-2], True)
    return _Matrix(info, first, info.shape[1], False)


def _hidden_units(
    matrix: _Matrix, readers: Counter[int], tensors: Mapping[str, TensorInfo], marked: frozenset[int]
) -> int | None:
    """Return the number of units of a tensor when its output axis is hidden, else None."""
    name = matrix.info.name
    words = {word.lower() for word in _WORD.findall(name)}
    lower = name.lower()
    if (
        words & (_MEANING_WORDS | _MIXED_WORDS | _RECURRENT_WORDS)
        or any(part in lower for part in _MEANING_PARTS)
        or _MIXED.search(lower)
    ):
        return None
    recurrent = _recurrent_of(name, tensors)
    if recurrent is not None:
        # The recurrent weights of the same cell read its units and tell the number of gates.
        units = _cell_units(matrix, recurrent)
    else:
        units = matrix.out
        if readers[units] <= (units in matrix.reads()):
            return None  # nobody else reads as many channels
    if units < _SMALLEST or units in marked or matrix.out in marked or prod(matrix.info.shape) < 2 * matrix.out:
        return None
    return units


def _recurrent_of(name: str, tensors: Mapping[str, TensorInfo]) -> TensorInfo | None:
    stem, _, leaf = name.rpartition(".")
    sibling = leaf.replace("weight_ih", "weight_hh") if leaf.startswith("weight_ih") else f"recurrent_{leaf}"
    return tensors.get(f"{stem}.{sibling}" if stem else sibling)


def _cell_units(matrix: _Matrix, recurrent: TensorInfo) -> int:
    if len(recurrent.shape) != 2 or len(matrix.info.shape) != 2:
        return 0
    out, units = (recurrent.shape[1], recurrent.shape[0]) if matrix.last else recurrent.shape
    return units if units > 0 and out == matrix.out and out % units == 0 and out // units in _GATES else 0


def _marked_sizes(tensors: Mapping[str, TensorInfo], config: Mapping[str, object]) -> frozenset[int]:
    """Return sizes that stand for tokens, classes and the like: from the configuration and from embedding tables."""
    sizes: set[int] = set()
    places: list[Mapping[str, object]] = [config]
    places += [value for value in config.values() if isinstance(value, Mapping)]
    for place in places:
        for key, value in place.items():
            if isinstance(value, int) and not isinstance(value, bool) and _SIZE_SETTINGS.fullmatch(str(key)):
                sizes.add(value)
        labels = place.get("id2label")
        if isinstance(labels, Mapping):
            sizes.add(len(labels))
    for name, info in tensors.items():
        stem, _, leaf = name.lower().rpartition(".")
        table = "embed" in name.lower() and leaf in ("weight", "embedding", "embeddings") and "patch" not in stem
        if table and len(info.shape) == 2 and name.rpartition(".")[0] + ".bias" not in tensors:
            sizes.add(info.shape[0])
    return frozenset(sizes)


def _group(pool: IndexPool, number: int, matrix: _Matrix, units: int) -> UnitGroup:
    info = matrix.info
    per_unit = matrix.out // units
    if matrix.last:
        height = prod(info.shape[:-1])
        channels = Channels("weight", info, 1, matrix.out, matrix.out, height, span=(0, height))
    else:
        width = prod(info.shape[1:])
        channels = Channels("weight", info, 0, width, matrix.out, width)

    def gates() -> IntArray:
        return np.arange(units, dtype=np.int64)[:, None] + units * np.arange(per_unit, dtype=np.int64)

    index = pool.get(("gates", units, per_unit), units, per_unit, gates, info.file)
    block = pool.get(("neighbours", units, per_unit), units, 1, lambda: _neighbours(units), info.file)
    return UnitGroup("channels", number, True, block, (channels.vectors(index),))


def _neighbours(units: int) -> IntArray:
    """Return labels that pair unit 2i with 2i + 1, except where two to eight equal blocks would meet inside a pair."""
    block = np.arange(units, dtype=np.int64) // 2
    for parts in range(2, 9):
        if units % parts == 0 and units // parts >= _SMALLEST and (units // parts) % 2:
            for edge in range(units // parts, units, units // parts):
                if edge % 2:
                    block[edge] = units + edge
    return block


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``conv10`` follows ``conv9``."""
    return tuple(
        (1, len(piece.lstrip("0")), piece) if piece.isdigit() else (0, 0, piece)
        for piece in re.split(r"([0-9]+)", name)
    )
