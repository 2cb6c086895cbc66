"""bitsandbytes: NF4 and FP4 with blockwise scales, and int8 with a scale a row.

Source of the layouts: ``QuantState.as_dict(packed=True)`` and ``Linear8bitLt`` of bitsandbytes 0.50, which is also the
reference decoder; QLoRA (arXiv:2305.14314) for NF4 and double quantisation, LLM.int8() (arXiv:2208.07339) for int8.

Four bits: ``X`` holds the levels of the flattened matrix, two a byte, the first in the high bits. Every ``blocksize``
successive elements share a scale, their largest magnitude: ``X.absmax``. With double quantisation scale ``i`` is a byte
itself, ``nested_quant_map[byte] * nested_absmax[i // nested_blocksize] + nested_offset``. The shape, the block sizes
and the offset stand in a JSON text, ``X.quant_state.bitsandbytes__nf4`` or ``__fp4``.

Eight bits: ``X.weight`` whole numbers, ``X.SCB`` the largest magnitude of each row: ``weight * SCB / 127``.

Which numbers share what, and so inside which block two rows may be exchanged without the quantiser noticing
(``Encoding.shared``):

- A block of scales moves along when its row does: as long as blocks end where rows do, any two rows may be exchanged,
  and any two columns inside a block.
- Double quantisation rounds 256 scales by their common maximum, and subtracts the mean of all scales of the matrix
  first. The mean depends on the order in its last digits only. The maximum stays the same when both rows have their
  scales in the same 256, which is every ``256 * blocksize / width`` rows; it moves along when each row has 256 scales
  or a multiple of its own. Where a group of 256 ends inside a row, an exchange changes what the neighbours are rounded
  by: 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod

from lineage_plugin.checkpoint.derived import Derived, Matrix
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._bitsandbytes_codec import STORAGE, EightBit, FourBit, text_of
from lineage_plugin.checkpoint.schemes._bitsandbytes_state import REMEDY, State, parse_state
from lineage_plugin.checkpoint.schemes._parts import is_conv1d
from lineage_plugin.checkpoint.types import Encoding, Selection, TensorInfo
from lineage_plugin.checkpoint.views import Turned
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["SCHEME"]


_STATE = re.compile(r"^(?P<name>.+)\.quant_state\.bitsandbytes__(?P<kind>nf4|fp4)\Z", re.DOTALL)
_LARGEST_STATE = 1 << 16
_ROW_FORMAT = 0


def _unpack(packed: Packed) -> Unpacked | None:
    four, eight = _four_bit(packed), _eight_bit(packed)
    if not four and not eight:
        return None
    derived = {name: derived for name, (derived, _) in (four | eight).items()}
    hidden = frozenset(part for _, parts in (four | eight).values() for part in parts)
    return Unpacked(derived, hidden)


def _four_bit(packed: Packed) -> dict[str, tuple[Derived, tuple[str, ...]]]:
    """Return the matrices of four bits, each with the names of its parts."""
    found = {match["name"]: match["kind"] for match in map(_STATE.match, packed.tensors) if match}
    states = _states(packed, found)
    results: dict[str, tuple[Derived, tuple[str, ...]]] = {}
    for name, kind in found.items():
        state = states[_likeness(packed, name, kind)]
        parts = _parts(packed, name, kind)
        _check(packed, name, state)
        weight = packed.tensors[name]
        height, width = prod(state.shape[:-1]), state.shape[-1]
        stored = sum(packed.tensors[part].nbytes for part in parts)
        codec = FourBit(height, width, weight, packed.where, state)
        info = TensorInfo(name, state.shape, "F32", weight.file, weight.offset, stored)
        encoding = Encoding(kind.upper(), 4, _shared(height, width, state))
        results[name] = (_presented(packed, info, codec, encoding), parts)
    return results


def _states(packed: Packed, found: Mapping[str, str]) -> dict[tuple[object, ...], State]:
    """Read the states, one of each likeness.

    The state of a weight lies behind its levels, far from that of the next one: over the Hub every state is a request.
    Weights of the same name in different layers with levels and scales of the same size have the same shape in every
    real model. Where one does not, :meth:`FourBit.compute` finds out, since it reads the state along with the levels.
    """
    first: dict[tuple[object, ...], str] = {}
    for name, kind in found.items():
        if name not in packed.tensors or f"{name}.absmax" not in packed.tensors:
            raise _wrong(packed, name, "has a quant_state, but no levels or no absmax")
        if packed.tensors[name].dtype not in STORAGE:
            raise UnsupportedEncoding(
                packed.where,
                f"the four-bit levels of '{shown(name, 120)}' are stored as {packed.tensors[name].dtype}",
                f"Save the model again with bnb_4bit_quant_storage in one of {', '.join(STORAGE)}.",
            )
        state = packed.tensors[f"{name}.quant_state.bitsandbytes__{kind}"]
        if state.dtype != "U8" or not 0 < state.nbytes <= _LARGEST_STATE:
            raise _wrong(packed, name, "has a quant_state that is no short text")
        first.setdefault(_likeness(packed, name, kind), name)
    texts = packed.read([Selection(f"{name}.quant_state.bitsandbytes__{found[name]}") for name in first.values()])
    return {
        likeness: parse_state(text_of(text), found[name], f"{name}.nested_absmax" in packed.tensors, name, packed.where)
        for (likeness, name), text in zip(first.items(), texts, strict=True)
    }


def _likeness(packed: Packed, name: str, kind: str) -> tuple[object, ...]:
    """Return what weights of equal states have in common: the name without numbers, and the sizes."""
    plain = ".".join("#" if part.isdigit() else part for part in name.split("."))
    absmax = packed.tensors[f"{name}.absmax"]
    return plain, kind, packed.tensors[name].nbytes, absmax.size, f"{name}.nested_absmax" in packed.tensors


def _parts(packed: Packed, name: str, kind: str) -> tuple[str, ...]:
    known = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", f"quant_state.bitsandbytes__{kind}")
    return (name, *(part for part in (f"{name}.{suffix}" for suffix in known) if part in packed.tensors))


def _check(packed: Packed, name: str, state: State) -> None:
    """Hold the sizes of the parts against the state."""
    weight, absmax = packed.tensors[name], packed.tensors[f"{name}.absmax"]
    size = prod(state.shape)
    if weight.nbytes != -(-size * 4 // STORAGE[weight.dtype].word) * STORAGE[weight.dtype].word // 8:
        raise _wrong(packed, name, f"has {weight.nbytes} bytes of levels, not those of {shown(list(state.shape), 80)}")
    blocks = -(-size // state.block)
    if absmax.size != blocks:
        raise _wrong(packed, name, f"has {absmax.size} scales for {blocks} blocks")
    if not state.nested:
        if absmax.dtype not in ("F32", "F16", "BF16"):
            raise _wrong(packed, name, f"has scales in {absmax.dtype} and nothing that says how to read them")
        return
    groups, table = packed.tensors[f"{name}.nested_absmax"], packed.tensors.get(f"{name}.nested_quant_map")
    if absmax.dtype != "U8" or table is None or table.dtype != "F32" or table.size != 256 or groups.dtype != "F32":
        raise _wrong(packed, name, "has scales that are quantised, but not as bitsandbytes does it")
    if groups.size != -(-blocks // state.nested):
        raise _wrong(packed, name, f"has {groups.size} nested scales for {blocks} blocks")


def _wrong(packed: Packed, name: str, problem: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(packed.where, f"'{shown(name, 120)}' {problem}", REMEDY)


def _shared(height: int, width: int, state: State) -> tuple[int, int]:
    """Return which rows and columns share scales; see the head of this module."""
    if width % state.block and state.block % width:
        return 0, 0
    columns = state.block if width > state.block else -1
    rows = max(1, state.block // width)
    reach = state.block * state.nested
    if rows > 1 or reach == 0 or width % reach == 0:
        return rows, columns
    if reach >= height * width:
        return -1, columns
    return (reach // width if reach % width == 0 else 0), columns


def _eight_bit(packed: Packed) -> dict[str, tuple[Derived, tuple[str, ...]]]:
    """Return the matrices of eight bits, each with the names of its parts."""
    results: dict[str, tuple[Derived, tuple[str, ...]]] = {}
    formats: dict[str, str] = {}
    for name, scales in packed.tensors.items():
        stem = name.removesuffix(".SCB")
        weight = packed.tensors.get(f"{stem}.weight")
        if stem == name or weight is None or weight.dtype != "I8":
            continue
        if len(weight.shape) != 2 or scales.dtype not in ("F32", "F16", "BF16") or scales.size != weight.shape[0]:
            raise _wrong(packed, weight.name, f"has {scales.size} scales in {scales.dtype}, not one for each row")
        parts = [weight.name, name]
        layout = packed.tensors.get(f"{stem}.weight_format")
        if layout is not None and layout.size == 1 and layout.dtype == "U8":
            formats[weight.name] = layout.name
            parts.append(layout.name)
        height, width = weight.shape
        stored = sum(packed.tensors[part].nbytes for part in parts)
        info = TensorInfo(weight.name, weight.shape, "F32", weight.file, weight.offset, stored)
        codec = EightBit(height, width, weight.name, name)
        results[weight.name] = (_presented(packed, info, codec, Encoding("INT8", 8, (1, -1))), tuple(parts))
    # One byte each, and all of them side by side: no other tensors of this type are in such a file.
    for weight_name, value in zip(formats, packed.read([Selection(name) for name in formats.values()]), strict=True):
        if int(value.reshape(-1)[0]) != _ROW_FORMAT:
            raise UnsupportedEncoding(
                packed.where,
                f"'{shown(weight_name, 120)}' is laid out for one kind of GPU",
                "Save the model again with a later bitsandbytes.",
            )
    return results


def _presented(packed: Packed, info: TensorInfo, codec: Matrix, encoding: Encoding) -> Derived:
    """Return the matrix as transformers has it before it is quantised."""
    if len(info.shape) == 2 and is_conv1d(info.name.removesuffix(".weight"), packed.config):
        turned = Encoding(encoding.name, encoding.bits, encoding.shared[::-1], 1)
        return Derived(replace(info, shape=info.shape[::-1], encoding=turned), Turned(codec))
    return Derived(replace(info, encoding=encoding), codec)


SCHEME = Scheme(
    name="bitsandbytes",
    methods=frozenset({"bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"}),
    unpack=_unpack,
    rows=(
        Row(
            "bitsandbytes NF4 and FP4, double quantisation or not",
            "yes",
            "as the files it is in; one short text for each kind of module when opened",
            "-",
            "Levels kept as F16 (`bnb_4bit_quant_storage`) are refused.",
        ),
        Row("bitsandbytes int8", "yes", "as the files it is in", "-", "Weights laid out for one GPU are refused."),
    ),
)
