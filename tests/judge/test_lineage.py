"""Findings and verdicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lineage_plugin.card import read_card
from lineage_plugin.findings import finding
from lineage_plugin.judge.lineage import lineage_findings
from lineage_plugin.judge.types import Comparison, ModelSummary
from lineage_plugin.judge.verdict import verdict_of
from tests.report.samples import derived

CARD = "---\nlicense: mit\nbase_model:\n- a/first\n- a/second\nbase_model_relation: {}\n---\n"


def comparison(relation: str, base: str = "a/second", kind: str | None = None, **changes: object) -> Comparison:
    made = derived().comparisons[0]
    return replace(made, base=ModelSummary(base, None, None, None, None), relation=relation, kind=kind, **changes)  # type: ignore[arg-type]


def codes(found: Comparison, relation: str = "finetune") -> list[tuple[str, int | None]]:
    declaration, _ = read_card(CARD.format(relation))
    return [(f.code, f.line) for f in lineage_findings([found], declaration)]


@pytest.mark.parametrize(
    ("relation", "code"), [("unrelated", "LIN101"), ("shared-init", "LIN107"), ("identical", "LIN104")]
)
def test_each_relation_has_its_finding_at_the_line_of_its_base(relation: str, code: str) -> None:
    assert codes(comparison(relation)) == [(code, 5)]
    assert codes(comparison(relation, base="a/first")) == [(code, 4)]
    assert codes(comparison(relation, base="/some/folder")) == [(code, 3)]


def test_a_supported_base_is_no_finding() -> None:
    assert codes(comparison("derived", kind="finetune")) == []


@pytest.mark.parametrize(
    ("declared", "kind", "expected"),
    [
        ("finetune", "quantized", ["LIN103"]),
        ("quantized", "finetune", ["LIN103"]),
        ("adapter", "finetune", ["LIN103"]),
        ("merge", "finetune", []),
        ("finetune", "partial", ["LIN109"]),
        ("quantized", "quantized", []),
    ],
)
def test_relation_against_kind(declared: str, kind: str, expected: list[str]) -> None:
    assert [code for code, _ in codes(comparison("derived", kind=kind), declared)] == expected


def test_nothing_comparable_is_a_finding_and_inconclusive_coins_are_not() -> None:
    coins = comparison("inconclusive")
    assert codes(coins) == []
    silent = replace(coins, evidence=replace(coins.evidence, coins=0, heads=0), layers=())
    assert codes(silent) == [("LIN304", 5)]


def test_verdicts() -> None:
    passed, open_question = comparison("derived"), comparison("inconclusive")
    assert verdict_of([], []) == "pass"
    assert verdict_of([finding("LIN201", "none")], []) == "pass"
    assert verdict_of([], [passed]) == "pass"
    assert verdict_of([], [passed, open_question]) == "undecided"
    assert verdict_of([finding("LIN202", "not looked up", level="warning")], []) == "undecided"
    assert verdict_of([finding("LIN101", "no")], [open_question]) == "fail"
