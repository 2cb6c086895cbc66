"""What formats for machines take from a report in the same way."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lineage_plugin.findings import Finding
    from lineage_plugin.judge.types import Report

__all__ = ["bases_named", "moment"]


def bases_named(finding: Finding, report: Report) -> tuple[str, ...]:
    """Return the bases, declared or compared, that the message of a finding names, sorted."""
    words = {word.strip(".,;:()[]\"'`") for word in finding.message.split()}
    known = {*report.declared.bases, *(comparison.base.id for comparison in report.comparisons)}
    return tuple(sorted(name for name in known if name in words))


def moment(created: str) -> datetime:
    """Return the time of a report, in UTC."""
    return datetime.fromisoformat(created.replace("Z", "+00:00")).astimezone(timezone.utc)
