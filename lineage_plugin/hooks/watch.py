"""Holds what a client of the Hub sends against what was cleared.

A request hook of the client that ``huggingface_hub`` uses for everything. For the repositories it guards it stops, by
raising, a preupload, an LFS batch or a commit with weights or a card that were not cleared, byte for byte. Announced
weights are compared by the state of the local file, what is placed and committed by sha256: a file that changes after
the check does not arrive.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
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
    """

    digests: set[str] = field(default_factory=set)
    states: dict[Path, FileStamp] = field(default_factory=dict)
    sent: dict[str, Path] = field(default_factory=dict)
    announced: dict[str, OutgoingFile] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Guard:
    """Guards one repository, or all.

    Attributes:
        repo: The repository, as ``(endpoint, owner/name)``; None for all.
        examine: What looks at uploads that were not cleared; None: they are blocked.
        locate: Finds the local files of an announced upload, by name.
    """

    repo: tuple[str, str] | None
    examine: Examiner | None
    locate: Callable[[OutgoingFile], StagedFile | None]


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
            ledger.digests.update(cleared.digests.values())
            ledger.states.update(cleared.places.values())
            weights = {name: path for name, (path, _) in cleared.places.items() if not name.endswith(CARD)}
            ledger.sent.update(weights)

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
            if guard.repo in (None, (found.endpoint, found.repo)):
                self._hold(found, guard, request.headers.get("authorization"))

    def _hold(self, found: Sending, guard: Guard, authorization: str | None) -> None:
        ledger = self._ledger(found.endpoint, found.repo)
        if found.step == "preupload":
            self._hold_announced(found, guard, ledger, authorization)
        elif found.step == "lfs":
            _hold_placed(found, ledger)
        else:
            _hold_committed(found, ledger)

    def _hold_announced(self, found: Sending, guard: Guard, ledger: _Ledger, authorization: str | None) -> None:
        counted = [file for file in found.files if _counts(file)]
        if any(not self._is_cleared(file, guard, ledger) for file in counted):
            if guard.examine is None:
                raise _changed(found, next(f for f in counted if not self._is_cleared(f, guard, ledger)))
            scheme, _, token = (authorization or "").partition(" ")
            with busy():
                cleared = guard.examine(found, token if scheme.lower() == "bearer" else None)
            self.clear(found.endpoint, cleared)
            for file in counted:
                if not self._is_cleared(file, guard, ledger):
                    raise _changed(found, file)
        with self._lock:
            ledger.announced.update((file.name, file) for file in found.files)

    def _is_cleared(self, file: OutgoingFile, guard: Guard, ledger: _Ledger) -> bool:
        from lineage_plugin.hooks.digests import unchanged

        found = guard.locate(file)
        if found is None:
            return False
        if isinstance(found.content, Path):
            known = ledger.states.get(found.content.resolve())
            if known is not None and unchanged(found.content, known):
                return True
        return found.sha256() in ledger.digests

    def _ledger(self, endpoint: str, repo: str) -> _Ledger:
        with self._lock:
            return self._ledgers.setdefault((endpoint.rstrip("/"), repo), _Ledger())


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


def _hold_placed(found: Sending, ledger: _Ledger) -> None:
    """Let objects go that were cleared, and those that are announced files of other kinds."""
    others = {file.size for file in ledger.announced.values() if not _counts(file)}
    for file in found.files:
        if file.sha256 not in ledger.digests and file.size not in others:
            raise _changed(found, file)


def _hold_committed(found: Sending, ledger: _Ledger) -> None:
    for file in found.files:
        if file.sha256 is not None and file.size is None:
            # A copy that the server makes of what it has: nothing leaves this machine.
            continue
        announced = ledger.announced.get(file.name)
        harmless = announced is not None and announced.size == file.size and not _counts(announced)
        if (harmless or file.sha256 is None) and not _counts(file):
            continue
        digest = file.sha256 or hashlib.sha256(file.content or b"").hexdigest()
        if digest not in ledger.digests:
            raise _changed(found, file)


def _changed(found: Sending, file: OutgoingFile) -> UploadBlocked:
    name = one_line(file.name, 200) or f"an object of {file.size} bytes ({one_line(file.sha256 or '', 12)}...)"
    reason = f"{name}: these bytes were not checked: the file changed after the check, or was never seen by it"
    sent = "no weights were sent" if found.step != "commit" else "no commit was made of it"
    return UploadBlocked(found.repo, [reason], exit_code=2, remedy="Run the upload again.", sent=sent)


WATCH = Watch()
"""The one of this process."""
