"""The files that some code of this process is about to commit, whoever wrote it.

Every upload of ``huggingface_hub`` makes a ``CommitOperationAdd`` of each file, and no request says where on this
machine a file lies. So while a gate is installed, operations are noted as they are made, by weak references: they go
when their upload is done with them.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

    from lineage_plugin.hooks.wire import OutgoingFile

    _Index = dict[tuple[str, int | None, bytes | None], list[tuple["_Noted", CommitOperationAdd]]]

__all__ = ["Operations"]


@dataclass(frozen=True, slots=True)
class _Noted:
    number: int
    thread: int
    operation: weakref.ref[Any]


class Operations:
    """The additions that are alive in this process, the latest first."""

    def __init__(self) -> None:
        self._noted: dict[int, _Noted] = {}
        self._gone: deque[int] = deque()
        self._spent: set[int] = set()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._undo: Callable[[], None] | None = None

    def watch(self) -> None:
        """Note every addition, and every copy within the server, from now on."""
        if self._undo is not None:
            return
        from huggingface_hub import CommitOperationAdd, CommitOperationCopy

        # Not __post_init__: clients before 2.0 have a subclass with another one.
        originals = {kind: kind.__init__ for kind in (CommitOperationAdd, CommitOperationCopy)}

        def noting(original: Callable[..., None]) -> Callable[..., None]:
            @wraps(original)
            def init(operation: Any, *arguments: Any, **named: Any) -> None:
                original(operation, *arguments, **named)
                self._note(operation)

            return init

        def undo() -> None:
            for kind, original in originals.items():
                setattr(kind, "__init__", original)  # noqa: B010  # a class is no place for mypy to assign

        for kind, original in originals.items():
            setattr(kind, "__init__", noting(original))  # noqa: B010
        self._undo = undo

    def forget(self) -> None:
        """Note nothing more, and forget what was noted."""
        if self._undo is not None:
            self._undo()
            self._undo = None
        with self._lock:
            self._noted.clear()
            self._spent.clear()

    def upload_of(self, files: Iterable[OutgoingFile]) -> tuple[list[CommitOperationAdd], list[OutgoingFile]]:
        """Return the additions of the upload that sends some files.

        These belong to one upload: what lies below one local folder, under the names that it has there; of additions
        that are bytes or lie elsewhere, those that one thread has made. Of two with one name the later one counts.

        Args:
            files: Files that a preupload announces.

        Returns:
            The additions, and those of the files that none of them is.
        """
        alive = self._alive()
        index = _by_look(alive)
        found: dict[int, tuple[_Noted, CommitOperationAdd]] = {}
        unknown = []
        for file in files:
            candidates = self._candidates(file, index)
            if candidates:
                found[candidates[0][0].number] = candidates[0]
            else:
                unknown.append(file)
        if not self._spent & found.keys():
            alive = [(noted, one) for noted, one in alive if noted.number not in self._spent]
        groups = {_group(noted, one) for noted, one in found.values()}
        together = {noted.number: (noted, one) for noted, one in alive if _group(noted, one) in groups} | found
        by_name: dict[str, CommitOperationAdd] = {}
        for number in sorted(together, reverse=True):
            by_name.setdefault(together[number][1].path_in_repo, together[number][1])
        for _, one in found.values():
            by_name[one.path_in_repo] = one
        return list(by_name.values()), unknown

    def meant(self, file: OutgoingFile) -> list[CommitOperationAdd]:
        """Return the additions that an announced file can be of: one, unless several look the same."""
        return [one for _, one in self._candidates(file, _by_look(self._alive()))]

    def copies(self) -> frozenset[str]:
        """Return the names of the files that copies within the server are about to make."""
        with self._lock:
            operations = [one.operation() for one in list(self._noted.values())]
        return frozenset(one.path_in_repo for one in operations if one is not None and not _is_addition(one))

    def spend(self, operations: Iterable[CommitOperationAdd]) -> None:
        """Prefer others from now on: the upload of these was blocked, though something may still refer to them."""
        with self._lock:
            self._spent.update(self._noted[id(one)].number for one in operations if id(one) in self._noted)

    def _candidates(self, file: OutgoingFile, index: _Index) -> list[tuple[_Noted, CommitOperationAdd]]:
        """Return which additions look like a file: no spent ones and none of other threads, if there are others."""
        same = index.get((file.name, file.size, file.content), [])
        fresh = [(noted, one) for noted, one in same if noted.number not in self._spent] or same
        return [(noted, one) for noted, one in fresh if noted.thread == threading.get_ident()] or fresh

    def _note(self, operation: Any) -> None:
        key = id(operation)

        def gone(_: object) -> None:
            # Called at any moment, also by a thread that has the lock: so no lock is taken here.
            self._gone.append(key)

        with self._lock:
            self._purge()
            self._noted[key] = _Noted(next(self._numbers), threading.get_ident(), weakref.ref(operation, gone))

    def _purge(self) -> None:
        while self._gone:
            noted = self._noted.get(key := self._gone.popleft())
            # Another one may have come to lie in its place.
            if noted is not None and noted.operation() is None:
                del self._noted[key]
                self._spent.discard(noted.number)

    def _alive(self) -> list[tuple[_Noted, CommitOperationAdd]]:
        """Return the additions that are not committed, the latest first."""
        with self._lock:
            self._purge()
            noted = sorted(self._noted.values(), key=lambda one: one.number, reverse=True)
        alive = [(one, operation) for one in noted if (operation := one.operation()) is not None]
        return [(one, operation) for one, operation in alive if _is_addition(operation) and not operation._is_committed]


def _is_addition(operation: Any) -> bool:
    from huggingface_hub import CommitOperationAdd

    return isinstance(operation, CommitOperationAdd)


def _by_look(alive: Iterable[tuple[_Noted, CommitOperationAdd]]) -> _Index:
    """Sort additions by all that an announcement says of a file: name, size and first bytes."""
    index: _Index = {}
    for noted, one in alive:
        info = one.upload_info
        index.setdefault((one.path_in_repo, info.size, info.sample), []).append((noted, one))
    return index


def _group(noted: _Noted, operation: CommitOperationAdd) -> tuple[str, int]:
    content = operation.path_or_fileobj
    if isinstance(content, str | Path):
        parts, names = Path(content).parts, PurePosixPath(operation.path_in_repo).parts
        if parts[-len(names) :] == names:
            return str(Path(*parts[: -len(names)])), 0
    return "", noted.thread
