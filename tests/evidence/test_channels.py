"""Coins of the residual stream: power on a real child, fairness under relabelling, repeats, hostile rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.basis_null import Parts, parts_of, relabelled, toss
from lineage_plugin.evidence.channels import ChannelCoins, balanced_rows, channel_coins, match_channels
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.ledger import CoinCount

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def models() -> dict[str, Parts]:
    return {name: parts_of(EXAMPLES / name) for name in ("base", "honest", "liar", "twin")}


def width_of(model: Parts) -> int:
    return model.embedding.shape[1]


@pytest.mark.parametrize("tokens", [64, 256])
def test_a_child_has_all_heads_and_an_independent_model_half(models: dict[str, Parts], tokens: int) -> None:
    rows = np.random.default_rng(0).permutation(256)[:tokens]
    base = models["base"].embedding[rows]
    derived = channel_coins(models["honest"].embedding[rows], base, flip=True, seed=0)
    width = width_of(models["base"])
    assert derived == ChannelCoins(CoinCount(width // 2, width // 2), CoinCount(width, width), tokens, width)
    assert derived.log10_e == log10_e_value(width * 3 // 2, width * 3 // 2)
    other = channel_coins(models["liar"].embedding[rows], base, flip=True, seed=0)
    assert other.count.coins == width * 3 // 2
    assert stats.binomtest(other.count.heads, other.count.coins).pvalue > 1e-4
    assert [(toss.name, toss.kind) for toss in other.tosses()] == [("stream", "swap"), ("stream", "sign")]


def test_exchanging_the_channels_of_a_pair_turns_its_coin(models: dict[str, Parts]) -> None:
    """Exchange two channels of the base: exactly one swap coin changes sides, and none of the other pairs'."""
    base, suspect = models["base"].embedding, models["liar"].embedding
    before = channel_coins(suspect, base, flip=True, seed=0)
    changes = []
    for i, j in ((0, 1), (5, 40), (17, 90)):
        moved = base.copy()
        moved[:, [i, j]] = base[:, [j, i]]
        after = channel_coins(suspect, moved, flip=True, seed=0)
        assert after.swap.coins == before.swap.coins
        changes.append(abs(after.swap.heads - before.swap.heads))
    # Channels that are no pair exchange their partners: at most two coins change.
    assert max(changes) <= 2
    flipped = base * np.float32([-1, *([1] * (base.shape[1] - 1))])
    after = channel_coins(suspect, flipped, flip=True, seed=0)
    assert after.swap == before.swap
    assert abs(after.sign.heads - before.sign.heads) == 1


def test_coins_are_fair_under_relabelling(models: dict[str, Parts]) -> None:
    """Real independent models, the base relabelled at random; channels, matched channels, and units after a search."""
    rng = np.random.default_rng(3)
    draws = [toss(models["liar"], relabelled(models["base"], rng), 64, seed)[0] for seed in range(80)]
    for kind in ("channel swap", "channel sign", "matched channel sign", "unit swap", "unit sign"):
        counts = np.array([draw.counts.get(kind, (0, 0)) for draw in draws])
        counts = counts[counts[:, 0] > 0]
        if kind.startswith("channel"):
            assert counts.shape[0] == 80
        if counts.shape[0] < 20:
            continue
        p = stats.binom.sf(counts[:, 1], counts[:, 0], 0.5)
        p += rng.random(p.shape[0]) * stats.binom.pmf(counts[:, 1], counts[:, 0], 0.5)
        assert stats.kstest(p, "uniform").pvalue > 1e-4, kind
        e = 10.0 ** np.array([log10_e_value(int(heads), int(coins)) for coins, heads in counts])
        assert e.mean() <= 1 + 4 * e.std() / np.sqrt(e.shape[0]), kind


def widened(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([rows, rows + 0.01 * rows.std() * rng.standard_normal(rows.shape)], axis=1).astype(np.float32)


def test_a_widened_base_has_one_coin_for_the_copies_of_a_channel() -> None:
    """Both models independent; the base holds each channel twice. Counted apart, the copies are no fair coins."""
    rng = np.random.default_rng(0)
    together, apart = [], []
    for seed in range(120):
        base = widened(rng.standard_normal((64, 40)), rng)
        # The suspect is unrelated, but its channels repeat at the same places.
        suspect = widened(rng.standard_normal((64, 40)), rng)
        coins = channel_coins(suspect, base, flip=True, seed=seed)
        assert (coins.channels, coins.repeats) == (80, 40)
        assert (coins.swap.coins, coins.sign.coins) == (20, 40)
        together.append(coins.count)
        a, b = balanced_rows(suspect), balanced_rows(base)
        apart.append(CoinCount(80, int((np.einsum("tc,tc->c", a, b) > 0).sum())))
    # Fair coins have the binomial's variance; copies counted apart have twice as much.
    spread = [
        np.mean([(2 * count.heads - count.coins) ** 2 / count.coins for count in counts])
        for counts in (together, apart)
    ]
    assert spread[0] < 1.5 < spread[1]


def test_a_widened_child_of_a_widened_base_is_seen() -> None:
    rng = np.random.default_rng(1)
    base = widened(rng.standard_normal((128, 60)), rng)
    child = (base + 0.5 * rng.standard_normal(base.shape)).astype(np.float32)
    coins = channel_coins(child, base, flip=True, seed=0)
    assert coins.count.heads == coins.count.coins == 90


def test_permuted_channels_keep_their_sign_coins(models: dict[str, Parts]) -> None:
    rng = np.random.default_rng(2)
    base, child = models["base"].embedding, models["honest"].embedding
    order = rng.permutation(base.shape[1])
    scrubbed = child[:, order]
    channels, signs = match_channels(scrubbed, base, flip=True)
    assert (order[channels[:, 0]] == channels[:, 1]).all() and channels.shape[0] == base.shape[1]
    assert (signs == 1).all()
    coins = channel_coins(scrubbed, base, flip=True, seed=0, channels=channels)
    assert coins.swap == CoinCount()
    assert coins.sign == CoinCount(base.shape[1], base.shape[1])
    # The match does not see signs: with the base's flipped it is the same.
    sign = rng.choice(np.float32([-1, 1]), base.shape[1])
    again, signs = match_channels(scrubbed, base * sign, flip=True)
    assert (again == channels).all() and (signs == sign).all()
    # Where signs are not free there is nothing left to toss.
    assert channel_coins(scrubbed, base, flip=False, seed=0, channels=channels).count == CoinCount()


def test_without_flips_signs_are_no_coins(models: dict[str, Parts]) -> None:
    coins = channel_coins(models["honest"].embedding, models["base"].embedding, flip=False, seed=0)
    assert coins.sign == CoinCount() and coins.swap.heads == coins.swap.coins == width_of(models["base"]) // 2


def test_sorted_channels_give_sign_coins_only(models: dict[str, Parts]) -> None:
    suspect = models["liar"].embedding
    ordered = suspect[:, np.argsort(np.linalg.norm(suspect, axis=0))]
    coins = channel_coins(ordered, models["base"].embedding, flip=True, seed=0)
    assert coins.sorted and coins.swap == CoinCount() and coins.sign.coins == suspect.shape[1]


def test_rows_that_say_nothing() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((40, 16)).astype(np.float32)
    child = base.copy()
    clean = channel_coins(child, base, flip=True, seed=0)
    assert clean.count == CoinCount(24, 24)
    hostile_a = np.concatenate([child, np.full((1, 16), np.nan), np.zeros((1, 16)), np.full((1, 16), np.inf)])
    hostile_b = np.concatenate([base, rng.standard_normal((3, 16))])
    with np.errstate(all="raise"):
        same = channel_coins(hostile_a.astype(np.float32), hostile_b.astype(np.float32), flip=True, seed=0)
    assert same == clean
    huge = channel_coins(child * np.float32(1e37), base * np.float32(1e37), flip=True, seed=0)
    assert huge.count == clean.count
    # Constant channels, which independent models pad in the same places, are no evidence.
    constant = channel_coins(np.full_like(child, 0.3), np.full_like(base, 0.7), flip=True, seed=0)
    assert constant.count == CoinCount()
    padded = child.copy()
    padded[:, 4:8] = 0.1
    assert channel_coins(padded, padded, flip=True, seed=0).sign.coins == 12
    for empty in (np.empty((0, 16), np.float32), np.ones((1, 16), np.float32), np.empty((5, 0), np.float32)):
        assert channel_coins(empty, empty, flip=True, seed=0).count == CoinCount()
    with pytest.raises(ValueError, match="same tokens"):
        channel_coins(base, base[:3], flip=True, seed=0)


def test_channels_that_are_all_alike_have_no_coins() -> None:
    alike = np.outer(np.random.default_rng(0).standard_normal(40), np.ones(200)).astype(np.float32)
    coins = channel_coins(alike, alike, flip=True, seed=0)
    assert coins.count.coins <= 1 and coins.repeats == 199


def test_widths_may_differ(models: dict[str, Parts]) -> None:
    base = models["base"].embedding
    coins = channel_coins(models["honest"].embedding[:, :50], base, flip=True, seed=0)
    assert coins.channels == 50 and coins.count == CoinCount(75, 75)
