"""Tiny bitsandbytes folders: levels, scales and states by bitsandbytes itself, names as transformers saves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

__all__ = ["SAMPLES", "dequantised", "four_bit", "int8", "save", "weights"]

_PREFIX = "model.layers.{}.mlp.{}.weight"


def weights(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(0.05)


def four_bit(
    name: str,
    weight: torch.Tensor,
    kind: str,
    *,
    double: bool = False,
    block: int = 64,
    storage: torch.dtype | None = None,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the tensors that stand for a matrix, and what bitsandbytes makes of them."""
    from bitsandbytes import functional

    packed, state = functional.quantize_4bit(
        weight, blocksize=block, compress_statistics=double, quant_type=kind, quant_storage=storage or torch.uint8
    )
    parts = {f"{name}.{key}": value.clone() for key, value in state.as_dict(packed=True).items()}
    return {name: packed, **parts}, dequantised(packed, state)


def dequantised(packed: torch.Tensor, state: object) -> torch.Tensor:
    """Return what bitsandbytes makes of four-bit levels.

    All as one row: where blocks end inside rows, the kernel for processors of bitsandbytes 0.50.2 takes the scales of
    other blocks (its generic backend does not, and its error against the original matrix is half as large).
    """
    from bitsandbytes import functional

    shape, state = state.shape, copy(state)
    state.shape = torch.Size((1, shape.numel()))
    with torch.compiler.set_stance("force_eager"):
        return functional.dequantize_4bit(packed.reshape(-1, 1), state).reshape(shape)


def int8(name: str, weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the tensors that stand for a matrix, and what bitsandbytes makes of them."""
    from bitsandbytes import functional

    levels, scales, _ = functional.int8_vectorwise_quant(weight)
    stem = name.removesuffix("weight")
    parts = {name: levels, f"{stem}SCB": scales, f"{stem}weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, functional.int8_vectorwise_dequant(levels, scales)


def save(folder: Path, tensors: Mapping[str, torch.Tensor], kind: str = "llama") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": kind, "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (folder / "config.json").write_text(json.dumps(config))


def _four_bit(
    folder: Path,
    *,
    kind: str,
    double: bool,
    block: int = 64,
    storage: torch.dtype | None = None,
    shape: tuple[int, ...] = (20, 64),
) -> None:
    tensors = {"model.norm.weight": weights((shape[-1],))}
    for layer in range(2):
        for number, module in enumerate(("up_proj", "down_proj")):
            weight = weights(shape if number == 0 else shape[::-1], layer)
            name = _PREFIX.format(layer, module)
            tensors |= four_bit(name, weight, kind, double=double, block=block, storage=storage)[0]
    save(folder, tensors)


def _int8(folder: Path) -> None:
    tensors = {"model.norm.weight": weights((24,))}
    for layer in range(2):
        tensors |= int8(_PREFIX.format(layer, "up_proj"), weights((12, 24), layer))[0]
    save(folder, tensors)


def _gpt2(folder: Path) -> None:
    """The names of GPT-2, whose matrices bitsandbytes stores transposed."""
    tensors = four_bit("transformer.h.0.attn.c_attn.weight", weights((48, 64)), "nf4")[0]
    save(folder, tensors | int8("transformer.h.0.mlp.c_fc.weight", weights((12, 24)))[0], "gpt2")


SAMPLES: dict[str, Callable[[Path], None]] = {
    "nf4": partial(_four_bit, kind="nf4", double=False),
    "nf4-double": partial(_four_bit, kind="nf4", double=True),
    "fp4-blocks-of-128": partial(_four_bit, kind="fp4", double=True, block=128),
    "nf4-as-bf16": partial(_four_bit, kind="nf4", double=True, storage=torch.bfloat16),
    "nf4-odd": partial(_four_bit, kind="nf4", double=True, shape=(9, 35)),
    "int8": _int8,
    "gpt2": _gpt2,
}
