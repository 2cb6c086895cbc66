"""The command ``lineage policy``."""

from __future__ import annotations

import argparse
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin.errors import UsageError
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.policy.types import Policy

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Do what ``lineage policy`` was asked for.

    Args:
        args: The arguments, of :func:`~lineage_plugin.policy.arguments.policy_actions`.

    Returns:
        The exit code: 0, also for a policy with settings to no effect; 2 when a file is no valid policy.

    Raises:
        UsageError: When there is nothing to show, or a file is there that would be overwritten.
    """
    return {"init": _init, "show": _show, "validate": _validate}[str(args.action)](args)


def _init(args: argparse.Namespace) -> int:
    from lineage_plugin.card.weight_names import CONFIGURATIONS
    from lineage_plugin.policy.find import NAME
    from lineage_plugin.policy.start import starter, write_new

    folder = Path(args.folder)
    if not folder.is_dir():
        raise UsageError(f"--folder {one_line(args.folder, 160)}: there is no such folder")
    path = folder / NAME
    write_new(path, starter(args.preset, datetime.now(timezone.utc).date()))
    if args.quiet:
        return 0
    print(f"Wrote {one_line(path, 200)} with the preset {args.preset}. Commit it, so that everyone has the same rules.")
    print("Commands that are started in that folder use it. What holds now: lineage policy show")
    if any((folder / name).is_file() for name in CONFIGURATIONS):
        print(
            "This looks like the folder of a model: checks of that model take the file from there only so far as it is "
            f"stricter, unless they are told: --policy {NAME}"
        )
    return 0


def _show(args: argparse.Namespace) -> int:
    from lineage_plugin.policy import shown
    from lineage_plugin.policy.view import view_of

    view = view_of(_that_holds(args), args.model, datetime.now(timezone.utc).date())
    formats = {"json": shown.as_json, "text": shown.as_text, "yaml": shown.as_yaml}
    print(formats[args.format](view), end="")
    return 0


def _that_holds(args: argparse.Namespace) -> Policy | None:
    from lineage_plugin.policy.find import NAME, find_policy
    from lineage_plugin.policy.load import load_policy

    if args.policy_file is not None:
        return load_policy(args.policy_file)
    if args.model is not None:
        return find_policy(args.model)
    return load_policy(NAME) if os.path.lexists(NAME) else None


def _validate(args: argparse.Namespace) -> int:
    from lineage_plugin.policy.find import NAME

    if not args.files and not os.path.lexists(NAME):
        raise UsageError(f"there is no {NAME} here; name a file, or write one with 'lineage policy init'")
    valid = [_is_valid(file, quiet=args.quiet) for file in args.files or [NAME]]
    return 0 if all(valid) else UsageError.exit_code


def _is_valid(file: str, *, quiet: bool) -> bool:
    """Print what there is to say of a policy file, and return whether it is valid."""
    from lineage_plugin.policy.load import inspect_policy
    from lineage_plugin.policy.remarks import remarks

    def say(line: int, column: int, level: str, message: str) -> None:
        print(one_line(f"{one_line(file, 160)}:{line}:{column}: {level}: {message}", 900))

    try:
        policy, problems = inspect_policy(file)
    except UsageError as error:
        print(one_line(error, 900))
        return False
    for wrong in problems:
        say(wrong.line, wrong.column, "error", wrong.problem)
    if policy is None:
        return False
    found = remarks(policy, datetime.now(timezone.utc).date())
    for remark in () if quiet else found:
        say(remark.line, remark.column, "warning", remark.message)
    if not quiet:
        warned = f", {len(found)} warning{'' if len(found) == 1 else 's'}" if found else ""
        print(one_line(f"{one_line(file, 160)}: valid{warned}", 900))
    return True
