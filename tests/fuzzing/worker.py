"""Processes in which files are damaged and opened, under limits, watched from outside.

Mutation number ``i`` of a target depends on the seed and on ``i`` alone, so that any of them can be made again: after a
crash the next process goes on behind the one that crashed.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from lineage_plugin.errors import LineageError
from tests.fuzzing.mutate import mutate
from tests.fuzzing.targets import Target, find_target, one_line

__all__ = ["Finding", "Result", "Runner", "attempt", "write_samples"]

LARGEST_ALLOCATION = 512 << 20
"""Bytes of address space beyond what the target needs for valid files."""
LONGEST_CPU = 5.0
"""Seconds of processor time for one folder. Not of the clock: that depends on who else is at work."""
LONGEST_WALL = 60.0
"""Seconds after which a process that does not even answer a signal is ended."""
_PACKAGE = "lineage_plugin"
_MOST_FINDINGS = 40


class _Hang(BaseException):
    """The time for one folder is up; not an Exception, so that no parser catches it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not happen.

    Attributes:
        target: The target.
        sample: The sample that was damaged.
        index: Number of the mutation.
        place: Last line of the package on the stack, and the type of the exception: what tells findings apart.
        text: The traceback.
        folder: Where the damaged folder was kept, if it was.
    """

    target: str
    sample: str
    index: int
    place: str
    text: str
    folder: str | None = None


@dataclass(slots=True)
class Result:
    """What a target went through. ``skipped`` says why it went through nothing."""

    target: str
    samples: int = 0
    mutations: int = 0
    opened: int = 0
    slowest: float = 0.0
    peak: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    target: str
    seed: int
    first: int
    stop: int
    scratch: str
    keep: str | None
    longest: float


def write_samples(target: Target, folder: Path) -> dict[str, dict[str, bytes]]:
    """Write the samples of a target, once, and return their files by sample and name."""
    found: dict[str, dict[str, bytes]] = {}
    for name, write in sorted(target.samples.items()):
        place = folder / "original" / name
        if not place.is_dir():
            unfinished = folder / f"unfinished-{os.getpid()}"
            unfinished.mkdir(parents=True)
            write(unfinished)
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished.rename(place)
        files = {str(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}
        found[name] = files
    return found


def damage(target: Target, samples: dict[str, dict[str, bytes]], seed: int, index: int) -> tuple[str, dict[str, bytes]]:
    """Return the sample that mutation ``index`` starts from, and its damaged files."""
    names = sorted(samples)
    name = names[index % len(names)]
    rng = random.Random(f"{seed}/{target.name}/{index}")
    files = samples[name]
    if target.only is not None:
        files = {file: data for file, data in files.items() if file in target.only}
    return name, mutate(files, samples[rng.choice(names)], rng)


def attempt(target: Target, folder: Path, seed: str) -> bool:
    """Use a folder as users would; True when it could be used, False when it was refused in one clear line."""
    with warnings.catch_warnings():
        # A warning of numpy is a line on the user's terminal that says nothing to him.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return target.exercise(folder, random.Random(seed))
        except LineageError as error:
            one_line(error)
            return False


# In the process that does the work ----------------------------------------------------------------------------------


def _main(pipe: Connection, board: object) -> None:
    signal.signal(signal.SIGPROF, _out_of_time)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            _work(job, pipe, board)
        except BaseException as error:  # The samples themselves fail: that is for the caller to see.
            missing = isinstance(error, ImportError)
            pipe.send(("skipped" if missing else "broken", "".join(traceback.format_exception(error))))


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise _Hang


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Let the address space grow by what is allowed, from what it is now."""
    gc.collect()
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = _status("VmSize:")
    resource.setrlimit(resource.RLIMIT_AS, (now + LARGEST_ALLOCATION, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key}")


def _work(job: _Job, pipe: Connection, board: object) -> None:
    target = find_target(job.target)
    scratch = Path(job.scratch) / target.name
    samples = write_samples(target, scratch)
    place = scratch / f"work-{os.getpid()}"
    for name, files in samples.items():
        _write(place / name, files)
        attempt(target, place / name, "warm-up")
    pipe.send(("samples", len(samples)))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # The peak of before the samples is not theirs.
    peak = _status("VmHWM:")
    seen: set[str] = set()
    with _limited():
        for index in range(job.first, job.stop):
            name, damaged = damage(target, samples, job.seed, index)
            for file, data in damaged.items():
                (place / name / file).write_bytes(data)
            board[0], board[1] = index, time.monotonic()  # type: ignore[index]
            began = time.process_time()
            text = ""
            try:
                signal.setitimer(signal.ITIMER_PROF, job.longest)
                try:
                    board[2] += attempt(target, place / name, f"{job.seed}/{index}")  # type: ignore[index]
                finally:
                    signal.setitimer(signal.ITIMER_PROF, 0)
            except _Hang as error:
                text, where = _describe(error)
            except BaseException as error:
                text, where = _describe(error)
                del error
            board[3] = max(board[3], time.process_time() - began)  # type: ignore[index]
            if text:
                kept = None
                if where not in seen and len(seen) < _MOST_FINDINGS:
                    seen.add(where)
                    kept = _keep(job, place / name, where, text)
                pipe.send(("finding", Finding(target.name, name, index, where, text, kept)))
            for file in damaged:
                (place / name / file).write_bytes(samples[name][file])
            if index % 500 == 499:
                gc.collect()
                board[4] = max(board[4], _status("VmHWM:") - peak)  # type: ignore[index]
    board[4] = max(board[4], _status("VmHWM:") - peak)  # type: ignore[index]
    shutil.rmtree(place, ignore_errors=True)
    pipe.send(("done", None))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for file, data in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(data)


def _describe(error: BaseException) -> tuple[str, str]:
    """Return the traceback, and where in the package it was."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"/{_PACKAGE}/" in frame.filename] or frames[-1:]
    last = ours[-1]
    place = f"{type(error).__name__} at {last.filename.rpartition(f'{_PACKAGE}/')[2]}:{last.lineno} ({last.name})"
    return "".join(traceback.format_exception(error))[-6000:], place.replace("_Hang", "too long")


def _keep(job: _Job, folder: Path, place: str, text: str) -> str | None:
    if job.keep is None:
        return None
    name = hashlib.sha256(f"{job.target} {place}".encode()).hexdigest()[:8]
    kept = Path(job.keep) / job.target / f"{folder.name}-{name}"
    if not kept.exists():
        shutil.copytree(folder, kept)
        kept.with_suffix(".txt").write_text(f"{place}\n\n{text}")
    return str(kept)


# In the process that watches ----------------------------------------------------------------------------------------


class Runner:
    """One process that works, replaced when it dies.

    Args:
        keep: Where damaged folders that led to a finding are kept, or None.
        longest: Seconds of processor time after which opening one folder counts as a hang.
    """

    def __init__(self, keep: Path | None = None, longest: float = LONGEST_CPU) -> None:
        shared = Path("/dev/shm")
        self._longest = longest
        self._keep = None if keep is None else str(keep)
        self._scratch = tempfile.mkdtemp(prefix="lineage-fuzz-", dir=shared if shared.is_dir() else None)
        self._context = multiprocessing.get_context("spawn")
        self._board = self._context.RawArray("d", 5)
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *problem: object) -> None:
        self._end()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def run(self, target: str, mutations: int, seed: int = 0) -> Result:
        """Damage the samples of a target so many times.

        Raises:
            RuntimeError: When its samples cannot be written, or undamaged ones are not read without an accident.
        """
        result = Result(target)
        began = time.monotonic()
        first = 0
        self._board[:] = [0.0] * 5
        while first < mutations and not result.skipped:
            self._board[0], self._board[1] = first - 1, 0.0
            first = self._follow(_Job(target, seed, first, mutations, self._scratch, self._keep, self._longest), result)
        result.mutations = 0 if result.skipped else mutations
        result.opened, result.slowest, result.peak = int(self._board[2]), self._board[3], int(self._board[4])
        result.seconds = time.monotonic() - began
        return result

    def _follow(self, job: _Job, result: Result) -> int:
        """Hand a job over and watch it; return the mutation to go on with."""
        pipe = self._start()
        pipe.send(job)
        while True:
            try:
                kind, content = pipe.recv() if pipe.poll(1.0) else ("silent", None)
            except (EOFError, ConnectionResetError):
                kind, content = "died", None
            if kind == "done":
                return job.stop
            if kind == "samples":
                result.samples = content
            elif kind == "finding":
                self._note(result, content)
            elif kind == "skipped":
                result.skipped = content.strip().splitlines()[-1]
                return job.stop
            elif kind == "broken":
                raise RuntimeError(f"the samples of '{job.target}' are not usable:\n{content}")
            stuck = self._board[1] > 0 and time.monotonic() - self._board[1] > LONGEST_WALL
            if kind == "died" or stuck:
                return self._buried(job, result, stuck)

    def _buried(self, job: _Job, result: Result, stuck: bool) -> int:
        """Note that the process died or hung, and over which mutation."""
        process, index = self._process, int(self._board[0])
        assert process is not None
        if stuck:
            process.kill()
        process.join()
        code = process.exitcode or 0
        self._end()
        if index < job.first:
            raise RuntimeError(f"the process of '{job.target}' ended with {code} over its undamaged samples")
        how = "over a minute, deaf" if stuck else signal.Signals(-code).name if code < 0 else f"exit code {code}"
        target = find_target(job.target)
        samples = write_samples(target, Path(job.scratch) / target.name)
        name, damaged = damage(target, samples, job.seed, index)
        kept = None
        if how not in result.times:
            with tempfile.TemporaryDirectory() as folder:
                _write(Path(folder) / name, {**samples[name], **damaged})
                kept = _keep(job, Path(folder) / name, how, "the process ended; there is no traceback")
        self._note(result, Finding(target.name, name, index, how, "", kept))
        return index + 1

    @staticmethod
    def _note(result: Result, finding: Finding) -> None:
        if finding.place not in result.times:
            result.findings.append(finding)
        result.times[finding.place] = result.times.get(finding.place, 0) + 1

    def _start(self) -> Connection:
        if self._pipe is None:
            # Threads of numerical libraries reserve address space that would count as the parser's.
            settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            os.environ.update(settings, MALLOC_ARENA_MAX="1")
            self._pipe, other = self._context.Pipe()
            self._process = self._context.Process(target=_main, args=(other, self._board), daemon=True)
            self._process.start()
            other.close()
        return self._pipe

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(1)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._pipe = self._process = None
