"""A really launched server with the API and, where there is a secret, the webhook."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from lineage_plugin.web import bot, endpoints
from lineage_plugin.web.desk import Desk
from lineage_plugin.web.serve import offered
from lineage_plugin.web.settings import Settings
from tests.hub import OUTSIDER, LocalHub

__all__ = ["EXAMPLES", "SECRET", "Site", "mounts", "served", "silent", "site", "wait"]

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "a-secret-with-an-\N{LATIN SMALL LETTER E WITH ACUTE}"

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Site:
    """A server and its Hub."""

    hub: LocalHub
    desk: Desk
    settings: Settings
    url: str

    def busy(self) -> bool:
        """Whether a question is open."""
        return bool(self.desk._open())


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Launch a server with everything: offered models, a registry, and a bot that is not the owner of the models."""
    root, registry = folder / "hub", folder / "registry"
    root.mkdir()
    registry.mkdir()
    with LocalHub(root, mounts=mounts()) as hub:
        settings = Settings(
            endpoint=hub.endpoint,
            models=offered(EXAMPLES),
            registry=str(registry),
            per_visitor=30,
            cache=folder / "answers",
        )
        with Desk(settings) as desk, served(desk, settings, secret=SECRET, token=OUTSIDER) as url:
            yield Site(hub, desk, settings, url)


def wait(for_what: Callable[[], _Found], seconds: float = 60.0) -> _Found:
    """Wait until a function returns something true."""
    until = time.monotonic() + seconds
    while not (found := for_what()):
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)
    return found


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes every connection and says nothing; yields its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def mounts() -> dict[str, Path]:
    """The example models as repositories of a local Hub."""
    return {f"examples/{name}": EXAMPLES / name for name in ("base", "honest", "liar", "twin")}


@contextmanager
def served(desk: Desk, settings: Settings, *, secret: str = "", token: str = "") -> Iterator[str]:
    """Launch as ``serve`` does, without the pages; yields the address, which ends in no slash."""
    with gr.Blocks() as ui:
        gr.Button("A button").click(lambda: None, api_visibility="private")
        endpoints.add(desk, settings)
    server: Any = bot.attach(ui, desk, settings, secret=secret, token=token) if secret else ui
    try:
        server.launch(
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            ssr_mode=False,
            mcp_server=True,
            run_history=False,
            enable_monitoring=False,
        )
        yield str(ui.local_url).rstrip("/")
    finally:
        ui.close(verbose=False)
        if secret:
            server.bot.close()
