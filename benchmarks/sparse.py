"""Models of the full size of large ones that take a few megabytes of disk: files with holes.

Headers, shapes, index and configuration are those of the real thing, so every request and every byte that a reader
pays for is paid. Only the first rows of each matrix are data (:func:`benchmarks.synthetic.matrix`); the rest are holes,
which read as zeros. What is written is found out by a first run of the reader on the empty files, see :func:`write`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import HEAD, Shape, describe, header, matrix
from lineage_plugin.checkpoint import Checkpoint, Selection, open_checkpoint
from lineage_plugin.checkpoint.wrapped import Wrapped
from lineage_plugin.options import Options

__all__ = ["write"]

Reader = Callable[[Checkpoint], object]


def write(folder: Path, role: str, shape: Shape, shards: int, reader: Reader) -> Path:
    """Write a bfloat16 model of which only the rows that a reader asks for are data.

    Args:
        folder: Where to.
        role: See :func:`benchmarks.synthetic.matrix`.
        shape: Extents of the model.
        shards: Number of weight files, about equal in size.
        reader: Is given the model, and reads what it will read again.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    extents = dict(shape.tensors())
    total = 2 * sum(math.prod(extent) for extent in extents.values())
    weight_map: dict[str, str] = {}
    done = 0
    for name, extent in extents.items():
        weight_map[name] = f"model-{min(shards, 1 + done * shards // total):05d}-of-{shards:05d}.safetensors"
        done += 2 * math.prod(extent)
    for file in sorted(set(weight_map.values())):
        part = {name: extents[name] for name in extents if weight_map[name] == file}
        text = header(part, "BF16", 2)
        with (folder / file).open("wb") as out:
            out.write(text)
            out.truncate(len(text) + 2 * sum(math.prod(extent) for extent in part.values()))
    describe(folder, shape, weight_map, total)
    asked = _Asked(open_checkpoint(str(folder), options=Options()))
    reader(asked)
    numbers = {name: 1_000_000 if name == HEAD else at for at, name in enumerate(extents)}
    for name, rows in asked.rows.items():
        info = asked.tensors[name]
        values = matrix(role, numbers[name], (rows, extents[name][1]))
        with (folder / info.file).open("r+b") as out:
            out.seek(info.offset)
            out.write(values.astype(ml_dtypes.bfloat16).view(np.uint8).data)
    return folder


class _Asked(Wrapped):
    """Notes how many of the first rows of each tensor are asked for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.rows: dict[str, int] = {}

    def read(self, selections: Sequence[Selection]) -> list[NDArray[Any]]:
        """Return the selected parts."""
        for part in selections:
            last = self.tensors[part.tensor].shape[0] if part.rows is None else int(part.rows.max()) + 1
            self.rows[part.tensor] = max(last, self.rows.get(part.tensor, 0))
        return super().read(selections)
