"""Building a registry: many models, a few at a time, going on where an earlier run has stopped.

Of each model on the Hub the commit is asked for first, one request; what the registry holds already costs no more.
Entries are written as they come, a few at a time, so a run that ends early, however it ends, loses nothing that it has
reported as done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from lineage_plugin.card import read_card
from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.checkpoint.assemble import assemble
from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.hub import connect
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.names import is_model_id, shown
from lineage_plugin.checkpoint.open import locate
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.fingerprint.file import to_bytes
from lineage_plugin.fingerprint.known import made
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.registry.entries import Entry, Key, content_of, entry_of
from lineage_plugin.fingerprint.registry.store import Added, Registry
from lineage_plugin.options import Options, Progress
from lineage_plugin.text import one_line

__all__ = ["Built", "Failure", "Model", "Pinned", "build", "models_in", "pin"]

_BATCH = 16
_SECONDS = 5.0
"""Entries wait for the next transaction until there are so many, or for so long."""
_CARD_LIMIT = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")


@dataclass(frozen=True, slots=True)
class Model:
    """A model to build from.

    Attributes:
        ref: Path, or ``owner/name[@revision]``.
        name: What to call a local model; empty: its folder's name.
    """

    ref: str
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.ref


@dataclass(frozen=True, slots=True)
class Pinned:
    """A model whose commit is known, and nothing else yet.

    Attributes:
        key: What its entry will be called; None where only the weights can tell.
        make: Makes the entry.
    """

    key: Key | None
    make: Callable[[], Entry]


@dataclass(frozen=True, slots=True)
class Failure:
    """A model that gave no entry.

    Attributes:
        model: The model.
        problem: Why, in one line.
    """

    model: Model
    problem: str


@dataclass(frozen=True, slots=True)
class Built:
    """What a run has done.

    Attributes:
        added: What became of the entries that were made.
        skipped: Models that were there at this commit, and so were not read.
        failures: Models that gave no entry.
        seconds: How long it took.
    """

    added: Added
    skipped: int
    failures: tuple[Failure, ...]
    seconds: float


def build(
    registry: Registry,
    models: Iterable[Model],
    pin: Callable[[Model], Pinned],
    *,
    workers: int = 4,
    progress: Progress | None = None,
    failed: Callable[[Failure], None] | None = None,
) -> Built:
    """Add models that are not there yet.

    Args:
        registry: Where they go.
        models: The models; taken from the iterable as there are hands free.
        pin: Asks for the commit of a model, such as :func:`pin`; called, like what it returns, by several threads.
        workers: Models that are read at the same time.
        progress: Called as ``progress("fingerprinting", done, total)``, with a total of 0 where it is not known.
        failed: Called with each failure as it happens.

    Returns:
        The summary. An interrupt (Ctrl-C) ends the run: what was finished is written before it is passed on.

    Raises:
        UsageError: When the registry cannot be written to.
        InputError: When the registry is damaged.
    """
    if workers < 1:
        raise UsageError(f"there must be at least one worker, not {workers}")
    started = time.monotonic()
    total = len(models) if isinstance(models, (list, tuple)) else 0
    run = _Run(registry, failed)
    held = set(registry.catalogue())

    def work(model: Model) -> Entry | None:
        pinned = pin(model)
        return None if pinned.key is not None and pinned.key in held else pinned.make()

    left = iter(models)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="lineage-build")
    running: dict[Future[Entry | None], Model] = {}
    try:
        while True:
            # The iterable may be slow, too, such as a listing of the Hub.
            for model in islice(left, workers + 1 - len(running)):
                running[pool.submit(work, model)] = model
            if not running:
                break
            done, _ = wait(running, timeout=run.patience(), return_when=FIRST_COMPLETED)
            for future in done:
                run.take(running.pop(future), future)
                if progress is not None:
                    progress("fingerprinting", run.done, total)
            run.write(_BATCH)
    finally:
        # Nothing new is begun; what the threads are at ends by itself, and is made again the next time.
        pool.shutdown(wait=False, cancel_futures=True)
        run.write(1)
    return Built(run.added, run.skipped, tuple(run.failures), time.monotonic() - started)


@dataclass(slots=True)
class _Run:
    """What a run has got so far."""

    registry: Registry
    failed: Callable[[Failure], None] | None
    added: Added = field(default_factory=Added)
    skipped: int = 0
    failures: list[Failure] = field(default_factory=list)
    done: int = 0
    _waiting: list[Entry] = field(default_factory=list)
    _since: float = 0.0

    def patience(self) -> float | None:
        """Return the seconds until waiting entries have to be written."""
        return max(0.0, self._since + _SECONDS - time.monotonic()) if self._waiting else None

    def take(self, model: Model, future: Future[Entry | None]) -> None:
        """Take what a thread has made of a model."""
        self.done += 1
        try:
            entry = future.result()
        except LineageError as error:
            self._fail(model, one_line(error, 400))
            return
        except Exception as error:
            # A defect of this package, or of a library under it, met one model; the others are not to suffer for it.
            self._fail(model, f"{shown(model)}: cannot be read ({type(error).__name__}: {one_line(error, 200)})")
            return
        if entry is None:
            self.skipped += 1
            return
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(entry)

    def _fail(self, model: Model, problem: str) -> None:
        failure = Failure(model, problem)
        self.failures.append(failure)
        if self.failed is not None:
            self.failed(failure)

    def write(self, least: int) -> None:
        """Write what waits, if there is enough of it or it has waited for long."""
        if self._waiting and (len(self._waiting) >= least or self.patience() == 0.0):
            # Should this be interrupted, they are written at the end of the run; nothing is added twice.
            self.added += self.registry.add(self._waiting, strict=False)
            self._waiting = []


# What is built from -------------------------------------------------------------------------------------------------


def models_in(folder: Path) -> Iterator[Model]:
    """Return the models in a folder: every folder below it that holds weight files itself.

    A model two folders down is called ``owner/name`` after them, any other after its own folder.

    Raises:
        UsageError: When there is no such folder, or no model in it.
    """
    if not folder.is_dir():
        raise UsageError(f"{shown(folder)}: there is no such folder")
    found = False
    for place in sorted({folder, *(path for path in folder.rglob("*") if path.is_dir())}):
        below = place.relative_to(folder).parts
        if any(part.startswith(".") for part in below):
            continue
        try:
            weights = any(is_weight_file(entry.name) for entry in place.iterdir() if entry.is_file())
        except OSError:
            continue
        if weights:
            found = True
            name = "/".join(below) if len(below) == 2 else place.resolve().name
            yield Model(str(place), name if is_model_id(name) else "")
    if not found:
        raise UsageError(f"{shown(folder)}: no folder in it holds weights")


def pin(model: Model, options: Options) -> Pinned:
    """Find out what the entry of a model will be called.

    For a model on the Hub that takes one request, or none if a commit was given. A local one is known by the digests of
    its weight files: they are read as a whole.

    Args:
        model: The model.
        options: Choices of the run.

    Raises:
        UsageError: When it is neither on this machine nor an id.
        InputError: When it holds no weights that can be read.
        HubError: When the Hub does not deliver.
    """
    place = locate(model.ref)
    if isinstance(place, str):
        local = open_checkpoint(model.ref, options=options)
        content = content_of(list(local.digests(compute=True).values()), len(local.weight_files))
        return Pinned(
            Key(model.name, content) if model.name and content else None, lambda: _entry(local, model, options)
        )
    if place.path or options.offline:
        return Pinned(None, lambda: _entry(open_checkpoint(model.ref, options=options), model, options))
    if place.revision is not None and _COMMIT.match(place.revision):
        key = Key(place.repo, place.revision)
        return Pinned(key, lambda: _entry(open_checkpoint(model.ref, options=options), model, options))
    ledger = Ledger(place.repo, options.budget)
    source = connect(place.repo, place.revision, token=options.token, endpoint=options.endpoint, ledger=ledger)
    return Pinned(Key(source.id, source.revision or ""), lambda: _entry(assemble(source), model, options))


def _entry(checkpoint: Checkpoint, model: Model, options: Options) -> Entry:
    if checkpoint.local:
        found = fingerprint_of(checkpoint, name=model.name or None, digests=True)
    else:
        found = made(checkpoint, options)
    card = read_card(checkpoint.text("README.md", _CARD_LIMIT), file="README.md")[0]
    return entry_of(to_bytes(found), str(model), [claim.id for claim in card.bases])
