"""Position, repair and acceptance of a finding: every report has them."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest

from lineage_plugin.hooks.blocking import reason_of
from lineage_plugin.outcome import Outcome
from lineage_plugin.report import json_report, predicate_report, render
from lineage_plugin.targets import Target
from tests.report import samples
from tests.report.test_sarif_report import VALIDATOR as SARIF


def test_the_text_is_that_of_a_linter() -> None:
    said = render(samples.linted(), "text", width=110).splitlines()
    assert "models/mine/README.md:7:13: LIN205 [note] base zoo/atlas is not pinned [fixable]" in said
    assert "models/mine/README.md:8:22: LIN203 [warning] fine-tuned is not known" in said
    at = said.index("models/mine/README.md:9: LIN210 [note] It reads like an adapter")
    assert said[at + 1] == "    taken back by the card: our own words"
    assert said[-1] == "1 warning, 2 notes, 1 fixable with --fix."


def test_only_lint_has_the_option() -> None:
    report = replace(samples.linted(), command="check")
    for format in ("text", "markdown"):
        assert "--fix" in render(samples.linted(), format) and "--fix" not in render(report, format)


def test_json_has_all_of_it_in_its_schema() -> None:
    found = json.loads(render(samples.linted(), "json"))["findings"]
    picked = [[one[name] for name in ("line", "column", "fixable", "fix", "ignored")] for one in found]
    assert picked == [
        [7, 13, True, "Set base_model_revision", None],
        [8, 22, False, None, None],
        [9, None, False, "Set base_model_revision", "our own words"],
    ]
    schema = jsonschema.Draft202012Validator(json_report.schema())
    document = json.loads(render(samples.linted(), "json"))
    schema.validate(document)
    for name, wrong in (("column", 0), ("fixable", "yes"), ("fix", 1), ("ignored", False)):
        document["findings"][0][name] = wrong
        assert not schema.is_valid(document), name
        document = json.loads(render(samples.linted(), "json"))


def test_sarif_has_columns_and_suppressions_in_source() -> None:
    log = json.loads(render(samples.linted(), "sarif"))
    SARIF.validate(log)
    (run,) = log["runs"]
    assert run["columnKind"] == "unicodeCodePoints"
    regions = [result["locations"][0]["physicalLocation"]["region"] for result in run["results"]]
    assert regions == [{"startLine": 7, "startColumn": 13}, {"startLine": 8, "startColumn": 22}, {"startLine": 9}]
    assert [result.get("suppressions") for result in run["results"]] == [
        None,
        None,
        [{"kind": "inSource", "status": "accepted", "justification": "our own words"}],
    ]


@pytest.mark.parametrize("format", ["markdown", "html", "cyclonedx"])
def test_what_is_ignored_is_said_with_the_reason(format: str) -> None:
    said = render(samples.linted(), format)
    assert "aken back by the card: our own words" in said
    if format != "cyclonedx":
        assert "README.md:7:13" in said and "fixable" in said


def test_the_predicate_names_the_reason_where_there_is_one() -> None:
    document = json.loads(render(samples.linted(), "predicate"))
    jsonschema.Draft202012Validator(predicate_report.schema()).validate(document)
    found = document["models"][0]["findings"]
    assert [one.get("ignored") for one in found] == [None, None, "our own words"]
    assert list(found[0]) == ["code", "level", "message"]


def test_what_keeps_an_upload_back_is_named_with_its_column() -> None:
    said = reason_of(Outcome(Target("mine"), 1, samples.linted()))
    assert said.endswith("LIN203 fine-tuned is not known (README.md:8:22)")
