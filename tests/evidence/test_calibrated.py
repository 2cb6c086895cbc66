"""Calibrated evidence: its value against scipy and simulation, its counts against made lineages and broken input."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from lineage_plugin.evidence.calibrated import (
    NULL,
    Agreements,
    calibrated,
    count_agreements,
    log10_calibrated_value,
)
from lineage_plugin.evidence.evalue import log10_e_value, log10_mean

ODD = {"gate": False, "up": True, "down": True}
Layer = dict[str, np.ndarray]


@pytest.mark.parametrize(("agreements", "of"), [(0, 0), (0, 7), (7, 7), (30, 40), (20, 40), (33, 60), (90, 100)])
@pytest.mark.parametrize("rate", [0.5, 0.6, 2 / 3, 0.9])
def test_value_is_the_integral(agreements: int, of: int, rate: float) -> None:
    def ratio(t: float) -> float:
        return (t / rate) ** agreements * ((1 - t) / (1 - rate)) ** (of - agreements) / (1 - rate)

    peak = min(max(agreements / max(of, 1), rate), 1 - 1e-9)
    expected = integrate.quad(ratio, rate, 1, points=[peak], epsabs=0, epsrel=1e-10)[0]
    assert log10_calibrated_value(agreements, of, rate) == pytest.approx(math.log10(expected), abs=1e-7)


@pytest.mark.parametrize(("agreements", "of"), [(60_000, 80_000), (47_500, 80_000), (80_000, 80_000)])
def test_value_of_many_comparisons_is_the_tail_of_a_beta_law(agreements: int, of: int) -> None:
    rate = 0.6
    k, n = agreements, of
    log_beta = math.lgamma(k + 1) + math.lgamma(n - k + 1) - math.lgamma(n + 2)
    log_value = log_beta + stats.beta.logsf(rate, k + 1, n - k + 1)
    log_value -= k * math.log(rate) + (n - k + 1) * math.log(1 - rate)
    assert log10_calibrated_value(k, n, rate) == pytest.approx(log_value / math.log(10), rel=1e-6)


def test_value_at_one_half_is_the_exact_one() -> None:
    assert log10_calibrated_value(70, 100, 0.5) == pytest.approx(log10_e_value(70, 100))


@pytest.mark.parametrize("true_rate", [0.3, 0.5, 0.6, 2 / 3])
def test_expectation_is_at_most_one_for_every_rate_below_the_null(true_rate: float) -> None:
    for of in (1, 5, 40):
        k = np.arange(of + 1)
        values = 10.0 ** np.array([log10_calibrated_value(int(i), of, 2 / 3) for i in k])
        expected = float(stats.binom.pmf(k, of, true_rate) @ values)
        assert expected <= 1 + 1e-9
        if true_rate == 2 / 3:
            assert expected == pytest.approx(1.0)


def test_reaching_the_value_at_any_time_is_as_rare_as_ville_says() -> None:
    """Rates that wander below the null, and depend on the past, are allowed."""
    rng = np.random.default_rng(0)
    runs, length, reached = 4000, 60, 0
    table = {(k, n): log10_calibrated_value(k, n, 2 / 3) for n in range(length + 1) for k in range(n + 1)}
    for _ in range(runs):
        agreements, largest = 0, 0.0
        for n in range(1, length + 1):
            rate = 2 / 3 if agreements > n / 2 else 0.4
            agreements += int(rng.random() < rate)
            largest = max(largest, table[agreements, n])
        reached += largest >= 1.0
    assert stats.binomtest(reached, runs, 0.1, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(("agreements", "of", "rate"), [(3, 2, 0.6), (-1, 2, 0.6), (1, 2, 0.4), (1, 2, 1.0)])
def test_impossible_counts_are_refused(agreements: int, of: int, rate: float) -> None:
    with pytest.raises(ValueError, match="agreements of"):
        log10_calibrated_value(agreements, of, rate)


def layer(rng: np.random.Generator, units: int = 192, dim: int = 64) -> Layer:
    return {role: rng.normal(size=(units, dim)) for role in ODD}


def scrubbed(rng: np.random.Generator, of: Layer, noise: float) -> Layer:
    """A noisy copy with signs redrawn; order and basis are as the search would have left them."""
    sign = rng.choice([-1.0, 1.0], size=(of["gate"].shape[0], 1))
    return {
        role: (part + noise * rng.normal(size=part.shape)) * (sign if ODD[role] else 1.0) for role, part in of.items()
    }


def test_a_scrubbed_copy_agrees_throughout() -> None:
    rng = np.random.default_rng(1)
    base = layer(rng)
    found = count_agreements(scrubbed(rng, base, 0.5), base, ODD, matched_on="gate")
    assert (found.cross_of, found.sign_of) == (96, 192)
    assert found.cross >= 95
    assert found.sign >= 190
    assert calibrated([found]).log10_calibrated > 9


def test_independent_units_agree_half_the_time() -> None:
    rng = np.random.default_rng(2)
    total = sum((count_agreements(layer(rng), layer(rng), ODD, matched_on="gate") for _ in range(40)), Agreements())
    assert stats.binomtest(total.cross, total.cross_of, 0.5).pvalue > 1e-3
    assert stats.binomtest(total.sign, total.sign_of, 0.5).pvalue > 1e-3


def test_what_units_have_in_common_makes_no_agreement() -> None:
    """Independent models of one world: strong directions shared by both, and up and down of a unit alike."""
    rng = np.random.default_rng(3)
    world = rng.normal(size=(6, 64))

    def learned() -> Layer:
        loading = 2.0 * rng.normal(size=(192, 6))
        return {role: rng.normal(size=(192, 64)) + loading @ world for role in ODD}

    pairs = []
    for _ in range(20):
        one, two = learned(), learned()
        # Matched by the gate: the k-th most alike by what the gates learned.
        key = world[0]
        order = np.argsort(one["gate"] @ key), np.argsort(two["gate"] @ key)
        pairs.append((one, two, order))
    raw = 0
    for one, two, (i, j) in pairs:
        raw += int(((one["up"][i] * two["up"][j]).sum(1) * (one["down"][i] * two["down"][j]).sum(1) > 0).sum())
    assert raw / (20 * 192) > 0.7  # the trap
    total = sum(
        (count_agreements(one, two, ODD, matched_on="gate", rows=rows) for one, two, rows in pairs), Agreements()
    )
    assert 0.44 < total.cross / total.cross_of < 0.56
    assert 0.46 < total.sign / total.sign_of < 0.54


def test_signs_order_scale_and_basis_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    base = layer(rng)
    suspect = scrubbed(rng, base, 2.5)
    turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    scale = rng.gamma(4.0, size=(192, 1))
    found = count_agreements(suspect, base, ODD, matched_on="gate")
    again = {role: part * scale @ turn for role, part in scrubbed(rng, suspect, 0.0).items()}
    turned = {role: part @ turn for role, part in base.items()}
    assert count_agreements(again, turned, ODD, matched_on="gate") == found
    order = rng.permutation(192)
    shuffled = {role: part[order] for role, part in suspect.items()}
    rows = (np.argsort(order), np.arange(192))
    assert count_agreements(shuffled, base, ODD, matched_on="gate", rows=rows) == found


def test_plain_units_have_no_sign_to_compare() -> None:
    rng = np.random.default_rng(5)
    base = {"fc1": rng.normal(size=(100, 32)), "fc2": rng.normal(size=(100, 32))}
    found = count_agreements(base, base, {"fc1": False, "fc2": False}, matched_on="fc1")
    assert found == Agreements(cross=50, cross_of=50)
    assert [statistic.name for statistic in calibrated([found]).statistics] == ["cross-role"]


def test_too_few_units_or_roles_say_nothing() -> None:
    rng = np.random.default_rng(6)
    few = layer(rng, units=40, dim=32)
    assert count_agreements(few, few, ODD, matched_on="gate") == Agreements()
    wide = layer(rng, units=100, dim=300)
    assert count_agreements(wide, wide, ODD, matched_on="gate") == Agreements()
    alone = {"gate": rng.normal(size=(100, 32))}
    assert count_agreements(alone, alone, ODD, matched_on="gate") == Agreements()
    none = np.empty(0, np.int64)
    base = layer(rng)
    assert count_agreements(base, base, ODD, matched_on="gate", rows=(none, none)) == Agreements()
    assert calibrated([]).log10_calibrated == 0.0


def test_broken_and_empty_units_are_left_out() -> None:
    rng = np.random.default_rng(7)
    base = layer(rng)
    suspect = scrubbed(rng, base, 0.3)
    suspect["up"][:10] = np.nan
    suspect["down"][10:20] = np.inf
    suspect["gate"][20:30] = 0.0
    base["up"][30:40] = 0.0
    base["down"][40] = 1e300
    found = count_agreements(suspect, base, ODD, matched_on="gate")
    assert (found.cross_of, found.sign_of) == (76, 152)
    assert found.sign >= 150
    zero = {role: np.zeros((192, 64)) for role in ODD}
    assert count_agreements(zero, base, ODD, matched_on="gate") == Agreements()


def test_matches_that_make_no_sense_are_refused() -> None:
    base = layer(np.random.default_rng(8))
    with pytest.raises(ValueError, match="roles"):
        count_agreements(base, base, ODD, matched_on="fc1")
    with pytest.raises(ValueError, match="unequal"):
        count_agreements(base, base, ODD, matched_on="gate", rows=(np.arange(3), np.arange(4)))


def test_layers_are_added_and_statistics_averaged() -> None:
    found = calibrated([Agreements(50, 52, 90, 100), Agreements(40, 41, 80, 81)])
    assert [(s.name, s.agreements, s.of) for s in found.statistics] == [
        ("cross-role", 90, 93),
        ("sign product", 170, 181),
    ]
    values = [s.log10_value for s in found.statistics]
    # Counts are added for the reader; evidence is averaged over layers, which grants no layer another one's margin.
    by_layer = [[(50, 52), (40, 41)], [(90, 100), (80, 81)]]
    assert values == [log10_mean([log10_calibrated_value(k, n, NULL.rate) for k, n in of]) for of in by_layer]
    assert found.log10_calibrated == pytest.approx(log10_mean(values))


def test_the_null_leaves_a_margin_and_is_the_one_that_is_documented() -> None:
    assert NULL.worst_share + 0.05 < NULL.rate
    assert NULL.worst_value < 3
    assert NULL.pairs >= 40
    text = (Path(__file__).parents[2] / "docs" / "method.md").read_text()
    if "cross-role" in text:  # the section on calibrated evidence
        assert f"{NULL.pairs} independent pairs" in text
        assert f"{NULL.worst_share:.3f}" in text
