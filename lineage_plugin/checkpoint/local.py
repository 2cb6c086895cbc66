"""Models on this machine, read through a read-only memory map."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.assemble import assemble
from lineage_plugin.checkpoint.files import Stamp, inside, list_files, opened, read_exactly
from lineage_plugin.checkpoint.formats import choose
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.matrix import Block, gather
from lineage_plugin.checkpoint.names import is_plain_path, shown
from lineage_plugin.checkpoint.pointers import PointedSource, Remote, find_pointers
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.checkpoint.types import FileInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["BESIDE", "LocalSource", "open_local"]

_HASH_CHUNK = 1 << 20
_HELD = 8 << 20
"""Bytes of mapped files that are read before their pages are handed back."""
_STANDARD = ("model.safetensors", "model.safetensors.index.json")
BESIDE = (
    *("config.json", "params.json", "README.md", "adapter_config.json", "tokenizer_config.json"),
    *("quantize_config.json", "quant_config.json", "hf_quant_config.json"),
    *("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "added_tokens.json", "vocab.txt"),
)
"""Small files that belong to the weights in their folder."""

T = TypeVar("T")


class LocalSource:
    """A folder on this machine; satisfies :class:`~lineage_plugin.checkpoint.source.Source`.

    Args:
        id: What the user called it.
        folder: The folder.
        files: Its files by name; sizes of weight files are brought up to date when they are opened.
        ledger: The counters.
    """

    local = True
    revision: str | None = None

    def __init__(self, id: str, folder: Path, files: dict[str, FileInfo], ledger: Ledger) -> None:
        self.id = id
        self.where = shown(folder)
        self.files = files
        self.ledger = ledger
        self._folder = folder
        self._stamps: dict[str, Stamp] = {}
        self._beginnings: dict[str, int] = {}
        self._maps: dict[str, mmap.mmap] = {}
        self._touched = 0
        self._digests: dict[str, str] = {}
        self._lock = threading.Lock()

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file of the model as it is stored; see :class:`Source`.

        Raises:
            UnreadableCheckpoint: When it is there but cannot be read, or links to a file outside the model.
        """
        if not is_plain_path(name) or not os.path.lexists(self._folder / name):
            return None
        with self.ledger.timed(), opened(inside(self._folder, name)) as (descriptor, stamp):
            return read_exactly(descriptor, 0, min(limit, stamp.size))

    def bytes(self, name: str, start: int, stop: int) -> bytes:
        """Return a stretch of a weight file that describes its tensors; see :class:`Source`."""
        with opened(self._folder / name, expect=self._stamps.get(name)) as (descriptor, stamp):
            with self._lock:
                self._stamps[name] = stamp
                self.files[name] = FileInfo(name, stamp.size)
            stop = min(stop, stamp.size)
            known = self._beginnings.get(name, 0) if start == 0 else start
            fresh = max(0, stop - max(start, known))
            self.ledger.claim(fresh)
            data = read_exactly(descriptor, start, stop - start)
            self.ledger.spend(fresh, 0)
        if start == 0:
            self._beginnings[name] = max(known, stop)
        return data

    def gather(self, parts: Sequence[Block], kinds: Sequence[np.dtype[np.generic]]) -> list[NDArray[np.generic]]:
        """Return the selected elements as they are stored; see :class:`Source`."""
        sizes = [part.shape[0] * part.shape[1] * kind.itemsize for part, kind in zip(parts, kinds, strict=True)]
        self.ledger.claim(sum(sizes))
        found: list[NDArray[np.generic]] = []
        for part, kind, size in zip(parts, kinds, sizes, strict=True):
            if size == 0:
                found.append(np.empty(part.shape, kind))
                continue
            info = part.info
            mapped = np.frombuffer(self._map(info.file), np.uint8)
            stored = mapped[info.offset : info.offset + info.nbytes].view(kind)
            found.append(gather(stored.reshape(part.height, part.width), part))
            self.ledger.spend(size, size)
            # Columns lie on every page of their matrix, and with a row come its neighbours.
            self._let_go(info.nbytes if part.columns is not None else min(4 * size, info.nbytes))
        return found

    def digests(self, names: Sequence[str], *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of files; none are known without ``compute``, all with it.

        Hashing is no part of the byte budget.

        Raises:
            UnreadableCheckpoint: When a file cannot be read or has changed.
        """
        with self._lock:
            if compute:
                with self.ledger.timed():
                    for name in names:
                        if name not in self._digests:
                            self._digests[name] = self._sha256(name)
            return {name: self._digests[name] for name in names if name in self._digests}

    def each(self, work: Callable[[str], T], names: Sequence[str]) -> list[T]:
        """Do something with every file, one after the other: a disk is no faster side by side."""
        return [work(name) for name in names]

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with opened(self._folder / name, expect=self._stamps.get(name)) as (descriptor, _):
            while chunk := os.read(descriptor, _HASH_CHUNK):
                digest.update(chunk)
                self.ledger.hashed(len(chunk))
        return digest.hexdigest()

    def _map(self, name: str) -> mmap.mmap:
        """Map a weight file, once. It must be the file whose header was read."""
        with self._lock:
            if name not in self._maps:
                with opened(self._folder / name, expect=self._stamps.get(name)) as (descriptor, _):
                    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
                self._maps[name] = mapped
            return self._maps[name]

    def _let_go(self, touched: int) -> None:
        """Hand pages that were read back to the system now and then; it brings them again if they are looked at."""
        with self._lock:
            self._touched += touched
            if self._touched > _HELD:
                self._touched = 0
                for mapped in self._maps.values():
                    if hasattr(mmap, "MADV_DONTNEED"):
                        mapped.madvise(mmap.MADV_DONTNEED)


def open_local(path: str | Path, *, budget: int | None = None, remote: Remote | None = None) -> StoredCheckpoint:
    """Open a folder, a weight file or a shard index.

    Reads the headers of the weight files. A file that is given by itself is the whole checkpoint; its neighbours
    ``config.json``, ``README.md`` and the like still belong to it. In a git clone, pointers may stand for the files
    (:mod:`lineage_plugin.checkpoint.pointers`).

    Args:
        path: The folder or file; it exists.
        budget: Largest number of weight-file bytes to read, or None.
        remote: How the Hub may be asked for files that a git clone lacks; None when it may not.

    Returns:
        The checkpoint.

    Raises:
        InputError: When there are no weights that can be read safely; says what to do about it.
        HubError: When the Hub does not deliver what a pointer stands for.
    """
    place = Path(path)
    ledger = Ledger(shown(path), budget)
    if not place.is_dir():
        source = LocalSource(str(path), place.parent, _neighbours(place), ledger)
        return assemble(_with_pointers(source, place.parent, remote, place.name), place.name)
    with ledger.timed():
        files = list_files(place)
    for name in _STANDARD:
        # Not in the listing although it is there: a folder, a pipe, a device or a broken link.
        if os.path.lexists(place / name) and name not in files:
            raise UnreadableCheckpoint(shown(place / name), "this is not a regular file", "Replace it.")
    return assemble(_with_pointers(LocalSource(str(path), place, files, ledger), place, remote))


def _with_pointers(source: LocalSource, folder: Path, remote: Remote | None, only: str | None = None) -> Source:
    """Put the Hub behind a folder in which pointers stand for files."""
    pointers = find_pointers(folder, source.files)
    if not pointers:
        return source
    # Clones are often pulled for one format; pointers of the others do not matter.
    suffixes = choose(source.files, where=source.where, only=only)[0].suffixes
    local = not any(name.lower().endswith(suffixes) or name == only for name in pointers)
    return PointedSource(source, folder, pointers, remote, local)


def _neighbours(path: Path) -> dict[str, FileInfo]:
    """List a file that is given by itself and what belongs to it; for an index, everything beside it."""
    folder, name = path.parent, path.name
    files = list_files(folder) if name.endswith(".index.json") else {}
    for beside in (*BESIDE, name):
        if (folder / beside).is_file():
            files[beside] = FileInfo(beside, (folder / beside).stat().st_size)
    return files
