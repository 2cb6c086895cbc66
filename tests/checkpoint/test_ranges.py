"""Planning and assembling byte ranges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.checkpoint.matrix import block, gather, segments
from lineage_plugin.checkpoint.ranges import Piece, collect, merge
from lineage_plugin.checkpoint.types import Selection, TensorInfo


def spans(*pairs: tuple[int, int], gap: int = 0, most: int = 100) -> list[tuple[int, int]]:
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return merge(array[:, 0], array[:, 1], gap, most)


def test_near_stretches_become_one() -> None:
    assert spans() == []
    assert spans((0, 4), (4, 8)) == [(0, 8)]
    assert spans((0, 4), (5, 8)) == [(0, 4), (5, 8)]
    assert spans((0, 4), (5, 8), gap=1) == [(0, 8)]
    assert spans((20, 30), (0, 4), (2, 6)) == [(0, 6), (20, 30)]
    assert spans((0, 100), (10, 20), (101, 102)) == [(0, 100), (101, 102)]


def test_too_many_ranges_close_the_smallest_gaps() -> None:
    pairs = ((0, 1), (11, 12), (14, 15), (115, 116), (120, 121))
    assert spans(*pairs, most=5) == list(pairs)
    assert spans(*pairs, most=3) == [(0, 1), (11, 15), (115, 121)]
    assert spans(*pairs, most=2) == [(0, 15), (115, 121)]
    assert spans(*pairs, most=1) == [(0, 121)]
    assert len(spans(*((i, i + 1) for i in range(0, 1000, 10)), most=7)) <= 7


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 40)), max_size=30),
    st.integers(0, 50),
    st.integers(1, 8),
)
def test_merged_ranges_cover_everything_and_nothing_needless(pairs: list[tuple[int, int]], gap: int, most: int) -> None:
    stretches = [(start, start + length) for start, length in pairs]
    merged = spans(*stretches, gap=gap, most=most)
    assert len(merged) <= most
    assert all(any(a <= start and stop <= b for a, b in merged) for start, stop in stretches)
    assert all(left[1] < right[0] for left, right in pairwise(merged))
    wanted = {byte for start, stop in stretches for byte in range(start, stop)}
    for a, b in merged:
        assert {a, b - 1} <= wanted
    free = spans(*stretches, gap=gap, most=1000)
    if len(free) <= most:
        assert merged == free


def test_collect_refuses_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no piece"):
        collect(np.array([5]), 4, [Piece(0, b"12345678")])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_ranges_give_what_memory_gives(data: st.DataObject) -> None:
    """Segments, merged, cut out of the file and put together again equal the direct view."""
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=0, max_size=3)))
    size = int(np.prod(shape, dtype=np.int64))
    offset = data.draw(st.integers(0, 9))
    values = np.arange(size, dtype=np.uint16)
    file = bytes(offset) + values.tobytes()
    info = TensorInfo("w", shape, "F16", "f", offset, 2 * size)
    whole = block(Selection("w"), info)

    def some(extent: int) -> np.ndarray | None:
        picked = data.draw(st.none() | st.sets(st.integers(0, extent - 1), min_size=1))
        return None if picked is None else np.array(sorted(picked), np.int64)

    part = block(Selection("w", some(whole.height), some(whole.width)), info)
    gap = data.draw(st.integers(0, 12))
    matrix = values.reshape(whole.height, whole.width)
    want = gather(matrix, part)
    found = np.full(part.shape, 60_000, np.uint16)
    for stretch in segments(part, 2, gap):
        pieces = [Piece(a, file[a:b]) for a, b in merge(stretch.starts, stretch.starts + stretch.length, gap, most=4)]
        raw = collect(stretch.starts, stretch.length, pieces).view(np.uint16).reshape(part.shape[0], -1)
        found[:, stretch.target] = raw if stretch.picks is None else raw[:, stretch.picks]
    np.testing.assert_array_equal(found, want)
    np.testing.assert_array_equal(
        want,
        matrix[
            np.ix_(
                np.arange(whole.height) if part.rows is None else part.rows,
                np.arange(whole.width) if part.columns is None else part.columns,
            )
        ],
    )
