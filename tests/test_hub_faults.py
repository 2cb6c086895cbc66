"""Each fault of the local Hub does what it says, seen by the real client."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import numpy as np
import pytest
from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors.numpy import load_file

from tests.hub import LocalHub
from tests.hub.samples import ID, WEIGHTS, digest, fill, get, head, url


@pytest.fixture
def model(hub: LocalHub) -> Path:
    return fill(hub.root / ID)


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


def test_rate_limit_and_server_errors_pass_after_their_number(hub: LocalHub, model: Path) -> None:
    hub.faults.rate_limit(2, retry_after=7, port="cdn")
    rule = hub.faults.server_errors(1, status=500, port="hub", path="*/config.json", after=1)
    answers = [get(hub, "bytes=0-1") for _ in range(3)]
    assert [a.status_code for a in answers] == [429, 429, 206]
    assert answers[0].headers["Retry-After"] == "7"
    assert answers[0].headers["RateLimit"] == '"resolvers";r=0;t=7'
    assert [get(hub, file="config.json").status_code for _ in range(3)] == [200, 500, 200]
    assert (rule.matched, rule.fired) == (3, 1)
    assert [r.fault for r in hub.log.records(status=429)] == [["rate_limit"]] * 2


def test_the_client_outlasts_a_short_burst(hub: LocalHub, api: HfApi, model: Path, tmp_path: Path) -> None:
    hub.faults.rate_limit(1, port="cdn")
    assert digest(api.hf_hub_download(ID, WEIGHTS, cache_dir=tmp_path)) == digest(model / WEIGHTS)
    assert len(hub.log.records(port="cdn")) == 2


def test_truncated_bodies(hub: LocalHub, model: Path) -> None:
    rule = hub.faults.truncate(1, keep=0.25, repo=ID)
    with pytest.raises(httpx2.RemoteProtocolError):
        get(hub, "bytes=0-99")
    assert hub.log.records(port="cdn")[-1].sent == 25
    assert len(get(hub, "bytes=0-99").content) == 100
    assert rule.fired == 1
    hub.faults.truncate(1, keep=0.25, consistent=True)
    response = get(hub, "bytes=0-99")
    assert (response.status_code, len(response.content)) == (206, 25)
    assert response.headers["Content-Range"].startswith("bytes 0-99/")


def test_dropped_connections(hub: LocalHub, model: Path) -> None:
    hub.faults.drop(1, port="cdn")
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        get(hub, "bytes=0-4999")
    hub.faults.drop(1, keep=None, port="hub")
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        get(hub, "bytes=0-99")
    assert hub.log.records(port="hub")[-1].status == 0
    assert len(get(hub, "bytes=0-99").content) == 100


def test_ignored_and_shifted_ranges(hub: LocalHub, model: Path) -> None:
    whole = (model / WEIGHTS).read_bytes()
    hub.faults.ignore_range(1, port="cdn")
    response = get(hub, "bytes=5-9")
    assert (response.status_code, response.content) == (200, whole)
    hub.faults.shift_range(1, offset=3)
    response = get(hub, "bytes=5-9")
    assert (response.status_code, response.content) == (206, whole[8:13])
    assert response.headers["Content-Range"].startswith("bytes 8-12/")


def test_the_client_survives_a_cut_download(hub: LocalHub, api: HfApi, model: Path, tmp_path: Path) -> None:
    hub.faults.truncate(1, port="cdn")
    assert digest(api.hf_hub_download(ID, WEIGHTS, cache_dir=tmp_path)) == digest(model / WEIGHTS)
    assert [r.fault for r in hub.log.records(port="cdn")] == [["truncate"], []]


def test_main_moves(hub: LocalHub, api: HfApi, model: Path, tmp_path: Path) -> None:
    before = hub.commit_id(ID)
    hub.faults.move_revision(after=1, repo=ID)
    commits = [head(url(hub)).headers["X-Repo-Commit"] for _ in range(3)]
    assert commits[0] == before
    assert commits[1] == commits[2] != before
    assert head(url(hub, revision=before)).headers["X-Repo-Commit"] == before
    assert api.model_info(ID).sha == commits[1]
    assert api.model_info(ID, revision=commits[1]).sha == commits[1]


def test_even_a_pinned_answer_may_name_another_commit(hub: LocalHub, model: Path) -> None:
    before = hub.commit_id(ID)
    hub.faults.move_revision(after=1, pinned=True)
    assert [head(url(hub, revision=before)).headers["X-Repo-Commit"] == before for _ in range(2)] == [
        True,
        False,
    ]


def test_extra_revisions(hub: LocalHub, api: HfApi, model: Path, tmp_path: Path) -> None:
    before = hub.commit_id(ID)
    other = fill(tmp_path / "other", seed=1)
    sha = hub.add_revision(ID, "v2", other)
    assert api.model_info(ID, revision="v2").sha == sha != before
    path = api.hf_hub_download(ID, WEIGHTS, revision="v2", cache_dir=tmp_path / "c")
    assert np.array_equal(load_file(path)["a.weight"], load_file(other / WEIGHTS)["a.weight"])
    assert {b.name for b in api.list_repo_refs(ID).branches} == {"main", "v2"}
    hub.faults.move_revision(after=1, to="v2")
    assert [api.model_info(ID).sha for _ in range(2)] == [before, sha]
    hub.faults.clear()
    hub.move_main(ID, "v2")
    assert api.model_info(ID).sha == sha
    hub.move_main(ID, None)
    assert api.model_info(ID).sha == before


def test_etag_changes_and_addresses_expire(hub: LocalHub, model: Path) -> None:
    hub.faults.change_etag(after=1)
    tags = [get(hub, "bytes=0-1").headers["ETag"] for _ in range(3)]
    assert tags[0] == f'"{digest(model / WEIGHTS)}"'
    assert tags[1] == tags[2] != tags[0]
    hub.faults.clear()
    hub.faults.expire_cdn(uses=2)
    location = head(url(hub)).headers["Location"]
    assert [get_session().get(location).status_code for _ in range(3)] == [200, 200, 403]
    assert get(hub, "bytes=0-1").status_code == 206


def test_missing_and_slow(hub: LocalHub, api: HfApi, model: Path, tmp_path: Path) -> None:
    hub.faults.missing(path="*.safetensors", port="hub")
    assert WEIGHTS in api.list_repo_files(ID)
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(ID, WEIGHTS, cache_dir=tmp_path)
    hub.faults.clear()
    hub.faults.slow(1000, port="cdn")
    started = time.monotonic()
    assert get(hub, "bytes=0-299").content == (model / WEIGHTS).read_bytes()[:300]
    assert time.monotonic() - started > 0.29
    hub.faults.clear()
    hub.faults.slow(2, port="cdn")
    with pytest.raises(httpx2.ReadTimeout):
        get_session().get(url(hub), timeout=0.3)
