"""Planning and assembling byte ranges: few requests, few bytes, no loop over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Piece", "collect", "merge"]

IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file that are at hand.

    Attributes:
        start: Position of the first byte in the file.
        data: The bytes.
    """

    start: int
    data: bytes


def merge(starts: IntArray, stops: IntArray, gap: int, most: int) -> list[tuple[int, int]]:
    """Merge stretches of a file into ranges worth a request each.

    Args:
        starts: ``[n]`` first bytes.
        stops: ``[n]`` ends, each after its start.
        gap: Stretches with at most this many bytes between them become one range.
        most: Largest number of ranges; beyond it the smallest gaps are closed, whatever their size.

    Returns:
        Disjoint ``(start, stop)`` in order, which cover every stretch.
    """
    if not starts.size:
        return []
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(stops[order])
    between = starts[1:] - ends[:-1]
    if int(np.count_nonzero(between > gap)) >= most:
        # Keep the `most - 1` widest gaps; ties are closed.
        gap = int(np.partition(between, between.size - most)[between.size - most])
    edges = np.flatnonzero(between > gap)
    first = np.concatenate(([0], edges + 1))
    last = np.concatenate((edges, [starts.size - 1]))
    return [(int(a), int(b)) for a, b in zip(starts[first], ends[last], strict=True)]


def collect(starts: IntArray, length: int, pieces: Sequence[Piece]) -> NDArray[np.uint8]:
    """Take equally long stretches out of the pieces that hold them.

    Args:
        starts: ``[n]`` position of each stretch in the file.
        length: Bytes of each stretch, positive.
        pieces: Each stretch lies inside one of them.

    Returns:
        ``[n, length]`` bytes, a new array.
    """
    result = np.empty((starts.size, length), np.uint8)
    left = np.ones(starts.size, bool)
    for piece in pieces:
        mine = left & (starts >= piece.start) & (starts + length <= piece.start + len(piece.data))
        if mine.any():
            # Every window of `length` bytes as a row of one view, so that the copy is a single indexing operation.
            windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(piece.data, np.uint8), length)
            result[mine] = windows[starts[mine] - piece.start]
            left &= ~mine
    if left.any():
        raise ValueError("a stretch lies in no piece")
    return result
