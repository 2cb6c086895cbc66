"""Tiny safetensors folders, by the safetensors library and, where it says so, by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

__all__ = ["SAMPLES"]

_KINDS = {"f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "e4m3": torch.float8_e4m3fn}


def _tensors(kind: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (12, 8), "model.norm.weight": (8,), "scale": ()}
    for layer in range(2):
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = (16, 8)
        shapes[f"model.layers.{layer}.mlp.experts.gate_up_proj"] = (2, 6, 8)
    return {name: torch.randn(shape, generator=generator).to(kind) for name, shape in shapes.items()}


def _single(folder: Path) -> None:
    save_file(_tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))


def _kinds(folder: Path) -> None:
    """One file of every type; without the standard name."""
    found = {f"{name}.{kind}": t for kind, dtype in _KINDS.items() for name, t in _tensors(dtype).items()}
    save_file(found, folder / "consolidated.safetensors")


def _sharded(folder: Path) -> None:
    """Shards by the library, their index by hand, as transformers writes it."""
    tensors = _tensors(torch.bfloat16)
    weight_map = {}
    for number, part in enumerate((list(tensors)[::2], list(tensors)[1::2]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 1234}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


SAMPLES: dict[str, Callable[[Path], None]] = {"single": _single, "kinds": _kinds, "sharded": _sharded}
