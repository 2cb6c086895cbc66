"""The MCP server, by the real client over streamable HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

from tests.web import served
from tests.web.served import wait


class Site(served.Site):
    """The server under test."""

    @asynccontextmanager
    async def session(self) -> AsyncIterator[ClientSession]:
        """A connected client."""
        async with (
            streamable_http_client(f"{self.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            yield session


@pytest.fixture
def site(shared_site: served.Site) -> Site:
    return Site(shared_site.hub, shared_site.desk, shared_site.settings, shared_site.url)


def text_of(result: Any) -> str:
    """The one text of a result."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def test_the_tools_are_ours_and_say_what_they_take(site: Site) -> None:
    async def listed() -> list[Any]:
        async with site.session() as session:
            return list((await session.list_tools()).tools)

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    assert list(tools) == ["compare", "check", "scan", "tree"]
    for tool in tools.values():
        assert "Returns: The" in (tool.description or "")
        properties = tool.inputSchema["properties"]
        assert tool.inputSchema["required"] == list(properties)
        for schema in properties.values():
            assert len(schema["description"]) > 30
    assert tools["compare"].inputSchema["properties"]["suspect"]["type"] == "string"
    models = tools["tree"].inputSchema["properties"]["models"]
    assert (models["type"], models["items"]) == ("array", {"type": "string"})
    assert "both from a third" in (tools["compare"].description or "")


def test_a_call_returns_the_report_as_json(site: Site) -> None:
    async def asked(name: str) -> Any:
        async with site.session() as session:
            return await session.call_tool("compare", {"suspect": f"examples/{name}", "base": "examples/base"})

    async def both() -> list[Any]:
        return list(await asyncio.gather(asked("honest"), asked("liar")))

    derived, unrelated = asyncio.run(both())
    for result, name, relation in ((derived, "honest", "derived"), (unrelated, "liar", "unrelated")):
        assert not result.isError
        report = json.loads(text_of(result))
        assert (report["suspect"]["id"], report["comparisons"][0]["relation"]) == (f"examples/{name}", relation)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("check", {"model": "../../etc/passwd"}, '"../../etc/passwd" is no model of the Hub'),
        ("check", {"model": "examples/missing"}, "examples/missing"),
        ("check", {}, "model"),
        ("tree", {"models": ["examples/base"] * 9}, "Name 2 to 8 models, not 9."),
        ("tree", {"models": "examples/base"}, ""),
        ("shell", {"command": "id"}, "shell"),
    ],
)
def test_a_bad_call_is_an_error_in_plain_words(
    site: Site, capfd: pytest.CaptureFixture[str], tool: str, arguments: dict[str, Any], said: str
) -> None:
    async def asked() -> Any:
        async with site.session() as session:
            return await session.call_tool(tool, arguments)

    result = asyncio.run(asked())
    assert result.isError
    assert said in text_of(result)
    assert "Traceback" not in text_of(result) + "".join(capfd.readouterr())


def test_a_client_that_goes_away_frees_its_place(site: Site) -> None:
    site.hub.latency = 30.0

    async def leave() -> None:
        async with site.session() as session:
            call = asyncio.create_task(session.call_tool("check", {"model": "examples/twin"}))
            while not site.busy():
                await asyncio.sleep(0.02)
            call.cancel()

    try:
        asyncio.run(leave())
        wait(lambda: not site.busy(), 14)
    finally:
        site.hub.latency = 0.0
