"""Safetensors: one file, shards with or without an index, an adapter."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lineage_plugin.checkpoint.components import config_of, find_weights, keep_named
from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.header import Header, header_size, parse_header
from lineage_plugin.checkpoint.layout import Layout, Part, TensorLimit, join_headers, read_index
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["FORMAT"]

_SUFFIXES = (".safetensors",)
_FIRST_GUESS = 64 * 1024
_SMALLEST_GUESS = 16 * 1024
_LARGEST_GUESS = 4 << 20
_BYTES_PER_ENTRY = 110
"""Bytes of one header entry beyond the tensor's name, generously."""
_PREFIX = 64


def _find(names: Collection[str], where: str) -> Layout | None:
    return find_weights(names, where=where)


def _open(source: Source, layout: Layout) -> Opened:
    layout = keep_named(source, layout)
    parts = layout.parts or (Part("", "", layout.index, layout.files),)
    maps = [None if p.index is None else read_index(source, p.index, _SUFFIXES, p.folder) for p in parts]
    files = [part.files if m is None else tuple(sorted(set(m.values()))) for part, m in zip(parts, maps, strict=True)]
    guesses: dict[str, int] = {}
    for names, weight_map in zip(files, maps, strict=True):
        guesses.update(_guesses(names, weight_map))
    limit = TensorLimit(source.where)
    found = source.each(lambda name: _header(source, name, guesses[name], limit), list(guesses))
    headers = dict(zip(guesses, found, strict=True))
    tensors: dict[str, TensorInfo] = {}
    for part, names, weight_map in zip(parts, files, maps, strict=True):
        prefix = f"{part.prefix}." if part.prefix else ""
        joined = join_headers({name: headers[name] for name in names}, weight_map, where=source.where, prefix=prefix)
        for name in joined.keys() & tensors.keys():
            raise UnreadableCheckpoint(source.where, f"two components hold '{shown(name, 120)}'", "Give one of them.")
        tensors.update(joined)
    metadata: dict[str, object] = {}
    for header in headers.values():
        metadata.update(header.metadata)
    config = config_of(source, layout) if layout.parts else None
    return Opened("safetensors", tuple(headers), tensors, config=config, metadata=metadata, notes=layout.notes)


def _guesses(names: Collection[str], weight_map: Mapping[str, str] | None) -> dict[str, int]:
    """Guess how long the headers are: from the index, or what nearly always suffices."""
    if weight_map is None:
        return dict.fromkeys(names, _FIRST_GUESS)
    sizes = dict.fromkeys(names, 4096)
    for tensor, file in weight_map.items():
        sizes[file] += len(tensor) + _BYTES_PER_ENTRY
    return {name: min(_LARGEST_GUESS, max(_SMALLEST_GUESS, size)) for name, size in sizes.items()}


def _header(source: Source, name: str, guess: int, limit: TensorLimit) -> Header:
    """Read the header of a file: a first guess where every read is a request, and the remainder if it is longer."""
    where = f"{source.where}/{shown(name)}"
    data = source.bytes(name, 0, _PREFIX if source.local else guess)
    total = source.files[name].size
    size = header_size(data, total, where=where)
    if size > len(data):
        data = source.bytes(name, 0, size)
    if len(data) < size:
        raise UnreadableCheckpoint(where, "the file changed while it was read", "Run again when it is complete.")
    if not source.local:
        # What came along with the header is tensor data.
        source.ledger.spend(0, len(data) - size)
    header = parse_header(data, total, file=name, where=where)
    if header.metadata.get("format", "").startswith("lineage-fingerprint/"):
        raise UnreadableCheckpoint(where, "this is the fingerprint of a model, not its weights", "Give the weights.")
    limit.add(len(header.tensors))
    return header


FORMAT = Format(
    name="safetensors",
    rank=0,
    suffixes=_SUFFIXES,
    find=_find,
    open=_open,
    rows=(
        Row(
            "safetensors: one file, shards, variants such as `fp16`",
            "yes",
            "header, then the rows",
            "-",
            "The unnamed variant is read, or the most precise. F4 and F6 elements are listed, not decoded.",
        ),
        Row(
            "`consolidated.safetensors` with Meta's or Mistral's own names",
            "yes",
            "the same",
            "-",
            "Presented under transformers' names; queries and keys need the heads from `params.json` or `config.json`.",
        ),
        Row(
            "diffusers pipelines, sentence-transformers",
            "yes",
            "the same, and each component's `config.json`",
            "-",
            "Components named in `model_index.json` or `modules.json`; those without safetensors are left aside.",
        ),
        Row(
            "Git LFS pointers in a clone, of any format",
            "as the format",
            "by range, at the commit of the clone",
            "a remote on the configured Hub",
            "Only files whose digest on the Hub is the pointer's; not offline.",
        ),
    ),
)
