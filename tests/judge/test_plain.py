"""Reports as plain values: nothing is lost on the way, and nothing else is taken for one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin.api import check
from lineage_plugin.judge import types
from lineage_plugin.judge.plain import from_plain, to_plain
from lineage_plugin.judge.types import Excepted, LevelChange, PolicyUse, Report, Settings
from tests.report import samples

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
POLICY = PolicyUse(
    ".lineage.yml", ("LIN205",), (Excepted("LIN101", "a known case", "2027-03-31"),),
    (LevelChange("LIN202", "error", "note"),), "warning", "fail", ("budget",),
)  # fmt: skip
UNDER_POLICY = replace(samples.derived(), settings=Settings(12.5, 3, True, 1 << 40, POLICY, "only"))


def through_text(report: Report) -> Report:
    return from_plain(json.loads(json.dumps(to_plain(report), allow_nan=False)))


def same(one: Report, other: Report) -> None:
    """Equal to the last digit, a NaN to a NaN: ``repr`` writes every field, and every float exactly."""
    assert repr(one) == repr(other)


@pytest.mark.parametrize("sample", [*samples.ALL, samples.linted], ids=lambda sample: sample.__name__)
def test_samples_come_back(sample: Callable[[], Report]) -> None:
    report = sample()
    same(through_text(report), report)
    if sample is not samples.hostile:  # it holds a NaN, which equals nothing
        assert through_text(report) == report


def test_policy_and_settings_come_back() -> None:
    assert through_text(UNDER_POLICY) == UNDER_POLICY
    unsaid = replace(UNDER_POLICY, settings=Settings(policy=PolicyUse("p.yml")))
    assert through_text(unsaid) == unsaid


@pytest.mark.parametrize("name", ["honest", "liar"])
def test_real_reports_come_back(name: str) -> None:
    report = check(str(EXAMPLES / name), bases=[str(EXAMPLES / "base")])
    assert through_text(report) == report
    same(through_text(report), report)


def test_every_type_of_a_report_is_in_some_sample() -> None:
    """A type that no sample holds would be kept by code that no test has run."""
    held = {type(value) for sample in (*samples.ALL, samples.linted) for value in walk(sample())}
    held |= {type(value) for value in walk(UNDER_POLICY)}
    own = (kind for kind in vars(types).values() if getattr(kind, "__module__", None) == types.__name__)
    defined = {kind for kind in own if isinstance(kind, type) and is_dataclass(kind)}
    assert defined <= held


def walk(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from walk(getattr(value, field.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from walk(one)


@given(st.floats(), st.text(), st.integers())
def test_any_values_come_back(number: float, text: str, count: int) -> None:
    one = samples.comparison(summary=text, layers=(types.LayerEvidence(text, None, count, -count, number),))
    report = samples.report(one, suspect=samples.model(text, sha256={text: text}))
    same(through_text(report), report)


@pytest.mark.parametrize("number", [math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2, 1.7976931348623157e308])
def test_floats_come_back_to_the_bit(number: float) -> None:
    report = samples.report(cost=types.Cost(seconds=number))
    assert through_text(report).cost.seconds.hex() == number.hex()


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    report = samples.report(cost=types.Cost(np.int64(7), seconds=np.float32(0.1)))  # type: ignore[arg-type]
    assert through_text(report).cost == types.Cost(7, seconds=float(np.float32(0.1)))


def at(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


ONE = ("comparisons", 0)
SPOILT = {
    "unknown field": at("new", value=1),
    "unknown field below": at(*ONE, "evidence", "p", value=0.0),
    "missing field": lambda data: data.pop("hub"),
    "missing field below": lambda data: data["comparisons"][0]["base"].pop("id"),
    "number for a text": at("summary", value=3),
    "null for a text": at("summary", value=None),
    "text for a number": at(*ONE, "evidence", "log10_e", value="459.83"),
    "text for a count": at(*ONE, "evidence", "coins", value="7"),
    "float for a count": at(*ONE, "evidence", "coins", value=7.0),
    "truth for a count": at(*ONE, "evidence", "coins", value=True),
    "truth for a number": at(*ONE, "evidence", "log10_e", value=True),
    "count for a truth": at(*ONE, "evidence", "exact", value=1),
    "bare NaN": at(*ONE, "evidence", "log10_e", value=math.nan),
    "bare infinity": at(*ONE, "kept", "low", value=-math.inf),
    "NaN by another name": at(*ONE, "evidence", "log10_e", value="NaN"),
    "NaN for a count": at(*ONE, "evidence", "coins", value="nan"),
    "unknown word": at(*ONE, "relation", value="cousin"),
    "list for a word": at("verdict", value=["pass"]),
    "one value too many": at(*ONE, "inheritance", "curve", 0, value=[0.1, 1.0, 2.0]),
    "one value too few": at(*ONE, "inheritance", "curve", 0, value=[0.1]),
    "text for a list": at(*ONE, "limits", value="none"),
    "dict for a list": at("findings", value={}),
    "list for an object": at("cost", value=[0, 0, 0, 0, 0.0]),
    "null for an object": at("cost", value=None),
    "list for a map": at("suspect", "sha256", value=[]),
    "number in a map": at("suspect", "sha256", value={"model.safetensors": 1}),
    "number as a key": at("suspect", "sha256", value={1: "x"}),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT.keys())
def test_what_is_no_report_is_refused(spoil: Callable[[dict[str, Any]], None]) -> None:
    data = to_plain(samples.derived())
    whole = copy.deepcopy(data)
    spoil(data)
    with pytest.raises(ValueError, match=r"^report"):
        from_plain(data)
    from_plain(whole)


@pytest.mark.parametrize("data", [None, [], "report", 1, {}, float("nan")])
def test_no_report_at_all(data: object) -> None:
    with pytest.raises(ValueError, match=r"^report: "):
        from_plain(data)


@pytest.mark.parametrize(
    "report",
    [
        samples.report(summary=None),
        samples.report(verdict="perhaps"),
        samples.report(cost=None),
        samples.report(findings=[]),
        samples.report(comparisons=({},)),
        samples.report(cost=types.Cost(True)),
        samples.report(cost=types.Cost(1.0)),  # type: ignore[arg-type]
        samples.report(suspect=samples.model("m", sha256={1: "x"})),
        samples.report(suspect=samples.model("m", sha256=[])),
    ],
)
def test_reports_that_break_their_own_types_are_refused(report: Report) -> None:
    with pytest.raises(ValueError, match=r"^report\."):
        to_plain(report)
