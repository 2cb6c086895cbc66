"""Small files that are kept in the user's cache folder, and may be deleted at any time.

What is kept there was made on this machine; a file that is damaged, that something else has put there or that cannot
be read is not there, and a folder that cannot be written to keeps nothing. Neither is an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

from lineage_plugin.errors import InputError

__all__ = ["Shelf", "cache_folder"]

_KEY = re.compile(r"[0-9a-f]{64}\Z")


def cache_folder() -> Path:
    """Return where things are kept: ``LINEAGE_CACHE``, or ``lineage`` in the user's cache folder."""
    given = os.environ.get("LINEAGE_CACHE")
    if given:
        return Path(given).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lineage"
    except RuntimeError:
        # Whoever has no home keeps nothing: there is no file below this one.
        return Path(os.devnull)


class Shelf:
    """A folder of files ``xx/<key><suffix>``, where ``xx`` are the first two digits of the key.

    It grows to a limit, and then those that were not used for longest go first.

    Args:
        folder: The folder; made when something is put there.
        suffix: The ending of its files, with the dot.
        limit: Bytes that it may hold.
        largest: Bytes that one file may have.
    """

    def __init__(self, folder: Path, suffix: str, limit: int, largest: int) -> None:
        self._folder = folder
        self._suffix = suffix
        self._limit = limit
        self._largest = largest

    def get(self, key: str) -> bytes | None:
        """Return what is kept under a key (a sha256 in hex); None when there is nothing, or nothing that can be."""
        # Here, since it brings numpy along.
        from lineage_plugin.checkpoint.files import opened, read_exactly

        try:
            with opened(self._path(key)) as (descriptor, stamp):
                data = read_exactly(descriptor, 0, min(stamp.size, self._largest + 1))
        except InputError:
            return None
        return data if len(data) <= self._largest else None

    def used(self, key: str) -> None:
        """Note that something was of use: what was used last is kept longest."""
        with contextlib.suppress(OSError):
            os.utime(self._path(key))

    def put(self, key: str, data: bytes) -> None:
        """Keep something, whole or not at all, whoever else writes; what is larger than it may be is not kept."""
        if len(data) > self._largest:
            return
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
            self._shrink()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{self._suffix}"

    def _shrink(self) -> None:
        found = []
        for path in self._folder.glob(f"*/*{self._suffix}"):
            # The folder may hold what is not the cache's, too.
            if not _KEY.match(path.stem):
                continue
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found, key=lambda item: item[0]):
            if total <= self._limit:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
