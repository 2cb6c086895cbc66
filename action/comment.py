"""One comment on the pull request, kept up to date."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from action.api import GitHub, GitHubError
from action.github import Context
from action.inputs import CommentMode

__all__ = ["MAX_BODY", "marker", "post"]

MAX_BODY = 65_536
"""Characters that GitHub takes in a comment."""

_LOGIN = "github-actions[bot]"
"""Who writes with the token of a job."""
_PAGE = 100
_MOST_PAGES = 50
_NO_PERMISSION = "grant the job 'permissions: pull-requests: write'; a pull request from a fork never has it"


def marker(context: Context, models: Iterable[str]) -> str:
    """Return the first line of the comment, by which it is found again; it is not shown.

    Args:
        context: The run.
        models: The input ``model`` line by line: tells the legs of a matrix apart.
    """
    told = "\n".join((context.name, *models))
    return f"<!-- lineage-plugin {hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()[:32]} -->"


def post(context: Context, mark: str, body: str, *, mode: CommentMode, models: int, findings: bool) -> str:
    """Write the comment, or the one that is there anew.

    Args:
        context: The run.
        mark: The line that :func:`marker` returned.
        body: What to say below it.
        mode: The input ``comment``.
        models: How many models the run was about; without any, no new comment is written.
        findings: Whether there is anything to complain of.

    Returns:
        One sentence: what was done, or why nothing.
    """
    if mode == "false":
        return ""
    if context.pull_request is None or not context.repository:
        return "No comment: this run belongs to no pull request."
    if context.token is None:
        return f"No comment: the job has no GitHub token; {_NO_PERMISSION}."
    github = GitHub(context.api, context.token)
    issues = f"/repos/{context.repository}/issues"
    try:
        mine = _mine(github, f"{issues}/{context.pull_request}/comments", mark)
        if mine is None and (not models or (mode == "findings" and not findings)):
            return "No comment: nothing was found." if models else "No comment: no model was changed."
        text = {"body": f"{mark}\n{body}"}
        if mine is None:
            github.post(f"{issues}/{context.pull_request}/comments", text)
            return "The pull request has a new comment."
        if mine.get("body") != text["body"]:
            github.patch(f"{issues}/comments/{mine['id']}", text)
        return "The comment on the pull request is up to date."
    except GitHubError as error:
        advice = f"; {_NO_PERMISSION}" if error.status in (401, 403, 404) else ""
        return f"No comment: {error}{advice}."


def _mine(github: GitHub, address: str, mark: str) -> dict[str, Any] | None:
    """Return the comment of an earlier run.

    Anybody may write a comment that begins with the mark, and a token with write access may change that one as well, so
    only comments count that were written as the job's token writes.
    """
    for page in range(1, _MOST_PAGES + 1):
        found = github.get(f"{address}?per_page={_PAGE}&page={page}")
        if not isinstance(found, list):
            return None
        for comment in found:
            if isinstance(comment, dict) and isinstance(comment.get("id"), int) and _is_mine(comment, mark):
                return comment
        if len(found) < _PAGE:
            return None
    return None


def _is_mine(comment: dict[str, Any], mark: str) -> bool:
    user, body = comment.get("user"), comment.get("body")
    return (
        isinstance(user, dict)
        and (user.get("type"), user.get("login")) == ("Bot", _LOGIN)
        and isinstance(body, str)
        and body.startswith(f"{mark}\n")
    )
