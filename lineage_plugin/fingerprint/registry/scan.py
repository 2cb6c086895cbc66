"""Which known model is this from? A registry, its index, and the coins of the candidates."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UsageError
from lineage_plugin.fingerprint.cache import cache_folder
from lineage_plugin.fingerprint.file import read_fingerprint
from lineage_plugin.fingerprint.registry.index import Index
from lineage_plugin.fingerprint.registry.relatives import Relative, relatives_among
from lineage_plugin.fingerprint.registry.store import Registry
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.options import Options

__all__ = ["KnownModels", "registry_folder"]

MOST_CANDIDATES = 4
"""Candidates whose coins are tossed: the nearest by code, unrelated ones hardly ever among them."""
_LOOKED_AT = 64
"""Candidates among which these are chosen, one an id."""


def registry_folder(given: str | None) -> Path:
    """Return where the registry is: where the user says, ``LINEAGE_REGISTRY``, or in the user's cache folder."""
    return Path(given or os.environ.get("LINEAGE_REGISTRY") or cache_folder() / "registry").expanduser()


class KnownModels:
    """A registry, held in memory by its search codes.

    Args:
        folder: The registry's folder.

    Raises:
        UsageError: When there is none, it is empty, or what reads it is not installed.
        InputError: When it is none that this version can read.
    """

    def __init__(self, folder: Path) -> None:
        self._registry = Registry.open(folder)
        self._catalogue = self._registry.codes()
        if not len(self._catalogue):
            raise UsageError(f"{shown(folder)}: the registry is empty. Add models with `lineage registry build`")
        self._index = Index(self._catalogue.codes)

    def __len__(self) -> int:
        return len(self._catalogue)

    def get(self, id: str) -> Fingerprint | None:
        """Return the fingerprint of a model of the registry, of the commit added last; None when it is not there."""
        entry = self._registry.get(id)
        return None if entry is None else _read(entry.fingerprint, id)

    def relatives(self, suspect: Fingerprint, options: Options, declared: Collection[str] = ()) -> tuple[Relative, ...]:
        """Return the models of the registry that are relatives of a model: possible parents first, the nearest first.

        Args:
            suspect: The model. Entries of its own id are passed over.
            options: Bar and seed.
            declared: Ids that are looked at in any case.

        Raises:
            InputError: When the registry is damaged.
        """
        nearest: dict[str, int] = {}
        for candidate in self._index.candidates(suspect, _LOOKED_AT):
            # Neither the model itself nor further commits of another may crowd out the others.
            id = self._catalogue.key(candidate.row).id
            if id != suspect.source.id and len(nearest) < MOST_CANDIDATES:
                nearest.setdefault(id, candidate.row)
        rows = list(nearest.values())
        keys = [self._catalogue.key(row) for row in rows]
        entries = [
            (key.id, key.commit, _read(data, key.id))
            for key, data in zip(keys, self._registry.fetch(self._catalogue, rows), strict=True)
            if data is not None
        ]
        for id in declared:
            entry = None if id in nearest or id == suspect.source.id else self._registry.get(id)
            if entry is not None:
                entries.append((id, entry.listing.commit, _read(entry.fingerprint, id)))
        return relatives_among(suspect, entries, len(self), options)


def _read(data: bytes, id: str) -> Fingerprint:
    """Read a fingerprint of the registry, which must be the one of the model that the registry says."""
    remedy = "Find what is broken with `lineage registry verify`; --repair removes it."
    try:
        found = read_fingerprint(data, shown(id))
    except InputError as error:
        raise UnreadableCheckpoint(error.where, f"of the registry, {error.problem}", remedy) from None
    if found.source.id != id:
        raise UnreadableCheckpoint(shown(id), "the registry holds another model's fingerprint under this name", remedy)
    return found
