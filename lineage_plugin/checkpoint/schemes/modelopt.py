"""NVFP4 and MXFP4 as NVIDIA Model Optimizer writes them: packed floats under the name of the weight.

``X.weight`` is bytes, two E2M1 floats each, the even column in the low bits. ``X.weight_scale`` holds an FP8 scale for
16 columns, which is multiplied by ``X.weight_scale_2``; or an exponent of two for 32 columns. Source: Model Optimizer,
``modelopt/torch/quantization/qtensor/nvfp4_tensor.py`` and ``mxfp4_tensor.py``; compressed-tensors'
``ModelOptNvfp4Converter``. Its FP8 weights are read by :mod:`lineage_plugin.checkpoint.schemes.fp8`.

ComfyUI stores the scales of the same format in the order of a kernel; such weights are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._grid import FLOATS, fit
from lineage_plugin.checkpoint.schemes._packing import E2M1, Fields
from lineage_plugin.checkpoint.schemes._parts import ACTIVATIONS, attention_scales, beside, matrices, misfit, whole
from lineage_plugin.checkpoint.schemes._scaled import Levels, Scaled
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["SCHEME"]

_METHODS = frozenset({"modelopt", "modelopt_fp4", "modelopt_mixed"})
_NIBBLES = Fields(4, 8)


def _unpack(packed: Packed) -> Unpacked | None:
    derived: dict[str, Derived] = {}
    hidden: set[str] = set()
    for name, info in packed.tensors.items():
        module = name.removesuffix(".weight")
        scale = packed.tensors.get(f"{name}_scale")
        if module == name or info.dtype != "U8" or len(info.shape) < 2 or info.size == 0 or scale is None:
            continue
        size = _group(scale, packed.settings)
        if size is None:
            continue
        _check(packed, module)
        overall = packed.tensors.get(f"{name}_scale_2")
        derived[name] = _weight(packed.where, info, scale, overall, size)
        hidden |= {name, scale.name, *(() if overall is None else (overall.name,))}
        hidden.update(beside(packed.tensors, module, ACTIVATIONS))
    if not derived:
        return None
    hidden.update(attention_scales(packed.tensors))
    return Unpacked(derived, frozenset(hidden))


def _group(scale: TensorInfo, settings: Mapping[str, object]) -> int | None:
    """Return how many columns share a scale of this type; None when it belongs to another scheme."""
    if scale.dtype == "F8_E4M3":
        return 16
    producer = settings.get("producer")
    named = producer.get("name") if isinstance(producer, Mapping) else None
    method = settings.get("quant_method")
    ours = named == "modelopt" or (isinstance(method, str) and method in _METHODS)
    return 32 if ours and scale.dtype in ("U8", "F8_E8M0") else None


def _check(packed: Packed, module: str) -> None:
    for beyond, what in (
        ("comfy_quant", "with scales in the order of a kernel"),
        ("pre_quant_scale", "times AWQ scales"),
    ):
        if f"{module}.{beyond}" in packed.tensors:
            raise UnsupportedEncoding(
                packed.where,
                f"'{shown(module, 100)}.weight' is stored {what}",
                "Give the weights unquantised.",
            )


def _weight(where: str, info: TensorInfo, scale: TensorInfo, overall: TensorInfo | None, size: int) -> Derived:
    shape = (*info.shape[:-1], 2 * info.shape[-1])
    planes, height, width = matrices(shape)
    laid = fit(scale, planes, height, width, (1, size)) if scale.shape == (*shape[:-1], width // size) else None
    if laid is None or width % size:
        raise misfit(where, scale, shape)
    scales = [laid[0]]
    if overall is not None:
        second = fit(overall, planes, height, width) if overall.dtype in FLOATS else None
        if second is None or second[0].shape[1] != 1:
            raise misfit(where, overall, shape)
        scales.append(second[0])
    name = "MXFP4" if laid[0].kind == "E8M0" else "NVFP4"
    others = [scale] if overall is None else [scale, overall]
    described = whole(info.name, shape, info, others, Encoding(name, 4, (1, size)))
    return Derived(described, Scaled(planes * height, width, Levels(info.name, _NIBBLES, E2M1), tuple(scales)))


SCHEME = Scheme(
    name="ModelOpt",
    methods=_METHODS,
    unpack=_unpack,
    rows=(
        Row(
            "NVFP4, MXFP4 and FP8 of NVIDIA Model Optimizer",
            "yes",
            "header, then the rows and their scales",
            "-",
            "INT4 with AWQ scales is not read.",
        ),
    ),
)
