"""Fingerprints as files: ``lineage-fingerprint/1``, described in ``docs/fingerprint.md``.

A safetensors file of a few flat tensors and one JSON text, which lists the shelves in order; the place of each strip in
the tensors follows from the list. There is one way to write a fingerprint, so equal fingerprints are equal files. Files
are read by :mod:`lineage_plugin.fingerprint.reading`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass

import numpy as np

from lineage_plugin.checkpoint.header import LENGTH_BYTES
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import UsageError
from lineage_plugin.fingerprint.grids import LARGEST, LEVELS
from lineage_plugin.fingerprint.reading import (
    FILE,
    MAX_FILE,
    NUMPY,
    TENSORS,
    is_fingerprint,
    is_source,
    read_fingerprint,
)
from lineage_plugin.fingerprint.types import FORMAT, Fingerprint, Shelf, StreamSketch, Strip

__all__ = ["FILE", "MAX_FILE", "is_fingerprint", "read_fingerprint", "to_bytes"]


def to_bytes(fingerprint: Fingerprint) -> bytes:
    """Return the file of a fingerprint; always the same for the same fingerprint.

    Args:
        fingerprint: Its real numbers are on the grids of this module. An ``axes`` array without layers is read back
            as ``[0, 16, 0]``.

    Returns:
        A file that :func:`read_fingerprint` turns into an equal fingerprint.

    Raises:
        UsageError: When the source is neither named by a model id nor by a plain name: paths are private.
        UnreadableCheckpoint: When the file could not be read again: a text is not printable, or there is too much.
        ValueError: When arrays do not fit together, or numbers are not on their grids.
    """
    source = fingerprint.source
    if not is_source(source.id):
        raise UsageError(
            f"'{shown(source.id, 80)}' is neither a model id nor a plain name, which a fingerprint may bear. "
            "Give it another name."
        )
    parts: dict[str, list[bytes]] = {name: [] for name in TENSORS}
    shelves = [_written_shelf(shelf, fingerprint.layers, parts) for shelf in fingerprint.shelves]
    stream = None if fingerprint.stream is None else _written_stream(fingerprint.stream, parts)
    sketch = fingerprint.tokenizer
    document = {
        "id": source.id,
        "revision": source.revision,
        "format": source.format,
        "files": {name: list(source.files[name]) for name in sorted(source.files)},
        "params": source.parameters,
        "arch": source.architecture,
        "tool": source.tool,
        "family": fingerprint.family,
        "exact": None if fingerprint.exact else False,
        "layers": fingerprint.layers,
        "width": fingerprint.width,
        "part": fingerprint.part or None,
        "shelves": shelves,
        "stream": stream,
        "tokenizer": None if sketch is None else [sketch.file, sketch.size, sketch.sha256],
        "limits": list(fingerprint.limits) or None,
    }
    header: dict[str, object] = {"__metadata__": {"format": FORMAT, "fingerprint": _json(_without(document))}}
    data = b""
    for name, kind in TENSORS.items():
        part = b"".join(parts[name])
        if part:
            size = len(part) // np.dtype(NUMPY[kind]).itemsize
            header[name] = {"dtype": kind, "shape": [size], "data_offsets": [len(data), len(data) + len(part)]}
            data += part
    text = _json(header).encode("utf-8", "surrogatepass")
    text += b" " * (-len(text) % LENGTH_BYTES)
    written = len(text).to_bytes(LENGTH_BYTES, "little") + text + data
    difference = _difference(fingerprint, read_fingerprint(written, source.id))
    if difference is not None:
        raise ValueError(f"the format cannot hold {difference} of this fingerprint")
    return written


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _without(document: Mapping[str, object]) -> dict[str, object]:
    """Leave out what is not there."""
    return {key: value for key, value in document.items() if value is not None}


def _written_shelf(shelf: Shelf, layers: int, parts: Mapping[str, list[bytes]]) -> dict[str, object]:
    strips = [_written_strip(strip, parts) for strip in shelf.strips]
    masks = []
    for name, mask, usual in (("usable", shelf.usable, True), ("clone", shelf.clone, False)):
        if (mask != usual).any():
            masks.append(name)
            parts["bits"].append(np.packbits(mask).tobytes())
    count = len(shelf.layers)
    return _without(
        {
            "kind": shelf.kind,
            "part": shelf.part or None,
            "units": shelf.units,
            "held": None if shelf.held == shelf.units else shelf.held,
            "block": None if shelf.block == shelf.units else shelf.block,
            "swap": None if shelf.swap else False,
            "ordered": shelf.ordered or None,
            "layers": None if shelf.layers == tuple(range(layers)) else _ranges(shelf.layers),
            "repeats": None if np.array_equal(shelf.repeats, np.arange(count)) else shelf.repeats.tolist(),
            "names": list(shelf.names) or None,
            "strips": strips,
            "masks": masks or None,
        }
    )


def _written_strip(strip: Strip, parts: Mapping[str, list[bytes]]) -> list[object]:
    parts["bits"].append(strip.bits.tobytes())
    # What does not fit is cut here, and found when the file is read again.
    with np.errstate(all="ignore"):
        level = np.rint(strip.energy / strip.step[:, None])
    present = np.isfinite(level)
    below = np.min(level, axis=1, initial=np.inf, where=present) - 1
    below = np.where(np.isfinite(below), below, 0.0)
    codes = np.where(present, level - below[:, None], 0.0)
    scale = np.stack([below, np.frexp(strip.step)[1] - 1], axis=1)
    parts["energy"].append(np.clip(codes, 0, LEVELS).astype("u1").tobytes())
    parts["scale"].append(np.clip(scale, -LARGEST - 1, LARGEST).astype("<i2").tobytes())
    parts["axes"].append(np.clip(np.rint(strip.axes * 127.0), -127, 127).astype("i1").tobytes())
    parts["strength"].append((strip.strength.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes())
    axes = strip.axes.shape[2] if strip.axes.size else 0
    form = [strip.role, strip.dim, int(strip.odd), 8 * strip.bits.shape[2], strip.energy.shape[1], axes]
    return form if strip.shared is None and not strip.packing else [*form, strip.shared, strip.packing]


def _written_stream(stream: StreamSketch, parts: Mapping[str, list[bytes]]) -> dict[str, object]:
    parts["bits"].append(stream.bits.tobytes())
    masked = not stream.usable.all()
    if masked:
        parts["bits"].append(np.packbits(stream.usable).tobytes())
    return _without(
        {
            "width": stream.width,
            "rows": stream.rows,
            "first": stream.first,
            "channels": stream.bits.shape[0],
            "bits": 8 * stream.bits.shape[1],
            "flip": stream.flip or None,
            "swap": None if stream.swap else False,
            "quantised": stream.quantised or None,
            "masks": ["usable"] if masked else None,
        }
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Write increasing numbers as ``0-5,7``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _difference(one: object, other: object, path: str = "the type") -> str | None:
    """Return the name of a field in which two values differ; None when they are equal."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        # Empty arrays of any shape hold the same: nothing.
        empty = one.size == other.size == 0
        equal = empty or (one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all()))
        return None if equal else path
    if is_dataclass(one) and is_dataclass(other):
        pairs = [(getattr(one, f.name), getattr(other, f.name), f"'{f.name}'") for f in fields(one)]
    elif isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        pairs = [(a, b, path) for a, b in zip(one, other, strict=True)]
    elif isinstance(one, Mapping) and isinstance(other, Mapping):
        return None if dict(one) == dict(other) else path
    else:
        return None if one == other else path
    return next((found for pair in pairs if (found := _difference(*pair)) is not None), None)
