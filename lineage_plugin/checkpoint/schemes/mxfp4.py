"""MXFP4: runs of 32 four-bit floats that share a power of two (OCP Microscaling Formats 1.0).

Two layouts are read:

GPT-OSS
    ``experts.gate_up_proj_blocks`` ``[experts, out, in / 32, 16]`` and ``..._scales`` ``[experts, out, in / 32]``, both
    bytes: two floats a byte, the first in the low bits; eight-bit exponents with bias 127. transformers presents them
    as ``experts.gate_up_proj`` ``[experts, in, out]`` (``convert_moe_packed_tensors`` of its ``integrations.mxfp4``,
    the reference decoder), and so do we: a conversion to bfloat16 has the same names and shapes.

Quark
    ``weight`` ``[..., out, in / 2]`` and ``weight_scale`` ``[..., out, in / 32]``, bytes of the same meaning
    (``quant_method: quark``; the layout that vLLM's Quark scheme loads).

bfloat16 holds ``level * 2**e`` exactly, unless it overflows or is subnormal; so does float32.
"""

from __future__ import annotations

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._grid import Grid
from lineage_plugin.checkpoint.schemes._packing import E2M1, Fields
from lineage_plugin.checkpoint.schemes._parts import whole
from lineage_plugin.checkpoint.schemes._scaled import Levels, Scaled
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.checkpoint.views import Turned
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["SCHEME"]

_GROUP = 32
_BLOCK_BYTES = 16
_BLOCKS, _SCALES = "_blocks", "_scales"
_NIBBLES = Fields(4, 8)


def _unpack(packed: Packed) -> Unpacked | None:
    derived: dict[str, Derived] = {}
    hidden: set[str] = set()
    for name, info in packed.tensors.items():
        found = _stacked(packed, name, info) or _by_rows(packed, name, info)
        if found is not None:
            matrix, scales = found
            derived[matrix.info.name] = matrix
            hidden |= {name, scales}
    return Unpacked(derived, frozenset(hidden)) if derived else None


def _stacked(packed: Packed, name: str, info: TensorInfo) -> tuple[Derived, str] | None:
    """Return the experts of GPT-OSS, and the name of their scales."""
    stem = name.removesuffix(_BLOCKS)
    scales = packed.tensors.get(stem + _SCALES)
    if stem == name or scales is None or info.dtype != "U8" or scales.dtype not in ("U8", "F8_E8M0"):
        return None
    if len(info.shape) != 4 or info.shape[3] != _BLOCK_BYTES or scales.shape != info.shape[:3] or info.size == 0:
        raise UnreadableCheckpoint(
            packed.where,
            f"'{shown(name, 120)}' of shape {list(info.shape)[:8]} and its scales of {list(scales.shape)[:8]} are no "
            f"stack of MXFP4 blocks",
            "Get the files again.",
        )
    if stem in packed.tensors:
        raise UnreadableCheckpoint(packed.where, f"'{shown(stem, 120)}' is there twice, once packed", "Remove one.")
    experts, out, groups, _ = info.shape
    width = groups * _GROUP
    codec = _codec(info, scales, experts * out, groups)
    # One output and 32 inputs share a scale. Inputs are rows here, and those of one output lie together.
    encoding = Encoding("MXFP4", 4, (_GROUP, 1), 1)
    tensor = whole(stem, (experts, width, out), info, [scales], encoding)
    return Derived(tensor, Turned(codec, experts)), scales.name


def _by_rows(packed: Packed, name: str, info: TensorInfo) -> tuple[Derived, str] | None:
    """Return a matrix stored as it is named, and the name of its scales."""
    if info.dtype != "U8" or not name.endswith("weight") or len(info.shape) < 2 or info.size == 0:
        return None
    # Bytes alone are no sign of four-bit floats and exponents: others pack and scale by bytes, too.
    scales = packed.tensors.get(f"{name}_scale") if packed.settings.get("quant_method") == "quark" else None
    if scales is None or scales.dtype not in ("U8", "F8_E8M0"):
        return None
    if scales.shape[:-1] != info.shape[:-1] or info.shape[-1] != scales.shape[-1] * _BLOCK_BYTES:
        return None
    shape = (*info.shape[:-1], 2 * info.shape[-1])
    codec = _codec(info, scales, info.size // info.shape[-1], scales.shape[-1])
    return Derived(whole(name, shape, info, [scales], Encoding("MXFP4", 4, (1, _GROUP))), codec), scales.name


def _codec(info: TensorInfo, scales: TensorInfo, height: int, groups: int) -> Scaled:
    grid = Grid(scales.name, 1, (height, groups), (1, _GROUP), height, "E8M0")
    return Scaled(height, groups * _GROUP, Levels(info.name, _NIBBLES, E2M1), (grid,))


SCHEME = Scheme(
    name="MXFP4",
    methods=frozenset({"mxfp4"}),
    unpack=_unpack,
    rows=(
        Row(
            "MXFP4: GPT-OSS experts, AMD Quark",
            "yes; GPT-OSS experts: columns, that is outputs, one by one",
            "as the files it is in",
            "-",
            "Reading few inputs of a GPT-OSS expert over the Hub takes all of it.",
        ),
    ),
)
