"""What is read from requests: nothing that is sent may be missed, and no body may break the reader."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lineage_plugin.hooks.wire import OutgoingFile, Sending, Unreadable, sending

HUB = "https://huggingface.co"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def read(url: str, body: object, method: str = "POST") -> Sending | None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sending(method, url, lambda: data)


def test_an_announcement() -> None:
    body = {"files": [{"path": "a/model.safetensors", "size": 3, "sample": b64(b"abc")}]}
    found = read(f"{HUB}/api/models/me/model/preupload/refs%2Fpr%2F1?create_pr=1", body)
    assert found == Sending(
        "preupload", HUB, "me/model", "refs/pr/1", (OutgoingFile("a/model.safetensors", 3, None, b"abc"),)
    )


def test_a_commit() -> None:
    lines = [
        {"key": "header", "value": {"summary": "x", "description": ""}},
        {"key": "file", "value": {"path": "README.md", "content": b64(b"# x"), "encoding": "base64"}},
        {"key": "file", "value": {"path": "b.txt", "content": "text", "encoding": "utf-8"}},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": "ab", "size": 7}},
        {"key": "lfsFile", "value": {"path": "copy.bin", "algo": "sha256", "oid": "cd"}},
        {"key": "deletedFile", "value": {"path": "old"}},
    ]
    body = b"\n".join(json.dumps(line).encode() for line in lines) + b"\n"
    found = read(f"{HUB}/api/models/gpt2/commit/main", body)
    assert found is not None and (found.step, found.repo, found.revision) == ("commit", "gpt2", "main")
    assert found.files == (
        OutgoingFile("README.md", 3, None, b"# x"),
        OutgoingFile("b.txt", 4, None, b"text"),
        OutgoingFile("w.bin", 7, "ab"),
        OutgoingFile("copy.bin", None, "cd"),
    )


@pytest.mark.parametrize("prefix", ["", "/hub", "/a/b"])
def test_an_lfs_batch(prefix: str) -> None:
    body = {"operation": "upload", "objects": [{"oid": "ab", "size": 7}]}
    found = read(f"{HUB}{prefix}/me/model.git/info/lfs/objects/batch", body)
    assert found is not None and (found.step, found.files) == ("lfs", (OutgoingFile("", 7, "ab"),))
    assert found.repo.endswith("me/model") or found.endpoint.endswith(prefix)
    down = read(f"{HUB}/me/model.git/info/lfs/objects/batch", {"operation": "download", "objects": [{}]})
    assert down is None or down.files == ()


@pytest.mark.parametrize(
    "path",
    [
        "/api/datasets/me/data/preupload/main",
        "/api/spaces/me/app/commit/main",
        "/datasets/me/data.git/info/lfs/objects/batch",
        "/spaces/me/app.git/info/lfs/objects/batch",
        "/api/models/me/model",
        "/api/validate-yaml",
        "/api/repos/create",
    ],
)
def test_other_requests(path: str) -> None:
    def never() -> bytes:
        raise AssertionError("the body is not asked for")

    assert sending("POST", HUB + path, never) is None
    assert sending("GET", f"{HUB}/api/models/me/model/commit/main", never) is None


@pytest.mark.parametrize("revision", ["refs/pr/1", "refs%2Fpr%2F1", "a%2fb"])
def test_revisions_with_slashes(revision: str) -> None:
    found = read(f"{HUB}/api/models/me/model/preupload/{revision}", {"files": []})
    assert found is not None and found.repo == "me/model" and "/" in (found.revision or "")


@pytest.mark.parametrize("endpoint", [f"{HUB}/", f"{HUB}//", "https://HuggingFace.co"])
def test_endpoints_are_one_however_they_are_written(endpoint: str) -> None:
    found = read(f"{endpoint}/api/models/me/model/preupload/main", {"files": []})
    assert found is not None and found.endpoint == HUB


ADDRESSES = st.sampled_from(
    [
        f"{HUB}/api/models/me/model/preupload/main",
        f"{HUB}/api/models/me/model/commit/main",
        f"{HUB}/me/model.git/info/lfs/objects/batch",
    ]
)
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["files", "path", "size", "sample", "key", "value", "content", "oid", "objects", "operation"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
INFINITE = b'{"files": [{"path": "a", "size": Infinity, "sample": ""}]}'


@given(ADDRESSES, st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@example(f"{HUB}/api/models/me/model/preupload/main", INFINITE)
@example(f"{HUB}/me/model.git/info/lfs/objects/batch", b"[" * 100_000)
@example(f"{HUB}/api/models/me/model/commit/main", b'{"key": "lfsFile", "value": {"path": 1, "oid": 2, "size": []}}')
@example(f"{HUB}/api/models/me/model/commit/main", b'{"key": "file", "value": {"path": "a", "content": "\\ud800"}}')
def test_any_body_is_read_or_refused(url: str, body: bytes) -> None:
    try:
        found = sending("POST", url, lambda: body)
    except Unreadable:
        return
    assert found is None or all(isinstance(file.name, str) for file in found.files)
    assert found is None or all(file.size is None or isinstance(file.size, int) for file in found.files)


@given(st.sampled_from(["POST", "post", "PUT"]), st.text(max_size=60))
@example("POST", "http://[")
def test_any_address(method: str, url: str) -> None:
    with contextlib.suppress(Unreadable):
        sending(method, url, lambda: b"{}")
