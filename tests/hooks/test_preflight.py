"""What is held against what: weights in parts, under other names, in folders, beside others, and cards alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationDelete, HfApi
from safetensors.torch import load_file, save_file

from lineage_plugin.errors import UploadBlocked
from tests.hooks.conftest import EXAMPLES, LFS, REPO, WEIGHTS, Site, blocked
from tests.hooks.test_entry_points import add

LYING = (EXAMPLES / "liar" / WEIGHTS).read_bytes()


def sharded(folder: Path) -> list[str]:
    """Cut the weights of a model into three shards with an index; returns their names."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    files = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
    for number, file in enumerate(files):
        save_file({name: tensors[name] for name in names[number::3]}, folder / file, {"format": "pt"})
    where = {name: files[names.index(name) % 3] for name in names}
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / WEIGHTS).unlink()
    return files


def one_by_one(api: HfApi, folder: Path, names: list[str]) -> None:
    for name in names:
        api.upload_file(path_or_fileobj=folder / name, path_in_repo=name, repo_id=REPO)


def test_shard_by_shard(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    shards = sharded(honest)
    rest = ["README.md", "config.json", "model.safetensors.index.json"]
    one_by_one(guarded(), honest, [*shards, *rest])
    site.assert_arrived(honest)


def test_lying_shards(site: Site, guarded: Callable[..., HfApi], liar: Path) -> None:
    api = guarded()
    for shard in sharded(liar):
        blocked(lambda name=shard: one_by_one(api, liar, [name]))  # type: ignore[misc]
    site.assert_nothing_left()


@pytest.mark.parametrize("name", ["model.dat", "pytorch_model.bin", "weights", "model.safetensors.part", "x.gguf"])
def test_lying_weights_under_another_name(site: Site, guarded: Callable[..., HfApi], liar: Path, name: str) -> None:
    (liar / WEIGHTS).rename(liar / name)
    with pytest.raises(UploadBlocked):
        guarded().upload_folder(repo_id=REPO, folder_path=liar)
    assert site.commits() == 0 and site.files() == {} and site.weight_bytes() == 0


@LFS
@pytest.mark.parametrize("name", ["notes.txt", "x.gguf"])
def test_a_gguf_that_cannot_be_read(
    site: Site, guarded: Callable[..., HfApi], honest: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (honest / name).write_bytes(b"GGUF" + bytes(600))
    # Whatever it is called, it is weights.
    (honest / WEIGHTS).rename(honest.parent / WEIGHTS)
    blocked(lambda: guarded().upload_folder(repo_id=REPO, folder_path=honest))
    site.assert_nothing_left()
    # Beside a model that was compared it goes, but not in silence.
    (honest.parent / WEIGHTS).rename(honest / WEIGHTS)
    guarded().upload_folder(repo_id=REPO, folder_path=honest)
    assert f"UNCHECKED: {REPO}/{name}" in caplog.text
    site.assert_arrived(honest)


@LFS
def test_a_second_lying_file_beside_an_honest_one(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    (honest / "adapter.safetensors").write_bytes(LYING)
    blocked(lambda: guarded().upload_folder(repo_id=REPO, folder_path=honest))
    site.assert_nothing_left()


@LFS
def test_a_second_lying_file_that_comes_later(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    api = guarded()
    api.upload_folder(repo_id=REPO, folder_path=honest)
    commits = site.commits()
    blocked(lambda: api.upload_file(path_or_fileobj=LYING, path_in_repo="second.safetensors", repo_id=REPO))
    assert site.commits() == commits


@LFS
def test_state_of_a_training_passes(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt"):
        (honest / name).write_bytes(b"PK\x03\x04" + name.encode())
    guarded().upload_folder(repo_id=REPO, folder_path=honest)
    site.assert_arrived(honest)


@LFS
@pytest.mark.parametrize("below", ["/v2/", "v2/best"])
def test_models_in_folders_of_the_repository(site: Site, guarded: Callable[..., HfApi], below: str) -> None:
    api = guarded()
    blocked(lambda: api.upload_folder(repo_id=REPO, folder_path=EXAMPLES / "liar", path_in_repo=below))
    site.assert_nothing_left()
    api.upload_folder(repo_id=REPO, folder_path=EXAMPLES / "honest", path_in_repo=below)
    site.assert_arrived(EXAMPLES / "honest", below=f"{below.strip('/')}/")


@LFS
def test_files_left_out_by_patterns_are_not_looked_at(site: Site, guarded: Callable[..., HfApi], liar: Path) -> None:
    api = guarded()
    api.upload_folder(repo_id=REPO, folder_path=liar, ignore_patterns=["*.safetensors", "README.md"])
    assert set(site.files()) == {"config.json"}
    blocked(lambda: api.upload_folder(repo_id=REPO, folder_path=liar, allow_patterns="*.safetensors"))
    assert set(site.files()) == {"config.json"} and site.weight_bytes() == 0


@LFS
def test_a_card_alone_is_linted(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    api = guarded()
    api.upload_file(path_or_fileobj=honest / "README.md", path_in_repo="README.md", repo_id=REPO)
    assert set(site.files()) == {"README.md"}
    bad = b"---\nbase_model: [examples/nowhere\n---\n# x\n"
    with pytest.raises((UploadBlocked, ValueError)):
        api.upload_file(path_or_fileobj=bad, path_in_repo="README.md", repo_id=REPO)
    assert site.files() == {"README.md": (honest / "README.md").read_bytes()}


@LFS
def test_both_cards_have_to_be_true(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    # The repository's card says one base, the card that lies beside the weights another.
    shutil.copytree(EXAMPLES / "liar", site.hub.root / "examples/liar")
    card = (honest / "README.md").read_text().replace("examples/base", "examples/liar")
    (site.folder() / "README.md").write_text(card)
    blocked(lambda: one_by_one(guarded(), honest, [WEIGHTS]))
    assert site.weight_bytes() == 0


@LFS
def test_a_base_that_is_given_counts_instead_of_the_declared_one(
    site: Site, guarded: Callable[..., HfApi], honest: Path
) -> None:
    bases = (str(EXAMPLES / "twin"),)
    blocked(lambda: guarded(bases=bases).upload_folder(repo_id=REPO, folder_path=honest))
    site.assert_nothing_left()


@LFS
def test_a_given_base_that_lies_on_this_machine(site: Site, guarded: Callable[..., HfApi]) -> None:
    shutil.rmtree(site.hub.root / "examples/base")
    api = guarded(bases=(str(EXAMPLES / "base"),))
    blocked(lambda: api.upload_folder(repo_id=REPO, folder_path=EXAMPLES / "liar"))
    site.assert_nothing_left()


@LFS
def test_additions_go_with_a_deletion(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    (site.folder() / "old.txt").write_text("old")
    api = guarded()
    operations = [CommitOperationDelete("old.txt"), *(add(p.name, str(p)) for p in honest.iterdir())]
    api.create_commit(REPO, operations, commit_message="x")
    site.assert_arrived(honest)


@LFS
def test_an_empty_weight_file(
    site: Site, guarded: Callable[..., HfApi], honest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (honest / "empty.safetensors").write_bytes(b"")
    guarded().upload_folder(repo_id=REPO, folder_path=honest)
    assert f"UNCHECKED: {REPO}/empty.safetensors" in caplog.text
    site.assert_arrived(honest)
    # By itself it is a model that cannot be read.
    (honest / "empty.safetensors").rename(honest / WEIGHTS)
    blocked(lambda: guarded().upload_folder(repo_id=REPO, folder_path=honest))
