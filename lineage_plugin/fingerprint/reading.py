"""Reading fingerprint files, which come from anywhere: ``lineage-fingerprint/1``, see ``docs/fingerprint.md``.

Every size is checked against the tensors before anything of that size is made, and every text before it is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.header import LENGTH_BYTES, parse_header
from lineage_plugin.checkpoint.names import is_model_id, is_plain_path, is_printable_name, shown
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.errors import InputError, UnreadableCheckpoint
from lineage_plugin.fingerprint.grids import elements
from lineage_plugin.fingerprint.types import FORMAT, Fingerprint, Shelf, Source, StreamSketch, Strip, TokenizerSketch
from lineage_plugin.text import one_line

__all__ = [
    "FILE",
    "LINE",
    "MAX_FILE",
    "MOST_LIMITS",
    "NUMPY",
    "SENTENCE",
    "TENSORS",
    "is_fingerprint",
    "is_source",
    "read_fingerprint",
]

ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Array = NDArray[np.generic]
_Number = TypeVar("_Number", bound=np.generic)

FILE = "lineage.fingerprint.safetensors"
"""Name of the file beside a model's weights."""
MAX_FILE = 1 << 20
"""Bytes of the largest file that is read; an 80-layer model has a tenth of it."""
TENSORS = {"scale": "I16", "strength": "U16", "axes": "I8", "energy": "U8", "bits": "U8"}
"""The tensors in the order of their data, wide numbers first: so all of them are aligned."""
NUMPY = {"I16": "<i2", "U16": "<u2", "I8": "i1", "U8": "u1"}
_MOST_SHELVES, _MOST_LAYERS, _MOST_HELD, _MOST_AXES = 4096, 4096, 4096, 16
_MOST_ROLES, _MOST_STRIPS = 16, 8192
"""Strips of a shelf, and of all shelves: each costs time, however small it is."""
MOST_LIMITS = 64
_MOST_UNITS = _MOST_NUMBER = 1 << 20
"""Units of a group; numbers of layers, tensors and experts."""
_MOST_DIM = (1 << 31) - 1
_MOST = (1 << 53) - 1
"""Largest whole number that every JSON parser keeps."""
_BITS = (8, 16, 32, 64, 128, 256, 512, 1024)
_LEAST_EXPONENT, _MOST_EXPONENT = -12, 8
_AXES_UNITS, _TOKEN_ROWS = 16, 64
_VALUES, _CONTAINERS = 1 << 18, 1 << 15
LINE, SENTENCE = 200, 1000
"""Characters of a text, and of a limit."""

_START = re.compile(rb'"format"\s*:\s*"lineage-fingerprint/')
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SPAN = re.compile(r"(0|[1-9][0-9]{0,6})(?:-(0|[1-9][0-9]{0,6}))?\Z")
_REMEDY = "Make it again with `lineage fingerprint`."


class _Wrong(ValueError):
    """What is wrong with the file, as a phrase."""


def is_fingerprint(data: bytes) -> bool:
    """Return whether a file says that it is a fingerprint, of whatever version; its first 128 bytes are enough.

    Files that other programs wrote may need more: all of the header.
    """
    end = min(len(data), LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES], "little"))
    return data[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and _START.search(data, LENGTH_BYTES, end) is not None


def read_fingerprint(data: bytes, where: str) -> Fingerprint:
    """Read the file of a fingerprint.

    Args:
        data: The whole file.
        where: Its name, for messages.

    Returns:
        The fingerprint; its arrays cannot be written to.

    Raises:
        UnreadableCheckpoint: When the file is no fingerprint, or breaks a rule of the format.
    """
    if len(data) > MAX_FILE:
        problem = f"{len(data)} bytes are more than the {MAX_FILE} that a fingerprint may have"
        raise UnreadableCheckpoint(where, problem, _REMEDY)
    try:
        header = parse_header(data, len(data), file=FILE, where=where)
    except InputError as error:
        raise UnreadableCheckpoint(where, error.problem, _REMEDY) from None
    version = header.metadata.get("format", "")
    if version != FORMAT:
        if not version.startswith(FORMAT.partition("/")[0] + "/"):
            raise UnreadableCheckpoint(where, "this is a safetensors file, but no fingerprint", _REMEDY)
        problem = f"the format is '{shown(version, 40)}', but this program reads {FORMAT}"
        raise UnreadableCheckpoint(where, problem, "Make the fingerprint again, or update the program.")
    try:
        if header.metadata.keys() != {"format", "fingerprint"}:
            raise _Wrong("the metadata are not 'format' and 'fingerprint' alone")
        flat = {}
        for name, info in header.tensors.items():
            if TENSORS.get(name) != info.dtype or len(info.shape) != 1:
                raise _Wrong(f"no tensor '{shown(name, 40)}' of {info.dtype} and rank {len(info.shape)} belongs in it")
            flat[name] = np.frombuffer(data, NUMPY[info.dtype], info.shape[0], info.offset)
        # Lone surrogates, which JSON can spell and text must not hold, are refused when they are decoded again.
        text = header.metadata["fingerprint"].encode("utf-8", "surrogatepass")
        document = load_object(
            text, where=where, what="description", values=_VALUES, containers=_CONTAINERS, remedy=_REMEDY
        )
        return _fingerprint(_Members(document, "the description"), _Flat(flat))
    except _Wrong as error:
        raise UnreadableCheckpoint(where, str(error), _REMEDY) from None


class _Flat:
    """The tensors, used up from their beginnings."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = {name: tensors.get(name, np.zeros(0, NUMPY[kind])) for name, kind in TENSORS.items()}
        self._used = dict.fromkeys(TENSORS, 0)

    def take(self, name: str, *shape: int) -> Array:
        """Return the next numbers of a tensor, a view, in some shape."""
        start, tensor = self._used[name], self._tensors[name]
        stop = start + math.prod(shape)
        if stop > tensor.shape[0]:
            raise _Wrong(f"the tensor '{name}' holds {tensor.shape[0]} numbers, the description needs more")
        self._used[name] = stop
        return tensor[start:stop].reshape(shape)

    def mask(self, *shape: int) -> BoolArray:
        """Return the next mask, whose last byte is filled up with zeros."""
        count = math.prod(shape)
        packed = self.take("bits", -(-count // 8))
        values = np.unpackbits(packed.view(np.uint8))
        if values[count:].any():
            raise _Wrong("a mask is not filled up with zeros")
        return _frozen(values[:count].astype(bool).reshape(shape))

    def end(self) -> None:
        """Refuse numbers that were not used."""
        for name, tensor in self._tensors.items():
            if self._used[name] != tensor.shape[0]:
                needed = self._used[name]
                raise _Wrong(f"the tensor '{name}' holds {tensor.shape[0]} numbers, the description needs {needed}")


class _Members:
    """The members of a JSON object, taken out one by one."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise _Wrong(f"{what} is not an object")
        self._left = dict(value)
        self.what = what

    def take(self, key: str, default: object = None) -> object:
        """Take out a value, whatever it is."""
        return self._left.pop(key, default)

    def whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """Take out a whole number."""
        return _whole(self.take(key, default), least, most, f"{self.what}: '{key}'")

    def flag(self, key: str, default: bool = False) -> bool:
        """Take out a truth value."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise _Wrong(f"{self.what}: '{key}' is neither true nor false")
        return value

    def text(self, key: str, fits: Callable[[str], object]) -> str:
        """Take out a text."""
        return _text(self.take(key), fits, f"{self.what}: '{key}'")

    def perhaps(self, key: str, fits: Callable[[str], object]) -> str | None:
        """Take out a text that may be missing."""
        return self.text(key, fits) if key in self._left else None

    def listed(self, key: str, most: int) -> list[object]:
        """Take out a list; a missing one is empty."""
        value = self.take(key, [])
        if not isinstance(value, list) or len(value) > most:
            raise _Wrong(f"{self.what}: '{key}' is not a list of at most {most} values")
        return value

    def end(self) -> None:
        """Refuse members that were not taken."""
        if self._left:
            raise _Wrong(f"{self.what} has the unknown key '{shown(next(iter(self._left)), 40)}'")


def _fingerprint(members: _Members, flat: _Flat) -> Fingerprint:
    source = Source(
        id=members.text("id", is_source),
        revision=members.perhaps("revision", _is_line),
        format=members.text("format", _is_line),
        files=_files(members),
        parameters=members.whole("params", 0, _MOST),
        architecture=members.perhaps("arch", _is_line),
        tool=members.text("tool", _is_line),
    )
    layers = members.whole("layers", 0, _MOST_NUMBER)
    shelves: list[Shelf] = []
    strips = 0
    for at, value in enumerate(members.listed("shelves", _MOST_SHELVES)):
        shelves.append(_shelf(_Members(value, f"shelf {at}"), layers, flat))
        strips += len(shelves[-1].strips)
        if strips > _MOST_STRIPS:
            raise _Wrong(f"there are more than {_MOST_STRIPS} strips")
    _distinct(shelves)
    stream, tokenizer = members.take("stream"), members.take("tokenizer")
    found = Fingerprint(
        source=source,
        family=members.text("family", _WORD.match),
        exact=members.flag("exact", True),
        layers=layers,
        width=members.whole("width", 0, _MOST_DIM),
        shelves=tuple(shelves),
        stream=None if stream is None else _stream(_Members(stream, "the stream"), flat),
        tokenizer=None if tokenizer is None else _tokenizer(tokenizer),
        limits=tuple(_text(value, _is_sentence, "a limit") for value in members.listed("limits", MOST_LIMITS)),
        part=members.perhaps("part", _is_tensor) or "",
    )
    members.end()
    flat.end()
    return found


def _distinct(shelves: Sequence[Shelf]) -> None:
    """Refuse shelves that hold one group twice: its coins would be tossed twice."""
    groups: dict[tuple[str, int], list[tuple[int, ...]]] = {}
    for shelf in shelves:
        groups.setdefault((shelf.kind, shelf.part), []).append(shelf.layers)
    for (kind, _), layers in groups.items():
        numbers = np.concatenate([np.array(some) for some in layers])
        if len(layers) > 1 and np.unique(numbers).shape[0] != numbers.shape[0]:
            raise _Wrong(f"two shelves of kind '{kind}' hold the same layer")


def _shelf(members: _Members, layers: int, flat: _Flat) -> Shelf:
    what = members.what
    kind = members.text("kind", _WORD.match)
    units = members.whole("units", 1, _MOST_UNITS)
    held = members.whole("held", 1, min(units, _MOST_HELD), units)
    spans = _spans(members.take("layers", f"0-{layers - 1}"), f"{what}: 'layers'")
    count = sum(last - first + 1 for first, last in spans)
    if count > _MOST_LAYERS:
        raise _Wrong(f"{what} has {count} layers, more than {_MOST_LAYERS}")
    described = members.listed("strips", _MOST_ROLES)
    # Every layer of a strip takes a byte of sign bits at least, so the file bounds all that follows.
    strips = tuple(_strip(value, f"{what}, strip {at}", count, held, flat) for at, value in enumerate(described))
    if not strips or len({strip.role for strip in strips}) != len(strips):
        raise _Wrong(f"{what} has no strips, or two of one role")
    masks = _masks(members, ("usable", "clone"))
    names = tuple(_text(name, _is_tensor, f"{what}: a name") for name in members.listed("names", count))
    if names and len(names) != count:
        raise _Wrong(f"{what} has {len(names)} names for {count} layers")
    shelf = Shelf(
        kind=kind,
        part=members.whole("part", 0, _MOST_NUMBER, 0),
        units=units,
        block=members.whole("block", 1, units, units),
        swap=members.flag("swap", True),
        layers=tuple(number for first, last in spans for number in range(first, last + 1)),
        strips=strips,
        usable=flat.mask(count, held) if "usable" in masks else _frozen(np.ones((count, held), dtype=bool)),
        clone=flat.mask(count, held) if "clone" in masks else _frozen(np.zeros((count, held), dtype=bool)),
        repeats=_repeats(members.take("repeats"), count, what),
        ordered=members.flag("ordered"),
        names=names,
    )
    members.end()
    return shelf


def _spans(value: object, what: str) -> list[tuple[int, int]]:
    """Parse ``0-5,7`` into its first and last numbers."""
    text = _text(value, lambda text: len(text) <= 16 * _MOST_LAYERS, what)
    spans: list[tuple[int, int]] = []
    last = -1
    for part in text.split(","):
        match = _SPAN.match(part)
        first = int(match[1]) if match else -1
        if match is None or first <= last or (last := int(match[2] or first)) < first or last >= _MOST_NUMBER:
            raise _Wrong(f"{what} are not increasing numbers such as 0-5,7")
        spans.append((first, last))
    return spans


def _repeats(value: object, count: int, what: str) -> IntArray:
    if value is None:
        return _frozen(np.arange(count, dtype=np.int64))
    if not isinstance(value, list) or len(value) != count:
        raise _Wrong(f"{what}: 'repeats' is not one number a layer")
    first = np.array([_whole(n, 0, at, f"{what}: 'repeats'") for at, n in enumerate(value)], dtype=np.int64)
    if not np.array_equal(first[first], first):
        raise _Wrong(f"{what}: 'repeats' does not lead to first copies")
    return _frozen(first)


def _strip(value: object, what: str, layers: int, held: int, flat: _Flat) -> Strip:
    if not isinstance(value, list) or len(value) not in (6, 8):
        raise _Wrong(f"{what} is not a list of 6 or 8 values")
    role = _text(value[0], _WORD.match, f"{what}: the role")
    dim = _whole(value[1], 1, _MOST_DIM, f"{what}: the length of a vector")
    odd = _whole(value[2], 0, 1, f"{what}: the sign")
    bits = _bits(value[3], what)
    measured = _whole(value[4], 0, held, f"{what}: the number of energies")
    axes = _whole(value[5], 0, _MOST_AXES if held >= _AXES_UNITS // 2 else 0, f"{what}: the number of axes")
    shared, packing = None, ""
    if len(value) == 8:
        shared = _whole(value[6], -1, _MOST_UNITS, f"{what}: the block of the quantiser")
        packing = _text(value[7], _is_line, f"{what}: the packing")
    packed = flat.take("bits", layers, held, bits // 8)
    energy, step = _energies(flat.take("energy", layers, measured), flat.take("scale", layers, 2), what)
    rows = layers if axes else 0
    levels = flat.take("axes", rows, _AXES_UNITS, axes)
    strength = (flat.take("strength", rows, axes).astype(np.uint32) << 16).view(np.float32)
    if not (np.isfinite(strength) & (strength >= 0)).all():
        raise _Wrong(f"{what}: a strength is negative or not finite")
    if (levels == -128).any():
        raise _Wrong(f"{what}: an axis is beyond 1")
    return Strip(
        role=role,
        dim=dim,
        odd=bool(odd),
        bits=packed.view(np.uint8),
        energy=energy,
        step=step,
        axes=_frozen(elements(levels)),
        strength=_frozen(strength),
        shared=shared,
        packing=packing,
    )


def _energies(codes: Array, scale: Array, what: str) -> tuple[FloatArray, FloatArray]:
    """Return energies and steps from codes ``[layers, measured]`` and ``[layers, 2]`` level below and exponent."""
    below, exponent = scale[:, 0].astype(np.int32), scale[:, 1].astype(np.int32)
    level = codes.astype(np.int32)
    least = np.min(level, axis=1, initial=256, where=level > 0)
    if ((least != 1) & ((least != 256) | (below != 0))).any():
        raise _Wrong(f"{what}: the energies of a layer do not begin with 1, or there are none and the scale is not 0")
    if ((exponent < _LEAST_EXPONENT) | (exponent > _MOST_EXPONENT)).any():
        raise _Wrong(f"{what}: a step of energies is not from 2^{_LEAST_EXPONENT} to 2^{_MOST_EXPONENT}")
    step = np.ldexp(np.float32(1.0), exponent)
    energy = (level + below[:, None]).astype(np.float32) * step[:, None]
    energy[level == 0] = np.nan
    return _frozen(energy), _frozen(step)


def _stream(members: _Members, flat: _Flat) -> StreamSketch:
    width = members.whole("width", 1, _MOST_DIM)
    rows = members.whole("rows", _TOKEN_ROWS, _MOST_DIM)
    channels = members.whole("channels", 1, min(width, _MOST_HELD))
    packed = flat.take("bits", channels, _bits(members.take("bits"), members.what) // 8)
    masked = _masks(members, ("usable",))
    found = StreamSketch(
        width=width,
        rows=rows,
        first=members.whole("first", 0, rows - _TOKEN_ROWS),
        flip=members.flag("flip"),
        swap=members.flag("swap", True),
        bits=packed.view(np.uint8),
        usable=flat.mask(channels) if masked else _frozen(np.ones(channels, dtype=bool)),
        quantised=members.flag("quantised"),
    )
    members.end()
    return found


def _masks(members: _Members, names: Sequence[str]) -> list[object]:
    masks = members.listed("masks", len(names))
    if masks != [name for name in names if name in masks]:
        raise _Wrong(f"{members.what}: 'masks' does not name masks in order")
    return masks


def _files(members: _Members) -> dict[str, tuple[int, str | None]]:
    described = members.take("files")
    if not isinstance(described, dict):
        raise _Wrong(f"{members.what}: 'files' is not an object")
    return {
        _text(name, is_plain_path, "a file's name"): _size_and_digest(value, "a file")
        for name, value in described.items()
    }


def _tokenizer(value: object) -> TokenizerSketch:
    if not isinstance(value, list) or len(value) != 3:
        raise _Wrong("the tokenizer is not a list of file, size and digest")
    size, digest = _size_and_digest(value[1:], "the tokenizer")
    return TokenizerSketch(_text(value[0], is_plain_path, "the tokenizer's file"), size, digest)


def _size_and_digest(value: object, what: str) -> tuple[int, str | None]:
    if not isinstance(value, list) or len(value) != 2:
        raise _Wrong(f"{what} is not described by size and digest")
    digest = None if value[1] is None else _text(value[1], _DIGEST.match, f"the SHA-256 digest of {what}")
    return _whole(value[0], 0, _MOST, f"the size of {what}"), digest


def _bits(value: object, what: str) -> int:
    bits = _whole(value, _BITS[0], _BITS[-1], f"{what}: the number of bits")
    if bits not in _BITS:
        raise _Wrong(f"{what}: the number of bits is no power of two")
    return bits


def _whole(value: object, least: int, most: int, what: str) -> int:
    # bool is an int in Python, and `true` is no number.
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _Wrong(f"{what} is not a whole number from {least} to {most}")
    return value


def _text(value: object, fits: Callable[[str], object], what: str) -> str:
    if not isinstance(value, str) or not fits(value):
        raise _Wrong(f"{what} is missing, or no text of the right form")
    return value


def is_source(text: str) -> bool:
    """Whether a text is a model id or a plain name: a path never is."""
    return is_model_id(text) or (is_plain_path(text) and "/" not in text and _is_line(text))


def _is_line(text: str) -> bool:
    return bool(text) and one_line(text, LINE) == text


def _is_sentence(text: str) -> bool:
    return bool(text) and one_line(text, SENTENCE) == text


def _is_tensor(text: str) -> bool:
    return bool(text) and is_printable_name(text)


def _frozen(array: NDArray[_Number]) -> NDArray[_Number]:
    array.setflags(write=False)
    return array
