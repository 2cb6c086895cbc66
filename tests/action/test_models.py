"""Which models a run is about: named ones, changed ones, all."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from action.changes import changed_files
from action.github import Context, read_context
from action.inputs import MAX_MODELS, Inputs
from action.models import select
from lineage_plugin.card.weight_names import is_licence_file
from lineage_plugin.errors import UsageError
from lineage_plugin.targets import Target, describes
from tests.action.server import GitHubServer

EXAMPLES = Path(__file__).parents[2] / "examples"
CARD = "---\nlicense: mit\nbase_model: acme/base\n---\n# A model\n"


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def write(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def repository(context: Context) -> Context:
    """A repository with models of many kinds, and a branch that changed some of them."""
    top = context.workspace
    git(top, "init", "--quiet", "--initial-branch=main")
    shutil.copytree(EXAMPLES, top / "models")
    write(top, "pipe/model_index.json", "pipe/unet/model.safetensors", "pipe/unet/config.json", "pipe/README.md")
    write(top, "pipe/model_index.json", text='{"_class_name": "Pipe", "unet": ["diffusers", "UNet2DModel"]}')
    write(top, "cards/adapter/README.md", "README.md", "docs/README.md")
    write(top, "cards/adapter/README.md", text=CARD)
    write(top, "docs/README.md", text="---\ntitle: A page\n---\nbase_model: is explained here\n")
    write(top, "train.py", "data/table.h5", "gguf/model-Q4.gguf", "old/model.safetensors", "flax/flax_model.msgpack")
    write(top, "flax/config.json", text="{}")
    git(top, "add", "--all")
    git(top, "commit", "--quiet", "--message=first")
    return replace(context, before=git(top, "rev-parse", "HEAD"))


def changed(context: Context, *names: str) -> Context:
    """Commit what lies in the workspace, some files changed, and return the run for it."""
    write(context.workspace, *names, text="y")
    git(context.workspace, "add", "--all")
    git(context.workspace, "commit", "--quiet", "--allow-empty", "--message=second")
    return replace(context, after=git(context.workspace, "rev-parse", "HEAD"))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("models/liar/model.safetensors",), [Target("models/liar")]),
        (
            ("models/liar/config.json", "models/honest/adapter_config.json"),
            [Target("models/honest"), Target("models/liar")],
        ),
        (("pipe/unet/model.safetensors",), [Target("pipe")]),
        (("pipe/unet/config.json", "pipe/README.md"), [Target("pipe")]),
        (("gguf/model-Q4.gguf", "gguf/notes.txt"), [Target("gguf")]),
        (("flax/flax_model.msgpack",), [Target("flax")]),
        (("models/base/tokenizer.json", "train.py", "README.md", "docs/README.md", "data/table.h5"), []),
        ((), []),
        (("models/new\nline ::error::/model.safetensors",), [Target("models/new\nline ::error::")]),
        (("models/größe/model.safetensors",), [Target("models/größe")]),
    ],
)
def test_changed_files_lead_to_their_models(repository: Context, names: tuple[str, ...], found: list[Target]) -> None:
    selection = select(Inputs(), changed(repository, *names))
    assert sorted(selection.targets, key=lambda target: target.name) == found
    assert "changed" in selection.why


def test_a_changed_card_without_weights_is_linted(repository: Context) -> None:
    write(repository.workspace, "cards/adapter/README.md", text=CARD + "more\n")
    assert select(Inputs(), changed(repository)).targets == (Target("cards/adapter", "lint"),)


def test_a_card_that_was_broken_is_still_a_card(repository: Context) -> None:
    write(repository.workspace, "cards/adapter/README.md", text="---\nbase_model: [\n---\n")
    assert select(Inputs(), changed(repository)).targets == (Target("cards/adapter", "lint"),)


def test_a_model_that_is_gone_is_not_checked(repository: Context) -> None:
    shutil.rmtree(repository.workspace / "old")
    (repository.workspace / "models" / "liar" / "config.json").unlink()
    assert select(Inputs(), changed(repository)).targets == (Target("models/liar"),)


def test_what_came_to_the_target_branch_since_is_not_of_the_pull_request(repository: Context) -> None:
    top = repository.workspace
    git(top, "checkout", "--quiet", "-b", "feature")
    run = changed(repository, "models/honest/model.safetensors")
    git(top, "checkout", "--quiet", "main")
    main = changed(repository, "models/liar/model.safetensors")
    assert select(Inputs(), replace(run, before=main.after)).targets == (Target("models/honest"),)


def test_a_shallow_clone_asks_github(repository: Context, github: GitHubServer) -> None:
    github.files = [{"filename": f"notes/{n}.txt"} for n in range(150)]
    github.files += [
        {"filename": "models/twin/model.safetensors"},
        {"filename": "x", "previous_filename": "gguf/model-Q4.gguf"},
    ]
    shallow = replace(repository, before="1" * 40, after="2" * 40)
    assert [target.name for target in select(Inputs(), shallow).targets] == ["gguf", "models/twin"]
    assert {path for _, path, _ in github.requests} == {"/repos/acme/models/pulls/7/files"}


def test_what_cannot_be_told_means_all(repository: Context, github: GitHubServer) -> None:
    github.files = [{"filename": f"models/liar/{n}.txt"} for n in range(3001)]
    shallow = replace(repository, before="1" * 40, after="2" * 40)
    names = [
        "cards/adapter",
        "flax",
        "gguf",
        "models/base",
        "models/honest",
        "models/liar",
        "models/twin",
        "old",
        "pipe",
    ]
    for run in (shallow, replace(repository, before=None), replace(shallow, repository="")):
        selection = select(Inputs(), run)
        assert sorted(target.name for target in selection.targets) == names
        assert selection.why.startswith("All models")


def test_nothing_hides_a_model(context: Context) -> None:
    write(context.workspace, ".git/model.safetensors", ".hidden/model.safetensors", "pyvenv.cfg", "~/model.safetensors")
    write(context.workspace, "env/pyvenv.cfg", "env/a/b.gguf", "-m/model.safetensors", " /model.safetensors")
    found = {target.name for target in select(Inputs(), replace(context, before=None)).targets}
    assert found == {".hidden", "env/a", "./~", "./-m", "./ "}


def test_paths_and_links_do_not_lead_out(context: Context, github: GitHubServer, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "liar", tmp_path / "outside")
    (context.workspace / "linked").symlink_to(tmp_path / "outside")
    github.files = [
        {"filename": name} for name in ("../outside/README.md", f"{tmp_path}/outside/README.md", "linked/README.md")
    ]
    assert select(Inputs(), context).targets == ()


def test_named_models_are_taken_as_they_are(repository: Context) -> None:
    inputs = Inputs(
        models=("acme/model@main", "models/liar", str(repository.workspace / "models" / "twin"), "cards/adapter")
    )
    assert select(inputs, repository).targets == (
        Target("acme/model@main"),
        Target("models/liar"),
        Target("models/twin"),
        Target("cards/adapter"),
    )
    assert select(Inputs(models=("cards/adapter/README.md",)), repository).targets[0].how == "lint"


def test_a_changed_policy_is_noticed(repository: Context) -> None:
    run = changed(repository, ".lineage.yml", "rules/ours.yml", "models/liar/.lineage.yml")
    notices = select(Inputs(models=("models/liar",), policy="./rules/ours.yml"), run).notices
    assert [notice.file for notice in notices] == ["rules/ours.yml", ".lineage.yml", "models/liar/.lineage.yml"]


def test_too_many_models_are_refused(context: Context) -> None:
    write(context.workspace, *(f"m{n}/model.safetensors" for n in range(MAX_MODELS + 1)))
    with pytest.raises(UsageError, match="257 models"):
        select(Inputs(), replace(context, before=None))


def test_commits_that_are_options_are_no_commits(tmp_path: Path) -> None:
    event = tmp_path / "event.json"
    event.write_text('{"before": "--output=x", "after": "HEAD"}')
    context = read_context({"GITHUB_WORKSPACE": "/w", "RUNNER_TEMP": "/t", "GITHUB_EVENT_PATH": str(event)})
    assert (context.before, context.after) == (None, None)
    assert changed_files(context) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"pull_request": 3}', '{"pull_request": {"number": "7", "base": []}}']
)
def test_strange_events_are_no_error(tmp_path: Path, text: str) -> None:
    event = tmp_path / "event.json"
    event.write_text(text)
    context = read_context({"GITHUB_WORKSPACE": "/w", "RUNNER_TEMP": "/t", "GITHUB_EVENT_PATH": str(event)})
    assert (context.pull_request, context.before, context.after) == (None, None, None)


def test_outside_of_a_workflow_it_says_so() -> None:
    with pytest.raises(UsageError, match="step of a workflow"):
        read_context({})


# What the author of a pull request might try, so that a model is not looked at.


def lie(folder: Path) -> None:
    """Put the liar's weights and configuration into a folder, without its card."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "config.json"):
        shutil.copy(EXAMPLES / "liar" / name, folder / name)


def commit(context: Context) -> Context:
    git(context.workspace, "add", "--all")
    git(context.workspace, "commit", "--quiet", "--allow-empty", "--message=next")
    return replace(context, after=git(context.workspace, "rev-parse", "HEAD"))


def test_weights_below_their_card_are_checked_against_it(repository: Context) -> None:
    top = repository.workspace
    write(top, "m/README.md", text=CARD)
    lie(top / "m" / "fp16")
    assert select(Inputs(), commit(repository)).targets == (
        Target("m", "lint"),
        Target("m/fp16", card="m/README.md"),
    )


def test_a_configuration_without_weights_is_no_card_alone(repository: Context) -> None:
    top = repository.workspace
    write(top, "m/README.md", text=CARD)
    lie(top / "m")
    (top / "m" / "model.safetensors").rename(top / "m" / "model.st")
    assert select(Inputs(), commit(repository)).targets == (Target("m"),)


def test_weights_that_were_removed_are_missed(repository: Context) -> None:
    top = repository.workspace
    write(top, "m/README.md", text=CARD)
    write(top, "m/model.safetensors")
    before = commit(repository).after
    (top / "m" / "model.safetensors").unlink()
    assert select(Inputs(), replace(commit(repository), before=before)).targets == (Target("m"),)


@pytest.mark.parametrize(
    "front", ["license: mit", '"base_model": a/b', "x: " + "y" * 70_000 + "\nbase_model: a/b", "tags: [a]"]
)
def test_any_front_matter_makes_weights_a_model(repository: Context, front: str) -> None:
    write(repository.workspace, "m/README.md", text=f"---\n{front}\n---\n")
    write(repository.workspace, "m/weights.bin")
    assert select(Inputs(), commit(repository)).targets == (Target("m"),)


def test_a_pipeline_takes_in_what_it_names_and_no_more(repository: Context) -> None:
    lie(repository.workspace / "pipe" / "other")
    assert Target("pipe/other", card=None) in select(Inputs(), commit(repository)).targets
    assert Target("pipe/other", card=None) in select(Inputs(), replace(repository, before=None)).targets


def test_a_changed_file_behind_a_link_is_a_changed_model(repository: Context) -> None:
    top = repository.workspace
    lie(top / "m")
    (top / "m" / "model.safetensors").rename(top / "store.dat")
    (top / "m" / "model.safetensors").symlink_to("../store.dat")
    before = commit(repository).after
    (top / "store.dat").write_bytes((EXAMPLES / "honest" / "model.safetensors").read_bytes())
    assert [target.name for target in select(Inputs(), replace(commit(repository), before=before)).targets] == ["m"]


def test_changed_weights_that_are_not_the_models_own_are_checked_alone(repository: Context) -> None:
    top = repository.workspace
    for name in ("pytorch_model.safetensors", "model.fp16.safetensors"):
        shutil.copy(EXAMPLES / "liar" / "model.safetensors", top / "models" / "honest" / name)
    assert select(Inputs(), commit(repository)).targets == (
        Target("models/honest"),
        Target("models/honest/model.fp16.safetensors", card="models/honest/README.md"),
        Target("models/honest/pytorch_model.safetensors", card="models/honest/README.md"),
    )


def test_a_submodule_that_moved_is_looked_through(repository: Context, tmp_path: Path) -> None:
    other, top = tmp_path / "other", repository.workspace
    other.mkdir()
    git(other, "init", "--quiet", "--initial-branch=main")
    shutil.copytree(EXAMPLES / "honest", other / "deep" / "model")
    git(other, "add", "--all")
    git(other, "commit", "--quiet", "--message=one")
    git(top, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "sub")
    before = commit(repository).after
    git(top / "sub", "commit", "--quiet", "--allow-empty", "--message=two")
    run = replace(commit(repository), before=before)
    assert [target.name for target in select(Inputs(), run).targets] == ["sub/deep/model"]


def test_a_repository_in_another_folder_is_looked_through(repository: Context) -> None:
    top = repository.workspace
    shutil.move(top / ".git", top.parent / "git-of-it")
    assert len(select(Inputs(), replace(repository, after="2" * 40)).targets) > 5


def test_a_tree_that_looks_like_a_repository_runs_nothing(context: Context, tmp_path: Path) -> None:
    top = context.workspace
    git(top, "init", "--quiet", "--bare", ".")
    (top / "config").write_text(
        f"[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tworktree = {top}\n"
        f"\tfsmonitor = touch {tmp_path}/owned\n"
        f'[extensions]\n\tpartialClone = o\n[remote "o"]\n\turl = ssh://x/y\n\tpromisor = true\n'
        f"[core]\n\tsshCommand = touch {tmp_path}/owned\n"
    )
    changed_files(context)
    assert not (tmp_path / "owned").exists()


def test_a_push_that_takes_back_is_a_change(repository: Context) -> None:
    later = changed(repository, "models/honest/model.safetensors")
    git(repository.workspace, "reset", "--quiet", "--hard", str(repository.before))
    run = replace(repository, pull_request=None, before=later.after, after=repository.before)
    assert select(Inputs(), run).targets == (Target("models/honest"),)


def test_a_policy_that_changed_is_about_all_models(repository: Context) -> None:
    write(repository.workspace, "rules/r.yml", text="version: 1\n")
    (repository.workspace / ".lineage.yml").symlink_to("rules/r.yml")
    before = commit(repository).after
    write(repository.workspace, "rules/r.yml", *(f".a{n}/.lineage.yml" for n in range(10)), text="version: 1\nbar: 8\n")
    selection = select(Inputs(), replace(commit(repository), before=before))
    assert selection.notices[0].file == "rules/r.yml" and len(selection.notices) == 4
    assert len(selection.targets) > 5 and "policy changed" in selection.why


def test_a_base_that_the_change_brings_is_named(repository: Context) -> None:
    run = changed(repository, "models/base/model.safetensors")
    (notice,) = select(Inputs(models=("models/honest",), bases=("models/base",)), run).notices
    assert notice.file == "models/base/model.safetensors" and "touched" in notice.message


def test_a_folder_that_is_gone_is_no_model_of_the_hub(repository: Context) -> None:
    with pytest.raises(UsageError, match="models/gone: there is no such folder or file in models/"):
        select(Inputs(models=("models/gone",)), repository)


def test_an_empty_workspace_is_no_pass(context: Context) -> None:
    with pytest.raises(UsageError, match="nothing is checked out"):
        select(Inputs(), context)


def test_many_files_of_a_folder_are_one_look(repository: Context, github: GitHubServer) -> None:
    write(repository.workspace, *(f"data/{n}.bin" for n in range(2500)))
    github.files = [{"filename": f"data/{n}.bin"} for n in range(2500)]
    started = time.monotonic()
    assert select(Inputs(), replace(repository, before="1" * 40, after="2" * 40)).targets == ()
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("name", ["LICENSE", "LICENCE.md", "Notice.txt", "unet/USE_POLICY.md", "mergekit_config.yml"])
def test_files_that_a_licence_or_a_recipe_stands_in_describe_a_model(name: str) -> None:
    assert describes(name)


@pytest.mark.parametrize("name", ["licensed.py", "unnoticed", "notes.md", "mergekit.yml"])
def test_others_do_not(name: str) -> None:
    assert not describes(name)


@pytest.mark.parametrize("name", ["GEMMA_TERMS.txt", "Llama-3.1-LICENSE.txt", "THIRD_PARTY_NOTICES.md", "TERMS.md"])
def test_what_counts_as_a_licence_for_the_card_counts_here(name: str) -> None:
    assert describes(name) and is_licence_file(name)
    assert not describes("license_utils.py") and not describes("notice.py")
