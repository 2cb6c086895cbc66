"""The client that checks: what it adds to a commit, and what it leaves as it is."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from lineage_plugin.errors import UploadBlocked, UsageError
from tests.hooks.conftest import EXAMPLES, LFS, REPO, Site, blocked
from tests.hooks.test_entry_points import add, additions
from tests.hub.uploads import commit as commit_handler


@pytest.fixture
def headers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The headers of the commits that the Hub gets."""
    seen: list[dict[str, Any]] = []

    def commit(handler: Any, repo: Any, revision: str) -> Any:
        body = handler.body()
        seen.append(json.loads(body.splitlines()[0])["value"])
        handler.body = lambda: body
        try:
            return commit_handler(handler, repo, revision)
        finally:
            del handler.body

    monkeypatch.setattr("tests.hub.uploads.commit", commit)
    return seen


@LFS
@pytest.mark.parametrize("description", [None, "What is new."])
def test_an_override_stands_in_the_commit(
    site: Site, headers: list[dict[str, Any]], description: str | None, tmp_path: Path
) -> None:
    api = site.checked(override="the card is corrected tomorrow")
    api.upload_folder(repo_id=REPO, folder_path=EXAMPLES / "liar", commit_description=description)
    said = str(headers[0]["description"])
    assert "Lineage-Override: LIN101" in said and said.endswith("the card is corrected tomorrow")
    assert said.startswith(description or "Lineage-Override")
    assert len((tmp_path / "cache/overrides.jsonl").read_text().splitlines()) == 1


@LFS
def test_an_override_that_is_not_needed_is_not_recorded(
    site: Site, headers: list[dict[str, Any]], tmp_path: Path
) -> None:
    api = site.checked(override="the card is corrected tomorrow")
    api.create_commit(REPO, additions(EXAMPLES / "honest"), commit_message="x")
    assert headers[0]["description"] == ""
    assert not (tmp_path / "cache/overrides.jsonl").exists()


@LFS
def test_too_short_a_reason(site: Site) -> None:
    with pytest.raises(UsageError, match="no reason"):
        site.checked(override="because")


@LFS
def test_what_is_blocked_can_cross_processes(site: Site) -> None:
    error = blocked(lambda: site.checked().upload_folder(repo_id=REPO, folder_path=EXAMPLES / "liar"))
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, UploadBlocked)
    assert (str(copy), copy.exit_code, copy.repo) == (str(error), 1, REPO)
    assert copy.report is not None and copy.report.findings == error.report.findings  # type: ignore[union-attr]


@LFS
def test_another_client_uploads_to_another_repository_meanwhile(site: Site) -> None:
    # Only what goes to the repository that is being uploaded to is watched.
    site.hub.create("me/other")
    api, plain = site.checked(), HfApi(endpoint=site.hub.endpoint, token=site.api().token)
    upload = api.run_as_future(api.upload_folder, repo_id=REPO, folder_path=EXAMPLES / "honest")
    plain.upload_folder(repo_id="me/other", folder_path=EXAMPLES / "liar")
    upload.result(timeout=60)
    site.assert_arrived(EXAMPLES / "honest")
    site.assert_arrived(EXAMPLES / "liar", "me/other")


@LFS
def test_the_result_is_that_of_the_client(site: Site) -> None:
    made = site.checked().upload_folder(repo_id=REPO, folder_path=EXAMPLES / "honest", commit_message="first")
    assert made.oid == site.hub.commit_id(REPO) and made.commit_message == "first"


@LFS
def test_a_card_that_is_changed_after_weights_were_sent_ahead(site: Site, liar: Path) -> None:
    """What was sent ahead with one card is not committed with another."""
    lying, harmless = (liar / "README.md").read_bytes(), b"---\nlicense: mit\n---\n# Trained from scratch\n"
    api, (card, *rest) = site.checked(), additions(liar, Path.read_bytes)
    assert card.path_in_repo == "README.md"
    api.preupload_lfs_files(REPO, [add("README.md", harmless), *rest])
    error = blocked(lambda: api.create_commit(REPO, [add("README.md", lying), *rest], commit_message="x"), 2)
    assert "was sent ahead of its card" in str(error)
    assert site.files() == {}
    api.create_commit(REPO, [add("README.md", harmless), *rest], commit_message="x")
    (liar / "README.md").write_bytes(harmless)
    site.assert_arrived(liar)
