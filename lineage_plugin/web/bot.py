"""The webhook: an update of a model on the Hub is answered with a report, in one discussion of its repository.

The Hub posts an event to ``/webhooks/lineage``. Whoever knows the secret is believed, and only so far: the event says
*look at this repository*; which commit is the newest, the Hub is asked. So an event that comes twice, late or out of
order changes nothing. The answer is given at once, the work is done behind it by one thread, one model at a time, and
visitors keep the other places of the desk.

Three things are done here that :class:`huggingface_hub.WebhooksServer` leaves to its user: the secret is compared in
constant time, nothing of the body is read before it is right, and no more than :data:`LONGEST_BODY` of it at all.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from fastapi import Request
from fastapi.responses import JSONResponse

from lineage_plugin._version import __version__
from lineage_plugin.errors import HubError, HubUnreachable, LineageError, UsageError
from lineage_plugin.judge.types import Report
from lineage_plugin.report.hub import repository_of
from lineage_plugin.text import one_line
from lineage_plugin.web import discussion
from lineage_plugin.web.asked import asked
from lineage_plugin.web.jobs import Failed, Job

if TYPE_CHECKING:
    from gradio import Blocks
    from huggingface_hub import WebhookPayload

    from lineage_plugin.web.desk import Desk
    from lineage_plugin.web.settings import Settings

__all__ = ["LONGEST_BODY", "PATH", "Bot", "Event", "attach", "event_of"]

PATH = "/webhooks/lineage"
LONGEST_BODY = 1 << 20
"""Bytes; the events of the Hub have a few thousand."""

_VISITOR = "webhook"
_PATIENCE = (15.0, 60.0, 300.0)
"""Seconds to wait before the second, third and fourth try, where the Hub or the desk may be free later."""
_MOST_WAITING = 1000
_REMEMBERED = 1000
_LONGEST_CALL = 60.0
"""Seconds that one call of the Hub may take."""
_POLL = 0.25
_COMMIT = re.compile(r"[0-9a-f]{40}")

Mode = Literal["always", "findings"]


@dataclass(frozen=True, slots=True)
class Event:
    """An update that is to be looked at.

    Attributes:
        repo: The model, ``owner/name``.
        commit: The commit that the event names; empty when it names none.
    """

    repo: str
    commit: str = ""


@dataclass(slots=True)
class _Waiting:
    event: Event
    due: float
    tries: int = 0


class Bot:
    """Answers updates in discussions, one after the other.

    Args:
        desk: Where models are checked.
        settings: Choices of the server.
        token: The token with which the bot reads and writes.
        mode: ``findings`` opens a discussion only where there is something to say, ``always`` for every model.
        patience: Seconds to wait before each further try.
        longest: Seconds that one call of the Hub may take.
    """

    def __init__(
        self,
        desk: Desk,
        settings: Settings,
        token: str,
        mode: Mode,
        *,
        patience: Sequence[float] = _PATIENCE,
        longest: float = _LONGEST_CALL,
    ) -> None:
        self._desk = desk
        self.settings = settings
        self._token = token
        self._mode = mode
        self._patience = tuple(patience)
        self._longest = longest
        self._account = ""
        self._changed = threading.Condition()
        self._waiting: dict[str, _Waiting] = {}
        self._seen: OrderedDict[str, str] = OrderedDict()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lineage-webhook", daemon=True)
        self._thread.start()

    def take(self, event: Event) -> bool:
        """Note an update; one of the same repository that still waits is replaced.

        Args:
            event: The update.

        Returns:
            Whether it is noted, or was before; not when too many wait.
        """
        with self._changed:
            if event.commit and self._seen.get(event.repo) == event.commit:
                return True
            if event.repo not in self._waiting and len(self._waiting) >= _MOST_WAITING:
                return False
            self._seen[event.repo] = event.commit
            self._seen.move_to_end(event.repo)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            self._waiting[event.repo] = _Waiting(event, time.monotonic())
            self._changed.notify()
            return True

    def close(self) -> None:
        """End the thread; what waits is left, and delivered events are found to be undone at the next one."""
        with self._changed:
            self._ended.set()
            self._changed.notify()
        self._thread.join(timeout=10.0)

    def _run(self) -> None:
        while (waiting := self._next()) is not None:
            event = waiting.event
            try:
                said = self._answer(event.repo)
            except (Failed, LineageError) as error:
                said = self._failed(waiting, error)
            except Exception as error:
                # Nothing that one event brings may end the thread; a message might hold anything, its type does not.
                self._forget(event)
                said = f"not answered: {type(error).__name__}, which is a defect of lineage-plugin"
            if said:
                _log(f"{event.repo}: {said}")

    def _next(self) -> _Waiting | None:
        """Wait for the update that is due first; None at the end."""
        with self._changed:
            while not self._ended.is_set():
                first = min(self._waiting.values(), key=lambda one: one.due, default=None)
                left = None if first is None else first.due - time.monotonic()
                if first is not None and left is not None and left <= 0:
                    return self._waiting.pop(first.event.repo)
                self._changed.wait(left)
        return None

    def _failed(self, waiting: _Waiting, error: Failed | LineageError) -> str:
        """Try again later where that may help; returns what to log."""
        said = one_line(str(error), 300).removeprefix(f"{waiting.event.repo}: ")
        later = isinstance(error, HubUnreachable) or (
            isinstance(error, Failed) and error.why in ("unreachable", "busy", "defect")
        )
        with self._changed:
            if self._ended.is_set():
                return ""
            if later and waiting.tries < len(self._patience):
                seconds = self._patience[waiting.tries]
                again = _Waiting(waiting.event, time.monotonic() + seconds, waiting.tries + 1)
                # An update that came meanwhile is answered instead.
                self._waiting.setdefault(waiting.event.repo, again)
                return f"{said}; tried again in {seconds:.0f} s"
        self._forget(waiting.event)
        return f"not answered: {said}"

    def _forget(self, event: Event) -> None:
        """Let the Hub deliver an event once more."""
        with self._changed:
            if self._seen.get(event.repo) == event.commit:
                del self._seen[event.repo]

    def _answer(self, repo: str) -> str:
        """Check the newest commit of a repository and write what came of it; returns what was done."""
        hub = self._hub()
        with discussion.asking(repo):
            # What is left behind ends, too, where it can be told to.
            info = hub.ask(repo, lambda api: api.model_info(repo, timeout=2 * self._longest))
            commit = info.sha or ""
            if not self._account:
                self._account = str(hub.ask(repo, lambda api: api.whoami())["name"])
        if not _COMMIT.fullmatch(commit):
            return "nothing to check: there is no commit"
        # Before the check, so that no work is done for what cannot be said, or has been said.
        found = discussion.find(hub, repo, self._account)
        if found is not None and found.is_hidden:
            return "nothing is said, since the report was hidden"
        state = None if found is None else found.state
        if state is not None and (state.commit, state.version) == (commit, __version__):
            return "the report is up to date"
        report = self._checked(f"{repo}@{commit}")
        if report is None:
            return ""
        if found is None and self._mode == "findings" and not discussion.worth_saying(report):
            return f"nothing to say of {commit[:12]}"
        if secret := self._not_public(report, repo if info.private else ""):
            return f"not published: not everybody may see {secret}, which the report is about"
        return discussion.write(hub, repo, self._account, report, commit, found)

    def _checked(self, model: str) -> Report | None:
        """Ask the desk for a report; None when the bot ends meanwhile."""
        ticket = self._desk.ask(Job("check", (model,)), visitor=_VISITOR, token=self._token)
        while (answer := ticket.answer()) is None:
            if self._ended.wait(_POLL):
                ticket.cancel()
                return None
        if not isinstance(answer.result, Report):
            raise TypeError("a check came to something else than a report")
        return answer.result

    def _not_public(self, report: Report, private: str) -> str:
        """Return a model that a report is about and that its readers may not see; empty when there is none.

        The bot's token may open what a card names, and nobody else may learn of it here.

        Args:
            report: The report.
            private: The repository, if it is private: its readers see other models of its owner, too.
        """
        from huggingface_hub import HfApi

        hub = self._hub(anonymous=True)
        bases = [repository_of(one.base) or one.base.id for one in report.comparisons]
        for model in dict.fromkeys([*bases, *(link.model for link in report.chain)]):
            try:
                with discussion.asking(model):
                    hub.ask(model, partial(HfApi.model_info, repo_id=model, timeout=2 * self._longest))
            except HubUnreachable:
                raise
            except HubError:
                if not private or model.partition("/")[0] != private.partition("/")[0]:
                    return model
        return ""

    def _hub(self, *, anonymous: bool = False) -> discussion.Hub:
        from huggingface_hub import HfApi

        api = HfApi(endpoint=self.settings.endpoint, token=False if anonymous else self._token)
        return discussion.Hub(api, self._longest, self._ended)


def event_of(payload: WebhookPayload) -> Event | None:
    """Return the update of a model's content that an event of the Hub tells of.

    Args:
        payload: The event, see https://huggingface.co/docs/hub/webhooks.

    Returns:
        The update; None for everything else: datasets and Spaces, settings, discussions, and commits that are on no
        default branch, such as those of a pull request.
    """
    scope, repo = payload.event.scope, payload.repo
    if repo.type != "model" or payload.event.action not in ("create", "update"):
        return None
    if scope != "repo.content" and not scope.startswith("repo.content."):
        return None
    if payload.updatedRefs is None:
        return Event(repo.name)
    for changed in payload.updatedRefs:
        if changed.ref == "refs/heads/main" and changed.newSha:
            return Event(repo.name, changed.newSha if _COMMIT.fullmatch(changed.newSha) else "")
    return None


def attach(ui: Blocks, desk: Desk, settings: Settings, *, secret: str, token: str) -> Any:
    """Add the webhook to the pages.

    ``LINEAGE_BOT`` chooses when a discussion is opened: ``findings`` (the default) or ``always``.

    Args:
        ui: The pages.
        desk: Where models are checked.
        settings: Choices of the server.
        secret: The secret that the Hub sends along; without one there is no webhook.
        token: The token with which the bot reads and writes; without one there is no webhook.

    Returns:
        What to launch instead of the pages, with their options; its ``bot`` is the :class:`Bot`, to be closed. Without
        a webhook it is the pages themselves.

    Raises:
        UsageError: When ``LINEAGE_BOT`` is neither.
    """
    mode = os.environ.get("LINEAGE_BOT") or "findings"
    if mode not in get_args(Mode):
        raise UsageError(f"LINEAGE_BOT must be always or findings, not {one_line(mode, 40)!r}")
    missing = "WEBHOOK_SECRET" if not secret else "HF_TOKEN" if not token else ""
    if missing:
        _log(f"there is none: {missing} is not set")
        return ui
    return _Server(ui, Bot(desk, settings, token, cast(Mode, mode)), secret)


class _Server:
    """The pages with the route of the webhook, which ``WebhooksServer`` adds once gradio has started."""

    def __init__(self, ui: Blocks, bot: Bot, secret: str) -> None:
        from huggingface_hub import WebhooksServer

        self.bot = bot
        with warnings.catch_warnings():
            # That the class may change.
            warnings.simplefilter("ignore", UserWarning)
            self._server = WebhooksServer(ui=ui, webhook_secret=secret)
        # Its own check would compare before ours does, and not in constant time.
        self._server.webhook_secret = None
        self._server.add_webhook(PATH.removeprefix("/webhooks"))(_receiver(bot, secret))

    def launch(self, **options: Any) -> None:
        """Launch the pages, then add the route; takes what ``gr.Blocks.launch`` takes."""
        self._server.launch(**{"share": False, **options})


def _receiver(bot: Bot, secret: str) -> Any:
    """Return the function behind the route; it takes the request alone, so that FastAPI leaves the body unread."""
    from huggingface_hub import WebhookPayload

    expected = hashlib.sha256(secret.encode()).digest()

    async def lineage(request: Request) -> JSONResponse:
        given = request.headers.get("x-webhook-secret")
        if given is None:
            return JSONResponse({"error": "The header X-Webhook-Secret is missing."}, 401)
        # Digests, so that not even the length of the secret can be measured.
        if not hmac.compare_digest(hashlib.sha256(given.encode("latin-1")).digest(), expected):
            return JSONResponse({"error": "The secret is wrong."}, 403)
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": f"The body is larger than {LONGEST_BODY} bytes."}, 413)
        try:
            payload = WebhookPayload.model_validate_json(body)
        except ValueError:
            return JSONResponse({"error": "The body is no event of the Hub's webhooks, version 3."}, 400)
        event = event_of(payload)
        if event is None:
            return JSONResponse({"status": "ignored"}, 200)
        try:
            asked(event.repo, settings=bot.settings)
        except Failed:
            return JSONResponse({"error": "The event names no model."}, 400)
        if not bot.take(event):
            return JSONResponse({"error": "Too many updates wait."}, 503, {"Retry-After": "300"})
        return JSONResponse({"status": "accepted"}, 202)

    return lineage


async def _body(request: Request) -> bytes | None:
    """Read the body; None when it is larger than it may be, of which no more is read than that."""
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated[:12]) > LONGEST_BODY:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_BODY:
            return None
    return bytes(body)


def _log(line: str) -> None:
    """Write to the log of the server, which is its standard error; tokens are masked."""
    sys.stderr.write(f"lineage: webhook: {one_line(line, 500)}\n")
    sys.stderr.flush()
