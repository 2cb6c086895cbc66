"""The registry of formats and the exit code of a report."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lineage_plugin.errors import UsageError
from lineage_plugin.findings import Finding, Level
from lineage_plugin.judge.types import Report, Verdict
from lineage_plugin.report import FailOn, exit_code, formats, render
from tests.report import samples


def report_with(verdict: Verdict, *levels: Level) -> Report:
    return samples.report(verdict=verdict, findings=tuple(Finding("LIN101", level, "m") for level in levels))


@pytest.mark.parametrize(
    ("verdict", "levels", "fail_on", "code"),
    [
        ("pass", (), "note", 0),
        ("pass", ("note",), "error", 0),
        ("pass", ("note",), "warning", 0),
        ("pass", ("note",), "note", 1),
        ("pass", ("note", "warning"), "error", 0),
        ("pass", ("note", "warning"), "warning", 1),
        ("fail", ("error",), "error", 1),
        ("fail", ("error",), "note", 1),
        ("fail", ("error",), "never", 0),
        ("undecided", (), "error", 3),
        ("undecided", ("warning",), "error", 3),
        ("undecided", ("warning",), "warning", 1),
        ("undecided", ("error",), "error", 1),
        ("undecided", ("error",), "never", 3),
    ],
)
def test_exit_codes(verdict: Verdict, levels: tuple[Level, ...], fail_on: FailOn, code: int) -> None:
    assert exit_code(report_with(verdict, *levels), fail_on) == code


def test_every_listed_format_renders() -> None:
    assert formats() == ("cyclonedx", "github", "html", "json", "markdown", "predicate", "sarif", "text")
    for name in formats():
        rendered = render(samples.derived(), name)
        assert rendered.endswith("\n")
        assert not rendered.endswith("\n\n")


@pytest.mark.parametrize("name", ["xml", "../x", "output", "text_report", ""])
def test_other_formats_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match="cyclonedx, github, html, json"):
        render(samples.derived(), name)


def test_a_format_is_imported_when_asked_for_and_not_before() -> None:
    script = (
        "import sys; import lineage_plugin.report as r; r.formats();"
        "print([m for m in ('rich', 'numpy', 'json', 'lineage_plugin.report.text_report') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
