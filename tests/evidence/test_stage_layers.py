"""Layers that moved: the map, and coins on units that the search has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.derivations import depth, width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.stages_null import eager, in_memory, pair_of, run_stages
from lineage_plugin.evidence import stage_layers
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.stage_layers import LayerStage, align_by_layer
from lineage_plugin.options import Options

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = Options()


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: read_model(EXAMPLES / name) for name in ("base", "honest", "liar")}


def aligned(suspect: Model, base: Model) -> LayerStage:
    stage = align_by_layer(in_memory(suspect, base), OPTIONS)
    assert stage is not None
    return stage


def coins(stage: LayerStage) -> dict[str, CoinCount]:
    return {g.name: g.count for g in stage.tally.evidence(OPTIONS, complete=True, describe=False).groups}


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize(
    "order", [(0, 1, 2, 3), (0, 1, 2, 1, 2, 3), (0, 3), (3, 2, 1, 0), (None, 0, 1, None, None, 2, 3), (2, None, 0)]
)
def test_the_map_is_found(models: dict[str, Model], order: tuple[int | None, ...]) -> None:
    stage = aligned(depth.arranged(models["honest"], order, rng(), 1.0)[0], models["base"])
    assert stage.layers.base_of == order
    assert list(stage.pairs()) == [(mine, base) for mine, base in enumerate(order) if base is not None]
    of_kind = coins(stage)
    distinct = len({base for base in order if base is not None})
    # Half of the pairs are left for coins: 64 of 128 swaps and their 128 signs of the MLP, 8 and 16 of value channels.
    assert {name: count.coins for name, count in of_kind.items()} == {
        "mlp swap": 64 * distinct,
        "mlp sign": 128 * distinct,
        "value swap": 8 * distinct,
        "value sign": 16 * distinct,
    }
    assert all(count.heads == count.coins for count in of_kind.values())


def test_layers_of_a_stranger_are_not_found(models: dict[str, Model]) -> None:
    stage = aligned(models["liar"], models["base"])
    assert stage.layers.base_of == (None,) * 4 and not coins(stage)


def test_a_handful_of_units_cannot_tell_layers_apart(models: dict[str, Model]) -> None:
    """Of a pruned MLP nothing is in its place, and the score of 8 pairs of value channels ends at the root of 8."""
    stage = aligned(depth.arranged(width.units_pruned(models["honest"], 0.75), [0, 2, 3], rng())[0], models["base"])
    assert stage.layers.base_of == (None,) * 3 and not coins(stage)


def test_streams_of_other_width_need_a_frame(models: dict[str, Model]) -> None:
    assert align_by_layer(in_memory(width.stream_pruned(models["honest"], 72), models["base"]), OPTIONS) is None


def shelves(models: Models) -> list[stage_layers._Shelf]:
    """What the stage has read: its own function, listened to."""
    kept: list[stage_layers._Shelf] = []
    fill = stage_layers._fill

    def listening(*arguments: Any) -> stage_layers._Shelf:
        kept.append(fill(*arguments))
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_layers, "_fill", listening)
        align_by_layer(models, OPTIONS)
    assert len(kept) == 2, "MLP units and value channels"
    return kept


def test_search_and_coins_share_no_unit(models: dict[str, Model]) -> None:
    for shelf in shelves(in_memory(models["honest"], models["base"])):
        searched, tossed = (set(shelf.units[part].ravel().tolist()) for part in (shelf.search, shelf.test))
        assert searched and tossed and not searched & tossed
        assert len(tossed) == 2 * shelf.test.shape[0]


def test_large_models_are_searched_by_part_of_their_units(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = coins(aligned(models["honest"], models["base"]))
    monkeypatch.setattr(stage_layers, "HELD_BYTES", 1 << 10)
    pair = in_memory(depth.arranged(models["honest"], [0, 1, 1, 3], rng())[0], models["base"])
    for shelf in shelves(pair):
        assert shelf.shortened
        base = read_model(EXAMPLES / "base")
        searched, tossed = set(_searched(shelf, base)), set(shelf.units[shelf.test].ravel().tolist())
        assert searched and tossed and not searched & tossed
    stage = align_by_layer(pair, OPTIONS)
    assert stage is not None and stage.layers.base_of == (0, 1, 1, 3)
    assert 0 < coins(stage)["mlp swap"].coins < small["mlp swap"].coins


def _searched(shelf: stage_layers._Shelf, base: Model) -> list[int]:
    """The units of the base whose vectors are held, found by their values."""
    layer = next(iter(shelf.base))
    rows = shelf.base[layer].by_role[shelf.pair.roles[0]]
    matrix = base.tensors[rows.tensor] if rows.axis == 0 else base.tensors[rows.tensor].T
    numbers = [int(np.flatnonzero((matrix == vector).all(axis=1))[0]) for vector in shelf.base_vectors[layer][0]]
    return np.flatnonzero(np.isin(rows.index[:, 0], numbers)).tolist()


def rewritten(model: Model, names: tuple[str, ...], change) -> Model:  # type: ignore[no-untyped-def]
    """Change the units of the MLPs (rows of gate and up, columns of down) in every layer."""
    return model.with_tensors(
        {
            n: (change(a.T).T if "down" in n else change(a)).copy()
            for n, a in model.tensors.items()
            if any(f"mlp.{name}_proj" in n for name in names)
        }
    )


def test_relabelling_tossed_units_turns_their_coins_and_nothing_else(models: dict[str, Model]) -> None:
    """The symmetry that the coins rest on, on the real stage: exchange all pairs, or flip all units, that are tossed.

    The map stays, whatever the units share; every coin of that kind turns over.
    """
    suspect, base = models["liar"], models["base"]
    (mlp,) = (s for s in shelves(in_memory(suspect, base)) if s.pair.base.name == "mlp")
    tossed = mlp.units[mlp.test]
    order = np.arange(256)
    order[tossed.ravel()] = tossed[:, ::-1].ravel()
    sign = np.ones((256, 1), np.float32)
    sign[tossed.ravel()] = -1

    def swap(rows: np.ndarray) -> np.ndarray:
        return rows[order]

    def flip(rows: np.ndarray) -> np.ndarray:
        return rows * sign

    with eager():
        before = aligned(suspect, base)
        swapped = aligned(suspect, rewritten(base, ("gate", "up", "down"), swap))
        flipped = aligned(suspect, rewritten(base, ("up", "down"), flip))
    assert before.layers.pairs, "the best of wrong maps"
    assert before.layers == swapped.layers == flipped.layers
    old, new, turned = coins(before), coins(swapped), coins(flipped)
    n, k = old["mlp swap"].coins, old["mlp swap"].heads
    assert new["mlp swap"] == CoinCount(n, n - k) and turned["mlp swap"] == old["mlp swap"]
    n, k = old["mlp sign"].coins, old["mlp sign"].heads
    assert turned["mlp sign"] == CoinCount(n, n - k)
    assert new["value swap"] == turned["value swap"] == old["value swap"]


def test_coins_of_searched_pairs_would_not_be_fair(models: dict[str, Model]) -> None:
    """Why the halves are apart: with the searched pairs tossed, the best of wrong maps is loud."""
    shelf = next(s for s in shelves(in_memory(models["liar"], models["base"])) if s.pair.base.name == "mlp")
    few = shelf.search[:12]
    heads = {}
    for which in (few, shelf.test[:12]):
        found = np.zeros((4, 4))
        for i, mine in enumerate(shelf.suspect_vectors.values()):
            for j, theirs in enumerate(shelf.base_vectors.values()):
                d = stage_layers.swap_scores([mine], [theirs], shelf.odd, which)
                found[i, j] = d[0, 0]
        heads[which is few] = found
    best = heads[True].argmax(axis=1)
    assert heads[True][range(4), best].mean() > 0.8 > heads[False][range(4), best].mean()


@pytest.mark.parametrize("held", [stage_layers.HELD_BYTES, 1 << 10])
def test_coins_are_fair_after_the_search(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relabelled bases, the best of all wrong maps taken each time; 10,000 draws: ``benchmarks.stages_null``.

    Also as if the models were large, where the searched units are held apart and the others read afterwards.
    """
    monkeypatch.setattr(stage_layers, "HELD_BYTES", held)
    with eager():
        drawn = run_stages(pair_of("examples/liar,examples/base", 2, 24, 32), 120, stages=("layers",))["layers"]
    assert drawn.tossed > 0.8
    p = drawn.uniform()
    assert p is not None and p > 1e-3
    mean, error = drawn.mean
    assert mean < 1 + 4 * error
