"""A policy applied to findings: once, between judgement and report.

The order is fixed. A code that is ``off`` is left out; a finding that a comment in the card ignores stays ignored, or
is taken as if there were no comment; then an exception that holds makes a note of a finding; then the level of the
code counts. What was done is returned beside the findings, for the report to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timezone

from lineage_plugin.card import Declaration
from lineage_plugin.findings import CODES, Finding, Level, finding
from lineage_plugin.judge.types import Excepted, LevelChange, PolicyUse
from lineage_plugin.options import DEFAULT_BAR, Options
from lineage_plugin.policy.matching import matches, names_of
from lineage_plugin.policy.types import SEVERITY, Exemption, Policy
from lineage_plugin.text import one_line

__all__ = ["apply_policy", "options_of"]

_SHOWN_PATTERNS = 5


def options_of(policy: Policy | None) -> Options:
    """Return the choices of a run for which the caller chose nothing but a policy."""
    if policy is None:
        return Options()
    return Options(bar=DEFAULT_BAR if policy.bar is None else policy.bar, budget=policy.budget)


def apply_policy(
    policy: Policy, model: str, declaration: Declaration, findings: Sequence[Finding], *, today: date | None = None
) -> tuple[tuple[Finding, ...], PolicyUse]:
    """Apply a policy to the findings about a model.

    Args:
        policy: The policy.
        model: What the user typed for the model: exceptions are about that name, not about one that a file claims.
        declaration: What the card declares.
        findings: The findings as they were judged.
        today: The day that exceptions are measured by; None: today, in UTC.

    Returns:
        The findings at their levels, those of the policy itself (LIN401, LIN402) last, and what was done.
    """
    today = today or datetime.now(timezone.utc).date()
    names = names_of(model, policy.file) if policy.exceptions else ()
    exemptions = [one for one in policy.exceptions if any(matches(one.model, name) for name in names)]
    holding = [one for one in exemptions if today <= one.expires]
    expired = [one for one in exemptions if today > one.expires]

    kept: list[Finding] = []
    off: dict[str, None] = {}
    excepted: dict[Excepted, None] = {}
    changes: dict[LevelChange, None] = {}
    denied: dict[str, None] = {}
    for found in [*findings, *_not_allowed(policy, declaration), *_expired(policy, expired)]:
        if policy.levels.get(found.code) == "off":
            off[found.code] = None
            continue
        if found.ignored is not None:
            if policy.ignore_comments == "allow":
                kept.append(found)
                continue
            denied[found.code] = None
            found = replace(  # from here on there is no comment
                found, level=found.ignored_level or CODES[found.code].level, ignored=None, ignored_level=None
            )
        exemption = next((one for one in holding if found.code in one.codes), None)
        if exemption is not None:
            excepted[Excepted(found.code, exemption.reason, exemption.expires.isoformat())] = None
            kept.append(_excused(found, exemption))
            continue
        level = _level(policy, found)
        if level != found.level:
            changes[LevelChange(found.code, found.level, level)] = None
        kept.append(replace(found, level=level))
    return tuple(kept), PolicyUse(
        file=policy.file,
        off=tuple(off),
        excepted=tuple(excepted),
        levels=tuple(changes),
        fail_on=policy.fail_on,
        undecided=policy.undecided,
        ignored=policy.ignored,
        preset=policy.preset,
        denied=tuple(denied),
    )


def _level(policy: Policy, found: Finding) -> Level:
    wanted = policy.levels.get(found.code, found.level)
    # Under codes of errors and warnings a note is a remark on something else, such as an indication: not theirs.
    remark = found.level == "note" and CODES[found.code].level != "note"
    lower = SEVERITY[wanted] < SEVERITY[found.level]
    if wanted == "off" or remark or (lower and policy.stricter_only):
        return found.level
    return wanted


def _excused(found: Finding, exemption: Exemption) -> Finding:
    message = f"{found.message} (excepted until {exemption.expires.isoformat()} by the policy: {exemption.reason})"
    return replace(found, level="note", message=message)


def _not_allowed(policy: Policy, declaration: Declaration) -> Iterator[Finding]:
    if policy.allow is None:
        return
    claims = {claim.id: claim for claim in (declaration.adapter, *declaration.bases) if claim is not None}
    shown = ", ".join(policy.allow[:_SHOWN_PATTERNS]) + (", ..." if len(policy.allow) > _SHOWN_PATTERNS else "")
    for claim in claims.values():
        if not any(matches(pattern, claim.id) for pattern in policy.allow):
            yield finding(
                "LIN401",
                f"the policy does not allow {one_line(claim.id, 200)} as a base",
                file=claim.file,
                line=claim.line,
                column=claim.column,
                help=f"Allowed by {one_line(policy.file, 160)}: {shown}.",
            )


def _expired(policy: Policy, expired: Sequence[Exemption]) -> Iterator[Finding]:
    for one in expired:
        yield finding(
            "LIN402",
            f"the exception for {', '.join(one.codes)} expired on {one.expires.isoformat()} ({one.reason})",
            file=policy.file,
            line=one.line,
            help="Remove it, or decide anew and set another date.",
        )
