"""The e-value against independent computations: scipy's beta functions, numerical integration, exact enumeration."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import integrate, special, stats

from lineage_plugin.evidence.evalue import log10_e_value, log10_mean


def by_beta_functions(heads: int, coins: int) -> float:
    tail = special.betainc(coins - heads + 1, heads + 1, 0.5)  # 1 - I_1/2(k+1, n-k+1) without cancellation
    return ((coins + 1) * math.log(2) + special.betaln(heads + 1, coins - heads + 1) + math.log(tail)) / math.log(10)


@pytest.mark.parametrize(
    ("heads", "coins"), [(0, 0), (1, 1), (0, 1), (3, 7), (50, 100), (60, 100), (225, 240), (1520, 3072), (1700, 3072)]
)
def test_agrees_with_beta_functions(heads: int, coins: int) -> None:
    assert log10_e_value(heads, coins) == pytest.approx(by_beta_functions(heads, coins), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize(("heads", "coins"), [(0, 1), (5, 9), (12, 20), (40, 41)])
def test_agrees_with_numerical_integration(heads: int, coins: int) -> None:
    value, _ = integrate.quad(
        lambda t: 2 * (2 * t) ** heads * (2 * (1 - t)) ** (coins - heads), 0.5, 1, epsabs=0, epsrel=1e-12
    )
    assert log10_e_value(heads, coins) == pytest.approx(math.log10(value), abs=1e-9)


def test_expectation_under_fair_coins_is_exactly_one() -> None:
    """Summed in rational arithmetic over all outcomes of n fair coins, E has mean 1: nothing is lost or gained."""
    for coins in (1, 2, 5, 12):
        total = Fraction(0)
        for heads in range(coins + 1):
            numerator = sum(math.comb(coins + 1, j) for j in range(heads + 1))
            e_value = Fraction(numerator, (coins + 1) * math.comb(coins, heads))
            assert math.log10(e_value) == pytest.approx(log10_e_value(heads, coins), abs=1e-12)
            total += e_value * Fraction(math.comb(coins, heads), 2**coins)
        assert total == 1


def test_is_a_martingale_so_stopping_early_is_free() -> None:
    """E(k, n) is the mean of E(k+1, n+1) and E(k, n+1)."""
    for coins, heads in ((0, 0), (10, 7), (200, 131), (3000, 1444)):
        now = 10 ** log10_e_value(heads, coins)
        later = (10 ** log10_e_value(heads + 1, coins + 1) + 10 ** log10_e_value(heads, coins + 1)) / 2
        assert later == pytest.approx(now, rel=1e-9)


def test_ville_bound_holds_when_the_best_moment_is_picked() -> None:
    rng = np.random.default_rng(5)
    walks, length, alpha = 2000, 300, 0.05
    heads = np.cumsum(rng.integers(0, 2, (walks, length)), axis=1)
    table = np.array(
        [[log10_e_value(k, n) if k <= n else np.nan for k in range(length + 1)] for n in range(length + 1)]
    )
    best = table[np.arange(1, length + 1)[None, :], heads].max(axis=1)
    crossed = int((best >= math.log10(1 / alpha)).sum())
    # One-sided test of "at most 5%" at 1e-4.
    assert crossed <= stats.binom.ppf(1 - 1e-4, walks, alpha)


def test_all_heads_is_uncapped_and_finite() -> None:
    assert log10_e_value(100_000, 100_000) == pytest.approx(100_001 * math.log10(2) - math.log10(100_001), rel=1e-9)
    assert math.isfinite(log10_e_value(0, 100_000))
    assert log10_e_value(0, 100_000) < 0


@pytest.mark.parametrize(("heads", "coins"), [(-1, 3), (4, 3)])
def test_impossible_counts_are_refused(heads: int, coins: int) -> None:
    with pytest.raises(ValueError, match="heads of"):
        log10_e_value(heads, coins)


def test_mean_of_e_values() -> None:
    assert log10_mean([0.0, 0.0]) == pytest.approx(0.0)
    assert log10_mean([300.0, -5.0, 2.0]) == pytest.approx(300 - math.log10(3))
    with pytest.raises(ValueError, match="no e-values"):
        log10_mean([])


def test_weighted_mean_of_e_values() -> None:
    values, weights = [4.0, -1.0, 2.5], [0.9, 0.04, 0.02]
    by_hand = math.log10(sum(w * 10**v for w, v in zip(weights, values, strict=True)))
    assert log10_mean(values, weights) == pytest.approx(by_hand, abs=1e-12)
    assert log10_mean([400.0, 0.0], [0.02, 0.9]) == pytest.approx(400 + math.log10(0.02))
