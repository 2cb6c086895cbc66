"""What the local Hub was asked: one record a request, on both ports.

A record appears in the log *before* its answer leaves, and its byte count rises before each write, so a test that has
read an answer finds it counted.
"""

from __future__ import annotations

import fnmatch
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

__all__ = ["Record", "RequestLog"]


@dataclass
class Record:
    """One request.

    Attributes:
        port: ``hub`` or ``cdn``.
        method: HTTP method.
        path: Unquoted path without the query (the query of a CDN address carries its signature).
        repo: Id of the repository that the path names; empty for none.
        file: Path of the file inside the repository; empty for none.
        status: HTTP status of the answer; 0 while there is none (and for ever when the connection was dropped before).
        range: Value of the ``Range`` header; empty for none.
        sent: Body bytes handed to the connection.
        received: Bytes of the request's body.
        weight_bytes: How many of the received bytes were content of weight files (upload, commit or preupload sample).
        has_authorization: Whether an ``Authorization`` header came along.
        fault: Kinds of the faults that changed the answer, in order.
        time: Seconds from the start of the log to the arrival of the request.
        seconds: How long the answer took.
    """

    port: str
    method: str
    path: str
    repo: str = ""
    file: str = ""
    status: int = 0
    range: str = ""
    sent: int = 0
    received: int = 0
    weight_bytes: int = 0
    has_authorization: bool = False
    fault: list[str] = field(default_factory=list)
    time: float = 0.0
    seconds: float = 0.0


class RequestLog:
    """A thread-safe list of records with the sums that tests and benchmarks ask for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: list[Record] = []
        self._started = time.monotonic()

    def append(self, record: Record) -> None:
        """Add ``record`` and stamp its time."""
        record.time = time.monotonic() - self._started
        with self._lock:
            self._records.append(record)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records())

    def records(
        self,
        *,
        repo: str | None = None,
        port: str | None = None,
        method: str | None = None,
        path: str | None = None,
        status: int | None = None,
    ) -> list[Record]:
        """Return copies of the records that match every given property; ``path`` is a glob."""
        with self._lock:
            found = [replace(record, fault=list(record.fault)) for record in self._records]
        return [
            record
            for record in found
            if (repo is None or record.repo == repo)
            and (port is None or record.port == port)
            and (method is None or record.method == method)
            and (path is None or fnmatch.fnmatchcase(record.path, path))
            and (status is None or record.status == status)
        ]

    def requests(self, repo: str | None = None, *, port: str | None = None) -> int:
        """Return the number of requests."""
        return len(self.records(repo=repo, port=port))

    def sent(self, repo: str | None = None, *, port: str | None = None) -> int:
        """Return the number of body bytes sent."""
        return sum(record.sent for record in self.records(repo=repo, port=port))

    def weight_bytes(self, repo: str | None = None) -> int:
        """Return how many bytes of weight files were received."""
        return sum(record.weight_bytes for record in self.records(repo=repo))

    def leaks(self) -> list[Record]:
        """Return the requests that carried a token to the CDN port, where none belongs."""
        return [record for record in self.records(port="cdn") if record.has_authorization]
