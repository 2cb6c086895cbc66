"""Counting bits, and the cosine that stands behind the count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lineage_plugin.fingerprint.bits import cosine_table, dots, popcount, words
from lineage_plugin.fingerprint.sketch import sketch


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 12, 20, 32, 128])
@pytest.mark.parametrize("numpy_counts", [True, False])
def test_dots_are_the_inner_products_of_signs(size: int, numpy_counts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not numpy_counts:
        monkeypatch.delattr(np, "bitwise_count", raising=False)
    rng = np.random.default_rng(size)
    a, b = rng.integers(0, 256, (4, 1, size), dtype=np.uint8), rng.integers(0, 256, (3, size), dtype=np.uint8)
    a[0, 0], b[0] = 0, 255
    one, other = (1 - 2 * np.unpackbits(part, axis=-1).astype(np.int64) for part in (a, b))
    assert np.array_equal(dots(a, b), (one * other).sum(axis=-1))
    # Bits that do not lie side by side in memory.
    wide = np.repeat(b, 2, axis=1)[:, ::2]
    assert np.array_equal(dots(a, wide), dots(a, b))


def test_words_hold_all_bits() -> None:
    packed = np.arange(24, dtype=np.uint8).reshape(2, 12)
    assert words(packed).dtype == np.uint32 and words(packed).shape == (2, 3)
    assert popcount(words(packed)).sum() == sum(value.bit_count() for value in range(24))
    assert popcount(np.array([0, 2**64 - 1], np.uint64)).tolist() == [0, 64]


@pytest.mark.parametrize("bits", [8, 16, 24, 32, 64, 128, 256, 512, 1024])
def test_the_cosine_is_unbiased_under_the_binomial_law(bits: int) -> None:
    table = cosine_table(bits)
    theta = np.linspace(0, np.pi, 201)
    law = stats.binom.pmf(np.arange(bits + 1), bits, 1 - theta[:, None] / np.pi)
    assert np.abs(law @ table - np.cos(theta)).max() < 1e-6
    # The share of agreements put into the sine is not.
    naive = np.sin(np.pi * (np.arange(bits + 1) / bits - 0.5))
    assert np.abs(law @ naive - np.cos(theta)).max() > 0.5 / bits
    # Nor is the price high: the deviation is hardly more than that of the naive one.
    spread = [np.sqrt(law[100] @ (values - law[100] @ values) ** 2) for values in (table, naive)]
    assert spread[0] < 1.2 * spread[1]
    assert table == pytest.approx(-table[::-1], abs=1e-7) and np.abs(table).max() == pytest.approx(1, abs=1e-4)
    assert not table.flags.writeable


def vectors(rng: np.random.Generator, kind: str, units: int, dim: int) -> np.ndarray:
    """Rows as weights have them, and worse."""
    values = rng.standard_normal((units, dim))
    if kind == "heavy tails":
        values = rng.standard_t(1.5, (units, dim))
    if kind == "sparse":
        values *= rng.random((units, dim)) < 0.05
    if kind == "common direction":
        values += 2 * np.random.default_rng(0).standard_normal(dim)
    if kind == "outlying column":
        values[:, 3] += 5 * rng.standard_normal(units)
    return values


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "sparse", "common direction", "outlying column"])
@pytest.mark.parametrize(("dim", "bits"), [(64, 16), (96, 128), (1024, 256)])
def test_the_cosine_is_unbiased_with_the_real_sketch(kind: str, dim: int, bits: int) -> None:
    """Over many units, each with one of 64 rotations: regressed on the true cosine the estimate has slope 1."""
    rng = np.random.default_rng(dim + bits)
    base, noise = (vectors(rng, kind, 1024, dim).astype(np.float32) for _ in range(2))
    share = rng.uniform(-1, 1, (1024, 1)).astype(np.float32)
    suspect = share * base + np.sqrt(1 - share**2) * noise
    (a, one), (b, other) = sketch(suspect, bits), sketch(base, bits)
    estimate = cosine_table(bits)[(dots(a, b) + bits) // 2][one & other]
    x, y = (part[one & other].astype(np.float64) for part in (suspect, base))
    truth = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    slope = float(estimate @ truth / (truth @ truth))
    assert slope == pytest.approx(1, abs=0.05)
    assert (estimate - truth).mean() == pytest.approx(0, abs=0.05)
    # The noise is that of as many independent bits, or less.
    assert np.abs(estimate - truth).mean() < 1.25 * np.pi / 2 / np.sqrt(bits)
