"""The arguments of the command line: what commands and options there are, and how values are written.

Only what parsing needs is imported, so that ``lineage --help`` answers at once.
"""

from __future__ import annotations

import argparse
import re
from typing import NoReturn, get_args

from lineage_plugin._version import __version__
from lineage_plugin.errors import UsageError
from lineage_plugin.family.report import formats as tree_formats
from lineage_plugin.fingerprint.registry.arguments import registry_actions
from lineage_plugin.options import Fingerprints, Options
from lineage_plugin.policy.arguments import policy_actions
from lineage_plugin.policy.size import size_in_bytes
from lineage_plugin.report import FailOn, formats
from lineage_plugin.web.arguments import serve_options

__all__ = ["parse_size", "parser"]

_DEFAULTS = Options()

_EPILOG = """\
examples:
  lineage check ./my-finetune                          the bases its card declares
  lineage check owner/name@revision --base owner/base  a base the card does not name
  lineage compare ./suspect owner/base --format json   one pair, no card
  lineage lint ./my-finetune/README.md --fix           the card alone, with repairs
  lineage lint --explain LIN206                        what a finding means
  lineage policy init                                  write down what findings count as
  lineage fingerprint ./my-finetune --name owner/name  a file of some kilobytes that stands for the weights
  lineage registry build ./models ids.txt owner/base   known models: a folder, a file with an id a line, an id
  lineage upload owner/name ./my-finetune              check, and upload what passes
  lineage hook install                                 check what git pushes from here
  lineage scan ./my-finetune                           which of the known models it comes from
  lineage tree owner/base owner/name ./my-finetune     how several models are related, with a picture
  lineage serve --open                                 the same in a browser

exit codes:
  0 pass    1 findings at or above --fail-on    2 bad usage or unreadable input
  3 undecided (a policy may count it as 0 or 1)    4 the Hub could not be reached or denied access

environment:
  HF_TOKEN       Hub token; there is no option for it, since command lines are visible to
                 others and end up in logs
  HF_ENDPOINT    another Hub than the public one
  LINEAGE_REGISTRY         folder of the registry, where --registry names none (check looks in one
                           only with --registry)
  LINEAGE_CACHE            folder of the cache: fingerprints of models of the Hub
  LINEAGE_GATE             strict: programs in Python upload no model before it is checked; warn: they say
                           what they would block
  LINEAGE_OVERRIDE         why an upload or a push goes on whatever is found; recorded in the cache folder
  NO_COLOR, FORCE_COLOR    never or always use colours
  LINEAGE_DEBUG=1          show the traceback of an unexpected error
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and keep the exit code to the caller."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its errors are :class:`UsageError`."""
    lineage = _Parser(
        prog="lineage",
        description="Does this checkpoint really come from the base model its card declares?",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    lineage.add_argument("--version", action="version", version=f"lineage-plugin {__version__}")
    commands = lineage.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")

    check = _command(commands, "check", "test the weights against the bases that the model card declares")
    check.add_argument("model", metavar="MODEL", help="local folder or file, owner/name[@revision], or a fingerprint")
    _base(check)
    check.add_argument(
        "--candidate",
        metavar="MODEL",
        action="append",
        default=[],
        help="another member of the family: is it a closer parent than the declared base? may be repeated",
    )
    check.add_argument(
        "--ancestor",
        metavar="MODEL",
        help="the model that the parents of a merge, or all candidates, descend from (default: as their cards say)",
    )
    check.add_argument("--card", metavar="FILE", help="read this model card instead of the model's README.md")

    check.add_argument(
        "--registry",
        metavar="FOLDER",
        help="look for undeclared and for nearer bases in this registry of known models, too (default: in none)",
    )

    scan = _command(commands, "scan", "find which known model this one comes from")
    scan.add_argument("model", metavar="MODEL", help="local folder or file, owner/name[@revision], or a fingerprint")
    scan.add_argument(
        "--registry",
        metavar="FOLDER",
        help="the registry of known models (default: LINEAGE_REGISTRY, or the one in the user's cache folder)",
    )
    scan.add_argument("--card", metavar="FILE", help="read this model card instead of the model's README.md")

    compare = _command(commands, "compare", "test one model against another, without a card")
    compare.add_argument(
        "suspect", metavar="SUSPECT", help="local folder or file, owner/name[@revision], or a fingerprint"
    )
    compare.add_argument("base", metavar="BASE", help="the model it may come from, likewise")

    for command in (check, compare, scan):
        reading = command.add_argument_group("reading and testing")
        reading.add_argument("--exhaustive", action="store_true", help="read every unit instead of a sample")
        _seed_and_budget(reading)
        reading.add_argument(
            "--bar",
            metavar="X",
            type=float,
            help="claim a relation from an e-value of 10^X (default 9: wrong for at most 1 in 10^9 independent pairs)",
        )
        reading.add_argument(
            "--fingerprints",
            choices=get_args(Fingerprints),
            default=_DEFAULTS.fingerprints,
            help="of bases on the Hub. auto (default): where a fingerprint is at hand, look at it first, and read the "
            "weights if it does not show descent; only: never read the weights of such a base; off: always read them",
        )

    tree = _command(commands, "tree", "find how several models are related, and draw their family tree")
    _tree_options(tree)

    lint = _command(commands, "lint", "check model cards alone, without reading weights")
    _lint_options(lint)

    fingerprint = _command(commands, "fingerprint", "write the compact fingerprint of a model")
    fingerprint.add_argument("model", metavar="MODEL", help="local folder or file, or owner/name[@revision]")
    fingerprint.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to write it (default: lineage.fingerprint.safetensors in the model's folder, or here)",
    )
    fingerprint.add_argument(
        "--name",
        metavar="ID",
        help="what to call a local model: the id it will have on the Hub (default: its folder's name)",
    )

    registry = _command(commands, "registry", "build and keep a registry of known models")
    actions = registry_actions(registry)

    upload = _command(commands, "upload", "check a folder, and upload it to a model repository if it passes")
    _upload_options(upload)

    hook = _command(commands, "hook", "check models before git pushes them")
    actions += _hook_actions(hook)

    serve = _command(commands, "serve", "show the same checks in a browser, on this machine (needs the space extra)")
    serve_options(serve)

    policy = _command(commands, "policy", "write, show and check the policy file")
    actions += policy_actions(policy)

    for command, model in ((check, "model"), (compare, "suspect"), (scan, "model")):
        _reporting(command)
        command.set_defaults(policy_for=model)
    _reporting(lint)
    for command in (check, compare, scan, tree, lint, fingerprint, upload, serve, *actions):
        _common(command)
    return lineage


def _tree_options(tree: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lineage tree``."""
    tree.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="2 to 64 of them: local folder or file, owner/name[@revision], or a fingerprint",
    )
    output = tree.add_argument_group("output")
    output.add_argument("--format", choices=tree_formats(), default="text", help="default: text")
    output.add_argument("--output", metavar="FILE", help="write the tree to FILE, whole or not at all")
    reading = tree.add_argument_group("reading and testing")
    reading.add_argument(
        "--bar",
        metavar="X",
        type=float,
        help="claim a link from an e-value of 10^X, after division by the number of pairs (default 9: any link is "
        "wrong in at most 1 of 10^9 trees of independent models)",
    )
    _seed_and_budget(reading)
    reading.add_argument(
        "--fingerprints",
        choices=("auto", "off"),
        default=_DEFAULTS.fingerprints,
        help="of models on the Hub. auto (default): those that were made before are used, and new ones kept; off: all "
        "are made anew, and none is kept",
    )


def _seed_and_budget(reading: argparse._ArgumentGroup) -> None:
    reading.add_argument(
        "--budget", metavar="SIZE", type=parse_size, help="read at most this much of each model, such as 64MB"
    )
    reading.add_argument(
        "--seed", metavar="N", type=_seed, default=_DEFAULTS.seed, help="fixes all random draws (default 0)"
    )


def _lint_options(lint: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lineage lint``."""
    lint.add_argument(
        "cards",
        metavar="CARD_OR_MODEL",
        nargs="*",
        help="a model card file, a local model folder, a folder of models or of cards, or owner/name[@revision] "
        "(default: the current folder)",
    )
    lint.add_argument(
        "--hub",
        action="store_true",
        help="ask the Hub about the declared bases, too: are they there, what are they called now, where do they come "
        "from, what are their licences (for a card on this machine nothing is fetched otherwise)",
    )
    lint.add_argument("--name", metavar="ID", help="the id that a local model has, or will have, on the Hub")
    repairs = lint.add_argument_group("repairs")
    repairs.add_argument("--fix", action="store_true", help="repair what can be repaired safely, and report the rest")
    repairs.add_argument(
        "--diff", action="store_true", help="show what --fix would change, and change nothing (exit code 1: something)"
    )
    lint.add_argument("--explain", metavar="CODE", help="print the page about a finding code, such as LIN206")


def _upload_options(upload: argparse.ArgumentParser) -> None:
    """Add the arguments of ``lineage upload``; the names are those of ``hf upload``."""
    upload.add_argument("repo", metavar="REPO", help="owner/name; made if it is not there")
    upload.add_argument("folder", metavar="FOLDER", help="the local folder")
    _base(upload)
    _held_to(upload)
    upload.add_argument(
        "--override",
        metavar="REASON",
        help="upload whatever is found, and record why: in the commit's description and in the cache folder",
    )
    upload.add_argument("--dry-run", action="store_true", help="check, and say what would be uploaded")
    output = upload.add_argument_group("output")
    output.add_argument("--format", choices=formats(), default="text", help="of the report; default: text")
    output.add_argument("--output", metavar="FILE", help="write the report to FILE, whole or not at all")
    evidence = upload.add_argument_group("evidence in the repository")
    evidence.add_argument(
        "--write-card", action="store_true", help="write what was found into a section of the folder's README.md, too"
    )
    evidence.add_argument(
        "--write-fingerprint", action="store_true", help="write the model's fingerprint into the folder, too"
    )
    sending = upload.add_argument_group("uploading")
    sending.add_argument(
        "--path-in-repo", metavar="PATH", default="", help="folder of the repository (default: its top)"
    )
    sending.add_argument("--revision", metavar="BRANCH", help="branch to commit to (default: main)")
    sending.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    sending.add_argument("--private", action="store_true", help="make the repository private, if it is made")
    sending.add_argument("--include", metavar="PATTERN", action="append", help="only files that match; may be repeated")
    sending.add_argument("--exclude", metavar="PATTERN", action="append", help="no files that match; may be repeated")
    sending.add_argument("--message", metavar="TEXT", help="first line of the commit's message")


def _base(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--base",
        metavar="BASE",
        action="append",
        default=[],
        help="test against this base, or its fingerprint, instead of the declared ones; may be repeated",
    )


def _held_to(action: argparse.ArgumentParser) -> None:
    """Add the options that say what an upload or a push is held against."""
    action.add_argument(
        "--fail-on",
        choices=get_args(FailOn),
        help="lowest level of finding that blocks (default: as the policy says, else error)",
    )
    action.add_argument(
        "--policy",
        metavar="FILE",
        dest="policy_file",
        help="what is made of the findings (default: as for lineage check)",
    )


def _hook_actions(hook: _Parser) -> list[_Parser]:
    """Add the subcommands of ``lineage hook``."""
    actions = hook.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    install = _command(actions, "install", "put the pre-push hook into a git repository, or change its options")
    uninstall = _command(actions, "uninstall", "remove it, and put back what was there before")
    status = _command(actions, "status", "say whether it is installed (exit code 0) or not (1)")
    for action in (install, uninstall, status):
        action.add_argument("--folder", metavar="DIR", default=".", help="the repository (default: the current folder)")
    run = _command(actions, "run", "do what a hook does; hooks call this")
    hooks = run.add_subparsers(title="hooks", metavar="HOOK", required=True, dest="hook")
    push = _command(hooks, "pre-push", "check what git says on standard input that it will push")
    push.add_argument("remote", metavar="REMOTE", help="name of the remote")
    push.add_argument("url", metavar="URL", help="its address")
    framework = _command(hooks, "pre-commit-push", "check what the pre-commit framework says will be pushed")
    cards = _command(hooks, "pre-commit", "lint the model cards among files")
    cards.add_argument("files", metavar="FILE", nargs="*", help="changed files")
    for action in (install, push, framework):
        _base(action)
    cards.set_defaults(base=[])
    for action in (install, push, framework, cards):
        _held_to(action)
    return [install, uninstall, status, push, framework, cards]


def _command(commands: argparse._SubParsersAction[_Parser], name: str, summary: str) -> _Parser:
    return commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )


def _reporting(command: argparse.ArgumentParser) -> None:
    """Add the options of commands that print a report."""
    output = command.add_argument_group("output")
    output.add_argument("--format", choices=formats(), default="text", help="default: text")
    output.add_argument("--output", metavar="FILE", help="write the report to FILE, whole or not at all")
    output.add_argument(
        "--fail-on",
        choices=get_args(FailOn),
        help="lowest level of finding that makes the exit code 1 (default: as the policy says, else error)",
    )
    output.add_argument(
        "--policy",
        metavar="FILE",
        help="what is made of the findings (default: .lineage.yml in the current folder; else the one beside the card "
        "or the model, so far as it is stricter)",
    )


def _common(command: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    command.add_argument("--quiet", action="store_true", help="no progress and no warnings on standard error")
    hub = command.add_argument_group(
        "Hub", "The token is taken from HF_TOKEN or 'hf auth login', never from an option."
    )
    hub.add_argument("--offline", action="store_true", help="never touch the network")
    hub.add_argument("--endpoint", metavar="URL", help="the Hub to use (default: HF_ENDPOINT or the public Hub)")


def parse_size(text: str) -> int:
    """Return a number of bytes.

    Args:
        text: A number with a decimal (kB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB) unit; bytes without one.

    Returns:
        The number of bytes, at least 1.

    Raises:
        argparse.ArgumentTypeError: When it is no size; the message shows how to write one.
    """
    octets = size_in_bytes(text)
    if octets is None:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not a size; write for example 64MB, 1.5GB, 512KiB or 4000000"
        )
    return octets


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number of at most 18 digits, 0 or larger")
    return int(text)
