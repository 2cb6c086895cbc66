"""What two fingerprints share, against the same statistics of the weights themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lineage_plugin.evidence.effects import cosine, differences, ratio_interval
from lineage_plugin.evidence.inheritance import RowEnergies
from lineage_plugin.evidence.inheritance import slope_interval as slope_of_weights
from lineage_plugin.fingerprint.coins import agreement
from lineage_plugin.fingerprint.shared import Products, curve, pair_moments, products, slope_interval
from tests.evidence.builders import sample
from tests.fingerprint.synthetic import strip

Rows = np.ndarray


def exact(suspect: Rows, base: Rows) -> Products:
    """The products of ``[layers, units, dim]`` vectors without any estimate; units a multiple of 16."""
    tiled = [part.reshape(part.shape[0], -1, 16, part.shape[2]) for part in (suspect, base)]
    return Products(
        cross=np.einsum("ltad,ltbd->ltab", *tiled),
        suspect=(suspect**2).sum(axis=2),
        base=(base**2).sum(axis=2),
        suspect_pairs=(suspect[:, ::2] * suspect[:, 1::2]).sum(axis=2),
        base_pairs=(base[:, ::2] * base[:, 1::2]).sum(axis=2),
        dim=base.shape[2],
        suspect_own=np.einsum("lad,lbd->lab", suspect[:, :16], suspect[:, :16]),
        base_own=np.einsum("lad,lbd->lab", base[:, :16], base[:, :16]),
        alike=np.ones(base.shape[0]),
    )


def estimated(suspect: Rows, base: Rows, bits: int) -> Products:
    mine, theirs = strip("gate", suspect, bits), strip("gate", base, bits)
    at = np.arange(base.shape[0])
    return products(agreement(mine.bits, theirs.bits), bits, (mine, at), (theirs, at))


def rows(rng: np.random.Generator, layers: int, units: int, dim: int, spread: float = 0.3) -> Rows:
    return np.exp(spread * rng.standard_normal((layers, units, 1))) * rng.standard_normal((layers, units, dim))


# --- products and pair moments ----------------------------------------------------------------------------------------


def test_moments_of_exact_products_are_those_of_the_weights() -> None:
    rng = np.random.default_rng(0)
    base = rows(rng, 3, 32, 20).astype(np.float32).astype(np.float64)
    suspect = (base + rows(rng, 3, 32, 20)).astype(np.float32).astype(np.float64)
    found = pair_moments(exact(suspect, base), 32)
    pairs = np.arange(32).reshape(-1, 2)
    for layer in range(3):
        (part,) = differences(sample([suspect[layer]], [base[layer]], (False,), pairs=pairs))
        assert found.cross[layer] == pytest.approx(part.cross) and found.suspect[layer] == pytest.approx(part.suspect)
        assert found.base[layer] == pytest.approx(part.base)
        near, weight = found.layer_cosines()
        assert near[layer] == pytest.approx(cosine([part])) and weight[layer] == 16
        assert found.cosines()[layer] == pytest.approx(part.cross / np.sqrt(part.suspect * part.base))
    mirrored = pair_moments(exact(suspect, base).exchanged(), 32)
    assert np.allclose(mirrored.cross, found.cross) and np.array_equal(mirrored.base, found.suspect)


def test_pairs_across_blocks_or_without_a_length_do_not_count() -> None:
    rng = np.random.default_rng(1)
    base = rows(rng, 1, 16, 8)
    assert pair_moments(exact(base, base), 8).usable.all()
    usable = pair_moments(exact(base, base), 3).usable[0]
    assert usable.tolist() == [(2 * at) // 3 == (2 * at + 1) // 3 for at in range(8)]
    broken = exact(base, base)
    broken.base[0, 5] = np.nan
    moments = pair_moments(broken, 16)
    assert np.flatnonzero(~moments.usable[0]).tolist() == [2]
    assert moments.cross[0, 2] == moments.base[0, 2] == moments.cosines()[0, 2] == 0


def test_a_model_shares_all_of_itself() -> None:
    base = rows(np.random.default_rng(2), 2, 32, 48)
    found = pair_moments(estimated(base, base, 32), 32)
    assert np.allclose(found.cross, found.base, rtol=1e-6) and np.allclose(found.suspect, found.base)
    assert ratio_interval(found.cross[found.usable], found.base[found.usable]).estimate == pytest.approx(1)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "sparse", "outlying column"])
def test_the_share_kept_is_unbiased_and_its_interval_honest(kind: str) -> None:
    """Bits of one tile, 8 layers: rotations are shared by all layers, and the intervals do not know of it."""
    rng = np.random.default_rng(3)
    kept, held, estimates, truths = 0.6, 0, [], []
    for _ in range(40):
        column = int(rng.integers(96))
        base, noise = (_weights(rng, kind, column) for _ in range(2))
        suspect = kept * base + 0.5 * noise
        found, whole = pair_moments(estimated(suspect, base, 32), 16), pair_moments(exact(suspect, base), 16)
        interval = ratio_interval(found.cross[found.usable], found.base[found.usable])
        assert interval.estimate is not None and interval.low is not None and interval.high is not None
        truth = float(whole.cross.sum() / whole.base.sum())
        held += interval.low <= truth <= interval.high
        estimates.append(interval.estimate)
        truths.append(truth)
    assert held >= 33, "95% intervals; 33 of 40 or fewer come once in 100 times at 92%"
    assert np.mean(estimates) == pytest.approx(np.mean(truths), abs=0.02)


def _weights(rng: np.random.Generator, kind: str, column: int) -> Rows:
    values = rows(rng, 8, 16, 96)
    if kind == "heavy tails":
        values = rng.standard_t(3, values.shape)
    if kind == "sparse":
        values *= rng.random(values.shape) < 0.1
    if kind == "outlying column":
        values[..., column] += 3 * rng.standard_normal((8, 16))
    return values


# --- the slope --------------------------------------------------------------------------------------------------------


def learned(rng: np.random.Generator, layers: int, units: int, dim: int, twin: bool) -> tuple[Rows, Rows]:
    """A base whose rows learned unequally much, and a descendant of it, or a twin that shares the random draw only."""
    size = np.exp(0.25 * rng.standard_normal((layers, units, 1)))
    start, learnt = (rng.standard_normal((layers, units, dim)) for _ in range(2))
    if not twin:
        return size * learnt + 0.5 * rng.standard_normal(start.shape), size * learnt
    return start + rng.standard_normal(start.shape), start + np.sqrt(np.maximum(size**2 - 0.5, 0.1)) * learnt


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize(("layers", "units", "dim"), [(6, 32, 64), (24, 16, 192)])
def test_the_slope_of_exact_products_is_that_of_the_weights(twin: bool, layers: int, units: int, dim: int) -> None:
    rng = np.random.default_rng(dim)
    width = []
    for draw in range(12):
        suspect, base = learned(rng, layers, units, dim, twin)
        found = exact(suspect, base)
        value, low, high = slope_interval([found], [np.ones(layers, bool)])
        matrices = [RowEnergies(*parts, dim) for parts in zip(found.own, found.base, found.suspect, strict=True)]
        expected, lowest, highest = slope_of_weights(matrices, draw)
        assert value is not None and expected is not None
        assert value == pytest.approx(expected, abs=1e-9)
        assert low is not None and high is not None and lowest is not None and highest is not None
        assert high - value == pytest.approx(value - low)
        width.append((high - low) / (highest - lowest))
    # The sandwich against the bootstrap, whose 200 replicates alone scatter by a tenth.
    assert np.median(width) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("twin", [False, True])
def test_the_slope_from_bits_covers_the_truth(twin: bool) -> None:
    rng = np.random.default_rng(5)
    values, covered = [], 0
    for _ in range(60):
        suspect, base = learned(rng, 6, 32, 64, twin)
        value, low, high = slope_interval([estimated(suspect, base, 64)], [np.ones(6, bool)])
        assert value is not None and low is not None and high is not None
        values.append(value)
        covered += low <= (0.0 if twin else 1.0) <= high
    assert covered >= 51
    assert np.mean(values) == pytest.approx(0 if twin else 1, abs=4 * np.std(values) / np.sqrt(60) + 0.01)


def test_layers_that_do_not_take_part_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    suspect, base = learned(rng, 4, 32, 64, False)
    chosen = np.array([True, False, True, True])
    found, fewer = exact(suspect, base), exact(suspect[chosen], base[chosen])
    assert slope_interval([found], [chosen]) == pytest.approx(slope_interval([fewer], [np.ones(3, bool)]))
    assert slope_interval([found], [np.zeros(4, bool)]) == (None, None, None)
    assert slope_interval([], []) == (None, None, None)
    # A layer whose shared energy is not positive, and units without a length, are left out.
    opposite = np.concatenate([suspect[:3], -suspect[3:]])
    assert slope_interval([exact(opposite, base)], [np.ones(4, bool)]) == pytest.approx(
        slope_interval([exact(suspect[:3], base[:3])], [np.ones(3, bool)])
    )
    found.base[0, :] = np.nan
    assert slope_interval([found], [chosen]) == pytest.approx(
        slope_interval([exact(suspect[2:], base[2:])], [np.ones(2, bool)])
    )


def test_rows_no_more_unequal_than_a_random_draw_have_no_slope() -> None:
    rng = np.random.default_rng(7)
    base = rng.standard_normal((8, 32, 128))
    assert slope_interval([exact(base, base)], [np.ones(8, bool)]) == (None, None, None)


def test_energies_on_their_grid_move_the_slope_by_less_than_a_thousandth() -> None:
    rng = np.random.default_rng(8)
    suspect, base = learned(rng, 6, 32, 64, True)
    found = exact(suspect, base)
    step = np.ptp(np.log2(found.base), axis=1, keepdims=True) / 127
    coarse = replace(found, base=np.exp2(np.rint(np.log2(found.base) / step) * step))
    one, other = (slope_interval([part], [np.ones(6, bool)]) for part in (found, coarse))
    assert one == pytest.approx(other, abs=0.005)


# --- the contrast -----------------------------------------------------------------------------------------------------


def with_learned_directions(rng: np.random.Generator, layers: int, twin: bool) -> tuple[Rows, Rows]:
    """Two strong directions that the base learned, on top of a random draw."""
    start = rng.standard_normal((layers, 16, 64))
    strong = np.einsum("lur,lrd->lud", rng.standard_normal((layers, 16, 2)), rng.standard_normal((layers, 2, 64)))
    base = start + strong
    return (start if twin else base) + 0.3 * rng.standard_normal(start.shape), base


def reference_contrast(suspect: Rows, base: Rows) -> float:
    """The strongest eighth of the directions over all others, from the weights."""
    strong, own, rest, others = np.zeros(4)
    for a, b in zip(suspect, base, strict=True):
        energy, u = np.linalg.eigh(b @ b.T)
        shared = np.diag(u.T @ a @ b.T @ u) / energy.sum()
        energy = energy / energy.sum()
        strong, own = strong + shared[-2:].sum(), own + energy[-2:].sum()
        rest, others = rest + shared[:-2].sum(), others + energy[:-2].sum()
    return float((strong / own) / (rest / others))


@pytest.mark.parametrize("twin", [False, True])
def test_the_contrast_is_that_of_the_weights(twin: bool) -> None:
    rng = np.random.default_rng(9)
    suspect, base = with_learned_directions(rng, 12, twin)
    at, all_layers = np.arange(12), np.ones(12, bool)
    theirs = strip("gate", base, 256)
    expected = reference_contrast(suspect, base)
    assert expected < 0.5 if twin else expected == pytest.approx(1, abs=0.05)
    known = curve([exact(suspect, base)], [all_layers], [(theirs, at)], 0)
    # Directions rounded to 1/127, their energies to 1/256.
    assert known.contrast == pytest.approx(expected, abs=0.02)
    covered = 0
    for _ in range(25):
        suspect, base = with_learned_directions(rng, 12, twin)
        theirs = strip("gate", base, 64)
        found = curve([estimated(suspect, base, 64)], [all_layers], [(theirs, at)], 0)
        assert found.contrast is not None and found.low is not None and found.high is not None
        covered += found.low <= reference_contrast(suspect, base) <= found.high
    assert covered >= 20


@pytest.mark.parametrize("twin", [False, True])
def test_what_bits_misjudge_of_the_base_alone_narrows_the_contrast_and_does_not_move_it(twin: bool) -> None:
    """The correction has expectation 0, since the axes come from the weights and not from the bits."""
    rng = np.random.default_rng(12)
    at, all_layers = np.arange(12), np.ones(12, bool)
    errors = []
    for _ in range(60):
        suspect, base = with_learned_directions(rng, 12, twin)
        theirs, found = strip("gate", base, 64), estimated(suspect, base, 64)
        parts = [curve([part], [all_layers], [(theirs, at)], 0) for part in (found, replace(found, alike=np.zeros(12)))]
        truth = reference_contrast(suspect, base)
        errors.append([part.contrast - truth for part in parts if part.contrast is not None])
    mean, spread = np.mean(errors, axis=0), np.std(errors, axis=0)
    assert (np.abs(mean) < 4 * spread / np.sqrt(60) + 0.01).all()
    assert spread[0] < (1.1 if twin else 0.9) * spread[1]


def test_too_few_matrices_have_a_curve_and_no_interval() -> None:
    rng = np.random.default_rng(10)
    suspect, base = with_learned_directions(rng, 3, False)
    theirs = (strip("gate", base, 64), np.arange(3))
    found = curve([exact(suspect, base)], [np.ones(3, bool)], [theirs], 0)
    assert len(found.points) == 2 and found.contrast is None and found.low is None
    assert curve([exact(suspect, base)], [np.zeros(3, bool)], [theirs], 0).points == ()
    few = strip("gate", base[:, :8], 64)
    short = replace(exact(suspect, base), base=(base[:, :8] ** 2).sum(axis=2))
    assert curve([short], [np.ones(3, bool)], [(few, np.arange(3))], 0).points == ()
