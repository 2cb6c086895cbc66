"""AWQ (arXiv:2306.00978) as AutoAWQ, GPTQModel, AutoRound and llm-awq write it.

The weight is ``scale * (level - zero)`` with a scale and a zero point for each output and each group of inputs. There
are three layouts of ``N`` outputs and ``K`` inputs (AutoAWQ 0.2.9, ``modules/linear``):

* gemm, which nearly every model has: ``qweight`` ``[K, N / 8]``, ``qzeros`` ``[groups, N / 8]``, ``scales``
  ``[groups, N]``. Output ``i`` of eight lies at place ``0 4 1 5 2 6 3 7`` of its word. An input is a row of the file,
  an output lies scattered. GPTQModel writes other widths than four bits as one stream, in plain order.
* gemv: ``qweight`` ``[N, K / 8]`` in plain order; ``qzeros`` ``[N, words]`` and ``scales`` ``[N, 8 * words]``, padded.
* gemv_fast, and llm-awq: ``qweight`` I16 ``[N / 4, K]``, four outputs interleaved by 64 inputs; ``scales`` and the
  products ``-scale * zero`` (``qzeros``, ``scaled_zeros``) are ``[padded groups, N]``.

Before it rounds, AWQ multiplies the inputs of a layer by factors that it takes out of the layer before: the weights
read here are those of an equivalent network, a positive factor a column away from the original ones. Rounding itself
is to nearest, with a scale a group: inside of a group the order does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import Derived, FloatArray, IntArray, Stored
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._linear import (
    Groups,
    Linear,
    contradiction,
    linears,
    packing,
    setting,
    spoken_for,
)
from lineage_plugin.checkpoint.schemes._packing import Fields
from lineage_plugin.checkpoint.types import Encoding, Selection
from lineage_plugin.checkpoint.views import Turned
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["SCHEME"]


_WORDS = frozenset({"I32", "U32"})
_FLOATS = frozenset({"F16", "BF16", "F32"})
_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
_RUN = 64
"""Inputs of one output that lie together in gemv_fast."""
_INTERLEAVED = 4
"""Outputs whose runs alternate in gemv_fast, and levels of a word."""
_USUAL = (128, 64, 32, 16)
"""Inputs of a group when the settings do not say."""


@dataclass(frozen=True, eq=False, slots=True)
class Gemm:
    """The layout with inputs as rows; satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`.

    Attributes:
        height: Inputs.
        width: Outputs.
        linear: The stored tensors.
        fields: How levels and zero points lie in words.
        groups: Groups of inputs.
    """

    height: int
    width: int
    linear: Linear
    fields: Fields
    groups: Groups

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the words, scales and zero points of the rows and columns."""
        groups, words = self.groups.wanted(rows), self.fields.words(columns)
        return [
            Selection(self.linear.qweight.name, rows, words),
            Selection(self.linear.scales.name, groups, columns),
            Selection(self.linear.qzeros.name, groups, words),
        ]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        values = self.fields.levels(stored[0], columns, self.width).astype(np.float32)
        zeros = self.fields.levels(stored[2], columns, self.width).astype(np.float32)
        groups = self.groups.places(rows, self.height)
        values -= zeros[groups]
        values *= np.asarray(stored[1], np.float32)[groups]
        return values


@dataclass(frozen=True, eq=False, slots=True)
class Gemv:
    """The layout with outputs as rows; satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`.

    Attributes:
        height: Outputs.
        width: Inputs.
        linear: The stored tensors.
        groups: Groups of inputs; rows of scales are longer.
    """

    height: int
    width: int
    linear: Linear
    groups: Groups

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the words, scales and zero points of the rows and columns."""
        groups = self._stored(columns)
        return [
            Selection(self.linear.qweight.name, rows, Fields(4).words(columns)),
            Selection(self.linear.scales.name, rows, groups),
            Selection(self.linear.qzeros.name, rows, Fields(4).words(groups)),
        ]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        values = Fields(4).levels(stored[0], columns, self.width).astype(np.float32)
        zeros = Fields(4).levels(stored[2], self._stored(columns), self.groups.count).astype(np.float32)
        groups = self.groups.places(columns, self.width)
        values -= zeros[:, groups]
        values *= np.asarray(stored[1], np.float32)[:, groups]
        return values

    def _stored(self, columns: IntArray | None) -> IntArray:
        """Return the groups to read: what pads the rows is left out."""
        wanted = self.groups.wanted(columns)
        return np.arange(self.groups.count, dtype=np.int64) if wanted is None else wanted


@dataclass(frozen=True, eq=False, slots=True)
class GemvFast:
    """The layout with four outputs interleaved; satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`.

    Attributes:
        height: Outputs, a multiple of 4.
        width: Inputs, a multiple of 64.
        linear: The stored tensors.
        groups: Groups of inputs; there are more rows of scales.
    """

    height: int
    width: int
    linear: Linear
    groups: Groups

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the words, scales and zero points of the rows and columns."""
        fours = None if rows is None else np.unique(rows // _INTERLEAVED)
        wanted = self.groups.wanted(columns)
        groups = np.arange(self.groups.count, dtype=np.int64) if wanted is None else wanted
        return [
            Selection(self.linear.qweight.name, fours, self._words(rows, columns)),
            Selection(self.linear.scales.name, groups, rows),
            Selection(self.linear.qzeros.name, groups, rows),
        ]

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``."""
        outputs = np.arange(self.height, dtype=np.int64) if rows is None else rows
        inputs = np.arange(self.width, dtype=np.int64) if columns is None else columns
        words = self._words(rows, columns)
        four = outputs // _INTERLEAVED if rows is None else np.unique(outputs // _INTERLEAVED, return_inverse=True)[1]
        values = np.empty((outputs.size, inputs.size), np.float32)
        raw = stored[0].astype(np.uint16)
        for lane in range(_INTERLEAVED):
            mine = np.flatnonzero(outputs % _INTERLEAVED == lane)
            if mine.size:
                place, shift = _lie(inputs, lane)
                here = place if words is None else np.searchsorted(words, place)
                levels = raw[four[mine][:, None], here] >> shift & np.uint16(15)
                values[mine] = levels
        groups = self.groups.places(columns, self.width)
        values *= np.asarray(stored[1], np.float32).T[:, groups]
        values += np.asarray(stored[2], np.float32).T[:, groups]
        return values

    def _words(self, rows: IntArray | None, columns: IntArray | None) -> IntArray | None:
        """Return the words of a run of four outputs that hold the columns of some of them."""
        if columns is None:
            return None
        lanes = range(_INTERLEAVED) if rows is None else np.unique(rows % _INTERLEAVED).tolist()
        return np.unique(np.concatenate([_lie(columns, lane)[0] for lane in lanes]))


def _lie(inputs: IntArray, lane: int) -> tuple[IntArray, NDArray[np.uint16]]:
    """Return the word and the first bit in it of some inputs of an output, the ``lane``-th of four."""
    run, inside = np.divmod(inputs, _RUN)
    place = inside // 32 * 32 + _places()[inside % 32]
    word = run * _RUN + lane * (_RUN // _INTERLEAVED) + place // _INTERLEAVED
    return word, (place % _INTERLEAVED * 4).astype(np.uint16)


@cache
def _places() -> IntArray:
    """Return where each of 32 inputs lies: pairs of four eights alternate, then even and odd ones of eight part."""
    order = np.arange(32).reshape(4, 4, 2).transpose(1, 0, 2).reshape(4, 4, 2).transpose(0, 2, 1).reshape(32)
    return np.argsort(order).astype(np.int64)


def _unpack(packed: Packed) -> Unpacked | None:
    method, layout = spoken_for(packed.settings), packing(packed.settings)
    if method == "gptq":
        return None
    if method == "awq" and "marlin" in layout:
        raise UnsupportedEncoding(
            packed.where,
            "the weights are AWQ repacked for the kernel 'marlin', which is not decoded",
            "Give them with version gemm, or unquantised.",
        )
    derived: dict[str, Derived] = {}
    hidden: set[str] = set()
    for linear in linears(packed):
        found = _weight(linear, packed, "gemv" in layout)
        if found is None and method == "awq":
            raise contradiction(packed.where, linear)
        if found is not None:
            derived[linear.weight] = found
            hidden.update(part.name for part in linear.parts)
    return Unpacked(derived, frozenset(hidden)) if derived else None


def _weight(linear: Linear, packed: Packed, gemv: bool) -> Derived | None:
    """Return the weight of a layer; None when it is not AWQ."""
    if any(len(part.shape) != 2 or part.size == 0 for part in (linear.qweight, linear.qzeros, linear.scales)):
        return None
    if linear.scales.dtype not in _FLOATS:
        return None
    hint = setting(packed.settings, "group_size", "q_group_size")
    if linear.qweight.dtype == "I16":
        fast = _gemv_fast(linear, hint)
        return None if fast is None else _presented(fast, 4)
    if linear.qweight.dtype not in _WORDS or linear.qzeros.dtype not in _WORDS:
        return None
    gemm = None if gemv else _gemm(linear, setting(packed.settings, "bits", "w_bit"), hint)
    if gemm is not None:
        return _presented(gemm, gemm.fields.bits)
    plain = _gemv(linear, hint)
    return None if plain is None else _presented(plain, 4)


def _presented(codec: Gemm | Gemv | GemvFast, bits: int) -> Derived:
    turned = isinstance(codec, Gemm)
    shape = (codec.width, codec.height) if turned else (codec.height, codec.width)
    shared = (1, -1 if codec.groups.count == 1 else codec.groups.size)
    encoding = Encoding("AWQ", bits, shared=shared, axis=1 if turned else 0)
    return Derived(codec.linear.info(shape, encoding), Turned(codec) if turned else codec)


def _gemm(linear: Linear, asked: int | None, hint: int | None) -> Gemm | None:
    (inputs, words), (count, outputs) = linear.qweight.shape, linear.scales.shape
    groups = Groups.of(inputs, count, hint)
    if linear.qzeros.shape != (count, words) or groups is None:
        return None
    fitting = [bits for bits in range(2, 9) if -(-outputs * bits // 32) == words]
    bits = next((bits for bits in (asked, 4, *fitting) if bits in fitting), None)
    if bits is None or (bits == 4 and outputs % 8):
        return None
    return Gemm(inputs, outputs, linear, Fields(bits, 32, _ORDER if bits == 4 else None), groups)


def _gemv(linear: Linear, hint: int | None) -> Gemv | None:
    (outputs, words), padded = linear.qweight.shape, linear.qzeros.shape[1]
    if linear.qzeros.shape[0] != outputs or linear.scales.shape != (outputs, 8 * padded):
        return None
    groups = _padded(8 * words, 8 * padded, hint)
    return None if groups is None else Gemv(outputs, 8 * words, linear, groups)


def _gemv_fast(linear: Linear, hint: int | None) -> GemvFast | None:
    (fours, inputs), (padded, outputs) = linear.qweight.shape, linear.scales.shape
    if outputs != _INTERLEAVED * fours or inputs % _RUN or linear.qzeros.shape != (padded, outputs):
        return None
    if linear.qzeros.dtype not in _FLOATS:
        return None
    groups = _padded(inputs, padded, hint)
    return None if groups is None else GemvFast(outputs, inputs, linear, groups)


def _padded(inputs: int, stored: int, hint: int | None) -> Groups | None:
    """Return the groups of which there is room for ``stored``, the last of them unused.

    Groups fill words of eight, and with less than 128 inputs each, so many words that they cover 1024 inputs (AutoAWQ
    0.2.9, ``calculate_zeros_width``).
    """
    for size in (hint or _USUAL[0], *_USUAL, inputs):
        unit = 8 * max(1, 128 // size)
        count = inputs // size
        if count and inputs % size == 0 and -(-count // unit) * unit == stored:
            return Groups(size, count)
    return None


SCHEME = Scheme(
    name="AWQ",
    methods=frozenset({"awq"}),
    unpack=_unpack,
    rows=(
        Row(
            "AWQ: gemm, gemv, gemv_fast (AutoAWQ, GPTQModel, AutoRound, llm-awq)",
            "yes",
            "header, then the words and groups of the rows and columns",
            "-",
            "A whole row is scattered in the file with gemm. Repacked for Marlin it is not decoded.",
        ),
    ),
)
