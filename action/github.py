"""Where the action runs: repository, event and pull request, as GitHub's runner describes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineage_plugin.errors import UsageError

__all__ = ["Context", "read_context"]

_MAX_EVENT = 32 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class Context:
    """The run.

    Attributes:
        workspace: The checked-out repository.
        temporary: A folder for files of this job.
        repository: ``owner/name``; "" when it is not known.
        pull_request: Number of the pull request, or None.
        before: Commit that the event's changes start from, or None.
        after: Commit that they end at, or None.
        api: Address of the REST API.
        run_url: The page of this run; "" when it is not known.
        token: The job's own GitHub token, or None; for the API only.
        name: Workflow and job: tells this use of the action from others in the repository.
        summary: The file of the job summary, or None.
        output: The file of outputs, or None.
    """

    workspace: Path
    temporary: Path
    repository: str = ""
    pull_request: int | None = None
    before: str | None = None
    after: str | None = None
    api: str = "https://api.github.com"
    run_url: str = ""
    token: str | None = None
    name: str = ""
    summary: Path | None = None
    output: Path | None = None

    def __repr__(self) -> str:
        return f"Context(repository={self.repository!r}, pull_request={self.pull_request!r})"


def read_context(environment: Mapping[str, str]) -> Context:
    """Return the context.

    Args:
        environment: The variables that the runner sets, and ``GITHUB_TOKEN``.

    Raises:
        UsageError: When this is no run of a workflow.
    """

    def path(name: str) -> Path | None:
        value = environment.get(name)
        return Path(value) if value else None

    workspace, temporary = path("GITHUB_WORKSPACE"), path("RUNNER_TEMP")
    if workspace is None or temporary is None:
        raise UsageError("GITHUB_WORKSPACE and RUNNER_TEMP are not set; this runs as a step of a workflow")
    repository = environment.get("GITHUB_REPOSITORY", "")
    if not _REPOSITORY.match(repository):
        repository = ""
    run, server = environment.get("GITHUB_RUN_ID", ""), environment.get("GITHUB_SERVER_URL", "https://github.com")
    event = _event(path("GITHUB_EVENT_PATH"))
    number, before, after = _changes(event)
    return Context(
        workspace=workspace,
        temporary=temporary / "lineage",
        repository=repository,
        pull_request=number,
        before=before,
        after=after,
        api=environment.get("GITHUB_API_URL", "https://api.github.com").rstrip("/"),
        run_url=f"{server}/{repository}/actions/runs/{run}" if repository and run.isdecimal() else "",
        token=environment.get("GITHUB_TOKEN") or None,
        name=f"{environment.get('GITHUB_WORKFLOW', '')}/{environment.get('GITHUB_JOB', '')}",
        summary=path("GITHUB_STEP_SUMMARY"),
        output=path("GITHUB_OUTPUT"),
    )


def _event(path: Path | None) -> dict[str, Any]:
    """Return the payload of the event; empty when there is none that can be read."""
    try:
        if path is None or path.stat().st_size > _MAX_EVENT:
            return {}
        event = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _changes(event: Mapping[str, Any]) -> tuple[int | None, str | None, str | None]:
    """Return the number of the pull request, and the commits before and after the event."""
    pull = event.get("pull_request")
    if isinstance(pull, dict):
        number = pull.get("number")
        ends = [side.get("sha") if isinstance(side := pull.get(name), dict) else None for name in ("base", "head")]
        return number if isinstance(number, int) and number > 0 else None, _commit(ends[0]), _commit(ends[1])
    return None, _commit(event.get("before")), _commit(event.get("after"))


def _commit(value: object) -> str | None:
    # All zeros stand for no commit: a new branch has none before.
    return value if isinstance(value, str) and _COMMIT.match(value) and value.strip("0") else None
