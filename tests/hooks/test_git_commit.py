"""The files of a commit as they are laid out: what is sent counts, pointers are followed, and nothing leads out."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lineage_plugin.hooks import git_commit
from tests.hooks.repositories import EXAMPLES, Work, stopped, went

ZERO = "0" * 40


def test_what_is_pushed_counts_and_not_the_working_tree(work: Work) -> None:
    work.add("liar")
    work.commit()
    work.add("honest")  # the true weights, neither committed nor staged
    stopped(work.push(), "LIN101")
    work.git("add", "-A")
    stopped(work.push(), "LIN101")
    work.commit()
    work.add("liar")
    went(work.push())


def test_replaced_objects_count_as_they_are_sent(work: Work) -> None:
    work.add("honest")
    good = work.commit()
    work.add("liar")
    bad = work.commit()
    work.git("replace", f"{bad}^{{tree}}", f"{good}^{{tree}}")
    stopped(work.push(), "LIN101")


def test_pointers_are_read_from_the_store_of_git_lfs(work: Work) -> None:
    work.add("liar")
    work.point("model.safetensors")
    work.commit()
    stopped(work.push(), "LIN101")
    work.correct()
    work.commit()
    went(work.push())


def test_the_store_may_lie_elsewhere(work: Work) -> None:
    work.add("liar")
    work.point("model.safetensors")
    shutil.move(work.clone / ".git/lfs", work.clone.parent / "elsewhere")
    work.git("config", "lfs.storage", str(work.clone.parent / "elsewhere"))
    work.commit()
    stopped(work.push(), "LIN101")


def test_pointers_are_read_from_the_working_tree_when_it_has_the_bytes(work: Work) -> None:
    work.add("honest")
    work.point("model.safetensors", stored=False)
    work.commit()
    shutil.copy(EXAMPLES / "liar/model.safetensors", work.clone)
    stopped(work.push(), "Git LFS pointer")
    shutil.copy(EXAMPLES / "honest/model.safetensors", work.clone)
    went(work.push())


def test_a_pointer_without_bytes_is_stopped(work: Work) -> None:
    work.add("honest")
    work.point("model.safetensors", stored=False)
    work.commit()
    done = work.push()
    stopped(done, "Git LFS pointer", "my-model")
    # Files are named where they lie, never where they were laid out.
    said = "".join(done.stderr.split())
    assert f"{work.clone}/README.md:7:13:LIN205" in said and "theremoteofthecloneisnomodel" in said


def test_weights_under_another_name_are_found(work: Work) -> None:
    work.add("liar")
    (work.clone / "model.safetensors").rename(work.clone / "data.blob")
    work.point("data.blob")
    work.commit()
    stopped(work.push(), "data.blob", "LIN101")


@pytest.mark.parametrize("pointed", [True, False])
@pytest.mark.parametrize("most", [1 << 30, 1 << 10])
def test_weights_under_the_name_of_a_tokenizer_are_found(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pointed: bool, most: int
) -> None:
    work.add("liar")
    (work.clone / "model.safetensors").rename(work.clone / "vocab.json")
    (work.clone / "tokenizer.json").write_bytes(b"{}" + b" " * 5000)
    for name in ("vocab.json", "tokenizer.json") if pointed else ():
        work.point(name)
    commit = work.commit()
    monkeypatch.chdir(work.clone)
    monkeypatch.setattr(git_commit, "LARGEST", most)
    repository = git_commit.Repository.here()
    top = tmp_path / "laid"
    top.mkdir()
    laid = git_commit.lay_out(repository, commit, repository.files(commit), top)
    assert laid is not None and laid.weights == {"vocab.json"}
    assert (top / "vocab.json").read_bytes() == (EXAMPLES / "liar/model.safetensors").read_bytes()
    assert (top / "tokenizer.json").is_file() == (most > 5002)  # one that is too large is no tokenizer


def test_links_that_lead_out_are_not_followed(work: Work, tmp_path: Path) -> None:
    secret = tmp_path / "secret.md"
    secret.write_text("---\nbase_model: owner/secret-name\n---\n", encoding="utf-8")
    work.add("honest")
    (work.clone / "README.md").unlink()
    (work.clone / "README.md").symlink_to(secret)
    (work.clone / "other.safetensors").symlink_to(EXAMPLES / "honest/model.safetensors")
    work.commit()
    done = work.push()
    stopped(done, "other.safetensors")
    assert "secret-name" not in done.stderr


def test_a_link_alone_is_looked_at(work: Work) -> None:
    (work.clone / "model.safetensors").symlink_to(EXAMPLES / "honest/model.safetensors")
    work.commit()
    stopped(work.push(), "model.safetensors")


def test_a_link_inside_is_followed(work: Work) -> None:
    work.add("liar", "real")
    (work.clone / "alias").mkdir()
    for name in ("config.json", "README.md"):
        shutil.copy(EXAMPLES / "liar" / name, work.clone / "alias")
    (work.clone / "alias/model.safetensors").symlink_to("../real/model.safetensors")
    work.commit()
    stopped(work.push(), "my-model/alias", "my-model/real")


def hostile_tree(work: Work, *entries: tuple[str, str, str]) -> str:
    """Make a commit of a tree that git itself would not write, of modes, names and contents."""
    lines = b""
    for mode, name, content in entries:
        kind = "tree" if mode == "40000" else "blob"
        if kind == "tree":
            id = content
        else:
            id = subprocess.run(
                ["git", "hash-object", "-w", "--stdin"],
                cwd=work.clone,
                env=work.environment,
                input=content,
                text=True,
                capture_output=True,
                check=True,
            ).stdout.strip()
        lines += f"{mode} {name}\0".encode() + bytes.fromhex(id)
    made = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
        cwd=work.clone,
        env=work.environment,
        input=lines,
        capture_output=True,
        check=True,
    )
    return made.stdout.decode().strip()


def test_a_tree_that_climbs_out_writes_nothing(work: Work, tmp_path: Path) -> None:
    inner = hostile_tree(work, ("100644", "README.md", "---\nlicense: mit\n---\n"))
    outside = tmp_path / "outside"
    outside.mkdir()
    trees = (
        hostile_tree(work, ("120000", "a", str(outside)), ("40000", "a", inner)),
        hostile_tree(work, ("40000", "..", inner)),
        hostile_tree(work, ("40000", ".git", inner)),
        hostile_tree(work, ("100644", "README.md", "x"), ("100644", "README.md", "y")),
    )
    for tree in trees:
        commit = work.git("commit-tree", tree, "-m", "hostile")
        line = f"refs/heads/x {commit} refs/heads/x {ZERO}"
        done = work.run("sh", "-c", f"echo {line} | lineage hook run pre-push origin {work.bare}", ok=False)
        assert "Traceback" not in done.stderr and list(outside.iterdir()) == [], done.stderr
        assert done.returncode == 2 and "error: '" in done.stderr and "unexpected" not in done.stderr, done.stderr
