"""The SARIF report: the official schema, what GitHub asks for, and fingerprints that outlive edits."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin import check, compare, load_policy
from lineage_plugin.findings import CODES, Finding, finding
from lineage_plugin.judge.types import Declared, Excepted, PolicyUse, Report, Settings
from lineage_plugin.report import render, render_all, sarif_report
from lineage_plugin.report.sarif_report import FINGERPRINT, MOST_RESULTS
from tests.report import samples

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run_of(*reports: Report) -> dict[str, Any]:
    log = json.loads(render_all(reports, "sarif"))
    VALIDATOR.validate(log)
    (run,) = log["runs"]
    for result in run["results"]:
        # What GitHub refuses a file for.
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert uri and not uri.startswith("/") and ":" not in uri and ".." not in uri.split("/")
        assert result["message"]["text"]
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    return dict(run)


def prints(*reports: Report) -> list[str]:
    return [result["partialFingerprints"][FINGERPRINT] for result in run_of(*reports)["results"]]


def local(*findings: Finding, **fields: object) -> Report:
    return replace(samples.report(samples.comparison()), folder="models/mine", findings=findings, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", samples.ALL)
def test_every_kind_of_report_satisfies_the_official_schema(make: Callable[[], Report]) -> None:
    report = make()
    kinds = [result["kind"] for result in run_of(report)["results"]]
    assert kinds.count("fail") == len(report.findings)
    assert kinds.count("open") == sum(one.relation == "inconclusive" for one in report.comparisons)


def test_the_schema_can_refuse() -> None:
    log = json.loads(render(samples.unrelated(), "sarif"))
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert not VALIDATOR.is_valid(log)


def test_a_real_model_that_lies_has_its_finding_on_the_line_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    report = check("examples/liar", bases=["examples/base"])
    (lie,) = (result for result in run_of(report)["results"] if result["ruleId"] == "LIN101")
    where = lie["locations"][0]["physicalLocation"]
    assert where["artifactLocation"] == {"uri": "examples/liar/README.md", "uriBaseId": "%SRCROOT%"}
    line = (ROOT / "examples/liar/README.md").read_text(encoding="utf-8").splitlines()[where["region"]["startLine"] - 1]
    assert line.startswith("base_model")
    assert lie["level"] == "error"
    assert lie["properties"]["relation"] == "unrelated"
    assert lie["properties"]["coins"] == report.comparisons[0].evidence.coins


def test_a_report_without_findings_has_no_results() -> None:
    run = run_of(samples.derived())
    assert run["results"] == []
    assert run["invocations"][0]["executionSuccessful"] is True
    assert run["properties"]["models"][0]["comparisons"][0]["relation"] == "derived"


def test_the_rules_are_the_codes() -> None:
    rules = run_of()["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CODES)
    first = rules[0]
    assert first["name"] == "BaseNotSupportedByTheWeights"
    # An alert may be about a comparison that was not settled, and its title is that of the rule.
    assert first["shortDescription"]["text"] == "Base not supported by the weights, or undecided"
    assert not any("undecided" in rule["shortDescription"]["text"] for rule in rules[1:])
    assert first["helpUri"].endswith("/docs/rules/LIN101.md")
    assert {rule["defaultConfiguration"]["level"] for rule in rules} == {"error", "warning", "note"}
    assert len({rule["name"] for rule in rules}) == len(rules)
    assert all(rule["name"].isalnum() and len(rule["name"]) <= 255 and rule["help"]["text"] for rule in rules)


def test_the_message_says_what_to_do_and_what_to_paste() -> None:
    one = finding(
        "LIN201", "No base is declared", file="README.md", help="Add base_model.", suggestion=("base_model: a/b",)
    )
    text = run_of(local(one))["results"][0]["message"]["text"]
    assert text == "No base is declared. Add base_model.\nLines for the card's front matter:\nbase_model: a/b"


def test_the_level_is_that_of_the_finding() -> None:
    (result,) = run_of(local(finding("LIN101", "m", level="note")))["results"]
    assert result["level"] == "note"


def test_a_file_of_the_hub_is_shown_at_its_commit_and_found_again_at_the_next() -> None:
    one = finding("LIN205", "m", file="sub folder/README.md", line=3)

    def at(commit: str) -> dict[str, Any]:
        report = samples.report(suspect=samples.model("zoo/draco/x.gguf", revision=commit), findings=(one,))
        return dict(run_of(report)["results"][0])

    first, second = at(COMMIT), at(COMMIT[::-1])
    assert first["hostedViewerUri"] == f"https://huggingface.co/zoo/draco/blob/{COMMIT}/sub%20folder/README.md"
    where = {"uri": "zoo/draco/blob/main/sub%20folder/README.md", "uriBaseId": "HUB"}
    assert first["locations"][0]["physicalLocation"]["artifactLocation"] == where
    assert (first["locations"], first["partialFingerprints"]) == (second["locations"], second["partialFingerprints"])


@pytest.mark.parametrize(
    ("folder", "uri"),
    [
        ("models/mine", "models/mine/README.md"),
        ("./models//mine/", "models/mine/README.md"),
        (".", "README.md"),
        ("a b/ü#?%", "a%20b/%C3%BC%23%3F%25/README.md"),
        ("/elsewhere/of/mine", "mine/README.md"),
        ("../../../../../../../../outside", "outside/README.md"),
        ("a:b", "a%3Ab/README.md"),
    ],
)
def test_a_local_file_is_relative_to_where_the_check_was_started(folder: str, uri: str) -> None:
    report = replace(local(finding("LIN201", "m", file="README.md", line=1)), folder=folder)
    assert run_of(report)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_an_absolute_folder_below_is_relative_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = replace(local(finding("LIN201", "m", file="README.md", line=1)), folder=str(tmp_path / "m"))
    assert run_of(report)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "m/README.md"


def test_a_finding_without_a_file_is_at_the_card() -> None:
    report = replace(local(finding("LIN304", "m")), declared=Declared(("zoo/atlas",), None, None, "README.md", 3))
    (result,) = run_of(report)["results"]
    assert result["locations"] == [
        {"physicalLocation": {"artifactLocation": {"uri": "models/mine/README.md", "uriBaseId": "%SRCROOT%"}}}
    ]
    given = replace(report, card="cards/mine.md")
    assert run_of(given)["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "cards/mine.md"


def test_fingerprints_outlive_lines_and_numbers() -> None:
    before = finding("LIN101", "zoo/atlas: 1,520 of 3,072 coins came up heads", file="README.md", line=5)
    after = replace(before, message="zoo/atlas: 1,519 of 3,072 coins came up heads", line=9, level="note", help="h")
    assert prints(local(before)) == prints(local(after))
    card = Declared(("zoo/atlas", "zoo/other"), None, None, "README.md", 5)
    others = (
        before,
        replace(before, code="LIN107"),
        replace(before, file="other/README.md"),
        replace(before, message="zoo/other: 1,520 of 3,072 coins came up heads"),
    )
    assert len({key for one in others for key in prints(local(one, declared=card))}) == len(others)


def test_two_bases_of_one_line_stay_two_alerts_and_keep_their_names() -> None:
    two = tuple(
        finding("LIN101", f"the weights do not support {base}", file="README.md", line=3) for base in ("a/x", "a/y")
    )
    card = Declared(("a/x", "a/y"), None, None, "README.md", 3)
    first, second = prints(local(*two, declared=card))
    assert first != second
    assert prints(local(*two[::-1], declared=card)) == [second, first]
    # When one is put right the other is still itself.
    assert prints(local(two[1], declared=card)) == [second]
    github = [
        r["partialFingerprints"]["primaryLocationLineHash"] for r in run_of(local(*two, declared=card))["results"]
    ]
    assert len(set(github)) == 2


def test_findings_that_differ_in_nothing_are_told_apart_by_their_order() -> None:
    same = finding("LIN302", "damaged", file="a.safetensors")
    assert len(set(prints(local(same, same, same)))) == 3


def test_the_fingerprint_of_github_is_left_to_its_upload_where_a_line_says_it() -> None:
    (lined,) = run_of(local(finding("LIN205", "m", file="README.md", line=3)))["results"]
    assert list(lined["partialFingerprints"]) == [FINGERPRINT]
    (whole,) = run_of(local(finding("LIN301", "m", file="w.bin")))["results"]
    assert set(whole["partialFingerprints"]) == {FINGERPRINT, "primaryLocationLineHash"}


def unsettled(*bases: str, line: int = 3, **fields: object) -> Report:
    """Models of which the weights decided nothing, all declared in one place."""
    made = [samples.comparison(base=samples.model(base), relation="inconclusive", kind=None) for base in bases]
    declared = Declared(bases, None, None, "README.md", line)
    values: dict[str, Any] = {"folder": "models/mine", "declared": declared, "verdict": "undecided", **fields}
    return replace(samples.report(*made), **values)


def refuted(report: Report, *lines: int) -> Report:
    """The same model when the weights had decided: as ``judge.lineage`` says it, at the line of each base."""
    found = tuple(
        finding("LIN101", f"the weights do not support {one.base.id} as the base: w", file="README.md", line=line)
        for one, line in zip(report.comparisons, lines, strict=True)
    )
    comparisons = tuple(replace(one, relation="unrelated") for one in report.comparisons)
    return replace(report, comparisons=comparisons, findings=found, verdict="fail")


def alerts(report: Report) -> list[tuple[str, str, str]]:
    """What code scanning knows an alert by."""
    return [
        (
            result["ruleId"],
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            result["partialFingerprints"].get("primaryLocationLineHash", "made by the upload"),
        )
        for result in run_of(report)["results"]
    ]


@pytest.mark.parametrize("bases", [("a/x",), ("a/x", "a/y"), ("a/x", "a/y", "b/z")])
@pytest.mark.parametrize("apart", [False, True])
def test_what_is_undecided_keeps_the_alert_of_what_was_refuted(bases: tuple[str, ...], apart: bool) -> None:
    now = unsettled(*bases)
    before = refuted(now, *(4 + i if apart else 3 for i in range(len(bases))))
    assert alerts(now) == alerts(before)
    assert len(set(alerts(now))) == len(bases)
    # One that is settled, for or against, takes nothing from the others.
    half = replace(now, comparisons=(replace(now.comparisons[0], relation="derived"), *now.comparisons[1:]))
    assert alerts(half) == alerts(before)[1:]


def test_an_open_result_accuses_nobody() -> None:
    (result,) = run_of(unsettled("a/x"))["results"]
    assert (result["ruleId"], result["kind"], result["level"]) == ("LIN101", "open", "none")
    text = result["message"]["text"]
    assert text.startswith("Undecided whether the weights support a/x as the base")
    assert text.endswith("This neither confirms nor refutes it.")
    assert result["properties"]["relation"] == "inconclusive"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 3}


@pytest.mark.parametrize("command", ["compare", "scan", "lint"])
def test_only_a_check_has_open_results(command: str) -> None:
    assert run_of(unsettled("a/x", command=command))["results"] == []


def test_an_undecided_base_that_nobody_declared_is_at_the_card() -> None:
    report = replace(unsettled("a/x"), declared=Declared((), None, None, None, None))
    assert alerts(report)[0][:2] == ("LIN101", "models/mine/README.md")
    assert "region" not in run_of(report)["results"][0]["locations"][0]["physicalLocation"]


def test_other_findings_do_not_hide_that_a_comparison_is_open() -> None:
    broken = finding("LIN207", "malformed", file="README.md", line=1)
    results = run_of(unsettled("a/x", findings=(broken,), verdict="fail"))["results"]
    assert [(one["ruleId"], one["kind"]) for one in results] == [("LIN207", "fail"), ("LIN101", "open")]


def test_notes_are_left_out_before_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif_report, "MOST_RESULTS", 50)  # the schema is slow
    notes = tuple(finding("LIN305", "m", file=f"{i}.bin") for i in range(50))
    assert run_of(unsettled("a/x", findings=notes))["results"][0]["kind"] == "open"


@pytest.mark.parametrize(
    ("code", "relation", "numbers"),
    [
        ("LIN101", "unrelated", True),
        ("LIN102", "derived", True),
        ("LIN102", "identical", False),
        ("LIN103", "derived", False),
        ("LIN104", "identical", False),
        ("LIN105", "derived", False),
        ("LIN106", "unrelated", True),
        ("LIN106", "derived", False),
        ("LIN107", "shared-init", True),
        ("LIN108", "derived", True),
        ("LIN109", "derived", True),
        ("LIN205", "derived", False),
    ],
)
def test_only_what_rests_on_a_comparison_has_its_numbers(code: str, relation: Any, numbers: bool) -> None:
    report = samples.report(
        samples.comparison(relation=relation), findings=(finding(code, "zoo/atlas: w", file="README.md", line=3),)
    )
    (result,) = run_of(report)["results"]
    assert ("log10_e" in result["properties"]) is ("exact" in result["properties"]) is numbers


def test_evidence_that_is_not_exact_is_with_the_coins_that_saw_nothing() -> None:
    hidden = samples.disguised().comparisons[0]
    report = samples.report(
        replace(hidden, relation="shared-init"), findings=(finding("LIN107", "zoo/atlas: w", file="README.md"),)
    )
    (result,) = run_of(report)["results"]
    assert result["properties"]["exact"] is False
    assert result["properties"]["calibrated"] == {"log10_value": 168.35, "pairs": 276, "models": 24}
    assert run_of(samples.derived())["properties"]["models"][0]["comparisons"][0]["calibrated"] is None


def test_the_limits_of_the_numbers_are_there() -> None:
    limits = " ".join(run_of(samples.twin())["properties"]["limits"])
    assert "always told apart by calibrated statistics" in limits and "distillation" in limits


def test_a_pair_of_which_nothing_was_claimed_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    report = compare("examples/liar", "examples/base")
    assert (report.verdict, report.comparisons[0].relation) == ("pass", "unrelated")
    (model,) = run_of(report)["properties"]["models"]
    assert "verdict" not in model
    assert run_of(samples.derived())["properties"]["models"][0]["verdict"] == "pass"


def _under(policy: str, folder: Path) -> Report:
    for name in ("liar", "base"):
        shutil.copytree(ROOT / "examples" / name, folder / name)
    (folder / "policy.yml").write_text(f"version: 1\n{policy}\n", encoding="utf-8")
    return check(str(folder / "liar"), bases=[str(folder / "base")], policy=load_policy(str(folder / "policy.yml")))


def test_what_a_policy_silences_is_mentioned(tmp_path: Path) -> None:
    report = _under("levels: {LIN101: off}", tmp_path)
    assert report.verdict == "pass"
    run = run_of(report)
    assert "LIN101" not in [result["ruleId"] for result in run["results"]]
    policy = run["properties"]["models"][0]["policy"]
    assert policy["off"] == ["LIN101"] and policy["file"].endswith("policy.yml")
    assert run_of(samples.derived())["properties"]["models"][0]["policy"] is None


def test_what_a_policy_excepts_is_suppressed_for_its_reason(tmp_path: Path) -> None:
    entry = "{model: liar, codes: [LIN101], reason: before we kept cards, expires: 2999-01-01}"
    results = run_of(_under(f"exceptions: [{entry}]", tmp_path))["results"]
    found = {result["ruleId"]: result.get("suppressions") for result in results}
    assert found.pop("LIN101") == [{"kind": "external", "status": "accepted", "justification": "before we kept cards"}]
    assert found and set(found.values()) == {None}


def test_several_models_are_one_run_and_do_not_mix() -> None:
    one = local(finding("LIN201", "m", file="README.md", line=1))
    other = replace(one, folder="models/other")
    run = run_of(one, samples.derived(), other)
    assert [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]] == [
        "models/mine/README.md",
        "models/other/README.md",
    ]
    assert len(set(prints(one, other))) == 2
    assert len(run["properties"]["models"]) == 3


def test_what_is_too_much_for_github_is_left_out_the_least_first() -> None:
    notes = tuple(finding("LIN305", "m", file=f"{i}.bin") for i in range(MOST_RESULTS))
    run = run_of(local(*notes, finding("LIN301", "the worst", file="w.bin")))
    assert len(run["results"]) == MOST_RESULTS
    assert run["results"][0]["ruleId"] == "LIN301"
    assert run["properties"]["resultsLeftOut"] == 1


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (str(key), *_strings(inner))]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


def test_nothing_a_stranger_wrote_is_obeyed() -> None:
    bad = samples.HOSTILE
    used = PolicyUse(bad, excepted=(Excepted("LIN203", bad, "2999-01-01"),), ignored=(bad,))
    one = replace(samples.comparison(), relation="inconclusive", summary=bad, base=samples.model(bad))
    run = run_of(
        replace(samples.hostile(), settings=Settings(policy=used), comparisons=(*samples.hostile().comparisons, one))
    )
    assert [result["kind"] for result in run["results"]].count("open") == 1
    for text in _strings(run):
        assert len(text) <= 5000
        assert not any(unicodedata.category(sign) in ("Cc", "Cf", "Cs") for sign in text if sign != "\n"), text
        assert "::" not in text and "##[" not in text
    (link,) = run_of(local(finding("LIN201", "[read me](https://evil.example)")))["results"]
    assert "](" not in link["message"]["text"]


@settings(deadline=None, max_examples=30)  # the schema is large
@given(st.text(), st.one_of(st.none(), st.text()), st.one_of(st.none(), st.integers(-1, 10**9)))
def test_any_text_gives_a_valid_log(text: str, file: str | None, line: int | None) -> None:
    one = finding("LIN203", text, file=file, line=line, help=text, suggestion=(text,))
    suspect = samples.model(text, revision=file)
    for folder in (None, text):
        report = replace(
            samples.report(samples.comparison(base=suspect), suspect=suspect, findings=(one,), summary=text),
            folder=folder,
            card=file,
        )
        (result,) = run_of(report)["results"]
        unquote(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], errors="strict")
