"""Findings about merges and closest parents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lineage_plugin.card import Declaration, read_card
from lineage_plugin.evidence.closest import ClosestParent, Standing
from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.parents import MergeFit, ParentWeight
from lineage_plugin.judge.parents import (
    closest_findings,
    closest_of,
    common_ancestor,
    merge_findings,
    merge_of,
    without_trace,
)
from lineage_plugin.judge.types import ModelSummary
from tests.report.samples import derived

CARD = "---\nlicense: mit\nbase_model:\n- a/one\n- a/two\nbase_model_relation: merge\n---\n"
DECLARED, _ = read_card(CARD)


def card(*bases: str) -> Declaration:
    return read_card("---\nbase_model:\n" + "".join(f"- {base}\n" for base in bases) + "---\n")[0] if bases else NONE


NONE = Declaration()


@pytest.mark.parametrize(
    ("cards", "ancestor"),
    [
        ({"a/one": card("a/base"), "a/two": card("a/base")}, "a/base"),
        # Task arithmetic lists the base among the parents.
        ({"a/base": NONE, "a/one": card("a/base"), "a/two": card("a/base")}, "a/base"),
        ({"a/base": card(), "a/chat": card("a/base"), "a/chat-2": card("a/chat")}, "a/base"),
        ({"a/chat": card("a/base"), "a/chat-2": card("a/chat")}, "a/base"),
        ({"a/one": card("a/base"), "a/two": card("b/base")}, None),
        ({"a/one": card("a/base"), "a/two": NONE}, None),
        ({"a/one": NONE, "a/two": NONE}, None),
        ({"a/one": card("a/two"), "a/two": card("a/one")}, None),
        ({"a/one": card("a/one"), "a/two": card("a/one")}, None),
        ({"a/one": card("a/x", "a/y"), "a/two": card("a/one")}, None),
        ({}, None),
    ],
)
def test_common_ancestor(cards: dict[str, Declaration], ancestor: str | None) -> None:
    assert common_ancestor(cards) == ancestor


def effect(estimate: float, reach: float = 0.01) -> MatrixEffect:
    return MatrixEffect(estimate, estimate - reach, estimate + reach)


def fit(**weights: MatrixEffect) -> MergeFit:
    parents = tuple(ParentWeight(f"a/{name}", weight, ((0, weight),)) for name, weight in weights.items())
    return MergeFit(parents, "a/base", effect(1.0), unexplained=0.2, structure="dense")


def comparison(base: str, relation: str):
    return replace(derived().comparisons[0], base=ModelSummary(base, None, None, None, None), relation=relation)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weight", "gone"),
    [
        (effect(0.001), True),
        (effect(-0.02, 0.03), True),
        (effect(0.03), False),  # small but there
        (effect(0.0, 0.2), False),  # too wide to say
        (effect(0.3), False),
        (MatrixEffect(None, None, None), False),
    ],
)
def test_no_trace_is_a_narrow_interval_at_zero(weight: MatrixEffect, gone: bool) -> None:
    made = fit(one=effect(0.99), two=weight, base=effect(0.0))
    assert without_trace(made) == (("a/two",) if gone else ())
    found = merge_findings(made, DECLARED)
    assert [(f.code, f.file, f.line) for f in found] == ([("LIN106", "README.md", 5)] if gone else [])


def test_silent_coins_are_no_trace_either_and_the_ancestor_is_none_of_the_parents() -> None:
    made = fit(one=effect(0.6), two=effect(0.4), base=effect(0.0))
    assert without_trace(made) == ()
    assert without_trace(made, [comparison("a/one", "derived"), comparison("a/two", "unrelated")]) == ("a/two",)
    # All silent: this is no merge of these at all, which other findings say.
    assert without_trace(made, [comparison("a/one", "unrelated"), comparison("a/two", "unrelated")]) == ()


def closest(choice: str | None, *ids: str, between: tuple[str, ...] = ()) -> ClosestParent:
    standings = tuple(Standing(name, effect(0.5), effect(0.4), None) for name in ids)
    return ClosestParent(choice, standings, "the suspect contains all of it", between, None)


def test_a_closer_parent_than_the_declared_one_is_a_finding_at_its_line() -> None:
    found = closest_findings(closest("a/chat", "a/chat", "a/two"), DECLARED)
    assert [(f.code, f.level, f.line) for f in found] == [("LIN105", "warning", 5)]
    assert "a/chat is a closer parent than a/two" in found[0].message


def test_no_finding_where_the_declared_parent_is_chosen_or_nothing_was() -> None:
    assert closest_findings(closest("a/two", "a/chat", "a/two"), DECLARED) == ()
    assert closest_findings(closest(None, "a/chat", "a/two"), DECLARED) == ()
    assert closest_findings(closest("a/chat", "a/chat", "a/base"), DECLARED) == ()


def test_a_merge_with_an_undeclared_model_is_a_note() -> None:
    found = closest_findings(closest(None, "a/chat", "a/two", between=("a/chat", "a/two")), DECLARED)
    assert [(f.code, f.level) for f in found] == [("LIN105", "note")]
    assert closest_findings(closest(None, "a/one", "a/two", between=("a/one", "a/two")), DECLARED) == ()


def test_report_values_carry_every_number() -> None:
    made = fit(one=effect(0.6), two=effect(0.4))
    shown = merge_of(made)
    assert [(p.id, p.weight, p.low, p.high) for p in shown.parents] == [
        ("a/one", 0.6, 0.59, 0.61),
        ("a/two", 0.4, 0.39, 0.41000000000000003),
    ]
    assert shown.parents[0].layers[0][0] == "0" and shown.parents[0].layers[0][1].estimate == 0.6
    assert "20%" in shown.summary
    assert "to rounding" in merge_of(replace(made, structure="rounding", unexplained=1e-5)).summary
    assert "too few" in merge_of(MergeFit(made.parents, None, reason="too few steps")).summary
    answer = closest_of(closest("a/chat", "a/chat", "a/two"))
    assert answer.id == "a/chat" and [c.id for c in answer.candidates] == ["a/chat", "a/two"]
    assert answer.candidates[0].weakest.estimate == 0.4


def test_hostile_names_stay_on_one_line() -> None:
    evil = "a/x\n::error::y\x1b[31m"
    made = MergeFit((ParentWeight("a/one", effect(1.0)), ParentWeight(evil, effect(0.0))), None)
    for found in (*merge_findings(made, DECLARED), *closest_findings(closest(evil, evil, "a/two"), DECLARED)):
        assert "\n" not in found.message and "\x1b" not in found.message and "\n" not in found.help
