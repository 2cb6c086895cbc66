"""Findings: what a check has to say about a model, and the stable codes it says it under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from lineage_plugin._links import DOCS
from lineage_plugin.fixes import Fix

__all__ = ["CODES", "Finding", "Level", "Rule", "finding", "gravest_first", "nearest_code"]

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A finding code.

    Attributes:
        code: ``LIN`` and three digits; never reused.
        title: What the finding says, in a few words.
        level: The level it is reported at by default.
    """

    code: str
    title: str
    level: Level

    @property
    def help_uri(self) -> str:
        """The page that explains the code."""
        return f"{DOCS}/rules/{self.code}.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Attributes:
        code: A key of :data:`CODES`.
        level: ``error``, ``warning`` or ``note``.
        message: One sentence: what is the case.
        file: The file it is about, relative to the model, or None.
        line: Line in that file, from 1, or None.
        help: What to do about it.
        suggestion: Lines for the card's front matter, ready to paste.
        column: Character in the line, from 1, or None.
        fix: What ``lineage lint --fix`` would do about it, or None.
        ignored: The reason that the card gives for taking it back, in a comment or where a rule looks for it, or None;
            its level is then ``note``.
        ignored_level: The level that it had before it was ignored, or None.
    """

    code: str
    level: Level
    message: str
    file: str | None = None
    line: int | None = None
    help: str = ""
    suggestion: tuple[str, ...] = ()
    column: int | None = None
    fix: Fix | None = None
    ignored: str | None = None
    ignored_level: Level | None = None

    @property
    def fixable(self) -> bool:
        """Whether ``lineage lint --fix`` repairs it: not what its author accepts as it is."""
        return self.fix is not None and self.ignored is None


def finding(
    code: str,
    message: str,
    *,
    file: str | None = None,
    line: int | None = None,
    help: str = "",
    level: Level | None = None,
    suggestion: tuple[str, ...] = (),
    column: int | None = None,
    fix: Fix | None = None,
) -> Finding:
    """Make a finding at the code's default level.

    Args:
        code: A key of :data:`CODES`.
        message: One sentence.
        file: The file it is about.
        line: Line in that file, from 1.
        help: What to do about it.
        level: Another level than the default.
        suggestion: Lines for the card's front matter.
        column: Character in the line, from 1.
        fix: What would repair it.

    Returns:
        The finding.
    """
    return Finding(code, level or CODES[code].level, message, file, line, help, suggestion, column, fix)


def gravest_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by level, errors first; those of a level keep their order."""
    levels = get_args(Level)
    return sorted(findings, key=lambda found: levels.index(found.level))


def nearest_code(text: str) -> str | None:
    """Return the finding code that a text was perhaps meant for, or None."""
    from difflib import get_close_matches

    near = get_close_matches(text[:40].strip().upper(), CODES, n=1)
    return near[0] if near else None


CODES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule("LIN101", "base not supported by the weights", "error"),
        Rule("LIN102", "undeclared base found", "error"),
        Rule("LIN103", "relation differs from the declared one", "warning"),
        Rule("LIN104", "weight files identical to those of another model", "warning"),
        Rule("LIN105", "another family member looks like a better parent", "warning"),
        Rule("LIN106", "a declared merge parent left no trace", "warning"),
        Rule("LIN107", "a shared start, not what the base learned", "error"),
        Rule("LIN108", "relabelled weights", "warning"),
        Rule("LIN109", "part of the model replaced", "warning"),
        Rule("LIN201", "no base declared", "warning"),
        Rule("LIN202", "declared base not opened", "error"),
        Rule("LIN203", "unknown relation value", "warning"),
        Rule("LIN204", "another file names another base", "warning"),
        Rule("LIN205", "base not pinned to a revision", "note"),
        Rule("LIN206", "licence missing, unknown or at odds with the base's", "warning"),
        Rule("LIN207", "malformed front matter", "error"),
        Rule("LIN208", "a model that is its own base", "error"),
        Rule("LIN209", "base superseded by a newer model", "note"),
        Rule("LIN210", "relation does not fit the files", "warning"),
        Rule("LIN211", "configuration does not fit the base", "warning"),
        Rule("LIN212", "card of a dataset or a Space", "warning"),
        Rule("LIN213", "ignore comment without effect", "warning"),
        Rule("LIN214", "template not filled in", "note"),
        Rule("LIN301", "pickle checkpoint", "error"),
        Rule("LIN302", "unreadable or inconsistent tensor file", "error"),
        Rule("LIN303", "unsupported encoding", "error"),
        Rule("LIN304", "no comparable units", "warning"),
        Rule("LIN305", "other weights not looked at", "note"),
        Rule("LIN401", "base not allowed by the policy", "error"),
        Rule("LIN402", "an exception of the policy has expired", "warning"),
    )
}
