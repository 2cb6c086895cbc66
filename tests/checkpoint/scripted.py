"""A server that answers whatever a test tells it to; for answers no healthy or merely faulty Hub would give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, Mapping[str, str], bytes]
Script = Callable[[str, Mapping[str, str]], Answer]


class ScriptedServer:
    """Where the server is, and what it was asked.

    Attributes:
        address: ``http://127.0.0.1:PORT``.
        seen: Path and lower-case headers of every request.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.seen: list[tuple[str, dict[str, str]]] = []


@contextmanager
def scripted(script: Script) -> Iterator[ScriptedServer]:
    """Serve ``script(path, headers) -> status, headers, body`` on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            record.seen.append((self.path, headers))
            status, fields, body = script(self.path, headers)
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **fields}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    record = ScriptedServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield record
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
