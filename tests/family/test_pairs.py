"""The chance of any false link in a tree: by all relabellings of three small models, by simulation, by the formula."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import SCRUBS, scrub
from lineage_plugin.api import compare
from lineage_plugin.checkpoint import Cost, open_checkpoint
from lineage_plugin.checkpoint.wrapped import Wrapped
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.family.pairs import cosine_of, link_by_weights, test_pair
from lineage_plugin.family.types import Link
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.types import Interval
from lineage_plugin.options import Options
from tests.family.kit import EXAMPLES
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


def test_second_looks_keep_the_bound_by_the_formula_alone() -> None:
    # As above, and the pair that a card declares is tested again where its first test claims nothing. What the second
    # test sees hangs on the same bits; it bets on what the first one does not see. t = 3 + 1 tests.
    ones = np.array([bin(n).count("1") for n in range(256)])
    n = np.arange(256)
    heads = np.stack(
        [np.broadcast_to(ones[:, None], (256, 256)), np.broadcast_to(ones, (256, 256)), ones[n[:, None] ^ n]]
    )
    first = np.where(heads == 8, 256.0, 0.0)
    second = np.where(heads[0] == 0, 256.0, 0.0)
    assert (first.mean(), second.mean()) == (pytest.approx(1.0), pytest.approx(1.0))

    def claimed(tests: int, bar: float) -> Fraction:
        """How often any pair is claimed."""
        links = first / tests >= bar
        again = ~links[0] & (second / tests >= bar)
        return Fraction(int((links.any(axis=0) | again).sum()), 256 * 256)

    for bar in (1.0, 8.0, 64.0, 65.0):
        assert claimed(4, bar) <= 1 / bar
    # It is nearly reached, and divided by the pairs alone it would not hold.
    assert claimed(4, 64.0) > Fraction(99, 100) / 64
    assert claimed(3, 256 / 3) > 3 / Fraction(256)


class Spent(Wrapped):
    """A checkpoint of which much was read before."""

    def cost(self) -> Cost:
        return self._checkpoint.cost() + Cost(1 << 30, 1 << 30)


def test_a_second_look_is_that_of_a_comparison_of_weights() -> None:
    folders = [str(EXAMPLES / name) for name in ("twin", "base")]
    tests = 9
    raised = Options(bar=9 + math.log10(tests), fingerprints="off")
    (alone,) = compare(*folders, options=raised).comparisons

    def look(options: Options) -> Link:
        suspect, base = (Spent(open_checkpoint(folder, options=options)) for folder in folders)
        return link_by_weights((1, 0), (suspect, base), tests, options)

    # What a fingerprint cost is not taken off what a comparison may read by default.
    link = look(Options())
    assert (link.suspect, link.base, link.by) == (1, 0, "weights")
    assert (link.relation, link.summary, link.kept) == (alone.relation, alone.summary, alone.kept)
    assert link.evidence.log10_e == pytest.approx(alone.evidence.log10_e - math.log10(tests), abs=1e-9)
    assert replace(link.evidence, log10_e=alone.evidence.log10_e) == alone.evidence
    # Of a budget that was given it is.
    assert not look(Options(budget=1 << 20)).evidence.stages[1:]


def test_what_a_check_would_claim_is_not_refuted_for_the_number_of_tests(tmp_path: Path) -> None:
    model = read_model(EXAMPLES / "honest")
    tensors = scrub(model.tensors, model.config, SCRUBS, seed=1)
    Model({key: np.asarray(array, np.float32) for key, array in tensors.items()}, model.config).write(tmp_path / "m")
    (alone,) = compare(str(tmp_path / "m"), str(EXAMPLES / "base")).comparisons
    assert alone.calibrated is not None and alone.relation == "derived"
    models = [open_checkpoint(str(place), options=Options()) for place in (tmp_path / "m", EXAMPLES / "base")]
    bar = alone.calibrated.log10_value - 0.5
    link = link_by_weights((1, 0), (models[0], models[1]), 9, Options(bar=bar))
    assert link.relation == "inconclusive" and "not among all tests" in link.summary


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
