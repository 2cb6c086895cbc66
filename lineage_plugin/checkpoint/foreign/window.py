"""Reading the scattered descriptions of a large weight file."""

from __future__ import annotations

from lineage_plugin.checkpoint.names import in_command, shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.types import FileInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["Window", "known_size", "not_over_the_hub", "refuse_remote"]

_FIRST = 1024
_LARGEST = 1 << 18
_MOST_READS = 1 << 16
"""Most stretches read of one file: a real model of 20,000 tensors takes 40,000."""


class Window:
    """A file of which short stretches are read, mostly onwards.

    Args:
        source: Where the file is.
        name: The file.
        what: What kind of file it should be, for messages.

    Raises:
        UnreadableCheckpoint: When it cannot be opened.
    """

    def __init__(self, source: Source, name: str, what: str) -> None:
        source.bytes(name, 0, 1)  # Brings the size of a local file up to date.
        self.where = f"{source.where}/{shown(name)}"
        self.name = name
        self.size = source.files[name].size
        self._source = source
        self._what = what
        self._begin = 0
        self._data = b""
        self._step = _FIRST
        self._reads = 0

    def take(self, start: int, count: int) -> bytes:
        """Return exactly ``count`` bytes from ``start``.

        Raises:
            UnreadableCheckpoint: When the file does not hold them, or too many places have been asked for.
        """
        if start < 0 or count < 0 or start + count > self.size:
            raise self.damaged("it points beyond its end")
        at = start - self._begin
        if not 0 <= at <= at + count <= len(self._data):
            self._move(start, count)
            at = start - self._begin
        return self._data[at : at + count]

    def number(self, start: int, count: int) -> int:
        """Return an unsigned little-endian integer."""
        return int.from_bytes(self.take(start, count), "little")

    def damaged(self, problem: str) -> UnreadableCheckpoint:
        """Return the error that the file is not what it should be."""
        return UnreadableCheckpoint(self.where, f"this is no intact {self._what}: {problem}", "Get the file again.")

    def _move(self, start: int, count: int) -> None:
        self._reads += 1
        if self._reads > _MOST_READS:
            raise self.damaged("it holds too many parts")
        # Who reads on without jumping gets more at a time.
        onwards = self._begin < start <= self._begin + len(self._data)
        self._step = min(2 * self._step, _LARGEST) if onwards else _FIRST
        stop = min(self.size, start + max(count, self._step))
        self._data = self._source.bytes(self.name, start, stop)
        self._begin = start
        if len(self._data) < count:
            raise UnreadableCheckpoint(
                self.where, "the file changed while it was read", "Run again when it is complete."
            )


def not_over_the_hub(source: Source, name: str, problem: str) -> UnsupportedEncoding:
    """Return the error for a file that can be read on this machine only."""
    model = in_command("/".join(source.id.split("/")[:2]), "OWNER/NAME")
    remedy = f"Download the model (`hf download {model}`) and give the folder."
    return UnsupportedEncoding(f"{source.where}/{shown(name)}", problem, remedy)


def refuse_remote(source: Source, name: str, what: str) -> None:
    """Refuse a file on the Hub whose description would take a request per tensor.

    Raises:
        UnsupportedEncoding: When the source is not on this machine.
    """
    if not source.local:
        problem = "are not read over the Hub: each tensor is described beside its numbers and would take a request"
        raise not_over_the_hub(source, name, f"{what} {problem}")


def known_size(source: Source, name: str) -> FileInfo | None:
    """Return a file of the model, looked up once more on this machine."""
    if source.local and name not in source.files:
        try:
            source.bytes(name, 0, 0)
        except UnreadableCheckpoint:
            return None
    return source.files.get(name)
