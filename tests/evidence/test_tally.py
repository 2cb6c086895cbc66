"""What is kept between rounds, and what takes part in the statistics."""

from __future__ import annotations

import numpy as np
import pytest

from lineage_plugin.evidence.effects import differences
from lineage_plugin.evidence.tally import Tally, _shares
from lineage_plugin.judge.relation import relation_of
from lineage_plugin.options import Options
from tests.evidence.builders import sample


def layer(rng: np.random.Generator, units: int, dim: int, number: int, related: bool):  # type: ignore[no-untyped-def]
    """Gate and up rows of a base that learned three directions, and of a child of it or of another model."""

    def model() -> list[np.ndarray]:
        return [
            rng.normal(size=(units, dim))
            + rng.gamma(1.0, size=(units, 1)) * (rng.normal(size=(units, 3)) @ rng.normal(size=(3, dim)))
            for _ in range(2)
        ]

    base = model()
    suspect = [0.9 * b + 0.4 * rng.normal(size=b.shape) for b in base] if related else model()
    return sample(suspect, base, (False, True), layer=number)


@pytest.mark.parametrize("units", [4, 8, 16, 64])
def test_a_few_units_of_many_layers_decide(units: int) -> None:
    """A 70B model is read four units a layer: they must reach the statistics, or descent could never be told."""
    rng = np.random.default_rng(units)
    tally = Tally(exact=True, layers=16)
    tally.add([layer(rng, units, 512, i, related=True) for i in range(16)])
    evidence = tally.evidence(Options(), complete=True)
    assert evidence.count.heads == evidence.count.coins
    # Units that learned little else than one direction look like clones of each other and share a coin.
    assert 0.95 * 16 * (units + units // 2) <= evidence.count.coins <= 16 * (units + units // 2)
    assert evidence.descent.slope == pytest.approx(1.0, abs=0.15)
    assert relation_of(evidence, 9.0)[0] == "derived"


def test_silent_groups_take_no_part_in_the_statistics() -> None:
    rng = np.random.default_rng(5)
    sharing = [_shares(differences(layer(rng, 32, 128, 0, related=True))) for _ in range(200)]
    silent = [_shares(differences(layer(rng, 32, 128, 0, related=False))) for _ in range(200)]
    assert all(sharing)
    assert sum(silent) <= 3  # a normal score above 3 happens once in 740


def test_the_order_of_rounds_does_not_matter() -> None:
    rng = np.random.default_rng(6)
    samples = [layer(rng, 32, 64, i, related=True) for i in range(6)]
    one, many = Tally(exact=True, layers=6), Tally(exact=True, layers=6)
    one.add(samples)
    for single in samples:
        many.add([single])
    assert one.evidence(Options(), complete=True) == many.evidence(Options(), complete=True)
