"""Quantised safetensors, scheme by scheme."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.conversions.conversion import LINEAR, Conversion, State, config_of, replaced, save, state_of

if TYPE_CHECKING:
    import torch

__all__ = ["CONVERSIONS"]


def _bitsandbytes(source: Path, target: Path, kind: str, *, double: bool = False) -> None:
    """Levels, scales and states by bitsandbytes, names as transformers saves them."""
    from tests.checkpoint.formats.bitsandbytes_samples import four_bit, int8

    def pack(name: str, tensor: torch.Tensor) -> State:
        if kind == "int8":
            return int8(name, tensor.half())[0]
        return four_bit(name, tensor, kind, double=double)[0]

    settings = {"quant_method": "bitsandbytes", "load_in_8bit": kind == "int8", "load_in_4bit": kind != "int8"}
    save(target, replaced(source, pack), quantization_config=settings)


def _levels(
    weight: NDArray[np.float32], bits: int, groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float16]]:
    """Round ``[outputs, inputs]`` by groups of inputs: levels, and zeros and scales ``[outputs, groups]``."""
    count, most = int(groups.max()) + 1, (1 << bits) - 1
    low, high = (np.zeros((weight.shape[0], count), np.float32) for _ in range(2))
    np.minimum.at(low.T, groups, weight.T)
    np.maximum.at(high.T, groups, weight.T)
    scales = np.maximum((high - low) / most, 1e-7).astype(np.float16)
    zeros = np.rint(-low / scales.astype(np.float32)).clip(0, most).astype(np.int64)
    levels = np.rint(weight / scales.astype(np.float32)[:, groups]).astype(np.int64) + zeros[:, groups]
    return levels.clip(0, most), zeros, scales


def _runs(inputs: int, group: int) -> NDArray[np.int64]:
    return np.arange(inputs, dtype=np.int64) // group


def _parts(name: str, **arrays: NDArray[Any]) -> State:
    import torch

    module = name.removesuffix(".weight")
    return {f"{module}.{part}": torch.from_numpy(np.ascontiguousarray(array)) for part, array in arrays.items()}


def _gptq(source: Path, target: Path, *, bits: int, act_order: bool, group: int = 32) -> None:
    """By hand, in the layout ``gptq`` (v1) of AutoGPTQ: rounded to nearest, not corrected for errors.

    With act-order the inputs are grouped by falling energy, as GPTQ does with the diagonal of its Hessian.
    """
    from tests.checkpoint.formats.gptq_samples import pack

    def packed(name: str, tensor: torch.Tensor) -> State:
        weight = tensor.float().numpy()
        groups = _runs(weight.shape[1], group)
        if act_order:
            groups[np.argsort(-(weight**2).sum(axis=0))] = groups.copy()
        levels, zeros, scales = _levels(weight, bits, groups)
        zeros = np.maximum(zeros, 1)
        return _parts(
            name,
            qweight=pack(levels.T, bits),
            qzeros=pack(zeros - 1, bits).T,
            scales=scales.T,
            g_idx=groups.astype(np.int32),
        )

    settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": False}
    save(target, replaced(source, packed), quantization_config=settings)


def _awq(source: Path, target: Path, group: int = 32) -> None:
    """By hand, in the layout ``gemm`` of AutoAWQ: rounded to nearest, inputs not rescaled."""
    from tests.checkpoint.formats.gptq_samples import pack

    def interleaved(fields: NDArray[np.int64]) -> NDArray[np.generic]:
        eights = fields.reshape(fields.shape[0], -1, 8)[..., (0, 2, 4, 6, 1, 3, 5, 7)]
        return pack(eights.reshape(fields.shape).T, 4).T

    def packed(name: str, tensor: torch.Tensor) -> State:
        weight = tensor.float().numpy()
        levels, zeros, scales = _levels(weight, 4, _runs(weight.shape[1], group))
        return _parts(name, qweight=interleaved(levels.T), qzeros=interleaved(zeros.T), scales=scales.T)

    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    save(target, replaced(source, packed), quantization_config=settings)


def _mlx(source: Path, target: Path, *, bits: int, group: int = 32) -> None:
    """By hand, in the layout of mlx-lm, mode affine; embeddings and the head are packed, too."""
    from safetensors.torch import save_file

    from tests.checkpoint.formats.gptq_samples import pack

    found: State = {}
    for name, tensor in state_of(source).items():
        weight = tensor.float().numpy()
        if weight.ndim < 2:
            found[name] = tensor
            continue
        levels, zeros, scales = _levels(weight, bits, _runs(weight.shape[1], group))
        words = pack(levels.T, bits).T
        offsets = (-zeros * scales.astype(np.float32)).astype(np.float16)
        found |= _parts(name, weight=words.view(np.uint32), scales=scales, biases=offsets)
    settings = {"group_size": group, "bits": bits, "mode": "affine"}
    save_file(found, target / "model.safetensors", metadata={"format": "mlx"})
    config = {**config_of(target), "quantization": settings, "quantization_config": settings}
    (target / "config.json").write_text(json.dumps(config))


def _compressed(source: Path, target: Path, case: str) -> None:
    """By the compressors of compressed-tensors; names and settings as llm-compressor writes them."""
    from tests.checkpoint.formats.compressed_tensors_samples import CASES, compressed

    scheme = CASES[case]

    def pack(name: str, tensor: torch.Tensor) -> State:
        module = name.removesuffix(".weight")
        return {f"{module}.{part}": value for part, value in compressed(tensor, scheme).items()}

    settings = {
        **{"quant_method": "compressed-tensors", "format": scheme.format, "ignore": ["lm_head"]},
        **{"config_groups": {"group_0": json.loads(scheme.model_dump_json())}, "quantization_status": "compressed"},
    }
    save(target, replaced(source, pack), quantization_config=settings)


def _fine_grained(source: Path, target: Path, block: int = 32) -> None:
    """By transformers' own operation, ``Fp8Quantize``, the layout of DeepSeek-V3."""
    from transformers import FineGrainedFP8Config
    from transformers.integrations.finegrained_fp8 import Fp8Quantize

    settings = FineGrainedFP8Config(weight_block_size=(block, block))
    quantise = Fp8Quantize(SimpleNamespace(quantization_config=settings))
    save(
        target,
        replaced(source, lambda name, tensor: dict(quantise.convert({name: tensor.float()}))),
        quantization_config=settings.to_dict(),
    )


_WRITERS: dict[str, tuple[str, Callable[[Path, Path], None], tuple[str, ...]]] = {
    "bitsandbytes NF4": ("bitsandbytes", partial(_bitsandbytes, kind="nf4"), ("bitsandbytes",)),
    "bitsandbytes NF4 double": ("bitsandbytes", partial(_bitsandbytes, kind="nf4", double=True), ("bitsandbytes",)),
    "bitsandbytes FP4": ("bitsandbytes", partial(_bitsandbytes, kind="fp4"), ("bitsandbytes",)),
    "bitsandbytes int8": ("bitsandbytes", partial(_bitsandbytes, kind="int8"), ("bitsandbytes",)),
    "GPTQ 4 bits": ("by hand", partial(_gptq, bits=4, act_order=False), ()),
    "GPTQ 4 bits act-order": ("by hand", partial(_gptq, bits=4, act_order=True), ()),
    "GPTQ 8 bits": ("by hand", partial(_gptq, bits=8, act_order=False), ()),
    "AWQ 4 bits": ("by hand", _awq, ()),
    **{
        f"compressed-tensors {label}": (
            "compressed-tensors",
            partial(_compressed, case=case),
            ("compressed_tensors",),
        )
        for label, case in (
            *(("W4A16", "int4-group"), ("W4A16 zeros", "int4-group-zeros"), ("W8A8", "int8-channel")),
            *(("FP8 channel", "fp8-channel"), ("FP8 block", "fp8-block"), ("NVFP4", "nvfp4"), ("MXFP4", "mxfp4")),
        )
    },
    "FP8 fine-grained": ("transformers", _fine_grained, ("transformers",)),
    "MLX 4 bits": ("by hand", partial(_mlx, bits=4), ()),
    "MLX 8 bits": ("by hand", partial(_mlx, bits=8), ()),
}

CONVERSIONS = tuple(
    Conversion(name, writer, write, True, ("torch", *modules), LINEAR)
    for name, (writer, write, modules) in _WRITERS.items()
)
