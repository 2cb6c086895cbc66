"""Fixtures of the action's tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from action.github import Context
from tests.action.runner import Runner
from tests.action.server import REPOSITORY, TOKEN, GitHubServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    """GitHub's API on this machine."""
    with GitHubServer() as server:
        yield server


@pytest.fixture
def context(github: GitHubServer, tmp_path: Path) -> Context:
    """A run for pull request 7 in an empty workspace."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    return Context(
        workspace=workspace,
        temporary=tmp_path / "temporary",
        repository=REPOSITORY,
        pull_request=7,
        before="1" * 40,
        after="2" * 40,
        api=github.address,
        run_url="https://github.com/acme/models/actions/runs/12",
        token=TOKEN,
        name="check/lineage",
        summary=tmp_path / "summary.md",
        output=tmp_path / "output.txt",
    )


@pytest.fixture(scope="session")
def cache_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stands for GitHub's cache service: what one run saves, the next one finds."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes of these tests, so that one of them installs
    folder /= "cache-service"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def runner(tmp_path: Path, cache_service: Path) -> Runner:
    """A runner of workflows whose repository holds the examples in ``models``."""
    if sys.platform != "linux":
        pytest.skip("the stand-ins for GitHub's services are written for Linux")
    folder = tmp_path / "runner"
    folder.mkdir()
    made = Runner(folder, cache_service)
    shutil.copytree(ROOT / "examples", made.repository / "models")
    return made
