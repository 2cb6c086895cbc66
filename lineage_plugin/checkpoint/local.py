"""Checkpoints on this machine: a folder or a single file, read through memory maps.

A map shows the file as it is at the moment of reading. That the file is the one whose header was checked is verified
when it is mapped; a file that is cut short after that ends the process, as with every memory map.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.base import SafetensorsCheckpoint
from lineage_plugin.checkpoint.dtypes import decode
from lineage_plugin.checkpoint.files import Stamp, inside, list_files, opened
from lineage_plugin.checkpoint.header import Header, header_size, parse_header
from lineage_plugin.checkpoint.layout import MAX_INDEX, Layout, find_weights, join_headers, parse_index
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.matrix import Block, gather
from lineage_plugin.checkpoint.names import is_plain_path, shown
from lineage_plugin.checkpoint.types import FileInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsafeCheckpoint, UnsupportedEncoding

__all__ = ["LocalCheckpoint", "open_local"]

_PREFIX = 64
_HASH_CHUNK = 1 << 20
_BESIDE = (
    *("config.json", "README.md", "adapter_config.json", "tokenizer_config.json"),
    *("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "added_tokens.json", "vocab.txt"),
)


class LocalCheckpoint(SafetensorsCheckpoint):
    """A safetensors checkpoint on this machine; made by :func:`open_local`."""

    local = True
    revision: str | None = None

    def __init__(
        self,
        id: str,
        folder: Path,
        files: dict[str, FileInfo],
        headers: dict[str, Header],
        stamps: dict[str, Stamp],
        weight_map: dict[str, str] | None,
        ledger: Ledger,
    ) -> None:
        where = shown(folder)
        super().__init__(id, where, files, tuple(headers), join_headers(headers, weight_map, where=where), ledger)
        self._folder = folder
        self._stamps = stamps
        self._maps: dict[str, NDArray[np.uint8]] = {}
        self._digests: dict[str, str] = {}
        self._lock = threading.Lock()

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file of the model as it is stored; see :class:`Checkpoint`.

        Raises:
            UnreadableCheckpoint: When it is there but cannot be read, or links to a file outside the model.
        """
        if not is_plain_path(name) or not os.path.lexists(self._folder / name):
            return None
        with self._ledger.timed(), opened(inside(self._folder, name)) as (descriptor, stamp):
            return _read(descriptor, 0, min(limit, stamp.size))

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of the weight files; none are known without ``compute``, all with it.

        Hashing is no part of the byte budget.

        Raises:
            UnreadableCheckpoint: When a file cannot be read or has changed.
        """
        with self._lock:
            if compute:
                with self._ledger.timed():
                    for name in self.weight_files:
                        if name not in self._digests:
                            self._digests[name] = self._sha256(name)
            return dict(self._digests)

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with opened(self._folder / name, expect=self._stamps[name]) as (descriptor, _):
            while chunk := os.read(descriptor, _HASH_CHUNK):
                digest.update(chunk)
                self._ledger.hashed(len(chunk))
        return digest.hexdigest()

    def _read(self, parts: list[Block], kinds: list[np.dtype[np.generic]]) -> list[NDArray[np.float32]]:
        sizes = [part.shape[0] * part.shape[1] * kind.itemsize for part, kind in zip(parts, kinds, strict=True)]
        self._ledger.claim(sum(sizes))
        result = []
        for part, kind, size in zip(parts, kinds, sizes, strict=True):
            if size == 0:
                result.append(np.empty(part.shape, np.float32))
                continue
            info = part.info
            stored = self._map(info.file)[info.offset : info.offset + info.nbytes].view(kind)
            result.append(decode(gather(stored.reshape(part.height, part.width), part), info.dtype))
            self._ledger.spend(size, size)
        return result

    def _map(self, name: str) -> NDArray[np.uint8]:
        """Map a weight file, once. It must be the file whose header was read."""
        with self._lock:
            if name not in self._maps:
                with opened(self._folder / name, expect=self._stamps[name]) as (descriptor, _):
                    mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
                self._maps[name] = np.frombuffer(mapped, np.uint8)
            return self._maps[name]


def open_local(path: str | Path, *, budget: int | None = None) -> LocalCheckpoint:
    """Open a folder, a safetensors file or a shard index.

    Reads the headers of the weight files. A file that is given by itself is the whole checkpoint; its neighbours
    ``config.json``, ``README.md`` and the like still belong to it.

    Args:
        path: The folder or file; it exists.
        budget: Largest number of weight-file bytes to read, or None.

    Returns:
        The checkpoint.

    Raises:
        InputError: When there are no weights that can be read safely; says what to do about it.
    """
    place = Path(path)
    ledger = Ledger(shown(path), budget)
    with ledger.timed():
        if place.is_dir():
            folder, files = place, list_files(place)
            special = [n for n in ("model.safetensors", "model.safetensors.index.json") if os.path.lexists(place / n)]
            for name in special:
                # Not in the listing although it is there: a folder, a pipe, a device or a broken link.
                if name not in files:
                    raise UnreadableCheckpoint(shown(place / name), "this is not a regular file", "Replace it.")
            layout = find_weights(files, where=shown(place))
        else:
            folder, layout, files = _lone_file(place)
        weight_map = None
        names: tuple[str, ...] = layout.files
        if layout.index is not None:
            weight_map = _read_index(folder, layout.index, files)
            names = tuple(sorted(set(weight_map.values())))
        headers: dict[str, Header] = {}
        stamps: dict[str, Stamp] = {}
        for name in names:
            headers[name], stamps[name] = _read_header(folder, name, ledger)
            files[name] = FileInfo(name, stamps[name].size)
        return LocalCheckpoint(str(path), folder, files, headers, stamps, weight_map, ledger)


def _lone_file(path: Path) -> tuple[Path, Layout, dict[str, FileInfo]]:
    """Say what a single file stands for."""
    folder, name, where = path.parent, path.name, shown(path)
    if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")):
        raise UnsafeCheckpoint(
            where, "this is a pickle, which runs code when loaded", "Convert it to safetensors first."
        )
    if name.endswith(".gguf"):
        raise UnsupportedEncoding(where, "GGUF is not read yet", "Give the safetensors weights.")
    layout = Layout(name, ()) if name.endswith(".safetensors.index.json") else Layout(None, (name,))
    files: dict[str, FileInfo] = {}
    for beside in (*_BESIDE, name):
        if (folder / beside).is_file():
            files[beside] = FileInfo(beside, (folder / beside).stat().st_size)
    return folder, layout, files


def _read_index(folder: Path, name: str, files: dict[str, FileInfo]) -> dict[str, str]:
    where = shown(folder / name)
    with opened(folder / name) as (descriptor, stamp):
        if stamp.size > MAX_INDEX:
            raise UnreadableCheckpoint(where, f"an index of {stamp.size} bytes is over the limit of {MAX_INDEX}")
        data = _read(descriptor, 0, stamp.size)
    weight_map = parse_index(data, None, where=where)
    for shard in dict.fromkeys(weight_map.values()):
        if shard not in files and not os.path.lexists(folder / shard):
            raise UnreadableCheckpoint(where, f"the shard '{shown(shard, 120)}' is missing", "Get the missing file.")
    return weight_map


def _read_header(folder: Path, name: str, ledger: Ledger) -> tuple[Header, Stamp]:
    path = folder / name
    where = shown(path)
    with opened(path) as (descriptor, stamp):
        prefix = _read(descriptor, 0, _PREFIX)
        size = header_size(prefix, stamp.size, where=where)
        ledger.claim(size)
        data = _read(descriptor, 0, size)
    if len(data) != size:
        raise UnreadableCheckpoint(where, "the file changed while it was read", "Run again when it is complete.")
    ledger.spend(size, 0)
    return parse_header(data, stamp.size, file=name, where=where), stamp


def _read(descriptor: int, start: int, size: int) -> bytes:
    """Read exactly ``size`` bytes from ``start``, or up to the end of the file."""
    os.lseek(descriptor, start, os.SEEK_SET)
    pieces = []
    while size > 0 and (piece := os.read(descriptor, min(size, 1 << 24))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
