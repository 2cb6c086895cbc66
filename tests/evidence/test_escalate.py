"""The stages together: which run, how they are weighed, and that the weighted average is an e-value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations import depth, width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import SCRUBS, scrub
from benchmarks.stages_null import Memory, eager, in_memory, pair_of, run_stages, run_trap
from lineage_plugin.checkpoint import Cost, Selection
from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.evidence.escalate import WEIGHTS
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.gather import gather
from lineage_plugin.evidence.models import Models, models_of
from lineage_plugin.evidence.pair import PairEvidence
from lineage_plugin.judge.relation import is_decided, relation_of
from lineage_plugin.options import Options, Progress

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = Options()


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: read_model(EXAMPLES / name) for name in ("base", "honest", "liar")}


def disguised(model: Model, *which: str) -> Model:
    tensors = scrub(model.tensors, model.config, which, seed=2)
    return Model({n: np.asarray(a, np.float32) for n, a in tensors.items()}, model.config)


def found(models: Models, options: Options = OPTIONS, progress: Progress | None = None) -> PairEvidence:
    return gather(models, options, partial(is_decided, bar=options.bar), progress)


def names(evidence: PairEvidence) -> list[str]:
    return [stage.name for stage in evidence.stages]


def average(evidence: PairEvidence) -> float:
    """The weighted average again, by hand; a stage without coins counts as nothing."""
    values = [math.log10(s.weight) + s.log10_e for s in evidence.stages if s.count.coins]
    return max(values) + math.log10(sum(10 ** (v - max(values)) for v in values))


# --- which stages run -----------------------------------------------------------------------------------------------


CHANGES = {
    "as it is": (lambda m: m, ["identity"]),
    "other depth": (
        lambda m: depth.arranged(m, [0, 2, 3], np.random.default_rng(0))[0],
        ["identity", "layers"],
    ),
    "signs": (partial(disguised, which="signs"), ["identity", "channels", "channels", "units"]),
    "permute": (partial(disguised, which="permute"), ["identity", "layers", "channels", "channels", "units"]),
    "rotate": (
        partial(disguised, which="rotate"),
        ["identity", "layers", "channels", "channels", "units", "basis"],
    ),
    "narrower": (lambda m: width.stream_pruned(m, 72), ["channels", "basis"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_stage_runs_only_if_those_before_left_something_open(models: dict[str, Model], name: str) -> None:
    change, stages = CHANGES[name]
    suspect = disguised(models["honest"], name) if name in SCRUBS else change(models["honest"])  # type: ignore[operator]
    evidence = found(in_memory(suspect, models["base"]))
    assert names(evidence) == stages
    assert relation_of(evidence, 9.0)[0] == "derived" and evidence.exact
    assert evidence.log10_e == pytest.approx(average(evidence), abs=1e-9)


def test_of_a_stranger_every_stage_runs_and_says_nothing(models: dict[str, Model]) -> None:
    said: list[tuple[str, int, int]] = []
    evidence = found(in_memory(models["liar"], models["base"]), progress=lambda *what: said.append(what))
    assert set(names(evidence)) == set(WEIGHTS)
    assert relation_of(evidence, 9.0)[0] == "unrelated" and evidence.log10_e < 0
    assert evidence.facts is None and evidence.calibrated is None and evidence.relabelled == ()
    assert {"aligning layers", "comparing channels", "recovering the basis"} <= {what for what, _, _ in said}
    assert all(0 <= done <= total for _, done, total in said)


def test_weights_are_those_of_the_structure_alone(models: dict[str, Model]) -> None:
    """They must not depend on what the weights say, and of all stages that could run they sum to one at most."""
    assert math.isclose(sum(WEIGHTS.values()), 1.0)
    for suspect in (models["liar"], models["honest"], disguised(models["honest"], *SCRUBS)):
        evidence = found(in_memory(suspect, models["base"]))
        total: dict[str, float] = {}
        for stage in evidence.stages:
            total[stage.name] = total.get(stage.name, 0.0) + stage.weight
        for name, weight in total.items():
            assert weight <= WEIGHTS[name] + 1e-12
    # Without a common width nothing is compared in stored order, and its weight goes to the others.
    narrow = found(in_memory(width.stream_pruned(models["liar"], 72), models["base"]))
    weights = {stage.name: stage.weight for stage in narrow.stages}
    assert "identity" not in weights and weights["channels"] == pytest.approx(0.2)


def test_coins_are_those_of_the_claim(models: dict[str, Model]) -> None:
    """Where channels made the claim, the coins that are shown are theirs; the e-value is the average."""
    evidence = found(in_memory(disguised(models["honest"], "signs", "permute"), models["base"]))
    assert {group.name for group in evidence.groups} == {"stream swap", "stream sign"}
    assert log10_e_value(evidence.count.heads, evidence.count.coins) > 9 and evidence.exact
    assert evidence.calibrated is not None and evidence.calibrated.log10_calibrated > 9


def test_without_an_exact_coin_the_claim_is_calibrated_and_says_so(models: dict[str, Model]) -> None:
    evidence = found(in_memory(disguised(models["honest"], *SCRUBS), models["base"]))
    assert evidence.log10_e < 3 and not evidence.exact
    assert evidence.calibrated is not None and evidence.calibrated.log10_calibrated > 9
    assert relation_of(evidence, 9.0)[0] == "derived"


def test_the_same_seed_says_the_same(models: dict[str, Model]) -> None:
    pair = in_memory(disguised(models["honest"], "permute"), models["base"])
    assert found(pair) == found(pair)


# --- budgets --------------------------------------------------------------------------------------------------------


class Metered(Memory):
    """Counts what is read, and refuses more than the budget, as the Hub's do."""

    local = False

    def __init__(self, model: Model, budget: int | None = None) -> None:
        super().__init__(model.tensors, model.config)
        self.spent, self.budget = 0, budget

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray]:
        blocks = super().read(selections)
        size = sum(block.nbytes for block in blocks)
        if self.budget is not None and self.spent + size > self.budget:
            raise BudgetExceeded("memory", "the byte budget ended")
        self.spent += size
        return blocks

    def cost(self) -> Cost:
        return Cost(bytes_read=self.spent, tensor_bytes=self.spent)


@pytest.mark.parametrize("budget", [20_000, 100_000, 400_000, 700_000, 1_500_000])
def test_no_budget_is_overrun_and_what_was_left_out_is_said(models: dict[str, Model], budget: int) -> None:
    suspect, base = (Metered(m, budget) for m in (disguised(models["honest"], "rotate"), models["base"]))
    evidence = found(models_of(suspect, base), replace(OPTIONS, budget=budget))
    assert max(suspect.spent, base.spent) <= budget
    claimed = relation_of(evidence, 9.0)[0] == "derived"
    assert claimed or evidence.cut_short or any("--budget" in limit for limit in evidence.limits)
    if evidence.stages:
        assert evidence.log10_e == pytest.approx(average(evidence), abs=1e-9)


# --- the weighted average is an e-value -----------------------------------------------------------------------------


def test_the_average_is_fair_after_all_searches() -> None:
    """Independent models, relabelled, the best of all wrong answers in each stage; the lowest bar that there is."""
    with eager():
        drawn = run_stages(pair_of("examples/liar,examples/base", 1, 16, 32), 60, stages=("escalate",))["escalate"]
    mean, error = drawn.mean
    assert drawn.tossed == 1.0 and mean < 1 + 4 * error
    assert drawn.exceed(0.1) <= 0.25 * 60


@pytest.mark.parametrize("trap", ["upscaled", "upcycled", "sorted"])
def test_traps_do_not_move_the_average(trap: str) -> None:
    pair = pair_of("examples/liar,examples/base", 1, 32, 32)
    drawn = run_trap(trap, pair, 15, stages=("escalate",))["escalate"]
    assert drawn.exceed(0.01) == 0
