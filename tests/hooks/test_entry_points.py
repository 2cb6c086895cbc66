"""Whoever uploads a lying model is stopped before a byte of weights leaves; an honest one arrives whole."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitScheduler, HfApi, HfFileSystem, ModelHubMixin

# As programs do that know nothing of a gate: names are bound before it is put up.
from huggingface_hub import create_commit as early_create_commit
from huggingface_hub import upload_file as early_upload_file
from huggingface_hub import upload_folder as early_upload_folder

from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks import install_gate
from tests.hooks.conftest import EXAMPLES, REPO, WEIGHTS, Site, blocked
from tests.hub import TOKEN

Upload = Callable[[HfApi, Path], Any]


def add(name: str, content: Any) -> CommitOperationAdd:
    return CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)


def additions(folder: Path, read: Callable[[Path], Any] = str) -> list[CommitOperationAdd]:
    return [add(path.name, read(path)) for path in sorted(folder.iterdir())]


def opened(path: Path) -> io.BytesIO:
    return io.BytesIO(path.read_bytes())


def commit(read: Callable[[Path], Any]) -> Upload:
    return lambda api, folder: api.create_commit(REPO, additions(folder, read), commit_message="x")


def ahead(read: Callable[[Path], Any]) -> Upload:
    def upload(api: HfApi, folder: Path) -> None:
        files = additions(folder, read)
        api.preupload_lfs_files(REPO, files)
        api.create_commit(REPO, files, commit_message="x")

    return upload


def in_future(api: HfApi, folder: Path) -> Any:
    return api.upload_folder(repo_id=REPO, folder_path=folder, run_as_future=True).result(timeout=60)


def commit_in_future(api: HfApi, folder: Path) -> Any:
    future = api.create_commit(REPO, additions(folder), commit_message="x", run_as_future=True)
    return future.result(timeout=60)


def in_event_loop(api: HfApi, folder: Path) -> Any:
    return asyncio.run(asyncio.to_thread(api.upload_folder, repo_id=REPO, folder_path=str(folder)))


WHOLE: dict[str, Upload] = {
    "upload_folder": lambda api, folder: api.upload_folder(repo_id=REPO, folder_path=folder),
    "upload_folder in the background": in_future,
    "upload_folder in a thread": in_event_loop,
    "create_commit of paths": commit(str),
    "create_commit of Path objects": commit(Path),
    "create_commit of bytes": commit(Path.read_bytes),
    "create_commit of open files": commit(opened),
    "create_commit of a generator": lambda api, folder: api.create_commit(
        REPO, (one for one in additions(folder)), commit_message="x"
    ),
    "create_commit in the background": commit_in_future,
    "preupload_lfs_files of paths": ahead(str),
    "preupload_lfs_files of bytes": ahead(Path.read_bytes),
}


@pytest.mark.parametrize("way", WHOLE)
def test_a_lying_folder_does_not_leave(
    site: Site, guarded: Callable[..., HfApi], way: str, recwarn: pytest.WarningsRecorder
) -> None:
    error = blocked(lambda: WHOLE[way](guarded(), EXAMPLES / "liar"))
    assert error.report is not None
    assert "LIN101" in {found.code for found in error.report.findings}
    assert "LIN101" in str(error) and REPO in str(error) and "LINEAGE_OVERRIDE" in str(error)
    site.assert_nothing_left()


@pytest.mark.parametrize("way", WHOLE)
def test_an_honest_folder_arrives_whole(site: Site, guarded: Callable[..., HfApi], way: str) -> None:
    WHOLE[way](guarded(), EXAMPLES / "honest")
    site.assert_arrived(EXAMPLES / "honest")


FILE: dict[str, Callable[[Path], Any]] = {
    "path": str,
    "Path": Path,
    "bytes": Path.read_bytes,
    "open file": lambda path: path.open("rb"),
    "memory": opened,
}


@pytest.mark.parametrize(("kind", "in_background"), [*((kind, False) for kind in FILE), ("Path", True)])
def test_upload_file_of_lying_weights(
    site: Site, guarded: Callable[..., HfApi], kind: str, in_background: bool
) -> None:
    # Weights that come alone are held against the card that the repository has.
    card = (EXAMPLES / "liar/README.md").read_bytes()
    (site.folder() / "README.md").write_bytes(card)

    def upload() -> None:
        made = guarded().upload_file(
            path_or_fileobj=FILE[kind](EXAMPLES / "liar" / WEIGHTS),
            path_in_repo=WEIGHTS,
            repo_id=REPO,
            run_as_future=in_background,
        )
        if in_background:
            made.result(timeout=60)

    blocked(upload)
    assert site.files() == {"README.md": card}
    assert site.weight_bytes() == site.commits() == 0


@pytest.mark.parametrize("kind", FILE)
def test_upload_file_of_honest_weights(site: Site, guarded: Callable[..., HfApi], kind: str) -> None:
    for name in ("README.md", "config.json"):
        shutil.copy(EXAMPLES / "honest" / name, site.folder())
    api = guarded()
    api.upload_file(path_or_fileobj=FILE[kind](EXAMPLES / "honest" / WEIGHTS), path_in_repo=WEIGHTS, repo_id=REPO)
    site.assert_arrived(EXAMPLES / "honest")


def test_nothing_is_asked_of_xet_storage(site: Site, guarded: Callable[..., HfApi]) -> None:
    # With files for xet storage: another library would send their bytes right after the announcement.
    site.hub.upload_mode = "lfs"
    blocked(lambda: guarded().upload_folder(repo_id=REPO, folder_path=EXAMPLES / "liar"))
    site.assert_nothing_left()


EARLY: dict[str, Callable[[Path], Any]] = {
    "upload_folder": lambda folder: early_upload_folder(repo_id=REPO, folder_path=folder, token=TOKEN),
    "create_commit": lambda folder: early_create_commit(REPO, additions(folder), commit_message="x", token=TOKEN),
    "huggingface_hub.upload_folder": lambda folder: huggingface_hub.upload_folder(
        repo_id=REPO, folder_path=folder, token=TOKEN
    ),
}


@pytest.mark.parametrize("way", EARLY)
def test_functions_that_were_imported_before_the_gate(site: Site, way: str) -> None:
    with install_gate():
        blocked(lambda: EARLY[way](EXAMPLES / "liar"))
        site.assert_nothing_left()
        EARLY[way](EXAMPLES / "honest")
    site.assert_arrived(EXAMPLES / "honest")


def test_upload_file_that_was_imported_before_the_gate(site: Site) -> None:
    # A card lies beside the weights on this machine: that is what is going to be said about them.
    with install_gate():
        blocked(
            lambda: early_upload_file(
                path_or_fileobj=EXAMPLES / "liar" / WEIGHTS, path_in_repo=WEIGHTS, repo_id=REPO, token=TOKEN
            )
        )
    site.assert_nothing_left()


def test_a_client_made_before_the_gate(site: Site) -> None:
    api = site.api()
    api.whoami()
    with install_gate():
        blocked(lambda: api.upload_folder(repo_id=REPO, folder_path=EXAMPLES / "liar"))
    site.assert_nothing_left()


def test_the_file_system_of_the_hub(site: Site) -> None:
    card = (EXAMPLES / "liar/README.md").read_bytes()
    (site.folder() / "README.md").write_bytes(card)
    files = HfFileSystem(endpoint=site.hub.endpoint, token=TOKEN, skip_instance_cache=True)

    def write(data: bytes) -> None:
        with files.open(f"{REPO}/{WEIGHTS}", "wb") as file:
            file.write(data)

    with install_gate():
        blocked(lambda: write((EXAMPLES / "liar" / WEIGHTS).read_bytes()))
        assert site.files() == {"README.md": card} and site.weight_bytes() == 0
        blocked(lambda: files.put_file(str(EXAMPLES / "liar" / WEIGHTS), f"{REPO}/{WEIGHTS}"))
        assert site.files() == {"README.md": card} and site.weight_bytes() == 0
        write((EXAMPLES / "honest" / WEIGHTS).read_bytes())
    assert site.files()[WEIGHTS] == (EXAMPLES / "honest" / WEIGHTS).read_bytes()


class _Mixed(ModelHubMixin):
    """A model of some library that is not transformers."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def _save_pretrained(self, save_directory: Path) -> None:
        for path in Path(self.folder).iterdir():
            shutil.copy(path, save_directory)


def test_the_mixin_of_the_hub(site: Site, at_home: None) -> None:
    with install_gate():
        blocked(lambda: _Mixed(str(EXAMPLES / "liar")).push_to_hub(REPO, token=TOKEN))
        site.assert_nothing_left()
        _Mixed(str(EXAMPLES / "honest")).push_to_hub(REPO, token=TOKEN)
    assert site.files()[WEIGHTS] == (EXAMPLES / "honest" / WEIGHTS).read_bytes()


def test_push_to_hub_of_transformers(site: Site, at_home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    # It keeps a client, with the address that was in force when it made that.
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    card = (EXAMPLES / "liar/README.md").read_bytes()
    (site.folder() / "README.md").write_bytes(card)
    with install_gate():
        model = transformers.LlamaForCausalLM.from_pretrained(EXAMPLES / "liar")
        blocked(lambda: model.push_to_hub(REPO, token=TOKEN))
        assert site.weight_bytes() == site.commits() == 0
        assert site.files() == {"README.md": card}
        model = transformers.LlamaForCausalLM.from_pretrained(EXAMPLES / "honest")
        model.push_to_hub(REPO, token=TOKEN)
    assert site.files()[WEIGHTS] == (EXAMPLES / "honest" / WEIGHTS).read_bytes()


def test_the_scheduler_of_commits(site: Site) -> None:
    with install_gate() as gate:
        scheduler = CommitScheduler(
            repo_id=REPO, repo_type="model", folder_path=EXAMPLES / "liar", every=60, hf_api=site.api(), token=TOKEN
        )
        scheduler.stop()
        with pytest.raises(UploadBlocked):
            scheduler.push_to_hub()
        assert gate.blocked
    site.assert_nothing_left()


def test_the_scheduler_of_commits_lets_honest_files_go(site: Site) -> None:
    with install_gate():
        scheduler = CommitScheduler(
            repo_id=REPO, repo_type="model", folder_path=EXAMPLES / "honest", every=60, hf_api=site.api(), token=TOKEN
        )
        scheduler.stop()
        scheduler.push_to_hub()
    assert {name: data for name, data in site.files().items() if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in (EXAMPLES / "honest").iterdir()
    }
