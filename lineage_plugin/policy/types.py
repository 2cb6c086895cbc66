"""The values of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Literal

from lineage_plugin.findings import Level

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Verdict
    from lineage_plugin.report import FailOn

__all__ = ["SEVERITY", "Exemption", "IgnoreComments", "LevelOrOff", "Policy"]

LevelOrOff = Literal["error", "warning", "note", "off"]
"""What a policy makes of a finding code; ``off`` leaves its findings out."""

IgnoreComments = Literal["allow", "deny"]
"""Whether a comment in a card may ignore a finding."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """Findings that are excused for some models, for a reason and for a time: an entry of ``exceptions``.

    Attributes:
        model: Pattern of model ids or folders (:func:`~lineage_plugin.policy.matching.matches`).
        codes: The finding codes.
        reason: Why, in one line.
        expires: The last day, in UTC, on which it holds.
        line: Its line in the policy file.
    """

    model: str
    codes: tuple[str, ...]
    reason: str
    expires: date
    line: int


@dataclass(frozen=True, slots=True)
class Policy:
    """What a policy file says.

    Attributes:
        file: The file, as it was named or found; folders of models are matched by their path from its folder.
        bar: As in :class:`~lineage_plugin.options.Options`; None when the file does not say.
        budget: Likewise.
        fail_on: The lowest level of finding that fails; None when the file does not say.
        undecided: What an undecided verdict counts as in the exit code.
        levels: Levels of findings by code.
        allow: Patterns of the bases that may be declared; None: any.
        exceptions: Findings that are excused.
        stricter_only: Whether it may raise levels but lower none, since nobody named the file.
        ignored: Settings of the file that were left out for that reason.
        preset: The preset that the file builds on; what it says is contained in the other fields.
        ignore_comments: Whether findings stay ignored that a comment in the card ignores.
        places: Line and column of what the file itself says, by setting, such as ``levels.LIN205`` or
            ``exceptions.0.codes``; no part of what the policy means.
    """

    file: str = ".lineage.yml"
    bar: float | None = None
    budget: int | None = None
    fail_on: FailOn | None = None
    undecided: Verdict = "undecided"
    levels: Mapping[str, LevelOrOff] = field(default_factory=dict)
    allow: tuple[str, ...] | None = None
    exceptions: tuple[Exemption, ...] = ()
    stricter_only: bool = False
    ignored: tuple[str, ...] = ()
    preset: str | None = None
    ignore_comments: IgnoreComments = "allow"
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict, compare=False, repr=False)


SEVERITY: Mapping[LevelOrOff | Level, int] = {"off": 0, "note": 1, "warning": 2, "error": 3}
"""Which of two levels is the stricter one."""
