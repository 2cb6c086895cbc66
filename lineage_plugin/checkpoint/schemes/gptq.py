"""GPTQ (arXiv:2210.17323) as AutoGPTQ, GPTQModel and AutoRound write it.

A layer of ``N`` outputs and ``K`` inputs is stored transposed, ``y = x W``: ``qweight`` ``[K * bits / 32, N]`` has the
levels of one output below each other, so that the inputs of a window lie together and an output lies scattered.
``qzeros`` ``[groups, N * bits / 32]`` and ``scales`` ``[groups, N]`` belong to groups of inputs. The weight is
``scale * (level - zero)``.

* ``checkpoint_format: gptq`` stores ``zero - 1``, ``gptq_v2`` stores ``zero``. Writers subtract 0x1111.. from packed
  words, with borrows between the fields; it is added back in the same way (GPTQModel 7.6, ``utils/model.py``). A field
  of three bits may lie in two words, there each zero point is reduced by itself.
* ``g_idx`` ``[K]`` is the group of each input. With ``desc_act: false`` inputs are in the order of their groups, and
  reading it would only add a request for each layer: one is read to see that the settings tell the truth. Otherwise it
  is read for the inputs wanted, together with the scales of all groups: which of them count is known only afterwards,
  and the inputs of a window belong to nearly all of them anyway.
* 5, 6 and 7 bits, and 3 bits of ``gptq_p``, lie in planes: in each run of 32 levels first the low bits of all, then the
  high ones (GPTQModel 7.6, ``utils/planar_packing.py``).

Columns are rounded one after the other, each corrected by the errors of those before it: their order matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import Derived, FloatArray, IntArray, Stored
from lineage_plugin.checkpoint.dtypes import BITS
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.names import shown
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
from lineage_plugin.checkpoint.schemes._parts import is_conv1d
from lineage_plugin.checkpoint.types import Encoding, Selection
from lineage_plugin.checkpoint.views import Turned
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["SCHEME"]

LevelArray = NDArray[np.uint8]

_WORDS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})
_FLOATS = frozenset({"F16", "BF16", "F32"})
_PLANES: dict[int, tuple[int, ...]] = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}
"""Widths of the planes, low bits first."""
_EMBEDDINGS = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings"})
"""Quantised embeddings are packed along the vocabulary, and are no transposed matrices."""
_OTHER_LAYOUTS = ("marlin", "bitblas", "exl", "qqq")


@dataclass(frozen=True, slots=True)
class Planes:
    """Levels whose bits lie in planes; the counterpart of :class:`~.._packing.Fields`.

    32 levels take ``bits`` words: for a plane of ``w`` bits ``w`` words with ``32 / w`` fields each.

    Attributes:
        bits: Bits of a level, a key of ``_PLANES``.
    """

    bits: int

    def words(self, columns: IntArray | None) -> IntArray | None:
        """Return the words that hold some columns, strictly increasing, or None for all."""
        if columns is None:
            return None
        return np.unique(np.concatenate([self._word(columns, *plane) for plane in self._planes()]))

    def levels(self, stored: NDArray[np.generic], columns: IntArray | None, count: int) -> LevelArray:
        """Return ``[..., columns]`` levels; see :meth:`Fields.levels`."""
        words = self.words(columns)
        names = np.arange(count, dtype=np.int64) if columns is None else columns
        result = np.zeros((*stored.shape[:-1], names.size), np.uint8)
        raw = stored.astype(np.uint32)
        for width, below in self._planes():
            place = self._word(names, width, below)
            here = place if words is None else np.searchsorted(words, place)
            shift = (names * width % 32).astype(np.uint32)
            field = raw[..., here] >> shift & np.uint32((1 << width) - 1)
            result |= (field << np.uint32(below)).astype(np.uint8)
        return result

    def _planes(self) -> list[tuple[int, int]]:
        """Return the width of each plane and the bits, which are also words of a run, below it."""
        widths = _PLANES[self.bits]
        return [(width, sum(widths[:i])) for i, width in enumerate(widths)]

    def _word(self, columns: IntArray, width: int, below: int) -> IntArray:
        return columns // 32 * self.bits + below + columns % 32 * width // 32


@dataclass(frozen=True, eq=False, slots=True)
class Gptq:
    """A layer, outputs as rows; satisfies :class:`~lineage_plugin.checkpoint.derived.Matrix`.

    Attributes:
        height: Outputs.
        width: Inputs.
        linear: The stored tensors.
        fields: How levels and zero points lie in words.
        groups: Groups of inputs.
        reduced: Whether zero points are stored reduced by one.
        order: Name of the groups of the inputs; None where inputs are in the order of their groups.
        where: The model, for messages.
    """

    height: int
    width: int
    linear: Linear
    fields: Fields | Planes
    groups: Groups
    reduced: bool
    order: str | None
    where: str

    def needs(self, rows: IntArray | None, columns: IntArray | None) -> list[Selection]:
        """Return the words, scales and zero points, and with act-order the groups, of the rows and columns."""
        groups = self.groups.wanted(columns) if self.order is None else None
        needs = [
            Selection(self.linear.qweight.name, self.fields.words(columns), rows),
            Selection(self.linear.scales.name, groups, rows),
            Selection(self.linear.qzeros.name, groups, self.fields.words(rows)),
        ]
        if self.order is not None:
            needs.append(Selection(self.order, columns))
        return needs

    def compute(self, rows: IntArray | None, columns: IntArray | None, stored: Stored) -> FloatArray:
        """Return ``[rows, columns]``.

        Raises:
            UnreadableCheckpoint: When inputs belong to groups that do not exist.
        """
        values = self.fields.levels(stored[0].T, columns, self.width).astype(np.float32)
        scales = np.ascontiguousarray(stored[1].T, dtype=np.float32)
        zeros = np.ascontiguousarray(self._zeros(stored[2], rows).T, dtype=np.float32)
        groups = self.groups.places(columns, self.width) if self.order is None else self._groups(stored[3])
        values -= np.take(zeros, groups, axis=1)
        values *= np.take(scales, groups, axis=1)
        return values

    def _zeros(self, stored: NDArray[np.generic], rows: IntArray | None) -> LevelArray:
        """Return ``[groups, rows]`` zero points."""
        bits = self.fields.bits
        if not self.reduced:
            return self.fields.levels(stored, rows, self.height)
        if isinstance(self.fields, Planes) or self.fields.word % bits:
            levels: LevelArray = self.fields.levels(stored, rows, self.height) + np.uint8(1)
            levels &= np.uint8((1 << bits) - 1)
            return levels
        kind = np.dtype(f"u{stored.dtype.itemsize}")
        one = kind.type(sum(1 << shift for shift in range(0, self.fields.word, bits)))
        return self.fields.levels(stored.astype(kind) + one, rows, self.height)

    def _groups(self, stored: NDArray[np.generic]) -> IntArray:
        groups = stored.reshape(-1).astype(np.int64)
        # Libraries index with them, so that negative ones count from the end.
        groups += np.where(groups < 0, self.groups.count, 0)
        if np.any((groups < 0) | (groups >= self.groups.count)):
            raise UnreadableCheckpoint(
                self.where, f"'{shown(self.order)}' names groups that do not exist", "Get the file again."
            )
        return groups


def _unpack(packed: Packed) -> Unpacked | None:
    method, layout = spoken_for(packed.settings), packing(packed.settings)
    if method == "awq":
        return None
    if method == "gptq" and (layout.startswith(_OTHER_LAYOUTS) or packed.settings.get("is_marlin_format") is True):
        raise UnsupportedEncoding(
            packed.where,
            f"the weights are GPTQ repacked for one kernel ('{shown(layout or 'marlin', 40)}'), which is not decoded",
            "Give them with checkpoint_format gptq or gptq_v2, or unquantised.",
        )
    codecs: list[Gptq] = []
    for linear in linears(packed):
        codec = _codec(linear, packed, layout)
        if codec is not None:
            codecs.append(codec)
        elif method == "gptq":
            raise contradiction(packed.where, linear)
    if not codecs:
        return None
    if _claims_order(packed.settings):
        codecs = _checked(packed, codecs)
    derived: dict[str, Derived] = {}
    for codec in codecs:
        derived[codec.linear.weight] = _weight(codec, packed.config)
    return Unpacked(derived, frozenset(part.name for codec in codecs for part in codec.linear.parts))


def _codec(linear: Linear, packed: Packed, layout: str) -> Gptq | None:
    """Return how a layer is decoded, inputs not known to be in order; None when it is not GPTQ."""
    qweight, qzeros, scales, g_idx = linear.qweight, linear.qzeros, linear.scales, linear.g_idx
    if any(len(part.shape) != 2 or part.size == 0 for part in (qweight, qzeros, scales)):
        return None
    if qweight.dtype not in _WORDS or qzeros.dtype != qweight.dtype or scales.dtype not in _FLOATS:
        return None
    if g_idx is not None and (len(g_idx.shape) != 1 or g_idx.dtype not in ("I32", "I64")):
        return None
    (words, outputs), (count, width) = qweight.shape, qzeros.shape
    if scales.shape != (count, outputs):
        return None
    word = BITS[qweight.dtype]
    asked = setting(packed.settings, "bits", "w_bit")
    fitting: list[tuple[int, int]] = []
    for bits in sorted(range(2, 9), key=lambda bits: bits != asked):
        inputs = words * word // bits if g_idx is None else g_idx.size
        if -(-outputs * bits // word) == width and -(-inputs * bits // word) == words:
            fitting.append((bits, inputs))
    # Where the settings do not decide, planes are no guess.
    fitting = [fit for fit in fitting if fit[0] in (asked, 2, 3, 4, 8)]
    if not fitting or (fitting[0][0] != asked and len(fitting) > 1):
        return None
    bits, inputs = fitting[0]
    planar = bits in (5, 6, 7) or (bits == 3 and layout == "gptq_p")
    if ((planar or bits == 3) and word != 32) or (planar and (inputs % 32 or outputs % 32)):
        return None
    groups = Groups.of(inputs, count, setting(packed.settings, "group_size", "q_group_size"))
    if groups is None:
        return None
    fields = Planes(bits) if planar else Fields(bits, word)
    order = None if g_idx is None or groups.count == 1 else g_idx.name
    return Gptq(outputs, inputs, linear, fields, groups, _is_reduced(packed.settings, layout), order, packed.where)


def _is_reduced(settings: Mapping[str, object], layout: str) -> bool:
    """Return whether zero points are stored reduced by one, which is what a layout without a name has."""
    if str(settings.get("quant_method", "")).lower() in ("gptq", ""):
        return layout not in ("gptq_v2", "gptq_p")
    # AutoRound: "auto_round:auto_gptq" is reduced, "auto_round" and "auto_round:gptqmodel" are not.
    return layout == "" or ("gptq" in layout and "gptqmodel" not in layout) or "packing_format" not in settings


def _claims_order(settings: Mapping[str, object]) -> bool:
    """Return whether the settings say that inputs of all layers are in the order of their groups."""
    layers = settings.get("dynamic")
    others = layers.values() if isinstance(layers, Mapping) else ()
    apart = any(isinstance(other, Mapping) and other.get("desc_act") is True for other in others)
    return settings.get("desc_act") is False and not apart


def _checked(packed: Packed, codecs: list[Gptq]) -> list[Gptq]:
    """Take inputs to be in order if those of the smallest layer with several groups are."""
    doubtful = [(codec.width, codec.order, codec.groups) for codec in codecs if codec.order is not None]
    if not doubtful:
        return codecs
    width, order, groups = min(doubtful, key=lambda item: item[0])
    found = packed.read([Selection(order)])[0].reshape(-1)
    if not np.array_equal(found, groups.places(None, width)):
        return codecs
    return [replace(codec, order=None) for codec in codecs]


def _weight(codec: Gptq, config: Mapping[str, object]) -> Derived:
    module = codec.linear.module
    turned = module.rpartition(".")[2] in _EMBEDDINGS or is_conv1d(module, config)
    shape = (codec.width, codec.height) if turned else (codec.height, codec.width)
    encoding = Encoding("GPTQ", codec.fields.bits, shared=(0, 1) if turned else (1, 0), axis=0 if turned else 1)
    return Derived(codec.linear.info(shape, encoding), Turned(codec) if turned else codec)


SCHEME = Scheme(
    name="GPTQ",
    methods=frozenset({"gptq", "auto-round", "auto_round", "autoround", "intel/auto-round"}),
    unpack=_unpack,
    rows=(
        Row(
            "GPTQ, 2 to 8 bits: v1 and v2 zero points, act-order, planes (AutoGPTQ, GPTQModel, AutoRound)",
            "yes",
            "header, then the words and groups of the rows and columns",
            "-",
            "Repacked for one kernel (Marlin, BitBLAS) it is not decoded. A whole row is scattered in the file.",
        ),
    ),
)
