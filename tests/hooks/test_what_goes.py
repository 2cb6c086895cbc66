"""What goes is what was checked: files that change meanwhile, and which bytes were cleared."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks import check_before_upload, install_gate
from lineage_plugin.options import Options
from tests.hooks.conftest import BASE, EXAMPLES, LFS, REPO, WEIGHTS, Site, before, blocked, exchange, folder_upload, old
from tests.hooks.test_entry_points import add, additions
from tests.hub import TOKEN
from tests.hub.samples import digest


def commit_upload(api: HfApi, folder: Path) -> Any:
    return api.create_commit(REPO, additions(folder), commit_message="x")


HOW = pytest.mark.parametrize("upload", [folder_upload, commit_upload])


# Files that change ----------------------------------------------------------------------------------------------------


@HOW
@pytest.mark.parametrize("keep_time", [False, True])
def test_weights_exchanged_after_the_announcement(
    site: Site, guarded: Callable[..., HfApi], honest: Path, upload: Any, keep_time: bool
) -> None:
    api = guarded()
    old(honest / WEIGHTS)
    with before("/preupload/", lambda: exchange(honest, keep_time=keep_time)):
        error = blocked(lambda: upload(api, honest), 2)
    assert "not checked" in str(error)
    assert site.files() == {}
    assert site.hub.log.records(path="/api/models/*/commit/*", status=200) == []
    # The announcement itself holds the first 512 bytes of what was checked.
    assert site.weight_bytes() <= 512
    # Another try is held against what is there now.
    blocked(lambda: upload(api, honest))


@HOW
@pytest.mark.parametrize("name", [WEIGHTS, "README.md"])
def test_a_file_that_grows(site: Site, guarded: Callable[..., HfApi], honest: Path, upload: Any, name: str) -> None:
    def grow() -> None:
        with (honest / name).open("ab") as file:
            file.write(b"\n\n")

    api = guarded()
    with before("/preupload/", grow), pytest.raises((UploadBlocked, OSError, RuntimeError)):
        upload(api, honest)
    assert site.files() == {}


@HOW
def test_a_card_changed_after_the_announcement(
    site: Site, guarded: Callable[..., HfApi], honest: Path, upload: Any
) -> None:
    card = honest / "README.md"
    text = card.read_text()
    # Of the same length.
    with before("/preupload/", lambda: card.write_text(text.replace("examples/base", "examples/b00e"))):
        blocked(lambda: upload(guarded(), honest), 2)
    assert site.files() == {}


def test_weights_exchanged_between_check_and_announcement(
    site: Site, honest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lineage_plugin.hooks import hub_api

    clear = hub_api.clear

    def late(*args: Any, **kwargs: Any) -> Any:
        try:
            return clear(*args, **kwargs)
        finally:
            exchange(honest, keep_time=True)

    old(honest / WEIGHTS)
    monkeypatch.setattr(hub_api, "clear", late)
    blocked(lambda: folder_upload(site.checked(), honest), 2)
    site.assert_nothing_left()


def test_a_file_that_comes_after_the_check(site: Site, honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lineage_plugin.hooks import hub_api

    clear = hub_api.clear

    def late(*args: Any, **kwargs: Any) -> Any:
        try:
            return clear(*args, **kwargs)
        finally:
            shutil.copy(EXAMPLES / "liar" / WEIGHTS, honest / "second.safetensors")

    monkeypatch.setattr(hub_api, "clear", late)
    blocked(lambda: folder_upload(site.checked(), honest), 2)
    site.assert_nothing_left()


def test_a_change_leaves_nothing_half_uploaded(site: Site, guarded: Callable[..., HfApi], honest: Path) -> None:
    # The pipeline commits a failed batch again in smaller parts: the parts without the changed file must not go.
    for number in range(30):
        (honest / f"a{number:02}.txt").write_text(f"note {number}")
    with before("/preupload/", lambda: exchange(honest)):
        blocked(lambda: folder_upload(guarded(), honest), 2)
    assert site.files() == {}


@HOW
def test_links_are_followed(
    site: Site, guarded: Callable[..., HfApi], tmp_path: Path, honest: Path, upload: Any
) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in honest.iterdir():
        (linked / path.name).symlink_to(path)
    api = guarded()
    upload(api, linked)
    site.assert_arrived(EXAMPLES / "honest")
    # The link is turned to another file.
    (linked / WEIGHTS).unlink()
    (linked / WEIGHTS).symlink_to(EXAMPLES / "liar" / WEIGHTS)
    blocked(lambda: upload(api, linked))
    site.assert_arrived(EXAMPLES / "honest")


@HOW
def test_a_link_turned_after_the_announcement(
    site: Site, guarded: Callable[..., HfApi], tmp_path: Path, honest: Path, upload: Any
) -> None:
    place = honest / WEIGHTS
    place.rename(tmp_path / "a")
    place.symlink_to(tmp_path / "a")

    def turn() -> None:
        place.unlink()
        place.symlink_to(EXAMPLES / "liar" / WEIGHTS)

    with before("/preupload/", turn):
        blocked(lambda: upload(guarded(), honest), 2)
    assert site.files() == {}


# Which bytes ----------------------------------------------------------------------------------------------------------


@LFS
def test_two_operations_of_one_name(site: Site, honest: Path) -> None:
    # Size, name and first bytes are the same; the honest one is made later. What is sent is what has to be checked.
    with install_gate():
        lying = [add("README.md", str(EXAMPLES / "liar/README.md")), add(WEIGHTS, str(EXAMPLES / "liar" / WEIGHTS))]
        later = additions(honest)
        with pytest.raises(UploadBlocked):
            site.api().create_commit(REPO, lying, commit_message="x")
        assert site.files() == {}
        del later
    site.assert_nothing_left()


@LFS
def test_a_retry_with_a_corrected_card(site: Site, liar: Path) -> None:
    with install_gate():
        try:
            folder_upload(site.api(), liar)
        except UploadBlocked as error:
            # Its traceback holds all that was about to be sent.
            assert error.__traceback__ is not None  # noqa: PT017
            (liar / "README.md").write_text("---\nlicense: mit\n---\n# trained from random weights\n")
            folder_upload(site.api(), liar)
    site.assert_arrived(liar)


@LFS
def test_a_retry_with_the_same_operations(site: Site, liar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operations = additions(liar)
    with install_gate():
        operations = additions(liar)
        blocked(lambda: site.api().create_commit(REPO, operations, commit_message="x"))
        monkeypatch.setenv("LINEAGE_OVERRIDE", "a test of what happens then")
        site.api().create_commit(REPO, operations, commit_message="x")
    site.assert_arrived(liar)


@LFS
def test_operations_made_before_the_gate(site: Site) -> None:
    operations = additions(EXAMPLES / "honest")
    with install_gate():
        error = blocked(lambda: site.api().create_commit(REPO, operations, commit_message="x"), 2)
    assert "before the gate" in str(error)
    site.assert_nothing_left()


@LFS
def test_two_uploads_at_once(site: Site, tmp_path: Path) -> None:
    """Files of one name, size and beginning go to two repositories at once: each is held against its own card."""
    results: dict[str, list[str]] = {"liar": [], "honest": []}
    barrier = threading.Barrier(2)
    for name in results:
        site.hub.create(f"me/{name}")

    def run(name: str) -> None:
        api = site.api()
        for _ in range(4):
            barrier.wait(30)
            try:
                api.create_commit(f"me/{name}", additions(EXAMPLES / name, Path.read_bytes), commit_message="x")
                results[name].append("went")
            except UploadBlocked as error:
                results[name].append(f"blocked {error.exit_code}")

    with install_gate():
        threads = [threading.Thread(target=run, args=(name,)) for name in results]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert results == {"liar": ["blocked 1"] * 4, "honest": ["went"] * 4}
    assert site.files("me/liar") == {}
    site.assert_arrived(EXAMPLES / "honest", "me/honest")
    assert site.hub.log.weight_bytes("me/liar") == 0


@LFS
def test_what_was_cleared_for_one_repository_is_not_for_another(site: Site, honest: Path) -> None:
    site.hub.create("me/other")
    (site.folder("me/other") / "README.md").write_bytes((EXAMPLES / "liar/README.md").read_bytes())
    shutil.copytree(EXAMPLES / "liar", site.hub.root / "examples/liar")
    (site.folder("me/other") / "README.md").write_text(
        (EXAMPLES / "honest/README.md").read_text().replace("examples/base", "examples/liar")
    )
    with install_gate():
        folder_upload(site.api(), honest)
        (honest / "README.md").unlink()
        blocked(
            lambda: site.api().upload_file(path_or_fileobj=honest / WEIGHTS, path_in_repo=WEIGHTS, repo_id="me/other")
        )


@LFS
def test_cleared_weights_under_another_card(site: Site, honest: Path) -> None:
    """The same bytes, when the repository's card has come to say something else of them."""
    weights = honest / WEIGHTS
    with install_gate():
        folder_upload(site.api(), honest)
        shutil.copytree(EXAMPLES / "liar", site.hub.root / "examples/liar")
        (site.folder() / "README.md").write_text(
            (EXAMPLES / "honest/README.md").read_text().replace("examples/base", "examples/liar")
        )
        (honest / "README.md").unlink()
        blocked(lambda: site.api().upload_file(path_or_fileobj=weights, path_in_repo=WEIGHTS, repo_id=REPO))


@LFS
def test_a_card_that_follows_its_weights(site: Site, guarded: Callable[..., HfApi], liar: Path) -> None:
    card = (liar / "README.md").read_bytes()
    (liar / "README.md").unlink()
    api = guarded()
    folder_upload(api, liar)
    assert set(site.files()) == {WEIGHTS, "config.json"}
    blocked(lambda: api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=REPO))
    assert set(site.files()) == {WEIGHTS, "config.json"}


@LFS
def test_what_a_check_cleared_may_go(site: Site, honest: Path) -> None:
    options = Options(endpoint=site.hub.endpoint, token=TOKEN)
    cleared = check_before_upload(honest, REPO, options=options)
    assert cleared.digests[WEIGHTS] == digest(honest / WEIGHTS)
    with install_gate():
        requests = len(site.hub.log)
        folder_upload(site.api(), honest)
        assert not [r for r in site.hub.log.records()[requests:] if r.repo == BASE]
    site.assert_arrived(EXAMPLES / "honest")


@LFS
def test_check_before_upload_blocks(site: Site, liar: Path) -> None:
    options = Options(endpoint=site.hub.endpoint, token=TOKEN)
    blocked(lambda: check_before_upload(liar, REPO, options=options))
    site.assert_nothing_left()
