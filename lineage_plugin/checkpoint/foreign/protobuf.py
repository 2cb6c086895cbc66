"""Protocol buffers on the wire, as far as ONNX needs them.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

from lineage_plugin.checkpoint.foreign.window import Window

__all__ = ["Field", "Fields", "signed"]

Field = tuple[int, int, int]
"""Number, first byte of the content and its end; for a varint its value, and -1 for the end."""

_MOST_FIELDS = 1 << 20
"""Most fields of a file: the graph of a 7B model has 150,000."""
_AT_ONCE = 512


class Fields:
    """Reads the fields of messages; counts them over the whole file."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self._count = 0

    def of(self, start: int, stop: int) -> Iterator[Field]:
        """Yield the fields of a message that fills a stretch of the file; the contents are not read.

        Raises:
            UnreadableCheckpoint: When it is no message.
        """
        data, base, at = b"", start, start
        while at < stop:
            # A tag and a length take at most twenty bytes; nearby ones come from one piece.
            if at - base + 20 > len(data) and base + len(data) < stop:
                data, base = self.window.take(at, min(_AT_ONCE, stop - at)), at
            self._count += 1
            if self._count > _MOST_FIELDS:
                raise self.window.damaged("it holds too many fields")
            tag, next_at = self._varint(data, at - base)
            number, wire = tag >> 3, tag & 7
            if number == 0:
                raise self.window.damaged("it holds what is no field")
            if wire == 0:
                value, end = self._varint(data, next_at)
                at = base + end
                yield number, value, -1
                continue
            if wire == 2:
                length, next_at = self._varint(data, next_at)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise self.window.damaged("it holds what is no field")
            begin = base + next_at
            at = begin + length
            if at > stop:
                raise self.window.damaged("a field does not fit its message")
            yield number, begin, at

    def numbers(self, begin: int, end: int) -> list[int]:
        """Return packed varints.

        Raises:
            UnreadableCheckpoint: When they are none, or more than any shape has.
        """
        data, at, found = self.window.take(begin, min(end - begin, 256)), 0, []
        if end - begin > len(data):
            raise self.window.damaged("a shape is too long")
        while at < len(data):
            value, at = self._varint(data, at)
            found.append(value)
        return found

    def text(self, begin: int, end: int, longest: int = 4096) -> str:
        """Return a text, or what there is of it up to ``longest`` bytes."""
        return self.window.take(begin, min(end - begin, longest)).decode("utf-8", "replace")

    def _varint(self, data: bytes, at: int) -> tuple[int, int]:
        value = shift = 0
        while at < len(data) and shift < 70:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & ((1 << 64) - 1), at
            shift += 7
        raise self.window.damaged("a number has no end")


def signed(value: int) -> int:
    """Return a varint as the signed integer that it may stand for."""
    return value - (1 << 64) if value >> 63 else value
