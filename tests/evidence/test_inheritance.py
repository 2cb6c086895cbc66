"""The row-energy slope: its fit against a general optimiser, and its meaning against simulated lineages."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from lineage_plugin.evidence.inheritance import (
    Curve,
    _poisson_slope,
    grams,
    inheritance_curve,
    row_energies,
    slope_interval,
)
from lineage_plugin.evidence.sample import Sample
from tests.evidence.builders import sample

UNITS, DIM = 192, 256


def start(rng: np.random.Generator) -> np.ndarray:
    """An initialisation: rows of nearly equal energy."""
    return rng.normal(size=(UNITS, DIM))


def learn(rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """What training adds: a few strong directions shared by many units, of very unequal size."""
    loadings = rng.normal(size=(UNITS, 6)) * rng.gamma(0.7, size=(UNITS, 1))
    return strength * loadings @ rng.normal(size=(6, DIM))


def lineage(rng: np.random.Generator, kind: str) -> tuple[np.ndarray, np.ndarray]:
    root = start(rng)
    base = root + learn(rng)
    if kind == "derived":
        return 0.9 * base + learn(rng, 0.5) + 0.4 * start(rng), base
    if kind == "shared-init":
        return root + learn(rng), base
    raise ValueError(kind)


@pytest.mark.parametrize("seed", range(8))
def test_descent_has_slope_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        r for i in range(4) for r in row_energies(sample(*[[m] for m in lineage(rng, "derived")], (False,), layer=i))
    ]
    slope, low, high = slope_interval(rows, 0)
    assert slope is not None and low is not None and high is not None
    assert slope == pytest.approx(1.0, abs=0.1)
    assert 0.6 < low <= slope <= high


@pytest.mark.parametrize("seed", range(8))
def test_a_shared_draw_has_slope_zero(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        r
        for i in range(4)
        for r in row_energies(sample(*[[m] for m in lineage(rng, "shared-init")], (False,), layer=i))
    ]
    slope, _, high = slope_interval(rows, 0)
    assert slope is not None and high is not None
    assert abs(slope) < 0.25
    assert high < 0.6


def test_an_untrained_base_has_no_slope() -> None:
    """Two hardly trained models from one start share everything, and nothing tells descent from a shared draw."""
    undecided = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = []
        for layer in range(4):
            root = start(rng)
            base, suspect = root + learn(rng, 0.01), root + learn(rng, 0.01)
            rows += row_energies(sample([suspect], [base], (False,), layer=layer))
        _, low, high = slope_interval(rows, 0)
        undecided += low is None or (low < 0.6 < high)
    assert undecided == 20


def test_fit_agrees_with_a_general_optimiser() -> None:
    rng = np.random.default_rng(4)
    sizes = (30, 50, 21)
    starts = np.array([0, 30, 80])
    x = np.concatenate([g - g.mean() for g in (rng.normal(size=n) for n in sizes)])
    matrix = np.repeat(np.arange(3), sizes)
    y = np.exp(rng.normal(size=3)[matrix] + 0.7 * x) + 0.2 * rng.normal(size=x.shape[0])

    def negative_log_likelihood(theta: np.ndarray) -> float:
        mean = np.exp(theta[matrix] + theta[3] * x)
        return float((mean - y * np.log(mean)).sum())

    best = optimize.minimize(negative_log_likelihood, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
    ours = _poisson_slope(x, y, starts, np.ones((1, x.shape[0])))[0]
    assert ours == pytest.approx(best.x[3], abs=1e-5)


def test_weights_are_replication() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=20), rng.gamma(2.0, size=20)
    x -= x.mean()
    weights = rng.integers(0, 3, 20)
    starts = np.array([0])
    by_weight = _poisson_slope(x, y, starts, weights[None, :].astype(float))[0]
    by_copies = _poisson_slope(np.repeat(x, weights), np.repeat(y, weights), starts, np.ones((1, weights.sum())))[0]
    assert by_weight == pytest.approx(by_copies, abs=1e-9)


def test_degenerate_rows_say_nothing() -> None:
    assert slope_interval([], 0) == (None, None, None)
    equal = np.ones((16, 8))
    assert slope_interval(row_energies(sample([equal], [equal], (False,))), 0) == (None, None, None)
    zero = np.zeros((16, 8))
    assert slope_interval(row_energies(sample([zero], [zero], (False,))), 0) == (None, None, None)
    broken = np.full((16, 8), np.nan)
    assert slope_interval(row_energies(sample([broken], [equal], (False,))), 0) == (None, None, None)


def curve_of(samples: list[Sample]) -> Curve:
    return inheritance_curve([matrix for one in samples for matrix in grams(one)], 0)


def test_curve_is_flat_for_descent_and_falls_for_a_shared_draw() -> None:
    rng = np.random.default_rng(6)
    derived = curve_of([sample(*[[m] for m in lineage(rng, "derived")], (False,), layer=i) for i in range(6)])
    twins = curve_of([sample(*[[m] for m in lineage(rng, "shared-init")], (False,), layer=i) for i in range(6)])
    assert min(value for _, value in derived.points) > 0.75
    assert derived.low is not None
    assert derived.low > 0.8
    assert twins.points[0][1] < 0.3 < max(value for _, value in twins.points[5:])
    assert twins.high is not None
    assert twins.high < 0.8
    assert inheritance_curve([], 0).points == ()


def test_curve_agrees_with_a_singular_value_decomposition() -> None:
    suspect, base = (m[:100] for m in lineage(np.random.default_rng(8), "derived"))
    u, s, vt = np.linalg.svd(base, full_matrices=False)
    coefficient = np.einsum("ur,ud,rd->r", u, suspect, vt) / s
    bins = np.arange(s.shape[0]) * 10 // s.shape[0]
    expected = [np.average(coefficient[bins == i], weights=s[bins == i] ** 2) for i in range(10)]
    curve = curve_of([sample([suspect], [base], (False,))])
    assert [value for _, value in curve.points] == pytest.approx(expected, rel=1e-4)


def test_curve_of_a_model_with_itself_is_one() -> None:
    rng = np.random.default_rng(7)
    base = start(rng) + learn(rng)
    assert [v for _, v in curve_of([sample([base], [base], (False,))]).points] == pytest.approx([1.0] * 10)
