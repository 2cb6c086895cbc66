"""The action as GitHub runs it: workflows through a real runner, over models of a repository, a Hub and an API."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cmarkgfm
import pytest

from lineage_plugin.report.json_report import schema
from tests.action.runner import ACTION, ROOT, Run, Runner
from tests.action.server import REPOSITORY, TOKEN, GitHubServer
from tests.hub import LocalHub

WORKFLOW = f"""
on: [pull_request, workflow_dispatch]
permissions: {{}}
jobs:
  lineage:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v7
      - id: lineage
        uses: {ACTION}@v1
        with:
          @@
      - if: always()
        run: cp -r "$RUNNER_TEMP/lineage/"report.* . 2>/dev/null; cat report.json || true
"""

HOSTILE = """---
license: "mit|<b>x</b>"
base_model: "examples/base"
base_model_relation: "finetune\\n::error file=README.md,line=1::forged ](https://evil.example/x) @acme/team | a |
  <img src=x onerror=alert(1)> b |"
tags: ["::set-output name=verdict::pass", "</details><script>alert(1)</script>"]
---
::error::forged
::stop-commands::x
"""


@pytest.fixture
def hub(hub: LocalHub) -> LocalHub:
    """A Hub that has the examples under the ids that their cards name."""
    for example in (ROOT / "examples").iterdir():
        if example.is_dir():
            shutil.copytree(example, hub.root / "examples" / example.name)
    return hub


@pytest.fixture
def models(runner: Runner) -> Path:
    """The repository's models, one of them with a hostile card and the liar's weights."""
    folder = runner.repository / "models"
    shutil.copytree(folder / "liar", folder / "hostile")
    (folder / "hostile" / "README.md").write_text(HOSTILE, encoding="utf-8")
    runner.commit("models")
    return folder


def check(runner: Runner, hub: LocalHub, inputs: str = "", **options: object) -> Run:
    environment = {"HF_ENDPOINT": hub.endpoint, **options.pop("environment", {})}  # type: ignore[dict-item]
    text = WORKFLOW.replace("@@", inputs.replace("\n", "\n          ") or "comment: false")
    return runner.run(text, environment=environment, **options)  # type: ignore[arg-type]


def line_of(card: Path, key: str) -> int:
    lines = card.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(key))


def test_a_good_model_passes(runner: Runner, models: Path, hub: LocalHub) -> None:
    run = check(runner, hub, "model: models/honest")
    assert run.ok, run.log
    assert {name: run.outputs[name] for name in ("verdict", "relation", "findings")} == {
        "verdict": "pass",
        "relation": "derived",
        "findings": "LIN205",
    }
    assert float(run.outputs["log10-e"]) > 100
    assert Path(run.outputs["report"]).name == "report.json" and Path(run.outputs["sarif"]).name == "report.sarif"
    assert run.outputs["predicate"] == ""
    (note,) = run.annotations
    assert (
        note[0] == "notice" and note[1]["file"] == "models/honest/README.md" and note[1]["title"].startswith("LIN205")
    )
    assert "PASS" in run.summary.upper() and "examples/base" in run.summary


def test_a_lying_card_fails_on_the_line_that_lies(runner: Runner, models: Path, hub: LocalHub) -> None:
    run = check(runner, hub, "model: models/liar")
    assert not run.ok
    assert (run.outputs["verdict"], run.outputs["relation"]) == ("fail", "unrelated")
    assert run.outputs["findings"].split(",") == ["LIN101", "LIN205"]
    errors = [(place, text) for kind, place, text in run.annotations if kind == "error" and "title" in place]
    ((place, text),) = errors
    assert place["file"] == "models/liar/README.md"
    assert place["line"] == str(line_of(models / "liar" / "README.md", "base_model:"))
    assert place["title"] == "LIN101 base not supported by the weights"
    assert "do not support examples/base" in text and "Correct base_model" in text
    assert "FAIL" in run.summary.upper() and "LIN101" in run.summary and "models/liar" in run.summary


def test_a_hostile_card_fails_and_forges_nothing(runner: Runner, models: Path, hub: LocalHub) -> None:
    run = check(runner, hub, "model: models/hostile")
    assert not run.ok
    assert (run.outputs["verdict"], run.outputs["relation"]) == ("fail", "unrelated")
    assert "LIN101" in run.outputs["findings"] and "LIN203" in run.outputs["findings"]
    for _, place, text in run.annotations:
        assert place.get("title", "").startswith("LIN") or "exit" in text
        assert place.get("file", "models/hostile/README.md") == "models/hostile/README.md"
        assert "\n::" not in text
    shown = cmarkgfm.github_flavored_markdown_to_html(run.summary, options=cmarkgfm.cmark.Options.CMARK_OPT_UNSAFE)
    assert set(re.findall(r'(?:href|src)="(https?://[^/"]+)', shown)) == {"https://github.com"}
    assert not re.search(r"<(?:img|script|a [^>]*evil)", shown)


def test_several_models_are_one_answer(runner: Runner, models: Path, hub: LocalHub) -> None:
    files = "report-file: out/report.json\nsarif-file: out/lineage.sarif\npredicate-file: out/predicate.json"
    run = check(runner, hub, f"model: |\n  models/honest\n  models/twin\n  models/base\n{files}")
    assert not run.ok
    assert (run.outputs["verdict"], run.outputs["relation"]) == ("fail", "shared-init")
    assert run.outputs["findings"].split(",") == ["LIN107", "LIN201", "LIN205"]
    assert (run.outputs["report"], run.outputs["predicate"]) == ("out/report.json", "out/predicate.json")
    for name in ("honest", "twin", "base"):
        assert f"models/{name}" in run.summary


def test_it_finds_what_a_pull_request_changed_and_comments_once(
    runner: Runner, models: Path, hub: LocalHub, github: GitHubServer
) -> None:
    before = runner.commit()
    for name in ("liar", "honest"):
        card = models / name / "README.md"
        card.write_text(card.read_text(encoding="utf-8") + "\nOne more line.\n", encoding="utf-8")
    after = runner.commit()
    payload = {"pull_request": {"number": 7, "base": {"sha": before}, "head": {"sha": after}}}
    variables = {"GITHUB_API_URL": github.address, "GITHUB_REPOSITORY": REPOSITORY}
    for _ in range(2):
        run = check(
            runner,
            hub,
            "comment: true",
            event="pull_request",
            payload=payload,
            environment=variables,
            secrets={"GITHUB_TOKEN": TOKEN},
        )
        assert not run.ok and run.outputs["verdict"] == "fail"
    assert {place["file"] for _, place, _ in run.annotations if "file" in place} == {
        "models/honest/README.md",
        "models/liar/README.md",
    }
    (comment,) = github.comments
    assert (
        "models/liar" in comment["body"] and "models/honest" in comment["body"] and "models/twin" not in comment["body"]
    )
    assert TOKEN not in run.log


def test_nothing_changed_is_a_pass(runner: Runner, models: Path, hub: LocalHub, github: GitHubServer) -> None:
    before = runner.commit()
    (runner.repository / "notes.txt").write_text("hello")
    payload = {"pull_request": {"number": 7, "base": {"sha": before}, "head": {"sha": runner.commit()}}}
    run = check(runner, hub, event="pull_request", payload=payload)
    assert run.ok and run.outputs["verdict"] == "pass" and "no model to check" in run.summary


def test_a_model_of_the_hub_is_read_from_there_with_the_token(runner: Runner, models: Path, hub: LocalHub) -> None:
    run = check(runner, hub, "model: |\n  examples/honest\n  examples/missing", secrets={"HF": "hf_abcdefghijklmnop"})
    assert not run.ok
    assert run.outputs["verdict"] == "unchecked" and run.outputs["relation"] == ""
    assert "- `examples/missing`: " in run.summary and "(exit code 2)" in run.summary


def test_a_wrong_input_is_one_annotation(runner: Runner, models: Path, hub: LocalHub) -> None:
    run = check(runner, hub, "fail-on: errors")
    assert not run.ok
    said = [text for kind, place, text in run.annotations if place.get("title") == "lineage"]
    assert said == ["input fail-on: 'errors' is not one of error, warning, note, never"]


def test_the_report_is_the_json_report(runner: Runner, models: Path, hub: LocalHub) -> None:
    run = check(runner, hub, "model: models/honest")
    text = run.log[run.log.index('{\n  "schema"') :]
    report, _ = json.JSONDecoder().raw_decode(text)
    assert report["schema"] == "lineage-report/1" and report.keys() == schema()["properties"].keys()
