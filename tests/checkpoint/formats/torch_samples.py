"""Tiny PyTorch folders, all by ``torch.save``: alone, by huggingface_hub, or in the shapes that trainers give it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict

__all__ = ["SAMPLES", "TYPES", "training", "views", "weights"]

TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.bool),
    *(torch.float8_e8m0fnu, torch.complex64),
)
"""Types that safetensors has a name for."""


def weights(kind: torch.dtype = torch.float32, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict with a tied pair."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (12, 8), "model.norm.weight": (8,), "scale": ()}
    for layer in range(2):
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = (16, 8)
        shapes[f"model.layers.{layer}.mlp.down_proj.weight"] = (8, 16)
    found = {name: torch.randn(shape, generator=generator).to(kind) for name, shape in shapes.items()}
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    return found


def views() -> dict[str, torch.Tensor]:
    """Tensors that are views of others, in every way that people save them."""
    generator = torch.Generator().manual_seed(1)
    fused = torch.randn(18, 10, generator=generator).to(torch.bfloat16)
    image = torch.randn(4, 3, 2, 5, generator=generator)
    q, k, v = fused.chunk(3)
    return {
        **{"q.weight": q, "k.weight": k, "v.weight": v, "fused.weight": fused, "fused.turned": fused.t()},
        **{
            "part.columns": fused[:, 3:7],
            "part.turned": fused[2:9, 1:].t(),
            "part.last": fused[:, 9],
            "every": fused[::3],
        },
        **{"image.last": image.contiguous(memory_format=torch.channels_last), "image.moved": image.permute(2, 0, 3, 1)},
        **{"experts": image.transpose(1, 2)[1:], "expanded": torch.ones(1).expand(3, 4), "empty": image[:0]},
        **{"turned.ints": torch.arange(24).reshape(4, 6).t(), "one.column": fused[:, :1], "one.row": fused[5:6, 2:]},
    }


def training() -> dict[str, object]:
    """A checkpoint as training programs write them, after a step of AdamW."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        OrderedDict(up=torch.nn.Linear(6, 9), norm=torch.nn.LayerNorm(9), down=torch.nn.Linear(9, 4))
    )
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    return {
        "epoch": 3,
        "global_step": torch.tensor(17),
        "state_dict": model.state_dict(),
        "ema": {name: tensor * 0.5 for name, tensor in model.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "hyper_parameters": {
            "lr": 1e-3,
            "betas": (0.9, 0.95),
            "name": "tiny",
            "device": torch.device("cpu"),
            "big": 1 << 70,
        },
    }


def _single(folder: Path) -> None:
    torch.save(weights(), folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8}))


def _types(folder: Path) -> None:
    base = torch.arange(24).reshape(4, 6)
    found: dict[str, torch.Tensor] = {str(kind).replace("torch.", "w."): base.to(kind) for kind in TYPES}
    # A model of whole numbers would be taken for a quantised one.
    parameter = torch.nn.Parameter(torch.ones(40, 20))
    parameter.tensor_model_parallel = True  # type: ignore[attr-defined]
    torch.save(
        {**found, "parameter": torch.nn.Parameter(base.to(torch.float16)), "marked": parameter}, folder / "w.pth"
    )


def _views(folder: Path) -> None:
    torch.save(views(), folder / "model.pt")


def _training(folder: Path) -> None:
    torch.save(training(), folder / "last.ckpt")


def _parallel(folder: Path) -> None:
    torch.save({"model": {f"module._orig_mod.{n}": t for n, t in weights().items()}}, folder / "model.pt")


def _sharded(folder: Path) -> None:
    """The sharding of huggingface_hub, which transformers 4 used, too."""
    save_torch_state_dict(
        weights(torch.bfloat16),
        folder,
        filename_pattern="pytorch_model{suffix}.bin",
        max_shard_size=600,
        safe_serialization=False,
    )


SAMPLES: dict[str, Callable[[Path], None]] = {
    "single": _single,
    "types": _types,
    "views": _views,
    "training": _training,
    "parallel": _parallel,
    "sharded": _sharded,
}
