"""The findings as annotations of a pull request: for a step of a GitHub workflow that runs the command itself.

Each finding is a workflow command, the gravest first, and each model one plain line above them. Everything a model says
passes through :func:`~lineage_plugin.text.one_line`, so that none of it can be a command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lineage_plugin.findings import gravest_first
from lineage_plugin.judge.types import Report
from lineage_plugin.report import outline, phrases
from lineage_plugin.report.annotations import KINDS, MOST_OF_A_KIND, of_finding

__all__ = ["render", "render_all"]


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the findings of a report as annotations.

    Args:
        report: The report.
        color: Ignored.
        width: Ignored.
        unicode: Ignored.

    Returns:
        A line that says the answer, then a line a finding.
    """
    return render_all((report,))


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the findings on several models as annotations, those that the most depends on first."""
    found = [(finding, report) for report in reports for finding in report.findings]
    places = {id(finding): place for place, finding in enumerate(gravest_first(finding for finding, _ in found))}
    # Of the notes, those that somebody has dealt with already come last.
    found.sort(key=lambda one: (one[0].ignored is not None, places[id(one[0])]))
    kinds = Counter(KINDS[finding.level] for finding, _ in found)
    left = sum(max(0, number - MOST_OF_A_KIND) for number in kinds.values())
    lines = [*map(_answer, reports), *(of_finding(finding, report) for finding, report in found)]
    if left:
        lines.append(
            f"GitHub shows {MOST_OF_A_KIND} annotations of a kind for each step: {left} of these are not among them."
        )
    return "\n".join(lines) + "\n"


def _answer(report: Report) -> str:
    counted = outline.counted(report.findings)
    return f"{outline.headline(report).word}: {phrases.summary(report)} {f'{counted}.' if counted else 'No findings.'}"
