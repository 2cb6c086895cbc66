"""Installing the pre-push hook: what is there already is kept, runs, and comes back."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.git_install import install, status, uninstall
from tests.hooks.repositories import EXAMPLES, Work, work_in

LFS = subprocess.run(["git", "lfs", "version"], capture_output=True).returncode == 0
THEIRS = '#!/bin/sh\nprintf "%s|" "$@" >theirs.arguments\ncat >theirs.stdin\n'


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    made = work_in(tmp_path / "it's a folder", HF_ENDPOINT="http://127.0.0.1:9")
    for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_NOSYSTEM"):
        monkeypatch.setenv(name, made.environment[name])
    (made.clone / "notes.txt").write_text("1", encoding="utf-8")
    made.commit()
    return made


def hook_of(work: Work, name: str = "pre-push") -> Path:
    return work.clone / ".git/hooks" / name


def write_hook(work: Work, text: str = THEIRS, *, mode: int = 0o755, name: str = "pre-push") -> Path:
    path = hook_of(work, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_installed_again_it_is_the_same_and_removed_it_is_gone(work: Work) -> None:
    assert "not installed" in status(work.clone).said
    assert install(work.clone).endswith("pre-push: installed")
    first = hook_of(work).read_bytes()
    assert hook_of(work).stat().st_mode & stat.S_IXUSR
    install(work.clone)
    assert hook_of(work).read_bytes() == first
    assert sorted(path.name for path in hook_of(work).parent.iterdir() if "lineage" in path.name) == []
    assert status(work.clone).installed
    assert uninstall(work.clone).endswith("removed")
    assert not hook_of(work).exists() and not status(work.clone).installed
    assert "there is no hook of lineage" in uninstall(work.clone)


def test_a_hook_that_was_there_runs_with_the_same_input_and_comes_back(work: Work) -> None:
    theirs = write_hook(work, THEIRS + "# \xe9 no newline at the end", mode=0o751)
    before, mode = theirs.read_bytes(), theirs.stat().st_mode
    assert "pre-push.before-lineage runs after it" in install(work.clone)
    install(work.clone)
    assert hook_of(work, "pre-push.before-lineage").read_bytes() == before
    head = work.git("rev-parse", "HEAD")
    assert work.push("origin", "main", "main:refs/heads/second").returncode == 0
    assert (work.clone / "theirs.arguments").read_text() == f"origin|{work.bare}|"
    lines = (work.clone / "theirs.stdin").read_text().splitlines(keepends=True)
    assert sorted(lines) == [f"refs/heads/main {head} refs/heads/{name} {'0' * 40}\n" for name in ("main", "second")]
    uninstall(work.clone)
    assert theirs.read_bytes() == before and theirs.stat().st_mode == mode
    assert not hook_of(work, "pre-push.before-lineage").exists()


def test_a_hook_that_was_there_may_stop_the_push(work: Work) -> None:
    write_hook(work, "#!/bin/sh\nexit 7\n")
    install(work.clone)
    before = work.received()
    assert work.push().returncode != 0
    assert work.received() == before


def test_a_hook_that_git_would_not_run_is_not_run(work: Work) -> None:
    write_hook(work, mode=0o644)
    install(work.clone)
    assert work.push().returncode == 0
    assert not (work.clone / "theirs.stdin").exists()


def test_a_hook_that_was_there_does_not_run_when_a_model_is_stopped(work: Work) -> None:
    write_hook(work)
    install(work.clone)
    work.add("honest")
    work.commit()
    done = work.push()
    assert done.returncode != 0 and "the push is stopped" in done.stderr
    assert not (work.clone / "theirs.stdin").exists()


@pytest.mark.parametrize("content", [b"\x7fELF\x02\x01", b"no first line\n", b"#!/bin/sh\n\0", b""])
def test_what_is_no_script_is_left_alone(work: Work, content: bytes) -> None:
    write_hook(work).write_bytes(content)
    with pytest.raises(UsageError, match="no script, so it is left alone"):
        install(work.clone)
    assert hook_of(work).read_bytes() == content


def test_a_file_where_the_kept_hook_goes_is_left_alone(work: Work) -> None:
    kept = write_hook(work, "mine", name="pre-push.before-lineage")
    with pytest.raises(UsageError, match="no hook runs this one"):
        install(work.clone)
    write_hook(work)
    with pytest.raises(UsageError, match="make one of the two"):
        install(work.clone)
    with pytest.raises(UsageError, match="is no hook of lineage"):
        uninstall(work.clone)
    assert kept.read_text() == "mine" and hook_of(work).read_text() == THEIRS


def test_our_hook_changed_by_hand_is_left_alone(work: Work) -> None:
    install(work.clone)
    with hook_of(work).open("a") as file:
        file.write("echo mine\n")
    changed = hook_of(work).read_bytes()
    for action in (install, uninstall):
        with pytest.raises(UsageError, match="changed by hand"):
            action(work.clone)
    assert hook_of(work).read_bytes() == changed
    assert not status(work.clone).installed


def test_a_link_to_a_script_is_kept_as_a_link(work: Work, tmp_path: Path) -> None:
    script = tmp_path / "shared-hook"
    script.write_text(THEIRS)
    script.chmod(0o755)
    hook_of(work).parent.mkdir(exist_ok=True)
    hook_of(work).symlink_to(script)
    install(work.clone)
    assert script.read_text() == THEIRS
    assert work.push().returncode == 0 and (work.clone / "theirs.stdin").exists()
    uninstall(work.clone)
    assert hook_of(work).readlink() == script


def test_hooks_elsewhere_and_worktrees_and_subfolders(work: Work, tmp_path: Path) -> None:
    other = tmp_path / "worktree"
    work.git("worktree", "add", "-q", str(other))
    (other / "deep").mkdir()
    install(other / "deep")
    assert hook_of(work).exists() and status(work.clone).installed
    uninstall(other)
    work.git("config", "core.hooksPath", "tools/hooks")
    said = install(work.clone)
    assert "core.hooksPath is set" in said and (work.clone / "tools/hooks/pre-push").exists()
    work.git("config", "core.hooksPath", os.devnull)
    with pytest.raises(UsageError, match="hooks are switched off"):
        install(work.clone)


def test_a_submodule_and_a_bare_repository(work: Work) -> None:
    work.push()
    work.git("submodule", "add", "-q", str(work.bare), "part")
    install(work.clone / "part")
    assert (work.clone / ".git/modules/part/hooks/pre-push").exists() and not hook_of(work).exists()
    install(work.bare)
    assert (work.bare / "hooks/pre-push").exists()


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no git repository"):
        install(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        install(tmp_path / "none")


def test_a_python_that_is_gone_stops_the_push_and_says_how_to_go_on(work: Work, tmp_path: Path) -> None:
    gone = tmp_path / "gone python"
    gone.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    gone.chmod(0o755)
    code = "import sys; sys.executable = sys.argv[1]; from lineage_plugin.hooks.git_install import install; "
    code += "from pathlib import Path; install(Path(sys.argv[2]))"
    work.run(sys.executable, "-c", code, str(gone), str(work.clone))
    assert work.push("origin", "main:one").returncode == 0
    gone.unlink()
    done = work.push()
    assert done.returncode != 0 and f"{gone} is gone" in done.stderr and "rm '.git/hooks/pre-push'" in done.stderr
    assert "is gone" in status(work.clone).said and not status(work.clone).installed


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs a Python without this package")
def test_a_python_without_the_package_stops_the_push(work: Work) -> None:
    code = "import sys; sys.executable = '/usr/bin/python3'; from lineage_plugin.hooks.git_install import install; "
    code += "from pathlib import Path; install(Path(sys.argv[1]))"
    work.run(sys.executable, "-c", code, str(work.clone))
    done = work.push()
    assert done.returncode != 0 and "lineage: error: No module named" in done.stderr and "Traceback" not in done.stderr


def test_options_are_those_of_the_hook(work: Work) -> None:
    policy = work.clone / "it's mine.yml"
    policy.write_text("version: 1\nlevels:\n  LIN205: off\n", encoding="utf-8")
    base = work.clone.parent / "the base"
    shutil.copytree(EXAMPLES / "base", base)
    work.lineage("hook", "install", "--base", str(base), "--policy", policy.name, "--fail-on", "warning", "--offline")
    work.add("honest")
    work.commit()
    done = work.push()
    assert done.returncode == 0 and "PASS" in done.stderr, done.stderr
    work.add("liar")
    work.commit()
    assert work.push().returncode != 0
    done = work.lineage("hook", "install", "--policy", "none.yml", ok=False)
    assert done.returncode == 2 and "none.yml" in done.stderr


def test_the_command(work: Work) -> None:
    assert work.lineage("hook", "status", ok=False).returncode == 1
    assert "installed" in work.lineage("hook", "install", "--folder", str(work.clone)).stdout
    assert work.lineage("hook", "status").stdout == f"{hook_of(work)}: installed\n"
    assert work.lineage("hook", "uninstall", "--quiet").stdout == ""


def test_git_lfs_that_takes_the_place_is_noticed_and_put_behind_again(work: Work) -> None:
    if not LFS:
        pytest.skip("there is no git-lfs")
    work.git("lfs", "install", "--local")
    lfs = hook_of(work).read_bytes()
    install(work.clone)
    assert work.run("git", "lfs", "update", ok=False).returncode != 0  # it sees another hook, and leaves it alone
    work.git("lfs", "update", "--force")
    assert hook_of(work).read_bytes() == lfs
    found = status(work.clone)
    assert not found.installed and "took the place" in found.said
    install(work.clone)
    assert status(work.clone).installed and hook_of(work, "pre-push.before-lineage").read_bytes() == lfs
    uninstall(work.clone)
    assert hook_of(work).read_bytes() == lfs
