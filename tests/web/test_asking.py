"""Questions from the forms: whose they are, how they end, and that they hold up nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from lineage_plugin.web import search
from lineage_plugin.web.asking import Asking
from lineage_plugin.web.guard import Listeners
from lineage_plugin.web.settings import Settings
from tests.web.served import Site, silent


@pytest.fixture
def hanging(shared_site: Site) -> Iterator[Site]:
    """The server whose Hub does not come round to an answer."""
    shared_site.hub.latency = 30.0
    yield shared_site
    shared_site.hub.latency = 0.0


def request(peer: str, session: str = "a session") -> gr.Request:
    scope = {"type": "http", "client": (peer, 1234), "headers": [], "path": "/", "query_string": b""}
    return gr.Request(request=Request(scope), session_hash=session)  # type: ignore[arg-type]


def named(*texts: str) -> Sequence[tuple[str, str]]:
    return [(text, "") for text in texts]


def test_whoever_leaves_at_the_first_page_gives_his_place_back(hanging: Site) -> None:
    async def leave() -> None:
        pages = Asking(hanging.desk, hanging.settings).answering("compare", named)(
            request("10.0.0.1"), "examples/honest", "examples/twin"
        )
        await anext_of(pages)
        assert hanging.busy()
        await pages.aclose()

    asyncio.run(leave())
    assert not hanging.busy()


def test_nobody_cancels_what_another_asks(hanging: Site) -> None:
    asking = Asking(hanging.desk, hanging.settings)
    ask, cancel = asking.answering("compare", named), asking.cancelling("compare")

    async def both() -> None:
        mine = ask(request("10.0.0.1"), "examples/honest", "examples/twin")
        await anext_of(mine)
        # A session is what the visitor says it is.
        cancel(request("10.0.0.2"))
        other = ask(request("10.0.0.2"), "examples/liar", "examples/twin")
        await anext_of(other)
        assert [ticket.ended for ticket in asking._running.values()] == [None, None]
        cancel(request("10.0.0.1"))
        assert "The check was cancelled" in [page[0] async for page in mine][-1]
        await other.aclose()

    asyncio.run(both())
    assert not hanging.busy()
    assert not asking._running


def test_look_ups_that_hang_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "PATIENCE", 0.3)
    desk: Any = None

    async def click() -> list[str]:
        clicks = [asyncio.create_task(filled(request(f"10.0.0.{number}"), "acme/model", "")) for number in range(1, 25)]
        await asyncio.sleep(0)
        assert not any(one.done() for one in clicks[:4])
        # Where answers are written, too.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 10) == "free"
        assert not any(one.done() for one in clicks[:4]), "they still hang"
        return [str(remark) for _, _, remark in await asyncio.gather(*clicks)]

    with silent() as endpoint:
        filled = Asking(desk, Settings(endpoint=endpoint)).declaring()
        remarks = asyncio.run(click())
    assert sum("Try again in some seconds" in remark for remark in remarks) == 20
    assert sum("Type the base yourself" in remark for remark in remarks) == 4


async def anext_of(pages: Any) -> Any:
    """The next page; ``anext`` of a function that gradio calls."""
    return await pages.__anext__()


def test_a_link_asks_once_and_with_nobodys_rights(shared_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(shared_site.desk, shared_site.settings)
    monkeypatch.setattr("lineage_plugin.web.asking.may_sign_in", lambda settings: True)
    answer, by_link = asking.answering("compare", named), asking.answering_links("compare")
    hints = [{str(kind) for kind in one.__annotations__.values()} for one in (answer, by_link)]
    assert "gr.OAuthToken | None" in hints[0] and "gr.OAuthToken | None" not in hints[1]

    async def pages(value: tuple[str, ...]) -> list[Any]:
        return [page async for page in by_link(request("10.0.0.1"), value)]

    value = ("once", "examples:honest", "examples:base")
    assert "lineage-answer" in asyncio.run(pages(value))[-1][0]
    assert len(asyncio.run(pages(value))) == 1, "gradio tells of it again, and nothing is asked"
    assert len(asyncio.run(pages(()))) == 1


def test_nothing_is_answered_for_a_page_that_does_not_listen(
    shared_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lineage_plugin.web.asking._SOON", 0.2)
    listeners = Listeners()
    asking = Asking(shared_site.desk, shared_site.settings, listeners)

    async def last(session: str) -> str:
        asked = asking.answering("compare", named)(request("10.0.0.1", session), "examples:honest", "examples:base")
        return str([page async for page in asked][-1][0])

    listeners.came("here")
    assert "lineage-answer" in asyncio.run(last("here"))
    assert "lineage-answer" not in asyncio.run(last("gone"))


def test_a_page_that_stops_listening_gives_its_place_back(hanging: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lineage_plugin.web.asking.UNSEEN", 0.5)
    listeners = Listeners()
    listeners.came("mine")

    async def leave() -> None:
        asking = Asking(hanging.desk, hanging.settings, listeners)
        pages = asking.answering("compare", named)(request("10.0.0.1", "mine"), "examples/honest", "examples/twin")
        await anext_of(pages)
        listeners.went("mine")
        async for _ in pages:  # as gradio does
            pass

    asyncio.run(leave())
    assert not hanging.busy()


def test_names_without_number_are_counted_before_they_are_looked_at(shared_site: Site) -> None:
    asking = Asking(shared_site.desk, shared_site.settings)

    async def pages() -> list[Any]:
        names = [("a/b", "")] * 200_000
        return [page async for page in asking.answering("tree", lambda *_: names)(request("10.0.0.1"), "x")]

    seen: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lineage_plugin.web.asking.asked", lambda *one, **_: seen.append(one))
        said = asyncio.run(pages())[-1][0]
    assert "Name 2 to 8 models" in said
    assert not seen
