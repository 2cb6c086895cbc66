"""Tiny compressed-tensors folders.

Levels, scales and packing are by the library's own compressors, the names and the config as llm-compressor 0.14 writes
them. Made by hand: ``act-order``, which the library no longer writes (``weight_g_idx`` of its version 0.9), and
``experts``, a stack of matrices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import save_file

__all__ = ["CASES", "SAMPLES", "decompressed", "write"]

State = dict[str, torch.Tensor]


def _scheme(form: str, **args: object) -> QuantizationScheme:
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args), format=form)


PACKED, INT, FLOAT = "pack-quantized", "int-quantized", "float-quantized"
MX = {"type": "float", "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8}
CASES: dict[str, QuantizationScheme] = {
    "int4-group": _scheme(PACKED, num_bits=4, strategy="group", group_size=32),
    "int4-group-zeros": _scheme(PACKED, num_bits=4, strategy="group", group_size=32, symmetric=False),
    "int4-channel": _scheme(PACKED, num_bits=4, strategy="channel"),
    "int4-channel-zeros": _scheme(PACKED, num_bits=4, strategy="channel", symmetric=False),
    "int3-channel-zeros": _scheme(PACKED, num_bits=3, strategy="channel", symmetric=False),
    "int2-group": _scheme(PACKED, num_bits=2, strategy="group", group_size=16),
    "int7-group-zeros": _scheme(PACKED, num_bits=7, strategy="group", group_size=32, symmetric=False),
    "int8-packed-channel": _scheme(PACKED, num_bits=8, strategy="channel"),
    "int8-packed-tensor": _scheme(PACKED, num_bits=8, strategy="tensor"),
    "int8-channel": _scheme(INT, num_bits=8, strategy="channel"),
    "int8-channel-zeros": _scheme(INT, num_bits=8, strategy="channel", symmetric=False),
    "int8-tensor": _scheme("naive-quantized", num_bits=8, strategy="tensor"),
    "int8-group": _scheme("naive-quantized", num_bits=8, strategy="group", group_size=16),
    "fp8-tensor": _scheme("naive-quantized", num_bits=8, type="float", strategy="tensor"),
    "fp8-channel": _scheme(FLOAT, num_bits=8, type="float", strategy="channel"),
    "fp8-block": _scheme(FLOAT, num_bits=8, type="float", strategy="block", block_structure=[16, 32]),
    "nvfp4": _scheme(
        "nvfp4-pack-quantized",
        **{"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
        scale_dtype=torch.float8_e4m3fn,
    ),
    "mxfp4": _scheme("mxfp4-pack-quantized", num_bits=4, **MX),
    "mxfp6": _scheme("mxfp6-pack-quantized", num_bits=6, **MX),
    "mxfp8": _scheme("mxfp8-quantized", num_bits=8, **MX),
}
"""By name: how the weights are quantised."""


def weights(scheme: QuantizationScheme, layers: int = 2) -> State:
    """Random weights; widths that fill no word where groups allow it, and heights that fill no block."""
    generator = torch.Generator().manual_seed(0)
    grouped = scheme.weights.group_size is not None
    shapes = {"self_attn.q_proj": (24, 64), "mlp.down_proj": (20, 128) if grouped else (21, 45)}
    return {
        f"model.layers.{layer}.{name}.weight": torch.randn(shape, generator=generator).mul(0.05).to(torch.bfloat16)
        for layer in range(layers)
        for name, shape in shapes.items()
    }


def compressed(weight: torch.Tensor, scheme: QuantizationScheme) -> State:
    """One weight as the library stores it, by the last parts of the names."""
    args = scheme.weights
    state = {"weight": weight}
    wide = weight.float()
    overall = None
    if args.strategy == "tensor_group":
        overall = state["weight_global_scale"] = generate_gparam(wide.min(), wide.max())
    if args.strategy == "block":
        high, across = args.block_structure
        padded = torch.nn.functional.pad(wide, (0, -wide.shape[1] % across, 0, -wide.shape[0] % high))
        blocks = padded.unflatten(0, (-1, high)).unflatten(2, (-1, across)).transpose(1, 2).flatten(2)
    elif args.group_size is not None:
        blocks = wide.unflatten(1, (-1, args.group_size))
    else:
        blocks = wide[:, None] if args.strategy == "channel" else wide.reshape(1, 1, -1)
    scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args, overall)
    if args.strategy == "tensor":
        scale, zero = scale.reshape(1), zero.reshape(1)
    state["weight_scale"] = scale if args.type == "float" and args.num_bits < 8 else scale.bfloat16()
    if not args.symmetric:
        state["weight_zero_point"] = zero.to(torch.int8)
    return BaseCompressor.get_value_from_registry(scheme.format).compress(state, scheme)


def decompressed(state: State, scheme: QuantizationScheme) -> torch.Tensor:
    """The same weight as the library decodes it."""
    weight: torch.Tensor = BaseCompressor.get_value_from_registry(scheme.format).decompress(state, scheme)["weight"]
    return weight


def write(folder: Path, schemes: Mapping[str, QuantizationScheme], layers: int = 2) -> dict[str, torch.Tensor]:
    """Write a model quantised in one way or several; return its weights as the library decodes them."""
    generator = torch.Generator().manual_seed(1)
    stored = {
        "model.embed_tokens.weight": torch.randn(12, 64, generator=generator).to(torch.bfloat16),
        "model.norm.weight": torch.ones(64, dtype=torch.bfloat16),
        "model.layers.0.self_attn.k_scale": torch.tensor([0.5]),
    }
    want = {name: stored[name] for name in list(stored)[:2]}
    many = len(schemes) > 1
    for label, scheme in schemes.items():
        for name, weight in weights(scheme, layers).items():
            name = name.replace("_proj", f"_{label}_proj") if many else name
            module = name.removesuffix(".weight")
            state = compressed(weight, scheme)
            stored |= {f"{module}.{part}": tensor.contiguous() for part, tensor in state.items()}
            stored[f"{module}.input_scale"] = torch.tensor([0.25])
            want[name] = decompressed(state, scheme)
    _save(folder, stored, list(schemes.values()))
    return want


def _save(folder: Path, stored: State, schemes: list[QuantizationScheme]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    settings = {
        "quant_method": "compressed-tensors",
        "format": schemes[0].format if len(schemes) == 1 else "mixed-precision",
        "config_groups": {f"group_{n}": json.loads(scheme.model_dump_json()) for n, scheme in enumerate(schemes)},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": settings}))


def act_order(folder: Path) -> dict[str, torch.Tensor]:
    """Columns in groups that are not runs; decoded by the library in the order of the groups."""
    scheme = CASES["int4-group-zeros"]
    generator = torch.Generator().manual_seed(2)
    stored, want = {}, {}
    for name, weight in weights(scheme, 1).items():
        module, columns = name.removesuffix(".weight"), weight.shape[1]
        order = torch.randperm(columns, generator=generator)
        state = compressed(weight[:, order], scheme)
        groups = torch.empty(columns, dtype=torch.int32)
        groups[order] = torch.arange(columns, dtype=torch.int32) // 32
        back = torch.empty_like(order)
        back[order] = torch.arange(columns)
        want[name] = decompressed(state, scheme)[:, back]
        # The levels lie in the order of the columns, as the weight itself does.
        bits = _levels(state, scheme)[:, back]
        state["weight_packed"] = _pack(bits)
        stored |= {f"{module}.{part}": tensor.contiguous() for part, tensor in state.items()}
        stored[f"{module}.weight_g_idx"] = groups
    _save(folder, stored, [scheme])
    return want


def experts(folder: Path) -> dict[str, torch.Tensor]:
    """Three matrices under one name."""
    scheme = CASES["int4-group-zeros"]
    found = [compressed(w, scheme) for w in list(weights(scheme, 3).values())[::2]]
    module = "model.layers.0.mlp.experts.up"
    stored = {f"{module}.{part}": torch.stack([state[part] for state in found]) for part in found[0]}
    stored[f"{module}.weight_shape"] = torch.tensor([3, 24, 64])
    _save(folder, stored, [scheme])
    return {f"{module}.weight": torch.stack([decompressed(state, scheme) for state in found])}


def _levels(state: State, scheme: QuantizationScheme) -> torch.Tensor:
    from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

    return unpack_from_int32(state["weight_packed"], scheme.weights.num_bits, state["weight_shape"])


def _pack(levels: torch.Tensor) -> torch.Tensor:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    return pack_to_int32(levels, 4)


def _one(folder: Path, name: str) -> None:
    write(folder, {name: CASES[name]}, layers=1)


def _act_order(folder: Path) -> None:
    act_order(folder)


def _experts(folder: Path) -> None:
    experts(folder)


def _mixed(folder: Path) -> None:
    write(folder, {name: CASES[name] for name in ("int4-group", "int8-packed-channel", "nvfp4")}, layers=1)


SAMPLES: dict[str, Callable[[Path], None]] = {
    **{name: partial(_one, name=name) for name in CASES},
    **{"act-order": _act_order, "experts": _experts, "mixed": _mixed},
}
