"""The progress display: on a terminal, and only for work that lasts.

The value is a :data:`~lineage_plugin.options.Progress` callback. Nothing is drawn, and Rich is not even imported,
before a second has passed; the display then runs on a thread of its own and is wiped when the work ends, so that it
never mixes with the report.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from lineage_plugin.report.output import wants_color

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from lineage_plugin import options

__all__ = ["ProgressDisplay", "shown_progress"]


@contextmanager
def shown_progress(quiet: bool = False) -> Iterator[options.Progress | None]:
    """Show progress on standard error, if it is a terminal.

    Args:
        quiet: Whether nothing is shown even there.

    Yields:
        The callback; None when nothing is shown.
    """
    stream = sys.stderr
    if quiet or stream is None or not stream.isatty():
        yield None
        return
    with ProgressDisplay(stream, color=wants_color(stream)) as progress:
        yield progress


class ProgressDisplay:
    """A progress callback that draws bars, used as a context manager.

    Args:
        stream: A terminal, usually standard error.
        color: Whether colours may be used.
        delay: Seconds before anything is drawn.

    Example:
        >>> import sys
        >>> with ProgressDisplay(sys.stderr) as progress:
        ...     progress("reading layers", 3, 12)
    """

    def __init__(self, stream: TextIO, *, color: bool = True, delay: float = 1.0) -> None:
        self._stream = stream
        self._color = color
        self._lock = threading.Lock()
        self._stages: dict[str, tuple[int, int]] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bars: Progress | None = None
        self._closed = False
        self._timer = threading.Timer(delay, self._show)
        self._timer.daemon = True

    def __enter__(self) -> ProgressDisplay:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` steps of a stage are done; a total of 0 means that it is not known."""
        with self._lock:
            self._stages[stage] = (done, total)
            if self._bars is not None:
                self._update(self._bars, stage)

    def close(self) -> None:
        """Take the display down."""
        self._timer.cancel()
        with self._lock:
            self._closed = True
            bars, self._bars = self._bars, None
        if bars is not None:
            bars.stop()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

        encoding = (getattr(self._stream, "encoding", None) or "ascii").lower()
        bars = Progress(
            SpinnerColumn("dots" if encoding.startswith("utf") else "line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            console=Console(file=self._stream, no_color=not self._color, emoji=False, highlight=False),
            transient=True,
        )
        with self._lock:
            if self._closed:
                return
            self._bars = bars
            for stage in self._stages:
                self._update(bars, stage)
            bars.start()

    def _update(self, bars: Progress, stage: str) -> None:
        from lineage_plugin.text import one_line

        done, total = self._stages[stage]
        if stage not in self._tasks:
            self._tasks[stage] = bars.add_task(one_line(stage, 40), total=None)
        bars.update(self._tasks[stage], completed=done, total=total or None)
