"""Synthetic checkpoints in the shapes of large models: what the cost of reading is measured on.

The weights are not white noise. A model is an initialisation plus what it "learned": a few strong directions, taken up
by the rows of a matrix to very unequal degrees. A child keeps its parent and adds to it; a twin keeps the
initialisation only. Without that difference descent could not be told from a shared draw.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file


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

    def tensors(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Yield the names and shapes of all matrices, in the order of the layers."""
        query, value = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocabulary, self.width)
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            yield f"{name}.self_attn.q_proj.weight", (query, self.width)
            yield f"{name}.self_attn.k_proj.weight", (value, self.width)
            yield f"{name}.self_attn.v_proj.weight", (value, self.width)
            yield f"{name}.self_attn.o_proj.weight", (self.width, query)
            yield f"{name}.mlp.gate_proj.weight", (self.units, self.width)
            yield f"{name}.mlp.up_proj.weight", (self.units, self.width)
            yield f"{name}.mlp.down_proj.weight", (self.width, self.units)
        yield "lm_head.weight", (self.vocabulary, self.width)

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
        }


def _drawn(seed: list[int], shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(0.02)


def _learned(seed: list[int], shape: tuple[int, int], rank: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((shape[0], rank), dtype=np.float32)
    loadings *= rng.gamma(1.0, size=(shape[0], 1)).astype(np.float32)
    return np.float32(0.02 / np.sqrt(rank)) * loadings @ rng.standard_normal((rank, shape[1]), dtype=np.float32)


def matrix(role: str, number: int, shape: tuple[int, int]) -> np.ndarray:
    """Return one matrix of a model.

    Args:
        role: ``base``, ``child`` (of base), ``twin`` (of base) or ``other`` (another random start).
        number: Number of the tensor.
        shape: Its extents.

    Returns:
        float32 weights.
    """
    if role == "other":
        return _drawn([2, number], shape) + _learned([3, number], shape)
    start = _drawn([1, number], shape)
    if role == "twin":
        return start + _learned([4, number], shape)
    base = start + _learned([5, number], shape)
    if role == "base":
        return base
    return base + np.float32(0.5) * _learned([6, number], shape) + np.float32(0.3) * _drawn([7, number], shape)


def write(folder: Path, role: str, shape: Shape, shards: int = 2, card: str | None = None) -> Path:
    """Write a model as sharded safetensors with index, config and card.

    Args:
        folder: Where to.
        role: See :func:`matrix`.
        shape: Extents.
        shards: Number of weight files, about equal in size.
        card: The README; none when None.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(shape.tensors())
    total = sum(rows * columns * 2 for _, (rows, columns) in names)
    weight_map: dict[str, str] = {}
    held: dict[str, np.ndarray] = {}
    shard, written, held_bytes = 1, 0, 0
    for number, (name, extents) in enumerate(names):
        held[name] = matrix(role, number, extents).astype(ml_dtypes.bfloat16)
        weight_map[name] = f"model-{shard:05d}-of-{shards:05d}.safetensors"
        held_bytes += held[name].nbytes
        if written + held_bytes >= total * shard / shards or number == len(names) - 1:
            save_file(held, folder / weight_map[name])
            written, held_bytes, held = written + held_bytes, 0, {}
            shard = min(shard + 1, shards)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2), encoding="utf-8")
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
    return folder
