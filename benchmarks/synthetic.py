"""Synthetic checkpoints in the shapes of large models: what the cost of a comparison is measured on.

The weights are not white noise. A model is an initialisation plus what it "learned": a few strong directions, taken up
by the rows of a matrix to very unequal degrees. A child keeps its parent and adds to it; a twin keeps the
initialisation only. Without that difference descent could not be told from a shared draw. Token embeddings of all
models agree in what tokens mean and differ in the directions that stand for it, as those of trained models do.

Models are written matrix by matrix, so that building one of any depth needs the memory of its largest matrix.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
FINAL = "model.norm.weight"
_MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_STORED = {"BF16": ml_dtypes.bfloat16, "F32": np.float32}
MEANING = 64
"""Directions that token embeddings of all models share the loadings of."""


@dataclass(frozen=True)
class Shape:
    """Extents of a Llama-layout model."""

    layers: int
    width: int = 4096
    units: int = 14336
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    vocabulary: int = 32000

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the names and shapes of all tensors, in the order of the layers."""
        query, value = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield EMBEDDING, (self.vocabulary, self.width)
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            yield f"{name}.input_layernorm.weight", (self.width,)
            yield f"{name}.self_attn.q_proj.weight", (query, self.width)
            yield f"{name}.self_attn.k_proj.weight", (value, self.width)
            yield f"{name}.self_attn.v_proj.weight", (value, self.width)
            yield f"{name}.self_attn.o_proj.weight", (self.width, query)
            yield f"{name}.post_attention_layernorm.weight", (self.width,)
            yield f"{name}.mlp.gate_proj.weight", (self.units, self.width)
            yield f"{name}.mlp.up_proj.weight", (self.units, self.width)
            yield f"{name}.mlp.down_proj.weight", (self.width, self.units)
        yield FINAL, (self.width,)
        yield HEAD, (self.vocabulary, self.width)

    def config(self) -> dict[str, object]:
        """Return the config.json of such a model."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.width,
            "intermediate_size": self.units,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": False,
        }


@dataclass(frozen=True, eq=False)
class Changes:
    """What was done to a model after its training.

    Attributes:
        layers: For each layer the layer of the trained model that it is; None for each its own.
        units: Hidden units of the MLPs that are kept; None for all.
        rewrite: Turns the matrix of a name into another, such as :class:`benchmarks.large.Disguise`; None leaves all.
    """

    layers: Sequence[int] | None = None
    units: Array | None = None
    rewrite: Callable[[str, Array], Array] | None = None


def _drawn(seed: list[int], shape: tuple[int, int]) -> Array:
    drawn = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    drawn *= np.float32(0.02)
    return drawn


def _learned(seed: list[int], shape: tuple[int, int], rank: int = 8) -> Array:
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((shape[0], rank), dtype=np.float32)
    loadings *= rng.gamma(1.0, size=(shape[0], 1)).astype(np.float32)
    loadings *= np.float32(0.02 / np.sqrt(rank))
    return np.asarray(loadings @ rng.standard_normal((rank, shape[1]), dtype=np.float32))


def _meaning(seed: list[int], shape: tuple[int, int]) -> Array:
    rank = min(MEANING, shape[1])
    loadings = np.random.default_rng([8, shape[0]]).standard_normal((shape[0], rank), dtype=np.float32)
    loadings *= np.float32(0.02) / np.sqrt(np.arange(1, rank + 1, dtype=np.float32))
    return np.asarray(loadings @ np.random.default_rng(seed).standard_normal((rank, shape[1]), dtype=np.float32))


def matrix(role: str, number: int, shape: tuple[int, int]) -> Array:
    """Return one matrix of a model.

    Args:
        role: ``base``, ``child`` (of base), ``twin`` (of base) or ``other`` (another random start).
        number: Number of the tensor; 0 is the token embedding.
        shape: Its extents.

    Returns:
        float32 weights.
    """
    learned = _learned if number else _meaning
    if role == "other":
        found = _drawn([2, number], shape)
        found += learned([3, number], shape)
        return found
    found = _drawn([1, number], shape)
    found += learned([4 if role == "twin" else 5, number], shape)
    if role == "child":
        found += np.float32(0.5) * _learned([6, number], shape)
        found += np.float32(0.3) * _drawn([7, number], shape)
    return found


def gain(role: str, number: int, width: int) -> Array:
    """Return the gain of one norm of a model, positive; the roles are those of :func:`matrix`."""
    found = np.exp(0.2 * np.random.default_rng([9, number, role == "other"]).standard_normal(width))
    if role == "child":
        found *= np.exp(0.02 * np.random.default_rng([10, number]).standard_normal(width))
    return found.astype(np.float32)


def tensor(role: str, name: str, shape: Shape, changes: Changes | None = None) -> Array:
    """Return one tensor of a model, changed as is asked.

    Args:
        role: See :func:`matrix`.
        name: Name of the tensor.
        shape: Extents of the model as it was trained.
        changes: What was done to it.

    Returns:
        float32 weights.
    """
    changes = changes or Changes()
    number, extents = _place(name, shape, changes)
    found = gain(role, number, extents[0]) if len(extents) == 1 else matrix(role, number, (extents[0], extents[1]))
    if changes.units is not None and ".mlp." in name:
        found = found[:, changes.units] if "down_proj" in name else found[changes.units]
    return found if changes.rewrite is None else changes.rewrite(name, found)


def _place(name: str, shape: Shape, changes: Changes) -> tuple[int, tuple[int, ...]]:
    """Return the number of a tensor and its extents in the trained model."""
    extents = dict(replace(shape, layers=1).tensors())
    if not name.startswith("model.layers."):
        return {EMBEDDING: 0, FINAL: 1, HEAD: 1_000_000}[name], extents[name]
    _, _, place, rest = name.split(".", 3)
    layer = int(place) if changes.layers is None else changes.layers[int(place)]
    first = extents[f"model.layers.0.{rest}"]
    if len(first) == 1:
        return 2 + 2 * layer + rest.startswith("post"), first
    return 1 + 7 * layer + _MATRICES.index(rest.split(".")[1]), first


def write(
    folder: Path,
    role: str,
    shape: Shape,
    shards: int = 2,
    card: str | None = None,
    *,
    changes: Changes | None = None,
    dtype: str = "BF16",
    whole: bool = False,
) -> Path:
    """Write a model as sharded safetensors with index, config and card.

    Args:
        folder: Where to.
        role: See :func:`matrix`.
        shape: Extents of the model as it was trained.
        shards: Number of weight files, about equal in size.
        card: The README; none when None.
        changes: What was done to the model after its training.
        dtype: ``BF16`` or ``F32``.
        whole: Whether each layer lies in one file, and what belongs to no layer in the first and the last.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    changes = changes or Changes()
    stored = _stored_shape(shape, changes)
    extents = dict(stored.tensors())
    size = np.dtype(_STORED[dtype]).itemsize
    total = size * sum(math.prod(extent) for extent in extents.values())
    weight_map: dict[str, str] = {}
    done = 0
    for name, extent in extents.items():
        number = _file(name, stored.layers, shards) if whole else min(shards, 1 + done * shards // total)
        weight_map[name] = f"model-{number:05d}-of-{shards:05d}.safetensors"
        done += size * math.prod(extent)
    for file in sorted(set(weight_map.values())):
        names = [name for name in extents if weight_map[name] == file]
        with (folder / file).open("wb") as out:
            out.write(header({name: extents[name] for name in names}, dtype, size))
            for name in names:
                out.write(np.ascontiguousarray(tensor(role, name, shape, changes), _STORED[dtype]).view(np.uint8).data)
    describe(folder, stored, weight_map, total, card)
    return folder


def _file(name: str, layers: int, shards: int) -> int:
    if not name.startswith("model.layers."):
        return 1 if name == EMBEDDING else shards
    return 2 + int(name.split(".")[2]) * (shards - 2) // layers


def describe(folder: Path, shape: Shape, weight_map: dict[str, str], total: int, card: str | None = None) -> None:
    """Write the index, the configuration and the card of a model."""
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2), encoding="utf-8")
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")


def _stored_shape(shape: Shape, changes: Changes) -> Shape:
    layers = shape.layers if changes.layers is None else len(changes.layers)
    units = shape.units if changes.units is None else len(changes.units)
    return replace(shape, layers=layers, units=units)


def header(extents: dict[str, tuple[int, ...]], dtype: str, size: int) -> bytes:
    """Return the beginning of a safetensors file: the length of the header, and the header."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, extent in extents.items():
        stop = offset + size * math.prod(extent)
        entries[name] = {"dtype": dtype, "shape": list(extent), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
