"""Git LFS pointers: the small text files that stand for large ones in a git clone.

A clone made without git-lfs, or with ``GIT_LFS_SKIP_SMUDGE=1``, holds instead of each weight file::

    version https://git-lfs.github.com/spec/v1
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
    size 12345

(Git LFS specification, docs/spec.md; files in Xet storage have the same pointer.) That tells the digest without
reading anything, and when the clone comes from the Hub the bytes can be fetched from there by range, from the commit
that is checked out. They are taken only when the Hub states the same digest for the file.

The address in ``.git/config`` decides which repository is asked for, never which server: requests go to the configured
endpoint alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.files import opened, read_exactly
from lineage_plugin.checkpoint.git import Clone, find_clone
from lineage_plugin.checkpoint.matrix import Block
from lineage_plugin.checkpoint.names import is_model_id, shown
from lineage_plugin.checkpoint.types import FileInfo
from lineage_plugin.errors import HubNotFound, UnreadableCheckpoint

if TYPE_CHECKING:
    from lineage_plugin.checkpoint.hub import HubSource
    from lineage_plugin.checkpoint.local import LocalSource

__all__ = ["PointedSource", "Remote", "find_pointers", "model_id_of", "parse_pointer"]

_SIZES = range(124, 160)
"""Bytes of a pointer file; the size it tells has 1 to 19 digits."""
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"oid sha256:(?P<oid>[0-9a-f]{64})\n"
    rb"size (?P<size>0|[1-9][0-9]{0,18})\n"
)
_SCP = re.compile(r"^(?:[A-Za-z0-9_.-]+@)?(?P<host>[A-Za-z0-9.-]+):(?!//)(?P<path>.+)\Z")
_PUBLIC = frozenset({"huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co"})
"""Names of the public Hub."""
_PULL = "Run `git lfs pull` in the clone."

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """How the Hub may be asked for what a clone lacks.

    Attributes:
        token: Hub token, or None for the environment's.
        endpoint: Address of the Hub, or None for ``HF_ENDPOINT`` or the public Hub.
    """

    token: str | None = None
    endpoint: str | None = None


def parse_pointer(data: bytes) -> tuple[str, int] | None:
    """Parse a pointer file.

    Args:
        data: The whole file.

    Returns:
        The sha256 of the file it stands for, and its size in bytes; None when this is no pointer of version 1 without
        extensions, to the letter.
    """
    match = _POINTER.fullmatch(data)
    if match is None or int(match["size"]) >= 1 << 62:
        return None
    return match["oid"].decode("ascii"), int(match["size"])


def find_pointers(folder: Path, files: Mapping[str, FileInfo]) -> dict[str, FileInfo]:
    """Return what the pointer files among the files of a folder stand for, by name.

    Args:
        folder: The folder.
        files: Its files.
    """
    found: dict[str, FileInfo] = {}
    for name, info in files.items():
        if info.size in _SIZES:
            try:
                with opened(folder / name) as (descriptor, stamp):
                    pointer = parse_pointer(read_exactly(descriptor, 0, min(stamp.size, _SIZES.stop)))
            except UnreadableCheckpoint:
                continue  # said when it is asked for
            if pointer is not None:
                found[name] = FileInfo(name, pointer[1], pointer[0])
    return found


def model_id_of(url: str, endpoint: str) -> str | None:
    """Return the id of the model that a git remote is, if it lies on a Hub.

    Args:
        url: Address of the remote as git has it: ``https://huggingface.co/owner/name``, ``git@hf.co:owner/name``, with
            or without ``.git``. User and password are passed over.
        endpoint: The Hub's own address.

    Returns:
        ``owner/name``; None when the remote is elsewhere, or no model.
    """
    try:
        home, parts = urlsplit(endpoint), urlsplit(url)
        host, path = parts.hostname, parts.path
        if parts.scheme in ("http", "https"):
            same = host in _PUBLIC or (parts.scheme, parts.port) == (home.scheme, home.port)
        elif parts.scheme in ("ssh", "git+ssh"):
            same = True
        elif "://" not in url and (match := _SCP.match(url)) is not None:
            host, path, same = match["host"].lower(), match["path"], True
        else:
            return None
    except ValueError:
        return None
    names = _PUBLIC if home.hostname in _PUBLIC else frozenset({home.hostname})
    id = path.strip("/").removesuffix(".git")
    return id if same and host in names and "/" in id and is_model_id(id) else None


class PointedSource:
    """A clone some of whose files are pointers; satisfies :class:`~lineage_plugin.checkpoint.source.Source`.

    What is there is read from the folder, what is pointed to from the Hub, which is asked for only when it is needed.

    Args:
        here: The folder.
        folder: Where it is.
        pointers: What its pointers stand for, by name.
        remote: How the Hub may be asked; None when it may not.
        local: Whether nothing that is likely to be read is a pointer.
    """

    revision: str | None = None

    def __init__(
        self, here: LocalSource, folder: Path, pointers: Mapping[str, FileInfo], remote: Remote | None, local: bool
    ) -> None:
        here.files.update(pointers)
        self.id = here.id
        self.where = here.where
        self.files: Mapping[str, FileInfo] = here.files
        self.ledger = here.ledger
        self.local = local
        self._here = here
        self._folder = folder
        self._pointers = pointers
        self._remote = remote
        self._hub: HubSource | None = None
        self._lock = threading.Lock()

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file, fetched when it is a pointer and held against its digest; see :class:`Source`."""
        if name not in self._pointers:
            return self._here.data(name, limit)
        data = self._there([name]).data(name, limit)
        expected = self._pointers[name]
        if data is not None and len(data) == expected.size and hashlib.sha256(data).hexdigest() != expected.sha256:
            raise self._wrong(name, "the Hub sent something else than its pointer stands for")
        return data

    def bytes(self, name: str, start: int, stop: int) -> bytes:
        """Return a stretch of a weight file that describes its tensors; see :class:`Source`."""
        source = self._there([name]) if name in self._pointers else self._here
        return source.bytes(name, start, stop)

    def gather(self, parts: Sequence[Block], kinds: Sequence[np.dtype[np.generic]]) -> list[NDArray[np.generic]]:
        """Return the selected elements as they are stored; see :class:`Source`."""
        away = [part.info.file in self._pointers for part in parts]
        if not any(away):
            return self._here.gather(parts, kinds)
        there = self._there({part.info.file for part, far in zip(parts, away, strict=True) if far})
        results: list[NDArray[np.generic] | None] = [None] * len(parts)
        for far in (False, True):
            mine = [number for number, other in enumerate(away) if other is far]
            source = there if far else self._here
            for number, values in zip(
                mine, source.gather([parts[n] for n in mine], [kinds[n] for n in mine]), strict=True
            ):
                results[number] = values
        return [values for values in results if values is not None]

    def digests(self, names: Sequence[str], *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of files: those of pointers are known, the others as in a folder."""
        known = self._here.digests([name for name in names if name not in self._pointers], compute=compute)
        for name in names:
            if name in self._pointers and (digest := self._pointers[name].sha256) is not None:
                known[name] = digest
        return known

    def each(self, work: Callable[[str], T], names: Sequence[str]) -> list[T]:
        """Do something with every file, side by side when some have to be fetched."""
        pointed = [name for name in names if name in self._pointers]
        return self._there(pointed).each(work, names) if pointed else self._here.each(work, names)

    def _there(self, names: Collection[str]) -> HubSource:
        """Return the repository on the Hub, in which the named files have the digests of their pointers."""
        with self._lock:
            if self._hub is None:
                self._hub = self._connect(next(iter(names)))
        for name in names:
            expected, found = self._pointers[name], self._hub.files.get(name)
            if found is None:
                raise self._wrong(name, f"{self._hub.where} does not have it on the Hub")
            if found.sha256 != expected.sha256 or found.size != expected.size:
                raise self._wrong(name, f"{self._hub.where} holds another file of this name on the Hub")
        return self._hub

    def _connect(self, name: str) -> HubSource:
        if self._remote is None:
            raise self._wrong(name, "fetching what it stands for is not allowed offline")
        clone = find_clone(self._folder)
        if clone is None or clone.url is None or not clone.commits:
            raise self._wrong(name, "the folder is no git clone that says where it comes from")
        from lineage_plugin.checkpoint.hub import connect, endpoint_of

        endpoint = endpoint_of(self._remote.endpoint)
        repo = model_id_of(clone.url, endpoint)
        if repo is None:
            raise self._wrong(name, "the remote of the clone is no model on the Hub")
        return self._newest(repo, clone, endpoint, connect)

    def _newest(self, repo: str, clone: Clone, endpoint: str, connect: Callable[..., HubSource]) -> HubSource:
        """Return the repository at the first commit of the clone that the Hub has."""
        folder = os.path.relpath(os.path.abspath(self._folder), clone.folder)  # noqa: PTH100  # as find_clone does
        inside = "" if folder == os.curdir else Path(folder).as_posix()
        token = self._remote.token if self._remote is not None else None
        # A commit that is not pushed yet: what the remote was last seen to have, or has now, may hold the files, too.
        # Sizes and digests decide.
        for commit in (*clone.commits, None):
            try:
                source = connect(repo, commit, token=token, endpoint=endpoint, ledger=self.ledger)
                return source.below(inside) if inside else source
            except HubNotFound:
                if commit is None:
                    raise
        raise AssertionError("the default branch is asked for last")

    def _wrong(self, name: str, problem: str) -> UnreadableCheckpoint:
        return UnreadableCheckpoint(
            f"{self.where}/{shown(name)}", f"this is a Git LFS pointer, not the file, and {problem}", _PULL
        )
