"""Packed fields against whole numbers of Python."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.checkpoint.schemes._packing import E2M1, Fields, look_up, scale_e8m0, unpack

WORDS = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
AWQ = (0, 4, 1, 5, 2, 6, 3, 7)


def pack(levels: list[int], bits: int, word: int) -> np.ndarray:
    """Levels one after the other in one long number, low bits first, cut into words."""
    long = sum(level << (bits * i) for i, level in enumerate(levels))
    count = -(-len(levels) * bits // word)
    return np.frombuffer(long.to_bytes(count * word // 8, "little"), np.dtype(WORDS[word]).newbyteorder("<"))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_fields(data: st.DataObject) -> None:
    """All fields, and some of them from only the words that hold them."""
    bits = data.draw(st.integers(1, 8))
    word = data.draw(st.sampled_from(sorted(WORDS)))
    levels = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=70))
    chosen = data.draw(st.sets(st.integers(0, len(levels) - 1), min_size=1))
    stored = np.stack([pack(levels, bits, word), pack(levels[::-1], bits, word)])
    fields = Fields(bits, word)
    assert fields.length(len(levels)) == stored.shape[1]
    np.testing.assert_array_equal(fields.levels(stored, None, len(levels)), [levels, levels[::-1]])
    columns = np.array(sorted(chosen), np.int64)
    words = fields.words(columns)
    assert words is not None and np.all(np.diff(words) > 0)
    touched = {b // word for c in chosen for b in range(c * bits, c * bits + bits)}
    assert words.tolist() == sorted(touched)
    found = fields.levels(stored[:, words], columns, len(levels))
    np.testing.assert_array_equal(found, np.array([levels, levels[::-1]])[:, columns])


@pytest.mark.parametrize("signed", [False, True])
def test_fields_in_another_order(signed: bool) -> None:
    levels = list(range(16))
    ordered = [0] * 16
    for i, level in enumerate(levels):
        ordered[i // 8 * 8 + AWQ[i % 8]] = level
    stored = pack(ordered, 4, 32)[None]
    stored = stored.view(np.int32) if signed else stored
    fields = Fields(4, 32, AWQ)
    np.testing.assert_array_equal(fields.levels(stored, None, 16)[0], levels)
    columns = np.array([9, 12])
    np.testing.assert_array_equal(fields.levels(stored[:, fields.words(columns)], columns, 16)[0], columns)


def test_what_is_left_over_is_no_field() -> None:
    assert unpack(np.array([[0xFF, 0xFF]], np.uint8), 3).shape == (1, 5)


def test_floats_of_four_and_eight_bits() -> None:
    """Against ml_dtypes."""
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(scale_e8m0(every), every.view(ml_dtypes.float8_e8m0fnu).astype(np.float32))
    np.testing.assert_array_equal(E2M1, np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32))


def test_tables_are_looked_up_in_pieces() -> None:
    levels = np.random.default_rng(0).integers(0, 16, (3, (1 << 20) // 2 + 5), dtype=np.uint8)
    np.testing.assert_array_equal(look_up(E2M1, levels), E2M1[levels])
