"""Effect sizes against truths that are known and against a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from lineage_plugin.evidence.direction import indicate_direction
from lineage_plugin.evidence.effects import cosine, differences, ratio_interval
from tests.evidence.builders import sample


def models(rng: np.random.Generator, kept: float, drift: float, units: int = 200, dim: int = 64):  # type: ignore[no-untyped-def]
    base = rng.normal(size=(units, dim)) * rng.gamma(4.0, size=(units, 1))
    suspect = kept * base + drift * rng.normal(size=(units, dim))
    return suspect, base


def test_interval_covers_the_share_kept_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(1)
    trials, covered = 600, 0
    for _ in range(trials):
        suspect, base = models(rng, 0.7, 2.0)
        (part,) = differences(sample([suspect], [base], (False,)))
        effect = ratio_interval(part.cross, part.base)
        assert effect.low is not None and effect.high is not None
        covered += effect.low < 0.7 < effect.high
    # 95% nominal; a sample of 100 pairs undercovers a little.
    assert 0.925 < covered / trials < 0.975


def test_interval_agrees_with_a_bootstrap() -> None:
    rng = np.random.default_rng(2)
    suspect, base = models(rng, 0.4, 3.0)
    (part,) = differences(sample([suspect], [base], (False,)))
    effect = ratio_interval(part.cross, part.base)
    count = part.cross.shape[0]
    draws = rng.integers(0, count, (4000, count))
    ratios = part.cross[draws].sum(axis=1) / part.base[draws].sum(axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert effect.estimate == pytest.approx(part.cross.sum() / part.base.sum())
    assert effect.low == pytest.approx(low, abs=0.15 * (high - low))
    assert effect.high == pytest.approx(high, abs=0.15 * (high - low))


def test_common_column_means_do_not_count_as_shared() -> None:
    """Independent models that agree on what all units have in common share nothing."""
    rng = np.random.default_rng(3)
    mean = 5 * rng.normal(size=64)
    estimates = []
    for _ in range(200):
        a, b = rng.normal(size=(100, 64)) + mean, rng.normal(size=(100, 64)) + mean
        (part,) = differences(sample([a], [b], (False,)))
        estimates.append(ratio_interval(part.cross, part.base).estimate)
    assert np.mean(estimates) == pytest.approx(0.0, abs=4 * np.std(estimates) / np.sqrt(200))


def test_cosine_is_scale_free_and_signed() -> None:
    rng = np.random.default_rng(4)
    suspect, base = models(rng, 1.0, 0.5)
    plain = differences(sample([suspect], [base], (False,)))
    scaled = differences(sample([1e3 * suspect], [1e-3 * base], (False,)))
    assert cosine(plain) == pytest.approx(cosine(scaled), rel=1e-4)
    assert cosine(differences(sample([-suspect], [base], (False,)))) == pytest.approx(-cosine(plain), rel=1e-6)
    assert cosine([]) == 0.0


def test_values_that_are_not_finite_are_left_out() -> None:
    rng = np.random.default_rng(5)
    suspect, base = models(rng, 1.0, 0.1, units=20)
    suspect[3, 0], suspect[8, 1] = np.nan, np.inf
    (part,) = differences(sample([suspect], [base], (False,)))
    assert part.cross.shape[0] in (8, 9)
    effect = ratio_interval(part.cross, part.base)
    assert effect.estimate == pytest.approx(1.0, abs=0.1)


def test_nothing_to_divide_by() -> None:
    assert ratio_interval(np.zeros(0), np.zeros(0)).estimate is None
    assert ratio_interval(np.ones(3), np.zeros(3)).estimate is None


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda root, walk: (root + walk(0.6), root), "suspect-from-base"),
        (lambda root, walk: (root, root + walk(0.6)), "base-from-suspect"),
        (lambda root, walk: (root + walk(0.6), root + walk(0.6)), "siblings"),
    ],
)
def test_direction_of_orthogonal_updates(make, expected: str) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(6)
    parts = []
    for layer in range(6):
        root = rng.normal(size=(400, 128))
        suspect, base = make(root, lambda size: size * rng.normal(size=(400, 128)))
        parts += differences(sample([suspect], [base], (False,), layer=layer))
    cross = np.concatenate([p.cross for p in parts])
    kept = ratio_interval(cross, np.concatenate([p.base for p in parts])).estimate
    reverse = ratio_interval(cross, np.concatenate([p.suspect for p in parts])).estimate
    assert indicate_direction(parts, kept, reverse) == expected


def test_direction_abstains_without_numbers() -> None:
    assert indicate_direction([], None, None) == "unclear"
    assert indicate_direction([], 0.5, 0.5) == "unclear"
