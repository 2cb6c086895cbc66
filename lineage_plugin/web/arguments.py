"""The arguments of ``lineage serve``; needs nothing but argparse, so that help stays fast."""

from __future__ import annotations

import argparse

__all__ = ["serve_options"]


def serve_options(serve: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lineage serve``."""
    serve.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="address to listen to (default: 127.0.0.1, this machine alone; for others your Hub token is not used)",
    )
    serve.add_argument(
        "--port", metavar="N", type=_port, help="port to listen to (default: the first free one from 7860)"
    )
    serve.add_argument(
        "--models", metavar="FOLDER", help="offer the models of this folder, too; nothing else of this machine is read"
    )
    serve.add_argument("--registry", metavar="FOLDER", help="the registry of known models (default: LINEAGE_REGISTRY)")
    serve.add_argument("--open", action="store_true", help="open the pages in your browser")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:9]) < 65536):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no port; it is a number from 1 to 65535")
    return int(text)
