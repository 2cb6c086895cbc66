"""What formats for machines take from a report in the same way."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from lineage_plugin.report.outline import is_pair
from lineage_plugin.report.phrases import UNSEEN

if TYPE_CHECKING:
    from lineage_plugin.findings import Finding
    from lineage_plugin.judge.types import Report, Verdict

__all__ = ["DESCENT", "LIMITS", "bases_named", "moment", "verdict_on"]

DESCENT = (
    "exact is about the dependence of the models alone; derived and shared-init are always told apart by calibrated "
    "statistics."
)
"""What no reader may take ``exact`` for."""

LIMITS = (
    "log10_e is the decimal logarithm of an e-value, which bounds a probability and is none.",
    "derived means that both models share learned weights: one descends from the other, or both from a third.",
    DESCENT,
    "Who came first, calibrated evidence and the share kept are estimates.",
    UNSEEN,
)
"""What no reader may take the numbers for."""


def bases_named(finding: Finding, report: Report) -> tuple[str, ...]:
    """Return the bases, declared or compared, that the message of a finding names, sorted."""
    words = {word.strip(".,;:()[]\"'`") for word in finding.message.split()}
    known = {*report.declared.bases, *(comparison.base.id for comparison in report.comparisons)}
    return tuple(sorted(name for name in known if name in words))


def verdict_on(report: Report) -> Verdict | None:
    """Return the verdict; None for a pair of which nothing was claimed, so that nothing can have passed."""
    return None if report.verdict == "pass" and is_pair(report) else report.verdict


def moment(created: str) -> datetime:
    """Return the time of a report, in UTC."""
    return datetime.fromisoformat(created.replace("Z", "+00:00")).astimezone(timezone.utc)
