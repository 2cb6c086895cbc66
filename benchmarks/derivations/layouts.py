"""What every axis of every tensor of a family runs over, so that a change of shape is written once for all families.

========== =======================================================================
axis       runs over
========== =======================================================================
``stream`` channels of the residual stream
``unit``   hidden units of the MLP
``query``  channels of the query heads
``kv``     channels of the key-value heads
``fused``  queries, keys and values of all heads, one kind after the other (GPT-2)
``heads``  head after head, each its query, key and value (GPT-NeoX)
``token``  the vocabulary
``place``  positions
========== =======================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

__all__ = ["LAYOUTS", "Block", "Layout", "Model", "fresh", "read_model"]

Array = NDArray[np.float32]
Block = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of a family.

    Attributes:
        prefix: What the names of a block begin with, before its number.
        block: Axes of each tensor of a block, by the rest of its name.
        outside: Axes of each tensor outside the blocks.
        fields: Names in the config of ``width``, ``depth``, ``heads``, ``kv``, ``units``.
        writes: Tensors of a block that write the residual stream.
        tied: Whether width is head size times heads by definition, so that neither changes alone.
    """

    prefix: str
    block: Mapping[str, tuple[str, ...]]
    outside: Mapping[str, tuple[str, ...]]
    fields: Mapping[str, str]
    writes: tuple[str, ...]
    tied: bool


_LLAMA_BLOCK = {
    "input_layernorm.weight": ("stream",),
    "self_attn.q_proj.weight": ("query", "stream"),
    "self_attn.k_proj.weight": ("kv", "stream"),
    "self_attn.v_proj.weight": ("kv", "stream"),
    "self_attn.o_proj.weight": ("stream", "query"),
    "post_attention_layernorm.weight": ("stream",),
    "mlp.gate_proj.weight": ("unit", "stream"),
    "mlp.up_proj.weight": ("unit", "stream"),
    "mlp.down_proj.weight": ("stream", "unit"),
}
_LLAMA_FIELDS = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv": "num_key_value_heads",
    "units": "intermediate_size",
}
_LLAMA_OUTSIDE = {"model.embed_tokens.weight": ("token", "stream"), "model.norm.weight": ("stream",)}
_LLAMA_WRITES = ("self_attn.o_proj.weight", "mlp.down_proj.weight")

LAYOUTS: dict[str, Layout] = {
    "llama": Layout(
        "model.layers.",
        _LLAMA_BLOCK,
        _LLAMA_OUTSIDE | {"lm_head.weight": ("token", "stream")},
        _LLAMA_FIELDS,
        _LLAMA_WRITES,
        tied=False,
    ),
    "qwen2": Layout(
        "model.layers.",
        _LLAMA_BLOCK
        | {
            "self_attn.q_proj.bias": ("query",),
            "self_attn.k_proj.bias": ("kv",),
            "self_attn.v_proj.bias": ("kv",),
        },
        _LLAMA_OUTSIDE,
        _LLAMA_FIELDS,
        _LLAMA_WRITES,
        tied=False,
    ),
    "gpt2": Layout(
        "transformer.h.",
        {
            "ln_1.weight": ("stream",),
            "ln_1.bias": ("stream",),
            "attn.c_attn.weight": ("stream", "fused"),
            "attn.c_attn.bias": ("fused",),
            "attn.c_proj.weight": ("query", "stream"),
            "attn.c_proj.bias": ("stream",),
            "ln_2.weight": ("stream",),
            "ln_2.bias": ("stream",),
            "mlp.c_fc.weight": ("stream", "unit"),
            "mlp.c_fc.bias": ("unit",),
            "mlp.c_proj.weight": ("unit", "stream"),
            "mlp.c_proj.bias": ("stream",),
        },
        {
            "transformer.wte.weight": ("token", "stream"),
            "transformer.wpe.weight": ("place", "stream"),
            "transformer.ln_f.weight": ("stream",),
            "transformer.ln_f.bias": ("stream",),
        },
        {"width": "n_embd", "depth": "n_layer", "heads": "n_head", "units": "n_inner"},
        ("attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"),
        tied=True,
    ),
    "gpt_neox": Layout(
        "gpt_neox.layers.",
        {
            "input_layernorm.weight": ("stream",),
            "input_layernorm.bias": ("stream",),
            "attention.query_key_value.weight": ("heads", "stream"),
            "attention.query_key_value.bias": ("heads",),
            "attention.dense.weight": ("stream", "query"),
            "attention.dense.bias": ("stream",),
            "post_attention_layernorm.weight": ("stream",),
            "post_attention_layernorm.bias": ("stream",),
            "mlp.dense_h_to_4h.weight": ("unit", "stream"),
            "mlp.dense_h_to_4h.bias": ("unit",),
            "mlp.dense_4h_to_h.weight": ("stream", "unit"),
            "mlp.dense_4h_to_h.bias": ("stream",),
        },
        {
            "gpt_neox.embed_in.weight": ("token", "stream"),
            "gpt_neox.final_layer_norm.weight": ("stream",),
            "gpt_neox.final_layer_norm.bias": ("stream",),
            "embed_out.weight": ("token", "stream"),
        },
        {
            "width": "hidden_size",
            "depth": "num_hidden_layers",
            "heads": "num_attention_heads",
            "units": "intermediate_size",
        },
        (
            "attention.dense.weight",
            "attention.dense.bias",
            "mlp.dense_4h_to_h.weight",
            "mlp.dense_4h_to_h.bias",
        ),
        tied=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Model:
    """Weights and config of one model. Never changed in place; derivations return new ones.

    Attributes:
        tensors: float32 arrays by name.
        config: Content of ``config.json``.
    """

    tensors: Mapping[str, Array]
    config: Mapping[str, Any]

    @property
    def layout(self) -> Layout:
        """Names of the family."""
        return LAYOUTS[self.config["model_type"]]

    def size(self, field: str) -> int:
        """``width``, ``depth``, ``heads``, ``kv`` or ``units``."""
        fields = self.layout.fields
        if field == "kv" and "kv" not in fields:
            field = "heads"
        value = self.config.get(fields[field])
        # GPT-2 writes null for four times the width.
        return int(value) if value is not None else 4 * self.size("width")

    @property
    def head_size(self) -> int:
        """Channels of one head."""
        return int(self.config.get("head_dim") or self.size("width") // self.size("heads"))

    def blocks(self) -> list[dict[str, Array]]:
        """The tensors of each block by the rest of their names."""
        prefix = self.layout.prefix
        return [
            {suffix: self.tensors[f"{prefix}{number}.{suffix}"] for suffix in self.layout.block}
            for number in range(self.size("depth"))
        ]

    def outside(self) -> dict[str, Array]:
        """The tensors outside the blocks."""
        return {name: self.tensors[name] for name in self.layout.outside}

    def with_blocks(self, blocks: Sequence[Block], outside: Mapping[str, Array] | None = None, **sizes: int) -> Model:
        """The same model of other blocks.

        Args:
            blocks: The blocks, first to last.
            outside: Tensors outside the blocks; None keeps them.
            sizes: New sizes by field (see :meth:`size`); the depth follows from ``blocks``.

        Returns:
            The new model.
        """
        tensors = dict(self.outside() if outside is None else outside)
        for number, block in enumerate(blocks):
            tensors.update({f"{self.layout.prefix}{number}.{suffix}": array for suffix, array in block.items()})
        named = {self.layout.fields[field]: size for field, size in sizes.items()}
        config = dict(self.config) | named | {self.layout.fields["depth"]: len(blocks)}
        if "layer_types" in config:
            config["layer_types"] = [config["layer_types"][0]] * len(blocks)
        return Model(tensors, config)

    def with_tensors(self, tensors: Mapping[str, Array]) -> Model:
        """The same model with some tensors replaced."""
        return replace(self, tensors=dict(self.tensors) | dict(tensors))

    def write(self, folder: Path) -> None:
        """Write bfloat16 safetensors and the config."""
        folder.mkdir(parents=True, exist_ok=True)
        stored = {name: np.ascontiguousarray(a.astype(ml_dtypes.bfloat16)) for name, a in self.tensors.items()}
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(dict(self.config), indent=2) + "\n")


def read_model(folder: Path) -> Model:
    """Read a model in one safetensors file; tied and stored twice is kept once."""
    tensors = {name: array.astype(np.float32) for name, array in load_file(folder / "model.safetensors").items()}
    return Model(tensors, json.loads((folder / "config.json").read_text()))


def fresh(block: Block, rng: np.random.Generator, outputs: float = 1.0) -> dict[str, Array]:
    """A block of initial weights in the shapes of another.

    Args:
        block: The other.
        rng: Where the draw comes from.
        outputs: Factor on what writes the residual stream; 0 makes the block the identity.

    Returns:
        Normal matrices of standard deviation 0.02, gains of one, biases of zero.
    """
    writes = {name for layout in LAYOUTS.values() for name in layout.writes}
    made = {}
    for suffix, array in block.items():
        if array.ndim == 2:
            drawn = 0.02 * rng.standard_normal(array.shape, dtype=np.float32)
            made[suffix] = drawn * np.float32(outputs if suffix in writes else 1.0)
        else:
            made[suffix] = np.full_like(array, suffix.endswith("weight"))
    return made
