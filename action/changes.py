"""Which files the pull request or push changed: from git's objects, else from GitHub's API."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from action.api import GitHub, GitHubError
from action.github import Context

__all__ = ["changed_files"]

_SECONDS = 60
_PAGE = 100
_MOST_PAGES = 30
"""GitHub lists no more than 3,000 files of a pull request."""


def changed_files(context: Context) -> tuple[str, ...] | None:
    """Return the files that the event changed.

    Args:
        context: The run.

    Returns:
        Paths from the top of the repository, deleted and renamed ones among them; None when it cannot be told, as for a
        schedule, for more files than GitHub lists, or without history and without a token.
    """
    if context.before is None or context.after is None:
        return None
    if not (context.workspace / ".git").exists():
        # Paths of the repository are none of this folder: it was checked out somewhere else, or not at all.
        return None
    # A pull request: from where the branches parted, since what came to the target branch later is not of it. A push:
    # from what was there before, which may be ahead of what is there now.
    dots = ".." if context.pull_request is None else "..."
    found = _from_git(context.workspace, f"{context.before}{dots}{context.after}")
    return _from_api(context) if found is None else found


def _from_git(workspace: Path, range_: str) -> tuple[str, ...] | None:
    """Compare in the clone; None when it does not reach back far enough (actions/checkout fetches one commit)."""
    # The repository is the one in .git, never one that the files pretend to be, and nothing is fetched for it.
    command = ["git", "-c", f"safe.directory={workspace.resolve()}", "-c", "safe.bareRepository=explicit"]
    command += ["-c", "core.quotePath=false", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never"]
    command += ["-C", str(workspace), f"--git-dir={workspace / '.git'}"]
    command += ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", range_, "--"]
    environment = {**os.environ, "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return tuple(name.decode("utf-8", "surrogateescape") for name in done.stdout.split(b"\0") if name)


def _from_api(context: Context) -> tuple[str, ...] | None:
    if not context.repository:
        return None
    github = GitHub(context.api, context.token)
    try:
        if context.pull_request is None:
            answer = github.get(f"/repos/{context.repository}/compare/{context.before}...{context.after}")
            files = answer.get("files") if isinstance(answer, dict) else None
            # The list ends at 300 files, without a sign that there are more.
            return None if not isinstance(files, list) or len(files) >= 300 else _names(files)
        found: list[object] = []
        for page in range(1, _MOST_PAGES + 1):
            address = f"/repos/{context.repository}/pulls/{context.pull_request}/files?per_page={_PAGE}&page={page}"
            answer = github.get(address)
            if not isinstance(answer, list):
                return None
            found += answer
            if len(answer) < _PAGE:
                return _names(found)
    except GitHubError:
        return None
    return None


def _names(files: list[object]) -> tuple[str, ...]:
    names = [file.get(key) for file in files if isinstance(file, dict) for key in ("filename", "previous_filename")]
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
