"""From findings to the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import Comparison, Verdict

__all__ = ["verdict_of"]

_UNSEEN = frozenset({"LIN202", "LIN207", "LIN301", "LIN302", "LIN303"})
"""Codes of errors that leave a declaration, a base or the model itself unread."""


def verdict_of(
    findings: Sequence[Finding], comparisons: Sequence[Comparison], judged: Sequence[Finding] | None = None
) -> Verdict:
    """Return ``fail`` for any error, else ``undecided`` when something was not or could not be compared, else ``pass``.

    Args:
        findings: The findings at the levels that count.
        comparisons: The comparisons.
        judged: The findings before a policy changed their levels; None: the same. A policy may say that weights which
            could not be read are no error, and a comment in the card that a base which could not be looked up is to
            be ignored; that they were compared neither can say.
    """
    if any(found.level == "error" for found in findings):
        return "fail"
    levels = [
        (found.code, found.ignored_level or found.level)
        for found in (findings if judged is None else judged)
        if found.code in _UNSEEN
    ]
    unseen = any(level == "error" or (code, level) == ("LIN202", "warning") for code, level in levels)
    if unseen or any(comparison.relation == "inconclusive" for comparison in comparisons):
        return "undecided"
    return "pass"
