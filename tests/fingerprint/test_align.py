"""Layers that are found: the search must cost the coins nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.fingerprint import align
from lineage_plugin.fingerprint.align import ShelfPair, find_layers, pair_shelves, same_layers
from lineage_plugin.fingerprint.sketch import sketch
from lineage_plugin.fingerprint.types import Shelf
from tests.fingerprint.enumeration import all_flips, mean_e, toss, wreath
from tests.fingerprint.synthetic import bit_strip, fingerprint, relabelled, shelf

FAIR = pytest.approx(1.0, abs=1e-9)


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def random_shelf(rng: np.random.Generator, layers: int, units: int, roles: Sequence[str], size: int = 8) -> Shelf:
    return shelf([bit_strip(role, draw(rng, layers, units, size)) for role in roles])


def grown_from(base: Shelf, rng: np.random.Generator, theirs: Sequence[int | None]) -> Shelf:
    """A suspect whose searched units are those of base layers, and all others random: the search will find them."""
    held, strips = base.held, []
    for one in base.strips:
        bits = draw(rng, len(theirs), held, one.bits.shape[2])
        for at, of in enumerate(theirs):
            if of is not None:
                bits[at, : held // 2] = one.bits[of, : held // 2]
        strips.append(bit_strip(one.role, bits))
    return shelf(strips)


def found(suspect: Shelf, base: Shelf) -> tuple[ShelfPair, ...]:
    return find_layers(pair_shelves(fingerprint(suspect), fingerprint(base)))[0]


# --- all relabellings that the search cannot see -------------------------------------------------------------------


@pytest.mark.parametrize("repeats", [[0, 1], [0, 0]])
def test_swaps_of_units_that_were_not_searched_are_fair(repeats: list[int]) -> None:
    rng = np.random.default_rng(0)
    base = replace(random_shelf(rng, 2, 8, ("fc1",)), repeats=np.array(repeats))
    suspect = grown_from(base, rng, [None, 1, 1, 0, None, None, None])

    def pairs(*orders: np.ndarray) -> tuple[ShelfPair, ...]:
        # Copies of a layer are relabelled like the first of them.
        order = np.stack([np.concatenate([np.arange(4), orders[repeats[at]] + 4]) for at in range(2)])
        matched = found(suspect, relabelled(base, order))
        assert matched[0].fresh == 4 and matched[0].theirs.tolist() == [1, 1, 0]
        return matched

    assert mean_e(pairs, wreath(4), wreath(4)) == FAIR


def test_signs_of_all_units_are_fair() -> None:
    rng = np.random.default_rng(1)
    base = random_shelf(rng, 1, 4, ("gate", "up"))
    suspect = grown_from(base, rng, [None, 0, None, 0, None, None, None])

    def pairs(order: np.ndarray, flips: np.ndarray) -> tuple[ShelfPair, ...]:
        moved = np.concatenate([np.arange(2), order + 2])
        matched = found(suspect, relabelled(base, moved, flips))
        assert matched[0].fresh == 2 and {1, 3} <= set(matched[0].mine.tolist())
        return matched

    assert mean_e(pairs, wreath(2), all_flips(4)) == FAIR


def test_coins_of_searched_units_would_not_be_fair() -> None:
    """The contrast: here the search looked at half of the units, whose swaps are tossed nevertheless."""
    rng = np.random.default_rng(2)
    base = random_shelf(rng, 2, 8, ("fc1",))
    suspect = grown_from(base, rng, [0, 1, None, None, None])

    def pairs(*orders: np.ndarray) -> list[ShelfPair]:
        order = np.stack([np.concatenate([np.arange(4), part + 4]) for part in orders])
        return [replace(pair, fresh=0) for pair in found(suspect, relabelled(base, order))]

    assert mean_e(pairs, wreath(4), wreath(4)) > 3


# --- independent models, the best of all wrong answers ---------------------------------------------------------------


def rows(rng: np.random.Generator, layers: int, units: int, dim: int) -> np.ndarray:
    """Rows that look like nothing in particular: heavy tails, zeros, a direction that all of them share."""
    values = rng.standard_t(1.5, (layers, units, dim)) * (rng.random((layers, units, dim)) < 0.5)
    values += 2 * rng.standard_normal(dim)
    return values * np.exp(rng.standard_normal((layers, units, 1)))


def sketched(rng: np.random.Generator, layers: int) -> Shelf:
    """Layers of one tile of gated units."""
    strips = []
    for role in ("gate", "up"):
        vectors = rows(rng, layers, 16, 24).astype(np.float32)
        strips.append(bit_strip(role, np.stack([sketch(layer, 16)[0] for layer in vectors])))
    return shelf(strips)


def randomised(heads: np.ndarray, coins: np.ndarray, rng: np.random.Generator) -> float:
    """P-value of the uniformity of binomial p-values, made continuous by a draw on their atoms."""
    p = stats.binom.sf(heads, coins, 0.5) + rng.random(heads.shape[0]) * stats.binom.pmf(heads, coins, 0.5)
    return float(stats.kstest(p, "uniform").pvalue)


def test_thirty_layers_against_thirty_wrong_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer gets the partner that looks best, among models whose units were relabelled uniformly."""
    monkeypatch.setattr(align, "LEAST_SCORE", 0.2)
    rng = np.random.default_rng(3)
    suspect, base = sketched(rng, 30), sketched(rng, 30)
    counts: dict[str, list[tuple[int, int]]] = {"swap": [], "sign": [], "searched": []}
    e_values, layers = [], []
    for _ in range(150):
        # All units of each layer in an order of their own, half of them negated.
        order = np.argsort(rng.random((30, 16)), axis=1)
        (pair,) = found(relabelled(suspect, order, rng.choice([0, 255], (30, 16))), base)
        layers.append(pair.mine.shape[0])
        parts = dict(toss(pair))
        parts["searched"] = dict(toss(replace(pair, fresh=0)))["swap"]
        for kind, tossed in parts.items():
            counts[kind].append((int(tossed.coins.sum()), int(tossed.heads.sum())))
        coins, heads = (sum(counts[kind][-1][at] for kind in ("swap", "sign")) for at in (0, 1))
        e_values.append(10 ** log10_e_value(heads, coins))
    assert np.mean(layers) > 20, "the search must have had its choice"
    for kind in ("swap", "sign"):
        coins, heads = np.array(counts[kind]).T
        assert randomised(heads, coins, rng) > 1e-3
        assert abs(heads.sum() - coins.sum() / 2) < 4 * np.sqrt(coins.sum() / 4)
    # Markov's inequality; the mean of so few draws says less.
    assert np.mean(np.minimum(e_values, 20)) < 1.5 and np.mean(np.array(e_values) >= 20) < 0.05
    coins, heads = np.array(counts["searched"]).T
    assert heads.sum() / coins.sum() > 0.52 and randomised(heads, coins, rng) < 1e-6


# --- which layers and shelves meet -----------------------------------------------------------------------------------


def test_layers_that_moved_are_found() -> None:
    rng = np.random.default_rng(4)
    base = random_shelf(rng, 8, 64, ("gate", "up"))
    theirs = [0, 1, 2, 3, 2, 3, 4, None, 6, 7]
    suspect = grown_from(base, rng, theirs)
    pairs, layers, mine, others = find_layers(pair_shelves(fingerprint(suspect), fingerprint(base)))
    assert layers.base_of == tuple(theirs) and mine == tuple(range(10)) and others == tuple(range(8))
    assert pairs[0].mine.tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert pairs[0].theirs.tolist() == [0, 1, 2, 3, 2, 3, 4, 6, 7]
    # Blind to the signs of units.
    flips = np.where(rng.random((8, 64)) < 0.5, 255, 0)
    again = find_layers(pair_shelves(fingerprint(suspect), fingerprint(relabelled(base, np.arange(64), flips))))
    assert again[1] == layers


def test_layers_meet_by_number_wherever_they_stand() -> None:
    rng = np.random.default_rng(5)
    one, other = random_shelf(rng, 3, 4, ("fc1",)), random_shelf(rng, 4, 4, ("fc1",))
    one, other = replace(one, layers=(1, 4, 6)), replace(other, layers=(0, 4, 5, 6))
    (pair,) = same_layers(pair_shelves(fingerprint(one), fingerprint(other)))
    assert pair.mine.tolist() == [1, 2] and pair.theirs.tolist() == [1, 3]
    assert same_layers(pair_shelves(fingerprint(replace(one, layers=(7, 8, 9))), fingerprint(other))) == ()


def test_a_layer_that_two_shelves_are_set_against_has_its_coins_once() -> None:
    """The suspect's layers are of two forms, and base layer 0 fits one of each; layer 1 repeats it, too."""
    rng = np.random.default_rng(6)
    base = replace(random_shelf(rng, 3, 8, ("fc1", "fc2")), repeats=np.array([0, 0, 2]))
    first = grown_from(base, rng, [0, 2])
    second = replace(grown_from(base, rng, [0, 1, 2]), layers=(2, 3, 4))
    second = replace(second, strips=second.strips[:1])
    pairs = find_layers(pair_shelves(fingerprint(first, second), fingerprint(base)))[0]
    assert [pair.theirs.tolist() for pair in pairs] == [[0, 2]]

    def moved(*orders: np.ndarray) -> tuple[ShelfPair, ...]:
        order = np.stack([np.concatenate([np.arange(4), orders[at] + 4]) for at in (0, 0, 1)])
        there = fingerprint(relabelled(base, order))
        return find_layers(pair_shelves(fingerprint(first, second), there))[0]

    assert mean_e(moved, wreath(4), wreath(4)) == FAIR


def test_shelves_meet_where_units_and_vectors_are_of_one_form() -> None:
    rng = np.random.default_rng(7)
    base = random_shelf(rng, 1, 16, ("gate", "up"))

    def roles(suspect: Shelf, other: Shelf = base) -> list[str]:
        return [mine.role for pair in pair_shelves(fingerprint(suspect), fingerprint(other)) for mine, _ in pair.strips]

    assert roles(base) == ["gate", "up"]
    assert roles(replace(base, strips=base.strips[:1])) == ["gate"]
    assert roles(replace(base, units=32)) == [] and roles(replace(base, block=8)) == []
    assert roles(replace(base, swap=False)) == [] and roles(replace(base, kind="value")) == []
    longer = tuple(replace(strip, dim=65) for strip in base.strips)
    assert roles(replace(base, strips=longer)) == []
    assert roles(replace(base, strips=(base.strips[0], replace(base.strips[1], odd=False)))) == ["gate"]
    # A dense MLP against the first expert, not against the second.
    assert roles(replace(base, kind="experts")) == ["gate", "up"]
    assert roles(replace(base, kind="experts", part=1)) == []
    assert roles(base, replace(base, kind="experts")) == ["gate", "up"]
    # As many units as both hold, and at least two.
    few = shelf([bit_strip(role, draw(rng, 1, 6, 8)) for role in ("gate", "up")], units=16)
    assert pair_shelves(fingerprint(few), fingerprint(base))[0].units == 6
    alone = shelf([bit_strip("gate", draw(rng, 1, 1, 8))], units=16)
    assert pair_shelves(fingerprint(alone), fingerprint(base)) == ()
