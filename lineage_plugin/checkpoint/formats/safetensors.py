"""Safetensors: one file, shards with or without an index, an adapter."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.header import Header, header_size, parse_header
from lineage_plugin.checkpoint.layout import MAX_INDEX, Layout, find_weights, join_headers, parse_index
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["FORMAT"]

_FIRST_GUESS = 64 * 1024
_SMALLEST_GUESS = 16 * 1024
_LARGEST_GUESS = 4 << 20
_BYTES_PER_ENTRY = 110
"""Bytes of one header entry beyond the tensor's name, generously."""
_PREFIX = 64


def _find(names: Collection[str], where: str) -> Layout | None:
    return find_weights(names, where=where)


def _open(source: Source, layout: Layout) -> Opened:
    weight_map, names = None, layout.files
    if layout.index is not None:
        where = f"{source.where}/{shown(layout.index)}"
        known = source.files.get(layout.index)
        if known is not None and known.size > MAX_INDEX:
            raise UnreadableCheckpoint(where, f"an index of {known.size} bytes is over the limit of {MAX_INDEX}")
        data = source.data(layout.index, MAX_INDEX)
        if data is None:
            raise UnreadableCheckpoint(where, "there is no such file")
        weight_map = parse_index(data, source.files.keys(), where=where)
        names = tuple(sorted(set(weight_map.values())))
    guesses = _guesses(names, weight_map)
    headers = source.each(lambda name: _header(source, name, guesses[name]), names)
    found = dict(zip(names, headers, strict=True))
    metadata: dict[str, object] = {}
    for header in headers:
        metadata.update(header.metadata)
    return Opened("safetensors", names, join_headers(found, weight_map, where=source.where), metadata=metadata)


def _guesses(names: Collection[str], weight_map: Mapping[str, str] | None) -> dict[str, int]:
    """Guess how long the headers are: from the index, or what nearly always suffices."""
    if weight_map is None:
        return dict.fromkeys(names, _FIRST_GUESS)
    sizes = dict.fromkeys(names, 4096)
    for tensor, file in weight_map.items():
        sizes[file] += len(tensor) + _BYTES_PER_ENTRY
    return {name: min(_LARGEST_GUESS, max(_SMALLEST_GUESS, size)) for name, size in sizes.items()}


def _header(source: Source, name: str, guess: int) -> Header:
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
    return parse_header(data, total, file=name, where=where)


FORMAT = Format(
    name="safetensors",
    rank=0,
    suffixes=(".safetensors",),
    find=_find,
    open=_open,
    rows=(
        Row(
            "safetensors: one file, shards, `consolidated`, variants",
            "yes",
            "header, then the rows",
            "-",
            "F4 and F6 elements are listed, not decoded.",
        ),
    ),
)
