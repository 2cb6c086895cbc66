"""Real pushes to a real bare repository: what is stopped, what goes, and what is looked at."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.git_push import Update, parse_updates
from tests.hooks.repositories import EXAMPLES, Work, stopped, went
from tests.hub import LocalHub

LFS = subprocess.run(["git", "lfs", "version"], capture_output=True).returncode == 0
A, B, ZERO = "a" * 40, "b" * 40, "0" * 40


def test_a_lying_model_is_stopped_and_a_corrected_card_goes(work: Work) -> None:
    work.add("liar")
    work.commit()
    before = work.received()
    done = work.push()
    stopped(done, "LIN101", "examples/base", "LINEAGE_OVERRIDE", "my-model")
    assert work.received() == before
    work.correct()
    work.commit()
    done = work.push()
    went(done)
    assert "lineage: NOTHING COMPARED: my-model " in done.stderr
    assert "refs/heads/main" in work.received()[0]


def test_an_honest_model_goes(work: Work) -> None:
    work.add("honest")
    work.commit()
    done = work.push()
    went(done)
    assert "lineage: PASS: my-model " in done.stderr


def test_weights_that_were_never_fetched_are_read_from_the_hub(work: Work, hub: LocalHub) -> None:
    # The Hub has both shards; here is none of them, and one is changed.
    repo = hub.root / "acme" / "model"
    repo.mkdir(parents=True)
    rng = np.random.default_rng(1)
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in names:
        tensors = {f"model.layers.{name[10]}.mlp.up_proj.weight": rng.normal(size=(96, 64)).astype(np.float32)}
        save_file(tensors, repo / name)
    where = {f"model.layers.{name[10]}.mlp.up_proj.weight": name for name in names}
    index = {"metadata": {}, "weight_map": where}
    (repo / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (repo / "README.md").write_text("---\nlicense: mit\n---\nA model.\n", encoding="utf-8")
    shutil.copytree(repo, work.clone, dirs_exist_ok=True)
    for name in names:
        work.point(name, stored=False)
    work.commit()
    went(work.push("--no-verify", "origin", "main"))
    save_file({f"model.layers.{names[1][10]}.mlp.up_proj.weight": np.ones((96, 64), np.float32)}, work.clone / names[1])
    work.point(names[1])
    work.commit()
    stopped(work.push(), "Git LFS pointer")
    # The same push to the Hub's address, which git is told to find in the bare repository.
    work.git("remote", "set-url", "origin", f"{hub.endpoint}/acme/model")
    work.git("config", f"url.{work.bare}.pushInsteadOf", f"{hub.endpoint}/acme/model")
    url = work.run(
        *(
            "sh",
            "-c",
            f"echo refs/heads/main {work.git('rev-parse', 'HEAD')} refs/heads/main"
            f" {work.git('rev-parse', 'HEAD~')} | lineage hook run pre-push origin {hub.endpoint}/acme/model",
        )
    )
    assert "lineage: NOTHING COMPARED: acme/model " in url.stderr


def test_a_new_branch_is_compared_with_what_the_remote_has(work: Work) -> None:
    work.add("liar", "models/liar")
    work.commit()
    went(work.push("--no-verify", "origin", "main"))
    work.git("checkout", "-q", "-b", "feature")
    work.add("honest", "models/honest")
    work.commit()
    done = work.push("origin", "feature")
    went(done)  # the liar is there already
    assert "models/honest" in done.stderr and "models/liar" not in done.stderr
    work.git("checkout", "-q", "-b", "again", "main")
    done = work.push("origin", "again")
    went(done)
    assert "lineage:" not in done.stderr


def test_a_remote_without_a_name_knows_nothing(work: Work) -> None:
    work.add("liar")
    work.commit()
    went(work.push("--no-verify", "origin", "main"))
    stopped(work.push(str(work.bare), "main:other"), "LIN101")


def test_a_forced_push_is_compared_with_what_the_ref_had(work: Work) -> None:
    work.add("honest")
    work.commit()
    went(work.push())
    before = work.received()
    work.git("checkout", "-q", "--orphan", "rewritten")
    work.add("liar")
    work.commit()
    stopped(work.push("--force", "origin", "rewritten:main"), "LIN101")
    assert work.received() == before
    work.correct()
    work.commit()
    went(work.push("--force", "origin", "rewritten:main"))


def test_a_commit_of_the_remote_that_is_not_here(work: Work, tmp_path: Path) -> None:
    work.add("honest")
    work.commit()
    went(work.push())
    other = tmp_path / "other"
    work.git("clone", "-q", str(work.bare), str(other))
    (other / "notes.txt").write_text("x", encoding="utf-8")
    work.git("-C", str(other), "add", ".")
    work.git("-C", str(other), "commit", "-q", "-m", "x")
    work.git("-C", str(other), "push", "-q", "origin", "main")
    work.add("liar")
    work.commit()
    stopped(work.push("--force", "origin", "main"), "LIN101")


def test_weights_of_an_earlier_commit_of_the_push_are_checked(work: Work) -> None:
    (work.clone / "notes.txt").write_text("1", encoding="utf-8")
    work.commit()
    went(work.push())
    work.add("liar")
    work.commit()
    (work.clone / "notes.txt").write_text("2", encoding="utf-8")
    work.commit()
    stopped(work.push(), "LIN101")


def test_deleting_a_branch_sends_nothing(work: Work) -> None:
    work.add("liar")
    work.commit()
    went(work.push("--no-verify", "origin", "main", "main:old"))
    done = work.push("origin", ":old")
    went(done)
    assert "lineage" not in done.stderr
    assert "refs/heads/old" not in work.received()[0]


def test_a_tag_is_checked_once_with_its_branch_and_alone(work: Work) -> None:
    work.add("liar")
    work.commit()
    work.git("tag", "-a", "v1", "-m", "one")
    done = work.push("origin", "main", "v1")
    stopped(done, "LIN101")
    assert done.stderr.count("FAIL") == 1
    stopped(work.push("origin", "v1"), "LIN101")
    went(work.push("--no-verify", "origin", "main"))
    went(work.push("origin", "v1"))


def test_one_of_several_refs_is_enough(work: Work) -> None:
    work.add("honest")
    work.commit()
    work.git("checkout", "-q", "-b", "second")
    work.add("liar")
    work.commit()
    before = work.received()
    stopped(work.push("origin", "main", "second"), "LIN101")
    assert work.received() == before


def test_a_card_alone_is_linted(work: Work) -> None:
    work.add("honest")
    work.point("model.safetensors")
    work.commit()
    went(work.push())
    shutil.rmtree(work.clone / ".git/lfs")
    card = work.clone / "README.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("base_model: examples/base", "base_model: [not closed"), encoding="utf-8")
    work.commit()
    stopped(work.push(), "my-model")
    card.write_text(text + "\nOne more sentence.\n", encoding="utf-8")
    work.commit()
    done = work.push()
    went(done)
    assert "CARD ONLY" in done.stderr


def test_what_is_about_no_model_is_not_looked_at(work: Work) -> None:
    (work.clone / "train.py").write_text("print('a model')\n" * 50, encoding="utf-8")
    (work.clone / "picture.png").write_bytes(b"\x89PNG" + bytes(5000))
    work.commit()
    done = work.push()
    went(done)
    assert "lineage" not in done.stderr


def test_an_override_is_recorded_with_its_reason(work: Work) -> None:
    work.add("liar")
    oid = work.point("model.safetensors")
    work.commit()
    done = work.push(LINEAGE_OVERRIDE="short")
    assert done.returncode != 0 and "no reason to override" in done.stderr
    done = work.push(LINEAGE_OVERRIDE="the base was renamed yesterday")
    went(done)
    assert "blocked, and overridden: the base was renamed yesterday" in done.stderr
    (line,) = (Path(work.environment["LINEAGE_CACHE"]) / "overrides.jsonl").read_text(encoding="utf-8").splitlines()
    entry = json.loads(line)
    assert entry["reason"] == "the base was renamed yesterday" and entry["repo"] == "my-model"
    assert entry["blocked"][0]["findings"] == ["LIN101"]
    card = hashlib.sha256((work.clone / "README.md").read_bytes()).hexdigest()
    assert entry["sha256"]["model.safetensors"] == oid and entry["sha256"]["README.md"] == card


def test_a_hub_that_does_not_answer_stops_the_push(work: Work) -> None:
    work.add("honest")
    work.commit()
    stopped(work.push(HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_DOWNLOAD_TIMEOUT="1"), "examples/base")


def test_the_policy_that_is_pushed_only_makes_stricter(work: Work) -> None:
    work.add("liar")
    (work.clone / ".lineage.yml").write_text("version: 1\nfail-on: never\n", encoding="utf-8")
    work.commit()
    stopped(work.push(), "LIN101")
    (work.clone / "notes.txt").write_text("the working tree differs", encoding="utf-8")
    work.git("add", "-A")
    stopped(work.push(), "LIN101")


def test_a_package_in_the_repository_is_not_imported(work: Work) -> None:
    for name in ("lineage_plugin", "json", "numpy"):
        (work.clone / name).mkdir()
        (work.clone / name / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    work.add("honest")
    work.commit()
    done = work.push()
    went(done)
    assert "imported" not in done.stderr and "PASS" in done.stderr


def test_pushing_from_a_worktree_and_a_subfolder(work: Work, tmp_path: Path) -> None:
    (work.clone / "notes.txt").write_text("1", encoding="utf-8")
    work.commit()
    other = tmp_path / "worktree"
    work.git("worktree", "add", "-q", str(other))
    shutil.copytree(EXAMPLES / "liar", other / "models/liar")
    work.git("-C", str(other), "add", "-A")
    work.git("-C", str(other), "commit", "-q", "-m", "x")
    done = work.run("git", "-C", str(other / "models"), "push", "origin", "worktree", ok=False)
    stopped(done, "LIN101", "worktree/models/liar")


@pytest.mark.skipif(not LFS, reason="there is no git-lfs")
def test_real_git_lfs_sends_nothing_before_the_check(work: Work) -> None:
    work.git("lfs", "install", "--skip-repo")
    work.git("lfs", "track", "*.safetensors")
    work.add("liar")
    work.commit()
    pointer = work.git("show", "HEAD:model.safetensors")
    assert pointer.startswith("version https://git-lfs")
    stopped(work.push(), "LIN101")
    store = work.bare / "lfs" / "objects"
    assert not store.exists() or not [path for path in store.rglob("*") if path.is_file()]
    work.correct()
    work.commit()
    went(work.push())
    # git-lfs put no hook beside ours; ours runs it.
    (sent,) = [path for path in store.rglob("*") if path.is_file()]
    assert sent.read_bytes() == (EXAMPLES / "liar/model.safetensors").read_bytes()


def test_lines_of_git() -> None:
    lines = [
        f"refs/heads/main {A} refs/heads/main {B}",
        f"(delete) {ZERO} refs/heads/old {A}",
        f"HEAD~ {A} refs/x {ZERO}",
    ]
    assert parse_updates(lines) == (Update("refs/heads/main", A, B), Update("refs/x", A, None))
    assert parse_updates([]) == ()


@pytest.mark.parametrize(
    "line", ["", "x", f"refs/heads/main {A} refs/heads/main", f"a {A[1:]} b {B}", f"a --all b {B}"]
)
def test_other_lines_stop_the_push(line: str) -> None:
    with pytest.raises(UsageError, match="is no line"):
        parse_updates([line])


def test_a_ref_to_no_commit_stops_the_push(work: Work) -> None:
    blob = work.git("hash-object", "-w", os.devnull)
    work.git("tag", "odd", blob)
    done = work.push("origin", "odd")
    assert done.returncode != 0 and "is no commit" in done.stderr
