"""Fingerprints that this user's machine has made, by id and commit.

A commit never changes, so what was made for it once stays right. Only fingerprints that this program made itself from
the weights are put here, never those that a repository ships. The folder may be deleted at any time; it grows to a
limit, and then those that were not used for longest go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from lineage_plugin.checkpoint.files import opened, read_exactly
from lineage_plugin.errors import InputError
from lineage_plugin.fingerprint.file import MAX_FILE, read_fingerprint, to_bytes
from lineage_plugin.fingerprint.types import Fingerprint

__all__ = ["FingerprintCache", "cache_folder"]

DEFAULT_LIMIT = 256 << 20
"""Bytes that the folder may hold: some 4,000 models."""
_NAME = re.compile(r"[0-9a-f]{64}\Z")


def cache_folder() -> Path:
    """Return where fingerprints are kept: ``LINEAGE_CACHE``, or ``lineage`` in the user's cache folder."""
    given = os.environ.get("LINEAGE_CACHE")
    if given:
        return Path(given).expanduser()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lineage"
    except RuntimeError:
        # Whoever has no home keeps nothing: there is no file below this one.
        return Path(os.devnull)


class FingerprintCache:
    """A folder of fingerprints.

    Args:
        endpoint: The Hub that the ids are of.
        folder: The folder; None for the user's.
        limit: Bytes that it may hold.
    """

    def __init__(self, endpoint: str, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self._folder = (folder or cache_folder()) / "fingerprints"
        self._endpoint = endpoint
        self._limit = limit

    def get(self, id: str, commit: str) -> Fingerprint | None:
        """Return the fingerprint of a model at a commit; None when it is not here, or what is here is damaged."""
        path = self._path(id, commit)
        try:
            with opened(path) as (descriptor, stamp):
                data = read_exactly(descriptor, 0, min(stamp.size, MAX_FILE + 1))
            found = read_fingerprint(data, path.name)
        except InputError:
            return None
        if (found.source.id, found.source.revision) != (id, commit):
            return None
        # What was used last is kept longest.
        with contextlib.suppress(OSError):
            os.utime(path)
        return found

    def put(self, fingerprint: Fingerprint) -> None:
        """Keep a fingerprint that was made from weights of the Hub; a folder that cannot be written to is no error."""
        source = fingerprint.source
        if source.revision is None:
            return
        path = self._path(source.id, source.revision)
        # What could not be read again (a file has an odd name) is not kept.
        with contextlib.suppress(OSError, InputError):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Whole or not at all, whoever else writes.
            descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(to_bytes(fingerprint))
                Path(name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
            self._shrink()

    def _path(self, id: str, commit: str) -> Path:
        # Ids are hashed: two that differ by case only are different models, but not on every disk.
        name = hashlib.sha256(f"{self._endpoint}\n{id}\n{commit}".encode()).hexdigest()
        return self._folder / name[:2] / f"{name}.safetensors"

    def _shrink(self) -> None:
        found = []
        for path in self._folder.glob("*/*.safetensors"):
            # The folder may hold what is not the cache's, too.
            if not _NAME.match(path.stem):
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
