"""The text report: what it must say, and that it fits the terminal it is printed on."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from lineage_plugin.findings import finding
from lineage_plugin.judge.types import Declared, Evidence, Inheritance, Interval, LayerEvidence, Report
from lineage_plugin.report import render
from tests.report import samples

STYLE = re.compile(r"\x1b\[[0-9;]*m")


def text(report: Report, width: int = 80, **options: bool) -> str:
    return render(report, "text", width=width, **options)


def flat(report: Report, width: int = 80) -> str:
    """Return the report as one line, so that a sentence can be looked for whatever way it was wrapped."""
    return " ".join(text(report, width).split())


def assert_inert(rendered: str) -> None:
    """Nothing in the text may be obeyed by a terminal or a CI runner."""
    for line in rendered.split("\n"):
        assert not line.lstrip().startswith("::"), line
        assert "##[" not in line
        for character in line:
            assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}, repr(line)


@pytest.mark.parametrize("make", samples.ALL)
@pytest.mark.parametrize("width", [40, 79, 80, 120, 300])
def test_no_line_is_wider_than_the_terminal(make: Callable[[], Report], width: int) -> None:
    for line in text(make(), width).split("\n"):
        assert cell_len(line) <= width
        assert line == line.rstrip()


@pytest.mark.parametrize("make", samples.ALL)
def test_colours_change_nothing_but_colours(make: Callable[[], Report]) -> None:
    colored = text(make(), color=True)
    assert STYLE.search(colored)
    assert STYLE.sub("", colored) == text(make(), color=False)


@pytest.mark.parametrize("make", samples.ALL)
def test_the_report_has_an_ascii_form(make: Callable[[], Report]) -> None:
    assert text(make(), unicode=False).isascii()


@pytest.mark.parametrize("width", range(40, 121, 8))
def test_hostile_text_is_inert(width: int) -> None:
    assert_inert(text(samples.hostile(), width))
    assert_inert(STYLE.sub("", text(samples.hostile(), width, color=True)))


def test_markup_is_shown_and_not_obeyed() -> None:
    shown = flat(samples.hostile(), 110)
    assert "[bold]rich[/bold]" in shown
    assert ":smile:" in shown
    assert "[/]: LIN302 [error]" in shown


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200), st.integers(40, 120))
def test_any_text_is_inert_and_fits(value: str, width: int) -> None:
    report = samples.report(
        samples.comparison(base=samples.model(value), summary=value, limits=(value,)),
        suspect=samples.model(value, revision=value, architecture=value, format=value),
        declared=Declared((value,), value, value, value, 1),
        findings=(finding("LIN203", value, file=value, line=3, help=value),),
        summary=value,
    )
    rendered = text(report, width)
    assert_inert(rendered)
    assert all(cell_len(line) <= width for line in rendered.split("\n"))


@pytest.mark.parametrize(
    ("make", "word"), [(samples.derived, "PASS"), (samples.unrelated, "FAIL"), (samples.inconclusive, "UNDECIDED")]
)
def test_the_verdict_comes_first_in_words(make: Callable[[], Report], word: str) -> None:
    report = make()
    first = text(report, unicode=False).split("\n\n")[0]
    assert " ".join(first.split()).rstrip(".") == f"{word}: {report.summary}"


def test_a_pair_without_a_claim_does_not_pass_but_names_the_relation() -> None:
    first = text(samples.pair()).split("\n")[0]
    assert first.startswith("DERIVED: ")
    assert "PASS" not in text(samples.pair())
    # With a claim to hold it against, or a finding, it is a verdict again.
    assert "PASS" in text(replace(samples.pair(), declared=samples.derived().declared))


def test_derived_is_explained() -> None:
    said = flat(samples.derived())
    assert "1,536 comparisons, each a fair coin if the models were independent (trained from different random " in said
    assert "starts); 1,536 came up heads." in said
    assert "with a chance of at most 1 in 10^459.8." in said
    assert "One descends from the other, or both from a third model. This is consistent with the declared base." in said
    assert "About 98.1% of the base is still present in the weights compared (95% interval 97.9% to 98.3%)." in said
    assert "Row-energy slope 0.96 (95% interval 0.94 to 0.99)" in said
    assert "An indication, not evidence" in said
    assert "1.9 MB of 12.7 MB of weight files (14.6%)" in said
    assert "Token embeddings and the language-model head were not compared." in said
    assert "copied" not in said
    assert "p =" not in said


def test_a_base_that_the_card_does_not_declare_is_not_called_declared() -> None:
    report = replace(samples.derived(), declared=Declared(("other/base",), None, None, "README.md", 3), summary="x")
    said = flat(report)
    assert "consistent with the declared base" not in said
    assert "Declared base" not in said


def test_a_declared_revision_does_not_hide_that_the_base_is_declared() -> None:
    pinned = Declared(("zoo/atlas@" + "a" * 40,), None, None, "README.md", 3)
    assert "Declared base zoo/atlas" in text(replace(samples.derived(), declared=pinned))


def test_unrelated_says_what_was_ruled_out_and_what_cannot_be_seen() -> None:
    said = flat(samples.unrelated())
    assert "At most 1.2% of the base could remain" in said
    assert "1,520 came up heads (49.5%)" in said
    assert "no evidence against independence" in said
    assert "distillation into fresh weights, training on the base's outputs, or shared data" in said
    assert "Row-energy slope" not in said  # noise, for models that share nothing
    assert "Direction" not in said


def test_the_limit_of_all_weight_tests_is_said_once() -> None:
    told = "Distillation into fresh weights leaves no trace."
    one = replace(samples.unrelated().comparisons[0], limits=(told,))
    assert flat(replace(samples.unrelated(), comparisons=(one,))).lower().count("distillation") == 1


def test_a_shared_start_is_not_descent() -> None:
    said = flat(samples.twin())
    assert "neither descends from the other" in said
    assert "The weights agree to about 41.0% (95% interval 39.0% to 43.0%), as two runs from one start do" in said
    assert "Row-energy slope 0.21 (95% interval 0.15 to 0.28): descent gives about 1" in said
    assert "consistent with the declared base" not in said


def test_inconclusive_gives_its_reason_once_and_claims_no_sample() -> None:
    said = flat(samples.inconclusive())
    assert "inconclusive: the depths differ (6 and 8 layers), which is not compared yet." in said
    assert "inconclusive: inconclusive" not in said
    assert "No coin was tossed." in said
    assert "random sample" not in said


def test_dependent_but_undecided_shows_the_slope_and_rules_nothing_out() -> None:
    one = samples.comparison(relation="inconclusive", kind=None, inheritance=Inheritance(0.6, 0.4, 0.8))
    said = flat(samples.report(one, verdict="undecided"))
    assert "Row-energy slope 0.60" in said
    assert "Between 97.9% and 98.3% of the base may be present" in said
    assert "At most" not in said


def test_assumptions_are_named_when_the_coins_are_not_exact() -> None:
    one = samples.comparison(evidence=Evidence(31.27, 100, 99, False))
    assert "if the models were independent and the assumptions under Limits hold" in flat(samples.report(one))


def test_estimates_that_could_not_be_made_are_left_out() -> None:
    nan = float("nan")
    one = samples.comparison(kept=Interval(nan, nan, nan), inheritance=Inheritance(nan, None, None))
    said = text(samples.report(one))
    assert "Kept" not in said
    assert "Descent" not in said
    assert "nan" not in said


def test_findings_read_like_a_linters() -> None:
    lines = text(samples.unrelated(), 110).split("\n")
    [first] = [line for line in lines if "LIN101" in line]
    assert first.startswith("README.md:5: LIN101 [error] The declared base zoo/atlas")
    assert any(line.startswith("    help: Correct base_model") for line in lines)
    assert any(line.startswith("README.md:5: LIN205 [note] ") for line in lines)
    assert lines[-2] == "1 error, 1 note."


def test_a_finding_without_a_place_starts_with_its_code() -> None:
    report = samples.report(findings=(finding("LIN304", "nothing could be compared"),))
    assert "\nLIN304 [warning] nothing could be compared\n" in text(report)


def test_a_clean_card_says_so() -> None:
    report = samples.report(summary="nothing to complain about")
    assert text(report).endswith("No findings.\n")


def test_every_layer_is_pictured() -> None:
    one = samples.comparison(layers=samples.layers([1.0, 0.5, 0.75]))
    lines = [line for line in text(samples.report(one), unicode=False).split("\n") if "/256 heads" in line]
    assert [line.count("#") for line in lines] == [24, 0, 12]
    assert "layer 1" in lines[1]
    assert "128/256 heads" in lines[1]


def test_many_layers_are_one_strip_and_the_odd_ones_are_named() -> None:
    shares = [1.0] * 80
    shares[37] = 0.5
    one = samples.comparison(layers=samples.layers(shares))
    said = text(samples.report(one), unicode=False)
    assert said.count("#") == 79
    assert said.count("\n") < 50
    assert "Clearly below the others: layer 37 (128/256 heads" in said


def test_tensor_names_keep_what_tells_them_apart() -> None:
    names = [f"encoder.transformer.layers.{i}.self_attention.in_proj_weight" for i in range(12)]
    layers = tuple(LayerEvidence(name, name, 128, 128, 0.9) for name in names)
    said = text(samples.report(samples.comparison(layers=layers)))
    labels = {line.split()[-5 if "Layers" in line else 0] for line in said.split("\n") if "128/128 heads" in line}
    assert len([line for line in said.split("\n") if "128/128 heads" in line]) == 12
    assert any(label.startswith("..11.") for label in labels)


def test_many_tensors_are_cut_to_the_best_and_the_worst() -> None:
    layers = tuple(LayerEvidence(f"t{i}.w", f"t{i}.w", 200, 100 + i, 0.1) for i in range(90))
    said = text(samples.report(samples.comparison(layers=layers)))
    assert said.count("/200 heads") == 10
    assert "189/200 heads" in said
    assert "100/200 heads" in said
    assert "of 90; the JSON report lists all" in " ".join(said.split())


def test_a_mapped_layer_names_both_sides() -> None:
    layers = (LayerEvidence("3", "5", 64, 64, 0.9),)
    assert "layer 3 <- 5" in text(samples.report(samples.comparison(layers=layers)), unicode=False)
