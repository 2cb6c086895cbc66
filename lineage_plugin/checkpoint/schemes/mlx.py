"""MLX: repositories of mlx-community and others, written by mlx-lm and mlx-vlm.

``X.weight`` holds the levels of a row in 32-bit words, as one stream of bits, low bits first; ``X.scales`` and
``X.biases`` have one number for each run of ``group_size`` columns: ``weight = level * scale + bias`` (``affine``,
``mx.quantize`` and ``mx.dequantize`` of MLX 0.32, which is also the reference decoder). Embeddings are packed in the
same way. The modes ``mxfp4``, ``nvfp4`` and ``mxfp8`` have floats of four or eight bits as levels, bytes as scales and
no biases. Source: the documentation of ``mlx.core.quantize``.

``config.json`` says ``quantization: {group_size, bits, mode}``, and the same for single modules under their names;
``quantization_config`` is a copy. Settings that a row of words cannot have are passed over for the ones it can have
with the same groups: not every writer notes every exception.

mlx-lm stacks the experts of a layer, ``switch_mlp.gate_proj.weight`` ``[experts, units, hidden]``. They are given back
their names in transformers, one tensor for each expert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from lineage_plugin.checkpoint.derived import Derived, FloatArray
from lineage_plugin.checkpoint.dtypes import decode
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._grid import Grid, ScaleKind
from lineage_plugin.checkpoint.schemes._packing import E2M1, Fields
from lineage_plugin.checkpoint.schemes._parts import whole
from lineage_plugin.checkpoint.schemes._scaled import Levels, Scaled
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.checkpoint.views import Part
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["SCHEME"]

_WORD = 32
_BITS = (1, 2, 3, 4, 5, 6, 8)
_MOST_EXPERTS = 1024
_FLOATS = frozenset({"F32", "F16", "BF16"})

_MODES: Mapping[str, tuple[int, int, ScaleKind]] = {
    "mxfp4": (32, 4, "E8M0"),
    "nvfp4": (16, 4, "E4M3"),
    "mxfp8": (32, 8, "E8M0"),
}
"""Group size, bits and kind of scale of the modes without biases."""

_STACK = re.compile(r"^(?P<before>.*\.)switch_mlp\.(?P<which>gate_proj|up_proj|down_proj)\.weight\Z", re.DOTALL)
_MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}
"""Names that mlx-lm gives the matrices of Mixtral's experts, and their own."""


def _unpack(packed: Packed) -> Unpacked | None:
    derived: dict[str, Derived] = {}
    hidden: set[str] = set()
    settings = packed.config.get("quantization")
    settings = settings if isinstance(settings, Mapping) else packed.settings
    for name, info in packed.tensors.items():
        module = name.removesuffix(".weight")
        scales = packed.tensors.get(f"{module}.scales")
        if module == name or scales is None or info.dtype != "U32" or len(info.shape) < 2:
            continue
        biases = packed.tensors.get(f"{module}.biases")
        for tensor in _module(packed, module, info, scales, biases, settings):
            if tensor.info.name in derived or (tensor.info.name in packed.tensors and tensor.info.name != name):
                raise _wrong(packed, name, f"holds '{shown(tensor.info.name, 80)}', which is there already")
            derived[tensor.info.name] = tensor
        hidden |= {name, scales.name} | ({biases.name} if biases is not None else set())
    return Unpacked(derived, frozenset(hidden)) if derived else None


def _module(
    packed: Packed,
    module: str,
    weight: TensorInfo,
    scales: TensorInfo,
    biases: TensorInfo | None,
    settings: Mapping[str, object],
) -> list[Derived]:
    """Return the matrices of one module: its weight, or that of each expert."""
    if weight.size == 0 or scales.shape[:-1] != weight.shape[:-1] or scales.size == 0:
        raise _wrong(packed, weight.name, f"and its scales of {shown(list(scales.shape), 80)} do not fit together")
    if biases is not None and biases.shape != scales.shape:
        raise _wrong(packed, weight.name, "has scales and biases of different shapes")
    mode, group, bits = _mode(packed, module, weight, scales, biases, settings)
    table: FloatArray | None = None
    kind: ScaleKind = "number"
    if mode != "affine":
        kind = _MODES[mode][2]
        table = E2M1 if bits == 4 else decode(np.arange(256, dtype=np.uint8), "F8_E4M3")
    height, groups = prod(weight.shape[:-1]), scales.shape[-1]
    width = groups * group

    def grid(info: TensorInfo) -> Grid:
        return Grid(info.name, 1, (height, groups), (1, group), height, kind)

    levels = Levels(weight.name, Fields(bits, _WORD), table)
    codec = Scaled(height, width, levels, (grid(scales),), offsets=None if biases is None else grid(biases))
    name = "MLX" if mode == "affine" else f"MLX {mode.upper()}"
    others = [scales] if biases is None else [scales, biases]
    info = whole(weight.name, (*weight.shape[:-1], width), weight, others, Encoding(name, bits, (1, 0)))
    match = _STACK.match(weight.name)
    if match is None or len(info.shape) != 3 or info.shape[0] > _MOST_EXPERTS:
        return [Derived(info, codec)]
    experts, units, _ = info.shape
    which = _MIXTRAL[match["which"]] if match["before"].endswith("block_sparse_moe.") else match["which"]
    result = []
    for expert in range(experts):
        single = replace(
            info,
            name=f"{match['before']}experts.{expert}.{which}.weight",
            shape=(units, width),
            offset=weight.offset + expert * (weight.nbytes // experts),
            nbytes=info.nbytes // experts,
        )
        result.append(Derived(single, Part(codec, expert * units, units)))
    return result


def _mode(
    packed: Packed,
    module: str,
    weight: TensorInfo,
    scales: TensorInfo,
    biases: TensorInfo | None,
    settings: Mapping[str, object],
) -> tuple[str, int, int]:
    """Return mode, group size and bits of a module.

    A row of ``words`` words and ``count`` groups fixes the product of the two: ``32 * words = count * group * bits``.
    """
    own = settings.get(module)
    own = own if isinstance(own, Mapping) else {}

    def said(key: str) -> object:
        return own.get(key, settings.get(key))

    product, rest = divmod(_WORD * weight.shape[-1], scales.shape[-1])
    if biases is None:
        mode = said("mode")
        # Where the settings do not say: these three differ in what a group takes and in how large it is.
        named = [mode] if isinstance(mode, str) and mode in _MODES else list(_MODES)
        fit = [m for m in named if rest == 0 and product == _MODES[m][0] * _MODES[m][1]]
        if scales.dtype != "U8" or not fit:
            raise _unknown(packed, weight.name)
        return fit[0], _MODES[fit[0]][0], _MODES[fit[0]][1]
    if scales.dtype not in _FLOATS or biases.dtype not in _FLOATS or rest:
        raise _unknown(packed, weight.name)
    group, bits = _count(said("group_size")), _count(said("bits"))
    for size, depth in ((group, bits), (group, product // max(1, group)), (product // max(1, bits), bits)):
        if size > 0 and depth in _BITS and size * depth == product:
            return "affine", size, depth
    raise _unknown(packed, weight.name)


def _count(value: object) -> int:
    """Return a number of the settings, 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _unknown(packed: Packed, name: str) -> UnsupportedEncoding:
    return UnsupportedEncoding(
        packed.where,
        f"'{shown(name, 120)}' and its scales have shapes of none of MLX's modes that config.json gives",
        f"Known are affine, {', '.join(_MODES)}; config.json gives group_size and bits under `quantization`.",
    )


def _wrong(packed: Packed, name: str, problem: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(packed.where, f"'{shown(name, 120)}' {problem}", "Get the files again.")


SCHEME = Scheme(
    name="MLX",
    methods=frozenset({"mlx"}),
    unpack=_unpack,
    rows=(
        Row(
            "MLX affine (1 to 6 and 8 bits), mxfp4, nvfp4, mxfp8",
            "yes",
            "as the files it is in",
            "-",
            "Stacked experts get their names in transformers back, except those of GPT-OSS.",
        ),
    ),
)
