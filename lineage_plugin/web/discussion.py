"""The one discussion of a model's repository that holds the newest report on it.

It is known again by what nobody else can write: its first comment is by the account that the token belongs to, and
begins with :data:`MARK`. The line below, not shown either, says which commit the report is about, so a restart, a
second server, or an event that the Hub delivers once more find what is there and write nothing new::

    <!-- lineage-plugin webhook -->
    <!-- commit=3f8a... verdict=fail version=1.0.0 -->
    Checked by lineage-plugin ...

What maintainers do to it is respected. Closed, it is kept up to date without a word and opened again only when the
verdict gets worse than it was in the report before. With its first comment hidden, nothing is written any more.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from lineage_plugin._links import DOCS
from lineage_plugin._version import __version__
from lineage_plugin.checkpoint.transport import client_errors, network_problem
from lineage_plugin.errors import HubDenied, HubError, HubNotFound, HubUnreachable
from lineage_plugin.report import exit_code
from lineage_plugin.report.markdown_report import fit
from lineage_plugin.report.markup import code, text
from lineage_plugin.report.phrases import summary
from lineage_plugin.web.aside import aside

if TYPE_CHECKING:
    from huggingface_hub import Discussion, DiscussionWithDetails, HfApi

    from lineage_plugin.judge.types import Report, Verdict

__all__ = [
    "LONGEST",
    "MARK",
    "TITLE",
    "Found",
    "Hub",
    "State",
    "asking",
    "find",
    "verdict_of",
    "worth_saying",
    "write",
]

T = TypeVar("T")

MARK = "<!-- lineage-plugin webhook -->"
"""First line of the discussion."""
TITLE = "Lineage report"
LONGEST = 60_000
"""Bytes of a comment. The Hub takes 65,536 characters; what it makes of other than ASCII is not documented."""

_STATE = re.compile(r"<!-- commit=([0-9a-f]{40}) verdict=(pass|undecided|fail) version=(\S{1,40}) -->")
_MOST = 50
"""Discussions of the account in one repository that are looked through."""
_POLL = 0.25
_GRAVITY: dict[str, int] = {"pass": 0, "undecided": 1, "fail": 2}


@dataclass(frozen=True, slots=True)
class State:
    """What the report in a discussion is about.

    Attributes:
        commit: The commit that was checked.
        verdict: What it came to.
        version: The version of this package that wrote it.
    """

    commit: str
    verdict: str
    version: str = __version__

    def line(self) -> str:
        """Return the line that holds it; it is not shown."""
        return f"<!-- commit={self.commit} verdict={self.verdict} version={self.version} -->"


@dataclass(frozen=True, slots=True)
class Found:
    """The discussion that is there.

    Attributes:
        number: Its number.
        comment: Id of its first comment.
        is_open: Whether it is open.
        is_hidden: Whether a maintainer hid the first comment: the bot shall be silent.
        state: What its report is about; None when the line is gone.
    """

    number: int
    comment: str
    is_open: bool
    is_hidden: bool = False
    state: State | None = None


@dataclass(frozen=True, slots=True)
class Hub:
    """The client, with an end to each of its calls.

    Attributes:
        api: The client, with the token of the account.
        seconds: Longest that one call may take.
        ended: Set when nothing is waited for any more.
    """

    api: HfApi
    seconds: float = 60.0
    ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, repo: str, call: Callable[[HfApi], T]) -> T:
        """Make one call.

        Args:
            repo: The repository that it is about.
            call: The call; of the Hub only one, since it is left behind when it takes too long.

        Raises:
            HubUnreachable: When it takes too long, or :attr:`ended` is set.
        """
        future, until = aside(lambda: call(self.api)), time.monotonic() + self.seconds
        while not future.done():
            left = until - time.monotonic()
            if left <= 0:
                raise HubUnreachable(repo, f"no answer within {self.seconds:g} s")
            if self.ended.is_set():
                raise HubUnreachable(repo, "not waited for any longer")
            concurrent.futures.wait([future], min(left, _POLL))
        return future.result()


def find(hub: Hub, repo: str, account: str) -> Found | None:
    """Find the discussion of an account.

    Args:
        hub: The client, with the token of the account.
        repo: The repository.
        account: Name of the account.

    Returns:
        The oldest one that is marked; None when there is none.

    Raises:
        HubError: When the Hub does not say.
    """
    from huggingface_hub import DiscussionComment

    found: list[Found] = []
    with asking(repo):
        for discussion in hub.ask(repo, lambda api: _listed(api, repo, account)):
            if discussion.author != account:
                continue
            events = hub.ask(repo, _details(repo, discussion.num)).events
            first = next((event for event in events if isinstance(event, DiscussionComment)), None)
            if first is None or first.author != account:
                continue
            is_open = discussion.status == "open"
            if first.hidden:
                # Its text is gone for good, the mark with it; the title is left.
                if discussion.title == TITLE:
                    found.append(Found(discussion.num, first.id, is_open, is_hidden=True))
            elif first.content.startswith(MARK):
                found.append(Found(discussion.num, first.id, is_open, state=_state(first.content)))
    return min(found, key=lambda one: one.number, default=None)


def _listed(api: HfApi, repo: str, account: str) -> list[Discussion]:
    found = api.get_repo_discussions(repo, author=account, discussion_type="discussion", discussion_status="all")
    return list(itertools.islice(found, _MOST))


def _details(repo: str, number: int) -> Callable[[HfApi], DiscussionWithDetails]:
    return lambda api: api.get_discussion_details(repo, number)


def write(hub: Hub, repo: str, account: str, report: Report, commit: str, found: Found | None) -> str:
    """Open the discussion with a report, or bring the one that is there up to date.

    Args:
        hub: The client, with the token of the account.
        repo: The repository.
        account: Name of the account.
        report: The report.
        commit: The commit that it is about.
        found: What :func:`find` found.

    Returns:
        What was done, in a few words.

    Raises:
        HubError: When the Hub does not take it.
    """
    now = State(commit, verdict_of(report))
    body = _body(now, report)
    with asking(repo):
        if found is None:
            mine = hub.ask(repo, lambda api: api.create_discussion(repo, TITLE, description=body))
            return _alone(hub, repo, account, mine.num)
        if found.is_hidden:
            return "says nothing, since its report was hidden"
        hub.ask(repo, lambda api: api.edit_discussion_comment(repo, found.number, found.comment, body))
        before = found.state
        if before is None or before.verdict == now.verdict:
            return f"brought discussion {found.number} up to date"
        changed = _changed(before, now, report)
        if found.is_open:
            hub.ask(repo, lambda api: api.comment_discussion(repo, found.number, changed))
            return f"brought discussion {found.number} up to date and said that the verdict changed"
        if _GRAVITY[now.verdict] <= _GRAVITY[before.verdict]:
            return f"brought discussion {found.number} up to date, which stays closed"
        hub.ask(repo, lambda api: api.change_discussion_status(repo, found.number, "open", comment=changed))
        return f"opened discussion {found.number} again, since the verdict got worse"


def _alone(hub: Hub, repo: str, account: str, number: int) -> str:
    """Close a new discussion again where another server opened one at the same moment."""
    first = find(hub, repo, account)
    if first is None or first.number >= number:
        return f"opened discussion {number}"
    said = f"The report is in discussion {first.number}."
    hub.ask(repo, lambda api: api.change_discussion_status(repo, number, "closed", comment=said))
    return f"closed discussion {number} again: {first.number} was opened at the same moment"


def verdict_of(report: Report) -> Verdict:
    """Return the verdict as it counts: findings at the level that fails are a failure, whatever it is."""
    return "fail" if exit_code(report) == 1 else report.verdict


def worth_saying(report: Report) -> bool:
    """Return whether there is anything that a maintainer would want to hear unasked."""
    return verdict_of(report) != "pass" or any(finding.level != "note" for finding in report.findings)


@contextmanager
def asking(repo: str) -> Iterator[None]:
    """Turn what the client raises into one line without addresses, which may hold a signature.

    Args:
        repo: The repository.

    Raises:
        HubNotFound: There is no such repository, or the token may not see it.
        HubDenied: The token may not do this, or discussions are switched off.
        HubUnreachable: No answer that could be used; later there may be one.
    """
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    http_error, _ = client_errors()
    try:
        yield
    except RepositoryNotFoundError:
        raise HubNotFound(repo, "there is no such repository, or the bot's token may not see it") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            problem = "the bot's token may not do this, or discussions are switched off"
            raise HubDenied(repo, f"{problem} (HTTP {status})") from None
        if status == 429 or status >= 500:
            raise HubUnreachable(repo, f"the server answered HTTP {status}") from None
        raise HubError(repo, f"the server answered HTTP {status}") from None
    except http_error as error:
        raise HubUnreachable(repo, network_problem(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # The client believes that answers have the form that it expects.
        raise HubError(repo, f"the server's answer cannot be used ({type(error).__name__})") from None


def _state(written: str) -> State | None:
    found = _STATE.search(written[:400])
    return None if found is None else State(*found.groups())


def _body(state: State, report: Report) -> str:
    about = (
        f"Checked by [lineage-plugin]({DOCS}/webhook.md) at commit `{state.commit[:12]}`, after an update of this "
        "repository. This comment is rewritten when the model changes. Close the discussion and it stays closed unless "
        "the verdict gets worse; hide this comment and nothing more is written here."
    )
    head = f"{MARK}\n{state.line()}\n{about}\n\n"
    return head + fit([report], LONGEST - len(head.encode()))


def _changed(before: State, now: State, report: Report) -> str:
    return (
        f"With commit {code(now.commit[:12])} the verdict is **{now.verdict}**; with {code(before.commit[:12])} it was "
        f"**{before.verdict}**.\n\n{text(summary(report))}\n\nThe report above is the new one."
    )
