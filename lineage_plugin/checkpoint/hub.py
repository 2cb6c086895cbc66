"""Checkpoints on the Hub, read by HTTP ranges from one commit.

Requests are few by construction: one for the repository (commit, files, sizes and digests at once), one for the shard
index if there is one, two for the header of each shard (the Hub's redirect and the bytes), one for each range after
that. The address that the redirect gave is kept and used for the ranges, without the token; when it expires it is asked
for once more. Every answer is held against the commit and the ETag seen first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.assemble import assemble
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.matrix import Block, Segments, segments
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.ranges import Piece, collect, merge
from lineage_plugin.checkpoint.repository import RemoteFile, Repository, describe
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.checkpoint.transport import Patience, Transport
from lineage_plugin.errors import HubNotFound

__all__ = ["GAP", "HubSource", "concurrently", "connect", "endpoint_of", "open_hub"]

GAP = 16 * 1024
"""Stretches with at most this many bytes between them are fetched as one."""
MOST_RANGES = 256
"""Most requests of one ``read`` for one file; beyond it wider gaps are fetched, too."""
_WORKERS = 8
_KEPT = 8 << 20
"""Largest small file that is kept in memory."""

T = TypeVar("T")
R = TypeVar("R")


class HubSource:
    """A repository of the Hub at one commit; satisfies :class:`~lineage_plugin.checkpoint.source.Source`."""

    local = False

    def __init__(self, repository: Repository, ledger: Ledger, gap: int) -> None:
        self.id = f"{repository.asked}/{repository.folder}".rstrip("/")
        self.where = shown(self.id)
        self.revision: str | None = repository.commit
        self.files = repository.files
        self.ledger = ledger
        self._repository = repository
        self._remote: dict[str, RemoteFile] = {}
        self._gap = gap
        self._kept: dict[tuple[str, int], bytes] = {}
        self._lock = threading.Lock()
        self._kept_lock = threading.Lock()
        self._stop = threading.Event()

    def below(self, folder: str) -> HubSource:
        """Return a folder of the repository as a model of its own.

        Args:
            folder: Its path, without a slash at the end.
        """
        return HubSource(self._repository.below(folder), self.ledger, self._gap)

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file of the model as it is stored; see :class:`Source`.

        What is not too large is kept, so that asking again costs nothing.

        Raises:
            HubError: When the Hub does not deliver.
        """
        if name not in self.files:
            return None
        with self._kept_lock, self.ledger.timed():
            key = (name, min(limit, self.files[name].size))
            if key in self._kept:
                return self._kept[key]
            data = self._repository.small_file(name, limit)
            if len(data) <= _KEPT:
                self._kept[key] = data
            return data

    def bytes(self, name: str, start: int, stop: int) -> bytes:
        """Return a stretch of a weight file that describes its tensors; see :class:`Source`.

        The beginning of a file is kept, for small tensors often lie right behind the header.
        """
        remote = self._file(name)
        stop = min(stop, remote.info.size)
        head = remote.head.data
        if stop <= len(head):
            return head[start:stop]
        first = len(head) if start <= len(head) else start
        self.ledger.claim(stop - first)
        fresh = remote.fetch((first, stop), stop, self._stop)
        if first == len(head):
            remote.head = Piece(0, head + fresh)
            return remote.head.data[start:stop]
        return fresh

    def gather(self, parts: Sequence[Block], kinds: Sequence[np.dtype[np.generic]]) -> list[NDArray[np.generic]]:
        """Return the selected elements as they are stored; see :class:`Source`."""
        wanted: list[list[Segments]] = [
            segments(part, kind.itemsize, self._gap) if 0 not in part.shape else []
            for part, kind in zip(parts, kinds, strict=True)
        ]
        pieces = self._fetch(parts, wanted)
        results: list[NDArray[np.generic]] = []
        for part, kind, stretches in zip(parts, kinds, wanted, strict=True):
            result = np.empty(part.shape, kind)
            for stretch in stretches:
                raw = collect(stretch.starts, stretch.length, pieces[part.info.file]).view(kind)
                stored = raw.reshape(part.shape[0], -1)
                result[:, stretch.target] = stored if stretch.picks is None else stored[:, stretch.picks]
            results.append(result)
        return results

    def digests(self, names: Sequence[str], *, compute: bool = False) -> dict[str, str]:
        """Return the sha256 that the Hub stores for the files; ``compute`` adds nothing to it."""
        known = {name: self.files[name].sha256 for name in names}
        return {name: digest for name, digest in known.items() if digest is not None}

    def each(self, work: Callable[[str], T], names: Sequence[str]) -> list[T]:
        """Do something with every file, a few at a time; the first failure ends them all and is raised."""
        self._stop = threading.Event()
        return concurrently(work, names, self._stop)

    def _file(self, name: str) -> RemoteFile:
        with self._lock:
            if name not in self._remote:
                self._remote[name] = RemoteFile(self._repository, self.files[name])
            return self._remote[name]

    def _fetch(self, parts: Sequence[Block], wanted: Sequence[Sequence[Segments]]) -> dict[str, list[Piece]]:
        """Fetch what the blocks need, all files at once, and return it by file."""
        starts: dict[str, list[NDArray[np.int64]]] = {}
        stops: dict[str, list[NDArray[np.int64]]] = {}
        for part, stretches in zip(parts, wanted, strict=True):
            for stretch in stretches:
                # What came along with the header is here already.
                absent = stretch.starts + stretch.length > len(self._file(part.info.file).head.data)
                starts.setdefault(part.info.file, []).append(stretch.starts[absent])
                stops.setdefault(part.info.file, []).append(stretch.starts[absent] + stretch.length)
        jobs: list[tuple[str, tuple[int, int]]] = []
        for file in starts:
            spans = merge(np.concatenate(starts[file]), np.concatenate(stops[file]), self._gap, MOST_RANGES)
            jobs += [(file, span) for span in spans]
        # A range that begins in what came along with the header continues where that ends.
        heads = {file: self._file(file).head.data for file in starts}
        fetched = [(file, (max(start, len(heads[file])), stop)) for file, (start, stop) in jobs]
        self.ledger.claim(sum(stop - start for _, (start, stop) in fetched))
        failed = self._stop = threading.Event()

        def fetch(job: tuple[str, tuple[int, int]]) -> bytes:
            file, span = job
            return self._file(file).fetch(span, 0, failed)

        bodies = concurrently(fetch, fetched, failed)
        pieces = {file: [self._file(file).head] for file in starts}
        for (file, (start, _)), body in zip(jobs, bodies, strict=True):
            pieces[file].append(Piece(start, heads[file][start:] + body))
        return pieces


def endpoint_of(endpoint: str | None) -> str:
    """Return the address of the Hub: the one given, that of ``HF_ENDPOINT``, or the public one."""
    from huggingface_hub import constants

    return (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def connect(
    repo: str,
    revision: str | None,
    *,
    token: str | None,
    endpoint: str | None,
    ledger: Ledger,
    gap: int = GAP,
    patience: Patience | None = None,
) -> HubSource:
    """Ask for a repository and pin its commit; arguments and errors as for :func:`open_hub`."""
    with ledger.timed():
        transport = Transport(repo, endpoint_of(endpoint), token or None, ledger, patience or Patience())
        return HubSource(describe(transport, repo, revision), ledger, gap)


def open_hub(
    repo: str,
    revision: str | None = None,
    *,
    path: str = "",
    token: str | None = None,
    endpoint: str | None = None,
    budget: int | None = None,
    gap: int = GAP,
    patience: Patience | None = None,
) -> StoredCheckpoint:
    """Open a model on the Hub.

    Asks for the repository, pins the commit, and reads the header of every weight file.

    Args:
        repo: ``owner/name``, already validated.
        revision: Branch, tag or commit; None for the default branch.
        path: The one file or folder of it that is meant; empty for the model as a whole.
        token: Hub token, or None for the environment's. Sent to the endpoint only.
        endpoint: Address of the Hub, or None for ``HF_ENDPOINT`` or the public Hub.
        budget: Largest number of weight-file bytes to read, or None.
        gap: Stretches with at most this many bytes between them are fetched as one.
        patience: How failures that may pass are met.

    Returns:
        The checkpoint.

    Raises:
        HubNotFound: When there is no such model, revision, file or folder.
        HubDenied: When it is gated or private.
        HubUnreachable: When the Hub does not answer, or only with errors.
        InputError: When there are no weights that can be read safely.
    """
    ledger = Ledger(repo, budget)
    source = connect(repo, revision, token=token, endpoint=endpoint, ledger=ledger, gap=gap, patience=patience)
    only = None
    if path:
        whole = path.rstrip("/")
        folder, _, file = whole.rpartition("/")
        if whole == path and whole in source.files:
            # A file by itself; what lies in its folder still belongs to it.
            source, only = source.below(folder) if folder else source, file
            source.id = f"{source.id}/{file}"
        elif any(name.startswith(f"{whole}/") for name in source.files):
            source = source.below(whole)
        else:
            raise HubNotFound(repo, f"there is no file or folder '{shown(whole, 120)}' at this revision", "")
    return assemble(source, only)


def concurrently(work: Callable[[T], R], jobs: Sequence[T], stop: threading.Event) -> list[R]:
    """Do the jobs in a few threads; the first failure ends them all and is raised.

    Args:
        work: Does one job.
        jobs: The jobs.
        stop: Set by the first failure, to end the waiting of the others.

    Returns:
        What came of the jobs, in their order.
    """
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
