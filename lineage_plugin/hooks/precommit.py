"""What the hooks of ``.pre-commit-hooks.yaml`` do under the pre-commit framework.

At a push, pre-commit says in the environment what is pushed and where; it looks at the first ref only, and runs a hook
that was there before, such as that of git-lfs, first (pre-commit 4: ``commands/hook_impl.py``). At a commit, it names
the files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.hooks.git_commit import run_git
from lineage_plugin.hooks.git_push import Remote, Update, check_push, tell
from lineage_plugin.hooks.rules import Rules
from lineage_plugin.options import Progress
from lineage_plugin.outcome import ExitCode, Outcome, ask, code_of, options_under
from lineage_plugin.policy.find import find_policy
from lineage_plugin.targets import Target, changed_models
from lineage_plugin.text import one_line

__all__ = ["check_pushed", "lint_cards"]


def check_pushed(rules: Rules, *, quiet: bool = False, progress: Progress | None = None) -> ExitCode:
    """Check what pre-commit says is pushed; when it says nothing, all files of the commit that is checked out.

    Args:
        rules: What it is held against.
        quiet: Whether nothing is said of what passes.
        progress: Called while reading.

    Returns:
        The exit code of the gravest outcome.

    Raises:
        UsageError: When a commit that pre-commit names is not there.
    """
    said = os.environ.get
    new = said("PRE_COMMIT_TO_REF") or said("PRE_COMMIT_LOCAL_BRANCH") or "HEAD"
    old = said("PRE_COMMIT_FROM_REF")
    url = said("PRE_COMMIT_REMOTE_URL") or os.fsdecode(run_git("config", "--get", "remote.origin.url") or b"").strip()
    # Without a name nothing counts as known to the remote.
    remote = Remote(said("PRE_COMMIT_REMOTE_NAME") or url, url)
    ref = said("PRE_COMMIT_REMOTE_BRANCH") or new
    return check_push([Update(ref, _commit(new), old and _commit(old))], remote, rules, quiet=quiet, progress=progress)


def _commit(name: str) -> str:
    found = None if name.startswith("-") else run_git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    if found is None:
        raise UsageError(f"{one_line(name, 200)}: there is no such commit here")
    return found.decode("ascii").strip()


def lint_cards(files: Sequence[str], rules: Rules, *, quiet: bool = False) -> ExitCode:
    """Lint those of the files that are model cards.

    Args:
        files: Files relative to the current folder, or below it.
        rules: What they are held against.
        quiet: Whether nothing is said of what passes.

    Returns:
        The exit code of the gravest outcome; a README that is no model card is passed over.
    """
    top = Path.cwd()
    cards = {PurePosixPath(Path(os.path.relpath(file, top)).as_posix()) for file in files}
    models = {PurePosixPath(target.name) for target in changed_models(top, map(str, cards))}
    outcomes = [_lint(str(card), rules) for card in sorted(cards) if card.parent in models]
    blocked = tell(outcomes, quiet=quiet)
    return blocked[0].code if blocked else 0


def _lint(card: str, rules: Rules) -> Outcome:
    target = Target(card, "lint")
    try:
        policy = rules.policy if rules.policy is not None else find_policy(card)
        options = options_under(policy, rules.options)
    except LineageError as error:
        return Outcome(target, code_of(error), None, str(error))
    return replace(ask(target, policy=policy, bases=(), options=options, fail_on=rules.fail_on), target=target)
