"""Runs workflows for real: `act` is a runner of GitHub workflows, here without Docker and without a network.

What GitHub itself would provide stands on this machine: the action as a local repository, a folder for the cache
service, and :mod:`tests.action.server` for the REST API.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lineage_plugin._links import HOME

ROOT = Path(__file__).parents[2]
ACT = Path(sys.executable).with_name("act")
CACHE_ACTION = Path(__file__).with_name("actions_cache")
RECORDER = Path(__file__).with_name("recorder")
ACTION = HOME.removeprefix("https://github.com/")


@dataclass(frozen=True)
class Run:
    """What came of a workflow.

    Attributes:
        ok: Whether it succeeded.
        lines: The runner's log, a dict a line.
    """

    ok: bool
    lines: list[dict[str, Any]] = field(repr=False)

    @property
    def log(self) -> str:
        return "\n".join(str(line.get("msg", "")).rstrip("\n") for line in self.lines)

    @property
    def outputs(self) -> dict[str, str]:
        """Outputs as the runner set them; of several steps together."""
        return {line["name"]: line["arg"] for line in self.lines if line.get("command") == "set-output"}

    @property
    def annotations(self) -> list[tuple[str, dict[str, str], str]]:
        """Kind, properties and text of each annotation, as the runner understood them."""
        kinds = ("error", "warning", "notice")
        return [
            (line["command"], line.get("kvPairs") or {}, line["arg"])
            for line in self.lines
            if line.get("command") in kinds
        ]

    def seconds(self, step: str) -> float:
        """Return how long a step of the action took, by its id there."""
        took = [
            line["executionTime"] for line in self.lines if "executionTime" in line and line["stepID"][1:] == [step]
        ]
        return sum(took) / 1e9

    @property
    def summary(self) -> str:
        """What the steps wrote into the job summary."""
        return "".join(line["content"] for line in self.lines if line.get("command") == "summary")


class Runner:
    """A runner with a repository of its own.

    Args:
        folder: An empty folder for everything.
        cache: A folder that stands for the cache service.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.repository = folder / "repository"
        self.repository.mkdir()
        self._cache = cache
        self._act = folder / "act"
        self._action = folder / "action"
        export(self._action)
        self._git("init", "--quiet", "--initial-branch=main")

    def commit(self, message: str = "change") -> str:
        """Commit everything in the repository and return the commit."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", f"--message={message}")
        return self._git("rev-parse", "HEAD").strip()

    def run(
        self,
        workflow: str,
        *,
        event: str = "workflow_dispatch",
        payload: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
    ) -> Run:
        """Run a workflow.

        Args:
            workflow: The text of its file.
            event: What starts it.
            payload: The event.
            environment: Variables for all steps.
            secrets: Secrets; GITHUB_TOKEN is the job's token.
        """
        file, told = self.folder / "workflow.yml", self.folder / "event.json"
        file.write_text(workflow, encoding="utf-8")
        told.write_text(json.dumps(payload or {}), encoding="utf-8")
        command = [str(ACT), event, "--json", "--workflows", str(file), "--eventpath", str(told), "--no-cache-server"]
        command += [
            "--platform",
            "ubuntu-latest=-self-hosted",
            "--action-cache-path",
            str(self._act),
            "--concurrent-jobs",
            "1",
        ]
        for name, folder in self._repositories(workflow):
            command += ["--local-repository", f"{name}={folder}"]
        variables = {"CACHE_SERVICE": str(self._cache), **(environment or {})}
        command += [word for item in variables.items() for word in ("--env", "=".join(item))]
        command += [word for name in secrets or {} for word in ("--secret", name)]
        with self._first_alone():
            done = subprocess.run(
                command,
                cwd=self.repository,
                env={**os.environ, **(secrets or {}), "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"},
                capture_output=True,
                text=True,
                timeout=280,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        lines = []
        for text in done.stdout.splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                lines.append({"msg": text})
        return Run(done.returncode == 0, lines)

    @contextmanager
    def _first_alone(self) -> Iterator[None]:
        """Let the run that fills the cache end before others that would install the same begin."""
        import fcntl  # which Windows lacks

        with (self._cache / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if any(self._cache.glob("lineage-environment-*")):
                fcntl.flock(lock, fcntl.LOCK_UN)
            yield

    def _repositories(self, workflow: str) -> list[tuple[str, Path]]:
        """Name the actions that are on this machine, as the workflow and our own action name them."""
        steps = yaml.safe_load((self._action / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]
        used = {step.get("uses", "") for step in steps}
        (pinned,) = {name.partition("@")[2] for name in used if name.startswith("actions/cache/")}
        found = [(f"{ACTION}@v1", self._action), (f"actions/cache@{pinned}", CACHE_ACTION)]
        others = r"uses: (github/codeql-action|actions/attest)(?:/[a-z-]+)?@([0-9a-f]{40})"
        return found + [(f"{name}@{commit}", RECORDER) for name, commit in re.findall(others, workflow)]

    def _git(self, *words: str) -> str:
        who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *who, *words], cwd=self.repository, check=True, capture_output=True, text=True
        ).stdout


def export(folder: Path) -> None:
    """Copy what the action's repository holds of the action."""
    folder.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("action", "lineage_plugin"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("action.yml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
