"""HTTP/1.1 as both ports speak it: bodies in, answers out, byte ranges, and the faults that spoil them."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from .log import Record

if TYPE_CHECKING:
    from .faults import Fault
    from .server import LocalHub

__all__ = ["Handler", "HttpError", "Moved", "Reply", "Server"]

_CHUNK = 2**18
_MAX_JSON = 256 * 2**20


@dataclass
class Reply:
    """An answer before ranges and faults: ``body``, or ``size`` bytes of ``file`` under ``etag``."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None
    size: int = 0
    etag: str = ""

    @classmethod
    def json(cls, value: object, status: int = 200, **headers: str) -> Reply:
        """Return ``value`` as a JSON answer."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, {"Content-Type": "application/json; charset=utf-8", **named}, json.dumps(value).encode())


class HttpError(Exception):
    """An error answer, with the Hub's ``X-Error-Code`` and ``X-Error-Message``."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.reply = Reply.json({"error": message}, status, **headers)
        self.reply.headers["X-Error-Message"] = message
        if code:
            self.reply.headers["X-Error-Code"] = code


class Moved(HttpError):
    """A redirect inside the Hub, to the id that a repository has now."""

    def __init__(self, target: str) -> None:
        super().__init__(307, "Temporary Redirect")
        text = f"Temporary Redirect. Redirecting to {target}"
        self.reply = Reply(307, {"Location": target, "Content-Type": "text/plain; charset=utf-8"}, text.encode())


class _Dropped(Exception):
    """The connection was closed on purpose."""


class Server(ThreadingHTTPServer):
    """A threading server that can end its idle keep-alive connections, so that no thread outlives it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: LocalHub, name: str, handler: type[Handler], host: str, port: int) -> None:
        self.hub = hub
        self.name = name
        self._open: dict[threading.Thread, socket.socket] = {}
        self._open_lock = threading.Lock()
        super().__init__((host, port), handler)
        self._loop = threading.Thread(target=self.serve_forever, args=(0.02,), name=f"local-{name}", daemon=True)
        self._loop.start()

    def server_bind(self) -> None:
        """Bind without the reverse name look-up of the base class."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", int(self.server_address[1])

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection and remember it while it lives."""
        with self._open_lock:
            self._open[threading.current_thread()] = request
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._open_lock:
                self._open.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: clients that go away are part of the game; real errors are kept by the handler."""

    def close(self) -> None:
        """Stop accepting, end all connections, join all threads."""
        self.shutdown()
        self._loop.join()
        self.server_close()
        for _ in range(50):
            with self._open_lock:
                alive = dict(self._open)
            if not alive:
                return
            for thread, connection in alive.items():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                thread.join(0.2)


class Handler(BaseHTTPRequestHandler):
    """Common part of both ports: subclasses say what a request names (``identify``) and what it gets (``answer``)."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "LocalHub"
    sys_version = ""
    server: Server
    record: Record
    query: dict[str, str]
    query_lists: dict[str, list[str]]
    _left: int  # bytes of the body not read yet; -1: chunked

    # What the request says ------------------------------------------------------------------------------------------

    def identify(self, parts: list[str]) -> tuple[str, str]:
        """Return the repository id and the file that a path names, empty for none."""
        raise NotImplementedError

    def answer(self, parts: list[str]) -> Reply:
        """Return the answer to the current request."""
        raise NotImplementedError

    @property
    def hub(self) -> LocalHub:
        """The server that both ports belong to."""
        return self.server.hub

    def body_chunks(self) -> Iterator[bytes]:
        """Yield the request's body, sized or chunked, and count it."""
        while self._left != 0:
            if self._left < 0:
                length = int(self.rfile.readline(100).split(b";")[0].strip() or b"0", 16)
                if length == 0:
                    while self.rfile.readline(1000).strip():
                        pass
                    self._left = 0
                    return
                yield from self._read(length)
                self.rfile.readline(10)
            else:
                length, self._left = self._left, 0
                yield from self._read(length)

    def _read(self, length: int) -> Iterator[bytes]:
        while length > 0:
            chunk = self.rfile.read(min(length, _CHUNK))
            if not chunk:
                raise ConnectionError("body ended early")
            length -= len(chunk)
            self.record.received += len(chunk)
            yield chunk

    def body(self) -> bytes:
        """Return the whole body of a small request."""
        chunks, total = [], 0
        for chunk in self.body_chunks():
            total += len(chunk)
            if total > _MAX_JSON:
                raise HttpError(413, "Payload too large")
            chunks.append(chunk)
        return b"".join(chunks)

    def body_json(self) -> Any:
        """Return the body as JSON; 400 if it is none."""
        try:
            return json.loads(self.body() or b"null")
        except ValueError as error:
            raise HttpError(400, "Invalid JSON") from error

    # One request ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        started = time.monotonic()
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.query_lists = parse_qs(url.query, keep_blank_values=True)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        repo, file = self.identify(parts)
        self.record = Record(self.server.name, self.command, "/" + "/".join(parts), repo, file)
        self.record.range = self.headers.get("Range", "")
        self.record.has_authorization = "Authorization" in self.headers
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        length = self.headers.get("Content-Length", "0")
        self._left = -1 if chunked else int(length) if length.isdigit() else 0
        self.hub.log.append(self.record)
        try:
            self.hub.wait(self.hub.latency)
            try:
                reply = self._spoiled() or self.answer(parts)
            except HttpError as error:
                reply = error.reply
            except (ConnectionError, _Dropped):
                raise
            except Exception as error:
                self.hub.errors.append(error)
                reply = HttpError(500, f"{type(error).__name__}: {error}").reply
            for _ in self.body_chunks():
                pass
            self._send(reply)
        except (ConnectionError, _Dropped, TimeoutError):
            self.close_connection = True
        finally:
            self.record.seconds = time.monotonic() - started

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def take(self, kind: str) -> Fault | None:
        """Return the fault of this kind that strikes the current request."""
        record = self.record
        fault = self.hub.faults.take(kind, port=record.port, repo=record.repo, path=record.path)
        if fault is not None:
            record.fault.append(kind)
        return fault

    def _spoiled(self) -> Reply | None:
        if fault := self.take("rate_limit"):
            reply = HttpError(429, "You have exceeded the rate limit").reply
            if fault.options["retry_after"] is not None:
                seconds = fault.options["retry_after"]
                reply.headers |= {"Retry-After": str(seconds), "RateLimit": f'"resolvers";r=0;t={seconds}'}
                reply.headers["RateLimit-Policy"] = '"fixed window";"resolvers";q=3000;w=300'
            return reply
        if fault := self.take("server_errors"):
            return HttpError(int(str(fault.options["status"])), "Internal error, retry later").reply
        return None

    # Answers --------------------------------------------------------------------------------------------------------

    def _send(self, reply: Reply) -> None:
        offset, length = 0, len(reply.body)
        if reply.file is not None:
            offset, length = self._choose_range(reply)
        announced, sent = length, 0 if self.command == "HEAD" else length
        drop = self.take("drop")
        if drop is not None and drop.options["keep"] is None:
            self._reset()
        if drop is not None:
            sent = int(sent * float(str(drop.options["keep"])))
        elif reply.file is not None and sent and (cut := self.take("truncate")):
            sent = int(sent * float(str(cut.options["keep"])))
            announced = sent if cut.options["consistent"] else length
        self.record.status = reply.status
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in (204, 304):
            self.send_header("Content-Length", str(announced))
        self.send_header("Date", formatdate(usegmt=True))
        if sent < announced and self.command != "HEAD":
            self.close_connection = True
        self.end_headers()
        if sent:
            self._send_body(reply, offset, sent)
        if drop is not None:
            self._reset()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Write the status line only; the base class would add a log line and more headers."""
        self.send_response_only(code, message)

    def _choose_range(self, reply: Reply) -> tuple[int, int]:
        """Turn ``reply`` into 200, 206, 412 or 416 and return offset and length of what to send of the file."""
        size = reply.size
        etag = reply.etag
        if self.take("change_etag"):
            etag = f'"{etag.strip(chr(34))[::-1]}-changed"'
        reply.headers.update({"ETag": etag, "Accept-Ranges": "bytes"})
        reply.headers.setdefault("Content-Type", "application/octet-stream")
        if self.headers.get("If-Match", "*") not in ("*", etag):
            reply.status, reply.file = 412, None
            return 0, 0
        wanted = self.headers.get("Range")
        if not wanted or self.headers.get("If-Range", etag) != etag or self.take("ignore_range"):
            return 0, size
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted.replace(" ", ""))
        if found is None or found.groups() == ("", ""):
            return 0, size  # several ranges or another unit: a server may ignore them, and the CDN does
        first, last = found.groups()
        start = int(first) if first else max(0, size - int(last))
        stop = min(int(last) + 1, size) if first and last else size
        if start >= size or stop <= start:
            reply.status, reply.file = 416, None
            reply.headers["Content-Range"] = f"bytes */{size}"
            return 0, 0
        if shift := self.take("shift_range"):
            step = int(str(shift.options["offset"]))
            step = max(-start, min(step, size - stop))
            start, stop = start + step, stop + step
        reply.status = 206
        reply.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return start, stop - start

    def _send_body(self, reply: Reply, offset: int, length: int) -> None:
        slow = self.take("slow")
        pace = float(str(slow.options["bytes_per_second"])) if slow else 0.0
        step = max(1, int(pace / 20)) if slow else 2**22
        file = reply.file.open("rb") if reply.file is not None else None
        try:
            for start in range(0, length, step):
                count = min(step, length - start)
                if slow:
                    self.hub.wait(count / pace)
                if self.hub.stopping:
                    raise ConnectionError("stopped")
                self.record.sent += count
                if file is not None:
                    if self.connection.sendfile(file, offset + start, count) != count:
                        raise ConnectionError("the file shrank while it was sent")
                else:
                    self.wfile.write(reply.body[start : start + count])
        finally:
            if file is not None:
                file.close()

    def _reset(self) -> None:
        """Close the connection with a reset instead of a farewell."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _Dropped

    def log_message(self, *args: Any) -> None:
        """Stay quiet."""
