"""Holds what a client of the Hub sends against what was cleared.

Every request of ``huggingface_hub`` passes here before it leaves. For the repositories that are guarded it stops, by
raising, a preupload, an LFS batch or a commit with weights or a card that were not cleared, byte for byte. Announced
weights are compared by the state of the local file, what is placed and committed by sha256: a file that changes after
the check does not arrive.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
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
"""As in :mod:`lineage_plugin.targets`, which a start of Python need not load."""


@dataclass(eq=False)
class _Clearances:
    """What may go to one repository.

    Attributes:
        whole: Clearances, each of one upload: what is announced together has to be in one of them.
        earlier: sha256 of what may go as part of uploads that have begun, but is to be looked at when it is announced
            again: the repository is another one now.
        committed: Whether there was a commit since the last announcement.
    """

    whole: list[Cleared] = field(default_factory=list)
    earlier: set[str] = field(default_factory=set)
    committed: bool = False

    def digests(self) -> set[str]:
        """Return the sha256 of all that may go."""
        return self.earlier.union(*(cleared.digests.values() for cleared in self.whole))

    def begin(self) -> None:
        """Look at everything anew, once there was a commit: the repository is another one now."""
        if self.committed:
            self.earlier, self.whole, self.committed = self.digests(), [], False


@dataclass(eq=False)
class _Repository:
    """What is known of one repository, by all guards.

    Attributes:
        cleared: What was cleared for every guard.
        sent: Where the weights lie that were cleared, and in which state they were, by their names in the repository;
            None where they have no file.
        announced: What was announced, by name.
        stopped: Names of files for which a commit was stopped, and that were not announced anew since.
    """

    cleared: _Clearances = field(default_factory=_Clearances)
    sent: dict[str, tuple[Path, FileStamp] | None] = field(default_factory=dict)
    announced: dict[str, OutgoingFile] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)

    def note(self, cleared: Cleared) -> None:
        """Note which weights were cleared."""
        weights = [name for name in cleared.digests if PurePosixPath(name).name != CARD]
        self.sent.update((name, cleared.places.get(name)) for name in weights)


def _has_changed(path: Path, stamp: FileStamp) -> bool:
    try:
        return not type(stamp).of(path).fits(stamp)
    except OSError:
        return True


def _nothing(_: object) -> Sequence[StagedFile]:
    return ()


@dataclass(frozen=True, eq=False)
class Guard:
    """Guards one repository, or all.

    Attributes:
        repo: The repository, as ``(endpoint, owner/name)``; None for all.
        examine: What looks at uploads that were not cleared; None: they are blocked.
        locate: Finds the local files that an announced file can be, the likeliest first.
        rest: Finds all files of the upload that a request is part of.
        copies: Names the files that the server copies within itself.
        on_block: Told what was stopped.
        own: What it has cleared itself, by repository. It counts for this guard alone: another one may be stricter.
    """

    repo: tuple[str, str] | None
    examine: Examiner | None
    locate: Callable[[OutgoingFile], Sequence[StagedFile]]
    rest: Callable[[Sending], Sequence[StagedFile]] = _nothing
    copies: Callable[[], Collection[str]] = frozenset
    on_block: Callable[[UploadBlocked], None] | None = None
    own: dict[tuple[str, str], _Clearances] = field(default_factory=dict, repr=False)


class Watch:
    """The guards of this process, and what was cleared in it."""

    def __init__(self) -> None:
        self._guards: list[Guard] = []
        self._repositories: dict[tuple[str, str], _Repository] = {}
        self._lock = threading.RLock()

    def clear(self, endpoint: str, cleared: Cleared) -> None:
        """Let files go, from now on."""
        with self._lock:
            repository = self._repository(endpoint, cleared.repo)
            repository.cleared.whole.append(cleared)
            repository.note(cleared)

    def cleared(self, endpoint: str, repo: str) -> tuple[Cleared, ...]:
        """Return what was cleared for a repository for every guard, the latest first."""
        with self._lock:
            return tuple(reversed(self._repository(endpoint, repo).cleared.whole))

    def sent(self, endpoint: str, repo: str) -> dict[str, Path | None]:
        """Return where weights lie that were cleared for a repository, by their names; None where they are gone."""
        with self._lock:
            known = dict(self._repository(endpoint, repo).sent)
        return {name: None if place is None or _has_changed(*place) else place[0] for name, place in known.items()}

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
        """Look at a request before it is sent.

        Args:
            request: A request of httpx.

        Raises:
            UploadBlocked: When it sends what was not cleared.
        """
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
                try:
                    self._hold(found, guard, request.headers.get("authorization"))
                except UploadBlocked as error:
                    if guard.on_block is not None:
                        guard.on_block(error)
                    raise

    def _hold(self, found: Sending, guard: Guard, authorization: str | None) -> None:
        with self._lock:
            repository = self._repository(found.endpoint, found.repo)
            own = guard.own.setdefault(_key(found.endpoint, found.repo), _Clearances())
        if found.step == "preupload":
            self._hold_announced(found, guard, own, repository, authorization)
            return
        with self._lock:
            may_go = own.digests() | repository.cleared.digests()
            if found.step == "lfs":
                _hold_placed(found, repository, may_go)
                return
            missed = [file for file in found.files if not _may_commit(file, repository, may_go, guard.copies())]
            # A client that makes its commit again in smaller parts would leave half of an upload there.
            repository.stopped.update(file.name for file in missed)
            if repository.stopped:
                raise _changed(found, missed[0] if missed else OutgoingFile(min(repository.stopped)))
            own.committed = True

    def _hold_announced(
        self, found: Sending, guard: Guard, own: _Clearances, repository: _Repository, authorization: str | None
    ) -> None:
        with self._lock:
            repository.stopped.difference_update(file.name for file in found.files)
            own.begin()
        missed = _missed(found, guard, own, repository)
        if missed is not None:
            if guard.examine is None:
                raise _changed(found, missed)
            scheme, _, token = (authorization or "").partition(" ")
            cleared = guard.examine(found, token if scheme.lower() == "bearer" else None)
            with self._lock:
                own.whole.append(cleared)
                repository.note(cleared)
            missed = _missed(found, guard, own, repository)
            if missed is not None:
                raise _changed(found, missed)
        with self._lock:
            repository.announced.update((file.name, file) for file in found.files)

    def _repository(self, endpoint: str, repo: str) -> _Repository:
        with self._lock:
            return self._repositories.setdefault(_key(endpoint, repo), _Repository())


def _key(endpoint: str, repo: str) -> tuple[str, str]:
    return endpoint.rstrip("/").lower(), repo


def _counts(file: OutgoingFile) -> bool:
    """Return whether a file is weights or a card."""
    from lineage_plugin.hooks.staged import looks_like_weights

    return PurePosixPath(file.name).name == CARD or looks_like_weights(file.name, file.content or b"")


def _missed(found: Sending, guard: Guard, own: _Clearances, repository: _Repository) -> OutgoingFile | None:
    """Return a file that is announced, or comes with what is, and was not cleared; None when all were."""
    counted = [(file, guard.locate(file)) for file in found.files if _counts(file)]
    for file, places in counted:
        if not places:
            return file
    clearances = [*own.whole, *repository.cleared.whole]
    together = {one.name: one for one in guard.rest(found)} | {file.name: places[0] for file, places in counted}
    if together and not any(cleared.covers_all(together) for cleared in clearances):
        return OutgoingFile(min(together))
    # Where several local files look like the announced one, it may be any of them.
    for file, places in counted:
        if not all(any(cleared.covers(one) for cleared in clearances) for one in places[1:]):
            return file
    return None


def _hold_placed(found: Sending, repository: _Repository, may_go: set[str]) -> None:
    """Let objects go that were cleared, and those that are announced files of other kinds."""
    others = {file.size for file in repository.announced.values() if not _counts(file)}
    for file in found.files:
        if file.sha256 not in may_go and file.size not in others:
            raise _changed(found, file)


def _may_commit(file: OutgoingFile, repository: _Repository, may_go: set[str], copies: Collection[str]) -> bool:
    if (file.sha256 is not None and file.size is None) or file.name in copies:
        # A copy that the server makes of what it has.
        return True
    announced = repository.announced.get(file.name)
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
