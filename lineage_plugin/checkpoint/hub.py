"""Checkpoints on the Hub, read by HTTP ranges from one commit.

Requests are few by construction: one for the repository (commit, files, sizes and digests at once), one for the shard
index if there is one, two for the header of each shard (the Hub's redirect and the bytes), one for each range after
that. The address that the redirect gave is kept and used for the ranges, without the token; when it expires it is asked
for once more. Every answer is held against the commit and the ETag seen first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.base import SafetensorsCheckpoint
from lineage_plugin.checkpoint.dtypes import decode
from lineage_plugin.checkpoint.header import LENGTH_BYTES, Header, header_size, parse_header
from lineage_plugin.checkpoint.layout import MAX_INDEX, find_weights, join_headers, parse_index
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.matrix import Block, Segments, segments
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.ranges import Piece, collect, merge
from lineage_plugin.checkpoint.repository import RemoteFile, Repository, describe
from lineage_plugin.checkpoint.transport import Patience, Transport
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["GAP", "HubCheckpoint", "open_hub"]

GAP = 16 * 1024
"""Stretches with at most this many bytes between them are fetched as one."""
MOST_RANGES = 256
"""Most requests of one ``read`` for one file; beyond it wider gaps are fetched, too."""
_WORKERS = 8
_KEPT = 8 << 20
"""Largest small file that is kept in memory."""
_FIRST_GUESS = 64 * 1024
_SMALLEST_GUESS = 16 * 1024
_LARGEST_GUESS = 4 << 20
_BYTES_PER_ENTRY = 110
"""Bytes of one header entry beyond the tensor's name, generously."""

T = TypeVar("T")
R = TypeVar("R")


class HubCheckpoint(SafetensorsCheckpoint):
    """A safetensors checkpoint on the Hub; made by :func:`open_hub`."""

    local = False

    def __init__(
        self,
        repository: Repository,
        remote: dict[str, RemoteFile],
        headers: dict[str, Header],
        weight_map: dict[str, str] | None,
        ledger: Ledger,
        gap: int,
    ) -> None:
        tensors = join_headers(headers, weight_map, where=repository.asked)
        super().__init__(repository.asked, repository.asked, repository.files, tuple(headers), tensors, ledger)
        self.revision = repository.commit
        self._repository = repository
        self._remote = remote
        self._headers = headers
        self._gap = gap
        self._kept: dict[tuple[str, int], bytes] = {}
        self._kept_lock = threading.Lock()

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file of the model as it is stored; see :class:`Checkpoint`.

        What is not too large is kept, so that asking again costs nothing.

        Raises:
            HubError: When the Hub does not deliver.
        """
        if name not in self.files:
            return None
        with self._kept_lock, self._ledger.timed():
            key = (name, min(limit, self.files[name].size))
            if key in self._kept:
                return self._kept[key]
            data = self._repository.small_file(name, limit)
            if len(data) <= _KEPT:
                self._kept[key] = data
            return data

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return the sha256 that the Hub stores for the weight files; ``compute`` adds nothing to it."""
        known = {name: self.files[name].sha256 for name in self.weight_files}
        return {name: digest for name, digest in known.items() if digest is not None}

    def _read(self, parts: list[Block], kinds: list[np.dtype[np.generic]]) -> list[NDArray[np.float32]]:
        wanted: list[list[Segments]] = [
            segments(part, kind.itemsize, self._gap) if 0 not in part.shape else []
            for part, kind in zip(parts, kinds, strict=True)
        ]
        pieces = self._fetch(parts, wanted)
        results = []
        for part, kind, stretches in zip(parts, kinds, wanted, strict=True):
            result = np.empty(part.shape, np.float32)
            for stretch in stretches:
                raw = collect(stretch.starts, stretch.length, pieces[part.info.file]).view(kind)
                stored = raw.reshape(part.shape[0], -1)
                if stretch.picks is not None:
                    stored = stored[:, stretch.picks]
                result[:, stretch.target] = decode(stored, part.info.dtype)
            results.append(result)
        return results

    def _fetch(self, parts: list[Block], wanted: list[list[Segments]]) -> dict[str, list[Piece]]:
        """Fetch what the blocks need, all files at once, and return it by file."""
        starts: dict[str, list[NDArray[np.int64]]] = {}
        stops: dict[str, list[NDArray[np.int64]]] = {}
        for part, stretches in zip(parts, wanted, strict=True):
            for stretch in stretches:
                # What came along with the header is here already.
                absent = stretch.starts + stretch.length > len(self._remote[part.info.file].head.data)
                starts.setdefault(part.info.file, []).append(stretch.starts[absent])
                stops.setdefault(part.info.file, []).append(stretch.starts[absent] + stretch.length)
        jobs: list[tuple[str, tuple[int, int]]] = []
        for file in starts:
            spans = merge(np.concatenate(starts[file]), np.concatenate(stops[file]), self._gap, MOST_RANGES)
            jobs += [(file, span) for span in spans]
        # A range that begins in what came along with the header continues where that ends.
        heads = {file: self._remote[file].head.data for file in starts}
        fetched = [(file, (max(start, len(heads[file])), stop)) for file, (start, stop) in jobs]
        self._ledger.claim(sum(stop - start for _, (start, stop) in fetched))
        failed = threading.Event()

        def fetch(job: tuple[str, tuple[int, int]]) -> bytes:
            file, span = job
            return self._remote[file].fetch(span, self._headers[file].size, failed)

        bodies = _concurrently(fetch, fetched, failed)
        pieces = {file: [self._remote[file].head] for file in starts}
        for (file, (start, _)), body in zip(jobs, bodies, strict=True):
            pieces[file].append(Piece(start, heads[file][start:] + body))
        return pieces


def open_hub(
    repo: str,
    revision: str | None = None,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    budget: int | None = None,
    gap: int = GAP,
    patience: Patience | None = None,
) -> HubCheckpoint:
    """Open a model on the Hub.

    Asks for the repository, pins the commit, and reads the header of every weight file.

    Args:
        repo: ``owner/name``, already validated.
        revision: Branch, tag or commit; None for the default branch.
        token: Hub token, or None for the environment's. Sent to the endpoint only.
        endpoint: Address of the Hub, or None for ``HF_ENDPOINT`` or the public Hub.
        budget: Largest number of weight-file bytes to read, or None.
        gap: Stretches with at most this many bytes between them are fetched as one.
        patience: How failures that may pass are met.

    Returns:
        The checkpoint.

    Raises:
        HubNotFound: When there is no such model or revision.
        HubDenied: When it is gated or private.
        HubUnreachable: When the Hub does not answer, or only with errors.
        InputError: When there are no weights that can be read safely.
    """
    from huggingface_hub import constants

    address = (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    ledger = Ledger(repo, budget)
    with ledger.timed():
        transport = Transport(repo, address, token or None, ledger, patience or Patience())
        repository = describe(transport, repo, revision)
        files = repository.files
        layout = find_weights(files, where=repo)
        weight_map, names = None, layout.files
        if layout.index is not None:
            where = f"{repo}/{layout.index}"
            if files[layout.index].size > MAX_INDEX:
                raise UnreadableCheckpoint(where, f"an index over the limit of {MAX_INDEX} bytes")
            weight_map = parse_index(repository.small_file(layout.index, MAX_INDEX), files.keys(), where=where)
            names = tuple(sorted(set(weight_map.values())))
        remote = {name: RemoteFile(repository, files[name]) for name in names}
        guesses = _guesses(names, weight_map)
        stop = threading.Event()
        headers = _concurrently(lambda name: _read_header(remote[name], guesses[name], repo, ledger, stop), names, stop)
        return HubCheckpoint(repository, remote, dict(zip(names, headers, strict=True)), weight_map, ledger, gap)


def _guesses(names: Sequence[str], weight_map: Mapping[str, str] | None) -> dict[str, int]:
    """Guess how long the headers are: from the index, or what nearly always suffices."""
    if weight_map is None:
        return dict.fromkeys(names, _FIRST_GUESS)
    sizes = dict.fromkeys(names, 4096)
    for tensor, file in weight_map.items():
        sizes[file] += len(tensor) + _BYTES_PER_ENTRY
    return {name: min(_LARGEST_GUESS, max(_SMALLEST_GUESS, size)) for name, size in sizes.items()}


def _read_header(remote: RemoteFile, guess: int, repo: str, ledger: Ledger, stop: threading.Event) -> Header:
    """Read the header of a weight file: a first guess, and the remainder if it is longer."""
    info = remote.info
    where = f"{repo}/{shown(info.name)}"
    if info.size < LENGTH_BYTES + 2:
        raise UnreadableCheckpoint(where, f"{info.size} bytes are too few for a safetensors file")
    first = min(guess, info.size)
    ledger.claim(first)
    data = remote.fetch((0, first), first, stop)
    size = header_size(data, info.size, where=where)
    if size > first:
        ledger.claim(size - first)
        data += remote.fetch((first, size), size, stop)
    header = parse_header(data, info.size, file=info.name, where=where)
    ledger.spend(0, len(data) - size)
    remote.head = Piece(0, data)
    return header


def _concurrently(work: Callable[[T], R], jobs: Sequence[T], stop: threading.Event) -> list[R]:
    """Do the jobs in a few threads; the first failure ends them all and is raised."""
    if len(jobs) <= 1:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(min(_WORKERS, len(jobs)), thread_name_prefix="lineage-read") as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
