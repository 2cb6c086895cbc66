"""What an upload or a push is held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lineage_plugin.options import Options

if TYPE_CHECKING:
    from lineage_plugin.policy.types import Policy
    from lineage_plugin.report import FailOn

__all__ = ["Rules"]


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
