"""Gates that come and go, overrides, and results that are remembered."""

from __future__ import annotations

import gc
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    close_session,
    get_session,
    set_client_factory,
)

from lineage_plugin.errors import LineageError, UploadBlocked, UsageError
from lineage_plugin.hooks import install_gate
from lineage_plugin.hooks.gate import _OPERATIONS
from tests.hooks.conftest import BASE, EXAMPLES, LFS, REPO, WEIGHTS, Site, blocked, folder_upload, old
from tests.hooks.test_entry_points import add, additions
from tests.hub import TOKEN
from tests.hub.samples import digest

# Gates ----------------------------------------------------------------------------------------------------------------


@LFS
def test_a_gate_that_was_removed_holds_nothing(site: Site, liar: Path) -> None:
    with install_gate() as gate:
        assert gate.installed
    assert not gate.installed
    gate.remove()
    folder_upload(site.api(), liar)
    site.assert_arrived(liar)


@LFS
def test_the_other_of_two_gates_still_holds(site: Site, liar: Path) -> None:
    first, second = install_gate(), install_gate()
    first.remove()
    blocked(lambda: folder_upload(site.api(), liar))
    second.remove()
    site.assert_nothing_left()


@LFS
@pytest.mark.parametrize("modes", [("warn", "strict"), ("strict", "warn")])
def test_the_stricter_of_two_gates_counts(site: Site, liar: Path, modes: Any) -> None:
    gates = [install_gate(mode=mode) for mode in modes]
    try:
        blocked(lambda: folder_upload(site.api(), liar))
        site.assert_nothing_left()
    finally:
        for gate in gates:
            gate.remove()


@LFS
def test_a_warning_clears_nothing(site: Site, liar: Path, caplog: pytest.LogCaptureFixture) -> None:
    with install_gate(mode="warn"):
        folder_upload(site.api(), liar)
    assert "would be blocked" in caplog.text and "LIN101" in caplog.text
    site.assert_arrived(liar)
    (liar / "config.json").write_text((liar / "config.json").read_text() + "\n")
    commits = site.commits()
    with install_gate():
        blocked(lambda: folder_upload(site.api(), liar))
    assert site.commits() == commits


def factory() -> httpx2.Client:
    return httpx2.Client(follow_redirects=True, headers={"X-Mine": "1"})


@LFS
def test_a_client_factory_set_before_the_gate(site: Site, liar: Path) -> None:
    set_client_factory(factory)
    with install_gate():
        assert get_session().headers["X-Mine"] == "1"
        blocked(lambda: folder_upload(site.api(), liar))
    site.assert_nothing_left()


@LFS
def test_a_client_factory_set_after_the_gate(site: Site, liar: Path) -> None:
    with install_gate():
        set_client_factory(factory)
        blocked(lambda: folder_upload(site.api(), liar))
        assert get_session().headers["X-Mine"] == "1"
    site.assert_nothing_left()


@LFS
def test_a_client_factory_set_after_the_operations_were_made(site: Site, liar: Path) -> None:
    with install_gate():
        operations = additions(liar)
        set_client_factory(factory)
        blocked(lambda: site.api().create_commit(REPO, operations, commit_message="x"))
    site.assert_nothing_left()


@LFS
def test_a_session_that_was_closed(site: Site, liar: Path) -> None:
    with install_gate():
        operations = additions(liar)
        close_session()
        blocked(lambda: site.api().create_commit(REPO, operations, commit_message="x"))
    site.assert_nothing_left()


@LFS
def test_a_gate_does_not_close_the_client_that_others_use(site: Site) -> None:
    client = get_session()
    with install_gate():
        assert get_session() is client
        assert not client.is_closed


@LFS
def test_a_slash_at_the_end_of_the_endpoint(site: Site, liar: Path, honest: Path) -> None:
    with install_gate():
        api = HfApi(endpoint=f"{site.hub.endpoint}/", token=TOKEN)
        with pytest.raises(UploadBlocked):
            folder_upload(api, liar)
    site.assert_nothing_left()


@LFS
def test_operations_are_not_kept(site: Site, honest: Path) -> None:
    with install_gate():
        folder_upload(site.api(), honest)
        with pytest.raises(UploadBlocked):
            folder_upload(site.api(), EXAMPLES / "liar")
        gc.collect()
        assert _OPERATIONS._alive() == []
        assert (_OPERATIONS._noted, _OPERATIONS._spent) == ({}, set())


@pytest.mark.parametrize("kind", [CommitOperationAdd, CommitOperationCopy])
def test_the_classes_of_operations_are_put_back(kind: type) -> None:
    original = kind.__init__
    with install_gate(), install_gate():
        assert kind.__init__ is not original
    assert kind.__init__ is original


@LFS
def test_what_is_no_model_is_not_looked_at(site: Site, guarded: Callable[..., HfApi], liar: Path) -> None:
    site.hub.create("datasets/me/data")
    guarded().upload_folder(repo_id="me/data", repo_type="dataset", folder_path=liar)
    site.assert_arrived(liar, "datasets/me/data")
    assert not site.hub.log.records(repo=BASE)


@LFS
def test_an_upload_without_weights_costs_little(site: Site, guarded: Callable[..., HfApi], tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}.txt").write_text("x" * 100)
    started = time.perf_counter()
    folder_upload(site.api(), folder)
    plain = time.perf_counter() - started
    shutil.rmtree(site.folder())
    site.folder().mkdir()
    api = guarded()
    before_requests = len(site.hub.log)
    started = time.perf_counter()
    folder_upload(api, folder)
    took = time.perf_counter() - started
    assert took < 3 * plain + 0.5
    paths = {record.path.split("/")[-2] for record in site.hub.log.records()[before_requests:]}
    assert paths <= {"preupload", "commit", "api", "tree", "revision"}


@LFS
def test_deleting_the_card_with_new_weights(site: Site, guarded: Callable[..., HfApi], liar: Path) -> None:
    # The repository's card goes with the same commit: it says nothing of what comes.
    (site.folder() / "README.md").write_bytes((EXAMPLES / "honest/README.md").read_bytes())
    operations: list[Any] = [CommitOperationDelete(path_in_repo="README.md")]
    (liar / "README.md").write_text("---\nlicense: mit\n---\n# own\n")
    api = guarded()
    operations += [add("v2/README.md", str(liar / "README.md")), add(f"v2/{WEIGHTS}", str(liar / WEIGHTS))]
    operations += [add("v2/config.json", str(liar / "config.json"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        api.create_commit(REPO, operations, commit_message="x")
    site.assert_arrived(liar, below="v2/")


# Overrides ------------------------------------------------------------------------------------------------------------


@LFS
def test_an_override_in_the_environment(
    site: Site, guarded: Callable[..., HfApi], liar: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api = guarded()
    monkeypatch.setenv("LINEAGE_OVERRIDE", "short")
    with pytest.raises(UsageError, match="no reason"):
        folder_upload(api, liar)
    site.assert_nothing_left()
    monkeypatch.setenv("LINEAGE_OVERRIDE", "known to be wrong, kept for the record")
    folder_upload(api, liar)
    site.assert_arrived(liar)
    lines = (tmp_path / "cache/overrides.jsonl").read_text().splitlines()
    assert len(lines) == 1 and "kept for the record" in lines[0] and "LIN101" in lines[0]
    assert digest(liar / WEIGHTS) in lines[0] and TOKEN not in lines[0]


@LFS
def test_an_override_that_cannot_be_recorded(
    site: Site, guarded: Callable[..., HfApi], liar: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache/overrides.jsonl").mkdir(parents=True)
    with pytest.raises(LineageError, match="cannot be recorded"):
        folder_upload(guarded(override="known to be wrong, kept for the record"), liar)
    site.assert_nothing_left()


# Results that are remembered ------------------------------------------------------------------------------------------


def base_bytes(site: Site) -> int:
    return sum(r.sent for r in site.hub.log.records(repo=BASE) if r.file.endswith(".safetensors"))


@LFS
def test_the_second_time_nothing_is_read(site: Site, honest: Path) -> None:
    old(*honest.iterdir())
    folder_upload(site.checked(), honest)
    read = base_bytes(site)
    assert read > 0
    folder_upload(site.checked(), honest)
    assert base_bytes(site) == read
    # One byte of the suspect.
    data = bytearray((honest / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (honest / WEIGHTS).write_bytes(data)
    folder_upload(site.checked(), honest)
    assert base_bytes(site) > read


@LFS
def test_a_base_that_has_moved_is_read_anew(site: Site, honest: Path) -> None:
    folder_upload(site.checked(), honest)
    shutil.copy(EXAMPLES / "liar" / WEIGHTS, site.hub.root / BASE)
    (honest / "note.txt").write_text("more")
    blocked(lambda: folder_upload(site.checked(), honest))
