"""Starting the pages: ``lineage serve`` on one's own machine, ``space/app.py`` as a Space.

On one's own machine the server listens to this machine alone and asks the Hub with the user's own token. Whatever
listens to others, and every Space, asks without one: a visitor must not read with the rights of whoever runs it.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.shelf import cache_folder
from lineage_plugin.text import one_line
from lineage_plugin.web.settings import Settings, from_environment

if TYPE_CHECKING:
    from lineage_plugin.options import Options

__all__ = ["offered", "run", "serve", "serve_space"]

_NAME = re.compile(r"[A-Za-z0-9_.-]+:[A-Za-z0-9_./-]+")
_SESSIONS = 300
"""Visitors of whom gradio keeps the state of their fields; anybody can open sessions, and each takes some 150 kB."""
_NEEDS = "the pages need gradio: pip install 'lineage-plugin[space]'"


def run(args: argparse.Namespace, options: Options) -> int:
    """Run ``lineage serve`` until it is interrupted.

    Args:
        args: Its arguments.
        options: ``endpoint`` and ``offline`` count here.

    Returns:
        The exit code.

    Raises:
        UsageError: When gradio is not installed, a folder is none, or the port is taken.
    """
    from huggingface_hub import get_token

    alone = _is_loopback(args.host)
    if not alone and not args.quiet:
        sys.stderr.write(
            f"lineage: {one_line(args.host, 80)} can be reached by others: the Hub is asked without your token\n"
        )
    settings = Settings(
        models={} if args.models is None else offered(Path(args.models)),
        registry=args.registry or os.environ.get("LINEAGE_REGISTRY") or None,
        endpoint=options.endpoint,
        token=get_token() if alone and not options.offline else None,
        offline=options.offline,
        cache=cache_folder() / "answers",
    )
    serve(settings, host=args.host, port=args.port, open_browser=args.open, quiet=args.quiet)
    return 0


def serve_space(folder: Path) -> None:
    """Run as a Space: limits from the environment, the models beside it as examples, the webhook if it has a secret.

    Args:
        folder: Folder of ``app.py``; the models of ``examples/`` in it, or beside it, are offered.
    """
    places = [place for place in (folder / "examples", folder.parent / "examples") if place.is_dir()]
    settings = from_environment(offered(places[0]) if places else {})
    secret, token = os.environ.get("WEBHOOK_SECRET", ""), os.environ.get("HF_TOKEN", "")
    registry = os.environ.get("LINEAGE_REGISTRY_REPO", "")
    if registry and settings.registry is None:
        settings = replace(settings, registry=_pulled(registry))
    serve(settings, secret=secret, token=token)


def offered(folder: Path) -> dict[str, Path]:
    """Return the models of a folder by the names under which visitors find them, such as ``examples:honest``.

    No id of the Hub holds a colon, so none is hidden.

    Args:
        folder: The folder.

    Raises:
        UsageError: When it is none, or has too many files to look through.
    """
    from lineage_plugin.targets import all_models

    if not folder.is_dir():
        raise UsageError(f"--models {one_line(str(folder), 200)}: there is no such folder")
    top = folder.resolve()
    found: Mapping[str, Path] = {
        f"{top.name}:{target.name.removeprefix('./')}": top / target.name
        for target in all_models(top)
        if target.how == "check"
    }
    # Links and the field of the tree separate names by commas and blanks.
    return {name: path for name, path in found.items() if _NAME.fullmatch(name) and path.is_dir()}


def serve(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    open_browser: bool = False,
    quiet: bool = False,
    secret: str = "",
    token: str = "",
) -> None:
    """Serve the pages, the API and the MCP server until a signal ends it.

    Args:
        settings: Choices of the server.
        host: Address to listen to; None: as ``GRADIO_SERVER_NAME`` has it, else this machine alone.
        port: Port; None: ``GRADIO_SERVER_PORT``, else the first free one from 7860.
        open_browser: Whether to open the pages in the user's browser.
        quiet: Whether nothing is printed.
        secret: The webhook's secret; without one there is no webhook.
        token: The token with which the webhook's bot reads and writes.

    Raises:
        UsageError: When gradio is not installed, or the port is taken.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        from lineage_plugin.web.app import build, launch_options
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gradio":
            raise
        raise UsageError(_NEEDS) from None
    from starlette.middleware import Middleware

    from lineage_plugin.web.bot import attach
    from lineage_plugin.web.desk import Desk
    from lineage_plugin.web.guard import LOCAL, Guard, Listeners

    alone = not settings.on_space and _is_loopback(host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1")
    frames = "'self' https://huggingface.co" if settings.on_space else "'none'"
    listeners = Listeners()
    guard = Middleware(Guard, hosts=LOCAL if alone else None, frames=frames, listeners=listeners)
    with _until_signal() as ended, Desk(settings) as desk:
        ui = build(settings, desk, listeners)
        server: Any = attach(ui, desk, settings, secret=secret, token=token) if secret else ui
        options: dict[str, Any] = {
            **launch_options(),
            "server_name": host,
            "server_port": port,
            "inbrowser": open_browser,
            "quiet": True,
            "share": False,
            "ssr_mode": False,
            "pwa": False,
            "mcp_server": True,
            "run_history": False,
            "enable_monitoring": False,
            "prevent_thread_lock": True,
            "state_session_capacity": _SESSIONS,
            "app_kwargs": {"middleware": [guard]},
        }
        try:
            server.launch(**options)
            if not quiet:
                sys.stderr.write(_greeting(str(ui.local_url), settings))
            ended.wait()
        except OSError:
            where = "a port from 7860 on" if port is None else f"port {port}"
            named = one_line(host or "this machine", 80)
            said = f"{where} is not free on {named}, or that is no address of this machine"
            raise UsageError(f"{said}. Choose others with --port and --host") from None
        finally:
            if server is not ui:
                server.bot.close()
            ui.close(verbose=False)


def _greeting(address: str, settings: Settings) -> str:
    """Say where the pages are, and what they read with."""
    rights = "with your token" if settings.token else "without a token"
    hub = "the Hub is not asked" if settings.offline else f"the Hub is asked {rights}"
    models = f"; {len(settings.models)} models of this machine are offered" if settings.models else ""
    return f"lineage: the pages are at {address}\nlineage: {hub}{models}; Ctrl+C ends it\n"


@contextmanager
def _until_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGINT and SIGTERM set, so that what was started is ended, too."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _pulled(repo: str) -> str | None:
    """Fetch a registry that a dataset repository publishes; without it there is one tab less."""
    from lineage_plugin.fingerprint.registry.hub import pull
    from lineage_plugin.fingerprint.registry.store import Registry
    from lineage_plugin.options import Options

    folder = cache_folder() / "registry"
    try:
        with Registry.open(folder, create=True) as registry:
            pull(registry, repo, Options())
    except (LineageError, OSError) as error:
        sys.stderr.write(f"lineage: no registry: {one_line(str(error), 300)}\n")
        return None
    return str(folder)
