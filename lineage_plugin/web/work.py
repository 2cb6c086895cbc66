"""One question, answered: what the worker process does.

Each model is pinned to the commit that it has now, so that everything read belongs together and the answer can be kept
by it. Models of the Hub are passed on as ``owner/name@<commit>``, from an empty folder, so that no id can mean a file
of this machine; the models that the server offers itself stand in that folder under their own names, so that no report
and no message shows where they are.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin import api
from lineage_plugin.card import BaseClaim, read_card
from lineage_plugin.checkpoint.beside import source_of
from lineage_plugin.checkpoint.files import list_files
from lineage_plugin.checkpoint.hub import concurrently, endpoint_of
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.open import parse_model_id
from lineage_plugin.checkpoint.repository import metadata
from lineage_plugin.checkpoint.transport import Patience, Transport
from lineage_plugin.errors import HubDenied, HubError, HubNotFound
from lineage_plugin.judge.types import Report
from lineage_plugin.linting.place import CARD_LIMIT
from lineage_plugin.live import Live, watched
from lineage_plugin.options import Options
from lineage_plugin.text import one_line
from lineage_plugin.web.answers import Answers, Kept, key_of
from lineage_plugin.web.asked import asked
from lineage_plugin.web.counts import counted
from lineage_plugin.web.failures import failed_of
from lineage_plugin.web.jobs import Answer, Failed, Job, Update
from lineage_plugin.web.settings import Settings

if TYPE_CHECKING:
    from lineage_plugin.family.types import Family
    from lineage_plugin.options import Progress

__all__ = ["answer_job"]

_EVERY = 0.125
"""Seconds between updates."""
_LARGEST_ANSWER = 1 << 20
_UNSURE = frozenset({"LIN202", "LIN302"})
"""What may be otherwise next time: a base that was not opened, a file that could not be read."""


def answer_job(job: Job, settings: Settings, token: str | None, report: Callable[[Update], None]) -> Answer:
    """Answer a question; changes the current folder of the process meanwhile.

    Args:
        job: The question.
        settings: Choices of the server; its ``token`` is not used here.
        token: Token of whoever asks, or None. What is read with it is not kept.
        report: Called from another thread with how far it is, some eight times a second while that changes.

    Returns:
        The answer.

    Raises:
        Failed: When there is none.
    """
    settings = _absolute(settings)
    live = Live(settings.bytes)
    with watched(live), _Watch(live, report) as watch:
        try:
            counted(job)
            models = tuple(asked(model, settings=settings) for model in job.models)
            with _folder_of({name: settings.models[name] for name in models if name in settings.models}):
                return _Run(Job(job.kind, models), settings, token, watch.progress).answer()
        except Failed:
            raise
        except Exception as error:
            raise failed_of(error, settings, token) from None


class _Watch:
    """Tells how far a run is, on a clock: the bytes of one long stage grow, too."""

    def __init__(self, live: Live, report: Callable[[Update], None]) -> None:
        self._live = live
        self._report = report
        self._stage = ("asking the Hub", 0, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lineage-updates", daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Note the stage at work; an :data:`~lineage_plugin.options.Progress`."""
        self._stage = (stage, done, total)

    def _run(self) -> None:
        last, live, ended = None, self._live, False
        while not ended:
            # Once more at the end, so that the last numbers are those of the report.
            ended = self._ended.wait(_EVERY if last is not None else 0)
            stage, done, total = self._stage
            now = Update(stage, done, total, live.bytes_read, live.requests, live.coins, live.heads)
            if now != last:
                self._report(now)
                last = now


@dataclass(frozen=True, slots=True)
class _Pinned:
    """A model whose state is known.

    Attributes:
        ref: What the API is given for it.
        state: What changes when the model does: the commit; of an offered one sizes and times of its files.
    """

    ref: str
    state: str


class _Run:
    """One question at work.

    Args:
        job: The question; every model as :func:`asked` gives it.
        settings: Choices of the server.
        token: Token of whoever asks, or None.
        progress: Called while reading.
    """

    def __init__(self, job: Job, settings: Settings, token: str | None, progress: Progress) -> None:
        self._job = job
        self._settings = settings
        self._options = Options(token=token, endpoint=settings.endpoint, fingerprints="off", offline=settings.offline)
        self._progress = progress
        self._answers = Answers(settings.cache, settings.cache_bytes) if settings.cache and not token else None

    def answer(self) -> Answer:
        """Return the answer: the one that is kept, if it still holds, else a new one, which is kept then."""
        job = self._job
        pinned = concurrently(self._pin_of_tree if job.kind == "tree" else self._pin, job.models, threading.Event())
        key = self._key(pinned)
        kept = None if self._answers is None else self._answers.get(key, job.kind)
        if kept is not None and self._holds(kept):
            return Answer(job, kept.result, kept=True)
        result = self._ask([one.ref for one in pinned])
        if self._answers is not None:
            rests = self._rests(result, pinned)
            if rests is not None:
                self._answers.put(key, Kept(result, rests))
        return Answer(job, result)

    def _ask(self, refs: Sequence[str]) -> Report | Family:
        """Ask the package."""
        options, progress = self._options, self._progress
        if self._job.kind == "compare":
            return api.compare(refs[0], refs[1], options=options, progress=progress)
        if self._job.kind == "scan":
            return api.scan(refs[0], registry=self._registry(), options=options, progress=progress)
        if self._job.kind == "tree":
            from lineage_plugin.family import tree

            return tree(refs, options=options, progress=progress)
        here = self._offered_bases(refs[0])
        hub = not (here or self._settings.offline)
        return api.check(refs[0], bases=here, hub=hub, options=options, progress=progress)

    def _registry(self) -> str:
        if self._settings.registry is None:
            raise Failed("usage", "There is no registry of known models here, so that no parent can be looked for.")
        return self._settings.registry

    def _offered_bases(self, name: str) -> list[str]:
        """Return the bases of an offered model if all of them are offered, too; the Hub does not matter then.

        A base is ``family/base`` on the Hub and ``family:base`` here; a path ``family/base`` is made to lead to it.
        """
        folder = self._settings.models.get(name)
        if folder is None:
            return []
        claims = read_card(source_of(name, options=self._options).data("README.md", CARD_LIMIT))[0].bases
        here = {claim.id: self._settings.models.get(claim.id.replace("/", ":")) for claim in claims}
        found = {id: place for id, place in here.items() if place is not None}
        if len(found) < len(here):
            return []
        for id, place in found.items():
            _put(Path(id), place)
        return list(found)

    # What is kept -----------------------------------------------------------------------------------------------------

    def _pin(self, model: str) -> _Pinned:
        """Find out the state of a model; of one on the Hub by a request."""
        if model in self._settings.models:
            return _Pinned(model, _stamp_of(self._settings.models[model]))
        if self._settings.offline:
            message = f"This server does not ask the Hub, so {one_line(model, 200)} cannot be looked at here."
            raise Failed("usage", f"{message} The models that it offers itself can.")
        place = parse_model_id(model)
        commit = self._commit(place.repo, place.revision)
        return _Pinned(f"{place.repo}@{commit}" + (f"/{place.path}" if place.path else ""), commit)

    def _pin_of_tree(self, model: str) -> _Pinned:
        """Find out the state of a model of a tree; one that cannot be had is shown there as not read."""
        try:
            return self._pin(model)
        except (HubNotFound, HubDenied):
            return _Pinned(model, "")

    def _commit(self, repo: str, revision: str | None) -> str:
        endpoint, token = endpoint_of(self._settings.endpoint), self._options.token
        transport = Transport(repo, endpoint, token, Ledger(repo), Patience())
        return str(metadata(transport, repo, revision, "expand=sha", limit=_LARGEST_ANSWER)["sha"])

    def _key(self, pinned: Sequence[_Pinned]) -> str:
        settings = self._settings
        registry = _stamp_of(Path(self._registry())) if self._job.kind == "scan" else ""
        return key_of(
            {
                "kind": self._job.kind,
                "pinned": [[one.ref, one.state] for one in pinned],
                "hub": endpoint_of(settings.endpoint),
                "bytes": settings.bytes,
                "registry": registry,
            }
        )

    def _holds(self, kept: Kept) -> bool:
        """Return whether every further model that an answer rests on still has the commit that it had."""
        try:
            return all(
                concurrently(lambda rest: self._commit(rest[0], rest[1]) == rest[2], kept.rests, threading.Event())
            )
        except HubError:
            return False

    def _rests(
        self, result: Report | Family, pinned: Sequence[_Pinned]
    ) -> tuple[tuple[str, str | None, str], ...] | None:
        """Return the further models that an answer rests on; None when it may be otherwise next time."""
        if not isinstance(result, Report):
            return None if result.unread or any(member.state == "not read" for member in result.models) else ()
        if _UNSURE & {found.code for found in result.findings}:
            return None
        if self._job.kind != "check" or self._job.models[0] in self._settings.models:
            # Offered bases are no part of the key, and quick to compare with.
            return () if self._job.kind != "check" or not result.declared.bases else None
        try:
            claims = self._claims(pinned[0].ref)
            wanted = {comparison.base.id: comparison.base.revision for comparison in result.comparisons}
            declared = result.declared.bases
            above = {id for link in result.chain for id in (link.model, *link.bases)} - set(declared)
            named = [(id, claims.get(id)) for id in (*declared, *sorted(above))]
            rests = concurrently(lambda one: (*one, self._commit(*one)), named, threading.Event())
            moved = any(wanted.get(id, commit) != commit for id, _, commit in rests)
            return None if moved or wanted.keys() - claims.keys() else tuple(rests)
        except HubError:
            return None

    def _claims(self, ref: str) -> Mapping[str, str | None]:
        """Return which revision of each base the card of a model asks for."""
        source = source_of(ref, options=self._options)
        adapter = source.data("adapter_config.json")
        card = source.data("README.md", CARD_LIMIT)
        declaration, _ = read_card(
            card, adapter_config=None if adapter is None else adapter.decode("utf-8", errors="replace")
        )
        claims: tuple[BaseClaim, ...] = declaration.bases
        return {claim.id: claim.revision for claim in claims}


def _absolute(settings: Settings) -> Settings:
    """Return settings whose folders do not depend on the current one."""
    return replace(
        settings,
        models={name: place.absolute() for name, place in settings.models.items()},
        cache=None if settings.cache is None else settings.cache.absolute(),
        registry=None if settings.registry is None else str(Path(settings.registry).absolute()),
    )


def _stamp_of(folder: Path) -> str:
    """Return what changes when a file of a folder does."""
    stamps = []
    for name in list_files(folder):
        status = (folder / name).stat()
        stamps.append([name, status.st_size, status.st_mtime_ns, status.st_ino])
    return key_of({"files": stamps})


@contextmanager
def _folder_of(models: Mapping[str, Path]) -> Iterator[None]:
    """Make a folder the current one in which nothing is but some models under their names."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="lineage-ask-") as folder:
        os.chdir(folder)
        try:
            # One that lies in another comes after that one, and is there then.
            for name, place in sorted(models.items()):
                _put(Path(name), place)
            yield
        finally:
            os.chdir(before)


def _put(name: Path, model: Path) -> None:
    if not name.exists():
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(model, target_is_directory=True)
