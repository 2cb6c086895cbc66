"""The hooks of ``.pre-commit-hooks.yaml``, run by pre-commit itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.hooks.repositories import BIN, EXAMPLES, ROOT, Work, work_in
from tests.hub import LocalHub

pytestmark = pytest.mark.skipif(not (BIN / "pre-commit").exists(), reason="there is no pre-commit")

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def work(tmp_path: Path, hub: LocalHub) -> Work:
    shutil.copytree(EXAMPLES / "base", hub.root / "examples" / "base")
    return work_in(tmp_path / "work", HF_ENDPOINT=hub.endpoint, PRE_COMMIT_HOME=str(tmp_path / "pre-commit"))


def configure(work: Work, repos: list[object]) -> None:
    text = yaml.safe_dump({"repos": repos})
    (work.clone / ".pre-commit-config.yaml").write_text(text, encoding="utf-8")
    work.git("add", ".pre-commit-config.yaml")
    work.run("pre-commit", "install", "--hook-type", "pre-commit", "--hook-type", "pre-push")


@pytest.fixture
def installed(work: Work) -> Work:
    """A clone in which pre-commit runs the hooks, in the environment of the tests."""
    configure(work, [{"repo": "local", "hooks": [{**hook, "language": "system"} for hook in HOOKS]}])
    return work


def commit(work: Work) -> subprocess.CompletedProcess[str]:
    work.git("add", "-A")
    return work.run("git", "commit", "-m", "a commit", ok=False)


def test_a_lying_model_is_stopped_and_a_corrected_card_goes(installed: Work) -> None:
    installed.add("liar")
    done = commit(installed)
    assert done.returncode == 0 and "lineage lint of model cards" in done.stderr, done.stderr
    before = installed.received()
    done = installed.push()
    assert (
        done.returncode != 0 and "LIN101" in done.stdout + done.stderr and "lineage-check" in done.stdout + done.stderr
    )
    assert installed.received() == before
    installed.correct()
    assert commit(installed).returncode == 0
    done = installed.push()
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_what_is_pushed_is_checked(installed: Work) -> None:
    installed.add("liar", "models/liar")
    commit(installed)
    assert installed.push("--no-verify", "origin", "main").returncode == 0
    (installed.clone / "notes.txt").write_text("x", encoding="utf-8")
    commit(installed)
    assert installed.push().returncode == 0
    installed.git("checkout", "-q", "-b", "feature")
    installed.add("honest", "models/honest")
    commit(installed)
    assert installed.push("origin", "feature").returncode == 0
    # By hand, nothing says what is pushed: all of the commit is looked at.
    done = installed.run("pre-commit", "run", "lineage-check", "--hook-stage", "manual", "--all-files", ok=False)
    assert done.returncode != 0 and "models/liar" in done.stdout


def test_an_override_lets_it_go(installed: Work) -> None:
    installed.add("liar")
    commit(installed)
    done = installed.push(LINEAGE_OVERRIDE="the base was renamed yesterday")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "renamed" in (Path(installed.environment["LINEAGE_CACHE"]) / "overrides.jsonl").read_text(encoding="utf-8")


def test_cards_are_linted_at_the_commit(installed: Work) -> None:
    installed.add("honest", "a")
    installed.add("honest", "b")
    (installed.clone / "README.md").write_text("# A project\n\nNo model card.\n", encoding="utf-8")
    (installed.clone / "b/README.md").write_text("---\nbase_model: [not closed\n---\n", encoding="utf-8")
    done = commit(installed)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "b/README.md" in said and "CARD ONLY: a/README.md" in said, said
    assert "lineage: README.md" not in said
    installed.add("honest", "b")
    assert commit(installed).returncode == 0


def test_other_readmes_are_passed_over(installed: Work) -> None:
    (installed.clone / "docs").mkdir()
    for name in ("README.md", "docs/README.md"):
        (installed.clone / name).write_text("---\ntitle: [not closed\n---\n", encoding="utf-8")
    done = installed.lineage("hook", "run", "pre-commit", "README.md", "docs/README.md")
    assert (done.stdout, done.stderr) == ("", "")


def test_our_own_hook_under_pre_commit_is_not_run_twice(installed: Work) -> None:
    # pre-commit keeps what it finds, and runs it first.
    (installed.clone / ".git/hooks/pre-push").unlink()
    installed.lineage("hook", "install")
    installed.run("pre-commit", "install", "--hook-type", "pre-push")
    assert "pre-commit runs it first" in installed.lineage("hook", "status").stdout
    done = installed.lineage("hook", "install", ok=False)
    assert done.returncode == 2 and "pre-commit runs lineage's hook already" in done.stderr


def test_our_hook_over_pre_commit_and_pre_commit_over_it(installed: Work) -> None:
    installed.lineage("hook", "install")
    installed.add("liar")
    commit(installed)
    done = installed.push()
    assert done.returncode != 0 and "LIN101" in done.stderr and "pre-push.before-lineage" not in done.stderr
    installed.correct()
    commit(installed)
    done = installed.push()
    assert done.returncode == 0 and "lineage check of what is pushed" in done.stdout + done.stderr
    installed.run("pre-commit", "install", "--hook-type", "pre-push")
    assert installed.push("origin", "main:again").returncode != 0  # pre-commit sees the circle
    for action in ("status", "install"):
        done = installed.lineage("hook", action, ok=False)
        assert done.returncode != 0 and "call each other" in done.stdout + done.stderr
    (installed.clone / ".git/hooks/pre-push.legacy").unlink()
    installed.lineage("hook", "install")
    assert "pre-push.before-lineage runs after it" in installed.lineage("hook", "status").stdout
    assert installed.push("origin", "main:again").returncode == 0


def test_the_hooks_as_others_install_them(work: Work, tmp_path: Path) -> None:
    # pre-commit clones the repository of the hooks and installs it into an environment of its own.
    source = tmp_path / "hf-lineage"
    names = (
        subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .split("\0")
    )
    for name in names:
        wanted = name.startswith(("lineage_plugin/", "pyproject", "README", "LICENSE", ".pre-commit-hooks"))
        if wanted and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    work.git("init", "-q", "-b", "main", str(source))
    work.git("-C", str(source), "add", "-A")
    work.git("-C", str(source), "commit", "-q", "-m", "x")
    head = work.git("-C", str(source), "rev-parse", "HEAD")
    configure(work, [{"repo": str(source), "rev": head, "hooks": [{"id": hook["id"]} for hook in HOOKS]}])
    if work.run("pre-commit", "install-hooks", ok=False).returncode:
        pytest.skip("the package index cannot be reached")
    work.add("liar")
    done = commit(work)
    assert done.returncode == 0 and "lineage lint of model cards" in done.stderr, done.stderr
    before = work.received()
    done = work.push()
    assert done.returncode != 0 and "LIN101" in done.stdout + done.stderr
    assert work.received() == before
    work.correct()
    assert commit(work).returncode == 0
    assert work.push().returncode == 0
