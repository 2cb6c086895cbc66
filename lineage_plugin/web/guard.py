"""What is refused before gradio sees it: requests for another host, uploads, and bodies that no question has."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LARGEST_BODY", "LOCAL", "Guard"]

LARGEST_BODY = 1 << 20
"""Bytes of the largest body: those of a webhook's event."""
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
"""What a browser calls this machine."""
_CLOSED = (
    "/component_server",
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


class Guard:
    """ASGI middleware.

    A server that listens to this machine alone asks the Hub with its user's token. Any web site can have a name that
    leads to this machine (DNS rebinding), and its script could then ask and read the answers as one of the same origin.
    The name still stands in ``Host``, so only this machine's own names are answered there.

    Args:
        app: What is guarded.
        hosts: Names under which the server answers; None: any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None = None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        if self._hosts is not None and not self._is_ours(headers):
            await _refuse(scope, send, 403, "This server answers to its own machine only.")
            return
        if str(scope["path"]).removeprefix("/gradio_api").startswith(_CLOSED):
            await _refuse(scope, send, 404, "There is nothing here.")
            return
        lengths = [value for name, value in headers if name == b"content-length"]
        if any(not value.isdecimal() or int(value[:12]) > LARGEST_BODY for value in lengths):
            await _refuse(scope, send, 413, "That is more than any question has.")
            return
        await self._app(scope, _Bounded(receive), send)

    def _is_ours(self, headers: list[tuple[bytes, str]]) -> bool:
        """Return whether a request names this machine, and does not come from another one's page."""
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        named = [_host(f"//{value}") for value in hosts] + [_host(value) for value in origins]
        return len(hosts) == 1 and all(name in (self._hosts or ()) for name in named)


class _Bounded:
    """A body that ends where it is too large: a length that is not told cannot be refused before."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._seen = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self._seen > LARGEST_BODY else message


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
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
