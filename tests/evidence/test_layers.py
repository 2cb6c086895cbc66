"""Layer alignment against brute force and on models whose layers were moved, and the fairness of the coins after it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.alignment import ODD, Layer, layer_draw, layer_null, mlp_layers, relabelled
from lineage_plugin.evidence import layers as module
from lineage_plugin.evidence.coins import draw_pairs, swap_statistics
from lineage_plugin.evidence.layers import LayerMap, align_layers, swap_scores

EXAMPLES = Path(__file__).parents[2] / "examples"

Map = tuple[int | None, ...]


@pytest.fixture(scope="module")
def base() -> list[Layer]:
    return mlp_layers(EXAMPLES / "base")


@pytest.fixture(scope="module")
def child() -> list[Layer]:
    return mlp_layers(EXAMPLES / "honest")


@pytest.fixture(scope="module")
def other() -> list[Layer]:
    return mlp_layers(EXAMPLES / "liar")


def table(base_of: Map, layers: int, height: float, rng: np.random.Generator) -> np.ndarray:
    """Standard normal scores, higher where layers belong together."""
    scores = rng.normal(size=(len(base_of), layers))
    for mine, theirs in enumerate(base_of):
        if theirs is not None:
            scores[mine, theirs] += height
    return scores


def total(scores: np.ndarray, base_of: Map, least: float) -> float:
    """The objective of `align_layers`, read off a map."""
    cost, result = least / 2, 0.0
    last: tuple[int, int] | None = None
    for mine, theirs in enumerate(base_of):
        if theirs is None:
            continue
        result += scores[mine, theirs] - cost
        if last is None:
            result -= cost
        elif theirs < last[1]:
            result -= 1.5 * cost
        elif (mine, theirs) != (last[0] + 1, last[1] + 1):
            result -= cost
        last = (mine, theirs)
    return result


def without_faint(scores: np.ndarray, base_of: Map, least: float) -> Map:
    found = [scores[mine, theirs] for mine, theirs in enumerate(base_of) if theirs is not None]
    if not found:
        return base_of
    faint = min(least / 2, np.median(found) / 2)
    return tuple(None if j is None or scores[i, j] < faint else j for i, j in enumerate(base_of))


def test_alignment_is_the_best_of_all_maps() -> None:
    rng = np.random.default_rng(0)
    orders = set()
    for _ in range(250):
        mine, theirs = (int(n) for n in rng.integers(1, 5, size=2))
        scores, least = rng.normal(1, 2, size=(mine, theirs)), rng.uniform(0.2, 4)
        best = max(itertools.product([None, *range(theirs)], repeat=mine), key=lambda one: total(scores, one, least))
        found = align_layers(scores, least=least)
        assert found.base_of == without_faint(scores, best, least)
        orders.add((found.reordered, bool(found.repeated), bool(found.inserted), bool(found.pairs)))
    assert len(orders) >= 6


@pytest.mark.parametrize(
    ("base_of", "layers", "said"),
    [
        (tuple(range(12)), 12, ()),
        ((*range(24), *range(8, 32)), 32, ("layers 8-23 appear twice",)),
        ((0, 0, 1, 1, 2, 2), 3, ("layers 0-2 appear twice",)),
        ((0, 1, 1, 1, 2), 3, ("layer 1 appears 3 times",)),
        ((0, 1, 2, 4, 6, 7), 8, ("2 layers dropped: 3, 5",)),
        ((2, 3, 4, 5), 8, ("4 layers dropped: 0-1, 6-7",)),
        ((0, 1, None, 2, 3, None), 4, ("2 layers inserted: 2, 5",)),
        ((0, 1, None, None, 4, 5), 6, ("2 layers replaced: 2-3",)),
        ((0, 1, None, 4, 5), 6, ("1 layer inserted: 2", "2 layers dropped: 2-3")),
        ((4, 5, 6, 7, 0, 1, 2, 3), 8, ("the layers stand in another order: 4-7, 0-3",)),
        ((0, 1, 5, 6, 4, 2, 3, 7), 8, ("the layers stand in another order: 0-1, 5-6, 4, 2-3, 7",)),
        ((None,) * 5, 4, ()),
    ],
)
def test_clear_scores_give_the_right_map(base_of: Map, layers: int, said: tuple[str, ...]) -> None:
    rng = np.random.default_rng(len(base_of))
    right = [align_layers(table(base_of, layers, 10.0, rng), least=4.0).base_of == base_of for _ in range(20)]
    assert sum(right) >= 19
    assert LayerMap(base_of, layers).describe() == said


def test_the_properties_of_a_map() -> None:
    scaled = LayerMap((0, 1, 2, 1, 2, 3, None), 5)
    assert scaled.pairs == ((0, 0), (1, 1), (2, 2), (3, 1), (4, 2), (5, 3))
    assert scaled.repeated == (1, 2)
    assert scaled.dropped == (4,)
    assert scaled.inserted == (6,)
    assert scaled.replaced == ((6, 4),)
    assert not scaled.reordered
    assert not scaled.identity
    assert LayerMap((0, 1), 2).identity
    assert not LayerMap((0, 1), 3).identity
    assert LayerMap((1, 0), 2).reordered


def test_a_faint_diagonal_is_found_where_no_score_would_do_alone() -> None:
    rng = np.random.default_rng(1)
    base_of = (*range(24), *range(8, 32))
    found = [align_layers(table(base_of, 32, 3.5, rng), least=4.0).base_of for _ in range(20)]
    right = np.mean([[one == two for one, two in zip(base_of, mine, strict=True)] for mine in found])
    alone = np.mean([table((0,), 1, 3.5, rng)[0, 0] >= 4.0 for _ in range(500)])
    assert alone < 0.4
    assert right > 0.9


def test_monotony_yields_to_clear_scores_only() -> None:
    scores = np.zeros((6, 6))
    for layer in range(6):
        scores[layer, layer] = 8.0
    scores[3, 3] = 0.0
    for off_path, expected in ((4.5, None), (9.0, 0)):
        scores[3, 0] = off_path
        assert align_layers(scores, least=4.0).base_of == (0, 1, 2, expected, 4, 5)


def test_independent_layers_are_not_matched() -> None:
    rng = np.random.default_rng(2)
    false = [bool(align_layers(rng.normal(size=(32, 32)), least=4.0).pairs) for _ in range(300)]
    # 1,024 single scores, and runs add to it.
    assert sum(false) <= stats.binom.ppf(0.9999, 300, 2 * 1024 * stats.norm.sf(4.0))
    assert not any(align_layers(rng.normal(size=(32, 32)), least=6.5).pairs for _ in range(50))


def test_scores_that_are_not_finite_never_match() -> None:
    scores = np.full((3, 3), np.nan)
    scores[0, 0], scores[1, 1], scores[2, 2] = np.inf, 9.0, -np.inf
    assert align_layers(scores, least=4.0).base_of == (None, 1, None)
    assert align_layers(np.empty((0, 3)), least=4.0) == LayerMap((), 3)
    assert align_layers(np.empty((2, 0)), least=4.0) == LayerMap((None, None), 0)


def test_scores_are_those_of_the_swap_statistics(
    base: list[Layer], child: list[Layer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 96 * 4 * 2 * 11)  # 11 pairs at a time
    suspect = [tuple(part[:64].copy() for part in layer) for layer in child[:3]]
    theirs = [tuple(part[:64].copy() for part in layer) for layer in base]
    pairs = draw_pairs(np.zeros(64, np.int64), [3])
    suspect[1][0][pairs[4, 0]] = 0.0
    theirs[2][2][pairs[7, 1]] = np.nan
    theirs[2][1][pairs[9, 0]] = 0.0
    scores = swap_scores(suspect, theirs, ODD, pairs)
    assert scores.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        d = swap_statistics(suspect[i], theirs[j], ODD, pairs)
        d = d[np.isfinite(d)]
        np.testing.assert_allclose(scores[i, j], d.sum() / np.sqrt((d**2).sum()), atol=1e-4)


def test_scores_do_not_see_signs(base: list[Layer], child: list[Layer]) -> None:
    sign = np.random.default_rng(4).choice(np.float32([-1, 1]), size=(256, 1))
    flipped = [tuple(part * (sign if odd else 1) for part, odd in zip(layer, ODD, strict=True)) for layer in base]
    pairs = draw_pairs(np.zeros(256, np.int64), [5])[:32]
    assert swap_scores(child, base, ODD, pairs).tolist() == swap_scores(child, flipped, ODD, pairs).tolist()


def test_scores_of_independent_layers_are_standard_normal(base: list[Layer], other: list[Layer]) -> None:
    rng = np.random.default_rng(6)
    drawn = []
    for seed in range(40):
        pairs = draw_pairs(np.zeros(256, np.int64), [seed])[:48]
        drawn.append(swap_scores([relabelled(layer, rng) for layer in other], base, ODD, pairs).ravel())
    assert stats.kstest(np.concatenate(drawn), "norm").pvalue > 1e-3


def test_nothing_to_compare_scores_0(base: list[Layer]) -> None:
    none = np.empty((0, 2), np.int64)
    assert swap_scores(base, base, ODD, none).tolist() == np.zeros((4, 4)).tolist()
    assert swap_scores([], base, ODD, none).shape == (0, 4)
    with pytest.raises(ValueError, match="shape"):
        swap_scores(base, [tuple(part[:9] for part in layer) for layer in base], ODD, none)


@pytest.mark.parametrize(
    "base_of",
    [
        (0, 1, 2, 3),
        (0, 1, 2, 1, 2, 3),
        (0, 0, 1, 1, 2, 3),
        (0, 3),
        (0, None, 1, 2, None, 3),
        (2, 3, 0, 1),
        (3, 1, 0, 2),
    ],
)
def test_moved_layers_of_a_trained_model_are_found(
    base: list[Layer], child: list[Layer], other: list[Layer], base_of: Map
) -> None:
    """A trained model whose layers were then repeated, dropped, inserted and moved, against its base."""
    suspect = [other[place % 4] if at is None else child[at] for place, at in enumerate(base_of)]
    pairs = draw_pairs(np.zeros(256, np.int64), [7])[:64]
    scores = swap_scores(suspect, base, ODD, pairs)
    assert align_layers(scores, least=3.5).base_of == base_of


def test_coins_are_fair_after_the_search_and_the_searched_ones_are_not(base: list[Layer], other: list[Layer]) -> None:
    """A small version of `python -m benchmarks.alignment layers-null`."""
    found = layer_null([(other, base)], 250, 32, 2)
    fair, spoilt = found["held out and sign"], found["searched"]
    assert fair.coins.sum() > 10_000
    assert fair.uniform() > 1e-3
    assert stats.binomtest(int(fair.heads.sum()), int(fair.coins.sum())).pvalue > 1e-3
    capped = np.minimum(fair.e_values, 100.0)
    assert capped.mean() < 1 + 4 * capped.std(ddof=1) / np.sqrt(capped.shape[0])
    assert np.minimum(spoilt.e_values, 100.0).mean() > 1.5
    assert spoilt.uniform() < 1e-6


def test_a_base_layer_used_twice_has_one_coin_a_unit(base: list[Layer], child: list[Layer]) -> None:
    suspect = [child[at] for at in (0, 1, 2, 1, 2, 3)]
    tossed = layer_draw(suspect, base, np.random.default_rng(8))
    assert tossed["held out"].shape[0] == 4 * 64
    assert tossed["sign"].shape[0] == 4 * 256
    assert (tossed["held out"] > 0).mean() > 0.99
