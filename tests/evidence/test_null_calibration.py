"""The coins of real trained weights under the null: p-values uniform, e-values averaging at most one.

The null holds exactly where one side was relabelled by a uniform draw from the symmetry group; the micro checkpoints of
`examples/` stand in for "real weights". `scripts/bench null` does the same for any models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.null import Group, coin_groups, crossed, e_values, p_values, relabelled, samples_of
from lineage_plugin.evidence.evalue import log10_e_value

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def null_groups() -> list[Group]:
    rng = np.random.default_rng(2024)
    samples = samples_of(EXAMPLES / "honest", EXAMPLES / "base")
    return coin_groups([relabelled(sample, rng) for _ in range(80) for sample in samples])


def test_there_are_enough_groups(null_groups: list[Group]) -> None:
    assert len(null_groups) >= 1000
    assert len({group.name for group in null_groups}) >= 5


def test_p_values_are_uniform(null_groups: list[Group]) -> None:
    rng = np.random.default_rng(7)
    assert stats.kstest(p_values(null_groups, rng), "uniform").pvalue > 1e-3
    for kind in {group.name for group in null_groups}:
        mine = [group for group in null_groups if group.name == kind]
        assert stats.kstest(p_values(mine, rng), "uniform").pvalue > 1e-3, kind


def test_e_values_average_at_most_one(null_groups: list[Group]) -> None:
    """The mean of capped e-values: a cap lowers the expectation and gives it a finite, known error."""
    capped = np.minimum(e_values(null_groups), 100.0)
    assert capped.mean() < 1 + 4 * capped.std(ddof=1) / np.sqrt(capped.shape[0])
    # Markov: P(E >= 100) <= 1/100.
    exceed = int((e_values(null_groups) >= 100).sum())
    assert exceed <= stats.binom.ppf(1 - 1e-4, len(null_groups), 0.01)


def test_the_same_weights_unrelabelled_come_up_heads() -> None:
    """The positive control: the test above would see dependence if there were any."""
    groups = coin_groups(samples_of(EXAMPLES / "honest", EXAMPLES / "base"))
    assert all(group.heads > 0.95 * group.coins for group in groups)


def test_independently_trained_models_are_fair_layer_against_layer() -> None:
    groups = [
        g
        for base in ("base", "twin")
        for g in coin_groups(list(crossed(samples_of(EXAMPLES / "liar", EXAMPLES / base))))
    ]
    assert len(groups) >= 100
    assert stats.kstest(p_values(groups, np.random.default_rng(3)), "uniform").pvalue > 1e-3
    assert max(log10_e_value(g.heads, g.coins) for g in groups) < 5


def test_pooled_coins_are_binomial() -> None:
    """Joint fairness of everything that is counted together, not only group by group: the variance is n/4."""
    rng = np.random.default_rng(99)
    samples = samples_of(EXAMPLES / "honest", EXAMPLES / "base")
    scores = []
    for _ in range(300):
        drawn = [relabelled(sample, rng) for sample in samples]
        thinned = [
            replace(s, suspect=tuple(a[:, ::4] for a in s.suspect), base=tuple(b[:, ::4] for b in s.base))
            for s in drawn
        ]
        groups = coin_groups(thinned)
        coins, heads = sum(g.coins for g in groups), sum(g.heads for g in groups)
        scores.append((heads - coins / 2) / np.sqrt(coins / 4))
    variance = np.var(scores, ddof=1)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], 299) / 299
    assert low < variance < high
    assert abs(np.mean(scores)) < 4 / np.sqrt(300)
