"""``lineage lint``: many cards at a time, repairs, and pages that explain a code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import Report
from lineage_plugin.linting.diff import unified_diff
from lineage_plugin.linting.lint import Lint, prepare, report_on
from lineage_plugin.linting.place import Place
from lineage_plugin.linting.repair import Repaired, fixed, write_back
from lineage_plugin.linting.walk import cards_of
from lineage_plugin.options import Options, Progress
from lineage_plugin.policy.find import find_policy
from lineage_plugin.policy.load import load_policy
from lineage_plugin.policy.types import Policy
from lineage_plugin.report import GRAVEST_FIRST, exit_code, wants_digests
from lineage_plugin.report.outline import total
from lineage_plugin.report.output import publish, wants_color
from lineage_plugin.report.phrases import plural
from lineage_plugin.text import one_line

__all__ = ["run"]

_MANY = 64
"""Cards from which on another process pays."""
_MOST_PROCESSES = 32
"""More do not help, and Windows refuses more than 61."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be done with every card.

    Attributes:
        policy_file: The policy that was named, or None.
        name: What to call the model.
        hub: Whether the Hub is asked.
        fix: Whether cards are repaired.
        diff: Whether repairs are shown instead.
        options: Choices of the run.
    """

    policy_file: str | None
    name: str | None
    hub: bool
    fix: bool
    diff: bool
    options: Options


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of one card.

    Attributes:
        card: What the user typed, or the path that was found.
        report: The report; None when there is none.
        code: The exit code where there is no report.
        problem: Why there is none.
        diff: What repairs would change.
        fixes: What repairs did, or would do.
        refused: Repairs that could not be made, and why.
    """

    card: str
    report: Report | None = None
    code: int = 0
    problem: str = ""
    diff: str = ""
    fixes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def run(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    """Lint cards, repair them, or explain a code.

    Args:
        args: The parsed arguments of ``lineage lint``.
        options: Choices of the run.
        progress: Called after each card.

    Returns:
        The exit code: 1 when a finding fails, or ``--diff`` shows a change; else 2 or 4 when a card could not be read.

    Raises:
        UsageError: When the options do not go together, or the policy is none.
    """
    if args.explain is not None:
        return _explain(args)
    if wants_digests(args.format):
        raise UsageError(f"--format {args.format}: is about weights, which lint does not read; use lineage check")
    if args.diff and (args.output is not None or args.format != "text"):
        raise UsageError("--diff prints a diff and no report: it goes with neither --output nor --format")
    cards = cards_of(args.cards or ["."])
    if args.name is not None and len(cards) > 1:
        raise UsageError(f"--name is the id of one model, and there are {len(cards):,} cards")
    wanted = _Wanted(args.policy, args.name, args.hub, args.fix and not args.diff, args.diff, options)
    if args.policy is not None:
        load_policy(args.policy)  # what is wrong with it is said once
    done: list[_Done] = []
    told: set[str] = set()
    for one in _each(cards, wanted):
        done.append(one)
        if progress is not None:
            progress("reading cards", len(done), len(cards))
        if one.problem and one.problem not in told:
            told.add(one.problem)  # a policy that cannot be read is the same problem for every card
            _say(f"lineage: error: {one.problem}")
    if args.diff:
        return _show_diff(done, args.quiet)
    if not args.quiet:
        for line in (f"{one_line(one.card, 200)}: {said}" for one in done for said in (*one.fixes, *one.refused)):
            _say(line)
    reports = [one.report for one in done if one.report is not None]
    if reports:
        publish(reports, format=args.format, output=args.output)
        if args.output not in (None, "-") and not args.quiet:
            _say(f"{plural(len(reports), 'card')}: {total(*reports)} The report is in {one_line(args.output, 200)}.")
    codes = [one.code if one.report is None else exit_code(one.report, args.fail_on) for one in done]
    return next((code for code in GRAVEST_FIRST if code in codes), 0)


def _each(cards: Sequence[str], wanted: _Wanted) -> Iterator[_Done]:
    """Yield what comes of each card, in their order."""
    work = partial(_one, wanted=wanted)
    processes = min(os.cpu_count() or 1, len(cards) // _MANY, _MOST_PROCESSES)
    # The Hub is better asked from one place, which knows when to wait.
    if processes < 2 or wanted.hub:
        yield from map(work, cards)
        return
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
    from multiprocessing import get_context

    try:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            yield from pool.map(work, cards, chunksize=_MANY)
    except BrokenExecutor:
        raise UsageError("a process that read cards was ended from outside, perhaps for want of memory") from None


def _one(card: str, wanted: _Wanted) -> _Done:
    try:
        policy = load_policy(wanted.policy_file) if wanted.policy_file is not None else find_policy(card)
        prepared = prepare(card, name=wanted.name, hub=wanted.hub, options=wanted.options)
        if wanted.fix or wanted.diff:
            return _repaired(card, prepared, policy, wanted)
        return _Done(card, report_on(prepared, prepared.place.card, policy=policy, options=wanted.options))
    except LineageError as error:
        return _Done(card, code=error.exit_code, problem=one_line(str(error), 500))
    except OSError as error:
        return _Done(card, code=2, problem=f"{one_line(card, 200)}: {error.strerror or type(error).__name__}")


def _repaired(card: str, prepared: Lint, policy: Policy | None, wanted: _Wanted) -> _Done:
    """Repair a card, or say what a repair would change."""
    place = prepared.place
    if place.path is None and wanted.fix:
        raise UsageError(f"{one_line(card, 200)}: is on the Hub, and --fix changes cards on this machine; see --diff")
    old = place.card
    if old is None:
        return _Done(card, report_on(prepared, None, policy=policy, options=wanted.options))
    repaired: Repaired = fixed(lambda text: _to_repair(prepared.findings(text), policy), old)
    new = repaired.card
    if wanted.fix and new != old and place.path is not None:
        write_back(place.path, old, new)
    return _Done(
        card,
        report_on(prepared, new if wanted.fix else old, policy=policy, options=wanted.options),
        diff=unified_diff(old, new, _shown(place)) if wanted.diff else "",
        fixes=tuple(_title(found) for found in repaired.applied),
        refused=tuple(f"{found.code} is left: {why}" for found, why in repaired.refused),
    )


def _shown(place: Place) -> str:
    return place.asked if place.path is None else place.path.as_posix()


def _to_repair(findings: Iterable[Finding], policy: Policy | None) -> list[Finding]:
    """Return the findings that may be repaired: what somebody decided to leave as it is stays."""
    off = {code for code, level in policy.levels.items() if level == "off"} if policy is not None else set()
    if policy is not None and policy.ignore_comments == "deny":
        findings = [replace(found, ignored=None) for found in findings]
    return [found if found.code not in off else replace(found, fix=None) for found in findings]


def _title(found: Finding) -> str:
    return f"{found.code} {found.fix.title if found.fix is not None else ''}".strip()


def _show_diff(done: Sequence[_Done], quiet: bool) -> int:
    """Print what repairs would change; the exit code is 1 when they would change anything."""
    from lineage_plugin.linting.diff import colored

    color = sys.stdout is not None and wants_color(sys.stdout)
    shown = "".join(colored(one.diff) if color else one.diff for one in done)
    if sys.stdout is not None:
        sys.stdout.write(shown)
        sys.stdout.flush()
    changed = [one for one in done if one.diff]
    if not quiet:
        fixes = sum(len(one.fixes) for one in changed)
        many = "" if len(changed) == 1 else "s"
        said = f"--fix would make {fixes} repair{'' if fixes == 1 else 's'} in {len(changed)} card{many}."
        _say(said if changed else "There is nothing to repair.")
        for one in done:
            for why in one.refused:
                _say(f"{one_line(one.card, 200)}: {why}")
    codes = [1 if one.diff else one.code for one in done]
    return next((code for code in GRAVEST_FIRST if code in codes), 0)


def _explain(args: argparse.Namespace) -> int:
    import shutil

    from lineage_plugin.explain import explain

    text = explain(
        args.explain,
        color=sys.stdout is not None and wants_color(sys.stdout),
        width=min(shutil.get_terminal_size((80, 24)).columns, 100),
    )
    if sys.stdout is not None:
        sys.stdout.write(text)
    return 0


def _say(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(line + "\n")
