"""Fingerprints that this user's machine has made, by id and commit.

A commit never changes, so what was made for it once stays right. Only fingerprints that this program made itself from
the weights are put here, never those that a repository ships.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from lineage_plugin.errors import InputError
from lineage_plugin.fingerprint.file import MAX_FILE, read_fingerprint, to_bytes
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.shelf import Shelf, cache_folder

__all__ = ["FingerprintCache", "cache_folder"]

DEFAULT_LIMIT = 256 << 20
"""Bytes that the folder may hold: some 4,000 models."""


class FingerprintCache:
    """A folder of fingerprints.

    Args:
        endpoint: The Hub that the ids are of.
        folder: The folder; None for the user's.
        limit: Bytes that it may hold.
    """

    def __init__(self, endpoint: str, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self._shelf = Shelf((folder or cache_folder()) / "fingerprints", ".safetensors", limit, MAX_FILE)
        self._endpoint = endpoint

    def get(self, id: str, commit: str) -> Fingerprint | None:
        """Return the fingerprint of a model at a commit; None when it is not here, or what is here is damaged."""
        key = self._key(id, commit)
        data = self._shelf.get(key)
        if data is None:
            return None
        try:
            found = read_fingerprint(data, key)
        except InputError:
            return None
        if (found.source.id, found.source.revision) != (id, commit):
            return None
        self._shelf.used(key)
        return found

    def put(self, fingerprint: Fingerprint) -> None:
        """Keep a fingerprint that was made from weights of the Hub; a folder that cannot be written to is no error."""
        source = fingerprint.source
        if source.revision is None:
            return
        # What could not be read again (a file has an odd name) is not kept.
        with contextlib.suppress(InputError):
            self._shelf.put(self._key(source.id, source.revision), to_bytes(fingerprint))

    def _key(self, id: str, commit: str) -> str:
        # Ids are hashed: two that differ by case only are different models, but not on every disk.
        return hashlib.sha256(f"{self._endpoint}\n{id}\n{commit}".encode()).hexdigest()
