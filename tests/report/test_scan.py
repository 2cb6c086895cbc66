"""What the reports on a scan say: which model it is, not whether somebody passed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lineage_plugin.answer import found_in_registry
from lineage_plugin.judge.types import Report
from lineage_plugin.report import cautions, exit_code, outline, render
from tests.report import samples

TWIN = replace(samples.twin(), command="scan", findings=(), verdict="pass")
OPEN = replace(samples.inconclusive(), command="scan", findings=())
HEADLINES = [
    (samples.found(), "DERIVED"),
    (replace(samples.found(), findings=(), verdict="pass"), "DERIVED"),
    (replace(samples.identical(), command="scan"), "IDENTICAL"),
    (TWIN, "SHARED INITIALISATION"),
    (OPEN, "INCONCLUSIVE"),
    (samples.not_found(), "NO RELATIVE FOUND"),
]


@pytest.mark.parametrize(("report", "word"), HEADLINES)
def test_a_scan_neither_passes_nor_fails(report: Report, word: str) -> None:
    assert outline.headline(report) == ("note", word)
    assert render(report, "text").startswith(f"{word}: ")
    for format in ("text", "markdown", "html"):
        said = render(report, format)
        assert not re.search(r"\b(PASS|FAIL|UNDECIDED|Pass|Fail|Undecided)\b", said)
        assert word.lower() in said.lower()


def test_what_programs_read_of_a_scan_stays() -> None:
    assert [exit_code(report) for report, _ in HEADLINES] == [1, 0, 0, 0, 3, 0]
    assert '"verdict": "fail"' in render(samples.found(), "json")


def test_a_scan_that_found_nothing_says_what_was_looked_at() -> None:
    said = cautions.caution(samples.not_found())
    assert (
        "Only the models of this registry" in said and "does not mean that the model was trained from scratch" in said
    )


def test_a_relative_is_not_said_to_be_the_parent() -> None:
    for report in (samples.found(), replace(samples.identical(), command="scan")):
        assert "need not be the one it was made from" in cautions.caution(report)
    assert "honest mistake" in cautions.caution(samples.found())
    assert "No descent is shown" in cautions.caution(TWIN)
    assert "no answer" in cautions.caution(OPEN)


@pytest.mark.parametrize("report", [report for report, _ in HEADLINES])
def test_a_scan_says_nothing_of_a_check(report: Report) -> None:
    said = cautions.caution(report)
    assert "contradicts the card" not in said and "were compared" not in said


@pytest.mark.parametrize(
    ("models", "where"),
    [
        (1, "in a registry of one model."),
        (2, "among the 2 models of the registry."),
        (1200, "among the 1,200 models of"),
    ],
)
def test_one_model_is_not_several(models: int, where: str) -> None:
    assert where in found_in_registry(samples.found(), models)
    assert where in found_in_registry(samples.not_found(), models)
