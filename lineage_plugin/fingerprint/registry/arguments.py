"""The arguments of ``lineage registry``; needs nothing but argparse, so that help stays fast."""

from __future__ import annotations

import argparse
import re
from typing import TypeVar

__all__ = ["registry_actions"]

_Parser = TypeVar("_Parser", bound=argparse.ArgumentParser)


def registry_actions(registry: _Parser) -> list[_Parser]:
    """Add the subcommands of ``lineage registry``, and return their parsers."""
    actions = registry.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    found: list[_Parser] = []

    def action(name: str, summary: str) -> _Parser:
        parser = actions.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        parser.add_argument(
            "--registry",
            metavar="FOLDER",
            help="the registry (default: LINEAGE_REGISTRY, or the one in the user's cache folder)",
        )
        found.append(parser)
        return parser

    add = action("add", "fingerprint models and add them")
    add.add_argument("models", metavar="MODEL", nargs="+", help="local folder or file, or owner/name[@revision]")
    add.add_argument(
        "--name",
        metavar="ID",
        help="what to call a local model: the id that it has on the Hub (default: its folder's name)",
    )
    build = action("build", "add many models, a few at a time; a second run goes on where the first one stopped")
    build.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="*",
        help="a folder of models (FOLDER/owner/name is called owner/name), a file with an id a line, or an id",
    )
    build.add_argument(
        "--seed", action="store_true", dest="seed_list", help="the well-known base models that docs/bases.md lists"
    )
    build.add_argument("--workers", metavar="N", type=_workers, default=4, help="models read at a time (default 4)")
    shown = action("list", "list the models")
    shown.add_argument("pattern", metavar="PATTERN", nargs="?", help="only ids that match, such as 'acme/*'")
    remove = action("remove", "remove models")
    remove.add_argument(
        "models",
        metavar="ID[@COMMIT]",
        nargs="+",
        help="a model, or one commit of it, in full as 'list --json' shows it",
    )
    action("export", "write all entries to a Parquet file").add_argument("file", metavar="FILE")
    action("import", "add the entries of a Parquet file").add_argument("file", metavar="FILE")
    action("merge", "add the entries of another registry").add_argument("other", metavar="FOLDER")
    stats = action("stats", "say how large the registry is")
    verify = action("verify", "read every entry and say which cannot be used")
    verify.add_argument("--repair", action="store_true", help="remove those, and bring others up to date")
    action("compact", "give back the room of removed entries")
    pull = action("pull", "add the entries that a dataset repository on the Hub publishes")
    push = action("push", "publish the entries in a dataset repository on the Hub")
    for parser in (pull, push):
        parser.add_argument("repository", metavar="REPO", help="owner/name of the dataset repository")
    for parser in (shown, stats):
        parser.add_argument("--json", action="store_true", help="print JSON")
    return found


def _workers(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 1 to 99")
    return int(text)
