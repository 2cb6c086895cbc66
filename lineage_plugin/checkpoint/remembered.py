"""A checkpoint that remembers what it has read: a later stage looks at the same rows without a second request."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.checkpoint.wrapped import Wrapped

__all__ = ["Remembered"]

FloatArray = NDArray[np.float32]
_Key = tuple[str, bytes | None, bytes | None, int | None]


class Remembered(Wrapped):
    """A checkpoint that keeps what it has read.

    Args:
        checkpoint: The checkpoint.
        limit: Bytes of float32 matrices that are kept; the oldest are dropped first.
    """

    def __init__(self, checkpoint: Checkpoint, limit: int = 128 << 20) -> None:
        super().__init__(checkpoint)
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


def _key(selection: Selection) -> _Key:
    rows = None if selection.rows is None else selection.rows.tobytes()
    columns = None if selection.columns is None else selection.columns.tobytes()
    return selection.tensor, rows, columns, selection.width
