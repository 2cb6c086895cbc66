"""Annotations, and the report that is made of them: real commands, and none that a stranger wrote."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin.findings import finding
from lineage_plugin.judge.types import Report
from lineage_plugin.report import render, render_all
from lineage_plugin.report.annotations import annotation
from tests.report import samples

COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::([^\r\n]*)")


def lines_of(*reports: Report) -> list[str]:
    return render_all(reports, "github").splitlines()


def test_an_annotation_is_one_line_with_everything_escaped() -> None:
    said = annotation("error", ["100% wrong: a, b", "second"], title="LIN101: x, y", file="a,b:c%d/README.md", line=3)
    assert said == (
        "::error file=a%2Cb%3Ac%25d/README.md,line=3,endLine=3,title=LIN101%3A x%2C y::100%25 wrong: a, b%0Asecond"
    )


def test_without_a_file_there_is_no_line() -> None:
    assert annotation("notice", ["m"], title="t", line=3) == "::notice title=t::m"


@given(st.text(), st.text(), st.text())
def test_nothing_breaks_out(text: str, title: str, file: str) -> None:
    said = annotation("warning", [text, text], title=title, file=file, line=1)
    assert "\n" not in said and "\r" not in said
    properties, _, data = said.removeprefix("::warning ").partition("::")
    assert "::" not in data
    assert [item.split("=")[0] for item in properties.split(",")] == ["file", "line", "endLine", "title"]


def test_a_column_stands_beside_its_line() -> None:
    said = annotation("notice", ["m"], title="t", file="f", line=3, column=7)
    assert said == "::notice file=f,line=3,endLine=3,col=7,title=t::m"
    assert annotation("notice", ["m"], title="t", column=7) == "::notice title=t::m"


def test_every_finding_is_an_annotation_below_the_answer_and_what_is_ignored_comes_last() -> None:
    assert lines_of(samples.linted()) == [
        "CARD ONLY: models/mine: the card was read. 1 warning, 2 notes.",
        "::warning file=models/mine/README.md,line=8,endLine=8,col=22,title=LIN203 unknown relation value"
        "::fine-tuned is not known%0AUse finetune.",
        "::notice file=models/mine/README.md,line=7,endLine=7,col=13,title=LIN205 base not pinned to a revision"
        "::base zoo/atlas is not pinned",
        "::notice file=models/mine/README.md,line=9,endLine=9,title=LIN210 relation does not fit the files"
        "::It reads like an adapter%0ATaken back by the card: our own words",
    ]


def test_without_findings_there_is_the_answer_alone() -> None:
    (said,) = lines_of(samples.derived())
    assert said.startswith("PASS: ") and said.endswith("No findings.") and not said.startswith("::")


def test_the_worst_of_all_models_comes_first_and_what_github_drops_is_said() -> None:
    notes = tuple(finding("LIN205", f"n{number}", file="README.md", line=1) for number in range(12))
    models = [replace(samples.linted(), folder=f"m{number}", findings=notes) for number in range(2)]
    liar = replace(samples.unrelated(), folder="liar")
    said = lines_of(*models, liar)
    kinds = [match[1] for line in said if (match := COMMAND.fullmatch(line))]
    assert kinds[: len(liar.findings)].count("error") == sum(found.level == "error" for found in liar.findings) > 0
    assert kinds == sorted(kinds, key=["error", "warning", "notice"].index)
    assert kinds.count("notice") >= 24
    left = kinds.count("notice") - 10
    assert said[-1] == f"GitHub shows 10 annotations of a kind for each step: {left} of these are not among them."
    assert [line.partition(":")[0] for line in said[:3]] == ["CARD ONLY", "CARD ONLY", "FAIL"]


def test_a_file_outside_the_repository_is_not_named_as_a_place() -> None:
    report = replace(samples.linted(), folder="/somewhere/else")
    assert all(",line=" not in line and "file=" not in line for line in lines_of(report))


def test_a_hostile_model_commands_nothing() -> None:
    said = render(samples.hostile(), "github").splitlines()
    for line in said[1:]:
        match = COMMAND.fullmatch(line)
        assert match is not None, line
        assert "::" not in match[3] and "##[" not in line and "\x1b" not in line
    assert "::" not in said[0] and len(said) == 1 + len(samples.hostile().findings)
