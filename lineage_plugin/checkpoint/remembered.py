"""A checkpoint that remembers what it has read: a later stage looks at the same rows without a second request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.types import Checkpoint, Cost, FileInfo, Selection, TensorInfo

__all__ = ["Remembered"]

FloatArray = NDArray[np.float32]
_Key = tuple[str, bytes | None, bytes | None, int | None]


class Remembered:
    """Wraps a checkpoint; satisfies :class:`~lineage_plugin.checkpoint.types.Checkpoint`.

    Args:
        checkpoint: The checkpoint.
        limit: Bytes of float32 matrices that are kept; the oldest are dropped first.
    """

    def __init__(self, checkpoint: Checkpoint, limit: int = 128 << 20) -> None:
        self._checkpoint = checkpoint
        self._limit = limit
        self._held = 0
        self._blocks: OrderedDict[_Key, FloatArray] = OrderedDict()

    def read(self, selections: Sequence[Selection]) -> list[FloatArray]:
        """Return the selected parts, those that are remembered without reading."""
        keys = [_key(selection) for selection in selections]
        found = {key: self._blocks[key] for key in keys if key in self._blocks}
        missing = {key: s for key, s in zip(keys, selections, strict=True) if key not in found}
        for key, block in zip(missing, self._checkpoint.read(list(missing.values())), strict=True):
            found[key] = block
            if block.nbytes <= self._limit:
                self._blocks[key] = block
                self._held += block.nbytes
        while self._held > self._limit:
            self._held -= self._blocks.popitem(last=False)[1].nbytes
        return [found[key] for key in keys]

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

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of the weight files as far as known."""
        return self._checkpoint.digests(compute=compute)

    def cost(self) -> Cost:
        """Return what has been spent so far."""
        return self._checkpoint.cost()


def _key(selection: Selection) -> _Key:
    rows = None if selection.rows is None else selection.rows.tobytes()
    columns = None if selection.columns is None else selection.columns.tobytes()
    return selection.tensor, rows, columns, selection.width
