"""The progress display: late, on a terminal, inert, and gone afterwards."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lineage_plugin.report.progress import ProgressDisplay
from tests.report import samples

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown_by(stream: Terminal, needle: str) -> bool:
    """Wait until the display has drawn something."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if needle in stream.getvalue():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_quick_work_draws_nothing() -> None:
    stream = Terminal()
    with ProgressDisplay(stream, delay=30) as progress:
        progress("reading layers", 1, 2)
        progress("reading layers", 2, 2)
    assert stream.getvalue() == ""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(20)
            assert not thread.is_alive()


def test_long_work_is_drawn_and_wiped() -> None:
    stream = Terminal()
    with ProgressDisplay(stream, delay=0.01) as progress:
        progress("reading layers", 3, 12)
        assert shown_by(stream, "reading layers")
        assert shown_by(stream, "25%")
        progress("tossing coins", 0, 0)
        assert shown_by(stream, "tossing coins")
    assert "\x1b[2K" in stream.getvalue()  # the lines are erased
    before = stream.getvalue()
    progress("late", 1, 1)
    time.sleep(0.2)
    assert stream.getvalue() == before


def test_the_name_of_a_stage_is_inert() -> None:
    stream = Terminal()
    with ProgressDisplay(stream, delay=0.01) as progress:
        progress(samples.HOSTILE, 1, 2)
        assert shown_by(stream, "[bold]rich")
    for sequence in ("\x1b]0;", "\x1b[31m", "\u202e", "\x9b", "::error"):
        assert sequence not in stream.getvalue()


def test_many_threads_may_report() -> None:
    stream = Terminal()
    with ProgressDisplay(stream, delay=0.01) as progress:
        workers = [
            threading.Thread(target=lambda n=n: [progress(f"stage {n}", i, 50) for i in range(51)]) for n in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(20)
        assert not any(worker.is_alive() for worker in workers)
        assert shown_by(stream, "100%")


def test_rich_is_not_imported_for_quick_work() -> None:
    script = (
        "import io, sys; from lineage_plugin.report.progress import ProgressDisplay\n"
        "with ProgressDisplay(io.StringIO()) as progress: progress('reading', 1, 2)\n"
        "print('rich' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert run.stdout.strip() == "False"
