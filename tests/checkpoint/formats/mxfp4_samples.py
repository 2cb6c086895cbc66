"""Tiny MXFP4 folders, by hand: every pattern of bits is valid, so they are random.

The layouts are those of the openai/gpt-oss repositories, decoded by ``convert_moe_packed_tensors`` of transformers, and
of AMD Quark as vLLM loads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

__all__ = ["SAMPLES", "blocks", "save"]


def blocks(shape: tuple[int, ...], seed: int = 0, largest: int = 140) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random blocks ``[..., 16]`` and exponents."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
    exponents = torch.randint(largest - 30, largest, shape, generator=generator, dtype=torch.uint8)
    return levels, exponents


def save(folder: Path, tensors: dict[str, torch.Tensor], method: str = "mxfp4") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    kind = "gpt_oss" if method == "mxfp4" else "llama"
    (folder / "config.json").write_text(
        json.dumps({"model_type": kind, "quantization_config": {"quant_method": method}})
    )


def _gpt_oss(folder: Path) -> None:
    tensors = {"model.norm.weight": torch.ones(64, dtype=torch.bfloat16)}
    for layer in range(2):
        for name, shape in (("gate_up_proj", (3, 8, 2)), ("down_proj", (3, 64, 1))):
            stem = f"model.layers.{layer}.mlp.experts.{name}"
            tensors[f"{stem}_blocks"], tensors[f"{stem}_scales"] = blocks(shape, layer)
            tensors[f"{stem}_bias"] = torch.zeros(shape[:2], dtype=torch.bfloat16)
    save(folder, tensors)


def _quark(folder: Path) -> None:
    tensors = {}
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        levels, tensors[f"{name}_scale"] = blocks((12, 2), layer)
        tensors[name] = levels.reshape(12, 32)
    save(folder, tensors, "quark")


SAMPLES: dict[str, Callable[[Path], None]] = {"gpt-oss": _gpt_oss, "quark": _quark}
