"""The arguments of ``lineage policy``; needs nothing but argparse, so that help stays fast."""

from __future__ import annotations

import argparse
from typing import TypeVar

from lineage_plugin.policy.presets import PRESETS

__all__ = ["policy_actions"]

_Parser = TypeVar("_Parser", bound=argparse.ArgumentParser)


def policy_actions(policy: _Parser) -> list[_Parser]:
    """Add the subcommands of ``lineage policy``, and return their parsers."""
    actions = policy.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")

    def action(name: str, summary: str) -> _Parser:
        return actions.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )

    init = action("init", "write a commented .lineage.yml, unless there is one")
    init.add_argument(
        "--preset",
        choices=PRESETS,
        default=PRESETS[0],
        help="solo (default): what holds without a file; strict: for organisations",
    )
    init.add_argument("--folder", metavar="DIR", default=".", help="where to (default: the current folder)")
    show = action("show", "say which policy holds, and where each of its settings comes from")
    show.add_argument(
        "model", metavar="MODEL", nargs="?", help="for this model or card (default: for models in other folders)"
    )
    show.add_argument(
        "--policy", metavar="FILE", dest="policy_file", help="this policy file (default: the one that is found)"
    )
    show.add_argument(
        "--format",
        choices=("text", "json", "yaml"),
        default="text",
        help="text (default); json, for programs; yaml: one policy file that says all of it without a preset",
    )
    validate = action("validate", "say all that is wrong with policy files, and what in them has no effect")
    validate.add_argument(
        "files", metavar="FILE", nargs="*", help="policy files (default: .lineage.yml in the current folder)"
    )
    return [init, show, validate]
