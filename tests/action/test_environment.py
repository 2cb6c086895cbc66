"""The environment of the action: what its key depends on, and what is said when it cannot be made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.action.runner import export


@pytest.fixture
def action(tmp_path: Path) -> Path:
    """A copy of the action."""
    export(tmp_path / "action")
    return tmp_path / "action"


def run(action: Path, command: str, **variables: str) -> tuple[int, str]:
    temporary = action.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    (output := action.parent / "output").write_text("")
    environment = {**os.environ, "RUNNER_TEMP": str(temporary), "GITHUB_OUTPUT": str(output), **variables}
    script = action / "action" / "environment.py"
    done = subprocess.run(
        [sys.executable, str(script), command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=action.parent,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + output.read_text()


def key(action: Path, **variables: str) -> str:
    code, said = run(action, "describe", **variables)
    assert code == 0
    return dict(line.split("=", 1) for line in said.splitlines())["key"]


def test_the_key_follows_what_would_be_installed_and_nothing_else(action: Path) -> None:
    first = key(action)
    assert first.startswith("lineage-environment-")
    (action / "README.md").write_text("other words")
    (action / "action" / "main.py").write_text("")
    (action / "lineage_plugin" / "__pycache__").mkdir()
    (action / "lineage_plugin" / "__pycache__" / "cli.pyc").write_bytes(b"x")
    assert key(action) == first
    assert len({first, key(action, INPUT_VERSION="1.2.3"), key(action, INPUT_VERSION="1.2.4")}) == 3
    (action / "lineage_plugin" / "text.py").write_text("")
    second = key(action)
    (action / "pyproject.toml").write_text("")
    assert len({first, second, key(action)}) == 3


def test_it_does_not_depend_on_where_the_action_lies(action: Path) -> None:
    first = key(action)
    moved = action.parent / "elsewhere" / "action"
    shutil.copytree(action, moved)
    assert key(moved) == first


@pytest.mark.parametrize("version", ["1.2; rm -rf /", "1.2\nkey=forged", "@ https://example.org/x.whl", "-r x"])
def test_a_version_is_a_version(action: Path, version: str) -> None:
    code, said = run(action, "describe", INPUT_VERSION=version)
    assert code == 2 and said.startswith("::error title=lineage::input version")
    assert "forged" not in said and "example.org" not in said


def test_outside_of_a_workflow_it_says_so(action: Path) -> None:
    script = action / "action" / "environment.py"
    variables = {name: value for name, value in os.environ.items() if name not in ("RUNNER_TEMP", "GITHUB_OUTPUT")}
    done = subprocess.run(
        [sys.executable, str(script), "describe"], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "step of a workflow" in done.stdout and "Traceback" not in done.stderr


def test_what_fails_is_one_annotation_and_nothing_is_imported_from_the_repository_that_is_checked(
    action: Path,
) -> None:
    for name in ("pip", "venv", "ensurepip", "lineage_plugin", "requests"):
        (action.parent / f"{name}.py").write_text("open('owned', 'w')\nraise SystemExit('owned')\n")
    run(action, "describe")
    code, said = run(action, "install", PIP_NO_INDEX="1")
    assert code == 2
    assert said.splitlines()[-1] == "::error title=lineage::the installation failed; what pip printed above says why"
    script = [sys.executable, str(action / "action")]
    (action / "lineage_plugin").rename(action / "other")
    subprocess.run(script, cwd=action.parent, capture_output=True, check=False)
    assert not (action.parent / "owned").exists()


def test_no_folder_for_what_is_temporary(action: Path) -> None:
    assert run(action, "describe", RUNNER_TEMP="")[0] in (0, 2)
