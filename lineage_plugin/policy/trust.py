"""A policy that nobody named: it may make a check stricter, and nothing else.

Whoever publishes a model chooses the ``.lineage.yml`` beside it, too. The bar and the budget are left out whichever way
they point: a higher bar confirms less, but also finds fewer undeclared bases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lineage_plugin.findings import CODES
from lineage_plugin.policy.types import SEVERITY, Policy

__all__ = ["only_stricter"]

_LOOSER_FAIL_ON = "never"
_LOOSER_UNDECIDED = "pass"


def only_stricter(policy: Policy) -> Policy:
    """Return what remains of a policy that is not trusted, with the names of what was left out.

    Args:
        policy: The policy.

    Returns:
        Allowed bases, a stricter ``fail-on`` and ``undecided``, that comments in cards do not count, and levels not
        below those of the codes, all of them also by a preset; ``ignored`` names the rest.
    """
    levels = {code: level for code, level in policy.levels.items() if SEVERITY[level] >= SEVERITY[CODES[code].level]}
    return replace(
        policy,
        bar=None,
        budget=None,
        fail_on=None if policy.fail_on == _LOOSER_FAIL_ON else policy.fail_on,
        undecided="undecided" if policy.undecided == _LOOSER_UNDECIDED else policy.undecided,
        levels=levels,
        exceptions=(),
        stricter_only=True,
        ignored=tuple(_ignored(policy, levels)),
    )


def _ignored(policy: Policy, kept: Mapping[str, object]) -> Iterator[str]:
    if policy.bar is not None:
        yield "bar"
    if policy.budget is not None:
        yield "budget"
    if policy.fail_on == _LOOSER_FAIL_ON:
        yield f"fail-on: {policy.fail_on}"
    if policy.undecided == _LOOSER_UNDECIDED:
        yield f"undecided: {policy.undecided}"
    for code, level in policy.levels.items():
        if code not in kept:
            yield f"{code}: {level}"
    if policy.exceptions:
        yield "exceptions"
