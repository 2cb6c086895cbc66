"""GGUF: one file of several, split files, and what the converter of llama.cpp did undone."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.layout import Layout, TensorLimit
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

if TYPE_CHECKING:
    from lineage_plugin.checkpoint.gguf_files.header import Header
    from lineage_plugin.checkpoint.gguf_files.model import Found

__all__ = ["FORMAT"]

_SUFFIX = ".gguf"
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.ASCII | re.IGNORECASE)
_NOT_WEIGHTS = re.compile(r"(^|[-_.])(mmproj|imatrix)([-_.]|$)|^ggml-vocab-", re.ASCII | re.IGNORECASE)
"""Projectors of images, statistics of activations, bare tokenizers: files beside a model, none of its weights."""
_MOST_PARTS = 1024


def _find(names: Collection[str], where: str) -> Layout | None:
    """Return all files that may be the model; which one it is depends on their sizes."""
    found = [name for name in names if name.lower().endswith(_SUFFIX) and not _is_beside(name)]
    return Layout(None, tuple(sorted(found))) if found else None


def _is_beside(name: str) -> bool:
    return _NOT_WEIGHTS.search(name.rpartition("/")[2].lower().removesuffix(_SUFFIX)) is not None


def _open(source: Source, layout: Layout) -> Opened:
    # Most models are opened in another format, and need not wait for this one's parser.
    from lineage_plugin.checkpoint.gguf_files.config import claims, settings
    from lineage_plugin.checkpoint.gguf_files.header import read_header
    from lineage_plugin.checkpoint.gguf_files.model import restore

    files, notes = _choose(source, layout.files)
    limit = TensorLimit(source.where)

    def header_of(name: str) -> Header:
        header = read_header(source, name)
        limit.add(len(header.records))
        return header

    headers = dict(zip(files, source.each(header_of, files), strict=True))
    if len(files) == 1 and (more := _siblings(source, files[0], headers[files[0]])):
        # A part that was given by itself.
        headers.update(zip(more, source.each(header_of, more), strict=True))
        files = tuple(sorted(headers))
    values = _values(source, files, headers)
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise UnreadableCheckpoint(source.where, "the GGUF file names no architecture", "Convert the model again.")
    kind = values.get("general.type")
    if kind == "adapter":
        raise UnsupportedEncoding(
            source.where, "this is an adapter in GGUF", "Give the adapter as it was trained, in safetensors."
        )
    found = _all_tensors(source, files, headers, values)
    model = restore(source.where, architecture, values, found)
    shapes = {tensor.record.name: tensor.record.shape for tensor in found}
    return Opened(
        "gguf",
        files,
        model.tensors,
        model.derived,
        frozenset(model.hidden),
        settings(architecture, values, shapes),
        claims(values),
        (*notes, *model.notes),
    )


def _choose(source: Source, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choose the file, or the set of parts, with the most bytes: it has the most bits a weight."""
    sets: dict[str, list[str]] = {}
    for name in names:
        match = _PART.fullmatch(name)
        sets.setdefault(f"{match['stem']}-of-{match['count']}" if match else name, []).append(name)
    if len(sets) == 1:
        files = tuple(names)
        if len(files) > 1:
            _check_parts(source, files)
        return files, ()
    complete = {key: parts for key, parts in sets.items() if not _missing(parts)}
    if not complete:
        _check_parts(source, next(iter(sets.values())))
    best = max(complete, key=lambda key: (sum(source.files[name].size for name in complete[key]), key))
    chosen = tuple(sorted(complete[best]))
    others = [parts[0] for key, parts in sets.items() if key != best]
    listed = ", ".join(f"'{shown(name, 60)}'" for name in others[:4]) + (", ..." if len(others) > 4 else "")
    note = f"Of {len(sets)} GGUF models the largest was read, '{shown(chosen[0], 80)}'; left aside: {listed}."
    return chosen, (note,)


def _missing(names: Sequence[str]) -> str | None:
    """Return the name of a part that is missing."""
    match = _PART.fullmatch(names[0])
    if match is None:
        return None
    lower = {name.lower() for name in names}
    for number in range(1, min(int(match["count"]), _MOST_PARTS + 1) + 1):
        part = f"{match['stem']}-{number:05d}-of-{match['count']}.gguf"
        if part.lower() not in lower:
            return part
    return None


def _check_parts(source: Source, names: Sequence[str]) -> None:
    missing = _missing(names)
    if missing is not None:
        raise UnreadableCheckpoint(source.where, f"the part '{shown(missing)}' is missing", "Get the missing file.")


def _siblings(source: Source, name: str, header: Header) -> tuple[str, ...]:
    """Return the other parts of the model that a file is a part of."""
    count = header.values.get("split.count")
    match = _PART.fullmatch(name)
    if not isinstance(count, int) or count <= 1:
        return ()
    if match is None or int(match["count"]) != count:
        raise UnreadableCheckpoint(
            f"{source.where}/{shown(name)}",
            f"this is one of {count} parts, and its name does not tell the others",
            "Give all parts under their original names.",
        )
    stem, end = match["stem"].lower() + "-", f"-of-{match['count']}.gguf"
    parts = tuple(n for n in source.files if n.lower().startswith(stem) and n.lower().endswith(end))
    if name not in parts or _missing(parts) is not None:
        missing = _missing(parts) or name
        raise UnreadableCheckpoint(
            f"{source.where}/{shown(name)}",
            f"this is one of {count} parts, and '{shown(missing)}' is missing",
            "Give the folder with all of them.",
        )
    return tuple(part for part in parts if part != name)


def _values(source: Source, files: Sequence[str], headers: Mapping[str, Header]) -> Mapping[str, object]:
    """Return the key-value pairs: of split files those of the first part."""
    for position, name in enumerate(files):
        values = headers[name].values
        if len(files) == 1:
            return values
        if values.get("split.count") != len(files) or values.get("split.no") != position:
            raise UnreadableCheckpoint(
                f"{source.where}/{shown(name)}",
                f"the file does not say that it is part {position + 1} of {len(files)}",
                "Get all parts from the same revision.",
            )
    return headers[files[0]].values


def _all_tensors(
    source: Source, files: Sequence[str], headers: Mapping[str, Header], values: Mapping[str, object]
) -> list[Found]:
    """Return the tensors of all parts."""
    from lineage_plugin.checkpoint.gguf_files.model import Found

    found: list[Found] = []
    seen: dict[str, str] = {}
    for name in files:
        for record in headers[name].records:
            if record.name in seen:
                raise UnreadableCheckpoint(
                    source.where,
                    f"'{shown(seen[record.name], 80)}' and '{shown(name, 80)}' both hold '{shown(record.name, 120)}'",
                    "Get all parts from the same revision.",
                )
            seen[record.name] = name
            found.append(Found(record, name, headers[name].big_endian))
    announced = values.get("split.tensors.count")
    if len(files) > 1 and isinstance(announced, int) and announced != len(found):
        raise UnreadableCheckpoint(
            source.where, f"the parts hold {len(found)} tensors and announce {announced}", "Get all parts again."
        )
    if not found:
        raise UnreadableCheckpoint(source.where, "the GGUF file holds no tensors", "Give the file with the weights.")
    return found


FORMAT = Format(
    name="gguf",
    rank=10,
    suffixes=(_SUFFIX,),
    find=_find,
    open=_open,
    rows=(
        Row(
            "GGUF (versions 2 and 3): F32, F16, BF16, Q4_0 to Q8_0, K-quants, IQ-quants, TQ, MXFP4, NVFP4; split files",
            "yes, by blocks",
            "header, then the blocks of the rows",
            "`gguf` for quantised types",
            "Not decoded: Q8_1, Q8_K, Q1_0. Of several files the largest is read, `mmproj` never. Names and layouts "
            "of transformers are restored for the architectures of the main families; others keep the file's names.",
        ),
    ),
)
