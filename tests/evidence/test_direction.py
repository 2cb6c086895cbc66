"""Who came first: only a model that contains the other whole is called its child."""

from __future__ import annotations

import numpy as np
import pytest

from lineage_plugin.evidence.direction import indicate_direction
from lineage_plugin.evidence.effects import Differences, differences, ratio_interval
from tests.evidence.builders import sample

UNITS, DIM, MATRICES = 64, 96, 12


def weights(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.normal(size=(UNITS, DIM)) for _ in range(MATRICES)]


def moved(rng: np.random.Generator, by: float, base: list[np.ndarray], shrink: float = 1.0) -> list[np.ndarray]:
    """An update of relative size ``by``, orthogonal to the weights but for chance, and weight decay."""
    return [shrink * part + by * rng.normal(size=part.shape) for part in base]


def indication(suspect: list[np.ndarray], base: list[np.ndarray]) -> str:
    parts = [p for i, (a, b) in enumerate(zip(suspect, base)) for p in differences(sample([a], [b], (False,), layer=i))]
    sums = [np.concatenate([getattr(p, name) for p in parts]) for name in ("cross", "base", "suspect")]
    return indicate_direction(
        parts, ratio_interval(sums[0], sums[1]).estimate, ratio_interval(sums[0], sums[2]).estimate
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_child_contains_its_base_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = weights(rng)
    child = moved(rng, 0.4, base)
    assert indication(child, base) == "suspect-from-base"
    assert indication(base, child) == "base-from-suspect"


@pytest.mark.parametrize("seed", range(4))
def test_siblings_that_moved_unequally_are_not_parent_and_child(seed: int) -> None:
    """The larger coefficient alone would call the sibling that moved more a child of the other."""
    rng = np.random.default_rng(seed)
    base = weights(rng)
    near, far = moved(rng, 0.4, base), moved(rng, 1.0, base)
    assert indication(far, near) == "unclear"
    assert indication(near, far) == "unclear"
    alike = moved(rng, 0.4, base)
    assert indication(near, alike) == "siblings"


@pytest.mark.parametrize("shrink", [0.7, 0.8, 1.3])
def test_weight_decay_and_scaling_hide_the_direction(shrink: float) -> None:
    """But not always: a child whose energy was shrunk as much as its coefficient looks like the base of its base."""
    rng = np.random.default_rng(5)
    base = weights(rng)
    child = moved(rng, 0.3, base, shrink)
    for one, two, wrong in ((child, base, "base-from-suspect"), (base, child, "suspect-from-base")):
        assert indication(one, two) != wrong
    assert indication(child, base) == "unclear"


def test_the_known_failure_a_child_that_mirrors_its_base() -> None:
    """Shrunk by 0.9, its energy as well: <A, B> = |A|^2, which is what a base has with its child."""
    rng = np.random.default_rng(5)
    base = weights(rng)
    assert indication(moved(rng, 0.3, base, 0.9), base) == "base-from-suspect"


def test_matrices_must_agree() -> None:
    """A grown half and a shrunk half average to a coefficient near 1 without any matrix being whole."""
    rng = np.random.default_rng(6)
    base = weights(rng)
    child = moved(rng, 0.4, base[:6], 0.7) + moved(rng, 0.4, base[6:], 1.3)
    assert indication(child, base) == "unclear"


def test_a_model_and_itself_are_unclear() -> None:
    base = weights(np.random.default_rng(7))
    assert indication(base, base) == "unclear"


def test_nothing_is_said_of_nothing() -> None:
    empty = np.zeros(0)
    zero = Differences(0, 0, np.zeros(3), np.zeros(3), np.zeros(3))
    nan = Differences(0, 0, np.full(3, np.nan), np.ones(3), np.ones(3))
    assert indicate_direction([], 1.0, 0.8) == "unclear"
    assert indicate_direction([Differences(0, 0, empty, empty, empty)], 1.0, 0.8) == "unclear"
    assert indicate_direction([zero, nan], 1.0, 0.8) == "unclear"
    assert indicate_direction([zero], None, 0.8) == "unclear"
    assert indicate_direction([zero], -0.5, 0.8) == "unclear"
    assert indicate_direction([zero], float("nan"), 0.8) == "unclear"
