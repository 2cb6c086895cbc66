"""How a report is made again: the command that repeats the run."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Literal

from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Comparison, Report

__all__ = ["command", "is_elsewhere"]

_OFFERED = re.compile(r"[^/\\:]+:[^/\\]")


def is_elsewhere(id: str) -> bool:
    """Return whether a name means nothing elsewhere: servers of pages call their own models ``folder:name``."""
    return _OFFERED.match(id) is not None


def command(report: Report) -> tuple[str, Literal["same", "numbers"]]:
    """Return the command that repeats the run, and what it repeats; an empty one when nothing can be repeated.

    Candidates, ancestors and registries are not in the report. A policy that nobody named is found again; named, it
    would count whole.

    Args:
        report: The report.

    Returns:
        The command, and whether it gives the same report again or its numbers alone.
    """
    repeats: Literal["same", "numbers"] = "same"
    if not report.comparisons or any(map(is_elsewhere, (report.suspect.id, *(c.base.id for c in report.comparisons)))):
        return "", repeats
    suspect, settings = report.suspect, report.settings
    words = [suspect.id if report.folder or not suspect.revision else f"{suspect.id}@{suspect.revision}"]
    if report.command == "compare":
        words = ["compare", *words, _base(report.comparisons[0])]
    else:
        bases = [word for one in report.comparisons[:8] for word in ("--base", _base(one))]
        words = ["check", *words, *bases, *(["--card", report.card] if report.card else [])]
        named = report.closest is not None or (report.merge is not None and report.merge.ancestor is not None)
        if named or report.command == "scan" or len(report.comparisons) > 8:
            repeats = "numbers"
    words += ["--seed", str(settings.seed), "--bar", f"{settings.bar:g}"]
    words += ["--exhaustive"] if settings.exhaustive else []
    words += [] if settings.fingerprints == "auto" else ["--fingerprints", settings.fingerprints]
    words += [] if settings.budget is None else ["--budget", str(settings.budget)]
    if settings.policy is not None and not settings.policy.ignored:
        words += ["--policy", settings.policy.file]
    return " ".join(["lineage", *(shlex.quote(one_line(word, 300)) for word in words)]), repeats


def _base(comparison: Comparison) -> str:
    base = comparison.base
    return f"{base.id}@{base.revision}" if base.revision else base.id
