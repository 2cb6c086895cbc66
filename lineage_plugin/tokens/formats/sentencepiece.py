"""``tokenizer.model``, sentencepiece's file: a protocol buffer whose field 1 repeats the pieces.

Only what is needed is read: the piece (field 1), and its type (field 3), of each message in field 1; the rest is
skipped by its wire type (https://protobuf.dev/programming-guides/encoding). A piece's number is its place. Some models
ship a tiktoken file under this name; it is told apart by its first line.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens.formats import tiktoken
from lineage_plugin.tokens.spelling import BYTE, PIECE, Entry, sentence_piece
from lineage_plugin.tokens.vocabulary import MOST_TOKENS

__all__ = ["parse"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_BYTE_TYPE: Final = 6
_LONGEST_VARINT = 10


class _Damaged(ValueError):
    """What is wrong with the file, as a phrase."""


def parse(data: bytes, where: str) -> list[Entry]:
    """Return the tokens of a sentencepiece model.

    Args:
        data: The file.
        where: The file, for messages.

    Returns:
        The tokens.

    Raises:
        UnreadableCheckpoint: When it is not such a file.
    """
    if tiktoken.looks_like(data):
        return tiktoken.parse(data, where)
    entries: list[Entry] = []
    try:
        for field, wire, start, stop in _fields(data, 0, len(data)):
            if field == 1:
                if wire != _LENGTH:
                    raise _Damaged("a piece is no message")
                if len(entries) == MOST_TOKENS:
                    raise _Damaged("it has too many pieces")
                entries.append(_piece(data, start, stop, len(entries)))
    except _Damaged as error:
        raise UnreadableCheckpoint(
            where, f"this is not a sentencepiece model: {error}", "Get the file again."
        ) from None
    if not entries:
        raise UnreadableCheckpoint(where, "this is not a sentencepiece model: it has no pieces", "Get the file again.")
    return entries


def _piece(data: bytes, start: int, stop: int, row: int) -> Entry:
    text, kind = "", 1
    for field, wire, first, end in _fields(data, start, stop):
        if field == 1 and wire == _LENGTH:
            try:
                text = data[first:end].decode("utf-8")
            except UnicodeDecodeError:
                raise _Damaged("a piece is not UTF-8 text") from None
        elif field == 3 and wire == _VARINT:
            kind, _ = _varint(data, first, end)
    entry = sentence_piece(text, row)
    # "<0x41>" is a byte only where the model says so.
    if entry.rank == BYTE and kind != _BYTE_TYPE:
        return Entry(text.encode("utf-8"), row, PIECE)
    return entry


def _fields(data: bytes, position: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, first byte and end of the fields of a message."""
    while position < stop:
        key, position = _varint(data, position, stop)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, end = _varint(data, position, stop)
        elif wire == _FIXED64:
            end = position + 8
        elif wire == _FIXED32:
            end = position + 4
        elif wire == _LENGTH:
            length, position = _varint(data, position, stop)
            end = position + length
        else:
            raise _Damaged(f"a field has the wire type {wire}")
        if field == 0 or end > stop:
            raise _Damaged("a field leads out of its message")
        yield field, wire, position, end
        position = end


def _varint(data: bytes, position: int, stop: int) -> tuple[int, int]:
    """Return the number at a position, and where it ends."""
    value = 0
    for shift in range(_LONGEST_VARINT):
        if position >= stop:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position
    raise _Damaged("a number has no end")
