"""What the text says of merges and closest parents."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.judge.types import Candidate, Interval, MergeParent
from lineage_plugin.report import parents, render
from tests.report import samples

NAN = float("nan")


def flat(report, width: int = 80) -> str:  # type: ignore[no-untyped-def]
    return " ".join(render(report, "text", width=width, unicode=False).split())


def parent(weight: float | None, low: float | None, high: float | None, name: str = "a/b") -> MergeParent:
    return MergeParent(name, weight, low, high)


def rows(*found: MergeParent, width: int = 66) -> list[parents.Bar]:
    return parents.weights(samples.merged_from(parents=found), width=width, unicode=False)


# --- merges -------------------------------------------------------------------------------------------------------


def test_a_merge_says_what_it_is_of_and_that_it_is_an_estimate() -> None:
    said = flat(samples.merged())
    assert "Merge (an estimate, not exact evidence)" in said
    assert "0.300 (0.299 to 0.301)" in said
    assert "0.700 (0.699 to 0.701)" in said
    assert "The parents explain everything to rounding." in said
    assert "It looks like a linear combination: a hint, no more." in said
    assert "Common ancestor: zoo/atlas; its weight is what the parents leave of it." in said
    assert "scaled" not in said
    assert "Merge (" not in flat(samples.derived())


def test_bars_are_as_long_as_the_weights() -> None:
    found = rows(parent(0.25, 0.24, 0.26), parent(0.75, 0.74, 0.76), parent(-0.5, -0.51, -0.49), parent(1.5, 1.4, 1.6))
    length = len(found[0].bar)
    assert length == 24
    assert [row.bar.count("#") for row in found] == [6, 18, 0, 24]
    assert all(len(row.bar) == length for row in found)
    # Where there is no room the numbers stay.
    narrow = rows(parent(0.25, 0.24, 0.26), width=26)
    assert (narrow[0].bar, narrow[0].note) == ("", "0.25 (0.24 to 0.26)")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((0.300004, 0.29998, 0.30003), "0.300 (0.299 to 0.301)"),
        ((0.3, 0.3, 0.3), "0.300 (0.300 to 0.300)"),
        ((0.31, 0.254, 0.351), "0.31 (0.25 to 0.36)"),
        ((-0.0001, -0.0004, 0.0002), "0.000 (-0.001 to 0.001)"),
        ((0.012, 0.002, 0.0219), "0.012 (0.002 to 0.022)"),
        ((0.5, -20.0, 21.0), "not determined"),
        ((0.5, None, 0.6), "not determined"),
        ((0.5, NAN, 0.6), "not determined"),
        ((NAN, 0.1, 0.2), "not estimated"),
        ((1e300, 1e299, 1e301), "not estimated"),
    ],
)
def test_intervals_never_look_narrower_than_they_are(value: tuple[float, float, float], said: str) -> None:
    # The other row keeps the table.
    assert rows(parent(*value), parent(0.5, 0.4, 0.6))[0].note == said


@settings(max_examples=200, deadline=None)
@given(st.floats(-3, 3), st.floats(0, 1), st.floats(0, 1))
def test_rounded_intervals_hold_the_true_ones(middle: float, below: float, above: float) -> None:
    low, high = middle - below, middle + above
    note = rows(parent(middle, low, high), parent(0.5, 0.4, 0.6))[0].note
    if note == "not determined":
        assert high - low >= 2
        return
    shown = [float(number) for number in re.findall(r"-?\d+\.\d+", note)]
    assert shown[1] <= low + 1e-9
    assert shown[2] >= high - 1e-9
    assert shown[1] <= shown[0] <= shown[2]


def test_weights_that_could_not_be_estimated_leave_the_reason() -> None:
    said = flat(samples.unweighed())
    assert "The weights could not be estimated: the widths differ (64 and 96) (zoo/draco)." in said
    for absent in ("Weights ", "not estimated", "Style", "No common ancestor", "scaled"):
        assert absent not in said


def test_a_sibling_is_named_as_another_reading_where_much_is_left_and_no_ancestor_known() -> None:
    two = samples.merged_from().parents[:2]
    alone = samples.merged_from(parents=two, ancestor=None)
    assert parents.merge_ancestor(alone).endswith("against each other alone.")
    much = replace(alone, unexplained=0.52, structure="dense", style=None)
    assert "A sibling that holds none of them looks like an even mixture" in parents.merge_ancestor(much)
    assert "sibling" not in parents.merge_ancestor(replace(much, ancestor="zoo/atlas"))


@pytest.mark.parametrize(
    ("scale", "style", "said"),
    [
        ((0.91, 0.90, 0.92), None, "scaled by 0.91 (0.90 to 0.92)"),
        ((1.02, 1.01, 1.03), "slerp", ""),  # the style explains it
        ((1.0, 0.99, 1.01), None, ""),
        ((1.0004, 1.0001, 1.0007), "linear", ""),
        ((NAN, NAN, NAN), None, ""),
        ((None, None, None), None, ""),
    ],
)
def test_a_scale_is_said_where_it_is_one(scale: tuple[float, float, float], style: str | None, said: str) -> None:
    shown = parents.merge_scale(samples.merged_from(scale=Interval(*scale), style=style))
    assert said in shown
    assert bool(said) == bool(shown)


def test_every_style_is_called_a_hint() -> None:
    styles = ("linear", "slerp", "dare", "ties")
    said = {style: parents.merge_style(samples.merged_from(style=style)) for style in styles}
    assert len(set(said.values())) == 4
    assert all("hint" in sentence for sentence in said.values())
    assert parents.merge_style(samples.merged_from(style=None)) == ""


# --- closest parent -----------------------------------------------------------------------------------------------


def test_the_closest_parent_is_named_with_every_candidates_numbers() -> None:
    said = flat(samples.closer())
    assert "Closest parent (an estimate, not exact evidence)" in said
    assert "Answer zoo/atlas-chat. The suspect contains all that sets zoo/atlas-chat apart from the others." in said
    assert "zoo/atlas-chat 0.997 (0.993 to 1.001); 0.99 (0.97 to 1.02)" in said
    assert "zoo/atlas-docs 0.004 (0.001 to 0.008); 0.01 (-0.02 to 0.04)" in said
    assert "Common ancestor: zoo/atlas." in said
    assert "Closest parent" not in flat(samples.derived())


def test_no_choice_gives_its_reason() -> None:
    reason = "the intervals leave more than one parent possible"
    said = parents.answer(samples.closest_of(id=None, reason=reason))
    assert said == "It cannot be told: the intervals leave more than one parent possible."
    between = "the suspect lies between a/b and c/d, as a merge of them does"
    said = parents.answer(samples.closest_of(id=None, reason=between, between=("a/b", "c/d")))
    assert said == "None alone. The suspect lies between a/b and c/d, as a merge of them does."
    assert parents.answer(samples.closest_of(id=None, reason="")) == "It cannot be told."


def test_noise_is_not_put_in_a_table() -> None:
    noise = (
        Candidate("a/b", 2.4, -21.2, 26.0, Interval(-0.29, -0.49, -0.09)),
        Candidate("c/d", -1.4, -25.0, 22.2, Interval(0.84, 0.63, 1.04)),
    )
    closest = samples.closest_of(id=None, reason="no trace", candidates=noise, ancestor=None)
    assert parents.candidates(closest, width=66) == []
    assert parents.candidates_legend(closest) == ""
    assert parents.closest_ancestor(closest) == ""
    assert "No common ancestor is known" in parents.closest_ancestor(samples.closest_of(ancestor=None))


def test_long_lists_and_names_are_cut() -> None:
    many = tuple(parent(0.02, 0.01, 0.03, f"owner/{'x' * 300}-{number}") for number in range(50))
    found = rows(*many)
    assert len(found) == 17
    assert "34 more" in found[-1].note
    assert all(len(row.label) <= 66 for row in found)
    assert found[3].label.endswith("-3")  # what tells one from the other stays
