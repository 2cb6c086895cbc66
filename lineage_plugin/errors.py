"""The exceptions of the package, one tree.

::

    LineageError                  exit code 2
    ├── UsageError                 the call itself is wrong
    ├── InputError                 a file, card or server answer cannot be used (carries a finding code)
    │   ├── UnreadableCheckpoint   LIN302: damaged or inconsistent tensor file
    │   ├── UnsafeCheckpoint       LIN301: pickle
    │   ├── UnsupportedEncoding    LIN303: a dtype or quantisation that is not decoded
    │   └── BudgetExceeded         the byte budget would be exceeded
    ├── HubError                   exit code 4
    │   ├── HubNotFound            no such repository, revision or file (exit code 2)
    │   ├── HubDenied              gated, private or unauthorised
    │   └── HubUnreachable         network failure, rate limit or server errors that outlast the retries
    └── UploadBlocked              an upload was stopped before weights left this machine (the exit code of the check)

Every message is one line: which file or id, what is wrong, what to do; that of a blocked upload has a line a model.
None contains a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report

__all__ = [
    "BudgetExceeded",
    "HubDenied",
    "HubError",
    "HubNotFound",
    "HubUnreachable",
    "InputError",
    "LineageError",
    "UnreadableCheckpoint",
    "UnsafeCheckpoint",
    "UnsupportedEncoding",
    "UploadBlocked",
    "UsageError",
]


class LineageError(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        exit_code: The exit code that the command line answers with.
    """

    exit_code: int = 2


class UsageError(LineageError):
    """The call itself is wrong: an id that is no id, an option out of range."""


class InputError(LineageError):
    """An input cannot be used.

    Args:
        where: File, folder or model id.
        problem: What is wrong with it, lower case, without a full stop.
        remedy: What the user can do, a full sentence; may be empty.

    Attributes:
        code: The finding code under which the problem is reported.
    """

    code: ClassVar[str] = "LIN302"

    def __init__(self, where: str, problem: str, remedy: str = "") -> None:
        self.where = where
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{where}: {problem}" + (f". {remedy}" if remedy else ""))


class UnreadableCheckpoint(InputError):
    """A tensor file is damaged, truncated or contradicts itself."""


class UnsafeCheckpoint(InputError):
    """The only weights found are pickles, which run code when loaded."""

    code: ClassVar[str] = "LIN301"


class UnsupportedEncoding(InputError):
    """A tensor is stored in an encoding that is not decoded."""

    code: ClassVar[str] = "LIN303"


class BudgetExceeded(InputError):
    """Reading on would exceed the byte budget."""


class HubError(LineageError):
    """The Hub did not deliver what was asked for.

    Args:
        repo: The id of the repository.
        problem: What happened, lower case, without a full stop.
        remedy: What the user can do, a full sentence; may be empty.
    """

    exit_code = 4

    def __init__(self, repo: str, problem: str, remedy: str = "") -> None:
        self.repo = repo
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{repo}: {problem}" + (f". {remedy}" if remedy else ""))


class HubNotFound(HubError):
    """No such repository, revision or file."""

    exit_code = 2


class HubDenied(HubError):
    """The repository is gated or private, or the token is not accepted."""


class HubUnreachable(HubError):
    """The network or the server failed, and retrying did not help."""


class UploadBlocked(LineageError):
    """An upload was stopped, by :mod:`lineage_plugin.hooks`, before weights left this machine.

    Args:
        repo: The repository that the files were to go to.
        reasons: Why, a line a model; the gravest first.
        reports: The reports on all models that were checked; a model that could not be checked has none.
        report: The report that decided; None when what decided is that there is none.
        exit_code: That of the gravest: 1 findings, 2 unreadable, 3 undecided, 4 the Hub could not be reached.
        remedy: What the user can do, full sentences.
        sent: What had left this machine by then.

    Attributes:
        repo: The repository.
        reasons: Why.
        reports: The reports.
        report: The one that decided.
        remedy: What the user can do.
        sent: What had left.
    """

    def __init__(
        self,
        repo: str,
        reasons: Sequence[str],
        reports: Sequence[Report] = (),
        *,
        report: Report | None = None,
        exit_code: int = 1,
        remedy: str = "",
        sent: str = "no weights were sent",
    ) -> None:
        self.repo = repo
        self.reasons = tuple(reasons)
        self.reports = tuple(reports)
        self.report = report
        self.exit_code = exit_code
        self.remedy = remedy
        self.sent = sent
        lines = [f"upload to {repo} blocked, {sent}", *(f"  {reason}" for reason in reasons)]
        super().__init__("\n".join([*lines, *([remedy] if remedy else [])]))

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders, as those of data-parallel trainers do.
        named = {name: getattr(self, name) for name in ("report", "exit_code", "remedy", "sent")}
        return partial(UploadBlocked, **named), (self.repo, self.reasons, self.reports)
