"""Checks what a ``git push`` sends, before it sends anything: the work of the pre-push hook.

Of every commit that a ref is pushed to, the files are looked at that differ from what the ref had on the remote. Where
the remote's commit is not on this machine, or the ref is new, they are those that differ from what the remote is known
to have otherwise (its remote-tracking refs). They are laid out as a tree and judged.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.git_commit import Entry, Repository, lay_out, run_git
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.hooks.rules import Rules
    from lineage_plugin.options import Progress
    from lineage_plugin.outcome import ExitCode, Outcome

__all__ = ["Remote", "Update", "check_push", "parse_updates", "tell"]

_ELSEWHERE = "elsewhere"
"""What stands for the address of a remote that is on no Hub."""
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a push goes.

    Attributes:
        name: The remote's name; its address when it has none.
        url: Its address; it may hold a password, so it is never shown.
    """

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Update:
    """A ref that is pushed.

    Attributes:
        ref: Its name on the remote.
        new: The object that it is to have.
        old: The object that it has; None when it is new, or that is not known.
    """

    ref: str
    new: str
    old: str | None


def parse_updates(lines: Iterable[str]) -> tuple[Update, ...]:
    """Return the refs that git tells a pre-push hook of on standard input (githooks(5)); deletions send nothing.

    Raises:
        UsageError: When a line is not as git writes it.
    """
    updates = []
    for line in lines:
        fields = line.split()[-3:]
        if len(fields) != 3 or not _ID.match(fields[0]) or not _ID.match(fields[2]):
            raise UsageError(f"'{one_line(line, 200)}' is no line that git gives a pre-push hook")
        new, ref, old = fields
        if new.strip("0"):
            updates.append(Update(ref, new, old if old.strip("0") else None))
    return tuple(updates)


def check_push(
    updates: Sequence[Update], remote: Remote, rules: Rules, *, quiet: bool = False, progress: Progress | None = None
) -> ExitCode:
    """Check what a push sends, and say on standard error what was found.

    Args:
        updates: The refs that are pushed.
        remote: Where to.
        rules: What it is held against; without an override, that of the environment counts.
        quiet: Whether nothing is said of what passes.
        progress: Called while reading.

    Returns:
        The exit code of the gravest outcome; 0 lets git push. An override that was needed is recorded.

    Raises:
        UsageError: When git does not say what is pushed, or an override cannot be recorded.
    """
    if not updates:
        return 0
    repository = Repository.here()
    outcomes: list[Outcome] = []
    digests: dict[str, str] = {}
    name = ""
    for commit, olds in _commits(updates).items():
        had, changed = _changed(repository, commit, olds, remote)
        with tempfile.TemporaryDirectory(prefix="lineage-") as folder:
            top = Path(folder).resolve()
            laid = lay_out(repository, commit, changed, top) if changed else None
            if laid is None:
                continue
            # Imported late: most pushes of a repository are of no model.
            from lineage_plugin.hooks.journal import reason_given
            from lineage_plugin.hooks.judge import Tree, judge

            rules = rules if rules.override is not None else replace(rules, override=reason_given())
            name, url = _destination(repository, remote, rules)
            _write_clone(top, had or commit, url)
            own = repository.top if _is_checked_out(commit) else None
            on_hub = url != _ELSEWHERE
            tree = Tree(top, name, frozenset(changed), laid.weights, own, laid.digests, on_hub=on_hub)
            with _inside(top if own is None else None):
                outcomes += judge(tree, rules, progress=progress)
            digests |= {file: digest for file, digest in laid.digests.items() if file in changed}
    return _answer(outcomes, name, digests, rules, quiet)


def _commits(updates: Iterable[Update]) -> dict[str, list[str | None]]:
    """Return the commits that refs are pushed to, each with what those refs had."""
    found: dict[str, list[str | None]] = {}
    for update in updates:
        commit = run_git("rev-parse", "--verify", "--quiet", f"{update.new}^{{commit}}")
        if commit is None:
            raise UsageError(f"{one_line(update.ref, 200)}: {update.new} is no commit, so there is nothing to check")
        found.setdefault(commit.decode("ascii").strip(), []).append(update.old)
    return found


def _changed(
    repository: Repository, commit: str, olds: Iterable[str | None], remote: Remote
) -> tuple[str | None, dict[str, Entry]]:
    """Return a commit that the remote has, if any, and the files that differ from what it had."""
    known: str | None = None
    changed: dict[str, Entry] = {}
    for old in olds:
        found = None if old is None else repository.differences(old, commit)
        if found is not None:
            known = old
            changed |= found
            continue
        borders = _borders(commit, remote)
        if borders is None:
            return known, repository.files(commit)
        for border in borders:
            # What a merge takes from one side is new beside the files of the other.
            found = repository.differences(border, commit)
            changed |= repository.files(commit) if found is None else found
            known = known or border
    return known, changed


def _borders(commit: str, remote: Remote) -> list[str] | None:
    """Return the last commits below one that the remote has; None when it has none of them."""
    listed = run_git("rev-list", "--boundary", commit, "--not", f"--remotes={remote.name}", "--")
    if listed is None:
        return None
    lines = listed.decode("ascii").split()
    if not any(not line.startswith("-") for line in lines):
        return [commit]
    return [line[1:] for line in lines if line.startswith("-")] or None


def _write_clone(top: Path, commit: str, url: str) -> None:
    """Let a tree look like a clone of the remote: what its pointers stand for may be there, and is read from there."""
    git = top / ".git"
    git.mkdir()
    (git / "HEAD").write_text(f"{commit}\n", encoding="ascii")
    quoted = url.replace("\\", "\\\\").replace('"', '\\"')
    (git / "config").write_text(f'[remote "origin"]\n\turl = "{quoted}"\n', encoding="utf-8")


def _is_checked_out(commit: str) -> bool:
    """Return whether the working tree holds the files of a commit."""
    head = run_git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head is None or head.decode("ascii").strip() != commit:
        return False
    return run_git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all") == b""


@contextmanager
def _inside(folder: Path | None) -> Iterator[None]:
    """Work in a folder: the policy that is pushed counts, not the one of a working tree that differs."""
    before = Path.cwd()
    if folder is not None:
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _destination(repository: Repository, remote: Remote, rules: Rules) -> tuple[str, str]:
    """Return what the repository is called, and its address on the Hub; it may be elsewhere."""
    from lineage_plugin.checkpoint.hub import endpoint_of
    from lineage_plugin.checkpoint.pointers import model_id_of

    endpoint = endpoint_of(rules.options.endpoint)
    id = model_id_of(remote.url, endpoint)
    if id is None:
        return one_line((repository.top or Path.cwd()).name, 200), _ELSEWHERE
    return id, f"{endpoint}/{id}"


def _answer(outcomes: Iterable[Outcome], name: str, digests: Mapping[str, str], rules: Rules, quiet: bool) -> ExitCode:
    blocked = tell(outcomes, quiet=quiet)
    if not blocked:
        return 0
    from lineage_plugin.hooks.blocking import remedy_of
    from lineage_plugin.hooks.journal import record

    if rules.override is not None:
        record(name, rules.override, blocked, digests)
        _say(f"lineage: {name}: blocked, and overridden: {rules.override}\n")
        return 0
    models = ", ".join(one_line(outcome.target.name, 200) for outcome in blocked)
    _say(f"lineage: the push is stopped, no commit was sent: {models}. {remedy_of(blocked[0])}\n")
    return blocked[0].code


def tell(outcomes: Iterable[Outcome], *, quiet: bool) -> list[Outcome]:
    """Say on standard error what was found, and return what blocks, the gravest first.

    Args:
        outcomes: What was found.
        quiet: Whether nothing is said of what passes.
    """
    found = list(outcomes)
    if not found:
        return []
    from lineage_plugin.hooks.blocking import blocking
    from lineage_plugin.outcome import gravest_first
    from lineage_plugin.report.outline import headline
    from lineage_plugin.report.phrases import summary

    ordered = gravest_first(found)
    for outcome in ordered:
        if outcome.report is None or outcome.code != 0:
            _say(_report(outcome))
        elif not quiet:
            word = headline(outcome.report).word
            _say(f"lineage: {word}: {summary(outcome.report)}\n")
    return blocking(ordered)


def _report(outcome: Outcome) -> str:
    if outcome.report is None:
        return f"lineage: {one_line(outcome.target.name, 200)}: {one_line(outcome.problem, 500)}\n"
    from lineage_plugin.report import render
    from lineage_plugin.report.output import wants_color

    return render(
        outcome.report,
        color=wants_color(sys.stderr),
        width=shutil.get_terminal_size((80, 24)).columns,
        unicode=(sys.stderr.encoding or "").lower().startswith("utf"),
    )


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
