"""The values that pass between a visitor's question and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from lineage_plugin.family.types import Family
    from lineage_plugin.judge.types import Report

__all__ = ["Answer", "Failed", "Failure", "Job", "Kind", "Update"]

Kind: TypeAlias = Literal["compare", "check", "scan", "tree"]
Failure: TypeAlias = Literal[
    "usage", "missing", "denied", "unreachable", "unreadable", "limit", "busy", "cancelled", "defect"
]
"""Why there is no answer: the question is none; there is no such model; it may not be read; the Hub does not answer;
what it answers cannot be used; time, bytes or memory ended; too much is being asked already; it was cancelled; our
fault."""


@dataclass(frozen=True, slots=True)
class Job:
    """A question.

    Attributes:
        kind: ``compare`` a pair, ``check`` a model against its card, ``scan`` the registry for it, or the family
            ``tree``.
        models: What the visitor named, in order, each checked by :func:`lineage_plugin.web.asked.asked`: an id of the
            Hub as ``owner/name[@revision]``, or the name of one of the models that this server offers itself.
    """

    kind: Kind
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """How far a question is.

    Attributes:
        stage: What is being done, a short phrase such as ``reading layers``; ``waiting`` before it begins.
        done: Steps of the stage that are done.
        total: Steps of the stage; 0 when that is not known.
        bytes_read: Bytes of weight files read so far, over all models.
        requests: HTTP requests sent so far.
        coins: Coins that the stage has tossed.
        heads: How many of them fell heads.
        seconds: Seconds since the question was asked.
        ahead: Questions that are answered before this one; 0 once it is at work.
    """

    stage: str
    done: int = 0
    total: int = 0
    bytes_read: int = 0
    requests: int = 0
    coins: int = 0
    heads: int = 0
    seconds: float = 0.0
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer.

    Attributes:
        job: The question.
        result: The report; for ``tree`` the family.
        kept: Whether it is from the cache: the same commits were looked at before.
    """

    job: Job
    result: Report | Family
    kept: bool = False


class Failed(Exception):
    """A question without an answer: what a visitor is told. The package's own errors become one by way of ``failures``.

    Args:
        why: What kind of failure it is.
        message: What happened and what to do, in words for a visitor: no option of the command line, no traceback.

    Attributes:
        why: The kind.
        message: The message.
    """

    def __init__(self, why: Failure, message: str) -> None:
        self.why = why
        self.message = message
        super().__init__(message)
