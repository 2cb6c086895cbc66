"""The header of a GGUF file, validated and read in growing steps.

A file is ``GGUF``, a version, the counts of tensors and of key-value pairs, the pairs, one record a tensor (name,
extents with the fastest first, number type, offset), padding, and the data (``docs/gguf.md`` of ggml). Versions 2 and
3 are the same bytes; version 3 allows the big-endian order, which the version number itself gives away.

Most headers hold a whole tokenizer: megabytes of strings that say nothing about weights. They are walked over, not
kept. Nothing is allocated for a count before the bytes that it promises have been seen.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from lineage_plugin.checkpoint.gguf_files.numbers import Numbers, numbers_of
from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsafeCheckpoint, UnsupportedEncoding

__all__ = ["MAX_HEADER", "Header", "Record", "read_header"]

MAX_HEADER = 64 << 20
"""Largest header in bytes. The largest real ones, with tokenizers of 260,000 words, have 20 MB."""
MAX_TENSORS = 1 << 16
"""Most tensors of one file; the largest real ones hold 3,000."""
MAX_PAIRS = 1 << 14
"""Most key-value pairs; real files hold less than a hundred."""
_MAX_RANK = 4
_MAX_ALIGNMENT = 1 << 20
_EMPTY_EXTENT = 1 << 20
_LONGEST_KEY = 256
_LONGEST_TEXT = 4096
_LONGEST_ARRAY = 2048
_MOST_TEXTS = 64
_MOST_KEPT = 1 << 20
"""Bytes of all values together that are kept; real files have a few thousand."""
_FIRST_LOCAL = 64 << 10
_FIRST_REMOTE = 1 << 20
_STEP = 256 << 10
_LARGEST_STEP = 4 << 20
_REMEDY = "Get the file again or convert it again."

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""``struct`` codes of the value types."""
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class Record:
    """A tensor as the header describes it.

    Attributes:
        name: Its name in the file.
        shape: Extents, the slowest first as everywhere else; the file has them the other way round.
        numbers: Its type.
        offset: Position of the first data byte in the file.
        nbytes: Bytes of data; for an unknown type what lies before the next tensor.
    """

    name: str
    shape: tuple[int, ...]
    numbers: Numbers
    offset: int
    nbytes: int


@dataclass(frozen=True, eq=False, slots=True)
class Header:
    """What the header of one file says.

    Attributes:
        values: Numbers, short strings and short lists by key.
        records: The tensors, in the order of their data.
        big_endian: Whether numbers are stored with the highest byte first.
        size: Bytes before the data.
    """

    values: Mapping[str, object]
    records: tuple[Record, ...]
    big_endian: bool
    size: int


def read_header(source: Source, name: str) -> Header:
    """Read and validate the header of a file.

    Args:
        source: Where the file is.
        name: The file.

    Returns:
        The header; every tensor lies inside the file, and none overlaps another.

    Raises:
        InputError: When it is no GGUF file, breaks a rule of the format, or is of a version that is not read.
        HubError: When the Hub does not deliver.
    """
    return _Reader(source, name).header()


class _Reader:
    """Walks through a header, loading more of the file as it goes."""

    def __init__(self, source: Source, name: str) -> None:
        self._source = source
        self._name = name
        self._where = f"{source.where}/{shown(name)}"
        self._data = bytearray()
        self._at = 0
        self._kept = 0
        self._order = "<"
        self._load(_FIRST_LOCAL if source.local else _FIRST_REMOTE)
        # Known exactly once the file has been opened.
        self._size = source.files[name].size

    def header(self) -> Header:
        """Read it all."""
        big = self._preamble()
        tensors, pairs = self._number("Q"), self._number("Q")
        if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
            self._fail(f"it announces {tensors} tensors and {pairs} key-value pairs, more than any real file has")
        values: dict[str, object] = {}
        seen: set[str] = set()
        for _ in range(pairs):
            key = self._text("a key", _LONGEST_KEY)
            if key in seen:
                self._fail(f"the key '{shown(key, 80)}' stands there twice")
            seen.add(key)
            self._value(key, values)
        drafts: list[tuple[str, tuple[int, ...], int, int]] = []
        names: set[str] = set()
        for _ in range(tensors):
            draft = self._record()
            if draft[0] in names:
                self._fail(f"there are two tensors '{shown(draft[0], 120)}'")
            names.add(draft[0])
            drafts.append(draft)
        start = self._start(values)
        records = self._place(drafts, start)
        if not self._source.local:
            # What came along with the header is tensor data.
            self._source.ledger.spend(0, max(0, len(self._data) - start))
        return Header(MappingProxyType(values), records, big, start)

    def _preamble(self) -> bool:
        """Check magic and version; return whether the file is big-endian."""
        start = bytes(self._data[:32])
        problem = _foreign(start, self._where)
        if problem is not None:
            raise problem
        self._at = 4
        version = self._number("I")
        big = version != 0 and version & 0xFFFF == 0
        if big:
            self._order = ">"
            version = int.from_bytes(start[4:8], "big")
        if version not in (2, 3):
            raise UnsupportedEncoding(
                self._where, f"this is GGUF of version {version}, and 2 and 3 are read", "Convert the model again."
            )
        return big

    def _value(self, key: str, values: dict[str, object]) -> None:
        kind = self._number("I")
        if kind in _SCALARS:
            values[key] = self._scalar(_SCALARS[kind])
        elif kind == _STRING:
            length = self._number("Q")
            keep = length <= _LONGEST_TEXT and self._keeps(length)
            text = self._take(length, f"the value of '{shown(key, 80)}'", keep=keep)
            if keep:
                values[key] = text.decode("utf-8", errors="replace")
        elif kind == _ARRAY:
            self._array(key, values)
        else:
            self._fail(f"the key '{shown(key, 80)}' has a value of the unknown type {kind}")

    def _array(self, key: str, values: dict[str, object]) -> None:
        kind, count = self._number("I"), self._number("Q")
        what = f"the list '{shown(key, 80)}'"
        if kind in _SCALARS:
            code = _SCALARS[kind]
            size = count * struct.calcsize("=" + code)
            keep = count <= _LONGEST_ARRAY and self._keeps(size)
            data = self._take(size, what, keep=keep)
            if keep:
                values[key] = struct.unpack(f"{self._order}{count}{code}", data)
        elif kind == _STRING and count <= _MOST_TEXTS:
            texts = []
            for _ in range(count):
                length = self._number("Q")
                text = self._take(length, what, keep=length <= _LONGEST_TEXT and self._keeps(length))
                texts.append(text.decode("utf-8", errors="replace"))
            values[key] = tuple(texts)
        elif kind == _STRING:
            self._skip_texts(count, what)
        else:
            self._fail(f"{what} has elements of the unsupported type {kind}")

    def _keeps(self, size: int) -> bool:
        """Return whether a value may be kept, and count it."""
        self._kept += size
        return self._kept <= _MOST_KEPT

    def _skip_texts(self, count: int, what: str) -> None:
        """Walk over strings. Each says only where the next one begins, so that there is no shortcut."""
        if count * 8 > self._size - self._at:
            self._fail(f"{what} reaches beyond the end of the file")
        unpack = struct.Struct(self._order + "Q").unpack_from
        first, total = self._at, count
        while count:
            data, at = self._data, self._at
            last = len(data) - 8
            while count and at <= last:
                at += 8 + unpack(data, at)[0]
                count -= 1
            self._at = at
            if at + 8 * count > self._size:
                self._fail(f"{what} reaches beyond the end of the file")
            if count:
                average = (at - first) / max(total - count, 1)
                self._load(at + 8 + int(min(count * average, _LARGEST_STEP)))

    def _record(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text("a tensor's name", 1024)
        if not name or not is_printable_name(name):
            self._fail(f"'{shown(name, 80)}' is no name for a tensor")
        rank = self._number("I")
        if rank > _MAX_RANK:
            self._fail(f"tensor '{shown(name)}' has {rank} dimensions, and the format allows {_MAX_RANK}")
        extents = [self._number("Q") for _ in range(rank)]
        most = max(_EMPTY_EXTENT, 32 * self._size)
        if any(extent > most for extent in extents):
            self._fail(f"tensor '{shown(name)}' is larger than the file")
        return name, tuple(reversed(extents)), self._number("I"), self._number("Q")

    def _start(self, values: Mapping[str, object]) -> int:
        """Return where the data begins."""
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > _MAX_ALIGNMENT:
            self._fail(f"the alignment {shown(alignment, 40)} is no power of two within reason")
        return -(-self._at // alignment) * alignment

    def _place(self, drafts: list[tuple[str, tuple[int, ...], int, int]], start: int) -> tuple[Record, ...]:
        """Find out how many bytes each tensor takes, and that none overlaps another or leaves the file."""
        drafts.sort(key=lambda draft: draft[3])
        records: list[Record] = []
        end = start
        for position, (name, shape, kind, offset) in enumerate(drafts):
            offset += start
            numbers = numbers_of(kind)
            if not numbers.elements:
                nbytes = (drafts[position + 1][3] + start if position + 1 < len(drafts) else self._size) - offset
            else:
                size, width = math.prod(shape), shape[-1] if shape else 1
                if width % numbers.elements:
                    self._fail(f"tensor '{shown(name)}' has rows of {width}, no multiple of {numbers.elements}")
                nbytes = size // numbers.elements * numbers.nbytes
            if offset < end and nbytes:
                self._fail(f"tensor '{shown(name)}' overlaps the tensor before it")
            if nbytes < 0 or offset + nbytes > self._size:
                self._fail(f"the file is truncated: tensor '{shown(name)}' would end at byte {offset + nbytes}")
            records.append(Record(name, shape, numbers, offset, nbytes))
            end = max(end, offset + nbytes)
        return tuple(records)

    def _text(self, what: str, longest: int) -> str:
        length = self._number("Q")
        if length > longest:
            self._fail(f"{what} is {length} bytes long")
        try:
            return self._take(length, what).decode("utf-8")
        except UnicodeDecodeError:
            self._fail(f"{what} is not UTF-8 text")

    def _scalar(self, code: str) -> object:
        data = self._take(struct.calcsize("=" + code), "the header")
        value: object = struct.unpack(self._order + code, data)[0]
        return value

    def _number(self, code: str) -> int:
        number: int = struct.unpack(self._order + code, self._take(struct.calcsize("=" + code), "the header"))[0]
        return number

    def _take(self, length: int, what: str, *, keep: bool = True) -> bytes:
        """Return the next bytes and go on behind them; without ``keep`` they need not even be loaded."""
        end = self._at + length
        if end > self._size:
            self._fail(f"{what} reaches beyond the end of the file")
        if keep and end > len(self._data):
            self._load(end)
            if end > len(self._data):
                self._fail("the file changed while it was read")
        data = bytes(self._data[self._at : end]) if keep else b""
        self._at = end
        return data

    def _load(self, stop: int) -> None:
        """Load the file up to a place, and somewhat further."""
        if stop > MAX_HEADER:
            self._fail(f"the header is longer than {MAX_HEADER} bytes")
        if self._data:
            stop = min(max(stop, len(self._data) + _STEP), MAX_HEADER)
        self._data += self._source.bytes(self._name, len(self._data), stop)

    def _fail(self, problem: str) -> NoReturn:
        raise UnreadableCheckpoint(self._where, problem, _REMEDY)


def _foreign(start: bytes, where: str) -> InputError | None:
    """Say what a file is that is not GGUF, for the kinds people really meet."""
    if start.startswith(b"GGUF"):
        return None
    if start.startswith(b"version https://git-lfs"):
        return UnreadableCheckpoint(where, "this is a Git LFS pointer, not the weights", "Run `git lfs pull` first.")
    if start[:4] in (b"lmgg", b"tjgg", b"fmgg", b"algg"):
        return UnsupportedEncoding(where, "this is a GGML file from before GGUF", "Convert the model to GGUF.")
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        return UnsafeCheckpoint(where, "this is a pickle, not a GGUF file", "Give safetensors weights.")
    return UnreadableCheckpoint(where, "this is not a GGUF file", _REMEDY)
