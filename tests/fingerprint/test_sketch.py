"""Sign bits against an implementation that shares nothing with them, and against the law that they should obey."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from lineage_plugin.fingerprint import sketch as module
from lineage_plugin.fingerprint.sketch import TILE, signs, sketch

WORD = (1 << 64) - 1


def slow_sign(key: int, number: int) -> int:
    """Sign ``number``, counted from 1, of a sequence: SplitMix64 in whole numbers of Python."""
    z = (key + number * 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    z ^= z >> 31
    return -1 if z >> 63 else 1


def slow_bits(x: np.ndarray, bits: int, unit: int) -> list[int]:
    """The bits of one vector, by matrices, as ``docs/fingerprint.md`` describes them but without folding."""
    dim = x.shape[0]
    size = 1
    while size < max(dim, bits):
        size *= 2
    hadamard = scipy.linalg.hadamard(size).astype(np.float64)
    first = [slow_sign((dim << 32) + (1 << 24) + unit // 16, j + 1) for j in range(dim)]
    second = [slow_sign((dim << 32) + (2 << 24), j + 1) for j in range(size)]
    padded = np.zeros(size)
    padded[:dim] = np.array(first) * x
    turned = hadamard @ (np.array(second) * (hadamard @ padded))
    lead = next((value > 0 for value in x if value), False)
    return [int(value > 0 or (value == 0 and lead)) for value in turned[:bits]]


def unpacked(packed: np.ndarray) -> np.ndarray:
    return np.array([[byte >> (7 - place) & 1 for byte in row for place in range(8)] for row in packed.tolist()])


def at_angle(rng: np.random.Generator, theta: float, pairs: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of vectors in uniform directions, at an angle."""
    x = rng.normal(size=(pairs, dim))
    y = rng.normal(size=(pairs, dim))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y -= (x * y).sum(axis=1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return x.astype(np.float32), (np.cos(theta) * x + np.sin(theta) * y).astype(np.float32)


def test_signs_are_those_of_splitmix64() -> None:
    # The first outputs of the reference generator from seed 1234567 (Vigna, prng.di.unimi.it/splitmix64.c).
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert signs(1234567, 4).tolist() == [-1.0 if value >> 63 else 1.0 for value in reference]
    for key in (0, 1, 192 << 32 | 1 << 24 | 17, WORD):
        assert signs(key, 300).tolist() == [slow_sign(key, n + 1) for n in range(300)]


@pytest.mark.parametrize(
    ("dim", "bits"), [(1, 8), (3, 8), (5, 8), (8, 8), (9, 16), (64, 32), (100, 16), (192, 256), (257, 8), (300, 128)]
)
def test_bits_are_those_of_an_independent_implementation(dim: int, bits: int) -> None:
    rng = np.random.default_rng(dim)
    # Whole numbers are added without rounding; the others are far from zero.
    for vectors in (rng.integers(-1000, 1000, (40, dim)).astype(np.float32), rng.normal(size=(40, dim)).astype("f4")):
        vectors[~vectors.any(axis=1)] = 1
        packed, usable = sketch(vectors, bits)
        assert packed.dtype == np.uint8 and packed.shape == (40, bits // 8) and usable.all()
        assert unpacked(packed).tolist() == [
            slow_bits(x.astype(np.float64), bits, unit) for unit, x in enumerate(vectors)
        ]


def test_bits_do_not_depend_on_what_else_is_sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(70, 48)).astype(np.float32)
    packed, usable = sketch(vectors, 16)
    for first, last in ((0, 1), (5, 40), (16, 32), (63, 70)):
        again, _ = sketch(vectors[first:last], 16, first)
        assert np.array_equal(again, packed[first:last])
    monkeypatch.setattr(module, "_CHUNK", 64 * 7)
    again, fine = sketch(vectors, 16)
    assert np.array_equal(again, packed) and np.array_equal(fine, usable)


@pytest.mark.parametrize("theta", [0.1, 0.5, 1.0, np.pi / 2, 2.0, 3.0])
def test_bits_agree_as_often_as_the_angle_says(theta: float) -> None:
    """Over pairs in uniform directions each bit agrees with probability 1 - theta / pi, pairs independently."""
    pairs, dim, bits = 4000, 96, 64
    x, y = at_angle(np.random.default_rng(1), theta, pairs, dim)
    agree = unpacked(sketch(x, bits)[0]) == unpacked(sketch(y, bits)[0])
    rate = 1 - theta / np.pi
    low, high = scipy.stats.binom.interval(1 - 1e-7, pairs, rate)
    counts = agree.sum(axis=0)
    assert low <= counts.min() and counts.max() <= high
    # All bits together vary less than independent ones, for the angle of every pair is given.
    low, high = scipy.stats.binom.interval(1 - 1e-7, pairs * bits, rate)
    assert low <= counts.sum() <= high


@pytest.mark.parametrize("kind", ["outlier", "sparse", "ramp"])
def test_two_turns_make_directions_of_any_vector_random_enough(kind: str) -> None:
    """For one pair of vectors, however lopsided, over many tiles: the law holds over the draw of the signs."""
    rng = np.random.default_rng(2)
    dim, tiles, bits = 256, 1000, 64
    x, y = at_angle(rng, 1.0, 1, dim)
    if kind == "outlier":
        x[0, 7], y[0, 7] = 5.0, 5.0
    if kind == "sparse":
        x[0, 12:], y[0, 12:] = 0.0, 0.0
    if kind == "ramp":
        x, y = x + np.linspace(0, 0.3, dim, dtype=np.float32), y + np.linspace(0.3, 0, dim, dtype=np.float32)
    theta = np.arccos((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
    agree = np.mean(
        [
            unpacked(sketch(x, bits, tile * TILE)[0]) == unpacked(sketch(y, bits, tile * TILE)[0])
            for tile in range(tiles)
        ]
    )
    assert agree == pytest.approx(1 - theta / np.pi, abs=0.02)


def test_flipping_a_vector_flips_all_its_bits() -> None:
    vectors = np.random.default_rng(3).normal(size=(64, 200)).astype(np.float32)
    vectors[::2] *= np.random.default_rng(4).random((32, 200)) < 0.2  # pruned
    vectors[5] *= np.float32(1e30)
    vectors[6] *= np.float32(1e-38)
    packed, usable = sketch(vectors, 64)
    flipped, _ = sketch(-vectors, 64)
    assert usable.all() and np.array_equal(packed ^ flipped, np.full_like(packed, 255))


def test_flipping_a_ternary_vector_flips_all_its_bits() -> None:
    vectors = np.random.default_rng(5).integers(-1, 2, (64, 64)).astype(np.float32) * np.float32(0.0137)
    packed, usable = sketch(vectors, 32)
    flipped, _ = sketch(-vectors, 32)
    assert usable.all() and np.array_equal(packed ^ flipped, np.full_like(packed, 255))


def test_exchanging_vectors_of_a_tile_exchanges_their_bits() -> None:
    vectors = np.random.default_rng(6).normal(size=(32, 40)).astype(np.float32)
    order = np.concatenate([np.random.default_rng(7).permutation(16), 16 + np.random.default_rng(8).permutation(16)])
    assert np.array_equal(sketch(vectors[order], 32)[0], sketch(vectors, 32)[0][order])
    # Another tile has another rotation.
    assert not np.array_equal(sketch(vectors, 32, 16)[0], sketch(vectors, 32)[0])


def test_scaling_a_vector_leaves_its_bits() -> None:
    vectors = np.random.default_rng(9).normal(size=(16, 50)).astype(np.float32)
    scale = 2.0 ** np.arange(-8, 8, dtype=np.float32)[:, None]
    assert np.array_equal(sketch(vectors * scale, 64)[0], sketch(vectors, 64)[0])


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf])
def test_vectors_that_are_zero_or_not_finite_have_no_bits(bad: float) -> None:
    vectors = np.random.default_rng(10).normal(size=(20, 24)).astype(np.float32)
    clean, _ = sketch(vectors, 16)
    vectors[3, :] = bad
    vectors[18, 5:] = bad
    packed, usable = sketch(vectors, 16)
    gone = [3] if bad == 0.0 else [3, 18]
    assert np.flatnonzero(~usable).tolist() == gone and not packed[gone].any()
    rest = np.delete(np.arange(20), [3, 18])
    assert np.array_equal(packed[rest], clean[rest])


def test_nothing_has_no_bits() -> None:
    packed, usable = sketch(np.zeros((0, 12), np.float32), 8)
    assert packed.shape == (0, 1) and usable.shape == (0,)


def test_sequences_of_signs_do_not_overlap() -> None:
    """All keys lie on one cycle of 2^64 states; no sequence reaches the start of another within 2^32 steps."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 1 << 64)
    tiles = [(1 << 24) + tile for tile in range(1 << 10)]
    keys = np.array([(dim << 32) + turn for dim in (8, 64, 192, 4096, 11008) for turn in (2 << 24, *tiles)], np.uint64)
    with np.errstate(over="ignore"):
        places = np.sort(keys * np.uint64(inverse))
        gaps = np.diff(np.append(places, places[0]))
    assert gaps.min() > 1 << 32
