"""ONNX: graphs exported from PyTorch, with their weights inside or in a file beside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from lineage_plugin.checkpoint.foreign.window import known_size
from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.layout import Layout
from lineage_plugin.checkpoint.names import is_plain_path, shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

if TYPE_CHECKING:
    from lineage_plugin.checkpoint.foreign.onnx_graph import Graph, Initialiser

__all__ = ["FORMAT"]

_LARGEST_REMOTE = 32 << 20
"""Largest graph that is fetched whole from the Hub; that of a 7B model with its weights beside has 2 MB."""
_FOLDERS = ("", "onnx/")
_PREFERRED = ("model", "model_fp16", "decoder_model_merged", "decoder_model", "text_model", "encoder_model")
_QUANTISED = ("_quantized", "_int8", "_uint8", "_q4", "_q4f16", "_q8", "_bnb4", "_quant", "-int4", "_int4")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_SMALL = frozenset({"U8", "I8", ""})


def _find(names: Collection[str], where: str) -> Layout | None:
    for folder in _FOLDERS:
        here = [name for name in names if name.endswith(".onnx") and name.startswith(folder)]
        stems = {name[len(folder) : -len(".onnx")]: name for name in here if "/" not in name[len(folder) :]}
        if not stems:
            continue
        for stem in _PREFERRED:
            if stem in stems:
                return Layout(None, (stems[stem],))
        plain = sorted(stem for stem in stems if not stem.lower().endswith(_QUANTISED)) or sorted(stems)
        if len(plain) > 1:
            listed = ", ".join(shown(stems[stem], 60) for stem in plain[:3])
            raise UnreadableCheckpoint(
                where, f"it is not clear which of {len(plain)} ONNX files is meant ({listed})", "Give one of them."
            )
        return Layout(None, (stems[plain[0]],))
    return None


def _open(source: Source, layout: Layout) -> Opened:
    # Most models are opened in another format, and need not wait for this one's parser.
    from lineage_plugin.checkpoint.foreign.arranged import Store
    from lineage_plugin.checkpoint.foreign.onnx_graph import read_graph
    from lineage_plugin.checkpoint.foreign.onnx_names import torch_names
    from lineage_plugin.checkpoint.foreign.window import Window, not_over_the_hub

    file = layout.files[0] if layout.files else (layout.index or "")
    window = Window(source, file, "ONNX file")
    if not source.local:
        if window.size > _LARGEST_REMOTE:
            problem = f"an ONNX file of {window.size >> 20} MB with its weights inside is not read over the Hub"
            raise not_over_the_hub(source, file, problem)
        source.bytes(file, 0, window.size)
    graph = read_graph(window)
    _refuse_quantised(window.where, graph, source.files)
    store, files, lost = Store(), {file}, 0
    for name, (held, turned) in torch_names(graph).items():
        tensor = graph.initialisers[held]
        if tensor.dtype not in _FLOATS or not tensor.nbytes:
            continue
        info = _stored(source, file, tensor, window.where)
        if info is None:
            lost += 1
            continue
        files.add(info.file)
        rank = len(tensor.shape)
        store.add(name, (info,), tensor.shape, (1, 0) if turned else tuple(range(rank)))
    if not store.tensors:
        raise UnsupportedEncoding(
            window.where, "the graph holds no weights that can be read", "Give the original model."
        )
    return Opened(
        "onnx",
        tuple(sorted(files)),
        store.tensors,
        derived=store.derived,
        hidden=frozenset(store.hidden),
        metadata={"producer": shown(graph.producer, 100)} if graph.producer else {},
        notes=_notes(source.files, file, graph, lost),
    )


def _stored(source: Source, file: str, tensor: Initialiser, where: str) -> TensorInfo | None:
    """Return where the numbers of a constant lie; None when they are written in a form of their own."""
    if tensor.external is None:
        if tensor.offset < 0:
            return None
        return TensorInfo(tensor.name, tensor.shape, tensor.dtype, file, tensor.offset, tensor.nbytes)
    place = tensor.external
    if not is_plain_path(place.location):
        raise UnreadableCheckpoint(
            where,
            f"'{shown(tensor.name, 120)}' lies in '{shown(place.location, 120)}', no plain name of a file beside it",
        )
    folder, slash, _ = file.rpartition("/")
    name = f"{folder}{slash}{place.location}"
    known = known_size(source, name)
    if known is None:
        raise UnreadableCheckpoint(where, f"the data file '{shown(name, 120)}' is missing", "Get the missing file.")
    length = tensor.nbytes if place.length is None else place.length
    if length != tensor.nbytes or place.offset + length > known.size:
        raise UnreadableCheckpoint(
            where,
            f"'{shown(tensor.name, 120)}' does not fit its place in '{shown(name, 120)}'",
            "Get both files from the same revision.",
        )
    return TensorInfo(tensor.name, tensor.shape, tensor.dtype, name, place.offset, tensor.nbytes)


def _refuse_quantised(where: str, graph: Graph, files: Collection[str]) -> None:
    """Refuse a graph most of whose weights are quantised, and say how."""
    packed = sum(tensor.nbytes for tensor in graph.initialisers.values() if tensor.dtype in _SMALL)
    total = sum(tensor.nbytes for tensor in graph.initialisers.values())
    if not graph.quantised or 2 * packed < total:
        return
    operators = ", ".join(f"{count} {name}" for name, count in sorted(graph.quantised.items()))
    others = [name for name in _unquantised(files) if not where.endswith(name)]
    remedy = f"Give '{shown(others[0], 80)}'." if others else "Give the model it was quantised from."
    raise UnsupportedEncoding(where, f"the weights of this ONNX file are quantised ({operators}), not decoded", remedy)


def _unquantised(files: Collection[str]) -> list[str]:
    stems = ("model.onnx", "model_fp16.onnx")
    return sorted(name for name in files if name.rpartition("/")[2] in stems)


def _notes(files: Collection[str], file: str, graph: Graph, lost: int) -> tuple[str, ...]:
    notes: list[str] = []
    others = sorted(name for name in files if name.endswith(".onnx") and name != file)
    if others:
        notes.append(f"Other ONNX files are left aside: {_listed(others)}.")
    if graph.quantised:
        notes.append("Quantised matrices of the ONNX graph are left aside.")
    if lost:
        notes.append(f"{lost} constants of the ONNX graph are written in a form that is not read.")
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"'{shown(name, 60)}'" for name in names[:3]) + more


FORMAT = Format(
    name="onnx",
    rank=40,
    suffixes=(".onnx",),
    find=_find,
    open=_open,
    rows=(
        Row(
            "ONNX, weights inside or beside",
            "yes",
            "graphs up to 32 MB",
            "-",
            "One file; float weights. Exports from PyTorch get their names and orientation back. Quantised graphs "
            "(MatMulNBits, DequantizeLinear) are refused.",
        ),
    ),
)
