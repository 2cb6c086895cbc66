"""The coins of fingerprints are jointly fair: all relabellings of a few units are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.fingerprint.align import ShelfPair, same_layers
from lineage_plugin.fingerprint.coins import agreement, merge_repeats, tiles, toss_signs, toss_swaps
from lineage_plugin.fingerprint.sketch import sketch
from lineage_plugin.fingerprint.types import Shelf
from tests.fingerprint.enumeration import all_flips, mean_e, nodes, toss, tree_outcomes, wreath
from tests.fingerprint.synthetic import bit_strip, fingerprint, pair_of, relabelled, shelf

FAIR = pytest.approx(1.0, abs=1e-9)


def tile(rng: np.random.Generator) -> np.ndarray:
    """Any values of ``f``: nothing is assumed of them but that no two sums are equal."""
    return rng.integers(-(10**12), 10**12, (16, 16))


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def gated(rng: np.random.Generator, layers: int, units: int, size: int = 1, **given: object) -> Shelf:
    """A shelf of gated units with random bits; with few bits many statistics are zero."""
    strips = [bit_strip(role, draw(rng, layers, units, size)) for role in ("gate", "up", "down")]
    return shelf(strips, **given)  # type: ignore[arg-type]


def plain(rng: np.random.Generator, held: int, **given: object) -> Shelf:
    """A shelf of units whose signs mean something, so that swaps are all there is."""
    return shelf([bit_strip(role, draw(rng, 1, held, 1)) for role in ("fc1", "fc2")], **given)  # type: ignore[arg-type]


def compared(suspect: Shelf, base: Shelf) -> ShelfPair:
    return pair_of(fingerprint(suspect), fingerprint(base))


# --- the tree of swaps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [2, 4, 8])
@pytest.mark.parametrize("seed", range(5))
def test_every_outcome_of_the_tree_comes_once(units: int, seed: int) -> None:
    even = tile(np.random.default_rng(seed))
    for moved in (even[:, _orders(units)].swapaxes(0, 1), even[_orders(units)]):  # the base's units, the suspect's
        outcomes = tree_outcomes(moved, units)
        assert (outcomes != 0).all()
        assert len({tuple(row) for row in outcomes.tolist()}) == 2 ** (units - 1) == outcomes.shape[0]


def _orders(units: int) -> np.ndarray:
    """All orders of the first units of a tile, the others in their places."""
    orders = wreath(units)
    return np.concatenate([orders, np.tile(np.arange(units, 16), (orders.shape[0], 1))], axis=1)


def test_each_swap_of_a_tile_negates_its_coin_and_none_beside_or_above() -> None:
    """All 32,768 relabellings of 16 units would show no more: a triangular map is one to one."""
    rng = np.random.default_rng(0)
    blocks = nodes(16)
    assert len(blocks) == 15
    for _ in range(40):
        even = tile(rng)[:, rng.permutation(16)]
        before = tree_outcomes(even[None], 16)[0]
        orders = []
        for start, size in blocks:
            order, half = np.arange(16), size // 2
            order[start : start + size] = np.roll(order[start : start + size], half)
            orders.append(order)
        after = tree_outcomes(np.stack([even[:, order] for order in orders]), 16)
        for swapped, (start, size) in enumerate(blocks):
            for coin, (first, length) in enumerate(blocks):
                below = length < size and start <= first < start + size
                if not below:
                    assert after[swapped, coin] == before[coin] * (-1 if coin == swapped else 1)


def test_a_sample_of_relabellings_of_sixteen_units_looks_like_fair_coins() -> None:
    rng = np.random.default_rng(1)
    even, orders = tile(rng), wreath(8)
    draws = 4000
    left, right = (orders[rng.integers(0, 128, draws)] + shift for shift in (0, 8))
    turned = rng.random(draws)[:, None] < 0.5
    order = np.where(turned, np.concatenate([right, left], axis=1), np.concatenate([left, right], axis=1))
    outcomes = tree_outcomes(even[:, order].swapaxes(0, 1), 16)
    # Means, and the products of any two coins, are all uncorrelated: 105 pairs.
    signs = outcomes / np.sqrt(draws)
    assert np.abs(signs.sum(axis=0)).max() < 4.5
    assert np.abs((outcomes.T @ outcomes - draws * np.eye(15)) / np.sqrt(draws)).max() < 4.5
    assert np.var(outcomes.sum(axis=1)) == pytest.approx(15, rel=0.1)


def slow_counts(even: np.ndarray, usable: np.ndarray, block: int) -> list[int]:
    """Coins and heads of one layer, as the formula says."""
    found = [0, 0]
    for at, values in enumerate(even):
        for start, size in nodes(16):
            first, last = 16 * at + start, 16 * at + start + size - 1
            if last >= usable.shape[0] or not usable[first : last + 1].all() or first // block != last // block:
                continue
            p, q = range(start, start + size // 2), range(start + size // 2, start + size)
            sums = [
                sum(int(values[a, b]) for a in one for b in other) for one, other in ((p, p), (q, q), (p, q), (q, p))
            ]
            total = sums[0] + sums[1] - sums[2] - sums[3]
            found = [found[0] + (total != 0), found[1] + (total > 0)]
    return found


@pytest.mark.parametrize(
    ("units", "block"), [(16, 16), (40, 40), (40, 8), (24, 12), (30, 2), (13, 13), (2, 2), (33, 5)]
)
def test_counts_are_those_of_the_formula(units: int, block: int) -> None:
    rng = np.random.default_rng(units * block)
    even = rng.integers(-3, 4, (5, -(-units // 16), 16, 16))
    usable = rng.random((5, units)) < 0.9
    tossed = toss_swaps(even, usable, block, np.arange(5))
    for layer in range(5):
        assert [tossed.coins[layer], tossed.heads[layer]] == slow_counts(even[layer], usable[layer], block)
    signs = rng.integers(-2, 3, (5, units))
    tossed = toss_signs(signs, usable, np.arange(5))
    assert tossed.coins.tolist() == [sum(bool(u and s) for u, s in zip(*rows)) for rows in zip(usable, signs)]
    assert tossed.heads.tolist() == [sum(bool(u and s > 0) for u, s in zip(*rows)) for rows in zip(usable, signs)]


def test_agreement_is_the_inner_product_of_signs() -> None:
    rng = np.random.default_rng(2)
    a, b = draw(rng, 3, 21, 4), draw(rng, 3, 21, 4)
    found = agreement(a, b)
    assert found.shape == (3, 2, 16, 16)
    one, other = (1.0 - 2.0 * np.unpackbits(part, axis=2) for part in (a, b))
    for u in range(21):
        for v in range(u - u % 16, min(21, u - u % 16 + 16)):
            assert (found[:, u // 16, u % 16, v % 16] == (one[:, u] * other[:, v]).sum(axis=1)).all()
    assert tiles(np.arange(3)[None], -1).tolist() == [[[0, 1, 2] + [-1] * 13]]


def _broken_outcomes(even: np.ndarray, rule: str) -> int:
    """How many different outcomes a wrong tree of 8 units has over its 128 relabellings."""
    outcomes = set()
    for order in wreath(8):
        moved = even[:8, :8][:, order]
        heads = []
        for start, size in nodes(8):
            p, q = (slice(start + shift, start + shift + size // 2) for shift in (0, size // 2))
            if rule == "equal numbers only":
                total = sum(np.trace(moved[x, y]) * s for x, y, s in ((p, p, 1), (q, q, 1), (p, q, -1), (q, p, -1)))
            elif rule == "first units only":
                i, j = p.start, q.start
                total = moved[i, i] + moved[j, j] - moved[i, j] - moved[j, i]
            else:
                total = sum(moved[x, y].sum() * s for x, y, s in ((p, p, 1), (q, q, 1), (p, q, -1), (q, p, -1)))
            heads.append(bool(total > 0))
        outcomes.add(tuple(heads))
    return len(outcomes)


def test_blocks_must_be_summed_whole() -> None:
    """A statistic of two blocks that sees the order inside them is no coin beside those of the blocks below."""
    rng = np.random.default_rng(3)
    tables = [tile(rng) for _ in range(8)]
    assert all(_broken_outcomes(even, "whole blocks") == 128 for even in tables)
    for rule in ("equal numbers only", "first units only"):
        assert sum(_broken_outcomes(even, rule) < 128 for even in tables) >= 7


# --- swap and sign coins of the same units --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_swaps_and_signs_are_jointly_fair(seed: int) -> None:
    """Every outcome of 3 swap coins and 4 sign coins once, or, with ties, a mean e-value of 1."""
    rng = np.random.default_rng(seed)
    for size in (1, 2, 16):
        suspect, base = gated(rng, 1, 4, size), gated(rng, 1, 4, size)

        def pairs(
            order: np.ndarray, flips: np.ndarray, suspect: Shelf = suspect, base: Shelf = base
        ) -> list[ShelfPair]:
            return [compared(suspect, relabelled(base, order, flips))]

        assert mean_e(pairs, wreath(4), all_flips(4)) == FAIR


def test_a_flip_leaves_swap_coins_and_negates_its_own_sign() -> None:
    rng = np.random.default_rng(4)
    suspect, base = gated(rng, 3, 16, 4), gated(rng, 3, 16, 4)
    swaps, signs = (tossed for _, tossed in toss(compared(suspect, base)))
    for unit in range(16):
        flips = np.where(np.arange(16) == unit, 255, 0)
        moved = [tossed for _, tossed in toss(compared(suspect, relabelled(base, np.arange(16), flips)))]
        assert np.array_equal(moved[0].heads, swaps.heads) and np.array_equal(moved[0].coins, swaps.coins)
        assert np.array_equal(moved[1].coins, signs.coins)
        assert (np.abs(moved[1].heads - signs.heads) <= 1).all()
    everyone = toss(compared(suspect, relabelled(base, np.arange(16), np.full(16, 255))))[1][1]
    assert np.array_equal(everyone.heads, signs.coins - signs.heads)


def test_signed_agreements_in_swap_coins_would_not_be_fair_beside_sign_coins() -> None:
    means = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        a, b = draw(rng, 1, 4, 8), draw(rng, 1, 4, 8)
        values = []
        for order in wreath(4):
            for flips in all_flips(4):
                signed = agreement(a, b[:, order] ^ flips[None, :, None])
                usable, alone = np.ones((1, 4), bool), np.zeros(1, np.int64)
                signs = np.diagonal(signed, axis1=2, axis2=3)[:, 0, :4]
                parts = [toss_swaps(signed, usable, 4, alone), toss_signs(signs, usable, alone)]
                heads, coins = (sum(int(getattr(part, name)[0]) for part in parts) for name in ("heads", "coins"))
                values.append(10 ** log10_e_value(heads, coins))
        means.append(np.mean(values))
    assert min(means) > 1 - 1e-9 and max(means) > 1.02


# --- units that have no coins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_units_without_vectors_take_their_blocks_with_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mine, theirs = rng.random((2, 1, 8)) < 0.8
    suspect, base = plain(rng, 8, usable=mine), plain(rng, 8, usable=theirs)
    # Which units have no vector moves with the units of the base.
    assert mean_e(lambda order: [compared(suspect, relabelled(base, order))], wreath(8)) == FAIR


def cloned(labels: np.ndarray) -> np.ndarray:
    """Which units are copies of an earlier one, from what they are copies of."""
    return np.array([[label in row[:at] for at, label in enumerate(row)] for row in labels.tolist()])


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 0, 1, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3], [0, 1, 2, 3, 2, 2, 1, 0]])
def test_clones_have_no_coins(labels: list[int]) -> None:
    """A base of four units, widened to eight: exchanging two of the four moves all their copies."""
    rng = np.random.default_rng(sum(labels))
    suspects = [gated(rng, 1, 4, 2), gated(rng, 1, 8, 2)]
    suspects[0] = relabelled(_widened(suspects[0], labels), np.arange(8))  # an independent model, widened alike
    origin = gated(rng, 1, 4, 2)
    means = []
    for keep in (True, False):
        for suspect in suspects:

            def pairs(
                order: np.ndarray, flips: np.ndarray, suspect: Shelf = suspect, keep: bool = keep
            ) -> list[ShelfPair]:
                base = _widened(relabelled(origin, order, flips), labels)
                return [compared(suspect, base if keep else replace(base, clone=np.zeros((1, 8), bool)))]

            means.append(mean_e(pairs, wreath(4), all_flips(4)))
    assert means[:2] == [FAIR, FAIR]
    assert means[2] > 1.5, "counting copies in both models must be seen to break the e-value"


def _widened(part: Shelf, labels: list[int]) -> Shelf:
    strips = tuple(replace(one, bits=one.bits[:, labels]) for one in part.strips)
    masks = {"usable": part.usable[:, labels], "clone": cloned(np.array([labels]))}
    return replace(part, units=8, block=8, strips=strips, **masks)


@pytest.mark.parametrize("seed", range(6))
def test_clones_that_stand_anywhere_leave_the_other_units_fair(seed: int) -> None:
    """Copies at places drawn with the units: whether a block holds a copy does not depend on the order inside it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, (1, 8))
    suspect, base = plain(rng, 8), plain(rng, 8)

    def pairs(order: np.ndarray) -> list[ShelfPair]:
        return [compared(suspect, replace(relabelled(base, order), clone=cloned(labels[:, order])))]

    assert mean_e(pairs, wreath(8)) == FAIR


def test_sorted_units_have_sign_coins_only() -> None:
    rng = np.random.default_rng(6)
    plain, sorted_ = gated(rng, 1, 16, 8), gated(rng, 1, 16, 8, ordered=True)
    assert [kind for kind, _ in toss(compared(sorted_, plain))] == ["sign"]
    # Coins belong to the base, whatever is known of the suspect; the base's own order is not looked at...
    assert [kind for kind, _ in toss(compared(plain, sorted_))] == ["swap", "sign"]
    # ...unless either is quantised, when either may be the one that is relabelled.
    quantised = replace(sorted_, strips=tuple(replace(one, shared=1) for one in sorted_.strips))
    assert [kind for kind, _ in toss(compared(plain, quantised))] == ["sign"]


# --- blocks, repeats, quantised models ------------------------------------------------------------------------------


def test_units_change_places_inside_their_heads_only() -> None:
    rng = np.random.default_rng(7)
    suspect, base = (plain(rng, 8, kind="value", units=32, block=4) for _ in range(2))
    assert toss(compared(suspect, base))[0][1].coins[0] <= 6  # of 7
    inside = [np.concatenate([first, second + 4]) for first in wreath(4) for second in wreath(4)]
    assert mean_e(lambda order: [compared(suspect, relabelled(base, order))], inside) == FAIR


def repeated(rng: np.random.Generator, copies: int, units: int, **given: object) -> Shelf:
    """Layers that are copies of one, each changed in some bits."""
    one = gated(rng, 1, units, 2)
    strips = []
    for part in one.strips:
        noise = np.bitwise_and.reduce(draw(rng, 5, copies, units, 2))
        strips.append(
            replace(
                part, bits=part.bits ^ noise, energy=np.zeros((copies, 0), np.float32), step=np.ones(copies, np.float32)
            )
        )
    return shelf(strips, **given)  # type: ignore[arg-type]


def test_layers_that_repeat_each_other_share_their_coins() -> None:
    rng = np.random.default_rng(8)
    suspect, base = repeated(rng, 3, 4), repeated(rng, 3, 4)
    means = []
    for repeats in ([0, 0, 0], [0, 1, 0], [0, 1, 2]):

        def pairs(order: np.ndarray, flips: np.ndarray, repeats: list[int] = repeats) -> list[ShelfPair]:
            return [compared(suspect, replace(relabelled(base, order, flips), repeats=np.array(repeats)))]

        means.append(mean_e(pairs, wreath(4), all_flips(4)))
    assert means[0] == FAIR
    assert means[2] > means[1] > 1.2, "coins that are counted two or three times must be seen to break the e-value"


def test_statistics_of_repeats_are_added_before_they_are_tossed() -> None:
    statistic = np.array([[3, -1], [-2, -1], [5, 0]])
    assert merge_repeats(statistic, np.array([0, 0, 2])).tolist() == [[1, -2], [0, 0], [5, 0]]
    assert merge_repeats(statistic, np.arange(3)) is statistic
    tossed = toss_signs(statistic, np.ones((3, 2), bool), np.array([0, 0, 2]))
    assert tossed.coins.tolist() == [2, 0, 1] and tossed.heads.tolist() == [1, 0, 1]


def test_a_base_layer_has_its_coins_once_however_many_layers_are_set_against_it() -> None:
    rng = np.random.default_rng(9)
    suspect, base = repeated(rng, 3, 4), gated(rng, 1, 4, 2)

    def pairs(order: np.ndarray, flips: np.ndarray) -> list[ShelfPair]:
        pair = compared(suspect, relabelled(base, order, flips))
        return [replace(pair, mine=np.arange(3), theirs=np.zeros(3, np.int64))]

    assert mean_e(pairs, wreath(4), all_flips(4)) == FAIR
    # Two shelves of one base shelf, as where the suspect's layers differ in their roles.
    one, other = (fingerprint(suspect), fingerprint(base))

    def twice(order: np.ndarray, flips: np.ndarray) -> list[ShelfPair]:
        pair = pair_of(one, fingerprint(relabelled(other.shelves[0], order, flips)))
        apart = [replace(pair, suspect=replace(suspect), mine=np.array([at])) for at in range(3)]
        return [replace(part, theirs=np.zeros(1, np.int64)) for part in apart]

    assert mean_e(twice, wreath(4), all_flips(4)) > 1.5


def rounded(part: Shelf, shared: int = 1) -> Shelf:
    return replace(part, strips=tuple(replace(one, shared=shared) for one in part.strips))


def test_with_a_quantised_base_the_coins_are_those_of_the_suspect() -> None:
    """Nothing is known of a rounded base; relabelling the suspect is what must be fair, its repeats included."""
    rng = np.random.default_rng(10)
    suspect, base = repeated(rng, 3, 4), rounded(repeated(rng, 3, 4))
    means = []
    for repeats in ([0, 0, 0], [0, 1, 2]):

        def pairs(order: np.ndarray, flips: np.ndarray, repeats: list[int] = repeats) -> list[ShelfPair]:
            return [compared(replace(relabelled(suspect, order, flips), repeats=np.array(repeats)), base)]

        means.append(mean_e(pairs, wreath(4), all_flips(4)))
    assert means[0] == FAIR
    assert means[1] > 1.5
    # Repeats of either side hang together.
    pair = compared(replace(suspect, repeats=np.array([0, 0, 2])), replace(base, repeats=np.array([0, 1, 1])))
    assert pair.repeats.tolist() == [0, 0, 0]
    assert replace(pair, rounded=False).repeats.tolist() == [0, 1, 1]
    # So do its clones.
    double = np.array([[False, True, False, False]] * 3)
    assert not compared(replace(suspect, clone=double), base).usable[:, 1].any()
    assert compared(replace(suspect, clone=double), replace(base, strips=suspect.strips)).usable.all()


@pytest.mark.parametrize(("mine", "theirs", "block"), [(1, 1, 8), (-1, 1, 8), (4, 1, 4), (4, 2, 2), (8, 4, 4)])
def test_two_quantised_models_are_exchanged_inside_blocks_and_never_flipped(mine: int, theirs: int, block: int) -> None:
    rng = np.random.default_rng(11)
    suspect, base = rounded(gated(rng, 1, 8, 2), mine), rounded(gated(rng, 1, 8, 2), theirs)
    pair = compared(suspect, base)
    assert pair.block == block and not pair.signs and [kind for kind, _ in toss(pair)] == ["swap"]
    orders = [
        np.concatenate([part + block * at for at, part in enumerate(parts)])
        for parts in np.ndindex(*[2 ** (block - 1)] * (8 // block))
        for parts in [[wreath(block)[choice] for choice in parts]]
    ]
    assert mean_e(lambda order: [compared(suspect, relabelled(base, order))], orders) == FAIR


def test_what_a_quantiser_treats_one_by_one_is_left_out() -> None:
    rng = np.random.default_rng(12)
    suspect, base = rounded(gated(rng, 1, 8, 2)), gated(rng, 1, 8, 2)
    strips = [replace(one, shared=0 if one.role == "down" else None) for one in base.strips]
    pair = compared(suspect, replace(base, strips=tuple(strips)))
    assert [mine.role for mine, _ in pair.strips] == ["gate", "up"] and not pair.signs
    # One model alone may be rounded in any way.
    strips = [replace(one, shared=0) for one in base.strips]
    pair = compared(gated(rng, 1, 8, 2), replace(base, strips=tuple(strips)))
    assert len(pair.strips) == 3 and pair.signs and pair.block == 8
    # Nothing left: nothing is compared.
    none = replace(base, strips=tuple(strips))
    assert not same_layers(_pairs(rounded(gated(rng, 1, 8, 2)), none))


def _pairs(suspect: Shelf, base: Shelf) -> Sequence[ShelfPair]:
    from lineage_plugin.fingerprint.align import pair_shelves

    return pair_shelves(fingerprint(suspect), fingerprint(base))


# --- the sketch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ternary", "one number", "huge", "tiny", "mixed", "negative zeros", "two numbers"])
def test_bits_follow_flips_and_exchanges_of_any_vectors(kind: str) -> None:
    """Also where sums are exactly zero, where numbers are as large or as small as they can be, and where -0 stands."""
    rng = np.random.default_rng(13)
    for dim, bits in ((9, 16), (64, 64), (100, 32)):
        x = rng.integers(-1, 2, (32, dim)).astype(np.float32)
        if kind in ("one number", "two numbers"):
            x = np.zeros_like(x)
            for row in x:
                row[rng.choice(dim, 1 + (kind == "two numbers"), replace=False)] = rng.choice([-0.5, 0.5])
        if kind in ("huge", "mixed"):
            x[:16] *= np.float32(3.4e38)
        if kind in ("tiny", "mixed"):
            x[16:] *= np.float32(1e-45)
        if kind == "negative zeros":
            x = np.where(x == 0, np.float32(-0.0), x)
        packed, usable = sketch(x, bits)
        assert usable.tolist() == x.any(axis=1).tolist()
        flipped, again = sketch(-x, bits)
        assert np.array_equal(usable, again) and (packed ^ flipped)[usable].min() == 255
        order = np.concatenate([rng.permutation(16), 16 + rng.permutation(16)])
        moved, fine = sketch(x[order], bits)
        assert np.array_equal(moved, packed[order]) and np.array_equal(fine, usable[order])
