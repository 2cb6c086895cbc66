"""Which models a run is about: named ones, changed ones, all."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from action.changes import changed_files
from action.github import Context, read_context
from action.inputs import MAX_MODELS, Inputs
from action.models import Target, select
from lineage_plugin.errors import UsageError
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
        (("pipe/unet/config.json", "pipe/model_index.json"), [Target("pipe")]),
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


def test_folders_of_tools_are_not_walked(context: Context) -> None:
    write(
        context.workspace, ".git/model.safetensors", "node_modules/model.safetensors", "env/pyvenv.cfg", "env/a/b.gguf"
    )
    assert select(Inputs(), replace(context, before=None)).targets == ()


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
        Target("cards/adapter", "lint"),
    )


def test_a_changed_policy_is_noticed(repository: Context) -> None:
    run = changed(repository, ".lineage.yml", "rules/ours.yml", "models/liar/.lineage.yml")
    assert select(Inputs(models=("models/liar",), policy="./rules/ours.yml"), run).policies == (
        ".lineage.yml",
        "models/liar/.lineage.yml",
        "rules/ours.yml",
    )


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
