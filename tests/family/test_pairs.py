"""The chance of any false link in a tree: by all relabellings of three small models, by simulation, by the formula."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.family.pairs import cosine_of, test_pair
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.types import Interval
from lineage_plugin.options import Options
from tests.fingerprint.enumeration import all_flips
from tests.fingerprint.synthetic import bit_strip, fingerprint, relabelled, shelf

test_pair.__test__ = False  # type: ignore[attr-defined]


def independent(rng: np.random.Generator, units: int = 16, layers: int = 2) -> Fingerprint:
    strips = [bit_strip(role, rng.integers(0, 256, (layers, units, 8), np.uint8)) for role in ("gate", "up", "down")]
    return fingerprint(shelf(strips))


def values(models: list[Fingerprint], options: Options) -> list[float]:
    """The divided e-values of all pairs."""
    pairs = list(itertools.combinations(range(len(models)), 2))
    found = (test_pair((i, j), (models[i], models[j]), len(pairs), options) for i, j in pairs)
    return [10**link.evidence.log10_e for link in found]


def test_every_relabelling_of_three_models_keeps_the_bound_over_all_their_pairs() -> None:
    # Under the null all 256 relabellings of two models against the third are equally likely. The three pairs depend on
    # each other: where two have all heads, the third has, too.
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 256, (1, 4, 8), np.uint8)
    base = shelf([bit_strip("up", bits)], swap=False)
    flips = all_flips(4)
    options = Options()
    worst, together = [], 0
    for one, other in itertools.product(flips, flips):
        models = [fingerprint(base), *(fingerprint(relabelled(base, np.arange(4), f)) for f in (one, other))]
        found = values(models, options)
        worst.append(max(found))
        together += sum(value >= 1 / 3 for value in found) == 3
    # One relabelling of all has every coin heads in all three pairs: they are anything but independent.
    assert together >= 1
    for value in sorted(set(worst)):
        # P(any divided e-value >= v) <= 1 / v, exactly, for every value that is taken.
        assert Fraction(sum(one >= value for one in worst), len(worst)) <= 1 / value
    assert max(worst) > 0.5


def test_pairs_that_depend_on_each_other_keep_the_bound_by_the_formula_alone() -> None:
    # Three models of eight sign bits each: the coin of a pair is the product of two bits. All 2^24 relabellings come
    # down to the 2^16 of two models against the third. An independent computation: no code of the tree is in it.
    ones = np.array([bin(n).count("1") for n in range(256)])
    n = np.arange(256)
    heads = np.stack(
        [np.broadcast_to(ones[:, None], (256, 256)), np.broadcast_to(ones, (256, 256)), ones[n[:, None] ^ n]]
    )
    e = np.array([10 ** log10_e_value(8 - k, 8) for k in range(9)])[heads] / 3
    assert e.sum(axis=0).mean() == pytest.approx(1.0)
    most = e.max(axis=0)
    for value in np.unique(most):
        assert (most >= value - 1e-12).mean() <= 1 / value + 1e-12
    # Without division the bound does not hold, as an e-value shows that spends all of its mean on one outcome.
    bet = np.where(heads == 0, 256.0, 0.0)
    assert bet.mean() == pytest.approx(1.0)
    assert (bet.max(axis=0) >= 256).mean() > 2 / 256
    assert (bet.max(axis=0) / 3 >= 256 / 3).mean() <= 3 / 256


def test_false_links_in_trees_of_independent_models_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(11)
    trees, models = 80, 5
    pairs = models * (models - 1) // 2
    # A bar of 0.7 would be one in five; the option allows 2 and above, so the values themselves are counted.
    largest = [max(values([independent(rng) for _ in range(models)], Options(bar=2.0))) for _ in range(trees)]
    for alpha in (0.5, 0.2, 0.1):
        allowed = trees * alpha + 3 * math.sqrt(trees * alpha * (1 - alpha))
        assert sum(value >= 1 / alpha for value in largest) <= allowed
    # The simulation can see something: undivided, values of two and more turn up in many of the trees.
    assert sum(pairs * value >= 2 for value in largest) > trees / 10


def test_a_bar_reached_by_the_pair_alone_is_not_reached_in_a_large_tree() -> None:
    rng = np.random.default_rng(2)
    model = independent(rng, units=16, layers=1)
    alone = test_pair((0, 1), (model, model), 1, Options(bar=2.0))
    bar = alone.evidence.log10_e - 0.5
    assert test_pair((0, 1), (model, model), 3, Options(bar=bar)).evidence.log10_e >= bar
    among = test_pair((0, 1), (model, model), 10, Options(bar=bar))
    assert among.relation == "inconclusive"
    assert among.evidence.log10_e == pytest.approx(alone.evidence.log10_e - 1, abs=1e-9)


def test_coins_that_lean_towards_dependence_are_never_called_unrelated() -> None:
    # Heads in most of the coins, an undivided value of 10^3 or more, a few thousand pairs beside: open, not unrelated.
    rng = np.random.default_rng(8)
    base = independent(rng, units=16, layers=4)
    (held,) = base.shelves
    strips = []
    for one in held.strips:
        fresh = rng.integers(0, 256, one.bits.shape, np.uint8)
        strips.append(bit_strip(one.role, np.where(np.arange(4)[:, None, None] < 1, one.bits, fresh)))
    link = test_pair((0, 1), (fingerprint(shelf(strips)), base), 2016, Options())
    undivided = link.evidence.log10_e + math.log10(2016)
    assert 3 <= undivided < 9 and link.evidence.log10_e < 3
    assert (link.relation, link.summary) == (
        "inconclusive",
        "the coins lean towards dependence but do not reach the bar",
    )
    assert not any("was to be claimed" in limit for limit in link.limits)


def test_the_cosine_is_the_mean_of_both_coefficients() -> None:
    def known(value: float | None) -> Interval:
        return Interval(value, None, None)

    a, b = np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 4.0])
    exact = a @ b / math.sqrt((a @ a) * (b @ b))
    assert cosine_of(known(a @ b / (b @ b)), known(a @ b / (a @ a))) == pytest.approx(exact)
    assert cosine_of(known(-0.5), known(-0.5)) == -0.5
    assert cosine_of(known(1.01), known(1.01)) == 1.0
    assert cosine_of(known(None), known(0.5)) is None
    assert cosine_of(known(math.nan), known(0.5)) is None
