"""What goes wrong on purpose.

``Faults`` is a list of rules. Each rule says what happens (``kind``), where (port, repository, path glob), from when
(``after`` matching requests) and how often (``times``). Rules can be added, read and removed while the server runs;
``matched`` and ``fired`` tell what they did::

    faults = Faults()
    faults.rate_limit(2, retry_after=0, port="cdn")
    rule = faults.truncate(1, path="*.safetensors")
    ...
    assert rule.fired == 1
"""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass, field

__all__ = ["Fault", "Faults"]


@dataclass
class Fault:
    """One rule.

    Attributes:
        kind: Name of the method of ``Faults`` that made it.
        port: ``hub``, ``cdn`` or ``None`` for both.
        repo: Id of a repository, or ``None`` for any request.
        path: Glob over the unquoted path without query, or ``None``.
        after: How many matching requests pass before the rule takes hold.
        times: How often it fires; ``None`` for ever.
        options: What the kind needs (status, seconds, fractions ...).
        matched: How many requests matched so far.
        fired: How often the rule fired so far.
    """

    kind: str
    port: str | None = None
    repo: str | None = None
    path: str | None = None
    after: int = 0
    times: int | None = None
    options: dict[str, object] = field(default_factory=dict)
    matched: int = 0
    fired: int = 0

    def covers(self, port: str, repo: str, path: str) -> bool:
        """Whether the rule speaks about such a request."""
        return (
            self.port in (None, port)
            and self.repo in (None, repo)
            and (self.path is None or fnmatch.fnmatchcase(path, self.path))
        )


class Faults:
    """The rules in force, and who may read what.

    Attributes:
        rules: All rules, spent ones included, in the order they were added.
        gated: Ids whose files need a token that was granted access (403 ``GatedRepo``; 401 without any token).
        private: Ids that nobody without such a token sees at all (401 or 404 ``RepoNotFound``).
    """

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Faults(rules={self.rules!r}, gated={self.gated!r}, private={self.private!r})"

    def clear(self) -> None:
        """Back to a healthy server that everybody may read."""
        with self._lock:
            self.rules.clear()
            self.gated.clear()
            self.private.clear()

    def take(self, kind: str, *, port: str, repo: str, path: str) -> Fault | None:
        """Count the request against the rules of ``kind`` and return the first that fires."""
        with self._lock:
            for rule in self.rules:
                if rule.kind != kind or not rule.covers(port, repo, path):
                    continue
                rule.matched += 1
                if rule.matched > rule.after and (rule.times is None or rule.fired < rule.times):
                    rule.fired += 1
                    return rule
        return None

    def find(self, kind: str, *, port: str, repo: str, path: str) -> Fault | None:
        """Return the first rule of ``kind`` that covers the request, without counting."""
        with self._lock:
            return next((r for r in self.rules if r.kind == kind and r.covers(port, repo, path)), None)

    def _add(
        self,
        kind: str,
        times: int | None,
        after: int,
        port: str | None,
        repo: str | None,
        path: str | None,
        **options: object,
    ) -> Fault:
        rule = Fault(kind, port=port, repo=repo, path=path, after=after, times=times, options=options)
        with self._lock:
            self.rules.append(rule)
        return rule

    def rate_limit(
        self,
        times: int | None = 1,
        *,
        retry_after: int | None = 0,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Answer 429, with ``Retry-After`` and ``RateLimit`` in seconds unless ``retry_after`` is ``None``."""
        return self._add("rate_limit", times, after, port, repo, path, retry_after=retry_after)

    def server_errors(
        self,
        times: int | None = 1,
        *,
        status: int = 503,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Answer with a 5xx status (or any other)."""
        return self._add("server_errors", times, after, port, repo, path, status=status)

    def missing(
        self,
        times: int | None = None,
        *,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Answer 404 ``EntryNotFound`` although the tree lists the file."""
        return self._add("missing", times, after, port, repo, path)

    def truncate(
        self,
        times: int | None = 1,
        *,
        keep: float = 0.5,
        consistent: bool = False,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Cut file bodies short after the fraction ``keep``.

        ``Content-Length`` promises the whole body and the connection closes early. With ``consistent`` it promises only
        what is sent, so that nothing but ``Content-Range`` (or the range asked for) tells that bytes are missing.
        """
        return self._add("truncate", times, after, port, repo, path, keep=keep, consistent=consistent)

    def drop(
        self,
        times: int | None = 1,
        *,
        keep: float | None = 0.5,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Reset the connection in the middle of any body; ``keep=None``: before the status line."""
        return self._add("drop", times, after, port, repo, path, keep=keep)

    def ignore_range(
        self,
        times: int | None = None,
        *,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Answer 200 with the whole file where a range was asked for."""
        return self._add("ignore_range", times, after, port, repo, path)

    def shift_range(
        self,
        times: int | None = 1,
        *,
        offset: int = 1,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Answer 206 with another range of the same length; ``Content-Range`` owns up to it."""
        return self._add("shift_range", times, after, port, repo, path, offset=offset)

    def move_revision(
        self,
        *,
        after: int = 0,
        to: str | None = None,
        pinned: bool = False,
        times: int | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Let ``main`` point to another commit after ``after`` requests of the Hub port.

        ``to`` names a revision made by ``LocalHub.add_revision``; without it the same files get a new commit id.
        With ``pinned`` even a request for a commit id is answered with the other commit in ``X-Repo-Commit``.
        """
        return self._add("move_revision", times, after, "hub", repo, path, to=to, pinned=pinned)

    def change_etag(
        self,
        *,
        after: int = 0,
        times: int | None = None,
        port: str | None = "cdn",
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Send another ``ETag`` after ``after`` requests."""
        return self._add("change_etag", times, after, port, repo, path)

    def expire_cdn(self, uses: int = 1, *, repo: str | None = None, path: str | None = None) -> Fault:
        """Let each signed CDN address answer 403 after it was used ``uses`` times; a fresh one works again."""
        return self._add("expire_cdn", None, 0, "cdn", repo, path, uses=uses)

    def slow(
        self,
        bytes_per_second: float,
        *,
        times: int | None = None,
        after: int = 0,
        port: str | None = None,
        repo: str | None = None,
        path: str | None = None,
    ) -> Fault:
        """Send bodies at this pace."""
        return self._add("slow", times, after, port, repo, path, bytes_per_second=bytes_per_second)
