"""What the action writes: within GitHub's limits, the gravest first, and nowhere but where it was told to."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from action.github import Context
from action.inputs import Inputs
from action.models import Notice, Selection
from action.publish import publish
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import finding
from lineage_plugin.outcome import Outcome
from lineage_plugin.targets import Target
from tests.action.server import GitHubServer
from tests.report import samples

NOTHING = Selection((), "Why.")


@pytest.fixture(autouse=True)
def here(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(context.workspace)


def named(name: str, *, lies: bool = False, findings: int = 1) -> Outcome:
    report = samples.unrelated() if lies else samples.derived()
    suspect = replace(report.suspect, id=name)
    found = (
        tuple(finding("LIN101", f"number {n}", file="README.md", line=n + 1) for n in range(findings)) if lies else ()
    )
    report = replace(report, suspect=suspect, findings=found, folder=name, summary=f"{name} it is.")
    return Outcome(Target(name), 1 if lies else 0, report)


def written(context: Context, outcomes: list[Outcome], inputs: Inputs | None = None, **options: object) -> str:
    log = io.StringIO()
    publish(replace(NOTHING, **options), outcomes, inputs or Inputs(comment="true"), context, log)  # type: ignore[arg-type]
    return log.getvalue()


def test_of_many_models_the_failing_one_comes_first(context: Context, github: GitHubServer) -> None:
    outcomes = [*(named(f"models/m{n}") for n in range(150)), named("models/liar", lies=True)]
    written(context, outcomes)
    (comment,) = github.comments
    assert len(comment["body"]) <= 65_536
    assert "1 of 151 models fails" in comment["body"].splitlines()[1]
    assert "`models/liar`" in comment["body"] and "LIN101" in comment["body"]
    assert context.summary is not None and context.output is not None
    summary = context.summary.read_text(encoding="utf-8")
    assert len(summary.encode()) <= 1 << 20 and summary.index("models/liar") < summary.index("models/m0")
    report = json.loads((context.temporary / "report.json").read_text(encoding="utf-8"))
    assert report["schema"] == "lineage-reports/1" and len(report["reports"]) == 151
    assert "fail" in context.output.read_text(encoding="utf-8")


def test_github_shows_ten_of_a_kind_and_the_log_says_so(context: Context) -> None:
    log = written(context, [named("models/liar", lies=True, findings=25)])
    assert sum(line.startswith("::error ") for line in log.splitlines()) == 10
    assert "15 more annotations are not shown" in log


def test_what_the_change_says_of_the_rules_stands_on_top(context: Context, github: GitHubServer) -> None:
    notice = Notice("rules/<b>|.yml", "lineage policy changed", "Review it first.")
    log = written(context, [named("models/a")], notices=(notice,))
    assert log.count("::warning file=rules/<b>|.yml,title=lineage policy changed::Review it first.") == 1
    (comment,) = github.comments
    assert "**Lineage policy changed** (`rules/<b>|.yml`): Review it first." in comment["body"].splitlines()[3]
    written(context, [], notices=(notice,))
    assert "policy changed" in github.comments[0]["body"] and "no model to check" in github.comments[0]["body"]


@pytest.mark.parametrize("name", ["out/report.json", "report.json", "deep/out/report.json"])
def test_links_of_the_repository_lead_no_report_elsewhere(context: Context, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    link = context.workspace / name
    if "/" in name:
        link = link.parent
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "outside" if "/" in name else tmp_path / "outside" / "profile")
    for inputs in (Inputs(report_file=name), Inputs(sarif_file=name), Inputs(predicate_file=name)):
        with pytest.raises(UsageError, match="is a link of the repository"):
            written(context, [named("models/a")], inputs)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_report_takes_no_models_place(context: Context) -> None:
    (context.workspace / "README.md").write_text("# Mine\n")
    with pytest.raises(UsageError, match=r"input report-file README\.md: would overwrite a file of a model"):
        written(context, [named("models/a")], Inputs(report_file="README.md"))


def test_a_folder_for_the_report_is_made(context: Context) -> None:
    written(context, [named("models/a")], Inputs(report_file="a/b/report.md", format="markdown"))
    assert "models/a" in (context.workspace / "a" / "b" / "report.md").read_text(encoding="utf-8")


def test_several_wrong_models_are_counted(context: Context) -> None:
    outcomes = [
        named("a"),
        named("b", lies=True),
        Outcome(Target("c"), 4, None, "c: the Hub is away"),
        Outcome(Target("d"), 2, None, "x"),
    ]
    written(context, outcomes)
    assert context.summary is not None
    summary = context.summary.read_text(encoding="utf-8")
    assert summary.startswith("### Lineage: 1 of 4 models fails, 2 could not be checked\n")
    assert "- `c`: the Hub is away (exit code 4)" in summary
