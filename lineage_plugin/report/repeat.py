"""How a report is made again: the command that repeats the run."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Literal, TypeAlias

from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Comparison, Report

__all__ = ["Repeats", "command", "is_elsewhere"]

Repeats: TypeAlias = Literal["same", "numbers", "registry"]
"""What a command repeats: the report; its numbers alone; the report, if it is given the same registry."""

_OFFERED = re.compile(r"[^/\\:]+:[^/\\]")


def is_elsewhere(id: str) -> bool:
    """Return whether a name means nothing elsewhere: servers of pages call their own models ``folder:name``."""
    return _OFFERED.match(id) is not None


def command(report: Report) -> tuple[str, Repeats]:
    """Return the command that repeats the run, and what it repeats; an empty one when nothing can be repeated.

    Candidates, ancestors and registries are not in the report: ``REGISTRY`` stands for that of a scan. Licences and the
    chain of bases are looked up on the Hub for pages; ``lineage check`` leaves them to ``lineage lint``. A policy that
    nobody named is found again; named, it would count whole.

    Args:
        report: The report.

    Returns:
        The command, and what it repeats.
    """
    repeats: Repeats = "same"
    suspect, settings = report.suspect, report.settings
    # The relatives of a scan are named by the registry.
    bases = () if report.command == "scan" else report.comparisons
    if not (bases or report.command == "scan") or any(map(is_elsewhere, (suspect.id, *(one.base.id for one in bases)))):
        return "", repeats
    words = [suspect.id if report.folder or not suspect.revision else f"{suspect.id}@{suspect.revision}"]
    card = ["--card", report.card] if report.card else []
    if report.command == "compare":
        words = ["compare", *words, _base(bases[0])]
    elif report.command == "scan":
        words, repeats = ["scan", *words, "--registry", "REGISTRY", *card], "registry"
    else:
        words = ["check", *words, *(word for one in bases[:8] for word in ("--base", _base(one))), *card]
        named = report.closest is not None or (report.merge is not None and report.merge.ancestor is not None)
        if named or report.chain or report.licences or len(bases) > 8:
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
