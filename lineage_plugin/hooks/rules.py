"""What an upload or a push is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.journal import reason_given
from lineage_plugin.options import Options
from lineage_plugin.policy.types import Policy
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.report import FailOn

__all__ = ["Rules", "needs_network", "rules_of"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What an upload or a push is held against.

    Attributes:
        policy: What is made of the findings; None: the policy that is found, as for ``lineage check``.
        bases: Where the bases are, instead of what the cards declare: paths or ids. None: as declared.
        fail_on: The lowest level of finding that blocks; None: as the policy says, else errors.
        options: Choices of the checks.
        override: Why the upload goes on whatever is found; recorded. None: it does not.
        warn_only: Whether what is found is only said.
    """

    policy: Policy | None = None
    bases: tuple[str, ...] = ()
    fail_on: FailOn | None = None
    options: Options = field(default_factory=Options)
    override: str | None = None
    warn_only: bool = False


def rules_of(
    *,
    policy: Policy | str | Path | None = None,
    bases: Sequence[str] | str = (),
    fail_on: FailOn | None = None,
    options: Options | None = None,
    override: str | None = None,
    warn_only: bool = False,
) -> Rules:
    """Return rules as the functions of :mod:`lineage_plugin.hooks` take them.

    Args:
        policy: A policy, or a policy file.
        bases: A path or an id, or several.
        fail_on: As for :class:`Rules`.
        options: Likewise.
        override: Likewise.
        warn_only: Likewise.

    Raises:
        UsageError: When one of them is not what it should be.
    """
    from lineage_plugin import report
    from lineage_plugin.policy.load import load_policy

    if isinstance(policy, str | Path):
        policy = load_policy(str(policy))
    elif not isinstance(policy, Policy | None):
        raise UsageError("policy= takes a Policy or the path of a policy file")
    given = (bases,) if isinstance(bases, str) else tuple(bases)
    if not all(isinstance(base, str) for base in given):
        raise UsageError("bases= takes paths or ids, as texts")
    levels = get_args(report.FailOn)
    if fail_on not in (None, *levels):
        raise UsageError(f"fail_on={one_line(str(fail_on), 40)}: one of {', '.join(levels)}")
    reason_given(override)
    return Rules(policy, given, fail_on, options or Options(), override, warn_only)


def needs_network(rules: Rules) -> None:
    """Refuse rules that keep a check from the network, where what it checks is uploaded.

    Raises:
        UsageError: When they do.
    """
    if rules.options.offline:
        raise UsageError("an upload needs the network, and so does its check: leave out offline")
