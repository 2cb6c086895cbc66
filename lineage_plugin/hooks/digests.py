"""sha256 of local files, none of which is read twice.

The digest of a file is kept in the user's cache folder, by what the file system says of the file: device, inode, size,
time of the last change of its content (mtime) and of its inode (ctime). While all of that is the same, the file is
not read again. Somebody who changes a file and sets its mtime back changes its ctime by that.

Not seen is what leaves no trace there: a change below the file system, and a write through a memory map in the seconds
until the system notes it. On Windows the ctime is the time of creation, so an mtime that was set back is not seen.

Example:
    >>> digests = Digests()
    >>> found = digests.of([Path("model.safetensors")])
    >>> unchanged(Path("model.safetensors"), digests.stamp(Path("model.safetensors")))
    True
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lineage_plugin.shelf import cache_folder

if TYPE_CHECKING:
    import sqlite3

    from lineage_plugin.options import Progress

__all__ = ["Digests", "FileStamp", "unchanged"]

T = TypeVar("T")

_CHUNK = 1 << 20
_THREADS = 4
_TICK = 0.1
"""Seconds between two calls of the progress callback."""
_PATIENCE = 5.0
"""Seconds that one process waits for another's write to the database."""
_LIMIT = 100_000
_DAY = 86_400 * 10**9
_GRANULE = 2 * 10**9
"""Nanoseconds that the coarsest time stamp in use (FAT) stands for."""
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_TABLE = """
CREATE TABLE IF NOT EXISTS digests_1 (
    file TEXT PRIMARY KEY, state TEXT NOT NULL, sha256 TEXT NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A state of a file.

    Attributes:
        device: The device it lies on.
        inode: Its number there; 0 where there are no such numbers.
        size: Bytes.
        mtime_ns: Last change of the content, in nanoseconds.
        ctime_ns: Last change of the inode, in nanoseconds.
        settled: Whether another state would have another stamp: false for a file that had changed only just.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    settled: bool

    @classmethod
    def of(cls, place: Path | int) -> FileStamp:
        """Return the present stamp of a file, by its path (links are followed) or its descriptor.

        Raises:
            OSError: When there is no such file.
        """
        # "Racily clean", as https://git-scm.com/docs/racy-git calls it: a file that is written, hashed and written
        # again within one tick of the file system's clock has the same stamp with another content. Only a stamp that
        # was old when the reading began is sure to be another one after a write. The clock is looked at first.
        now = time.time_ns()
        found = os.fstat(place) if isinstance(place, int) else place.stat()
        settled = found.st_ino != 0 and max(found.st_mtime_ns, found.st_ctime_ns) < now - _GRANULE
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, settled)

    @property
    def file(self) -> str:
        """Which file it is. Text, since inode numbers may be wider than an integer of the database."""
        return f"{self.device}:{self.inode}"

    @property
    def state(self) -> str:
        """In which state it is."""
        return f"{self.size}:{self.mtime_ns}:{self.ctime_ns}"

    def fits(self, other: FileStamp) -> bool:
        """Return whether another stamp is of the same file in the same state."""
        return (self.file, self.state) == (other.file, other.state)


def unchanged(path: Path, stamp: FileStamp) -> bool:
    """Return whether a file is certainly still what it was; nothing is read of it.

    Args:
        path: The file.
        stamp: What it was, from :meth:`Digests.stamp`.

    Returns:
        False, too, when it is gone, or had changed so shortly before it was hashed that its stamp proves nothing.
    """
    try:
        return stamp.settled and FileStamp.of(path).fits(stamp)
    except OSError:
        return False


class Digests:
    """Digests of files, kept from run to run; several processes may share the folder.

    A folder that cannot be written to and a damaged database are no errors: files are hashed anew then.

    Args:
        folder: Where the database ``digests.sqlite`` lies; None for the user's cache folder.
        limit: Files that are remembered; those that were not asked for longest go first.
    """

    def __init__(self, folder: Path | None = None, limit: int = _LIMIT) -> None:
        self._database = (folder or cache_folder()) / "digests.sqlite"
        self._limit = limit
        self._stamps: dict[Path, FileStamp] = {}

    def of(self, paths: Sequence[Path], progress: Progress | None = None) -> dict[Path, str]:
        """Return the sha256 of files, in hex. Those that are not known are read, several side by side.

        Args:
            paths: The files; links are followed.
            progress: Called as ``progress("hashing files", done, total)`` in bytes while files are read, from the
                thread that called.

        Returns:
            The digests by path, in the order of the paths.

        Raises:
            UnreadableCheckpoint: When a file is missing, no regular file, not permitted, or changes while it is read.
        """
        stamps: dict[Path, FileStamp] = {}
        for path in paths:
            # What cannot be looked at cannot be opened either; that says why.
            with contextlib.suppress(OSError):
                stamps[path] = FileStamp.of(path)
        known = self._known(stamps.values())
        found: dict[Path, str] = {}
        for path, stamp in stamps.items():
            if (digest := known.get((stamp.file, stamp.state))) is not None:
                found[path] = digest
                self._stamps[path] = stamp
        fresh = [path for path in dict.fromkeys(paths) if path not in found]
        if fresh:
            sizes = {path: stamps[path].size if path in stamps else 0 for path in fresh}
            found |= self._hash_all(sizes, progress)
        return {path: found[path] for path in paths}

    def stamp(self, path: Path) -> FileStamp:
        """Return what a file was when :meth:`of` gave its digest.

        Raises:
            KeyError: When that was not asked.
        """
        return self._stamps[path]

    def _hash_all(self, sizes: Mapping[Path, int], progress: Progress | None) -> dict[Path, str]:
        work, total = _Hashing(), sum(sizes.values())
        done: dict[Path, tuple[str, FileStamp]] = {}
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1, len(sizes))) as pool:
            # The largest first: if it came last, it would be read alone.
            futures = {
                pool.submit(work.hash, path): path for path in sorted(sizes, key=sizes.__getitem__, reverse=True)
            }
            try:
                waiting = set(futures)
                while waiting:
                    finished, waiting = wait(waiting, _TICK, FIRST_EXCEPTION)
                    # Errors last, so that what was done beside them is kept.
                    for future in sorted(finished, key=lambda one: one.exception() is not None):
                        done[futures[future]] = future.result()
                    if progress is not None:
                        progress("hashing files", min(work.bytes, total), total)
            finally:
                # After an error or an interruption the other files are not read to their end.
                work.stopped.set()
                pool.shutdown(cancel_futures=True)
                self._keep(done.values())
        self._stamps |= {path: stamp for path, (_, stamp) in done.items()}
        return {path: digest for path, (digest, _) in done.items()}

    def _known(self, stamps: Iterable[FileStamp]) -> dict[tuple[str, str], str]:
        asked = {stamp.file for stamp in stamps}
        select = "SELECT file, state, sha256, used FROM digests_1 WHERE file = ?"

        def look_up(database: sqlite3.Connection) -> list[tuple[str, str, str, int]]:
            return [row for file in asked for row in database.execute(select, (file,))]

        rows = self._ask(look_up) if asked else None
        # Columns of SQLite hold values of any type.
        rows = [row for row in rows or () if _SHA256.match(str(row[2])) and isinstance(row[3], int)]
        now = time.time_ns()
        # Not at every look-up: writing takes as long as all the rest.
        if old := [row[0] for row in rows if not now - _DAY < row[3] <= now]:
            update = "UPDATE digests_1 SET used = ? WHERE file = ?"
            self._ask(lambda database: database.executemany(update, [(now, file) for file in old]))
        return {(file, state): digest for file, state, digest, _ in rows}

    def _keep(self, found: Iterable[tuple[str, FileStamp]]) -> None:
        now = time.time_ns()
        rows = [(stamp.file, stamp.state, digest, now) for digest, stamp in found if stamp.settled]

        def write(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO digests_1 VALUES (?, ?, ?, ?)", rows)
            database.execute(
                "DELETE FROM digests_1 WHERE file IN (SELECT file FROM digests_1 ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (self._limit,),
            )

        if rows:
            self._ask(write)

    def _ask(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something with the database, all of it or nothing; None where it cannot be used."""
        try:
            import sqlite3
        except ImportError:  # Python can be built without it.
            return None
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            # The plain rollback journal, since homes on a network have no shared memory, which a write-ahead log needs.
            with contextlib.closing(sqlite3.connect(self._database, timeout=_PATIENCE)) as database, database:
                database.execute(_TABLE)
                return work(database)
        except sqlite3.OperationalError:  # Busy, read-only, no room.
            return None
        except sqlite3.DatabaseError:
            # Damaged, or not ours: the next run begins another. The journal first, or it would be played into that.
            for name in ("digests.sqlite-journal", "digests.sqlite"):
                with contextlib.suppress(OSError):
                    self._database.with_name(name).replace(self._database.with_name(f"{name}.damaged"))
            return None
        except OSError:
            return None


class _Hashing:
    """The reading of several files, each in a thread.

    Attributes:
        stopped: Set when nobody waits for the result any more.
        bytes: Bytes read so far, of all files.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.bytes = 0
        self._lock = threading.Lock()

    def hash(self, path: Path) -> tuple[str, FileStamp]:
        """Return the sha256 of a file, and its stamp before and after.

        Raises:
            UnreadableCheckpoint: As for :meth:`Digests.of`.
            CancelledError: When the reading was stopped.
        """
        from lineage_plugin.checkpoint.files import changed, opened

        digest = hashlib.sha256()
        buffer = memoryview(bytearray(_CHUNK))
        with opened(path) as (descriptor, _), FileIO(descriptor, closefd=False) as file:
            before = FileStamp.of(descriptor)
            size = 0
            # A file that grows as fast as it is read has no end.
            while size <= before.size and (count := file.readinto(buffer)):
                if self.stopped.is_set():
                    raise CancelledError
                digest.update(buffer[:count])
                size += count
                with self._lock:
                    self.bytes += count
            # By the path, since another file may have taken the place of this one.
            if size != before.size or not FileStamp.of(path).fits(before):
                raise changed(path)
        return digest.hexdigest(), before
