"""The place a checkpoint is read from: a folder on this machine, or a repository of the Hub at one commit.

Formats ask a :class:`Source` for bytes and know nothing else about places; places know nothing about formats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.matrix import Block
from lineage_plugin.checkpoint.types import FileInfo

__all__ = ["Source"]

T = TypeVar("T")


class Source(Protocol):
    """Where the files of a model are, and how bytes are had from them."""

    @property
    def id(self) -> str:
        """What the user called the model."""

    @property
    def where(self) -> str:
        """The model as messages name it."""

    @property
    def revision(self) -> str | None:
        """Commit hash for a model on the Hub, else None."""

    @property
    def local(self) -> bool:
        """Whether reading is a memory access rather than a request."""

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files of the model by name."""

    @property
    def ledger(self) -> Ledger:
        """The counters of what was read."""

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file that is no weight file, at most ``limit`` bytes of it, or None when there is none.

        Raises:
            UnreadableCheckpoint: When it is there but cannot be read.
            HubError: When the Hub does not deliver.
        """

    def bytes(self, name: str, start: int, stop: int) -> bytes:
        """Return a stretch of a weight file that describes its tensors; it counts as read, and not as tensor data.

        The beginning of a file may be asked for again and again, longer each time: only what is new is read.

        Args:
            name: The file.
            start: First byte.
            stop: End; what lies beyond the end of the file is left out.

        Raises:
            BudgetExceeded: When the byte budget does not hold it.
            UnreadableCheckpoint: When the file cannot be read.
            HubError: When the Hub does not deliver.
        """

    def gather(self, parts: Sequence[Block], kinds: Sequence[np.dtype[np.generic]]) -> list[NDArray[np.generic]]:
        """Return the selected elements of stored tensors as they are stored, in order.

        Args:
            parts: What to read.
            kinds: The numpy type of the elements of each.

        Returns:
            One ``[rows, columns]`` array a part; it may be a view of a file and must not be written to.

        Raises:
            BudgetExceeded: When the byte budget does not hold all of it; nothing is read then.
            UnreadableCheckpoint: When a file cannot be read.
            HubError: When the Hub does not deliver.
        """

    def digests(self, names: Sequence[str], *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of files as far as known; with ``compute``, read local files to know them all."""

    def each(self, work: Callable[[str], T], names: Sequence[str]) -> list[T]:
        """Do something with every file, side by side where that saves time, and return the results in order."""
