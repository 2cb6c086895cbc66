"""What goes is what was checked, as it was checked: cards that come later, change meanwhile, or go beside others."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from safetensors.numpy import load_file, save_file

from lineage_plugin.cli import main
from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks import Cleared, check_before_upload, digests, install_gate
from lineage_plugin.options import Options
from tests.hooks.conftest import BASE, EXAMPLES, LFS, REPO, WEIGHTS, Site, before, blocked, exchange, old
from tests.hub import TOKEN, LocalHub
from tests.hub.store import Commit

PIPELINED = pytest.mark.parametrize("site", ["pipelined"], indirect=True)
HARMLESS = "---\nlicense: mit\n---\n# Trained from scratch\n"
CARD = "README.md"
INDEX = "model.safetensors.index.json"


def options(site: Site) -> Options:
    return Options(endpoint=site.hub.endpoint, token=TOKEN)


def checks_out(site: Site, folder: Path, **patterns: Any) -> Cleared:
    return check_before_upload(folder, REPO, options=options(site), **patterns)


def bare(folder: Path) -> Path:
    """Leave a model without its card."""
    (folder / CARD).unlink()
    return folder


def send(api: HfApi, folder: Path, **arguments: Any) -> Any:
    return api.upload_folder(repo_id=REPO, folder_path=folder, **arguments)


def send_card(api: HfApi, text: str | bytes) -> Any:
    data = text.encode() if isinstance(text, str) else text
    return api.upload_file(repo_id=REPO, path_or_fileobj=data, path_in_repo=CARD)


def commit(api: HfApi, *operations: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return api.create_commit(REPO, list(operations), commit_message="x")


# The section of the card ----------------------------------------------------------------------------------------------


@pytest.fixture
def write_card(site: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def run(folder: Path, *arguments: str) -> int:
        return main(["upload", "--endpoint", site.hub.endpoint, REPO, str(folder), "--write-card", *arguments])

    return run


@LFS
def test_no_card_is_written_where_there_is_none(
    site: Site, write_card: Callable[..., int], honest: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # The repository's card was judged: a new one that is a section and nothing else must not take its place.
    card = (honest / CARD).read_bytes()
    (site.folder() / CARD).write_bytes(card)
    assert write_card(bare(honest)) == 2
    assert "is not uploaded, or is not the card that was checked" in capfd.readouterr().err
    assert site.files() == {CARD: card} and not (honest / CARD).exists()


@LFS
def test_no_card_is_written_that_does_not_go(site: Site, write_card: Callable[..., int], honest: Path) -> None:
    card = (honest / CARD).read_bytes()
    assert write_card(honest, "--include", "*.safetensors") == 2
    assert (honest / CARD).read_bytes() == card
    site.assert_nothing_left()


@LFS
def test_a_card_saved_between_check_and_section(
    site: Site, write_card: Callable[..., int], honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lineage_plugin.hooks import upload_command

    check = upload_command.clear
    lie = (honest / CARD).read_text().replace(BASE, "nobody/never-heard")

    def late(*given: Any, **named: Any) -> Cleared:
        cleared = check(*given, **named)
        (honest / CARD).write_text(lie)
        return cleared

    monkeypatch.setattr(upload_command, "clear", late)
    assert write_card(honest) == 2
    assert (honest / CARD).read_text() == lie
    site.assert_nothing_left()


# Files that change ----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved_while_hashing(liar: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Save the lying card when the files are hashed, which takes minutes for a large model; until then: harmless."""
    lie = (liar / CARD).read_bytes()
    (liar / CARD).write_text(HARMLESS)
    old(*liar.iterdir())
    hashing = digests.Digests.of
    done: list[Path] = []

    def late(self: digests.Digests, paths: list[Path], *more: Any) -> dict[Path, str]:
        if not done and any(path.name == WEIGHTS for path in paths):
            done.append(liar)
            (liar / CARD).write_bytes(lie)
            old(liar / CARD)
        return hashing(self, paths, *more)

    monkeypatch.setattr(digests.Digests, "of", late)
    return lie


@LFS
def test_a_card_saved_while_weights_are_hashed(
    site: Site, guarded: Callable[..., HfApi], liar: Path, saved_while_hashing: bytes
) -> None:
    api = guarded()
    with pytest.raises(UploadBlocked):
        send(api, liar)
    assert (liar / CARD).read_bytes() == saved_while_hashing
    assert site.files() == {}


@LFS
def test_what_is_cleared_is_what_was_judged(site: Site, liar: Path, saved_while_hashing: bytes) -> None:
    cleared = checks_out(site, liar)
    assert cleared.digests[CARD] == hashlib.sha256(HARMLESS.encode()).hexdigest()
    with install_gate():
        # The card is another one now, and so it is another upload.
        blocked(lambda: send(site.api(), liar))
    site.assert_nothing_left()


@LFS
def test_a_gate_says_that_a_file_changed(site: Site, honest: Path) -> None:
    old(*honest.iterdir())
    with install_gate() as gate:
        with before("/preupload/", lambda: exchange(honest, keep_time=True)), pytest.raises(UploadBlocked):
            send(site.api(), honest)
        with pytest.raises(UploadBlocked):
            send(site.api(), honest)
    assert [error.exit_code for error in gate.blocked] == [2, 1]
    assert "not checked" in str(gate.blocked[0]) and "LIN101" in str(gate.blocked[1])
    # What was about to be sent is not kept alive by it.
    assert all(error.__traceback__ is None for error in gate.blocked)


@PIPELINED
def test_nothing_of_a_blocked_upload_is_committed(site: Site, guarded: Callable[..., HfApi], liar: Path) -> None:
    # The pipeline announces 256 files at a time, and commits what comes first meanwhile.
    for number in range(300):
        (liar / f"0{number:03}.txt").write_text(str(number))
    api = guarded()
    blocked(lambda: send(api, liar))
    site.assert_nothing_left()


# Cards that come after their weights ----------------------------------------------------------------------------------


def as_bytes(api: HfApi, folder: Path) -> None:
    names = (WEIGHTS, "config.json")
    commit(api, *(CommitOperationAdd(name, (folder / name).read_bytes()) for name in names))


def as_files(api: HfApi, folder: Path) -> None:
    for name in (WEIGHTS, "config.json"):
        with (folder / name).open("rb") as file:
            api.upload_file(repo_id=REPO, path_or_fileobj=file, path_in_repo=name)


def in_a_folder_that_goes(api: HfApi, folder: Path) -> None:
    # As push_to_hub of transformers.
    gone = Path(shutil.copytree(folder, folder.with_name("gone"), ignore=shutil.ignore_patterns(CARD)))
    send(api, gone)
    shutil.rmtree(gone)


@LFS
@pytest.mark.parametrize("first", [as_bytes, as_files, in_a_folder_that_goes])
@pytest.mark.parametrize("example", ["honest", "liar"])
def test_a_card_after_weights_that_are_gone_here(
    site: Site, guarded: Callable[..., HfApi], tmp_path: Path, first: Any, example: str
) -> None:
    """The Hub has them: its copy is compared."""
    api = guarded()
    folder = Path(shutil.copytree(EXAMPLES / example, tmp_path / "model"))
    first(api, folder)
    card = (folder / CARD).read_bytes()
    if example == "honest":
        send_card(api, card)
        assert site.files()[CARD] == card
    else:
        error = blocked(lambda: send_card(api, card))
        assert "LIN101" in str(error) and "/tmp" not in str(error)
        assert CARD not in site.files()


@LFS
@pytest.mark.parametrize("free_memory", [True, False])
def test_a_card_with_weights_sent_ahead(
    site: Site, guarded: Callable[..., HfApi], liar: Path, free_memory: bool
) -> None:
    api = guarded()
    weights = CommitOperationAdd(WEIGHTS, (liar / WEIGHTS).read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api.preupload_lfs_files(REPO, [weights], free_memory=free_memory)
    rest = [CommitOperationAdd(name, (liar / name).read_bytes()) for name in (CARD, "config.json")]
    with pytest.raises(UploadBlocked):
        commit(api, weights, *rest)
    assert site.files() == {}


@LFS
def test_a_card_that_comes_with_other_weights(
    site: Site, guarded: Callable[..., HfApi], honest: Path, liar: Path
) -> None:
    """Those in a subfolder are honest; those at the top, which the card is about first of all, were sent before."""
    api = guarded()
    card = (liar / CARD).read_bytes()
    send(api, bare(liar))
    (honest / "fp32").mkdir()
    for name in (WEIGHTS, "config.json"):
        (honest / name).rename(honest / "fp32" / name)
    (honest / CARD).write_bytes(card)
    blocked(lambda: send(api, honest))
    assert CARD not in site.files()


# Files of the repository ----------------------------------------------------------------------------------------------


@LFS
@pytest.mark.parametrize("source", [REPO, "me/source"])
def test_a_card_copied_within_the_server(site: Site, guarded: Callable[..., HfApi], honest: Path, source: str) -> None:
    """Nothing new is said: the client fetches small files and sends them again."""
    shutil.copytree(honest, site.hub.root / source, dirs_exist_ok=True)
    other = {} if source == REPO else {"src_repo_id": source, "src_repo_type": "model"}
    commit(guarded(), CommitOperationCopy(CARD, "old/README.md", **other))
    assert site.files()["old/README.md"] == (honest / CARD).read_bytes()


@LFS
def test_a_card_deleted_by_the_same_upload(site: Site, liar: Path) -> None:
    (site.folder() / CARD).write_bytes((liar / CARD).read_bytes())
    blocked(lambda: send(site.checked(), bare(liar)))
    send(site.checked(), liar, delete_patterns=CARD)
    site.assert_arrived(liar)


@LFS
def test_a_folder_deleted_by_the_same_commit(site: Site, liar: Path) -> None:
    lie = (liar / CARD).read_bytes()
    (site.folder() / "v2").mkdir()
    (site.folder() / "v2" / CARD).write_bytes(lie)
    weights = CommitOperationAdd(f"v2/{WEIGHTS}", str(bare(liar) / WEIGHTS))
    blocked(lambda: commit(site.checked(), weights))
    commit(site.checked(), CommitOperationDelete("v2", is_folder=True), weights)
    # Another folder whose name begins alike is another folder.
    (site.folder() / "v20").mkdir()
    (site.folder() / "v20" / CARD).write_bytes(lie)
    other = CommitOperationAdd(f"v20/{WEIGHTS}", str(liar / WEIGHTS))
    blocked(lambda: commit(site.checked(), CommitOperationDelete("v2", is_folder=True), other))


# Clearances -----------------------------------------------------------------------------------------------------------


@LFS
def test_weights_do_not_go_beside_the_card_of_others(site: Site, honest: Path, liar: Path, tmp_path: Path) -> None:
    (liar / CARD).write_text(HARMLESS)
    mixed = Path(shutil.copytree(liar, tmp_path / "mixed"))
    shutil.copy(honest / CARD, mixed)
    checks_out(site, honest)
    checks_out(site, liar)
    with install_gate():
        blocked(lambda: send(site.api(), mixed))
        site.assert_nothing_left()
        # Each as it was checked.
        send(site.api(), honest)


@LFS
def test_weights_do_not_go_without_their_card(site: Site, liar: Path) -> None:
    lie = (liar / CARD).read_bytes()
    (site.folder() / CARD).write_bytes(lie)
    (liar / CARD).write_text(HARMLESS)
    blocked(lambda: checks_out(site, liar, allow_patterns="*.safetensors"))
    checks_out(site, liar)
    with install_gate():
        blocked(lambda: send(site.api(), liar, allow_patterns="*.safetensors"))
    assert site.files() == {CARD: lie} and site.weight_bytes() == 0


@LFS
def test_a_report_of_another_hub_is_no_answer(
    site: Site, liar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that has the liar's own weights as the base, under the commit of the true one."""
    old(*liar.iterdir())
    root = tmp_path / "mirror"
    shutil.copytree(EXAMPLES / "base", root / BASE)
    shutil.copy(liar / WEIGHTS, root / BASE)
    commit_id = site.api().model_info(BASE).sha
    with LocalHub(root) as mirror:
        repository = mirror.repo(BASE)
        repository.commits[commit_id] = Commit(commit_id, repository._scan(repository.folder), "x")
        repository.set_main(commit_id)
        # As the environment names a Hub, not the call.
        monkeypatch.setenv("HF_ENDPOINT", mirror.endpoint)
        passed = check_before_upload(liar, REPO, options=Options(token=TOKEN))
        assert passed.reports[0].comparisons[0].base.revision == commit_id
        assert check_before_upload(liar, REPO, options=Options(token=TOKEN)).reports == passed.reports
    monkeypatch.setenv("HF_ENDPOINT", site.hub.endpoint)
    blocked(lambda: check_before_upload(liar, REPO, options=Options(token=TOKEN)))


# Shards one at a time -------------------------------------------------------------------------------------------------


WHOLE = Path(__file__).parents[2] / "examples"
"""With all their layers: half of them have to be enough to tell."""


def shards(model: Path, folder: Path) -> tuple[str, str]:
    """Write a model in two shards and an index."""
    folder.mkdir()
    tensors = load_file(model / WEIGHTS)
    names = sorted(tensors)
    one, two = (f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    where = {name: one if number < len(names) // 2 else two for number, name in enumerate(names)}
    for shard in (one, two):
        part = {name: tensors[name] for name in names if where[name] == shard}
        save_file(part, folder / shard, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for name in (CARD, "config.json"):
        shutil.copy(model / name, folder)
    return one, two


@LFS
@pytest.mark.parametrize("index", ["comes first", "lies there"])
@pytest.mark.parametrize("example", ["honest", "liar"])
def test_shards_one_at_a_time_each_deleted_after(
    site: Site, guarded: Callable[..., HfApi], tmp_path: Path, example: str, index: str
) -> None:
    """A machine whose disk holds one shard of a large model: each is checked by itself."""
    whole, folder = tmp_path / "whole", tmp_path / "out"
    one, two = shards(WHOLE / example, whole)
    shutil.copytree(WHOLE / "base", site.hub.root / BASE, dirs_exist_ok=True)
    folder.mkdir()
    names = [INDEX, "config.json", CARD, one, two]
    if index == "lies there":
        shutil.copy(whole / INDEX, folder)
    api = guarded()

    def upload() -> None:
        for name in names:
            shutil.copy(whole / name, folder)
            api.upload_file(repo_id=REPO, path_or_fileobj=folder / name, path_in_repo=name)
            if name != INDEX or index != "lies there":
                (folder / name).unlink()

    if example == "honest":
        upload()
        assert site.files().keys() == {path.name for path in whole.iterdir()}
    else:
        error = blocked(upload)
        assert "LIN101" in str(error)
        assert site.weight_bytes() == 0


@LFS
def test_an_index_and_not_all_of_its_shards(site: Site, guarded: Callable[..., HfApi], tmp_path: Path) -> None:
    _, two = shards(EXAMPLES / "honest", tmp_path / "model")
    (tmp_path / "model" / two).unlink()
    api = guarded()
    assert f"'{two}' is missing" in str(blocked(lambda: send(api, tmp_path / "model")))
    site.assert_nothing_left()
