"""Units that were relabelled: the match, one coin a base unit, and coins that the search has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations import depth, experts, width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import scrub
from benchmarks.stages_null import UNITS_ALONE, cut, eager, in_memory, pair_of, run_stages
from lineage_plugin.anatomy.stream import READS, WRITES
from lineage_plugin.evidence import calibrated as calibrated_module
from lineage_plugin.evidence import ledger, stage_units
from lineage_plugin.evidence.gather import gather
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.evidence.matched import calibrate_stage
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pair import PairEvidence
from lineage_plugin.evidence.stage_units import UnitStage, align_by_unit, matching_bytes
from lineage_plugin.options import Options

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = Options()


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: read_model(EXAMPLES / name) for name in ("base", "honest", "liar")}


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def disguised(model: Model, *which: str) -> Model:
    tensors = scrub(model.tensors, model.config, which, seed=2)
    return Model({n: np.asarray(a, np.float32) for n, a in tensors.items()}, model.config)


def aligned(models: Models) -> UnitStage:
    stage = align_by_unit(models, OPTIONS)
    assert stage is not None
    return stage


def evidence(stage: UnitStage) -> PairEvidence:
    return stage.tally.evidence(OPTIONS, complete=True, describe=False)


def coins(stage: UnitStage) -> dict[str, CoinCount]:
    return {g.name: g.count for g in evidence(stage).groups}


def test_permuted_units_are_found_one_by_one(models: dict[str, Model]) -> None:
    base, moved = models["base"], disguised(models["base"], "permute")
    stage = aligned(in_memory(moved, base))
    assert stage.layers is not None and stage.layers.identity
    for sample in stage.samples:
        layer = sample.probe.base.layer
        mine = moved.tensors[f"model.layers.{layer}.mlp.gate_proj.weight"][sample.probe.partner_units]
        theirs = base.tensors[f"model.layers.{layer}.mlp.gate_proj.weight"][sample.probe.units]
        np.testing.assert_array_equal(mine, theirs)
        assert sample.probe.searched and sample.probe.units.shape == (256,)
    assert coins(stage)["mlp sign"] == CoinCount(1024, 1024)
    assert set(coins(stage)) == {"mlp sign", "value sign"}, "no swap coins: exchanging units is what the search undoes"
    assert stage.moved["mlp"] > 0.4 and stage.nearness["mlp"] > 0.999


@pytest.mark.parametrize(
    ("change", "layers"),
    [
        (lambda m: depth.arranged(m, [1, None, 3, 3], rng(), 1.0)[0], (1, None, 3, 3)),
        (lambda m: width.units_pruned(m, 0.75, sort=True), (0, 1, 2, 3)),
        (lambda m: depth.arranged(width.units_pruned(m, 0.75), [0, 2, 3], rng())[0], (0, 2, 3)),
        (lambda m: experts.split(m, rng()), (0, 1, 2, 3)),
        (lambda m: experts.upcycled(m, 0.1, rng()), (0, 1, 2, 3)),
    ],
    ids=["layers", "sorted", "pruned in depth and width", "split", "upcycled"],
)
def test_structure_may_change_besides(models: dict[str, Model], change, layers: tuple[int | None, ...]) -> None:  # type: ignore[no-untyped-def]
    stage = aligned(in_memory(change(disguised(models["honest"], "permute")), models["base"]))
    assert stage.layers is not None and stage.layers.base_of == layers
    signs = coins(stage)["mlp sign"]
    # However many copies of a base unit there are, it has one coin.
    distinct = len({base for base in layers if base is not None})
    assert 0.7 * 256 * distinct <= signs.coins <= 256 * distinct
    assert signs.heads > 0.98 * signs.coins


def test_a_stranger_has_no_coins(models: dict[str, Model]) -> None:
    stage = aligned(in_memory(disguised(models["liar"], "permute"), models["base"]))
    assert stage.layers is not None and not stage.layers.pairs and not coins(stage)


def test_streams_of_other_width_need_a_frame(models: dict[str, Model]) -> None:
    assert align_by_unit(in_memory(width.stream_pruned(models["honest"], 72), models["base"]), OPTIONS) is None


@pytest.mark.parametrize("who", ["honest", "liar"])
def test_flipping_every_base_unit_turns_every_coin_and_no_match(models: dict[str, Model], who: str) -> None:
    """The symmetry that the coins rest on, on the real stage, whether or not there is something to find."""
    suspect, base = cut(disguised(models[who], "permute"), 3, 96, 64), cut(models["base"], 3, 96, 64)
    flipped = base.with_tensors(
        {
            n: -a
            for n, a in base.tensors.items()
            if any(part in n for part in ("up_proj", "down_proj", "v_proj", "o_proj"))
        }
    )
    with eager():
        before, after = (aligned(in_memory(suspect, model)) for model in (base, flipped))
    assert before.layers == after.layers and before.layers is not None and before.layers.pairs
    for one, other in zip(before.samples, after.samples, strict=True):
        np.testing.assert_array_equal(one.probe.units, other.probe.units)
        np.testing.assert_array_equal(one.probe.partner_units, other.probe.partner_units)
    old, new = coins(before), coins(after)
    assert old and set(old) == set(new)
    for kind, count in old.items():
        assert new[kind] == CoinCount(count.coins, count.coins - count.heads)


def test_a_large_model_is_aligned_in_a_few_layers(models: dict[str, Model], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = matching_bytes(in_memory(models["honest"], models["base"]))
    monkeypatch.setattr(stage_units, "SMALL", 0)
    monkeypatch.setattr(stage_units, "LARGE_LAYERS", 2)
    monkeypatch.setattr(stage_units, "UNITS", 100)
    seen: list[tuple[int, int]] = []
    pair = in_memory(disguised(models["honest"], "permute"), models["base"])
    stage = align_by_unit(pair, OPTIONS, None, lambda done, total: seen.append((done, total)))
    assert stage is not None and stage.layers is None
    assert seen == [(1, 2), (2, 2)]
    assert {s.probe.base.layer for s in stage.samples} == {0, 3}
    assert all(s.probe.suspect.layer == s.probe.base.layer for s in stage.samples)
    signs = coins(stage)["mlp sign"]
    assert 190 <= signs.coins <= 200 and signs.heads > 0.98 * signs.coins
    assert whole // 2 <= matching_bytes(pair) < whole


# --- the same seed, another architecture ----------------------------------------------------------------------------


SHIFT = 10


def same_seed(seed: int) -> Models:
    """Two trainings from one stream of random numbers whose architectures differ a little.

    The rows of gate and up are the same draws, a few rows further on; all else was drawn elsewhere. Each model then
    learns something of its own.
    """
    rng = np.random.default_rng(seed)
    shapes = cut(read_model(EXAMPLES / "base"), 2, 128, 64)

    def learned(shape: tuple[int, ...]) -> np.ndarray:
        left, right = (
            rng.normal(size=(shape[0], 4)) * rng.gamma(1.0, size=(shape[0], 1)),
            rng.normal(size=(4, shape[1])),
        )
        return 0.01 * left @ right

    suspect, base = {}, {}
    for name, array in shapes.tensors.items():
        if array.ndim == 1:
            suspect[name] = base[name] = array
            continue
        if "gate_proj" in name or "up_proj" in name:
            drawn = 0.02 * rng.normal(size=(array.shape[0] + SHIFT, array.shape[1]))
            one, other = drawn[SHIFT:], drawn[:-SHIFT]
        else:
            one, other = 0.02 * rng.normal(size=(2, *array.shape))
        suspect[name] = (one + learned(array.shape)).astype(np.float32)
        base[name] = (other + learned(array.shape)).astype(np.float32)
    return in_memory(Model(suspect, shapes.config), Model(base, shapes.config))


@pytest.fixture(scope="module", params=range(2))
def shifted(request: pytest.FixtureRequest) -> Models:
    return same_seed(request.param)


def test_shifted_draws_of_one_seed_are_matched_and_say_nothing(shifted: Models) -> None:
    stage = aligned(shifted)
    # The trap is set: the search finds the shift in every layer.
    assert stage.layers is not None and stage.layers.identity
    for sample in stage.samples:
        assert np.mean(sample.probe.units - sample.probe.partner_units == SHIFT) > 0.95
    assert coins(stage)["mlp sign"].coins > 200
    assert evidence(stage).log10_e < 2
    weighed = calibrate_stage(shifted, stage, None, OPTIONS)
    assert {s.name for s in weighed.statistics} == {"cross-role", "sign product"}
    assert weighed.log10_calibrated < 2


def test_shifted_draws_of_one_seed_do_not_move_the_average(shifted: Models) -> None:
    found = gather(shifted, OPTIONS, lambda _: False)
    assert {"units"} <= {stage.name for stage in found.stages if stage.count.coins}
    assert found.log10_e < 2 and not found.relabelled
    assert found.calibrated is None or found.calibrated.log10_calibrated < 2


def test_coins_of_what_units_read_would_scream(shifted: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: with coins over all roles the same models would be called dependent."""
    monkeypatch.setattr(ledger, "WRITES", READS | WRITES)
    monkeypatch.setattr(calibrated_module, "WRITES", READS | WRITES)
    stage = aligned(shifted)
    assert evidence(stage).log10_e > 30
    assert calibrate_stage(shifted, stage, None, OPTIONS).log10_calibrated > 3


# --- after the search --------------------------------------------------------------------------------------------


def test_coins_are_fair_when_all_units_of_a_copy_are_found() -> None:
    """The base's units relabelled uniformly: the match is right and every sign is a fair coin all the same."""
    pair = pair_of("examples/honest,examples/base", 2, 24, 32)
    drawn = run_stages(pair, 60, which=UNITS_ALONE, stages=("units",))["units"]
    assert drawn.tossed == 1.0 and min(drawn.coins) > 60
    p = drawn.uniform()
    assert p is not None and p > 1e-3
    mean, error = drawn.mean
    assert mean < 1 + 4 * error
    assert np.mean(drawn.e_values >= 10) <= 0.1


def test_coins_are_fair_when_the_best_of_wrong_answers_is_taken() -> None:
    with eager():
        drawn = run_stages(pair_of("examples/liar,examples/base", 2, 24, 32), 60, stages=("units", "basis, units"))
    for name, found in drawn.items():
        assert found.tossed > 0.8, name
        p = found.uniform()
        assert p is not None and p > 1e-3, name
        mean, error = found.mean
        assert mean < 1 + 4 * error, name
