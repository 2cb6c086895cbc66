"""Calls that may never return: who waits, for how long, and how many there are."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lineage_plugin.web.aside import Lookups, aside
from lineage_plugin.web.jobs import Failed
from tests.web.served import wait


def test_what_comes_of_a_call_is_handed_on() -> None:
    assert aside(lambda: 3).result(10) == 3
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0).result(10)


def test_one_look_up_a_visitor_and_a_few_in_all() -> None:
    ended, lookups = threading.Event(), Lookups(2, 0.1)

    async def ask(visitor: str) -> str:
        try:
            return "answered" if await lookups(visitor, lambda: ended.wait(30)) else "late"
        except Failed as failed:
            return failed.why

    async def ask_all() -> list[str]:
        return await asyncio.gather(*(ask(visitor) for visitor in ("a", "a", "b", "c")))

    assert asyncio.run(ask_all()) == ["unreachable", "busy", "unreachable", "busy"]
    # Nobody waits for them any more, but their threads are still there.
    assert asyncio.run(ask_all()) == ["busy"] * 4
    ended.set()
    wait(lambda: not lookups._visitors)
    assert asyncio.run(ask("a")) == "answered"


def test_a_failure_frees_the_place() -> None:
    lookups = Lookups(1, 10.0)

    async def fail() -> None:
        await lookups("a", lambda: 1 // 0)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            asyncio.run(fail())
        wait(lambda: not lookups._visitors)
