"""What reading costs: the counters of one checkpoint, and its byte budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.live import watching

__all__ = ["Ledger"]


class Ledger:
    """Counts what one checkpoint has read; safe to use from several threads.

    Args:
        where: The checkpoint, for messages.
        budget: Largest number of weight-file bytes to read, or None.
    """

    def __init__(self, where: str, budget: int | None = None) -> None:
        self._where = where
        self._budget = budget
        self._live = watching()
        self._lock = threading.Lock()
        self._claimed = 0
        self._read = 0
        self._tensor = 0
        self._requests = 0
        self._seconds = 0.0

    def claim(self, nbytes: int) -> None:
        """Set bytes of the budget aside, before they are read.

        Args:
            nbytes: Weight-file bytes about to be read.

        Raises:
            BudgetExceeded: When the budget does not hold them; nothing is set aside then.
        """
        with self._lock:
            if self._budget is not None and self._claimed + nbytes > self._budget:
                raise BudgetExceeded(
                    self._where,
                    f"reading {nbytes} more bytes would exceed the byte budget of {self._budget} "
                    f"({self._claimed} are spent)",
                    "Allow more with --budget, or read less.",
                )
            if self._live is not None:
                self._live.claim(self._where, nbytes)
            self._claimed += nbytes

    def spend(self, nbytes: int, tensor: int, *, unclaimed: int = 0) -> None:
        """Count bytes that have been read.

        Args:
            nbytes: Weight-file bytes.
            tensor: How many of them are tensor data.
            unclaimed: How many of them were not set aside before, because a failed attempt wasted them.
        """
        with self._lock:
            self._read += nbytes
            self._tensor += tensor
            self._claimed += unclaimed
        if self._live is not None:
            self._live.read(nbytes)

    def hashed(self, nbytes: int) -> None:
        """Count bytes read for a digest. They are asked for expressly and are no part of the budget."""
        with self._lock:
            self._read += nbytes

    def request(self) -> None:
        """Count an HTTP request."""
        with self._lock:
            self._requests += 1
        if self._live is not None:
            self._live.asked()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the wall-clock time of the block. Blocks that overlap in several threads count each."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._seconds += time.perf_counter() - start

    def cost(self, bytes_total: int) -> Cost:
        """Return the counts so far.

        Args:
            bytes_total: Size of all weight files.
        """
        with self._lock:
            return Cost(self._read, self._tensor, bytes_total, self._requests, self._seconds)
