"""A checkpoint seen through another one: everything that is not changed is passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.types import Checkpoint, Cost, FileInfo, Selection, TensorInfo

__all__ = ["Wrapped"]


class Wrapped:
    """Passes everything on; satisfies :class:`~lineage_plugin.checkpoint.types.Checkpoint`.

    Args:
        checkpoint: The checkpoint.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def id(self) -> str:
        """What the user called it."""
        return self._checkpoint.id

    @property
    def revision(self) -> str | None:
        """Commit hash for a model on the Hub, else None."""
        return self._checkpoint.revision

    @property
    def local(self) -> bool:
        """Whether reading is a memory access."""
        return self._checkpoint.local

    @property
    def format(self) -> str:
        """Name of the weight format."""
        return self._checkpoint.format

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files by name."""
        return self._checkpoint.files

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Names of the weight files."""
        return self._checkpoint.weight_files

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by name."""
        return self._checkpoint.tensors

    @property
    def config(self) -> Mapping[str, object]:
        """``config.json``, or an empty mapping."""
        return self._checkpoint.config

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the weight files say about themselves."""
        return self._checkpoint.metadata

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left aside."""
        return self._checkpoint.notes

    def text(self, name: str, limit: int = 1 << 20) -> str | None:
        """Return a small text file of the model."""
        return self._checkpoint.text(name, limit)

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file of the model."""
        return self._checkpoint.data(name, limit)

    def read(self, selections: Sequence[Selection]) -> list[NDArray[np.float32]]:
        """Return the selected parts."""
        return self._checkpoint.read(selections)

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of the weight files as far as known."""
        return self._checkpoint.digests(compute=compute)

    def cost(self) -> Cost:
        """Return what has been spent so far."""
        return self._checkpoint.cost()
