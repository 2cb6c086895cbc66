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
  first. The mean does not depend on the order. The maximum stays the same when both rows have their scales in the same
  256, which is every ``256 * blocksize / width`` rows; it moves along when each row has 256 scales or a multiple of its
  own. Where a group of 256 ends inside a row, an exchange changes what the neighbours are rounded by: 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._bitsandbytes_state import REMEDY, TABLES, State, parse_state
from lineage_plugin.checkpoint.schemes._dequantised import Dequantised, Stored
from lineage_plugin.checkpoint.schemes._packing import Fields, look_up
from lineage_plugin.checkpoint.types import Encoding, Selection, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["SCHEME"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

_STATE = re.compile(r"^(?P<name>.+)\.quant_state\.bitsandbytes__(?P<kind>nf4|fp4)\Z", re.DOTALL)
_LARGEST_STATE = 1 << 16
_CHUNK = 1 << 18

_STORAGE = {
    "U8": Fields(4, 8, (1, 0)),
    "I8": Fields(4, 8, (1, 0)),
    "BF16": Fields(4, 16, (1, 0, 3, 2)),
    "F32": Fields(4, 32, (1, 0, 3, 2, 5, 4, 7, 6)),
}
"""Where the levels are in each type that ``bnb_4bit_quant_storage`` may name. Of F16 not every pattern survives being
read as a number."""

_ROW_FORMAT = 0
_INT8_UNIT = np.float32(7.874015718698502e-3)
"""1 / 127, as bitsandbytes rounds it."""

_CONV1D = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
_CONV1D_NAME = re.compile(r"\.(c_attn|q_attn|c_proj|c_fc)\.weight\Z")
"""Modules of transformers' ``Conv1D``, whose weights are ``[in, out]``; bitsandbytes stores them ``[out, in]``."""


@dataclass(frozen=True, eq=False, slots=True)
class _FourBit:
    """A matrix of four-bit levels; satisfies :class:`Codec`.

    Attributes:
        height: Rows.
        width: Columns.
        weight: The packed levels.
        where: The model, for messages.
        state: What is assumed of its state, the offset apart.
    """

    height: int
    width: int
    weight: TensorInfo
    where: str
    state: State

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the words and the blocks that hold the elements, and the state."""
        name = self.weight.name
        fields = _STORAGE[self.weight.dtype]
        if self._whole_words():
            needs = [Selection(name, rows, fields.words(columns), fields.length(self.width))]
        else:
            flat = None if rows is None and columns is None else self._flat(rows, columns)
            needs = [Selection(name, fields.words(flat), None, 1)]
        blocks, per_row = self._blocks(rows, columns)
        if per_row is None:
            needs.append(Selection(f"{name}.absmax", blocks, None, 1))
        else:
            needs.append(Selection(f"{name}.absmax", rows, per_row, self.width // self.state.block))
        needs.append(Selection(f"{name}.quant_state.bitsandbytes__{self.state.kind}"))
        if self.state.nested:
            groups = None if blocks is None else np.unique(blocks // self.state.nested)
            needs.append(Selection(f"{name}.nested_absmax", groups, None, 1))
            needs.append(Selection(f"{name}.nested_quant_map", None, None, 1))
        return needs

    def decode(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        state = parse_state(_text(stored[2]), self.state.kind, self.state.nested > 0, self.weight.name, self.where)
        if replace(state, offset=0.0) != replace(self.state, offset=0.0):
            raise UnreadableCheckpoint(
                self.where,
                f"the quant_state of '{shown(self.weight.name, 120)}' is not that of its namesakes in other layers",
                "Save the model again with one setting for all layers.",
            )
        blocks, per_row = self._blocks(rows, columns)
        scales = self._scales(stored, blocks, state.offset)
        table = TABLES[state.kind]
        fields = _STORAGE[self.weight.dtype]
        words = _bits(stored[0], self.weight.dtype)
        if self._whole_words():
            levels = fields.levels(words, columns, self.width)
        else:
            flat = None if rows is None and columns is None else self._flat(rows, columns)
            levels = fields.levels(words.reshape(1, -1), flat, self.height * self.width)
        shape = (
            self.height if rows is None else int(rows.size),
            self.width if columns is None else int(columns.size),
        )
        values = look_up(table, levels).reshape(shape)
        if columns is None and self.width % state.block == 0:
            grouped = values.reshape(shape[0], -1, state.block)
            grouped *= scales.reshape(shape[0], -1, 1)
        elif per_row is not None and columns is not None:
            values *= scales.reshape(shape[0], -1)[:, np.searchsorted(per_row, columns // state.block)]
        else:
            self._scale(values, rows, columns, blocks, scales)
        return values

    def _scale(
        self,
        values: FloatArray,
        rows: IntArray | None,
        columns: IntArray | None,
        blocks: IntArray | None,
        scales: FloatArray,
    ) -> None:
        """Scale elements whose blocks do not end where rows do, some rows at a time: places take twice the memory."""
        down = np.arange(self.height, dtype=np.int64) if rows is None else rows
        step = max(1, _CHUNK // values.shape[1])
        for start in range(0, values.shape[0], step):
            some = slice(start, start + step)
            owner = self._flat(down[some], columns)
            owner //= self.state.block
            place = owner if blocks is None else np.searchsorted(blocks, owner)
            values[some] *= scales[place].reshape(-1, values.shape[1])

    def _whole_words(self) -> bool:
        """Whether every row begins with a word."""
        return self.width * 4 % _STORAGE[self.weight.dtype].word == 0

    def _flat(self, rows: IntArray | None, columns: IntArray | None) -> IntArray:
        """Return the places of the elements in the flattened matrix, increasing."""
        down = np.arange(self.height, dtype=np.int64) if rows is None else rows
        across = np.arange(self.width, dtype=np.int64) if columns is None else columns
        return (down[:, None] * self.width + across).reshape(-1)

    def _blocks(self, rows: IntArray | None, columns: IntArray | None) -> tuple[IntArray | None, IntArray | None]:
        """Return the blocks that hold the elements, and which of its row's blocks those are where each row has its own.

        Returns:
            Blocks, increasing, None for all; blocks of a row, increasing, None where rows share blocks or all are read.
        """
        size = self.state.block
        if rows is None and columns is None:
            return None, None
        if self.width % size == 0:
            count = self.width // size
            per_row = np.arange(count, dtype=np.int64) if columns is None else np.unique(columns // size)
            down = np.arange(self.height, dtype=np.int64) if rows is None else rows
            return (down[:, None] * count + per_row).reshape(-1), per_row
        if columns is None and rows is not None:
            first, last = rows * self.width // size, (rows * self.width + self.width - 1) // size
            reach = np.arange(self.width // size + 2, dtype=np.int64)
            return np.unique(np.minimum(first[:, None] + reach, last[:, None])), None
        return np.unique(self._flat(rows, columns) // size), None

    def _scales(self, stored: Stored, blocks: IntArray | None, offset: float) -> FloatArray:
        """Return the scale of each block, in order."""
        raw = stored[1].reshape(-1)
        if not self.state.nested:
            return np.asarray(raw, np.float32)
        groups, table = np.asarray(stored[3], np.float32).reshape(-1), np.asarray(stored[4], np.float32).reshape(-1)
        own = (np.arange(raw.size, dtype=np.int64) if blocks is None else blocks) // self.state.nested
        place = own if blocks is None else np.searchsorted(np.unique(own), own)
        scales = look_up(table, raw.astype(np.uint8, copy=False))
        scales *= groups[place]
        scales += np.float32(offset)
        return scales


@dataclass(frozen=True, eq=False, slots=True)
class _EightBit:
    """A matrix of whole numbers with a scale a row; satisfies :class:`Codec`.

    Attributes:
        height: Rows.
        width: Columns.
        weight: Name of the numbers.
        scales: Name of the scales.
    """

    height: int
    width: int
    weight: str
    scales: str

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the numbers and the scales of the rows."""
        return [Selection(self.weight, rows, columns, self.width), Selection(self.scales, rows, None, 1)]

    def decode(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        values = stored[0].astype(np.float32)
        values *= np.asarray(stored[1], np.float32).reshape(-1, 1)
        values *= _INT8_UNIT
        return values


def _unpack(packed: Packed) -> Unpacked | None:
    four, eight = _four_bit(packed), _eight_bit(packed)
    if not four and not eight:
        return None
    derived = {name: derived for name, (derived, _) in (four | eight).items()}
    hidden = frozenset(part for _, parts in (four | eight).values() for part in parts)
    notes: tuple[str, ...] = ()
    if four:
        notes = ("bitsandbytes: weights of the same name and size in all layers are taken to have the same shape",)
    return Unpacked(derived, hidden, notes)


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
        codec = _FourBit(height, width, weight, packed.where, state)
        info = TensorInfo(name, state.shape, "F32", weight.file, weight.offset, stored)
        encoding = Encoding(kind.upper(), 4, _shared(height, width, state))
        results[name] = (_presented(packed, info, codec, encoding), parts)
    return results


def _states(packed: Packed, found: Mapping[str, str]) -> dict[tuple[object, ...], State]:
    """Read the states, one of each likeness.

    The state of a weight lies behind its levels, far from that of the next one: over the Hub every state is a request.
    Weights of the same name in different layers with levels and scales of the same size have the same shape in every
    real model. Where one does not, :meth:`_FourBit.decode` finds out, since it reads the state along with the levels.
    """
    first: dict[tuple[object, ...], str] = {}
    for name, kind in found.items():
        if name not in packed.tensors or f"{name}.absmax" not in packed.tensors:
            raise _wrong(packed, name, "has a quant_state, but no levels or no absmax")
        if packed.tensors[name].dtype not in _STORAGE:
            raise UnsupportedEncoding(
                packed.where,
                f"the four-bit levels of '{shown(name, 120)}' are stored as {packed.tensors[name].dtype}",
                f"Save the model again with bnb_4bit_quant_storage in one of {', '.join(_STORAGE)}.",
            )
        state = packed.tensors[f"{name}.quant_state.bitsandbytes__{kind}"]
        if state.dtype != "U8" or not 0 < state.nbytes <= _LARGEST_STATE:
            raise _wrong(packed, name, "has a quant_state that is no short text")
        first.setdefault(_likeness(packed, name, kind), name)
    texts = packed.read([Selection(f"{name}.quant_state.bitsandbytes__{found[name]}") for name in first.values()])
    return {
        likeness: parse_state(_text(text), found[name], f"{name}.nested_absmax" in packed.tensors, name, packed.where)
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


def _bits(stored: NDArray[np.generic], dtype: str) -> NDArray[np.generic]:
    """Return levels that were read as numbers of a storage type as the words they are."""
    if dtype in ("U8", "I8"):
        return stored
    words = np.ascontiguousarray(stored).view(np.uint32)
    # bfloat16 is the upper half of a float32.
    return (words >> np.uint32(16)).astype(np.uint16) if dtype == "BF16" else words


def _text(stored: NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(stored).tobytes()


def _check(packed: Packed, name: str, state: State) -> None:
    """Hold the sizes of the parts against the state."""
    weight, absmax = packed.tensors[name], packed.tensors[f"{name}.absmax"]
    size = prod(state.shape)
    if weight.nbytes != -(-size * 4 // _STORAGE[weight.dtype].word) * _STORAGE[weight.dtype].word // 8:
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
        codec = _EightBit(height, width, weight.name, name)
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


def _presented(packed: Packed, info: TensorInfo, codec: _FourBit | _EightBit, encoding: Encoding) -> Derived:
    """Return the matrix as transformers has it before it is quantised."""
    kind = packed.config.get("model_type")
    if isinstance(kind, str) and kind in _CONV1D and len(info.shape) == 2 and _CONV1D_NAME.search("." + info.name):
        turned = Encoding(encoding.name, encoding.bits, encoding.shared[::-1], 1)
        return Dequantised(replace(info, shape=info.shape[::-1], encoding=turned), codec, turned=True)
    return Dequantised(replace(info, encoding=encoding), codec)


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
