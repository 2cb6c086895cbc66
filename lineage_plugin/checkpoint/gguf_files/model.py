"""From the records of a GGUF file to the tensors of the model it was converted from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lineage_plugin.checkpoint.derived import Derived, Matrix
from lineage_plugin.checkpoint.gguf_files.blocks import (
    BlockLines,
    SwappedLines,
    has_library,
    is_decodable,
    missing_library,
)
from lineage_plugin.checkpoint.gguf_files.config import per_layer
from lineage_plugin.checkpoint.gguf_files.header import Record
from lineage_plugin.checkpoint.gguf_files.names import ARCHITECTURES, COMPUTED, Architecture, Place, locate
from lineage_plugin.checkpoint.gguf_files.views import InTurns, Shifted, grouped_order
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.checkpoint.views import Order, Ordered, Part, Plain, Turned, axes_order
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["Found", "Model", "restore"]

_MOST_EXPERTS = 1 << 17
"""Most tensors that stacked experts may be taken apart into; the largest real models have 70,000."""
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class Found:
    """A record and the file it was found in.

    Attributes:
        record: The tensor.
        file: Its file.
        big_endian: The byte order of the file.
    """

    record: Record
    file: str
    big_endian: bool


@dataclass(eq=False)
class Model:
    """The tensors of the model.

    Attributes:
        where: The model, for messages.
        architecture: ``general.architecture``.
        values: Key-value pairs.
        tensors: Stored tensors.
        derived: Tensors computed from stored ones.
        hidden: Stored tensors under names that are not the model's.
        notes: What was assumed or left aside.
    """

    where: str
    architecture: str
    values: Mapping[str, object]
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    derived: dict[str, Derived] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def number(self, key: str, layer: int | None) -> int | None:
        """Return a positive setting of the architecture."""
        return per_layer(self.values, f"{self.architecture}.{key}", layer)

    def keep(self, found: Found, name: str) -> None:
        """Add a tensor that was not changed."""
        record = found.record
        numbers = record.numbers
        if not record.nbytes:
            self._add(TensorInfo(name, record.shape, "F32", found.file, record.offset, 0))
        elif numbers.plain in _FLOATS and not found.big_endian:
            self._add(TensorInfo(name, record.shape, numbers.plain, found.file, record.offset, record.nbytes))
        else:
            self.put(found, name, self.lines(found))

    def put(
        self,
        found: Found,
        name: str,
        lines: Matrix,
        *,
        shape: tuple[int, ...] | None = None,
        part: tuple[int, int, int] = (0, 1, 1),
        turned: bool = False,
        computed: bool = False,
    ) -> None:
        """Add a tensor that is computed from stored ones.

        Args:
            found: Where it is stored.
            name: Its name in the model.
            lines: Its elements.
            shape: Its shape if it is not that of the record.
            part: Its bytes: the first of so many equal parts of the record, how many, and of how many.
            turned: Whether rows and columns were exchanged.
            computed: Whether its numbers are not those that are stored.
        """
        record, (first, count, parts) = found.record, part
        numbers = record.numbers
        each = record.nbytes // parts
        # Numbers that were only put elsewhere are still of the type they are stored in.
        kind = numbers.plain if numbers.plain in _FLOATS and not computed else None
        encoding = numbers.encoding
        if turned and encoding is not None:
            encoding = Encoding(encoding.name, encoding.bits, (encoding.shared[1], encoding.shared[0]), 1)
        info = TensorInfo(
            name,
            record.shape if shape is None else shape,
            kind or "F32",
            found.file,
            record.offset + first * each,
            count * each,
            encoding,
        )
        self._add(info, Derived(info, lines))

    def lines(self, found: Found) -> Matrix:
        """Return the lines of a stored tensor, and list it among the hidden ones."""
        record, numbers = found.record, found.record.numbers
        width = record.shape[-1] if record.shape else 1
        height = math.prod(record.shape[:-1])
        stored = f"gguf/{record.name}"
        direct = numbers.plain is not None and not found.big_endian
        if stored not in self.hidden:
            pitch = width // numbers.elements * numbers.nbytes
            shape, kind = ((height, width), numbers.plain or "") if direct else ((height, pitch), "U8")
            self._add(TensorInfo(stored, shape, kind, found.file, record.offset, record.nbytes))
            self.hidden.add(stored)
        if numbers.plain is None:
            where = f"{self.where}/{shown(found.file)}: {shown(record.name)}"
            return BlockLines(stored, height, width, numbers, found.big_endian, where)
        if found.big_endian:
            return SwappedLines(stored, height, width, numbers.plain)
        return Plain(stored, height, width)

    def _add(self, info: TensorInfo, derived: Derived | None = None) -> None:
        if info.name in self.tensors or info.name in self.derived:
            raise UnreadableCheckpoint(
                self.where, f"two tensors stand for '{shown(info.name, 120)}'", "Convert the model again."
            )
        if derived is None:
            self.tensors[info.name] = info
        else:
            self.derived[info.name] = derived


def restore(where: str, architecture: str, values: Mapping[str, object], tensors: Sequence[Found]) -> Model:
    """Put tensors back under the names and into the layouts of transformers.

    Args:
        where: The model, for messages.
        architecture: ``general.architecture``.
        values: Key-value pairs.
        tensors: All tensors of all files.

    Raises:
        UnsupportedEncoding: When most bytes are in types that are not decoded, or a library is missing.
        UnreadableCheckpoint: When two tensors end up under one name.
    """
    model = Model(where, architecture, values)
    known = ARCHITECTURES.get(architecture)
    if known is None:
        model.notes.append(
            f"The GGUF architecture '{shown(architecture, 40)}' is not known, so tensors keep the names of the file."
        )
    readable = _readable(model, tensors)
    strange: list[str] = []
    waiting: dict[tuple[int, str], dict[str, Found]] = {}
    experts = 0
    for found in readable:
        name = found.record.name
        place = locate(known, name) if known is not None else None
        if known is None or place is None:
            if name.removesuffix(".weight").rpartition(".")[2] in COMPUTED:
                continue
            model.keep(found, name)
            strange.append(name)
        elif place.stacked and known.joined and place.layer is not None:
            waiting.setdefault((place.layer, place.leaf), {})[place.stacked] = found
        elif place.stacked:
            experts += math.prod(found.record.shape[:-2]) * len(place.stacked.split("_"))
            if experts > _MOST_EXPERTS:
                raise UnreadableCheckpoint(where, f"stacked experts hold more than {_MOST_EXPERTS} matrices", "")
            if not _take_apart(model, known, found, place):
                strange.append(name)
        elif not _arrange(model, known, found, place):
            strange.append(name)
    for (layer, leaf), parts in waiting.items():
        if not _join(model, f"{known.layers if known else ''}.{layer}.mlp.experts", leaf, parts):
            strange += [found.record.name for found in parts.values()]
    if known is not None and strange:
        model.notes.append(
            f"{len(strange)} tensors keep the names of the GGUF file, among them '{shown(strange[0], 80)}'."
        )
    return model


def _readable(model: Model, tensors: Sequence[Found]) -> list[Found]:
    """Return the tensors that can be decoded; refuse a model of which that is the lesser part."""
    bad = [t for t in tensors if not is_decodable(t.record.numbers, t.big_endian)]
    if bad:
        first = max(bad, key=lambda t: t.record.nbytes)
        kind = first.record.numbers.name
        if 2 * _bytes(bad) > _bytes(tensors) or len(bad) == len(tensors):
            order = " in big-endian order" if first.big_endian else ""
            raise UnsupportedEncoding(
                f"{model.where}/{shown(first.file)}",
                f"tensor '{shown(first.record.name, 120)}' is stored as {kind}{order}, which is not decoded",
                "Give the model in another quantisation.",
            )
        model.notes.append(
            f"{len(bad)} tensors of types that are not decoded were left out, among them "
            f"'{shown(first.record.name, 80)}' ({kind})."
        )
    left = {id(t) for t in bad}
    good = [t for t in tensors if id(t) not in left]
    packed = next((t.record.numbers for t in good if not t.record.numbers.plain), None)
    if packed is not None and not has_library():
        raise missing_library(model.where, packed.name)
    return good


def _bytes(tensors: Iterable[Found]) -> int:
    return sum(t.record.nbytes for t in tensors)


def _arrange(model: Model, known: Architecture, found: Found, place: Place) -> bool:
    """Add a tensor in the layout of transformers; when that is not certain, as it is, and return False."""
    record = found.record
    rank, weight = len(record.shape), place.leaf == "weight"
    turned = place.module in known.turned and weight and rank == 2
    shifted = known.plus_one and weight and place.module.endswith("norm")
    order: Order | None = None
    if "+" in place.module:
        return _unfuse(model, known, found, place)
    if known.pairs and place.module in ("attn_q", "attn_k") and (weight or known.pairs == "all"):
        order = _pairs(model, record.shape[0] if record.shape else 0, place.module, place.layer)
    elif known.fused and place.module == "attn_qkv":
        order = _fused(model, known, record, place)
    elif not turned and not shifted:
        model.keep(found, place.name)
        return True
    if (order is None and not turned and not shifted) or not record.nbytes or rank not in (1, 2):
        model.keep(found, record.name)
        return False
    lines = model.lines(found)
    if rank == 1:
        lines = Turned(lines)
    if order is not None:
        lines = Ordered(lines, order)
    if shifted:
        lines = Shifted(lines, -1.0)
    if turned:
        lines = Turned(lines)
    shape = tuple(reversed(record.shape)) if turned else record.shape
    model.put(found, place.name, lines, shape=shape, turned=turned, computed=shifted)
    return True


def _pairs(model: Model, rows: int, module: str, layer: int | None) -> Order | None:
    """Return the order of rows whose rotary pairs are neighbours in the file."""
    heads = model.number("attention.head_count", layer)
    if module == "attn_k":
        heads = model.number("attention.head_count_kv", layer) or heads
    if heads is None or rows % (2 * heads):
        return None
    return axes_order((heads, 2, rows // heads // 2), (0, 2, 1))


def _fused(model: Model, known: Architecture, record: Record, place: Place) -> Order | None:
    """Return the order of the rows of fused queries, keys and values."""
    heads = model.number("attention.head_count", place.layer)
    rows = record.shape[0] if record.shape else 0
    if heads is None:
        return None
    if known.fused == "heads":
        return axes_order((heads, 3, rows // 3 // heads), (1, 0, 2)) if rows % (3 * heads) == 0 else None
    groups = model.number("attention.head_count_kv", place.layer) or 1
    if heads % groups or rows % (heads + 2 * groups):
        return None
    return grouped_order(groups, heads // groups, rows // (heads + 2 * groups))


def _unfuse(model: Model, known: Architecture, found: Found, place: Place) -> bool:
    """Add query, key and value that the file has in one tensor; when their sizes are not certain, return False."""
    record = found.record
    heads = model.number("attention.head_count", place.layer)
    groups = model.number("attention.head_count_kv", place.layer) or heads
    rows = record.shape[0] if len(record.shape) in (1, 2) and record.nbytes else 0
    if heads is None or groups is None or rows == 0 or rows % (heads + 2 * groups):
        model.keep(found, record.name)
        return False
    size = rows // (heads + 2 * groups)
    lines = model.lines(found) if len(record.shape) == 2 else Turned(model.lines(found))
    first = 0
    for module, count in zip(place.module.split("+"), (heads, groups, groups), strict=True):
        part: Matrix = Part(lines, first * size, count * size)
        if known.pairs and module != "attn_v" and (place.leaf == "weight" or known.pairs == "all"):
            order = _pairs(model, count * size, module, place.layer)
            part = part if order is None else Ordered(part, order)
        shape = (count * size, *record.shape[1:])
        model.put(
            found,
            f"{place.name}{known.inside[module]}.{place.leaf}",
            part,
            shape=shape,
            part=(first, count, rows // size),
        )
        first += count
    return True


def _take_apart(model: Model, known: Architecture, found: Found, place: Place) -> bool:
    """Add stacked experts one by one; when they are no matrices, as they are, and return False."""
    record = found.record
    if known.experts is None or len(record.shape) != 3 or place.leaf != "weight" or not record.nbytes:
        model.keep(found, record.name)
        return False
    projections = place.stacked.split("_")
    count, height, width = record.shape
    parts = len(projections) * count
    height, rest = divmod(height, len(projections))
    if rest:
        model.keep(found, record.name)
        return False
    lines = model.lines(found)
    start = place.name.removesuffix(known.experts.parent)
    for at in range(parts):
        number, projection = divmod(at, len(projections))
        name = f"{start}{known.experts.name(projections[projection], number)}.weight"
        model.put(found, name, Part(lines, at * height, height), shape=(height, width), part=(at, 1, parts))
    return True


def _join(model: Model, parent: str, leaf: str, parts: Mapping[str, Found]) -> bool:
    """Add the experts of GPT-OSS: ``[experts, inputs, outputs]``, gate and up in turns, biases without inputs."""
    gate, up, down = (parts.get(name) for name in ("gate", "up", "down"))
    rank = 3 if leaf == "weight" else 2
    ending = "" if leaf == "weight" else "_bias"
    whole = True
    if down is not None:
        shape = down.record.shape
        if len(shape) != rank or not down.record.nbytes:
            model.keep(down, down.record.name)
            whole = False
        elif rank == 2:
            model.keep(down, f"{parent}.down_proj{ending}")
        else:
            turned = Turned(model.lines(down), shape[0])
            model.put(down, f"{parent}.down_proj", turned, shape=(shape[0], shape[2], shape[1]), turned=True)
    pair = [found for found in (gate, up) if found is not None]
    fits = len(pair) == 2 and pair[0].record.shape == pair[1].record.shape and len(pair[0].record.shape) == rank
    if not fits or not all(found.record.nbytes for found in pair):
        for found in pair:
            model.keep(found, found.record.name)
        return whole and not pair
    shape = pair[0].record.shape
    first, second = (model.lines(found) for found in pair)
    joined: Matrix = InTurns(first, second)
    if rank == 3:
        joined = InTurns(Turned(first, shape[0]), Turned(second, shape[0]))
    shape = (shape[0], shape[2], 2 * shape[1]) if rank == 3 else (shape[0], 2 * shape[1])
    both = replace(pair[0].record, nbytes=pair[0].record.nbytes + pair[1].record.nbytes)
    model.put(replace(pair[0], record=both), f"{parent}.gate_up_proj{ending}", joined, shape=shape, turned=rank == 3)
    return whole
