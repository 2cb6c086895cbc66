"""Puts the answer where people look: log, annotations, job summary, comment, report files, outputs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from action import commands
from action.comment import MAX_BODY, marker, post
from action.github import Context
from action.inputs import Inputs
from action.models import Selection
from action.summary import summary
from lineage_plugin.errors import UsageError
from lineage_plugin.judge.types import Report
from lineage_plugin.outcome import Outcome, worst
from lineage_plugin.report import render, render_all
from lineage_plugin.report.annotations import KINDS, MOST_OF_A_KIND, Kind, annotation, of_finding
from lineage_plugin.report.output import check_output, write_file
from lineage_plugin.text import one_line

__all__ = ["publish"]

_SUMMARY = 1 << 20
"""Bytes that GitHub shows of the summary of a step; more, and it shows none of them."""
_SUFFIXES = {
    "markdown": "md",
    "html": "html",
    "text": "txt",
    "sarif": "sarif",
    "github": "txt",
    "cyclonedx": "cdx.json",
}


def publish(selection: Selection, outcomes: Sequence[Outcome], inputs: Inputs, context: Context, log: TextIO) -> None:
    """Tell everybody.

    Args:
        selection: The models, and why these.
        outcomes: What came of them.
        inputs: What the workflow asks for.
        context: The run.
        log: The log of the step.

    Raises:
        UsageError: When a report file cannot be written.
    """
    reports = [outcome.report for outcome in outcomes if outcome.report is not None]
    files = _write_reports(reports, inputs, context)
    _log(outcomes, log)
    _annotate(selection, outcomes, log)
    _summarise(selection, outcomes, context)
    body = summary(selection, outcomes, context, MAX_BODY - 1024)
    complaints = any(outcome.code or _is_noticed(outcome.report) for outcome in outcomes)
    mark = marker(context, inputs.models)
    said = post(context, mark, body, mode=inputs.comment, models=len(outcomes), findings=complaints)
    if said:
        log.write(f"{one_line(said, 300)}\n")
    commands.write_outputs(context.output, {**_outputs(outcomes), **files})


def _is_noticed(report: Report | None) -> bool:
    return report is not None and any(found.level != "note" for found in report.findings)


def _write_reports(reports: Sequence[Report], inputs: Inputs, context: Context) -> dict[str, str]:
    """Write the report files, and return their paths by output."""
    suffix = _SUFFIXES.get(inputs.format, "json")
    wanted = {
        "report": (inputs.format, inputs.report_file or str(context.temporary / f"report.{suffix}")),
        "sarif": ("sarif", inputs.sarif_file or str(context.temporary / "report.sarif")),
        "predicate": ("predicate", inputs.predicate_file),
    }
    written = {}
    for output, (format, path) in wanted.items():
        if path is not None:
            _prepare(Path(path), f"input {output}-file", context)
            write_file(Path(path), render_all(reports, format, width=100).encode("utf-8", "replace"))
            written[output] = path
    return written


def _prepare(path: Path, what: str, context: Context) -> None:
    """Make the folder of a report file, unless what was checked out leads the way elsewhere.

    Raises:
        UsageError: When a part of the path below the workspace is a link, or the place is a model's or no place at all.
    """
    whole = Path(os.path.abspath(path))  # noqa: PTH100  # links are what is looked for
    if whole.is_relative_to(context.workspace):
        parts = whole.relative_to(context.workspace).parts
        for number in range(1, len(parts) + 1):
            if context.workspace.joinpath(*parts[:number]).is_symlink():
                link = one_line("/".join(parts[:number]), 200)
                raise UsageError(f"{what}: {link} is a link of the repository, which may lead anywhere")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{what}: {one_line(path, 200)}: {error.strerror}") from None
    check_output(str(path), what)


def _log(outcomes: Sequence[Outcome], log: TextIO) -> None:
    for outcome in outcomes:
        with commands.group(log, f"{outcome.target.name}: {_word(outcome)}"), commands.inert(log):
            if outcome.report is None:
                log.write(f"error: {one_line(outcome.problem, 500)}\n")
            else:
                log.write(render(outcome.report, "text", color=not os.environ.get("NO_COLOR"), width=110))


def _word(outcome: Outcome) -> str:
    return "could not be checked" if outcome.report is None else outcome.report.verdict


def _annotate(selection: Selection, outcomes: Sequence[Outcome], log: TextIO) -> None:
    """Annotate the lines of cards that findings are about, the gravest first, as many as GitHub shows."""
    said: dict[Kind, list[str]] = {"error": [], "warning": [], "notice": []}
    for notice in selection.notices:
        said["warning"].append(annotation("warning", [notice.message], title=notice.title, file=notice.file))
    for outcome in outcomes:
        if outcome.report is None:
            problem = [f"{one_line(outcome.target.name, 200)} could not be checked: {outcome.problem}"]
            said["error"].append(annotation("error", problem, title="lineage"))
        else:
            for found in outcome.report.findings:
                said[KINDS[found.level]].append(of_finding(found, outcome.report))
    for commands_of_kind in said.values():
        for command in commands_of_kind[:MOST_OF_A_KIND]:
            log.write(f"{command}\n")
    left = sum(max(0, len(of_kind) - MOST_OF_A_KIND) for of_kind in said.values())
    if left:
        log.write(
            f"{left} more annotations are not shown, since GitHub shows {MOST_OF_A_KIND} of a kind; see the summary.\n"
        )


def _summarise(selection: Selection, outcomes: Sequence[Outcome], context: Context) -> None:
    if context.summary is not None:
        # The file may hold what earlier steps wrote; the limit is on this step's own.
        with context.summary.open("a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(summary(selection, outcomes, context, _SUMMARY - 1024))


def _outputs(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return the outputs that are about the answer; of several models those of the one that decides."""
    verdicts = {outcome.verdict for outcome in outcomes}
    verdict = next((word for word in ("fail", "unchecked", "undecided") if word in verdicts), "pass")
    deciding = worst(outcomes)
    comparisons = () if deciding is None or deciding.report is None else deciding.report.comparisons
    codes = {
        found.code: list(KINDS).index(found.level)
        for outcome in outcomes
        if outcome.report is not None
        for found in sorted(outcome.report.findings, key=lambda found: -list(KINDS).index(found.level))
    }
    first = comparisons[0] if comparisons else None
    return {
        "verdict": verdict,
        "relation": "" if first is None else first.relation,
        "log10-e": "" if first is None else repr(float(first.evidence.log10_e)),
        "findings": ",".join(sorted(codes, key=lambda code: (codes[code], code))),
    }
