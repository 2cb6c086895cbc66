"""Tiny folders with FP8 weights and scales, and NVFP4 and MXFP4 of Model Optimizer.

By transformers' own operation, ``Fp8Quantize``: ``deepseek-block``, ``mxfp8`` and ``experts``. By hand: the others,
with the names and shapes of what ModelOpt 0.47 wrote for a small Llama (``modelopt-*``), of transformers' renamings
(``mistral``), of its ``FbgemmFp8Linear`` and ``FbgemmFp8Llama4TextExperts`` (``fbgemm``), and of ComfyUI's scaled
checkpoints (``comfy``); ``deepseek-cut`` is a block grid over a height that it does not divide, as DeepSeek-V3 has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from transformers import FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Quantize

__all__ = ["MAKERS", "SAMPLES", "write"]

State = dict[str, torch.Tensor]
Made = tuple[State, dict[str, object], str]
"""Stored tensors, config, and name of the weight file."""

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"
EXPERTS = "model.layers.0.mlp.experts"
E4M3, LARGEST = torch.float8_e4m3fn, 448.0


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul(0.05)


def plain() -> State:
    return {"model.embed_tokens.weight": random(12, 64).to(torch.bfloat16), "model.norm.weight": torch.ones(64)}


def rounded(weight: torch.Tensor, *dims: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to FP8 with one scale for all numbers along some dimensions."""
    scale = weight.abs().amax(dims or tuple(range(weight.ndim)), keepdim=True) / LARGEST
    return (weight / scale).to(E4M3), scale


def _fine_grained(weights: State, block: tuple[int, int], scale_fmt: str = "float") -> Made:
    settings = FineGrainedFP8Config(weight_block_size=block, scale_fmt=scale_fmt)
    quantise = Fp8Quantize(SimpleNamespace(quantization_config=settings))
    stored = {name: tensor.contiguous() for name, tensor in quantise.convert(weights).items()}
    return stored, {"quantization_config": settings.to_dict()}, "model.safetensors"


def deepseek_block() -> Made:
    return _fine_grained({f"{UP}.weight": random(48, 64), f"{DOWN}.weight": random(64, 48, seed=1)}, (16, 16))


def deepseek_cut() -> Made:
    levels, _ = rounded(random(150, 140))
    scales = random(2, 2, seed=3).abs()
    stored = {f"{UP}.weight": levels, f"{UP}.weight_scale_inv": scales}
    return (
        stored,
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
        "model.safetensors",
    )


def mxfp8() -> Made:
    return _fine_grained({f"{UP}.weight": random(24, 64), f"{DOWN}.weight": random(20, 128, seed=1)}, (1, 32), "ue8m0")


def experts() -> Made:
    weights = {f"{EXPERTS}.gate_up_proj": random(3, 32, 48), f"{EXPERTS}.down_proj": random(3, 48, 16, seed=1)}
    return _fine_grained(weights, (16, 16))


def mistral() -> Made:
    stored: State = {}
    for seed, name in enumerate(("attention.wq", "feed_forward.w1")):
        levels, scale = rounded(random(24, 32, seed=seed))
        stored |= {f"layers.0.{name}.weight": levels, f"layers.0.{name}.qscale_weight": scale.reshape(())}
        stored[f"layers.0.{name}.qscale_act"] = torch.tensor(0.5)
    return stored, {}, "consolidated.safetensors"


def fbgemm() -> Made:
    stored: State = {}
    for seed, name in enumerate((UP, DOWN)):
        levels, scale = rounded(random(20, 24, seed=seed), 1)
        stored |= {f"{name}.weight": levels, f"{name}.weight_scale": scale, f"{name}.input_scale_ub": torch.ones(1)}
    for seed, (name, shape) in enumerate((("gate_up_proj", (2, 16, 24)), ("down_proj", (2, 12, 16)))):
        levels, scale = rounded(random(*shape, seed=seed), 1)
        # Both are [experts, in, out]; one scale an output, laid out as [1, out] and as [out, 1].
        scale = scale if name == "gate_up_proj" else scale.transpose(1, 2).contiguous()
        stored |= {f"{EXPERTS}.{name}": levels, f"{EXPERTS}.{name}_scale": scale}
    return stored, {"quantization_config": {"quant_method": "fbgemm_fp8"}}, "model.safetensors"


def comfy() -> Made:
    levels, scale = rounded(random(24, 32))
    kernel, second = rounded(random(8, 4, 3, 3))
    stored = {
        **{"scaled_fp8": torch.zeros(2, dtype=E4M3), "blocks.0.attn.weight": levels},
        **{"blocks.0.attn.scale_weight": scale.reshape(()), "blocks.0.attn.scale_input": torch.tensor(1.0)},
        **{"blocks.0.conv.weight": kernel, "blocks.0.conv.scale_weight": second.reshape(1)},
        "blocks.1.plain.weight": random(6, 4).to(E4M3),
    }
    return stored, {}, "model.safetensors"


def modelopt_fp8() -> Made:
    stored: State = {}
    for seed, name in enumerate((UP, DOWN)):
        levels, scale = rounded(random(20, 24, seed=seed))
        stored |= {f"{name}.weight": levels, f"{name}.weight_scale": scale.reshape(())}
        stored[f"{name}.input_scale"] = torch.tensor(0.1)
    return stored, _modelopt("FP8"), "model.safetensors"


def modelopt_block() -> Made:
    levels, _ = rounded(random(64, 192))
    scales = random(1, 1, 2, 1, seed=3).abs()
    return {f"{UP}.weight": levels, f"{UP}.weight_scale": scales}, _modelopt("fp8_pb_wo"), "model.safetensors"


def modelopt_nvfp4() -> Made:
    stored: State = {}
    for seed, (name, shape) in enumerate(((UP, (24, 64)), (DOWN, (20, 32)))):
        weight = random(*shape, seed=seed).unflatten(1, (-1, 16))
        second = weight.abs().max() / (6.0 * LARGEST)
        scale = (weight.abs().amax(-1) / 6.0 / second).to(E4M3)
        stored |= {f"{name}.weight": _floats(weight / (scale.float() * second)[..., None])}
        stored |= {
            f"{name}.weight_scale": scale,
            f"{name}.weight_scale_2": second,
            f"{name}.input_scale": torch.tensor(0.1),
        }
    return stored, _modelopt("NVFP4"), "model.safetensors"


def modelopt_mxfp4() -> Made:
    weight = random(24, 64).unflatten(1, (-1, 32))
    exponent = torch.log2(weight.abs().amax(-1)).floor() - 2
    packed = _floats(weight / torch.exp2(exponent)[..., None])
    stored = {f"{UP}.weight": packed, f"{UP}.weight_scale": (exponent + 127).to(torch.uint8)}
    return stored, _modelopt("mxfp4"), "model.safetensors"


def _floats(scaled: torch.Tensor) -> torch.Tensor:
    """Round to E2M1 and pack two a byte, the first in the low bits."""
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    code = (scaled.abs()[..., None] - values).abs().argmin(-1) + 8 * (scaled < 0)
    code = code.flatten(1).to(torch.uint8)
    return code[:, ::2] | code[:, 1::2] << 4


def _modelopt(algorithm: str) -> dict[str, object]:
    producer = {"name": "modelopt", "version": "0.47.0"}
    return {"quantization_config": {"quant_algo": algorithm, "producer": producer, "quant_method": "modelopt"}}


MAKERS: Mapping[str, Callable[[], Made]] = {
    "deepseek-block": deepseek_block,
    "deepseek-cut": deepseek_cut,
    "mxfp8": mxfp8,
    "experts": experts,
    "mistral": mistral,
    "fbgemm": fbgemm,
    "comfy": comfy,
    "modelopt-fp8": modelopt_fp8,
    "modelopt-block": modelopt_block,
    "modelopt-nvfp4": modelopt_nvfp4,
    "modelopt-mxfp4": modelopt_mxfp4,
}


def write(folder: Path, name: str) -> State:
    """Write a folder; return the tensors that it stores."""
    stored, config, file = MAKERS[name]()
    stored |= plain()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / file, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    return stored


def _sample(folder: Path, name: str) -> None:
    write(folder, name)


SAMPLES: dict[str, Callable[[Path], None]] = {name: partial(_sample, name=name) for name in MAKERS}
