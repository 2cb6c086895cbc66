"""FP8 weights with scales, whoever wrote them: one scale a tensor, a row, a block of 128 by 128, or 32 in a row.

The weight keeps its name and shape; its scale lies beside it under one of a few names. Whatever the name says, the
weight is the product: ``weight_scale_inv`` is the inverse of what the writer multiplied by. Sources: DeepSeek-V3
(arXiv:2412.19437, 3.3.2) and transformers' ``FineGrainedFP8`` (``weight_scale_inv``, ``scale``, ``qscale_weight``,
fused experts); ``float-quantized``, ``naive-quantized`` and ``mxfp8-quantized`` of compressed-tensors, ModelOpt, Quark
and FBGEMM (``weight_scale``); ComfyUI (``scale_weight``).

FP8 tensors without a scale are plain numbers, and stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import gcd

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._grid import fit
from lineage_plugin.checkpoint.schemes._parts import ACTIVATIONS, attention_scales, beside, matrices, misfit, whole
from lineage_plugin.checkpoint.schemes._scaled import Levels, Scaled, Zeros
from lineage_plugin.checkpoint.types import Encoding, TensorInfo

__all__ = ["SCHEME"]

_FLOATS = frozenset({"F8_E4M3", "F8_E5M2"})
_MARKS = ("scaled_fp8", "comfy_quant")
"""Last parts of the names of tensors that only say how others are stored."""


def _unpack(packed: Packed) -> Unpacked | None:
    hint = _block(packed.settings)
    derived: dict[str, Derived] = {}
    hidden: set[str] = set()
    for name, info in packed.tensors.items():
        scale = _scale(packed.tensors, info)
        if scale is None:
            continue
        module = name.removesuffix(".weight")
        derived[name] = _weight(info, scale, packed, hint)
        hidden |= {name, scale.name}
        hidden.update(beside(packed.tensors, module, (*ACTIVATIONS, "comfy_quant")))
        beyond = (f"{name}_{what}" for what in ("zero_point", "activation_scale", "input_scale"))
        hidden.update(other for other in beyond if other in packed.tensors)
    if not derived:
        return None
    hidden.update(attention_scales(packed.tensors))
    hidden |= {name for name in packed.tensors if name.rpartition(".")[2] in _MARKS}
    return Unpacked(derived, frozenset(hidden))


def _scale(tensors: Mapping[str, TensorInfo], info: TensorInfo) -> TensorInfo | None:
    """Find the scale of an FP8 weight."""
    name, module = info.name, info.name.removesuffix(".weight")
    if info.dtype not in _FLOATS or len(info.shape) < 2 or info.size == 0:
        return None
    names = [f"{name}_scale_inv", f"{name}_scale"]
    if module != name:
        names += [f"{module}.qscale_weight", f"{module}.scale_weight", f"{module}.scale"]
    return next((tensors[n] for n in names if n in tensors), None)


def _weight(info: TensorInfo, scale: TensorInfo, packed: Packed, hint: tuple[int, int] | None) -> Derived:
    shape = info.shape
    planes, height, width = matrices(shape)
    zero = packed.tensors.get(f"{info.name}_zero_point")
    found = fit(scale, planes, height, width, hint)
    if found is None and len(shape) > 2 and scale.shape == (*shape[:-2], width, 1):
        # FBGEMM stores the second matrix of fused experts transposed, and its scales not (transformers,
        # integrations/fbgemm_fp8.py).
        found = fit(replace(scale, shape=(*shape[:-2], 1, width)), planes, height, width)
    lower = None if zero is None else fit(zero, planes, height, width, hint, whole=True)
    if found is None or (zero is not None and (lower is None or zero.shape != scale.shape)):
        raise misfit(packed.where, scale if found is None or zero is None else zero, shape)
    grid, (rows, columns) = found
    if planes > 1 and rows > 1:
        # Blocks begin anew with each expert, so in the matrix of all of them they have the size that fits into both.
        rows = gcd(rows, height)
    if packed.settings.get("quant_method") == "compressed-tensors":
        columns = 0  # They may have been rounded one after the other: GPTQ leaves no trace in the settings.
    name = "FP8" if info.dtype == "F8_E4M3" else "FP8 E5M2"
    if grid.kind == "E8M0" and grid.block == (1, 32):
        name = "MXFP8"
    codec = Scaled(planes * height, width, Levels(info.name), (grid,), zeros=None if lower is None else Zeros(lower[0]))
    others = [scale] if zero is None else [scale, zero]
    return Derived(whole(info.name, shape, info, others, Encoding(name, 8, (rows, columns))), codec)


def _block(settings: Mapping[str, object]) -> tuple[int, int] | None:
    """Return rows and columns of a block, as the settings have it."""
    found: list[object] = [settings.get("weight_block_size")]
    groups = settings.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        found.append(weights.get("block_structure") if isinstance(weights, Mapping) else None)
    for block in found:
        if isinstance(block, list) and len(block) == 2 and all(type(n) is int and 0 < n < 1 << 31 for n in block):
            return block[0], block[1]
    return None


SCHEME = Scheme(
    name="FP8",
    methods=frozenset({"fp8", "fbgemm_fp8"}),
    unpack=_unpack,
    rows=(
        Row(
            "FP8 with scales a tensor, a row or a block; MXFP8",
            "yes",
            "header, then the rows and their scales",
            "-",
            "FP8 of other variants (FNUZ) is listed, not decoded.",
        ),
    ),
    rank=1,
)
