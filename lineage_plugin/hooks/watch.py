"""Holds what a client of the Hub sends against what was cleared.

A request hook of the client that ``huggingface_hub`` uses for everything. For the repositories it guards it stops, by
raising, a preupload, an LFS batch or a commit with weights or a card that were not cleared, byte for byte. Announced
weights are compared by the state of the local file, what is placed and committed by sha256: a file that changes after
the check does not arrive.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks.wire import OutgoingFile, Sending, Unreadable, sending
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.hooks.digests import FileStamp
    from lineage_plugin.hooks.preflight import Cleared
    from lineage_plugin.hooks.staged import StagedFile

__all__ = ["WATCH", "Examiner", "Guard", "Watch"]

Examiner = Callable[[Sending, "str | None"], "Cleared"]
"""Looks at an upload that nobody has cleared, and clears or blocks it; the second argument is the token it is sent
with."""

CARD = "README.md"
_BUSY: ContextVar[bool] = ContextVar("lineage_busy", default=False)
"""Set while a check runs: its own requests are nobody's upload."""


@dataclass(eq=False)
class _Ledger:
    """What is known of one repository.

    Attributes:
        digests: sha256 of what may go.
        states: The states that local files were in when they were cleared.
        sent: Where the local weights that were cleared lie, by their names in the repository.
        announced: What was announced, by name.
        earlier: sha256 of what may go as part of uploads that have begun, but is to be looked at when it is announced
            again: the repository is another one now.
        committed: Whether there was a commit since the last announcement.
        stopped: Whether a commit was stopped since the last announcement.
    """

    digests: set[str] = field(default_factory=set)
    states: dict[Path, FileStamp] = field(default_factory=dict)
    sent: dict[str, Path] = field(default_factory=dict)
    announced: dict[str, OutgoingFile] = field(default_factory=dict)
    earlier: set[str] = field(default_factory=set)
    committed: bool = False
    stopped: bool = False

    def clear(self, cleared: Cleared) -> None:
        """Let files go."""
        self.digests.update(cleared.digests.values())
        self.states.update(cleared.places.values())

    def covers(self, file: StagedFile) -> bool:
        """Return whether a file may be announced."""
        from lineage_plugin.hooks.digests import unchanged

        if isinstance(file.content, Path):
            known = self.states.get(file.content.resolve())
            if known is not None and unchanged(file.content, known):
                return True
        return bool(self.digests) and file.sha256() in self.digests


@dataclass(frozen=True, eq=False)
class Guard:
    """Guards one repository, or all.

    Attributes:
        repo: The repository, as ``(endpoint, owner/name)``; None for all.
        examine: What looks at uploads that were not cleared; None: they are blocked.
        locate: Finds the local files that an announced file can be.
        ledgers: What it has cleared itself, by repository. It counts for this guard alone: another one may be stricter.
    """

    repo: tuple[str, str] | None
    examine: Examiner | None
    locate: Callable[[OutgoingFile], Sequence[StagedFile]]
    ledgers: dict[tuple[str, str], _Ledger] = field(default_factory=dict, repr=False)


class Watch:
    """The guards of this process, and what was cleared in it."""

    def __init__(self) -> None:
        self._guards: list[Guard] = []
        self._ledgers: dict[tuple[str, str], _Ledger] = {}
        self._lock = threading.RLock()

    def clear(self, endpoint: str, cleared: Cleared) -> None:
        """Let files go, from now on."""
        with self._lock:
            ledger = self._ledger(endpoint, cleared.repo)
            ledger.clear(cleared)
            _note_sent(cleared, ledger)

    def sent(self, endpoint: str, repo: str) -> dict[str, Path]:
        """Return where weights lie that were cleared for a repository, by their names there."""
        with self._lock:
            return dict(self._ledger(endpoint, repo).sent)

    @contextmanager
    def guarding(self, guard: Guard) -> Iterator[None]:
        """Guard while the block runs."""
        self.add(guard)
        try:
            yield
        finally:
            self.remove(guard)

    def add(self, guard: Guard) -> None:
        """Guard from now on."""
        with self._lock:
            self._guards.append(guard)

    def remove(self, guard: Guard) -> None:
        """Guard no more."""
        with self._lock:
            self._guards.remove(guard)

    def on_request(self, request: Any) -> None:
        """Look at a request before it is sent: the hook.

        Args:
            request: A request of httpx.

        Raises:
            UploadBlocked: When it sends what was not cleared.
        """
        if _BUSY.get():
            return
        with self._lock:
            guards = list(self._guards)
        if not guards:
            return
        try:
            found = sending(request.method, str(request.url), request.read)
        except Unreadable as error:
            raise UploadBlocked(one_line(str(request.url.path), 200), [str(error)], exit_code=2) from error
        if found is None:
            return
        for guard in guards:
            if guard.repo is None or _key(*guard.repo) == _key(found.endpoint, found.repo):
                self._hold(found, guard, request.headers.get("authorization"))

    def _hold(self, found: Sending, guard: Guard, authorization: str | None) -> None:
        ledger = self._ledger(found.endpoint, found.repo)
        with self._lock:
            own = guard.ledgers.setdefault(_key(found.endpoint, found.repo), _Ledger())
        if found.step == "preupload":
            self._hold_announced(found, guard, own, ledger, authorization)
            return
        may_go = own.digests | own.earlier | ledger.digests
        if found.step == "lfs":
            _hold_placed(found, ledger, may_go)
            return
        # A client that makes its commit again in smaller parts would leave half of an upload there.
        ledger.stopped = ledger.stopped or not _is_whole(found, ledger, may_go)
        if ledger.stopped:
            missed = [file for file in found.files if not _may_commit(file, ledger, may_go)]
            raise _changed(found, missed[0] if missed else OutgoingFile("another file of this upload"))
        own.committed = True

    def _hold_announced(
        self, found: Sending, guard: Guard, own: _Ledger, ledger: _Ledger, authorization: str | None
    ) -> None:
        with self._lock:
            ledger.stopped = False
            if own.committed:
                own.earlier |= own.digests
                own.digests, own.states, own.committed = set(), {}, False
        counted = [file for file in found.files if _counts(file)]
        missed = [file for file in counted if not _is_cleared(file, guard, own, ledger)]
        if missed:
            if guard.examine is None:
                raise _changed(found, missed[0])
            scheme, _, token = (authorization or "").partition(" ")
            with busy():
                cleared = guard.examine(found, token if scheme.lower() == "bearer" else None)
            with self._lock:
                own.clear(cleared)
                _note_sent(cleared, ledger)
            for file in counted:
                if not _is_cleared(file, guard, own, ledger):
                    raise _changed(found, file)
        with self._lock:
            ledger.announced.update((file.name, file) for file in found.files)

    def _ledger(self, endpoint: str, repo: str) -> _Ledger:
        with self._lock:
            return self._ledgers.setdefault(_key(endpoint, repo), _Ledger())


def _key(endpoint: str, repo: str) -> tuple[str, str]:
    return endpoint.rstrip("/").lower(), repo


@contextmanager
def busy() -> Iterator[None]:
    """Mark the requests of the block as those of a check."""
    token = _BUSY.set(True)
    try:
        yield
    finally:
        _BUSY.reset(token)


def _counts(file: OutgoingFile) -> bool:
    """Return whether a file is weights or a card."""
    from lineage_plugin.hooks.staged import looks_like_weights

    return PurePosixPath(file.name).name == CARD or looks_like_weights(file.name, file.content or b"")


def _note_sent(cleared: Cleared, ledger: _Ledger) -> None:
    ledger.sent.update((name, path) for name, (path, _) in cleared.places.items() if not name.endswith(CARD))


def _is_cleared(file: OutgoingFile, guard: Guard, own: _Ledger, ledger: _Ledger) -> bool:
    found = guard.locate(file)
    return bool(found) and all(own.covers(one) or ledger.covers(one) for one in found)


def _hold_placed(found: Sending, ledger: _Ledger, may_go: set[str]) -> None:
    """Let objects go that were cleared, and those that are announced files of other kinds."""
    others = {file.size for file in ledger.announced.values() if not _counts(file)}
    for file in found.files:
        if file.sha256 not in may_go and file.size not in others:
            raise _changed(found, file)


def _is_whole(found: Sending, ledger: _Ledger, may_go: set[str]) -> bool:
    return all(_may_commit(file, ledger, may_go) for file in found.files)


def _may_commit(file: OutgoingFile, ledger: _Ledger, may_go: set[str]) -> bool:
    if file.sha256 is not None and file.size is None:
        # A copy that the server makes of what it has: nothing leaves this machine.
        return True
    announced = ledger.announced.get(file.name)
    harmless = announced is not None and announced.size == file.size and not _counts(announced)
    if (harmless or file.sha256 is None) and not _counts(file):
        return True
    return (file.sha256 or hashlib.sha256(file.content or b"").hexdigest()) in may_go


def _changed(found: Sending, file: OutgoingFile) -> UploadBlocked:
    name = one_line(file.name, 200) or f"an object of {file.size} bytes ({one_line(file.sha256 or '', 12)}...)"
    reason = f"{name}: these bytes were not checked: the file changed after the check, or was never seen by it"
    sent = "no weights were sent" if found.step != "commit" else "no commit was made of it"
    return UploadBlocked(found.repo, [reason], exit_code=2, remedy="Run the upload again.", sent=sent)


WATCH = Watch()
"""The one of this process."""
