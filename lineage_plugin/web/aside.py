"""Calls that may never return, made in threads of their own, which nobody waits for longer than he likes.

The client of the Hub waits without end for a server that has accepted a connection and is silent, and most of its
methods take no limit. Such a call is left behind here: its thread ends with the connection, or with the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from lineage_plugin.web.jobs import Failed

__all__ = ["Lookups", "aside"]

T = TypeVar("T")


def aside(call: Callable[[], T]) -> Future[T]:
    """Make a call in a thread that ends with the process.

    Args:
        call: The call.

    Returns:
        What comes of it.
    """
    future: Future[T] = Future()
    # So that whoever stops waiting cannot cancel it.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="lineage-aside", daemon=True).start()
    return future


class Lookups:
    """Lets visitors look things up: one a visitor at a time, and a few in all; belongs to no event loop.

    A place is taken until the call has ended, not only until its visitor gave up, so there are never more threads.

    Args:
        most: Calls at once.
        seconds: Longest that a visitor waits for one.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._lock = threading.Lock()
        self._visitors: set[str] = set()

    async def __call__(self, visitor: str, call: Callable[[], T]) -> T:
        """Make a call for a visitor and return what comes of it.

        Args:
            visitor: Who asks.
            call: The call.

        Raises:
            Failed: ``busy``, when he has one under way, or all have too many; ``unreachable``, when it takes too long.
        """
        with self._lock:
            if visitor in self._visitors or len(self._visitors) >= self._most:
                raise Failed("busy", "Other names are being looked up just now. Try again in some seconds.")
            self._visitors.add(visitor)
        try:
            future = aside(call)
        except BaseException:
            self._free(visitor)
            raise
        future.add_done_callback(lambda _: self._free(visitor))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except asyncio.TimeoutError:
            raise Failed("unreachable", "The Hub does not answer now. Try again in a minute.") from None

    def _free(self, visitor: str) -> None:
        with self._lock:
            self._visitors.discard(visitor)
