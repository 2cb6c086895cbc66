"""The hook by itself: what passes it without any request leaving."""

from __future__ import annotations

import base64
import hashlib
import json

import httpx2
import pytest

from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks.preflight import Cleared
from lineage_plugin.hooks.watch import Guard, Watch, busy

HUB = "https://hub.test"
CARD = b"# A model"
WEIGHTS = b"GGUF" + bytes(40)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def commit(*lines: dict[str, object], endpoint: str = HUB) -> httpx2.Request:
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    return httpx2.Request("POST", f"{endpoint}/api/models/me/model/commit/main", content=body)


def file(name: str, data: bytes) -> dict[str, object]:
    return {
        "key": "file",
        "value": {"path": name, "content": base64.b64encode(data).decode(), "encoding": "base64"},
    }


@pytest.fixture
def watch() -> Watch:
    made = Watch()
    made.add(Guard(None, None, lambda file: []))
    return made


def test_small_files_pass(watch: Watch) -> None:
    watch.on_request(commit(file("config.json", b"{}"), {"key": "deletedFile", "value": {"path": "x"}}))


@pytest.mark.parametrize(("name", "data"), [("README.md", CARD), ("x.dat", WEIGHTS), ("a/model.bin", b"")])
def test_cards_and_weights_have_to_be_cleared(watch: Watch, name: str, data: bytes) -> None:
    request = commit(file(name, data))
    with pytest.raises(UploadBlocked, match="not checked"):
        watch.on_request(request)
    watch.clear(f"{HUB}/", Cleared("me/other", digests={name: sha256(data)}))
    with pytest.raises(UploadBlocked):
        watch.on_request(request)


@pytest.mark.parametrize("endpoint", [HUB, f"{HUB}/", "https://HUB.test"])
def test_cleared_bytes_pass(watch: Watch, endpoint: str) -> None:
    watch.clear(endpoint, Cleared("me/model", digests={"README.md": sha256(CARD)}))
    watch.on_request(commit(file("README.md", CARD)))
    with pytest.raises(UploadBlocked):
        watch.on_request(commit(file("README.md", CARD + b"!")))


def test_after_a_stopped_commit_no_other_goes(watch: Watch) -> None:
    with pytest.raises(UploadBlocked):
        watch.on_request(commit(file("README.md", CARD), file("a.txt", b"a")))
    with pytest.raises(UploadBlocked):
        watch.on_request(commit(file("a.txt", b"a")))
    # Another upload begins.
    announced = {"files": [{"path": "a.txt", "size": 1, "sample": "YQ=="}]}
    watch.on_request(httpx2.Request("POST", f"{HUB}/api/models/me/model/preupload/main", json=announced))
    watch.on_request(commit(file("a.txt", b"a")))


def test_a_body_that_cannot_be_read(watch: Watch) -> None:
    request = httpx2.Request("POST", f"{HUB}/api/models/me/model/commit/main", content=b"\xff")
    with pytest.raises(UploadBlocked, match="cannot be read"):
        watch.on_request(request)


def test_the_requests_of_a_check_are_nobodys_upload(watch: Watch) -> None:
    with busy():
        watch.on_request(commit(file("README.md", CARD)))


def test_without_guards_nothing_is_read() -> None:
    Watch().on_request(commit(file("README.md", CARD)))
