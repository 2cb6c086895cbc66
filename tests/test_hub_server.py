"""The local Hub, asked by the real client."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import numpy as np
import pytest
from huggingface_hub import HfApi, HfFileSystem, constants, get_session
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.numpy import save_file

from tests.hub import OUTSIDER, TOKEN, LocalHub
from tests.hub.samples import ID, WEIGHTS, contents, digest, fill, get, head, url


@pytest.fixture
def model(hub: LocalHub) -> Path:
    return fill(hub.root / ID)


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.fixture
def owner(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=TOKEN)


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


# Reading ------------------------------------------------------------------------------------------------------------


def test_model_info_states_commit_sizes_and_digests(hub: LocalHub, api: HfApi, model: Path) -> None:
    info = api.model_info(ID, files_metadata=True)
    assert info.sha == hub.commit_id(ID)
    assert len(info.sha) == 40
    assert info.card_data["base_model"] == "acme/root"
    found = {s.rfilename: s for s in info.siblings}
    assert set(found) == set(contents(model))
    assert {name: s.size for name, s in found.items()} == {n: len(c) for n, c in contents(model).items()}
    assert found[WEIGHTS].lfs.sha256 == digest(model / WEIGHTS)
    assert found["README.md"].lfs is None
    assert found["README.md"].blob_id == git_oid((model / "README.md").read_bytes())
    assert api.model_info(ID, revision=info.sha).sha == info.sha


def test_expand_returns_only_what_was_asked_for(hub: LocalHub, api: HfApi, model: Path) -> None:
    fill(hub.root / "acme/root")
    info = api.model_info(ID, expand=["baseModels", "safetensors", "cardData"])
    assert info.base_models["models"][0]["id"] == "acme/root"
    assert info.base_models["relation"] == "finetune"
    assert info.safetensors.total == 43 * 50
    assert info.siblings is None


def test_commit_id_follows_content(hub: LocalHub, api: HfApi, model: Path) -> None:
    first = api.model_info(ID).sha
    assert api.model_info(ID).sha == first
    (model / "config.json").write_text("{}")
    assert api.model_info(ID).sha != first


@pytest.mark.parametrize("page_size", [1000, 2])
def test_tree_and_paths_info(tmp_path: Path, page_size: int) -> None:
    folder = fill(tmp_path / ID)
    with LocalHub(tmp_path, page_size=page_size, xet_hashes=True) as hub:
        api = HfApi(endpoint=hub.endpoint)
        tree = {entry.path: entry for entry in api.list_repo_tree(ID, recursive=True)}
        assert set(tree) == {*contents(folder), "sub"}
        assert tree[WEIGHTS].lfs.sha256 == digest(folder / WEIGHTS)
        assert len(tree[WEIGHTS].xet_hash) == 64
        assert [e.path for e in api.list_repo_tree(ID)] == ["README.md", "config.json", WEIGHTS, "sub"]
        assert [e.path for e in api.list_repo_tree(ID, "sub")] == ["sub/notes.txt"]
        found = api.get_paths_info(ID, ["sub", WEIGHTS, "absent"], expand=True)
        assert [e.path for e in found] == ["sub", WEIGHTS]
        assert found[1].last_commit.oid == hub.commit_id(ID)
        with pytest.raises(RemoteEntryNotFoundError):
            list(api.list_repo_tree(ID, "absent"))


@pytest.mark.parametrize("without_xet", [True, False])
@pytest.mark.parametrize("redirect_small", [True, False])
def test_download_gives_equal_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_xet: bool, redirect_small: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", without_xet)
    folder = fill(tmp_path / "hub" / ID)
    with LocalHub(tmp_path / "hub", redirect_small=redirect_small) as hub:
        api = HfApi(endpoint=hub.endpoint, token=TOKEN)
        for name in (WEIGHTS, "sub/notes.txt"):
            path = api.hf_hub_download(ID, name, cache_dir=tmp_path / "cache")
            assert Path(path).read_bytes() == (folder / name).read_bytes()
        snapshot = api.snapshot_download(ID, cache_dir=tmp_path / "snapshot")
        assert contents(snapshot) == contents(folder)
        assert Path(snapshot).name == hub.commit_id(ID)
        assert hub.log.requests(port="cdn") == 2
        assert hub.log.leaks() == []
        assert any(record.has_authorization for record in hub.log.records(port="hub"))


def test_safetensors_metadata_of_one_file_and_of_shards(hub: LocalHub, api: HfApi, model: Path) -> None:
    assert api.get_safetensors_metadata(ID).parameter_count == {"F32": 43 * 50}
    names = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    (model / WEIGHTS).rename(model / names[0])
    save_file({"c.weight": np.zeros((5, 5), "float16")}, model / names[1])
    where = {"a.weight": names[0], "b.weight": names[0], "c.weight": names[1]}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for metadata in (api.get_safetensors_metadata(ID), api.get_sharded_safetensors_metadata(ID)):
        assert metadata.sharded
        assert metadata.weight_map == where
        assert metadata.parameter_count == {"F32": 43 * 50, "F16": 25}


def test_file_system_reads_exactly_the_block(hub: LocalHub, model: Path) -> None:
    # The class caches its instances by arguments, so the token keeps this one apart from other tests.
    files = HfFileSystem(endpoint=hub.endpoint, token=TOKEN, skip_instance_cache=True)
    with files.open(f"{ID}/{WEIGHTS}", block_size=8, cache_type="none") as file:
        assert file.read(8) == (model / WEIGHTS).read_bytes()[:8]
    assert hub.log.sent(ID, port="cdn") == 8


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
@pytest.mark.parametrize(
    ("range_", "start", "stop"), [("bytes=0-7", 0, 8), ("bytes=10-", 10, None), ("bytes=-5", -5, None)]
)
def test_ranges(hub: LocalHub, model: Path, name: str, range_: str, start: int, stop: int | None) -> None:
    whole = (model / name).read_bytes()
    response = get(hub, range_, name)
    assert response.status_code == 206
    assert response.content == whole[start:stop]
    first = start % len(whole)
    assert response.headers["Content-Range"] == f"bytes {first}-{first + len(response.content) - 1}/{len(whole)}"
    record = hub.log.records(repo=ID)[-1]
    assert (record.port, record.range) == ("cdn" if name == WEIGHTS else "hub", range_)
    assert record.sent == len(response.content)


def test_bad_ranges_and_preconditions(hub: LocalHub, model: Path) -> None:
    size = (model / WEIGHTS).stat().st_size
    for range_ in (f"bytes={size}-", f"bytes={size + 5}-{size + 9}", "bytes=-0", "bytes=9-3"):
        response = get(hub, range_)
        assert (response.status_code, response.headers["Content-Range"]) == (416, f"bytes */{size}")
        assert response.content == b""
    assert len(get(hub, "bytes=0-1,5-6").content) == size
    assert get(hub, "bytes=0-1", **{"If-Range": '"other"'}).status_code == 200
    assert get(hub, "bytes=0-1", **{"If-Match": '"other"'}).status_code == 412
    assert get(hub, "bytes=0-1", **{"If-Match": f'"{digest(model / WEIGHTS)}"'}).status_code == 206


def test_large_files_redirect_to_the_other_port_with_linked_headers(hub: LocalHub, model: Path) -> None:
    response = head(url(hub))
    assert response.status_code == 302
    assert response.headers["X-Repo-Commit"] == hub.commit_id(ID)
    assert response.headers["X-Linked-Etag"] == f'"{digest(model / WEIGHTS)}"'
    assert int(response.headers["X-Linked-Size"]) == (model / WEIGHTS).stat().st_size
    location = response.headers["Location"]
    assert location.startswith(hub.cdn)
    assert get_session().get(location.split("?")[0]).status_code == 403
    assert get_session().get(location.replace("Signature=", "Signature=0")).status_code == 403
    assert get_session().get(location).status_code == 200


def test_signed_addresses_age(tmp_path: Path) -> None:
    fill(tmp_path / ID)
    with LocalHub(tmp_path, cdn_seconds=0.0) as hub:
        assert get(hub, "bytes=0-1").status_code == 403


def test_list_models(hub: LocalHub, api: HfApi, model: Path) -> None:
    fill(hub.root / "other/model")
    hub.faults.private.add("other/hidden")
    fill(hub.root / "other/hidden")
    assert [m.id for m in api.list_models(search="BASE")] == [ID]
    assert [m.id for m in api.list_models(author="other")] == ["other/model"]
    assert len(list(api.list_models(filter="base_model:finetune:acme/root"))) == 2


# Errors -------------------------------------------------------------------------------------------------------------


def test_what_is_not_there(api: HfApi, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme/absent")
    for revision in ("v9", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(ID, revision=revision)
    with pytest.raises(RevisionNotFoundError):
        api.hf_hub_download(ID, WEIGHTS, revision="v9", cache_dir=tmp_path)
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(ID, "absent.bin", cache_dir=tmp_path)
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("acme/absent", WEIGHTS, cache_dir=tmp_path)


def test_gated_and_private(hub: LocalHub, api: HfApi, owner: HfApi, model: Path, tmp_path: Path) -> None:
    outsider = HfApi(endpoint=hub.endpoint, token=OUTSIDER)
    hub.faults.gated.add(ID)
    assert api.model_info(ID).gated == "manual"
    for who, status in ((api, 401), (outsider, 403)):
        with pytest.raises(GatedRepoError) as caught:
            who.hf_hub_download(ID, WEIGHTS, cache_dir=tmp_path)
        assert caught.value.response.status_code == status
    assert digest(owner.hf_hub_download(ID, WEIGHTS, cache_dir=tmp_path)) == digest(model / WEIGHTS)
    hub.faults.clear()
    hub.faults.private.add(ID)
    for who, status in ((api, 401), (outsider, 404)):
        with pytest.raises(RepositoryNotFoundError) as caught:
            who.model_info(ID)
        assert not isinstance(caught.value, GatedRepoError)
        assert caught.value.response.status_code == status
    assert owner.model_info(ID).private


def test_a_token_that_is_none_is_refused(hub: LocalHub, owner: HfApi, model: Path) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(endpoint=hub.endpoint, token="hf_wrong").model_info(ID)
    assert caught.value.response.status_code == 401
    assert not isinstance(caught.value, RepositoryNotFoundError)
    assert owner.whoami()["name"] == "owner"


@pytest.mark.parametrize(
    "path",
    [
        f"/{ID}/resolve/main/../../../secret.txt",
        f"/{ID}/resolve/main/..%2f..%2f..%2fsecret.txt",
        f"/{ID}/resolve/main/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "/acme/..%2f..%2f/resolve/main/secret.txt",
        "/../../resolve/main/secret.txt",
        "/api/models/acme/..",
    ],
)
def test_paths_do_not_leave_the_root(hub: LocalHub, model: Path, path: str) -> None:
    (hub.root.parent / "secret.txt").write_text("secret")
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 404
    assert b"secret" not in response.read()
    connection.close()


# Writing ------------------------------------------------------------------------------------------------------------


def test_upload_then_download_without_xet(
    hub: LocalHub, owner: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    source = fill(tmp_path / "source")
    owner.create_repo("owner/new")
    with pytest.raises(HfHubHTTPError):
        owner.create_repo("owner/new")
    first = owner.upload_folder(repo_id="owner/new", folder_path=source).oid
    assert hub.log.weight_bytes("owner/new") == (source / WEIGHTS).stat().st_size + 512  # the preupload sample
    assert contents(owner.snapshot_download("owner/new", cache_dir=tmp_path / "c")) == contents(source)
    # The same object once more is not sent again; another file is, and both commits stay readable.
    owner.upload_file(repo_id="owner/new", path_in_repo="copy.safetensors", path_or_fileobj=source / WEIGHTS)
    assert len(hub.log.records(method="PUT")) == 1
    second = owner.upload_file(repo_id="owner/new", path_in_repo=WEIGHTS, path_or_fileobj=b"other").oid
    assert second not in (first, None)
    for revision, content in ((first, (source / WEIGHTS).read_bytes()), ("main", b"other")):
        path = owner.hf_hub_download("owner/new", WEIGHTS, revision=revision, cache_dir=tmp_path / "c")
        assert Path(path).read_bytes() == content
    owner.delete_file("sub/notes.txt", repo_id="owner/new")
    assert set(owner.list_repo_files("owner/new")) == {"README.md", "config.json", WEIGHTS, "copy.safetensors"}
    assert digest(hub.root / "owner/new/copy.safetensors") == digest(source / WEIGHTS)


def test_upload_through_the_pipelined_path(tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    (tmp_path / "hub").mkdir()
    with LocalHub(tmp_path / "hub", upload_mode="regular") as hub:
        owner = HfApi(endpoint=hub.endpoint, token=TOKEN)
        owner.create_repo("owner/new")
        owner.upload_folder(repo_id="owner/new", folder_path=source)
        assert contents(hub.root / "owner/new") == contents(source)
        assert hub.log.weight_bytes("owner/new") == (source / WEIGHTS).stat().st_size + 512
        assert hub.errors == []


def test_uploads_need_the_right_to_write(
    hub: LocalHub, api: HfApi, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    before = contents(model)
    for token, status in ((False, 401), (OUTSIDER, 403)):
        with pytest.raises(HfHubHTTPError) as caught:
            api.upload_file(repo_id=ID, path_in_repo="x.bin", path_or_fileobj=b"x" * 9000, token=token)
        assert caught.value.response.status_code == status
    assert contents(model) == before
    assert hub.log.weight_bytes() == 0


@pytest.mark.parametrize(
    "path", ["../../escape.bin", "/abs/../../../escape.bin", "link/escape.bin", ".git/hooks/x", ""]
)
def test_commits_do_not_leave_the_folder(hub: LocalHub, model: Path, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (model / "link").symlink_to(outside)
    lines = [
        {"key": "header", "value": {"summary": "s"}},
        {"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}},
    ]
    response = get_session().post(
        f"{hub.endpoint}/api/models/{ID}/commit/main",
        content="\n".join(map(json.dumps, lines)).encode(),
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert response.status_code == 400
    assert list(outside.iterdir()) == []
    assert not list(tmp_path.rglob("escape.bin"))


def test_mounted_folders_are_read_only(tmp_path: Path) -> None:
    folder = fill(tmp_path / "anywhere")
    (tmp_path / "hub").mkdir()
    with LocalHub(tmp_path / "hub", mounts={"zoo/atlas": folder, "gpt2": folder}) as hub:
        owner = HfApi(endpoint=hub.endpoint, token=TOKEN)
        for repo_id in ("zoo/atlas", "gpt2"):
            assert digest(owner.hf_hub_download(repo_id, WEIGHTS, cache_dir=tmp_path / "c")) == digest(folder / WEIGHTS)
            assert WEIGHTS in owner.list_repo_files(repo_id)
        assert hub.log.requests("gpt2", port="cdn") == 1
        with pytest.raises(HfHubHTTPError, match="403"):
            owner.upload_file(repo_id="zoo/atlas", path_in_repo="a.txt", path_or_fileobj=b"x")
        assert {m.id for m in owner.list_models()} == {"zoo/atlas", "gpt2"}


# Datasets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("redirect_small", [True, False])
def test_datasets_are_repositories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redirect_small: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    fill(tmp_path / "hub" / ID)
    source = tmp_path / "source"
    (source / "data").mkdir(parents=True)
    (source / "README.md").write_text("---\npretty_name: Numbers\n---\n")
    (source / "data" / "x.parquet").write_bytes(b"PAR1" * 3000)
    with LocalHub(tmp_path / "hub", redirect_small=redirect_small) as hub:
        owner, api = HfApi(endpoint=hub.endpoint, token=TOKEN), HfApi(endpoint=hub.endpoint, token=False)
        assert owner.create_repo(ID, repo_type="dataset").repo_type == "dataset"
        owner.create_repo(ID, repo_type="dataset", exist_ok=True)
        with pytest.raises(HfHubHTTPError):
            owner.create_repo(ID, repo_type="dataset")
        made = owner.upload_folder(repo_id=ID, repo_type="dataset", folder_path=source)
        assert contents(hub.root / "datasets" / ID) == contents(source)
        assert made.oid == hub.commit_id(f"datasets/{ID}") != hub.commit_id(ID)
        info = api.dataset_info(ID, files_metadata=True)
        assert (info.id, info.sha, info.card_data["pretty_name"]) == (ID, made.oid, "Numbers")
        found = {s.rfilename: s for s in info.siblings}
        assert found["data/x.parquet"].lfs.sha256 == digest(source / "data" / "x.parquet")
        assert [e.path for e in api.list_repo_tree(ID, repo_type="dataset")] == ["README.md", "data"]
        assert contents(api.snapshot_download(ID, repo_type="dataset", cache_dir=tmp_path / "c")) == contents(source)
        assert [model.id for model in api.list_models()] == [ID]
        assert {record.repo for record in hub.log.records(port="cdn")} == {f"datasets/{ID}"}
        assert hub.log.leaks() == []
        hub.faults.private.add(f"datasets/{ID}")
        with pytest.raises(RepositoryNotFoundError):
            api.dataset_info(ID)
        assert api.model_info(ID).sha == hub.commit_id(ID)
        with pytest.raises(RepositoryNotFoundError):
            api.dataset_info("acme/absent")
        with pytest.raises(HfHubHTTPError):
            owner.create_repo("owner/app", repo_type="space", space_sdk="static")
        assert hub.errors == []


# The server itself --------------------------------------------------------------------------------------------------


def test_gigabytes_are_served_without_being_read(tmp_path: Path) -> None:
    folder = tmp_path / ID
    folder.mkdir(parents=True)
    size = 3 * 2**30
    with (folder / WEIGHTS).open("wb") as file:  # sparse: takes no room
        file.truncate(size)
        file.seek(size - 100)
        file.write(b"tail")
    with LocalHub(tmp_path, fast_digests=True) as hub:
        api = HfApi(endpoint=hub.endpoint)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        info = api.model_info(ID, files_metadata=True)
        assert info.siblings[0].size == size
        assert api.model_info(ID, files_metadata=True).siblings[0].lfs.sha256 == info.siblings[0].lfs.sha256
        assert get(hub, f"bytes={size - 100}-{size - 97}").content == b"tail"
        received = 0
        with get_session().stream("GET", url(hub), headers={"Range": f"bytes=0-{2**29 - 1}"}) as response:
            for chunk in response.iter_raw(2**20):
                received += len(chunk)
        assert received == 2**29
        unit = 1 if sys.platform == "darwin" else 1024
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 100e6


def test_fast_digests_tell_files_apart_and_a_sidecar_is_believed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "acme" / name).mkdir(parents=True)
        (tmp_path / "acme" / name / WEIGHTS).write_bytes(name.encode() * 100_000)
        os.utime(tmp_path / "acme" / name / WEIGHTS, (1, 1))
    (tmp_path / "acme" / "known").mkdir()
    (tmp_path / "acme" / "known" / WEIGHTS).write_bytes(b"x" * 1000)
    (tmp_path / "acme" / "known" / ".digests.json").write_text(json.dumps({WEIGHTS: "ab" * 32}))
    with LocalHub(tmp_path, fast_digests=True) as hub:
        api = HfApi(endpoint=hub.endpoint)
        digests = {n: api.model_info(f"acme/{n}", files_metadata=True).siblings for n in ("one", "two", "known")}
        assert [len(siblings) for siblings in digests.values()] == [1, 1, 1]
        assert len({siblings[0].lfs.sha256 for siblings in digests.values()}) == 3
        assert digests["known"][0].lfs.sha256 == "ab" * 32


def test_latency_on_both_ports_and_one_connection_for_many_requests(tmp_path: Path) -> None:
    fill(tmp_path / ID)
    with LocalHub(tmp_path, latency=0.05) as hub:
        started = time.monotonic()
        get(hub, "bytes=0-1")
        assert time.monotonic() - started >= 0.1
        connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc)
        names = set()
        for path in (f"/api/models/{ID}", "/api/models/acme/absent", f"/{ID}/resolve/main/config.json"):
            connection.request("GET", path)
            connection.getresponse().read()
            names.add(connection.sock.getsockname())
        assert len(names) == 1
        connection.close()


def test_stopping_leaves_no_thread_and_no_port(tmp_path: Path) -> None:
    fill(tmp_path / ID)
    before = set(threading.enumerate())
    hub = LocalHub(tmp_path).start()
    idle = [http.client.HTTPConnection(urlsplit(base).netloc) for base in (hub.endpoint, hub.cdn)]
    for connection in idle:
        connection.request("GET", "/api/models")
        connection.getresponse().read()
    hub.faults.slow(20)
    ended: list[str] = []

    def read() -> None:
        try:
            get(hub)
        except httpx2.HTTPError as error:
            ended.append(type(error).__name__)

    busy = threading.Thread(target=read)
    busy.start()
    while not hub.log.sent(port="cdn"):
        time.sleep(0.01)
    assert len(set(threading.enumerate()) - before) >= 4
    hub.stop()
    busy.join(5)
    assert len(ended) == 1
    left = [thread.name for thread in set(threading.enumerate()) - before]
    assert [name for name in left if name.startswith("local-") or "process_request" in name] == []
    with pytest.raises(httpx2.ConnectError):
        get_session().get(hub.endpoint)
    assert not hub.state.exists()


def test_many_clients_at_once(hub: LocalHub, model: Path) -> None:
    whole = (model / WEIGHTS).read_bytes()
    wrong = []

    def read(start: int) -> None:
        for k in range(start, start + 200, 10):
            if get(hub, f"bytes={k}-{k + 9}").content != whole[k : k + 10]:
                wrong.append(k)

    threads = [threading.Thread(target=read, args=(200 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert hub.log.requests(ID, port="cdn") == hub.log.requests(ID, port="hub") == 160
    assert hub.log.sent(ID, port="cdn") == 1600


def test_as_a_program(tmp_path: Path) -> None:
    folder = fill(tmp_path / ID)
    command = [sys.executable, "-m", "tests.hub", str(tmp_path), "--latency", "0.01", "--mount", f"gpt2={folder}"]
    repository = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        endpoint = process.stdout.readline().strip()
        assert {m.id for m in HfApi(endpoint=endpoint).list_models()} == {ID, "gpt2"}
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""
