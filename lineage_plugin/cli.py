"""The command line: parse, call the API, print, exit code.

Data goes to standard output, progress and errors to standard error. Exit codes: 0 pass; 1 findings at or above
``--fail-on``; 2 bad usage or unreadable input; 3 undecided; 4 the Hub could not be reached or denied access. Errors are
one line, never a traceback (``LINEAGE_DEBUG=1`` shows it).

Only what parsing needs is imported at the top, so that ``lineage --help`` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lineage_plugin.arguments import parse_size, parser
from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.options import Options, Progress
from lineage_plugin.report import exit_code, wants_digests
from lineage_plugin.report.output import abandon, check_output, publish
from lineage_plugin.report.progress import shown_progress

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report
    from lineage_plugin.policy.types import Policy

__all__ = ["guarded", "main", "parse_size", "parser"]

_DEFAULTS = Options()
_MEASURED = frozenset({"check", "compare", "scan", "upload"})
"""Commands whose reports are about weights."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        The exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks is no reason to fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = guarded(lambda: _run(arguments))
    if code == 130:
        # What threads are at is waited for at the end of the process. Who does not want to wait asks again.
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


def _run(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    if getattr(args, "output", None) is not None:
        check_output(args.output)
    policy = _policy(args) if "policy_for" in args else None
    if "policy_for" in args:
        args.policy = policy
    bar, budget = getattr(args, "bar", None), getattr(args, "budget", None)
    if policy is not None:
        # What the command line says comes first.
        bar, budget = policy.bar if bar is None else bar, policy.budget if budget is None else budget
    options = Options(
        bar=_DEFAULTS.bar if bar is None else bar,
        seed=getattr(args, "seed", _DEFAULTS.seed),
        budget=budget,
        exhaustive=getattr(args, "exhaustive", False),
        offline=args.offline,
        endpoint=args.endpoint,
        fingerprints=getattr(args, "fingerprints", _DEFAULTS.fingerprints),
        digests="format" in args and args.command in _MEASURED and wants_digests(args.format),
    )
    with contextlib.ExitStack() as stack:
        if args.quiet:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        return int(_CALLS[args.command](args, options, stack.enter_context(shown_progress(args.quiet))))


def _policy(args: argparse.Namespace) -> Policy | None:
    """Return the policy that is named or found."""
    from lineage_plugin.policy.find import find_policy
    from lineage_plugin.policy.load import load_policy

    if args.policy is not None:
        return load_policy(args.policy)
    return find_policy(getattr(args, args.policy_for), getattr(args, "card", None))


def _published(report: Report, args: argparse.Namespace) -> int:
    """Write a report where it is wanted, and return the exit code that it stands for."""
    publish([report], format=args.format, output=args.output)
    if args.output not in (None, "-") and not args.quiet:
        from lineage_plugin.report.outline import headline
        from lineage_plugin.report.phrases import summary
        from lineage_plugin.text import one_line

        # Whoever reads the log only is told as well.
        _print_error(f"{headline(report).word}: {summary(report)} The report is in {one_line(args.output, 200)}.\n")
    return exit_code(report, args.fail_on)


def _check(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin import api

    report = api.check(
        args.model,
        bases=tuple(args.base),
        card=args.card,
        candidates=tuple(args.candidate),
        ancestor=args.ancestor,
        registry=args.registry,
        policy=args.policy,
        options=options,
        progress=progress,
    )
    return _published(report, args)


def _scan(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin import api

    report = api.scan(
        args.model, registry=args.registry, card=args.card, policy=args.policy, options=options, progress=progress
    )
    return _published(report, args)


def _compare(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin import api

    report = api.compare(args.suspect, args.base, policy=args.policy, options=options, progress=progress)
    return _published(report, args)


def _tree(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.family.command import run

    return run(args, options, progress)


def _lint(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.linting.command import run

    return run(args, options, progress)


def _rules(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.policy.command import run

    return run(args)


def _fingerprint(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.fingerprint.command import write_fingerprint

    return write_fingerprint(args.model, args.output, name=args.name, options=options, progress=progress)


def _registry(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.fingerprint.registry.command import run

    return run(args, options, progress)


def _hook(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.hooks.command import run

    return run(args, options, progress)


def _upload(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.hooks.upload_command import run

    return run(args, options, progress)


def _serve(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    from lineage_plugin.web.serve import run

    return run(args, options)


_CALLS: dict[str, Callable[[argparse.Namespace, Options, Progress | None], int]] = {
    "check": _check,
    "compare": _compare,
    "fingerprint": _fingerprint,
    "hook": _hook,
    "lint": _lint,
    "policy": _rules,
    "registry": _registry,
    "scan": _scan,
    "serve": _serve,
    "tree": _tree,
    "upload": _upload,
}


def guarded(action: Callable[[], int]) -> int:
    """Run an action and turn whatever it raises into one line on standard error and an exit code.

    Args:
        action: What to run; returns an exit code.

    Returns:
        The exit code of the action or of what it raised.
    """
    try:
        return action()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # As a shell says it of a program that the signal ended: what was cut off is never a pass.
        abandon(sys.stdout)
        return 141
    except SystemExit as stop:  # argparse after --help and --version
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as error:
        _complain(*_explain(error))
        if os.environ.get("LINEAGE_DEBUG") == "1":
            import traceback

            _print_error(_without_token(traceback.format_exc()))
        return error.exit_code if isinstance(error, LineageError) else UsageError.exit_code


def _explain(error: Exception) -> tuple[str, str]:
    """Return what an error says and, when it is a defect of this package, what to do about it."""
    if isinstance(error, LineageError):
        return str(error), ""
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename else ""
        return f"{named}{error.strerror or error or type(error).__name__}", ""
    return f"unexpected {type(error).__name__}: {error}", " (please report this; LINEAGE_DEBUG=1 shows where)"


def _complain(message: str, hint: str) -> None:
    from lineage_plugin.text import one_line

    _print_error(f"lineage: error: {one_line(_without_token(message), 500)}{hint}\n")


def _print_error(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or there is none
        sys.stderr.write(text)
        sys.stderr.flush()


def _without_token(text: str) -> str:
    # The package's own errors carry none; this is for what other libraries may put into theirs.
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        token = os.environ.get(name, "").strip()
        if len(token) >= 6:
            text = text.replace(token, "***")
    return text
