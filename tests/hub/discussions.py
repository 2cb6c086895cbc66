"""The first port, continued: discussions of a repository (pull requests are none of this Hub's)."""

from __future__ import annotations

import html
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .wire import HttpError, Reply

if TYPE_CHECKING:
    from .api import HubHandler
    from .store import Repo

__all__ = ["Board", "Thread", "answer"]

_LONGEST = 65_536
_HIDDEN = "This comment has been hidden"
_STATUSES = ("open", "closed")


@dataclass
class Thread:
    """One discussion.

    Attributes:
        num: Its number in the repository.
        repo: Id of the repository.
        author: Who opened it.
        title: Its title.
        status: ``open`` or ``closed``.
        events: Its events, as the API has them, the first comment first.
    """

    num: int
    repo: str
    author: str
    title: str
    status: str = "open"
    created: str = field(default_factory=lambda: _now())
    events: list[dict[str, Any]] = field(default_factory=list)

    def comments(self) -> list[str]:
        """Return the comments as they read now, the first one first."""
        return [event["data"]["latest"]["raw"] for event in self.events if event["type"] == "comment"]


class Board:
    """The discussions of all repositories.

    Attributes:
        disabled: Ids of repositories whose owners switched discussions off.
        page_size: Discussions per page of a list.
    """

    def __init__(self) -> None:
        self.disabled: set[str] = set()
        self.page_size = 50
        self.lock = threading.RLock()
        self._threads: dict[str, list[Thread]] = {}

    def of(self, repo_id: str) -> list[Thread]:
        """Return the discussions of a repository, the oldest first."""
        with self.lock:
            return list(self._threads.get(repo_id, []))

    def open(self, repo_id: str, author: str, title: str, text: str) -> Thread:
        """Open a discussion."""
        with self.lock:
            found = self._threads.setdefault(repo_id, [])
            thread = Thread(len(found) + 1, repo_id, author, title)
            thread.events.append(_comment(author, text))
            found.append(thread)
            return thread


def answer(handler: HubHandler, repo: Repo, rest: list[str]) -> Reply:
    """Answer ``/api/models/{id}/discussions...``."""
    board = handler.hub.discussions
    if repo.id in board.disabled:
        raise HttpError(403, "Discussions are disabled for this repo")
    post = handler.command == "POST"
    if post:
        if not handler.reader:
            raise HttpError(401, "Invalid username or password.")
        handler._repo(repo.id, files=True)  # nobody writes where he may not read
    asked = (handler.body_json() or {}) if post else {}
    with board.lock:
        match rest:
            case []:
                return _open(handler, repo, asked) if post else _list(handler, repo)
            case [number, *action]:
                thread = next((one for one in board.of(repo.id) if str(one.num) == number), None)
                if thread is None:
                    raise HttpError(404, "Discussion not found")
                if not post and not action:
                    return Reply.json(_described(thread, repo) | {"events": thread.events, "diffUrl": None})
                if post:
                    return _change(handler, thread, action, asked)
    raise HttpError(404, "Not found: this local Hub does not serve that part of the API")


def _list(handler: HubHandler, repo: Repo) -> Reply:
    """The newest first, a page at a time."""
    asked, board = handler.query, handler.hub.discussions
    found = [
        thread
        for thread in reversed(board.of(repo.id))
        if asked.get("author") in (None, thread.author)
        and asked.get("status") in (None, "all", thread.status)
        and asked.get("type") in (None, "all", "discussion")
    ]
    start = int(asked.get("p", "0")) * board.page_size
    page = [_described(thread, repo) for thread in found[start : start + board.page_size]]
    return Reply.json({"discussions": page, "count": len(found), "start": start})


def _open(handler: HubHandler, repo: Repo, asked: dict[str, Any]) -> Reply:
    if asked.get("pullRequest"):
        raise HttpError(400, "This local Hub keeps no pull requests")
    title = _title(asked.get("title"))
    thread = handler.hub.discussions.open(repo.id, handler.reader, title, _text(asked.get("description")))
    return Reply.json({"num": thread.num, "url": f"{handler.hub.endpoint}/{repo.id}/discussions/{thread.num}"})


def _change(handler: HubHandler, thread: Thread, action: list[str], asked: dict[str, Any]) -> Reply:
    may = handler.reader in ("owner", thread.author)
    match action:
        case ["comment"]:
            return _added(thread, "newMessage", _comment(handler.reader, _text(asked.get("comment"))))
        case ["comment", comment, "edit"]:
            for event in thread.events:
                if event["id"] == comment and event["type"] == "comment":
                    return _edit(handler, event, _text(asked.get("content")))
            raise HttpError(404, "Comment not found")
        case ["comment", comment, "hide"] if may:
            for event in thread.events:
                if event["id"] == comment and event["type"] == "comment":
                    event["data"] |= {"hidden": True, "latest": _latest(handler.reader, _HIDDEN), "history": []}
                    return Reply.json({"updatedComment": event})
            raise HttpError(404, "Comment not found")
        case ["title"] if may:
            before, thread.title = thread.title, _title(asked.get("title"))
            data = {"from": before, "to": thread.title}
            return _added(thread, "newTitle", _event("title-change", handler.reader, data))
        case ["status"] if may:
            if asked.get("status") not in _STATUSES:
                raise HttpError(400, "Invalid status")
            thread.status = asked["status"]
            if asked.get("comment"):
                thread.events.append(_comment(handler.reader, _text(asked["comment"])))
            return _added(thread, "newStatus", _event("status-change", handler.reader, {"status": thread.status}))
        case ["title" | "status"] | ["comment", _, "hide"]:
            raise HttpError(403, "You are not allowed to change this discussion")
    raise HttpError(404, "Not found")


def _edit(handler: HubHandler, event: dict[str, Any], text: str) -> Reply:
    """A comment is edited by who wrote it, and by nobody else."""
    if event["author"]["name"] != handler.reader:
        raise HttpError(403, "You are not allowed to edit this comment")
    event["data"]["history"].append(event["data"]["latest"])
    event["data"] |= {
        "latest": _latest(handler.reader, text),
        "edited": True,
        "numEdits": len(event["data"]["history"]),
    }
    return Reply.json({"updatedComment": event})


def _added(thread: Thread, name: str, event: dict[str, Any]) -> Reply:
    thread.events.append(event)
    return Reply.json({name: event})


def _described(thread: Thread, repo: Repo) -> dict[str, Any]:
    return {
        "num": thread.num,
        "author": _user(thread.author),
        "repo": {"name": thread.repo.removeprefix("datasets/"), "type": repo.kind},
        "title": thread.title,
        "status": thread.status,
        "createdAt": thread.created,
        "isPullRequest": False,
        "numComments": len(thread.comments()),
        "pinned": False,
    }


def _comment(author: str, text: str) -> dict[str, Any]:
    data = {"edited": False, "hidden": False, "numEdits": 0, "latest": _latest(author, text), "history": []}
    return _event("comment", author, data)


def _latest(author: str, text: str) -> dict[str, Any]:
    return {"raw": text, "html": f"<p>{html.escape(text)}</p>", "updatedAt": _now(), "author": _user(author)}


def _event(kind: str, author: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"id": uuid.uuid4().hex[:24], "author": _user(author), "createdAt": _now(), "type": kind, "data": data}


def _user(name: str) -> dict[str, Any]:
    return {"name": name, "fullname": name.title(), "type": "user", "isPro": False, "isHf": False}


def _title(value: object) -> str:
    if not isinstance(value, str) or not 3 <= len(value.strip()) <= 200:
        raise HttpError(400, '"title" length must be between 3 and 200 characters long')
    return value.strip()


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= _LONGEST:
        raise HttpError(400, f'"comment" length must be less than or equal to {_LONGEST} characters long')
    return value


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
