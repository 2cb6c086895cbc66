"""What a run has done so far, for who watches it: bytes and requests of all models, coins of the stage at work.

A :data:`~lineage_plugin.options.Progress` callback says which stage is at work; these numbers grow beside it. Whoever
wants them opens :func:`watched` around the run::

    with watched(Live()) as live:
        check(model, progress=lambda stage, done, total: print(stage, live.bytes_read, live.coins))

Nothing is counted where nobody watches, and no result depends on it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lineage_plugin.errors import BudgetExceeded

__all__ = ["Live", "watched", "watching"]

_WATCHING: ContextVar[Live | None] = ContextVar("watching", default=None)


class Live:
    """Running totals; safe to use from several threads.

    Args:
        most: Bytes of weight files that the run may read, over all models, or None.

    Attributes:
        bytes_read: Bytes of weight files that have arrived.
        requests: HTTP requests sent.
        coins: Coins that the stage at work has tossed.
        heads: How many of them fell heads.
    """

    def __init__(self, most: int | None = None) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._claimed = 0
        self.bytes_read = 0
        self.requests = 0
        self.coins = 0
        self.heads = 0

    def claim(self, where: str, nbytes: int) -> None:
        """Set bytes aside, before they are read.

        Args:
            where: The checkpoint, for messages.
            nbytes: Weight-file bytes about to be read.

        Raises:
            BudgetExceeded: When all models together would read more than they may; nothing is set aside then.
        """
        with self._lock:
            if self._most is not None and self._claimed + nbytes > self._most:
                problem = f"reading {nbytes} more bytes would exceed the {self._most} that all models may take together"
                raise BudgetExceeded(where, problem, "Compare fewer models at once, or where more may be read.")
            self._claimed += nbytes

    def read(self, nbytes: int) -> None:
        """Count bytes of a weight file that have arrived."""
        with self._lock:
            self.bytes_read += nbytes

    def asked(self) -> None:
        """Count a request."""
        with self._lock:
            self.requests += 1

    def tossed(self, coins: int, heads: int) -> None:
        """Say how many coins the stage at work has tossed by now, and how many fell heads."""
        with self._lock:
            self.coins, self.heads = coins, heads


@contextmanager
def watched(live: Live) -> Iterator[Live]:
    """Count what is done inside the block; models opened there are counted until they are closed."""
    before = _WATCHING.set(live)
    try:
        yield live
    finally:
        _WATCHING.reset(before)


def watching() -> Live | None:
    """Return who watches; None when nobody does."""
    return _WATCHING.get()
