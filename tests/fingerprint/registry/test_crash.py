"""Several writers at once, and writers that are killed: what was reported as done is there, and nothing twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lineage_plugin.fingerprint.registry.entries import Key
from lineage_plugin.fingerprint.registry.store import Registry
from tests.fingerprint.registry.samples import commit, data

ROOT = Path(__file__).parents[3]
ROUNDS = 5
"""Of two kills each."""


class Writer:
    """A process of :mod:`tests.fingerprint.registry.writer`."""

    def __init__(self, folder: Path, seed: int, count: int) -> None:
        command = [sys.executable, "-m", "tests.fingerprint.registry.writer", str(folder), str(seed), str(count)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        self.ready = threading.Event()
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.lines.append(line.strip())
            self.ready.set()
        self.ready.set()

    def end(self, sent: signal.Signals) -> set[int]:
        """Send a signal, wait for the end and return the entries that were reported."""
        self.process.send_signal(sent)
        self.errors = self.process.stderr.read() if self.process.stderr else ""
        self.process.wait(120)
        self._reading.join()
        return {int(number) for line in self.lines if line not in ("ready", "end") for number in line.split()}


class Maker:
    """A process that has loaded all that writers need, and makes them of itself: so they are there at once."""

    def __init__(self, pipes: Path) -> None:
        self._pipes = pipes
        command = [sys.executable, "-m", "tests.fingerprint.registry.writer"]
        self._errors = pipes / "errors"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, bufsize=1
            )

    def ask(self, *words: object) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        return int(self._process.stdout.readline())

    def writer(self, folder: Path, seed: int, count: int) -> Forked:
        pipe = self._pipes / f"pipe-{seed}"
        os.mkfifo(pipe)
        return Forked(self.ask(pipe, folder, seed, count), pipe)

    def said(self) -> str:
        """Return what it and its writers have printed about errors."""
        return self._errors.read_text()

    def close(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


class Forked:
    """A writer that a :class:`Maker` has made."""

    def __init__(self, pid: int, pipe: Path) -> None:
        self.pid = pid
        self.lines: list[str] = []
        self.ready = threading.Event()
        self._reading = threading.Thread(target=self._read, args=(pipe,))
        self._reading.start()

    def _read(self, pipe: Path) -> None:
        with pipe.open() as lines:
            for line in lines:
                if line.endswith("\n"):
                    self.lines.append(line.strip())
                self.ready.set()
        self.ready.set()

    @property
    def printing(self) -> bool:
        return self._reading.is_alive()

    def end(self, maker: Maker) -> int:
        """Wait for the end, and return the exit code."""
        code = maker.ask("wait", self.pid)
        self._reading.join(60)
        return code

    def kill(self, maker: Maker) -> set[int]:
        """Kill it, and return the entries that were reported."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.end(maker) == -signal.SIGKILL
        return {int(number) for line in self.lines if line not in ("ready", "end") for number in line.split()}


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="writers are forked")


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[Maker]:
    found = Maker(tmp_path)
    yield found
    found.close()


def keys_in(folder: Path) -> Counter[Key]:
    with Registry.open(folder) as registry:
        return Counter(registry.catalogue())


def key(number: int) -> Key:
    return Key(f"owner{number % 3}/model-{number}", commit(number))


@pytest.mark.timeout(900)
@needs_fork
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, maker: Maker) -> None:
    draw = random.Random(5)
    reported: dict[Path, set[int]] = {}
    for round in range(ROUNDS):
        # A few die while the registry is made; the others go on with one that grows.
        folder = tmp_path / (f"young-{round}" if round < 2 else "old")
        writers = [maker.writer(folder, 2 * round + number, 2000) for number in range(2)]
        for writer in writers:
            assert writer.ready.wait(120)
            time.sleep(draw.uniform(0.0, 0.05 if round < 2 else 1.5))
            reported.setdefault(folder, set()).update(writer.kill(maker))
            assert writer.lines[-1:] != ["end"], "it was killed too late"
        with Registry.open(folder, create=True) as registry:
            found = Counter(registry.catalogue())
            assert {key(number) for number in reported[folder]} <= set(found)
            assert max(found.values(), default=1) == 1
    assert len(reported[folder]) > 100, "or this test shows nothing"
    with Registry.open(folder) as registry:
        verified = registry.verify()
        assert (verified.broken, verified.outdated) == ((), ())
        # What is finished later is complete and right, and what was killed leaves nothing behind.
        registry.compact()
        catalogue = registry.catalogue()
        for row in range(0, len(catalogue), 17):
            number = int(catalogue.key(row).id.rpartition("-")[2])
            assert registry.fetch(catalogue, [row]) == [data(number)]
        assert len(list((folder / "models.lance" / "data").iterdir())) == 1


@pytest.mark.timeout(300)
@needs_fork
def test_four_writers_with_the_same_entries(tmp_path: Path, maker: Maker) -> None:
    folder, count = tmp_path / "registry", 150
    writers = [maker.writer(folder, seed, count) for seed in range(4)]
    for writer in writers:
        assert writer.ready.wait(120)
    seen = 0
    # Meanwhile somebody reads, while files are gathered and deleted under his hands.
    while any(writer.printing for writer in writers):
        if (folder / "models.lance" / "_versions").is_dir() and any((folder / "models.lance" / "_versions").iterdir()):
            with Registry.open(folder) as registry:
                for _ in range(5):
                    catalogue = registry.codes()
                    assert len(catalogue) >= seen
                    seen = len(catalogue)
                    rows = range(0, seen, 7)
                    numbers = [int(catalogue.key(row).id.rpartition("-")[2]) for row in rows]
                    assert registry.fetch(catalogue, rows) == [data(number) for number in numbers]
        time.sleep(0.05)
    for writer in writers:
        assert (writer.end(maker), writer.lines[-1]) == (0, "end")
    assert maker.said() == ""
    assert keys_in(folder) == Counter(key(number) for number in range(count))
    with Registry.open(folder) as registry:
        assert registry.verify().broken == ()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pause", [0.05, 0.4, 0.9])
def test_an_interrupt_writes_what_is_finished(tmp_path: Path, pause: float) -> None:
    writer = Writer(tmp_path / "registry", 1, 3000)
    assert writer.ready.wait(120)
    time.sleep(pause)
    reported = writer.end(signal.SIGINT)
    assert writer.process.returncode not in (0, -signal.SIGKILL)
    assert "KeyboardInterrupt" in writer.errors
    with Registry.open(tmp_path / "registry", create=True) as registry:
        found = Counter(registry.catalogue())
        assert {key(number) for number in reported} <= set(found)
        assert max(found.values(), default=1) == 1
        assert registry.verify().broken == ()
