"""The command ``lineage hook``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from lineage_plugin.options import Options, Progress

__all__ = ["run"]


def run(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    """Do what ``lineage hook`` was asked for, and return the exit code."""
    if args.action == "run":
        return _run(args, options, progress)
    from lineage_plugin.hooks import git_install

    folder = Path(args.folder)
    if args.action == "status":
        state = git_install.status(folder)
        print(state.said)
        return 0 if state.installed else 1
    said = git_install.uninstall(folder) if args.action == "uninstall" else git_install.install(folder, _options(args))
    if not args.quiet:
        print(said)
    return 0


def _options(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the options that the hook is to run with; files are named from the root, for it runs elsewhere."""
    found = [part for base in args.base for part in ("--base", _absolute(base))]
    if args.fail_on is not None:
        found += ["--fail-on", args.fail_on]
    if args.policy_file is not None:
        from lineage_plugin.policy.load import load_policy

        load_policy(args.policy_file)
        found += ["--policy", str(Path(args.policy_file).absolute())]
    if args.endpoint is not None:
        found += ["--endpoint", args.endpoint]
    return (*found, *(flag for flag in ("--offline", "--quiet") if getattr(args, flag[2:])))


def _absolute(base: str) -> str:
    return str(Path(base).absolute()) if os.path.lexists(base) else base


def _run(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    lines: list[str] = []
    if args.hook == "pre-push":
        lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").splitlines()
        if not lines:
            # Everything is there already.
            return 0
    from lineage_plugin.hooks.rules import Rules

    policy = None
    if args.policy_file is not None:
        from lineage_plugin.policy.load import load_policy

        policy = load_policy(args.policy_file)
    rules = Rules(policy=policy, bases=tuple(map(_absolute, args.base)), fail_on=args.fail_on, options=options)
    if args.hook == "pre-push":
        from lineage_plugin.hooks.git_push import Remote, check_push, parse_updates

        remote = Remote(args.remote, args.url)
        return check_push(parse_updates(lines), remote, rules, quiet=args.quiet, progress=progress)
    from lineage_plugin.hooks.precommit import check_pushed, lint_cards

    if args.hook == "pre-commit":
        return lint_cards(args.files, rules, quiet=args.quiet)
    return check_pushed(rules, quiet=args.quiet, progress=progress)
