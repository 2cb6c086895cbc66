"""The five rules of the independence ledger, each with what happens when it is broken.

Two instruments. *Enumeration*: fixed weights, every combination of swaps and flips applied to one model; the coins are
jointly fair exactly when the map from relabellings to coin outcomes is one to one. *Simulation*: independent models
drawn many times; the mean e-value may not exceed 1.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lineage_plugin.evidence.coins import draw_pairs, sign_statistics, swap_statistics
from lineage_plugin.evidence.evalue import log10_e_value, log10_mean
from lineage_plugin.evidence.ledger import Ledger
from lineage_plugin.evidence.sample import Probe, Sample
from lineage_plugin.evidence.units import match_units
from tests.evidence.builders import group, sample

FEW = 150
"""Draws that are enough to see an e-value broken."""


def total(ledger: Ledger) -> tuple[int, int]:
    tosses = ledger.tosses()
    return sum(t.count.coins for t in tosses), sum(t.count.heads for t in tosses)


def counted_apart(samples: list[Sample]) -> float:
    """The logarithm of the e-value when every sample is counted by itself."""
    coins = heads = 0
    for one in samples:
        ledger = Ledger()
        ledger.add([one])
        more, up = total(ledger)
        coins, heads = coins + more, heads + up
    return log10_e_value(heads, coins)


def mean_e(values: list[float]) -> tuple[float, float]:
    """Mean e-value and its standard error."""
    e = np.power(10.0, values)
    return float(e.mean()), float(e.std(ddof=1) / np.sqrt(e.shape[0]))


# --- exactness of the coins themselves, by enumeration ---------------------------------------------------------------


def gated_outcomes(rng: np.random.Generator) -> list[tuple[int, ...]]:
    """All outcomes of swap and sign coins of four gated units, over the group of their swaps and flips."""
    a = [rng.normal(size=(4, 6)) for _ in range(3)]
    b = [rng.normal(size=(4, 6)) for _ in range(3)]
    odd, pairs = (False, True, True), np.array([[0, 1], [2, 3]])
    outcomes = []
    for swaps in itertools.product((0, 1), repeat=2):
        order = np.array([swaps[0], 1 - swaps[0], 2 + swaps[1], 3 - swaps[1]])
        for flips in itertools.product((1, -1), repeat=4):
            sign = np.array(flips)[:, None]
            moved = [m[order] * (sign if o else 1) for m, o in zip(b, odd)]
            swap = swap_statistics(a, moved, odd, pairs)
            signs = sign_statistics(a, moved, odd)
            outcomes.append((*(swap > 0).tolist(), *(signs > 0).tolist()))
    return outcomes


@pytest.mark.parametrize("seed", range(20))
def test_swap_and_sign_coins_of_one_group_are_jointly_fair(seed: int) -> None:
    outcomes = gated_outcomes(np.random.default_rng(seed))
    assert len(set(outcomes)) == len(outcomes) == 2**6


def test_signed_cosines_in_swap_coins_would_not_be_fair_together() -> None:
    """Why ``f`` must ignore the signs of units whose sign coins are tossed, too."""
    broken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a, b = [rng.normal(size=(4, 6))], [rng.normal(size=(4, 6))]
        pairs, outcomes = np.array([[0, 1], [2, 3]]), []
        for swaps in itertools.product((0, 1), repeat=2):
            order = np.array([swaps[0], 1 - swaps[0], 2 + swaps[1], 3 - swaps[1]])
            for flips in itertools.product((1, -1), repeat=4):
                moved = [b[0][order] * np.array(flips)[:, None]]
                swap = swap_statistics(a, moved, (False,), pairs)  # wrong: the vectors are odd
                outcomes.append((*(swap > 0).tolist(), *(sign_statistics(a, moved, (True,)) > 0).tolist()))
        broken += len(set(outcomes)) < len(outcomes)
    assert broken > 10


# --- rule 1: repeats share one coin -------------------------------------------------------------------------------


def upscaled(rng: np.random.Generator, copies: int, units: int = 16, dim: int = 24) -> list[list[np.ndarray]]:
    """Layers that are copies of one random draw, each changed a little."""
    origin = [rng.normal(size=(units, dim)) for _ in range(2)]
    return [[role + 0.2 * rng.normal(size=role.shape) for role in origin] for _ in range(copies)]


def test_rule_1_repeats_in_both_models_share_one_coin() -> None:
    rng = np.random.default_rng(11)
    counted, merged = [], []
    for draw in range(1500):
        a, b = upscaled(rng, 4), upscaled(rng, 4)
        samples = [sample(a[i], b[i], (False, True), layer=i) for i in range(4)]
        ledger = Ledger()
        ledger.add(samples)
        coins, heads = total(ledger)
        merged.append(log10_e_value(heads, coins))
        assert ledger.repeats == {"mlp"}
        if draw < FEW:
            counted.append(counted_apart(samples))
    naive, _ = mean_e(counted)
    kept, error = mean_e(merged)
    assert naive > 3, "counting four copies of a draw four times must be seen to break the e-value"
    assert kept < 1 + 4 * error


def test_rule_1_holds_when_the_copies_arrive_in_different_rounds() -> None:
    rng = np.random.default_rng(12)
    values = []
    for _ in range(800):
        a, b = upscaled(rng, 3), upscaled(rng, 3)
        ledger = Ledger()
        for i in range(3):
            ledger.add([sample(a[i], b[i], (False, True), layer=i)])
        coins, heads = total(ledger)
        assert coins <= 8 + 16  # the coins of one layer
        values.append(log10_e_value(heads, coins))
    mean, error = mean_e(values)
    assert mean < 1 + 4 * error


def test_rule_1_does_not_merge_independent_layers() -> None:
    rng = np.random.default_rng(13)
    for _ in range(50):
        layers = [[rng.normal(size=(16, 24)) for _ in range(2)] for _ in range(6)]
        ledger = Ledger()
        ledger.add([sample(layer, layer, (False, True), layer=i) for i, layer in enumerate(layers)])
        assert not ledger.repeats
        assert total(ledger) == (6 * 24, 6 * 24)


# --- rules 2 and 3: residual streams and chains -------------------------------------------------------------------


def chain_outcomes(rng: np.random.Generator, both_sides: bool) -> list[tuple[int, ...]]:
    """Outcomes of the swap coins of a chain of three hidden layers of four units, over all swaps of one model."""
    widths = (5, 4, 4, 4, 5)
    a = [rng.normal(size=(n, m)) for m, n in itertools.pairwise(widths)]
    b = [rng.normal(size=(n, m)) for m, n in itertools.pairwise(widths)]
    pairs, outcomes = np.array([[0, 1], [2, 3]]), []
    for swaps in itertools.product((0, 1), repeat=6):
        moved = [layer.copy() for layer in b]
        for hidden in range(3):
            first, second = swaps[2 * hidden : 2 * hidden + 2]
            order = np.array([first, 1 - first, 2 + second, 3 - second])
            moved[hidden] = moved[hidden][order]
            moved[hidden + 1] = moved[hidden + 1][:, order]
        coins: list[bool] = []
        for hidden in range(3):
            mine, other = [a[hidden]], [moved[hidden]]
            if both_sides:
                mine, other = [*mine, a[hidden + 1].T], [*other, moved[hidden + 1].T]
            coins.extend((swap_statistics(mine, other, (False,) * len(mine), pairs) > 0).tolist())
        outcomes.append(tuple(coins))
    return outcomes


@pytest.mark.parametrize("seed", range(20))
def test_rule_3_incoming_weights_of_a_chain_are_jointly_fair(seed: int) -> None:
    outcomes = chain_outcomes(np.random.default_rng(seed), both_sides=False)
    assert len(set(outcomes)) == len(outcomes) == 2**6


def test_rule_3_both_sides_of_a_chain_are_circular() -> None:
    broken = [len(set(chain_outcomes(np.random.default_rng(seed), both_sides=True))) < 2**6 for seed in range(20)]
    assert sum(broken) > 10


def residual_outcomes(rng: np.random.Generator, head_level: bool) -> list[tuple[int, ...]]:
    """Two blocks on one residual stream: MLP units (in and out) and value channels of two heads (V and O).

    With ``head_level`` a coin for exchanging the heads is tossed beside those of their channels.
    """
    d, units, heads, channels = 6, 4, 2, 2
    shape = {"fc1": (units, d), "fc2": (units, d), "v": (heads * channels, d), "o": (heads * channels, d)}
    a = {k: rng.normal(size=s) for k, s in shape.items()}
    b = {k: rng.normal(size=s) for k, s in shape.items()}
    pairs, outcomes = np.array([[0, 1], [2, 3]]), []
    for swaps in itertools.product((0, 1), repeat=4 + head_level):
        first, second, third, fourth = swaps[:4]
        mlp = np.array([first, 1 - first, 2 + second, 3 - second])
        value = np.array([third, 1 - third, 2 + fourth, 3 - fourth])
        if head_level and swaps[4]:
            value = value[[2, 3, 0, 1]]
        moved = {"fc1": b["fc1"][mlp], "fc2": b["fc2"][mlp], "v": b["v"][value], "o": b["o"][value]}
        coins = (
            swap_statistics([a["fc1"], a["fc2"]], [moved["fc1"], moved["fc2"]], (False, False), pairs) > 0
        ).tolist()
        coins += (swap_statistics([a["v"], a["o"]], [moved["v"], moved["o"]], (True, True), pairs) > 0).tolist()
        if head_level:
            mine = np.stack([a["v"][:2].ravel(), a["v"][2:].ravel()])
            other = np.stack([moved["v"][:2].ravel(), moved["v"][2:].ravel()])
            coins += (swap_statistics([mine], [other], (False,), np.array([[0, 1]])) > 0).tolist()
        outcomes.append(tuple(coins))
    return outcomes


@pytest.mark.parametrize("seed", range(20))
def test_rule_2_both_sides_are_fair_on_a_residual_stream(seed: int) -> None:
    outcomes = residual_outcomes(np.random.default_rng(seed), head_level=False)
    assert len(set(outcomes)) == len(outcomes) == 2**4


def test_rule_2_head_coins_beside_channel_coins_are_circular() -> None:
    broken = [len(set(residual_outcomes(np.random.default_rng(seed), head_level=True))) < 2**5 for seed in range(20)]
    assert sum(broken) > 5


# --- rule 4: an unknown graph -------------------------------------------------------------------------------------


def test_rule_4_tensors_that_share_an_axis_may_be_averaged_but_not_pooled() -> None:
    """Six tensors write one axis through additive skips: one swap moves a row of all of them."""
    rng = np.random.default_rng(17)
    units, dim, tensors, pairs = 24, 12, 6, np.arange(24).reshape(12, 2)
    pooled, averaged = [], []
    for _ in range(3000):
        # Units of both models differ in one property that all their tensors share, as skip connections make them.
        mine, other = rng.normal(size=units), rng.normal(size=units)
        common = rng.normal(size=(tensors, dim))
        counts = []
        for t in range(tensors):
            a = mine[:, None] * common[t] + 0.3 * rng.normal(size=(units, dim))
            b = other[:, None] * common[t] + 0.3 * rng.normal(size=(units, dim))
            statistic = swap_statistics([a], [b], (False,), pairs)
            counts.append((int((statistic > 0).sum()), pairs.shape[0]))
        pooled.append(log10_e_value(sum(h for h, _ in counts), sum(n for _, n in counts)))
        averaged.append(log10_mean([log10_e_value(h, n) for h, n in counts]))
    assert mean_e(pooled)[0] > 3
    mean, error = mean_e(averaged)
    assert mean < 1 + 4 * error


# --- rule 5: meaning fixed from outside is never a label -----------------------------------------------------------


def test_rule_5_output_rows_come_up_heads_for_independent_models() -> None:
    """Rows of an output layer read activations that are positive in every model, and frequent classes lie along them.

    The labels mean the same in both models, so the coin is not fair although the models are independent.
    """
    rng = np.random.default_rng(19)
    classes, dim = 400, 32
    pairs = np.arange(classes).reshape(-1, 2)
    log_frequency = rng.normal(size=classes)[:, None]  # the same data in both models
    a = 0.5 * log_frequency + rng.normal(size=(classes, dim))
    b = 0.5 * log_frequency + rng.normal(size=(classes, dim))
    heads = int((swap_statistics([a], [b], (False,), pairs) > 0).sum())
    assert log10_e_value(heads, pairs.shape[0]) > 6
    # Hidden units have means of their own, too, but no label ties them to each other.
    b = 0.5 * rng.permutation(log_frequency) + rng.normal(size=(classes, dim))
    heads = int((swap_statistics([a], [b], (False,), pairs) > 0).sum())
    assert log10_e_value(heads, pairs.shape[0]) < 2


# --- units that were sorted ----------------------------------------------------------------------------------------


def test_sorted_units_lose_their_swap_coins_and_keep_their_sign_coins() -> None:
    rng = np.random.default_rng(23)
    naive, kept, signs = [], [], 0
    for _ in range(300):
        common = rng.normal(size=20)

        def pruned() -> list[np.ndarray]:
            weight = rng.gamma(2.0, size=64)
            rows = [weight[:, None] * common + rng.normal(size=(64, 20)), rng.normal(size=(64, 20))]  # noqa: B023
            order = np.argsort(-np.einsum("ud,ud->u", rows[0], rows[0]))  # importance
            return [role[order] for role in rows]

        a, b = pruned(), pruned()
        one = sample(a, b, (False, True))
        swap = swap_statistics(one.suspect, one.base, one.odd, one.pairs)
        naive.append(log10_e_value(int((swap > 0).sum()), swap.shape[0]))
        ledger = Ledger()
        ledger.add([one])
        assert ledger.sorted_kinds == {"mlp"}
        assert {t.kind for t in ledger.tosses()} == {"sign"}
        coins, heads = total(ledger)
        signs += coins
        kept.append(log10_e_value(heads, coins))
    assert mean_e(naive)[0] > 3
    mean, error = mean_e(kept)
    assert mean < 1 + 4 * error
    # Of 20 elements, chance makes a few units look like clones of another.
    assert 0.99 * 300 * 64 < signs <= 300 * 64


def test_exchangeable_units_are_not_called_sorted() -> None:
    rng = np.random.default_rng(29)
    for _ in range(200):
        ledger = Ledger()
        for layer in range(6):
            a = [rng.normal(size=(32, 12)) * rng.gamma(2.0, size=(32, 1)) for _ in range(2)]
            ledger.add([sample(a, a, (False, True), layer=layer)])
        assert not ledger.sorted_kinds


# --- padding, ties, clones --------------------------------------------------------------------------------------------


def test_padding_in_the_same_place_is_no_evidence() -> None:
    """Both models are padded with zero units for their shards: (unit, pad) pairs would all come up heads."""
    rng = np.random.default_rng(31)
    values = []
    for _ in range(200):
        ledger = Ledger()
        for layer in range(4):
            a, b = ([rng.normal(size=(64, 16)) for _ in range(3)] for _ in range(2))
            for role in (*a, *b):
                role[3::4] = 0.0
            ledger.add([sample(a, b, (False, True, True), layer=layer)])
        coins, heads = total(ledger)
        values.append((heads - coins / 2) / np.sqrt(coins / 4))
    assert abs(np.mean(values)) < 4 / np.sqrt(200)


def test_ties_are_ties_to_the_last_bit() -> None:
    """Weights of plus and minus one tie often; rounding must neither break a tie nor favour a side of it."""
    rng = np.random.default_rng(37)
    a, b = (rng.choice([-1.0, 1.0], size=(2000, 8)).astype(np.float32) for _ in range(2))
    pairs = np.arange(2000).reshape(-1, 2)
    swapped = b.reshape(-1, 2, 8)[:, ::-1].reshape(2000, 8)
    one = swap_statistics([a], [b], (True,), pairs)
    other = swap_statistics([a], [swapped], (True,), pairs)
    assert np.array_equal(one, -other)
    exact = np.abs(a.astype(np.int64) @ b.astype(np.int64).T)
    i, j = pairs[:, 0], pairs[:, 1]
    ties = exact[i, i] + exact[j, j] == exact[i, j] + exact[j, i]
    assert ties.sum() > 100
    assert np.array_equal(one == 0.0, ties)


def test_rule_1_clones_inside_a_group_share_one_coin() -> None:
    """KV heads stored four times in both models: one draw, four copies."""
    rng = np.random.default_rng(41)
    scores, coins = [], 0
    for _ in range(300):
        ledger = Ledger()
        for layer in range(4):
            a, b = ([np.tile(rng.normal(size=(16, 24)), (4, 1))] for _ in range(2))
            ledger.add([sample(a, b, (True,), name="value", layer=layer, block=np.repeat(np.arange(4), 16))])
        coins, heads = total(ledger)
        assert ledger.repeats == {"value"}
        scores.append((heads - coins / 2) / np.sqrt(coins / 4))
    assert coins == 4 * (16 + 8)
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], 299) / 299
    assert low < np.var(scores, ddof=1) < high


# --- rule 1 where units were searched for ---------------------------------------------------------------------------


GATED = ("gate", "up", "down")
ODD = (False, True, True)


def searched(
    suspect: list[np.ndarray], base: list[np.ndarray], *, layer: int = 0, part: int = 0, tossed: bool = False
) -> Sample:
    """Match the base's units by what they read, as the stage does; with ``tossed`` their swaps are tossed, too."""
    match = match_units(suspect[:2], base[:2], even=ODD[:2])
    roles = [(role, base[0].shape[1], odd) for role, odd in zip(GATED, ODD)]
    mine = replace(group(suspect[0].shape[0], roles, layer=layer), part=part)
    theirs = group(base[0].shape[0], roles, layer=layer)
    probe = Probe(mine, theirs, match.base_rows, GATED, match.suspect_rows, searched=not tossed)
    found = (
        tuple(np.asarray(a[match.suspect_rows], np.float32) for a in suspect),
        tuple(np.asarray(b[match.base_rows], np.float32) for b in base),
    )
    return Sample(probe, GATED, ODD, *found, draw_pairs(theirs.block[match.base_rows], [0]))


def gated(rng: np.random.Generator, units: int = 24, dim: int = 16) -> list[np.ndarray]:
    return [rng.normal(size=(units, dim)) for _ in range(3)]


def nudged(rng: np.random.Generator, roles: list[np.ndarray]) -> list[np.ndarray]:
    return [role + 0.1 * rng.normal(size=role.shape) for role in roles]


def test_rule_1_a_base_unit_matched_by_many_has_one_coin() -> None:
    """An upcycled suspect: four copies of each unit find the same partner and agree about its sign."""
    rng = np.random.default_rng(43)
    counted, added = [], []
    for draw in range(400):
        base, origin = gated(rng), gated(rng)
        samples = [searched(nudged(rng, origin), base, part=expert) for expert in range(4)]
        ledger = Ledger()
        ledger.add(samples)
        coins, heads = total(ledger)
        assert 0 < coins <= 24
        added.append(log10_e_value(heads, coins))
        if draw < FEW:
            counted.append(counted_apart(samples))
    mean, error = mean_e(added)
    assert mean < 1 + 4 * error
    assert mean_e(counted)[0] > 3, "counting every copy must be seen to break the e-value"


def test_statistics_of_all_partners_are_added_before_the_toss() -> None:
    """One faint partner for, one clear partner against: the sum decides, not the first."""
    rng = np.random.default_rng(47)
    base = gated(rng)
    against, faint = ([*base[:2], factor * base[2]] for factor in (-1.0, 1.0))
    faint[2] = faint[2] + 3 * rng.normal(size=faint[2].shape)
    ledger = Ledger()
    ledger.add([searched(faint, base, part=0), searched(against, base, part=1)])
    assert total(ledger) == (24, 0)


def test_searched_units_toss_the_signs_of_what_they_write_and_nothing_else() -> None:
    rng = np.random.default_rng(53)
    kept, swapped = [], []
    for draw in range(300):
        base, suspect = gated(rng), gated(rng)
        sample_ = searched(suspect, base)
        ledger = Ledger()
        ledger.add([sample_])
        assert {t.kind for t in ledger.tosses()} == {"sign"}
        expected = np.einsum("ud,ud->u", sample_.suspect[2], sample_.base[2]) > 0
        assert total(ledger) == (expected.shape[0], int(expected.sum()))
        kept.append(log10_e_value(expected.sum(), expected.shape[0]))
        if draw >= FEW:
            continue
        naive = Ledger()
        naive.add([searched(suspect, base, tossed=True)])
        swapped.append(
            sum((log10_e_value(t.count.heads, t.count.coins) for t in naive.tosses() if t.kind == "swap"), 0.0)
        )
    mean, error = mean_e(kept)
    assert mean < 1 + 4 * error
    assert np.median(swapped) > 1, "matched units win every swap, whatever the models share"


def test_matched_units_are_neither_sorted_nor_a_reason_to_call_others_so() -> None:
    """The match puts the suspect's units in any order: it says nothing about how they stand in the file."""
    rng = np.random.default_rng(59)
    base = gated(rng, units=64)
    weight = np.sort(rng.gamma(2.0, size=64))[:, None]
    ordered = [weight * role for role in base]
    ledger = Ledger()
    ledger.add([searched(ordered, base)])
    assert not ledger.sorted_kinds
    plain = Ledger()
    plain.add([sample(ordered, base, ODD)])
    assert plain.sorted_kinds == {"mlp"}


def test_units_found_in_part_toss_the_coins_of_those() -> None:
    rng = np.random.default_rng(61)
    base = gated(rng)
    ledger = Ledger()
    ledger.add([searched([role[:10] for role in base], base), searched([role[4:20] for role in base], base, part=1)])
    assert total(ledger) == (20, 20)


def test_base_units_matched_to_one_suspect_unit_share_a_coin() -> None:
    """Two layers of the base that are no copies of each other, and one of the suspect that both were matched to."""
    rng = np.random.default_rng(62)
    suspect = gated(rng)
    ledger = Ledger()
    ledger.add(
        [searched(suspect, nudged(rng, suspect), layer=0), replaced_layer(searched(suspect, gated(rng), layer=1))]
    )
    assert total(ledger)[0] <= 24


def replaced_layer(found: Sample) -> Sample:
    """The same units of the suspect's first layer."""
    mine = replace(found.probe.suspect, layer=0)
    return replace(found, probe=replace(found.probe, suspect=mine))


def repeated_base(draws: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean e-value of searched units of an up-scaled base, with the ledger and counted layer by layer."""
    rng = np.random.default_rng(67)
    kept, counted = [], []
    for _ in range(draws):
        origin, other = gated(rng), gated(rng)
        samples = [searched(nudged(rng, other), nudged(rng, origin), layer=layer) for layer in range(4)]
        ledger = Ledger()
        ledger.add(samples)
        kept.append(log10_e_value(*reversed(total(ledger))))
        counted.append(counted_apart(samples))
    return mean_e(kept), mean_e(counted)


def test_rule_1_holds_for_searched_units_of_an_upscaled_base() -> None:
    (mean, error), (naive, _) = repeated_base(400)
    assert naive > 3, "counting four copies of a draw four times must be seen to break the e-value"
    assert mean < 1 + 4 * error


def test_copies_of_one_base_group_are_no_repeats_of_the_base() -> None:
    """Several partners are the suspect's doing; the report must not say that the base repeats itself."""
    rng = np.random.default_rng(71)
    base = gated(rng)
    ledger = Ledger()
    ledger.add([searched(nudged(rng, base), base, part=expert) for expert in range(3)])
    assert not ledger.repeats


@pytest.mark.parametrize(
    "noise",
    [
        0.0,
        0.1,
    ],
)
def test_rule_1_holds_for_searched_clones_inside_a_group(noise: float) -> None:
    """Both models were widened: a copy is matched to a copy, and one draw would be tossed four times."""
    rng = np.random.default_rng(73)
    scores = []
    for _ in range(300):
        suspect, base = (
            [role + noise * rng.normal(size=role.shape) for role in (np.tile(r, (4, 1)) for r in gated(rng, units=12))]
            for _ in range(2)
        )
        ledger = Ledger()
        ledger.add([searched(suspect, base)])
        coins, heads = total(ledger)
        scores.append((heads - coins / 2) / np.sqrt(coins / 4))
    assert np.var(scores, ddof=1) < stats.chi2.ppf(1 - 1e-4, 299) / 299


# --- a quantised base: the suspect is the one that is relabelled ------------------------------------------------------


def by_place(rng: np.random.Generator, units: int, dim: int) -> np.ndarray:
    """Weights that were rounded up and down by their place: a mark that follows the number of the unit."""
    drawn = rng.standard_normal((units, dim))
    return np.where(np.arange(units)[:, None] % 2, np.ceil(drawn), np.floor(drawn))


def test_repeats_of_the_suspect_share_coins_where_the_base_is_rounded() -> None:
    """Eight copies of one layer against eight layers that were rounded by place: one coin for all copies of a pair.

    With the base's repeats alone merged, one lucky draw of the suspect counts eight times.
    """
    rng = np.random.default_rng(3)
    units, dim, found = 24, 16, {}
    for rounded in ((), ("base",)):
        values, coins = [], []
        for seed in range(250):
            layer = rng.standard_normal((units, dim)) + rng.standard_normal((units, 1))
            ledger = Ledger(rounded)
            ledger.add(
                [sample([layer], [by_place(rng, units, dim)], [False], layer=number, seed=seed) for number in range(8)]
            )
            count, heads = total(ledger)
            values.append(log10_e_value(heads, count))
            coins.append(count)
        found[rounded] = values
        # Units that lie near each other are clones and toss nothing.
        most = units // 2 if rounded else 8 * units // 2
        assert 0.8 * most < max(coins) <= most
    mean, error = mean_e(found["base",])
    assert mean < 1 + 4 * error
    # Variance of the number of heads tells what the mean of so heavy a tail does not.
    assert np.mean(np.array(found[()]) > 2) > 0.01 > np.mean(np.array(found["base",]) > 2)


def test_a_sorted_base_has_no_swap_coins_where_a_model_is_rounded() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((400, 8)) * np.linspace(1, 3, 400)[:, None]
    for rounded, tossed in (((), True), (("suspect",), False), (("base",), False)):
        ledger = Ledger(rounded)
        ledger.add([sample([rng.standard_normal((400, 8))], [rows], [False])])
        assert (total(ledger)[0] > 0) is tossed
