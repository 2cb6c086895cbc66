"""GitHub's REST API on this machine, as far as the action uses it: comments and changed files of a pull request."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "acme/models"
TOKEN = "ghs_0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass
class GitHubServer:
    """The server.

    Attributes:
        comments: Comments of pull request 7, oldest first.
        files: What the pull request changed.
        refuse: Status to answer every write with; None answers as it should.
        fail: So many of the next requests are answered with 503.
        requests: Method, path and token of every request.
    """

    comments: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    refuse: int | None = None
    fail: int = 0
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def __enter__(self) -> GitHubServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None: ...

            def _answer(self, status: int, value: object) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _serve(self) -> None:
                address = urlsplit(self.path)
                token = self.headers.get("Authorization", "")
                outer.requests.append((self.command, address.path, token))
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                if outer.fail:
                    outer.fail -= 1
                    self._answer(503, {"message": "Service Unavailable"})
                elif self.command != "GET" and (token != f"Bearer {TOKEN}" or outer.refuse):
                    self._answer(outer.refuse or 401, {"message": "Resource not accessible by integration"})
                else:
                    self._answer(*outer._do(self.command, address.path, parse_qs(address.query), body))

            do_GET = do_POST = do_PATCH = _serve

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _do(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, object]:
        issues, pulls = f"/repos/{REPOSITORY}/issues", f"/repos/{REPOSITORY}/pulls/7/files"
        if path == f"{issues}/7/comments" and method == "GET":
            return 200, _page(self.comments, query)
        if path == pulls and method == "GET":
            return 200, _page(self.files, query)
        if path == f"{issues}/7/comments" and method == "POST":
            if len(body["body"]) > 65_536:
                return 422, {"message": "Body is too long (maximum is 65536 characters)"}
            self.comments.append(comment(len(self.comments) + 1, body["body"]))
            return 201, self.comments[-1]
        match = re.fullmatch(rf"{issues}/comments/(\d+)", path)
        if match and method == "PATCH":
            (mine,) = (one for one in self.comments if one["id"] == int(match[1]))
            mine["body"] = body["body"]
            return 200, mine
        return 404, {"message": "Not Found"}


def comment(number: int, body: str, user: str = "github-actions[bot]", kind: str = "Bot") -> dict[str, Any]:
    """Return a comment as the API shows it."""
    return {"id": number, "body": body, "user": {"login": user, "type": kind}}


def _page(items: list[dict[str, Any]], query: dict[str, list[str]]) -> list[dict[str, Any]]:
    size, page = (int(query.get(name, [default])[0]) for name, default in (("per_page", "30"), ("page", "1")))
    return items[(page - 1) * size : page * size]
