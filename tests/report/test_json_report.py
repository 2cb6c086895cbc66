"""The JSON report: its shape, its schema, and that it stays JSON whatever it is given."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.judge.types import (
    Candidate,
    ChainLink,
    Direction,
    Evidence,
    Excepted,
    Inheritance,
    Interval,
    LayerEvidence,
    LevelChange,
    LicenceOutcome,
    MergeParent,
    PolicyUse,
    Report,
    Scrubbed,
    Settings,
    StageEvidence,
)
from lineage_plugin.report import render
from lineage_plugin.report.json_report import schema, to_dict
from tests.report import samples

VALIDATOR = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())


def parsed(report: Report) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    document: dict[str, Any] = json.loads(render(report, "json"), parse_constant=refuse)
    return document


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("make", samples.ALL)
def test_every_kind_of_report_satisfies_the_schema(make: Callable[[], Report]) -> None:
    VALIDATOR.validate(parsed(make()))


def test_the_fields_are_those_of_the_contract() -> None:
    document = parsed(samples.twin())
    assert list(document) == [
        *(
            "schema",
            "tool",
            "created",
            "suspect",
            "declared",
            "comparisons",
            "merge",
            "closest",
            "findings",
            "licences",
            "chain",
            "verdict",
            "summary",
            "cost",
            "settings",
        ),
    ]
    assert document["schema"] == "lineage-report/1"
    comparison = document["comparisons"][0]
    assert comparison["relation"] == "shared-init"
    assert comparison["evidence"]["log10_e"] == 459.83
    assert comparison["evidence"]["groups"][0] == {"name": "mlp swap", "coins": 768, "heads": 768, "log10_e": 229.6}
    assert comparison["inheritance"]["curve"] == [[0.1, 0.18], [1.0, 0.71]]
    assert comparison["layers"][5] == {"suspect": "5", "base": "5", "coins": 256, "heads": 256, "cosine": 0.97}
    assert document["declared"]["source"] == {"file": "README.md", "line": 3}
    assert document["findings"][0]["code"] == "LIN107"


def test_licences_along_the_chain_are_written() -> None:
    unknown = replace(LLAMA, model="o/n\ud800\x1b", via=None, licence=None, source=None, duties=())
    document = parsed(replace(samples.twin(), licences=(LLAMA, unknown)))
    VALIDATOR.validate(document)
    assert document["licences"] == [
        {
            "model": "meta-llama/Llama-3.1-8B",
            "via": "acme/tuned-llama",
            "licence": "llama3.1",
            "known_by": "its id",
            "outcome": "incompatible",
            "reason": "its terms go with every copy",
            "source": "1.b.i of the agreement, https://example.org/LICENSE",
            "duties": ["show the words: 1.b.i(B)", "name it so: 1.b.i"],
        },
        {
            "model": "o/n\N{REPLACEMENT CHARACTER}\x1b",
            "via": None,
            "licence": None,
            "known_by": "its id",
            "outcome": "incompatible",
            "reason": "its terms go with every copy",
            "source": None,
            "duties": [],
        },
    ]
    assert parsed(samples.twin())["licences"] == []


def test_the_evidence_about_changed_and_disguised_models_is_written() -> None:
    up = parsed(samples.upscaled())["comparisons"][0]
    assert up["changes"] == ["layers 1-3 appear twice", "1 layer inserted: 7", "1 layer dropped: 4"]
    assert up["part"] == ""
    assert up["scrubbed"] is None
    assert up["calibrated"] is None
    assert up["layers"][7] == {"suspect": "7", "base": None, "coins": 0, "heads": 0, "cosine": 0.0}
    assert up["layers"][4]["base"] == "1"
    assert up["evidence"]["stages"] == [
        {"name": "identity", "weight": 0.9, "coins": 1536, "heads": 812, "log10_e": -0.62},
        {"name": "layers", "weight": 0.04, "coins": 1020, "heads": 1020, "log10_e": 305.6},
    ]
    hidden = parsed(samples.disguised())["comparisons"][0]
    assert hidden["evidence"]["exact"] is False
    assert hidden["scrubbed"]["how"][0] == "the residual stream was rotated"
    assert hidden["scrubbed"]["calibrated_on"] == "276 pairs of 24 independent models"
    assert hidden["calibrated"] == {
        "log10_value": 168.35,
        "rate": 2 / 3,
        "worst_share": 0.5811,
        "pairs": 276,
        "models": 24,
        "families": ["gpt2", "llama", "qwen2"],
        "width": [64, 768],
        "parameters": [901_120, 124_439_808],
        "statistics": [
            {"name": "cross-role", "agreements": 768, "of": 768, "log10_value": 134.1},
            {"name": "sign product", "agreements": 1533, "of": 1536, "log10_value": 168.6},
        ],
    }
    assert parsed(samples.relabelled())["comparisons"][0]["scrubbed"]["calibrated_on"] is None
    assert parsed(samples.composite())["comparisons"][0]["part"] == "language_model."


def test_several_parents_are_written_with_every_number() -> None:
    merge = parsed(samples.merged())["merge"]
    assert [(p["id"], p["weight"], p["low"], p["high"]) for p in merge["parents"]] == [
        ("zoo/atlas-docs", 0.30001, 0.2997, 0.3003),
        ("zoo/atlas-chat", 0.69998, 0.6997, 0.7002),
        ("zoo/atlas", 0.00001, -0.0002, 0.0003),
    ]
    assert merge["parents"][1]["layers"][5] == {"layer": "5", "estimate": 0.705, "low": 0.696, "high": 0.709}
    assert (merge["ancestor"], merge["structure"], merge["style"]) == ("zoo/atlas", "rounding", "linear")
    assert merge["scale"] == {"estimate": 1.00002, "low": 0.9998, "high": 1.0003}
    assert merge["unexplained"] == 8.1e-5
    nothing = parsed(samples.unweighed())["merge"]
    assert [p["weight"] for p in nothing["parents"]] == [None, None]
    assert (nothing["ancestor"], nothing["unexplained"], nothing["structure"], nothing["style"]) == (None,) * 4
    closest = parsed(samples.closer())["closest"]
    assert (closest["id"], closest["between"], closest["ancestor"]) == ("zoo/atlas-chat", [], "zoo/atlas")
    assert closest["candidates"][1] == {
        "id": "zoo/atlas-docs",
        "coefficient": 0.0044,
        "low": 0.001,
        "high": 0.0078,
        "weakest": {"estimate": 0.0079, "low": -0.0177, "high": 0.0334},
    }


def test_one_parent_alone_is_neither_weighed_nor_chosen() -> None:
    document = parsed(samples.derived())
    assert (document["merge"], document["closest"]) == (None, None)


def test_a_stage_that_tossed_no_coin_has_no_value() -> None:
    stages = parsed(samples.relabelled())["comparisons"][0]["evidence"]["stages"]
    assert [stage["name"] for stage in stages if stage["log10_e"] is None] == ["layers", "units"]
    assert [stage["name"] for stage in stages].count("basis") == 2


def test_the_cost_of_a_comparison_is_the_sum_of_both_models() -> None:
    suspect, base = Cost(10, 8, 100, 3, 0.5), Cost(20, 16, 200, 4, 0.25)
    cost = parsed(samples.report(samples.comparison(suspect_cost=suspect, base_cost=base)))["comparisons"][0]["cost"]
    assert {name: cost[name] for name in ("bytes_read", "tensor_bytes", "bytes_total", "requests", "seconds")} == {
        "bytes_read": 30,
        "tensor_bytes": 24,
        "bytes_total": 300,
        "requests": 7,
        "seconds": 0.75,
    }
    assert cost["suspect"]["bytes_read"] == 10
    assert cost["base"]["requests"] == 4


def test_numbers_that_are_not_finite_become_null() -> None:
    bad = samples.comparison(
        kept=Interval(math.nan, -math.inf, math.inf),
        inheritance=Inheritance(math.nan, None, math.inf, ((0.5, math.nan),)),
        direction=Direction("unclear", math.nan, None),
        layers=samples.layers([1.0], cosine=math.nan),
        evidence=Evidence(1.0, 4, 4, True, (), (StageEvidence("layers", 0.04, 0, 0, -math.inf),)),
    )
    document = parsed(samples.report(bad))
    comparison = document["comparisons"][0]
    assert comparison["kept"] == {"estimate": None, "low": None, "high": None}
    assert comparison["inheritance"]["curve"] == [[0.5, None]]
    assert comparison["evidence"]["stages"][0]["log10_e"] is None
    VALIDATOR.validate(document)


def test_numpy_scalars_are_written_as_numbers() -> None:
    evidence = Evidence(np.float64(3.5), np.int64(16), np.int64(15), np.bool_(True))  # type: ignore[arg-type]
    document = parsed(samples.report(samples.comparison(evidence=evidence)))
    assert document["comparisons"][0]["evidence"]["heads"] == 15
    VALIDATOR.validate(document)


def test_the_text_is_ascii_without_controls() -> None:
    text = render(samples.hostile(), "json")
    assert text.endswith("}\n")
    assert all(character == "\n" or " " <= character <= "~" for character in text)
    # ... and nothing was lost on the way: a program still sees what the card said.
    assert parsed(samples.hostile())["declared"]["license"] == samples.HOSTILE


def test_what_is_no_digest_is_left_out() -> None:
    digests = {"a": "AB" * 32, "b": "not a digest", "c": "ab" * 31}
    document = parsed(samples.report(suspect=samples.model("m", sha256=digests)))
    assert document["suspect"]["sha256"] == {"a": "ab" * 32}


def test_the_same_report_gives_the_same_text() -> None:
    forward, backward = {"a": "0" * 64, "b": "1" * 64}, {"b": "1" * 64, "a": "0" * 64}
    texts = {render(samples.report(suspect=samples.model("m", sha256=d)), "json") for d in (forward, backward)}
    assert len(texts) == 1


@given(st.text(), st.floats(allow_nan=True), st.one_of(st.none(), st.text()))
def test_any_text_and_number_gives_a_valid_report(text: str, number: float, maybe: str | None) -> None:
    report = samples.report(
        samples.comparison(
            summary=text,
            kept=Interval(number, number, number),
            limits=(text,),
            changes=(text,),
            part=text,
            scrubbed=Scrubbed((text,), maybe),
            calibrated=samples.measured(families=(text,)),
            layers=(LayerEvidence(text, maybe, 0, 0, number),),
        ),
        merge=samples.merged_from(
            parents=(MergeParent(text, number, number, None, ((text, Interval(number, None, number)),)),),
            ancestor=maybe,
            unexplained=number,
            summary=text,
        ),
        closest=samples.closest_of(
            id=maybe, reason=text, between=(text,), candidates=(Candidate(text, number, None, number),), ancestor=maybe
        ),
        suspect=samples.model(text, revision=maybe, architecture=maybe),
        summary=text,
        settings=Settings(policy=PolicyUse(text, excepted=(Excepted("LIN101", text, "2027-03-31"),), ignored=(text,))),
    )
    VALIDATOR.validate(parsed(report))


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        target: Any = document
        for part in parents:
            target = target[part]
        target[last] = value

    return change


LLAMA = LicenceOutcome(
    model="meta-llama/Llama-3.1-8B",
    via="acme/tuned-llama",
    licence="llama3.1",
    known_by="its id",
    outcome="incompatible",
    reason="its terms go with every copy",
    source="1.b.i of the agreement, https://example.org/LICENSE",
    duties=("show the words: 1.b.i(B)", "name it so: 1.b.i"),
)


def everything() -> Report:
    """A report in which no part is absent."""
    found = samples.report(
        *samples.disguised().comparisons,
        findings=samples.unrelated().findings,
        merge=samples.merged_from(),
        closest=samples.closest_of(),
        settings=Settings(
            policy=PolicyUse(
                ".lineage.yml",
                off=("LIN205",),
                excepted=(Excepted("LIN101", "before the cards", "2027-03-31"),),
                levels=(LevelChange("LIN201", "warning", "error"),),
                fail_on="warning",
                ignored=("bar",),
            )
        ),
    )
    return replace(found, licences=(LLAMA,), chain=(ChainLink("acme/base", ("acme/root",)),))


WRONG = {
    "other schema": _set("schema", "lineage-report/2"),
    "verdict": _set("verdict", "maybe"),
    "relation": _set("comparisons.0.relation", "copied"),
    "kind": _set("comparisons.0.kind", "clone"),
    "indication": _set("comparisons.0.direction.indication", "thief"),
    "additional field": _set("extra", 1),
    "additional field in a comparison": _set("comparisons.0.p_value", 0),
    "additional field in evidence": _set("comparisons.0.evidence.p", 0),
    "e-value is text": _set("comparisons.0.evidence.log10_e", "Infinity"),
    "e-value is missing": _set("comparisons.0.evidence.log10_e", None),
    "negative coins": _set("comparisons.0.evidence.coins", -1),
    "half a coin": _set("comparisons.0.evidence.heads", 0.5),
    "exact is no boolean": _set("comparisons.0.evidence.exact", 1),
    "curve point with one number": _set("comparisons.0.inheritance.curve.0", [0.1]),
    "curve point with three": _set("comparisons.0.inheritance.curve.0", [0.1, 1, 1]),
    "licence outcome": _set("licences.0.outcome", "legal"),
    "licence known by hearsay": _set("licences.0.known_by", 7),
    "licence of no model": _set("licences.0.model", None),
    "duties as one text": _set("licences.0.duties", "show the words"),
    "additional field in a licence": _set("licences.0.advice", "sue"),
    "link of a chain without its model": _set("chain.0.model", None),
    "bases of a link as one text": _set("chain.0.bases", "acme/root"),
    "finding level": _set("findings.0.level", "fatal"),
    "finding code": _set("findings.0.code", "E501"),
    "finding line 0": _set("findings.0.line", 0),
    "digest": _set("suspect.sha256", {"f": "abc"}),
    "created": _set("created", "yesterday"),
    "scrubbed without its calibration": _set("comparisons.0.scrubbed", {"how": ["permuted"]}),
    "scrubbed with more": _set("comparisons.0.scrubbed.why", "theft"),
    "scrubbed without phrases": _set("comparisons.0.scrubbed.how", "permuted"),
    "calibrated with more": _set("comparisons.0.calibrated.log10_e", 3.0),
    "calibrated value as text": _set("comparisons.0.calibrated.log10_value", "168"),
    "calibrated rate of one": _set("comparisons.0.calibrated.rate", 1),
    "calibrated share above one": _set("comparisons.0.calibrated.worst_share", 1.2),
    "calibrated width without an end": _set("comparisons.0.calibrated.width", [64]),
    "calibrated pairs negative": _set("comparisons.0.calibrated.pairs", -1),
    "statistic with half an agreement": _set("comparisons.0.calibrated.statistics.0.agreements", 0.5),
    "stage of negative weight": _set("comparisons.0.evidence.stages.0.weight", -0.1),
    "stage that outweighs all": _set("comparisons.0.evidence.stages.0.weight", 1.5),
    "stage with more": _set("comparisons.0.evidence.stages.0.p", 0.1),
    "change that is no text": _set("comparisons.0.changes", [3]),
    "part is null": _set("comparisons.0.part", None),
    "merge with more": _set("merge.p", 1),
    "merge of another style": _set("merge.style", "stew"),
    "merge of another structure": _set("merge.structure", "none"),
    "merge weight as text": _set("merge.parents.0.weight", "0.3"),
    "merge parent with more": _set("merge.parents.0.share", 1),
    "merge layer without a name": _set("merge.parents.0.layers.0.layer", None),
    "merge layer with more": _set("merge.parents.0.layers.0.weight", 1),
    "merge scale as a number": _set("merge.scale", 1.0),
    "closest with more": _set("closest.p", 1),
    "closest without a reason": _set("closest.reason", None),
    "closest between three": _set("closest.between", ["a", "b", "c"]),
    "candidate with more": _set("closest.candidates.0.p", 1),
    "candidate without its weakest": _set("closest.candidates.0.weakest", None),
    "layer of no suspect": _set("comparisons.0.layers.0.suspect", None),
    "policy with more": _set("settings.policy.trusted", True),
    "policy that silenced no code": _set("settings.policy.off", ["everything"]),
    "exception for ever": _set("settings.policy.excepted.0.expires", None),
    "level of the policy that is none": _set("settings.policy.levels.0.now", "off"),
    "policy that fails on a whim": _set("settings.policy.fail_on", "whim"),
    "undecided as a number": _set("settings.policy.undecided", 3),
    "parameters negative": _set("suspect.parameters", -5),
    "cost without requests": lambda document: document["cost"].pop("requests"),
    "cost of the base missing": lambda document: document["comparisons"][0]["cost"].pop("base"),
    "no limits": lambda document: document["comparisons"][0].pop("limits"),
    "no findings": lambda document: document.pop("findings"),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_the_schema_refuses_a_wrong_report(change: Callable[[dict[str, Any]], object]) -> None:
    document = to_dict(everything())
    VALIDATOR.validate(document)
    change(wrong := copy.deepcopy(document))
    assert not VALIDATOR.is_valid(wrong)


def test_every_field_of_every_object_is_required() -> None:
    """Dropping any one field anywhere must be noticed: consumers may rely on all of them."""
    document = to_dict(everything())

    def objects(node: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
        if isinstance(node, dict):
            inner = [found for key, value in node.items() for found in objects(value, (*path, key))]
            return inner if path[-1:] == ("sha256",) else [*[(*path, key) for key in node], *inner]
        if isinstance(node, list):
            return [found for index, value in enumerate(node) for found in objects(value, (*path, index))]
        return []

    paths = objects(document)
    assert len(paths) > 100
    for path in paths:
        wrong: Any = copy.deepcopy(document)
        target = wrong
        for part in path[:-1]:
            target = target[part]
        del target[path[-1]]
        assert not VALIDATOR.is_valid(wrong), path
