"""Where the channels on one side of a linear map are stored, and the index arrays that point at them.

Frameworks store a map from ``in`` to ``out`` channels as ``[out, in]`` (torch ``Linear``) or ``[in, out]`` (``Conv1D``
of GPT-2, Keras), and checkpoints stack several maps in one tensor. :class:`Channels` hides all of this: channel ``c``
of head ``h`` is line ``start + h * head_stride + c * step`` along ``axis``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import Vectors
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["Channels", "IndexPool", "columns", "expert_columns", "expert_rows", "rows"]

IntArray = NDArray[np.int64]

_MOST_UNITS = 1 << 24
_MOST_INDICES = 1 << 25


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels on one side of a linear map.

    Attributes:
        role: Field name of the map: ``gate``, ``q``, ...
        tensor: The tensor that stores it.
        axis: 0 when a channel's weights are a row of the matrix, 1 when they are a column.
        width: Columns of the matrix.
        count: Number of channels.
        length: Number of weights of a channel.
        start: Row or column of the first channel.
        step: Distance from one channel to the next.
        head_stride: Distance from one head to the next; None when heads follow one another without a gap.
        span: Part of the other axis that holds the weights; always given for columns, whose length the width of the
            matrix does not tell.
    """

    role: str
    tensor: TensorInfo
    axis: int
    width: int
    count: int
    length: int
    start: int = 0
    step: int = 1
    head_stride: int | None = None
    span: tuple[int, int] | None = None

    def part(self, role: str, start: int, count: int) -> Channels:
        """Return ``count`` channels from channel ``start`` on, as a map of their own."""
        return replace(self, role=role, start=self.start + start * self.step, count=count)

    def every(self, role: str, start: int, step: int, count: int) -> Channels:
        """Return ``count`` channels, every ``step``-th from ``start`` on, as a map of their own."""
        return replace(self, role=role, start=self.start + start * self.step, step=self.step * step, count=count)

    def heads(self, role: str, start: int, count: int, stride: int) -> Channels:
        """Return ``count`` channels stored head by head: the first head at ``start``, the next ``stride`` later."""
        return replace(self, role=role, start=self.start + start, count=count, head_stride=stride)

    def positions(self, head: IntArray, channel: IntArray, head_size: int) -> IntArray:
        """Return the rows or columns of channels ``channel`` of heads ``head``; shapes broadcast."""
        stride = head_size * self.step if self.head_stride is None else self.head_stride
        return self.start + head * stride + channel * self.step

    def vectors(self, index: IntArray, *, odd: bool = False) -> Vectors:
        """Return the vectors at ``index`` (see :class:`~lineage_plugin.anatomy.types.Vectors`)."""
        return Vectors(self.role, self.tensor.name, self.axis, index, self.width, self.span, odd)


def rows(role: str, info: TensorInfo) -> Channels:
    """Return the rows of a matrix: output channels of a torch ``Linear``, input channels of a ``Conv1D``."""
    return Channels(role, info, 0, info.shape[1], info.shape[0], info.shape[1])


def columns(role: str, info: TensorInfo) -> Channels:
    """Return the columns of a matrix: input channels of a torch ``Linear``, output channels of a ``Conv1D``."""
    return Channels(role, info, 1, info.shape[1], info.shape[1], info.shape[0], span=(0, info.shape[0]))


def expert_rows(role: str, info: TensorInfo, expert: int) -> Channels:
    """Return the rows of one expert in a tensor ``[experts, rows, columns]``."""
    _, height, width = info.shape
    return Channels(role, info, 0, width, height, width, start=expert * height)


def expert_columns(role: str, info: TensorInfo, expert: int) -> Channels:
    """Return the columns of one expert in a tensor ``[experts, rows, columns]``."""
    _, height, width = info.shape
    return Channels(role, info, 1, width, width, height, span=(expert * height, (expert + 1) * height))


class IndexPool:
    """Makes index arrays once and shares them: all layers of a model usually have the same ones.

    The arrays are read-only. The pool bounds what a hostile header can make it allocate.
    """

    def __init__(self) -> None:
        self._arrays: dict[tuple[object, ...], IntArray] = {}
        self._indices = 0

    def get(
        self, key: tuple[object, ...], units: int, per_unit: int, make: Callable[[], IntArray], where: str
    ) -> IntArray:
        """Return the array made by ``make``, made at most once for each key.

        Args:
            key: What the array depends on.
            units: Number of units.
            per_unit: Number of indices a unit has.
            make: Makes the array.
            where: The file to blame when the array would be absurdly large.

        Returns:
            The array, read-only.

        Raises:
            UnreadableCheckpoint: When the numbers exceed any real model's.
        """
        array = self._arrays.get(key)
        if array is None:
            self._indices += units * per_unit
            if units > _MOST_UNITS or self._indices > _MOST_INDICES:
                raise UnreadableCheckpoint(
                    where, f"declares {units} hidden units in one tensor, more than any real model", "Check the file."
                )
            array = make()
            array.setflags(write=False)
            self._arrays[key] = array
        return array

    def lines(self, channels: Channels) -> IntArray:
        """Return the ``[count, 1]`` positions of all channels of a map."""
        start, step, count = channels.start, channels.step, channels.count

        def make() -> IntArray:
            return (start + step * np.arange(count, dtype=np.int64))[:, None]

        return self.get(("lines", start, step, count), count, 1, make, channels.tensor.file)

    def labels(self, units: int, size: int, where: str) -> IntArray:
        """Return block labels for ``units`` units in blocks of ``size`` neighbours."""
        return self.get(("labels", units, size), units, 1, lambda: np.arange(units, dtype=np.int64) // size, where)
