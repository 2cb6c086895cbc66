"""What is refused before gradio sees it; against a launched server ``test_space`` does the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lineage_plugin.web.guard import LARGEST_BODY, LOCAL, Guard, Listeners

Message = dict[str, Any]


class App:
    """An application that notes what reaches it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.during: list[bool] = []
        self.listeners = Listeners()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self.during.append("me" in self.listeners)
        self.bodies.append((await receive()).get("body", b""))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask(app: App, path: str, *pieces: bytes, hosts: Any = None, query: bytes = b"", **headers: str) -> int:
    """Send a request through the guard and return the status."""
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http",
        "path": path,
        "query_string": query,
        "headers": given,
        "method": "POST" if pieces else "GET",
    }
    waiting = [{"type": "http.request", "body": one, "more_body": at < len(pieces)} for at, one in enumerate(pieces, 1)]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0) if waiting else {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Guard(app, hosts=hosts, frames="'none'", listeners=app.listeners)(scope, receive, send))  # type: ignore[arg-type]
    return int(sent[0]["status"])


def test_a_question_gets_through_as_it_is() -> None:
    app = App()
    assert ask(app, "/gradio_api/queue/join", b'{"data": ["a/b",', b' ["c/d"]]}', host="x") == 200
    assert app.bodies == [b'{"data": ["a/b", ["c/d"]]}']


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": [{"path": "http://x"}]}',
        b'{"data": [[[{"path": "x"}]]]}',
        b'{"suspect": {"path": "x"}}',
        b'{"data": {"path": "x"}}',
        b'[{"path": "x"}]',
    ],
)
@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/call/v2/compare", "/gradio_api/run/check"])
def test_values_hold_no_objects(path: str, body: bytes) -> None:
    app = App()
    assert ask(app, path, body, host="x") == 400
    assert not app.bodies


def test_a_body_without_a_length_ends_where_it_is_too_large() -> None:
    app = App()
    assert ask(app, "/gradio_api/mcp/", *[b" " * 1024] * (LARGEST_BODY // 1024 + 1), host="x") == 413
    assert ask(app, "/gradio_api/mcp/", b" ", host="x", content_length=str(LARGEST_BODY + 1)) == 413
    assert not app.bodies


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:7860"}, 200),
        ({"host": "localhost:7860", "origin": "http://localhost:7860", "sec_fetch_site": "same-origin"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "localhost:7860", "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),
        ({"host": "localhost:7860", "sec_fetch_site": "same-site", "sec_fetch_mode": "cors"}, 403),
        ({"host": "localhost:7860", "origin": "http://localhost:3000"}, 403),
        ({"host": "evil.example:7860"}, 403),
        ({"host": "localhost.evil.example"}, 403),
        ({"host": "localhost@evil.example"}, 403),
        ({"host": "["}, 403),
        ({}, 403),
    ],
)
def test_only_this_machine_is_answered(headers: dict[str, str], status: int) -> None:
    assert ask(App(), "/", hosts=LOCAL, **headers) == status


def test_it_knows_who_listens() -> None:
    app = App()
    ask(app, "/gradio_api/queue/data", query=b"session_hash=me", host="x")
    ask(app, "/gradio_api/queue/data", query=b"session_hash=other", host="x")
    assert app.during == [True, False]
    assert "me" not in app.listeners
