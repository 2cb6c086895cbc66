"""What the report says about the search: undone relabellings, stages, and evidence that is not exact."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lineage_plugin.judge.types import (
    CalibratedStatistic,
    Comparison,
    Evidence,
    Inheritance,
    Interval,
    Report,
    Scrubbed,
    StageEvidence,
)
from lineage_plugin.report import phrases, render, searched
from tests.report import samples


def flat(report: Report, width: int = 100) -> str:
    return " ".join(render(report, "text", width=width).split())


def staged(*stages: StageEvidence, coins: int = 8, heads: int = 8) -> Evidence:
    return Evidence(2.0, coins, heads, True, (), stages)


def only(report: Report) -> Comparison:
    return report.comparisons[0]


def test_the_stages_are_named_for_people() -> None:
    said = searched.stages(only(samples.relabelled()).evidence)
    assert said.startswith(
        "Searched: stored order (10^-1.4), moved layers (nothing to toss), channels of the residual stream (10^-0.5), "
        "re-ordered units (nothing to toss), changed basis (10^1385."
    )
    assert said.endswith("the e-value is their weighted average, in shares fixed before anything was read.")


def test_one_stage_needs_no_list() -> None:
    assert searched.stages(staged(StageEvidence("identity", 1.0, 8, 8, 1.7))) == ""
    assert searched.stages(Evidence(1.7, 8, 8, True)) == ""


def test_a_stage_that_looked_twice_is_said_once_with_the_average_of_both() -> None:
    looks = (StageEvidence("basis", 0.01, 8, 8, 2.0), StageEvidence("basis", 0.03, 8, 8, 4.0))
    said = searched.stages(staged(StageEvidence("identity", 0.9, 8, 4, 0.0), *looks))
    assert said.count("changed basis") == 1
    mean = (0.01 * 1e2 + 0.03 * 1e4) / 0.04
    assert f"changed basis (10^{math.floor(math.log10(mean) * 10) / 10})" in said
    # A look that tossed nothing counts as zero.
    silent = (StageEvidence("basis", 0.03, 0, 0, 0.0), StageEvidence("basis", 0.01, 8, 8, 1.0))
    mean = 0.01 * 1e1 / 0.04
    said = searched.stages(staged(StageEvidence("identity", 0.9, 8, 4, 0.0), *silent))
    assert f"changed basis (10^{math.floor(math.log10(mean) * 10) / 10})" in said


def test_large_values_of_two_looks_do_not_overflow() -> None:
    looks = (StageEvidence("basis", 0.01, 8, 8, 1e6), StageEvidence("basis", 0.01, 8, 8, -1e6))
    said = searched.stages(staged(StageEvidence("identity", 0.9, 8, 4, 0.0), *looks))
    assert "changed basis (10^999999.6)" in said


@pytest.mark.parametrize("log10_e", [-7.77, -1.31, -0.01, 0.0, 0.04, 3.19, 305.66])
def test_the_value_of_a_stage_is_never_overstated(log10_e: float) -> None:
    stages = (StageEvidence("identity", 0.9, 8, 4, log10_e), StageEvidence("layers", 0.1, 0, 0, 0.0))
    shown = searched.stages(staged(*stages)).partition("(10^")[2].partition(")")[0]
    assert log10_e - 0.1 - 1e-9 < float(shown) <= log10_e
    assert not shown.startswith("-0.0")


def test_the_coins_say_what_was_lined_up_first() -> None:
    assert "4,608 comparisons after the basis of the residual stream was recovered, each" in flat(samples.relabelled())
    assert "1,020 comparisons after layers were aligned, each" in flat(samples.upscaled())
    # The same counts in two stages tell nothing about which of them it was.
    same = staged(StageEvidence("units", 0.9, 8, 8, 1.7), StageEvidence("layers", 0.1, 8, 8, 1.7))
    assert phrases.coins(same).startswith("8 comparisons, each")


def test_coins_of_channels_alone_are_coins() -> None:
    evidence = Evidence(44.0, 0, 0, True, (), (StageEvidence("channels", 1.0, 192, 192, 44.0),))
    said = phrases.coins(evidence)
    assert "No coin was tossed" not in said
    assert "E-value 10^44.0" in said
    assert phrases.coins(Evidence(0.0, 0, 0, True, (), (StageEvidence("layers", 1.0, 0, 0, 0.0),))) == (
        "No coin was tossed."
    )


def test_what_was_undone_is_an_observation() -> None:
    said = flat(samples.relabelled())
    assert "Relabelled The residual stream was permuted; MLP units stand in another order. Where it could be" in said
    assert "no accusation: conversions and pruning tools re-order units, too" in said
    assert "Relabelled" not in flat(samples.derived())
    assert searched.relabelled(samples.comparison(scrubbed=Scrubbed(()))) == ""
    for word in ("theft", "stolen", "disguise", "hide", "copied"):
        assert word not in said


def test_the_calibration_of_what_was_undone_is_named_where_no_block_tells_it() -> None:
    scrubbed = Scrubbed(("units were re-ordered",), "300 pairs")
    assert searched.relabelled(samples.comparison(scrubbed=scrubbed)).endswith("Calibrated on: 300 pairs.")
    both = samples.comparison(scrubbed=scrubbed, calibrated=samples.measured())
    assert "Calibrated on" not in searched.relabelled(both)


def test_changes_are_one_sentence() -> None:
    said = flat(samples.upscaled())
    assert "Changes Layers 1-3 appear twice; 1 layer inserted: 7; 1 layer dropped: 4. Coins" in said
    assert "Changes" not in flat(samples.derived())
    many = samples.comparison(changes=tuple(f"change {i}." for i in range(40)))
    assert searched.changes(many).startswith("Change 0; change 1; ")
    assert searched.changes(many).endswith("; change 15; 24 more in the JSON report.")


def test_a_part_is_named() -> None:
    assert "Part Only the part under language_model. was compared. Relation" in flat(samples.composite())
    assert "Only the part" not in flat(samples.derived())
    assert searched.part(samples.comparison(part="\u200b\x07")) == ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("finetune", "derived (fine-tuned)"),
        ("adapter", "derived (a low-rank update)"),
        ("quantized", "derived (quantised)"),
        ("merge", "derived (a merge)"),
        ("pruned", "derived (pruned"),
        ("upscaled", "derived (up-scaled"),
        ("upcycled", "derived (up-cycled to experts)"),
        ("partial", "derived (in part"),
        (None, "derived"),
        ("\x1b[31mnovel\u202e", "derived (novel)"),
    ],
)
def test_kinds_in_plain_words(kind: str | None, words: str) -> None:
    label, _, _ = phrases.relation(samples.comparison(kind=kind), declared=True)
    assert label.startswith(words)


def test_calibrated_evidence_says_what_it_rests_on() -> None:
    said = flat(samples.disguised())
    assert "Calibrated This is not exact evidence. All labels of this copy have been redrawn, so no test can be" in said
    assert "2,301 of 2,304 comparisons agreed" in said
    assert "768/768" in said
    assert "1,533/1,536" in said
    assert (
        "Independent models agreed at a rate of at most 58.2% in 276 pairs of 24 models (gpt2, llama, qwen2; width 64 "
        "to 768; 901k to 124M parameters); the value grants them 66.6%."
    ) in said
    assert "Calibrated value 10^168.3: independent models would reach it with a chance of at most 1 in 10^168.3" in said
    assert "inferred from the models measured, not proved" in said
    assert "kept apart from the coins" in said
    assert "This rests on calibrated evidence, not on exact coins." in said


def test_the_coins_of_a_disguised_copy_are_not_blamed_on_assumptions() -> None:
    said = flat(samples.disguised())
    assert "each a fair coin if the models were independent (trained from different random starts); 1,520 came" in said
    assert "The answer does not rest on coins but on the calibrated evidence." in said
    assert "assumptions under Limits" not in said
    # Without calibrated evidence it is the graph that is not known.
    assert "assumptions under Limits" in phrases.coins(Evidence(31.0, 100, 99, False))


def test_calibrated_evidence_that_shows_nothing_claims_nothing() -> None:
    said = flat(samples.searched())
    assert "1,166 of 2,304 comparisons agreed" in said
    assert "Calibrated value 10^-21.3: no sign of a copy." in said
    assert "All labels of this copy" not in said
    assert "does not rest on coins" not in said
    one = replace(only(samples.searched()), calibrated=samples.measured(log10_value=4.0))
    assert "Calibrated value 10,000: nothing is claimed from it." in searched.calibrated(one)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"pairs": 0, "models": 0}, "No pair of independent models has been measured, so that it has no weight."),
        ({"worst_share": 0.7}, "at most 70.0% in 276 pairs of 24 models"),
        ({"worst_share": 0.7}, "more than the 66.6% which the value grants them, so that it has no weight"),
        ({"statistics": ()}, "Nothing could be compared."),
        ({"pairs": 1, "models": 2}, "in 1 pair of 2 models"),
        ({"width": (64, 64)}, "width 64;"),
        ({"parameters": (900, 2000)}, "The base, with 3.2M parameters, is larger than all of them."),
        ({"parameters": (10**9, 10**10)}, "The base, with 3.2M parameters, is smaller than all of them."),
    ],
)
def test_the_limits_of_a_calibration_are_said(fields: dict[str, object], told: str) -> None:
    one = replace(only(samples.disguised()), calibrated=samples.measured(**fields))
    said = searched.calibrated(one)
    assert told in said
    assert ("no weight" in said) == ("nothing follows from it" in said) == ("with a chance of at most" not in said)


def test_bounds_of_a_calibration_are_rounded_to_the_cautious_side() -> None:
    said = searched.calibrated(
        replace(only(samples.disguised()), calibrated=samples.measured(worst_share=0.50001, rate=0.59999))
    )
    assert "at most 50.1%" in said
    assert "grants them 59.9%" in said


def test_a_model_within_the_measured_range_is_not_called_outside() -> None:
    assert "than all of them" not in searched.calibrated(only(samples.disguised()))


def test_other_statistics_are_shown_by_name() -> None:
    new = (CalibratedStatistic("co\x1b[31mvariance", 7, 9, 0.1),)
    assert "covariance: 7/9" in searched.calibrated(samples.comparison(calibrated=samples.measured(statistics=new)))


def test_unrelated_says_which_copies_would_have_shown_and_which_not() -> None:
    said = searched.searched(only(samples.searched()))
    looked, _, left = said.partition("These were not looked for")
    for words in ("kept their places", "layers that were moved, repeated, dropped or inserted", "units that were re-"):
        assert words in looked
        assert words not in left
    assert "a residual stream that was re-ordered or rotated" in left
    assert "a residual stream that was re-ordered or rotated" not in looked
    assert "No coin can see a copy in which every label was redrawn" in left
    assert "calibrated comparisons, which might, were made" in left
    assert said in flat(samples.searched(), 110)


def test_when_every_stage_ran_nothing_is_left() -> None:
    one = only(samples.searched())
    everything = (*samples.SILENT_STAGES, StageEvidence("basis", 0.02, 0, 0, 0.0))
    said = searched.searched(
        replace(one, evidence=replace(one.evidence, stages=everything), calibrated=None),
    )
    assert "not looked for" not in said
    assert "no calibrated comparison, which might, was made" in said


def test_the_search_is_told_only_where_nothing_was_found() -> None:
    assert searched.searched(only(samples.relabelled())) == ""
    assert searched.searched(only(samples.unrelated())) == ""  # no stage is known to have run
    open_case = replace(only(samples.relabelled()), relation="inconclusive", kind=None)
    assert searched.searched(open_case) == ""
    faint = replace(open_case, evidence=replace(open_case.evidence, log10_e=1.0))
    assert "were looked for" in searched.searched(faint)


def test_an_undecided_copy_found_by_calibration_shows_its_slope() -> None:
    one = replace(
        only(samples.disguised()),
        relation="inconclusive",
        kind=None,
        inheritance=Inheritance(0.6, 0.4, 0.8),
        kept=Interval(0.5, 0.4, 0.6),
    )
    assert phrases.descent(one).startswith("Row-energy slope 0.60")
    assert phrases.descent(replace(one, calibrated=None)) == ""


@pytest.mark.parametrize("width", [40, 80, 110])
def test_hostile_words_are_inert_everywhere(width: int) -> None:
    rendered = render(samples.hostile(), "text", width=width, color=False)
    assert "\x1b" not in rendered
    assert all(line.isprintable() for line in rendered.split("\n"))
    assert "46 more in the JSON report" in " ".join(rendered.split())


@pytest.mark.parametrize("sample", ["upscaled", "deep", "relabelled", "disguised", "searched", "composite"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_pipe_gets_no_colours_and_only_what_it_can_show(sample: str, encoding: str) -> None:
    script = (
        "from lineage_plugin.report.output import publish; from tests.report import samples;"
        f"publish([samples.{sample}()], format='text', output=None)"
    )
    environment = {**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1", "COLUMNS": "72", "PYTHONIOENCODING": encoding}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=environment, cwd=Path(__file__).parents[2], check=True
    )
    shown = run.stdout.decode(encoding).replace("\r\n", "\n")
    assert shown == render(getattr(samples, sample)(), "text", width=72, unicode=encoding == "utf-8")
    assert "\x1b" not in shown
    assert run.stderr == b""
