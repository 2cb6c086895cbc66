"""What is refused before gradio sees it: other hosts' pages, uploads, files in questions, bodies too large for any.

It also knows who listens: a question whose page is gone, or never listened, need not be answered.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LARGEST_BODY", "LARGEST_EVENT", "LOCAL", "Guard", "Listeners"]

LARGEST_BODY = 64 << 10
"""Bytes of the largest body: eight ids, an MCP call, what a browser sends along."""
LARGEST_EVENT = 1 << 20
"""Bytes of the largest event of a webhook."""
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
"""What a browser calls this machine."""
_CLOSED = (
    "/component_server",
    "/custom_component",
    "/deep_link",
    "/dev",
    "/file",
    "/monitoring",
    "/process_recording",
    "/proxy",
    "/run-history",
    "/stream",
    "/token",
    "/undo-vibe",
    "/upload",
    "/vibe",
)
"""Routes of gradio that these pages do not use: they store what anybody sends, or hand out what no page has."""
_EVENTS = ("/queue/join", "/run/", "/api/", "/call/")


class Listeners:
    """Which sessions have a page that listens; gradio itself goes on for those that have none."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def __contains__(self, session: str) -> bool:
        return self._open[session] > 0

    def came(self, session: str) -> None:
        """Note that a page began to listen."""
        self._open[session] += 1

    def went(self, session: str) -> None:
        """Note that it does no more."""
        self._open[session] -= 1
        if self._open[session] <= 0:
            del self._open[session]


class Guard:
    """ASGI middleware.

    A server that listens to this machine alone asks the Hub with its user's token. Any web site can have a name that
    leads to this machine (DNS rebinding), and its script could then ask and read the answers as one of the same origin.
    The name still stands in ``Host``, so only this machine's own names are answered there, and only pages of the very
    same address.

    gradio fetches what a value of type ``FileData`` names, for whatever component it is sent. No question here holds
    an object, so none gets through.

    Args:
        app: What is guarded.
        hosts: Names under which the server answers; None: any.
        frames: Sources whose pages may show these in a frame, as in ``frame-ancestors``.
        listeners: Where it notes who listens.
    """

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str] | None, frames: str, listeners: Listeners) -> None:
        self._app = app
        self._hosts = hosts
        self._listeners = listeners
        self._headers = [
            (b"content-security-policy", f"frame-ancestors {frames}".encode()),
            (b"referrer-policy", b"no-referrer"),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = str(scope["path"]).removeprefix("/gradio_api")
        if self._hosts is not None and not self._is_ours(scope["headers"]):
            await _refuse(scope, send, 403, "This server answers to its own machine only.")
        elif path.startswith(_CLOSED):
            await _refuse(scope, send, 404, "There is nothing here.")
        elif scope.get("method") == "POST":
            await self._posted(path, scope, receive, send)
        elif path == "/queue/data":
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0][:100]
            self._listeners.came(session)
            try:
                await self._app(scope, receive, self._told(send))
            finally:
                self._listeners.went(session)
        else:
            await self._app(scope, receive, self._told(send))

    async def _posted(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a body whole, since none is large, look at it and pass it on."""
        most = LARGEST_EVENT if path.startswith("/webhooks/") else LARGEST_BODY
        if any(name == b"content-length" and int(value[:12]) > most for name, value in _lengths(scope)):
            await _refuse(scope, send, 413, "That is more than any question has.")
            return
        if path.startswith("/webhooks/"):
            # Of those the secret is looked at before the body.
            await self._app(scope, receive, self._told(send))
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if len(body) > most:
                await _refuse(scope, send, 413, "That is more than any question has.")
                return
            if not message.get("more_body", False):
                break
        if path.startswith(_EVENTS) and _holds_objects(body):
            await _refuse(scope, send, 400, "A question holds ids of models and nothing else.")
            return
        await self._app(scope, _again(body, receive), self._told(send))

    def _is_ours(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Return whether a request names this machine, and does not come from another address's page."""
        hosts = [value.decode("latin-1").lower() for name, value in headers if name.lower() == b"host"]
        origins = [value.decode("latin-1").lower() for name, value in headers if name.lower() == b"origin"]
        sites = [value for name, value in headers if name.lower() == b"sec-fetch-site"]
        return (
            len(hosts) == 1
            and _host(hosts[0]) in (self._hosts or ())
            and all(
                origin.lower() in (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower()) for origin in origins
            )
            # A link that leads here is followed; what other pages load or send is not answered.
            and all(site in (b"same-origin", b"none") or _is_visit(headers) for site in sites)
        )

    def _told(self, send: Send) -> Send:
        """Add the headers of every answer."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._headers]}
            await send(message)

        return told


def _is_visit(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"sec-fetch-mode" and value == b"navigate" for name, value in headers)


def _lengths(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in scope["headers"] if name == b"content-length" and value.isdigit()]


def _holds_objects(body: bytes) -> bool:
    """Return whether the values of an event hold an object; what is no JSON gradio refuses."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(event, dict):
        return True
    # Of an event its data are the values; of a call by names every entry is one.
    inside: list[Any] = [event["data"]] if "data" in event else list(event.values())
    while inside:
        value = inside.pop()
        if isinstance(value, dict):
            return True
        if isinstance(value, list):
            inside += value
    return False


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives a body that was read, and then what comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _host(address: str) -> str | None:
    try:
        return urlsplit(f"//{address}").hostname
    except ValueError:
        return None


async def _refuse(scope: Scope, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
