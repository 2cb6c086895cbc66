"""Checkpoints over HTTP: the real client against the local Hub, healthy and faulty."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lineage_plugin.checkpoint import Selection, open_checkpoint
from lineage_plugin.checkpoint import transport as transport_module
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.checkpoint.transport import Patience
from lineage_plugin.errors import (
    BudgetExceeded,
    HubDenied,
    HubError,
    HubNotFound,
    HubUnreachable,
    InputError,
    LineageError,
    UnreadableCheckpoint,
    UnsafeCheckpoint,
    UsageError,
)
from lineage_plugin.options import Options
from tests.hub import OUTSIDER, TOKEN, LocalHub

from .builders import entry, expected, file_bytes, random_selections, random_tensors, write_sharded, write_single

ID = "owner/name"
QUICK = Patience(base=0.001)
COLUMNS = 8192
"""One row of the wide tensor takes 32 KiB, more than the gap that is read along."""


@pytest.fixture
def folder(hub: LocalHub) -> Path:
    return hub.root / ID


@pytest.fixture
def wide(folder: Path) -> torch.Tensor:
    """A model of one tensor with 40 rows of 32 KiB, and its small files."""
    tensor = torch.arange(40 * COLUMNS, dtype=torch.float32).reshape(40, COLUMNS)
    write_single(folder, {"w": tensor})
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "README.md").write_text("# A model\n" * 300)
    return tensor


def opened(hub: LocalHub, revision: str | None = None, **more: object) -> StoredCheckpoint:
    settings: dict[str, object] = {"endpoint": hub.endpoint, "patience": QUICK, **more}
    return open_hub(ID, revision, **settings)  # type: ignore[arg-type]


def rows(*numbers: int) -> Selection:
    return Selection("w", rows=np.array(numbers))


def check(checkpoint: StoredCheckpoint, tensor: torch.Tensor, *numbers: int) -> None:
    (found,) = checkpoint.read([rows(*numbers)])
    np.testing.assert_array_equal(found, tensor.numpy()[list(numbers)])


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("sharded", [False, True])
def test_round_trip(hub: LocalHub, folder: Path, dtype: str, sharded: bool) -> None:
    tensors = random_tensors(6, dtype, layers=4, width=96)
    (write_sharded if sharded else write_single)(folder, tensors)
    for gap in (0, 64, 16384):
        hub.log.clear()
        checkpoint = opened(hub, gap=gap)
        assert (checkpoint.id, checkpoint.local, checkpoint.format) == (ID, False, "safetensors")
        assert checkpoint.revision == hub.commit_id(ID)
        for seed in range(3):
            selections = list(random_selections(tensors, seed))
            for selection, found in zip(selections, checkpoint.read(selections), strict=True):
                want = expected(tensors[selection.tensor], selection)
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, want)
        cost = checkpoint.cost()
        weights = [r for r in hub.log.records(port="cdn") if r.file.endswith(".safetensors")]
        assert cost.requests == hub.log.requests()
        assert cost.bytes_read == sum(r.sent for r in weights)
        assert cost.bytes_total == sum(p.stat().st_size for p in folder.glob("*.safetensors"))
    assert {name: t.shape for name, t in checkpoint.tensors.items()} == {n: tuple(t.shape) for n, t in tensors.items()}


def test_requests_are_as_few_as_promised(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    assert [(r.port, r.status) for r in hub.log] == [("hub", 200), ("hub", 302), ("cdn", 206)]
    assert checkpoint.cost().requests == 3
    check(checkpoint, wide, 10)
    assert checkpoint.cost().requests == 4
    check(checkpoint, wide, 10, 11, 12, 30)
    assert checkpoint.cost().requests == 6
    assert checkpoint.config == {"model_type": "llama"}
    assert checkpoint.text("README.md") == "# A model\n" * 300
    assert checkpoint.cost().requests == 8
    assert checkpoint.config == {"model_type": "llama"}
    assert checkpoint.text("README.md") == "# A model\n" * 300
    assert checkpoint.text("missing.md") is None
    assert checkpoint.text("../../etc/passwd") is None
    assert checkpoint.cost().requests == 8 == hub.log.requests()
    assert {r.method for r in hub.log} == {"GET"}


def test_requests_of_a_sharded_model(hub: LocalHub, folder: Path) -> None:
    write_sharded(folder, random_tensors(7), 3)
    checkpoint = opened(hub)
    assert checkpoint.cost().requests == 1 + 1 + 2 * 3 == hub.log.requests()
    assert len(checkpoint.weight_files) == 3


def test_small_files_behind_a_redirect_count_twice(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.redirect_small = True
    checkpoint = opened(hub, token=TOKEN)
    assert checkpoint.text("README.md", 4) == "# A "
    assert checkpoint.data("README.md", 4) == b"# A "
    assert checkpoint.data("missing.model") is None
    assert checkpoint.cost().requests == 5 == hub.log.requests()
    assert hub.log.records(path="*README.md")[-1].sent == 4
    assert all(r.has_authorization for r in hub.log.records(port="hub"))


def test_ranges_are_merged_when_near_and_kept_apart_when_far(hub: LocalHub, wide: torch.Tensor) -> None:
    """Rows are 32 KiB: their neighbours touch, every second one is a row apart."""
    checkpoint = opened(hub)
    hub.log.clear()
    before = checkpoint.cost()
    check(checkpoint, wide, 5, 6, 7, 20, 22)
    assert sorted(r.sent for r in hub.log) == [32768, 32768, 3 * 32768]
    spent = checkpoint.cost()
    assert spent.tensor_bytes - before.tensor_bytes == spent.bytes_read - before.bytes_read == 5 * 32768

    wider = opened(hub, gap=32768)
    hub.log.clear()
    check(wider, wide, 5, 6, 7, 20, 22)
    assert sorted(r.sent for r in hub.log) == [3 * 32768, 3 * 32768]


def test_columns_of_many_rows_do_not_flood_the_server(hub: LocalHub, folder: Path) -> None:
    tensor = torch.randn(400, 8192, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    write_single(folder, {"w": tensor})
    checkpoint = opened(hub, gap=1024)
    hub.log.clear()
    selection = Selection("w", columns=np.array([3, 8000]))
    (found,) = checkpoint.read([selection])
    np.testing.assert_array_equal(found, expected(tensor, selection))
    assert hub.log.requests() <= 256


def test_what_came_with_the_header_is_not_fetched_again(hub: LocalHub, folder: Path) -> None:
    tensors = random_tensors(8)
    write_single(folder, tensors)
    checkpoint = opened(hub)
    assert checkpoint.cost().bytes_read == (folder / "model.safetensors").stat().st_size
    assert len(checkpoint.read([Selection(name) for name in tensors])) == len(tensors)
    assert checkpoint.cost().requests == 3


def test_a_stretch_that_begins_in_the_first_guess_is_continued(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    check(checkpoint, wide, 0, 1, 2)
    header = checkpoint.tensors["w"].offset
    assert checkpoint.cost().bytes_read == header + 3 * 32768
    assert checkpoint.cost().tensor_bytes == 3 * 32768


def test_a_long_header_takes_one_request_more(hub: LocalHub, folder: Path) -> None:
    tensors = {f"layer.{i}.some.rather.long.name.weight": torch.full((4,), float(i)) for i in range(2000)}
    write_single(folder, tensors)
    checkpoint = opened(hub)
    assert checkpoint.cost().requests == 4
    assert len(checkpoint.tensors) == 2000
    header = checkpoint.tensors["layer.0.some.rather.long.name.weight"].offset
    assert header > 100_000
    assert checkpoint.cost().bytes_read == header
    assert checkpoint.cost().tensor_bytes == 0


def test_the_index_tells_how_long_the_headers_are(hub: LocalHub, folder: Path) -> None:
    tensors = {f"layer.{i}.some.rather.long.name.weight": torch.full((4,), float(i)) for i in range(2000)}
    write_sharded(folder, tensors, 2)
    assert opened(hub).cost().requests == 1 + 1 + 2 * 2


def test_digests_are_those_of_the_hub_and_cost_nothing(hub: LocalHub, wide: torch.Tensor, folder: Path) -> None:
    checkpoint = opened(hub)
    want = {"model.safetensors": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()}
    assert checkpoint.digests() == checkpoint.digests(compute=True) == want == open_local(folder).digests(compute=True)
    assert checkpoint.cost().requests == 3


def test_an_old_id_without_owner(hub: LocalHub, wide: torch.Tensor, folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "other"
    root.mkdir()
    with LocalHub(root, mounts={"gpt2": folder}) as server:
        checkpoint = open_checkpoint("gpt2", options=Options(endpoint=server.endpoint))
        np.testing.assert_array_equal(checkpoint.read([rows(39)])[0][0], wide.numpy()[39])


def test_threads_share_a_checkpoint(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    failures: list[Exception] = []

    def work(seed: int) -> None:
        try:
            picks = np.sort(np.random.default_rng(seed).choice(40, 6, replace=False))
            for _ in range(5):
                check(checkpoint, wide, *picks.tolist())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    cost = checkpoint.cost()
    assert cost.requests == hub.log.requests()
    assert cost.bytes_read == hub.log.sent(port="cdn")


def test_the_budget_holds_before_anything_is_sent(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub, budget=65536 + 2 * 32768)
    check(checkpoint, wide, 30)
    sent = hub.log.requests()
    with pytest.raises(BudgetExceeded, match=ID):
        checkpoint.read([rows(10, 20)])
    assert hub.log.requests() == sent
    check(checkpoint, wide, 10)
    with pytest.raises(BudgetExceeded):
        opened(hub, budget=1000)


# Bad repositories ----------------------------------------------------------------------------------------------------


def test_bad_files_are_named_with_their_repository(hub: LocalHub, folder: Path) -> None:
    cases: list[tuple[dict[str, bytes], type[InputError], str]] = [
        ({"README.md": b"x"}, UnreadableCheckpoint, f"{ID}: there are no weights"),
        ({"pytorch_model.bin": b"\x80\x02."}, UnsafeCheckpoint, f"{ID}/pytorch_model.bin: this is a plain pickle"),
        ({"model.safetensors": b"abc"}, UnreadableCheckpoint, f"{ID}/model.safetensors: 3 bytes"),
        ({"model.safetensors": b""}, UnreadableCheckpoint, f"{ID}/model.safetensors: 0 bytes"),
        ({"model.safetensors": bytes(100)}, UnreadableCheckpoint, f"{ID}/model.safetensors: the header"),
        ({"model.safetensors": file_bytes({"w": entry([9], 0, 36)}, bytes(35))}, InputError, "truncated"),
        ({"model.safetensors.index.json": b"{"}, UnreadableCheckpoint, f"{ID}/model.safetensors.index.json"),
        (
            {"model.safetensors.index.json": json.dumps({"weight_map": {"w": "gone.safetensors"}}).encode()},
            UnreadableCheckpoint,
            "'gone.safetensors' is missing",
        ),
        (
            {"model.safetensors.index.json": json.dumps({"weight_map": {"w": "../../x/y.safetensors"}}).encode()},
            UnreadableCheckpoint,
            "plain name",
        ),
    ]
    for files, kind, phrase in cases:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        with pytest.raises(kind, match=phrase) as caught:
            opened(hub)
        assert str(caught.value).isprintable()
        for name in files:
            (folder / name).unlink()


def test_a_header_longer_than_the_first_guess_that_lies_costs_little(hub: LocalHub, folder: Path) -> None:
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write((90_000_000).to_bytes(8, "little") + b"[")
        file.truncate(200_000_000)
    with pytest.raises(UnreadableCheckpoint, match="start"):
        opened(hub)
    assert hub.log.sent(port="cdn") == 65536


# One commit ---------------------------------------------------------------------------------------------------------


def test_revisions(hub: LocalHub, folder: Path, wide: torch.Tensor, tmp_path: Path) -> None:
    old = write_single(tmp_path / "old", {"v": torch.ones(3)})
    sha = hub.add_revision(ID, "v1/rc", old)
    for revision in ("v1/rc", sha):
        checkpoint = opened(hub, revision)
        assert (checkpoint.id, checkpoint.revision) == (ID, sha)
        assert list(checkpoint.tensors) == ["v"]
    assert all(f"/resolve/{sha}/" in r.path for r in hub.log if r.status == 302)
    with pytest.raises(HubNotFound, match="no revision 'v2'"):
        opened(hub, "v2")


def test_a_branch_that_moves_on_does_not_matter(
    hub: LocalHub, folder: Path, wide: torch.Tensor, tmp_path: Path
) -> None:
    checkpoint = opened(hub)
    first = checkpoint.revision
    hub.add_revision(ID, "next", write_single(tmp_path / "next", {"v": torch.ones(3)}))
    hub.move_main(ID, "next")
    check(checkpoint, wide, 30)
    assert checkpoint.text("README.md") is not None
    assert checkpoint.revision == first
    assert opened(hub).revision != first


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_commit_that_moves_is_noticed(hub: LocalHub, folder: Path, after: int) -> None:
    write_sharded(folder, random_tensors(9), 2)
    (folder / "README.md").write_text("# hi")
    hub.faults.move_revision(after=after, pinned=True)
    with pytest.raises(HubError, match="moved while it was read"):
        opened(hub).text("README.md")


def test_a_commit_asked_for_must_be_the_one_that_comes(hub: LocalHub, wide: torch.Tensor) -> None:
    sha = hub.commit_id(ID)
    hub.faults.move_revision(pinned=True)
    with pytest.raises(HubError, match="another commit"):
        opened(hub, sha)


def test_a_changed_etag_is_noticed(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    check(checkpoint, wide, 20)
    hub.faults.change_etag(port="cdn")
    with pytest.raises(HubError, match="ETag"):
        checkpoint.read([rows(20)])


def test_weights_under_another_digest_than_announced_are_refused(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.faults.change_etag(port="hub")
    with pytest.raises(HubError, match="ETag"):
        opened(hub)


def test_a_file_that_shrinks_is_noticed(hub: LocalHub, wide: torch.Tensor, folder: Path) -> None:
    checkpoint = opened(hub)
    shorter = write_single(folder.parent / "shorter", {"w": wide[:4].clone()})
    hub.add_revision(ID, "short", shorter)
    blob = hub.repo(ID).find(checkpoint.revision).files["model.safetensors"]
    other = hub.repo(ID).find("short").files["model.safetensors"]
    blob.location, blob.size, blob.mtime_ns = other.location, other.size, other.mtime_ns
    with pytest.raises(HubError, match="moved while it was read"):
        checkpoint.read([rows(39)])
    with pytest.raises(HubError, match="moved while it was read"):
        checkpoint.read([rows(3)])


# Tokens --------------------------------------------------------------------------------------------------------------


def test_the_token_goes_to_the_endpoint_only(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.faults.private.add(ID)
    checkpoint = opened(hub, token=TOKEN)
    check(checkpoint, wide, 3, 30)
    assert checkpoint.text("README.md") is not None
    assert all(r.has_authorization for r in hub.log.records(port="hub"))
    assert len(hub.log.records(port="cdn")) == 3
    assert hub.log.leaks() == []
    assert TOKEN not in repr(checkpoint)


def test_the_token_comes_from_the_environment(
    hub: LocalHub, wide: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.private.add(ID)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for token in (None, ""):
        checkpoint = open_checkpoint(ID, options=Options(endpoint=hub.endpoint, token=token))
        np.testing.assert_array_equal(checkpoint.read([rows(30)])[0][0], wide.numpy()[30])
    assert hub.log.leaks() == []


def test_gated(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.faults.gated.add(ID)
    for token in (None, OUTSIDER):
        with pytest.raises(HubDenied) as caught:
            opened(hub, token=token)
        message = str(caught.value)
        assert f"{hub.endpoint}/{ID}" in message
        assert "licence" in message
        assert "HF_TOKEN" in message
        assert OUTSIDER not in message
        assert caught.value.exit_code == 4
    check(opened(hub, token=TOKEN), wide, 30)


def test_private_and_missing_look_alike(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.faults.private.add(ID)
    for repo, token in ((ID, None), (ID, OUTSIDER), ("owner/nothing", None), ("nothing", TOKEN)):
        with pytest.raises(HubNotFound, match="no such model, or it is private") as caught:
            open_hub(repo, token=token, endpoint=hub.endpoint, patience=QUICK)
        assert caught.value.exit_code == 2
    assert hub.log.requests() == 4


def test_a_token_that_is_none(hub: LocalHub, wide: torch.Tensor) -> None:
    with pytest.raises(HubDenied, match="does not accept the token") as caught:
        opened(hub, token="hf_thisIsNoToken")
    assert "thisIsNoToken" not in str(caught.value)


def test_a_file_that_is_listed_but_missing(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.faults.missing(path="*.safetensors", port="hub")
    with pytest.raises(HubNotFound, match=r"no file 'model\.safetensors'"):
        opened(hub)


# Failures that pass --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", ["hub", "cdn"])
@pytest.mark.parametrize("fault", ["rate_limit", "server_errors", "truncate", "consistent", "drop", "reset", "shift"])
def test_three_failures_are_outlasted(hub: LocalHub, wide: torch.Tensor, fault: str, port: str) -> None:
    checkpoint = opened(hub)
    before, path = checkpoint.cost(), "*.safetensors" if port == "cdn" else "*README.md"
    where: dict[str, object] = {"port": port, "path": path}
    rule = {
        "rate_limit": lambda: hub.faults.rate_limit(3, retry_after=0, **where),
        "server_errors": lambda: hub.faults.server_errors(3, status=502, **where),
        "truncate": lambda: hub.faults.truncate(3, **where),
        "consistent": lambda: hub.faults.truncate(3, consistent=True, **where),
        "drop": lambda: hub.faults.drop(3, **where),
        "reset": lambda: hub.faults.drop(3, keep=None, **where),
        "shift": lambda: hub.faults.shift_range(3, **where),
    }[fault]()
    if port == "cdn":
        check(checkpoint, wide, 30)
        assert rule.fired == 3
        cost = checkpoint.cost()
        assert cost.requests == before.requests + 4
        # A reset may throw away what was sent but not read yet; everything else is counted to the byte.
        if fault != "drop":
            assert cost.bytes_read <= hub.log.sent(port="cdn")
        assert cost.bytes_read - before.bytes_read >= 32768
    elif fault == "consistent":
        # Nothing but the size told before shows that a whole file is cut.
        with pytest.raises(HubError, match="changed its size"):
            checkpoint.text("README.md")
    else:
        assert checkpoint.text("README.md") == "# A model\n" * 300
        assert checkpoint.cost().requests == before.requests + (1 if fault == "shift" else 4)
    assert checkpoint.cost().requests == hub.log.requests()


@pytest.mark.parametrize(
    ("fault", "phrase"),
    [
        ("rate_limit", "HTTP 429, 5 times"),
        ("server_errors", "HTTP 503, 5 times"),
        ("truncate", "cut short"),
        ("drop", "broke|cut short"),
        ("shift_range", "another range"),
    ],
)
def test_failures_without_end_name_the_last(hub: LocalHub, wide: torch.Tensor, fault: str, phrase: str) -> None:
    checkpoint = opened(hub)
    rule = getattr(hub.faults, fault)(None, port="cdn")
    with pytest.raises(HubUnreachable, match=phrase) as caught:
        checkpoint.read([rows(30)])
    assert rule.fired == 5
    assert str(caught.value).startswith(f"{ID}: ")
    assert "Signature" not in str(caught.value)
    hub.faults.clear()
    check(checkpoint, wide, 30)


def test_one_lasting_failure_ends_the_others(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    hub.faults.server_errors(None, port="cdn")
    start = time.monotonic()
    with pytest.raises(HubUnreachable, match="5 times"):
        checkpoint.read([rows(*range(10, 40, 2))])
    assert hub.log.requests() <= 3 + 15 * 5
    assert time.monotonic() - start < 20


def test_the_server_says_how_long_to_wait(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    hub.faults.rate_limit(1, retry_after=1, port="cdn")
    start = time.monotonic()
    check(checkpoint, wide, 30)
    assert time.monotonic() - start >= 1.0


def test_the_longest_pause_is_capped(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.faults.rate_limit(1, retry_after=86_400)
    check(opened(hub, patience=Patience(base=0.001, cap=0.05)), wide, 30)


def test_expired_addresses_are_renewed(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    hub.faults.expire_cdn(uses=1)
    check(checkpoint, wide, 20)
    # A refusal, the Hub once more, and the new address.
    assert [(r.port, r.status) for r in hub.log][3:] == [("cdn", 403), ("hub", 302), ("cdn", 206)]
    check(checkpoint, wide, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28)
    assert checkpoint.cost().requests == hub.log.requests()
    assert hub.log.leaks() == []


def test_addresses_that_are_never_valid(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    hub.faults.expire_cdn(uses=0)
    with pytest.raises(HubUnreachable, match="HTTP 403"):
        checkpoint.read([rows(20)])
    assert hub.log.requests() == 3 + 3


def test_a_dead_server(hub: LocalHub, wide: torch.Tensor) -> None:
    checkpoint = opened(hub)
    hub.stop()
    with pytest.raises(HubUnreachable, match="no connection"):
        checkpoint.read([rows(20)])
    with pytest.raises(HubUnreachable):
        opened(hub)
    # Nobody took these requests.
    assert checkpoint.cost().requests <= 4


def test_a_server_that_hangs(hub: LocalHub, wide: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "_TIMEOUTS", (0.2, 0.2, 0.2, 0.2))
    hub.latency = 1.0
    with pytest.raises(HubUnreachable, match="no answer within"):
        opened(hub, patience=Patience(tries=2, base=0.001))
    assert hub.log.requests() == 2


def test_a_server_that_drips(hub: LocalHub, wide: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = opened(hub, patience=Patience(tries=2, base=0.001))
    monkeypatch.setattr(transport_module, "_DEADLINE", 0.3)
    monkeypatch.setattr(transport_module, "_SLOWEST", 1 << 30)
    hub.faults.slow(20_000, port="cdn")
    start = time.monotonic()
    with pytest.raises(HubUnreachable, match="too slowly"):
        checkpoint.read([rows(20)])
    assert time.monotonic() - start < 10


# Ranges that are ignored ---------------------------------------------------------------------------------------------


def test_ignored_ranges_of_a_small_file_are_cut_out(hub: LocalHub, wide: torch.Tensor) -> None:
    hub.faults.ignore_range()
    checkpoint = opened(hub)
    assert checkpoint.cost().bytes_read >= 65536
    check(checkpoint, wide, 3, 20)
    assert checkpoint.cost().requests == hub.log.requests()


def test_ignored_ranges_of_a_large_file_are_an_error_and_not_a_download(hub: LocalHub, folder: Path) -> None:
    size = 4 * 3000 * 100_000
    folder.mkdir(parents=True)
    header = file_bytes({"w": entry([3000, 100_000], 0, size)})
    with (folder / "model.safetensors").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
    hub.fast_digests = True
    hub.faults.ignore_range()
    checkpoint = opened(hub)
    with pytest.raises(HubError, match="ignores byte ranges"):
        checkpoint.read([rows(2999)])
    assert checkpoint.cost().bytes_read < 1 << 20
    time.sleep(0.2)
    # What the sockets had taken in before the connection closed.
    assert hub.log.sent(port="cdn") < 200 << 20
    assert checkpoint.read([rows(0)])[0].shape == (1, 100_000)


# Offline -------------------------------------------------------------------------------------------------------------


def test_the_clients_own_offline_mode_is_respected(
    hub: LocalHub, wide: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = opened(hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE"):
        checkpoint.read([rows(20)])
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE"):
        opened(hub)
    assert checkpoint.cost().requests == hub.log.requests() == 3


def test_every_error_is_one_of_ours(hub: LocalHub, wide: torch.Tensor) -> None:
    """Whatever status comes for whatever request, one line comes out."""
    for status in (301, 302, 400, 402, 404, 405, 408, 410, 418, 451, 500, 501, 505, 599):
        for port in ("hub", "cdn"):
            hub.faults.clear()
            hub.faults.server_errors(None, status=status, port=port)
            with pytest.raises(LineageError) as caught:
                opened(hub, patience=Patience(tries=2, base=0.001)).text("README.md")
            assert str(caught.value).startswith(f"{ID}: ")
            assert str(caught.value).isprintable()


def test_two_large_shards_are_opened_and_read_within_24_requests(hub: LocalHub, folder: Path) -> None:
    """Shapes of a real model, sparse on disk: metadata, index, headers and twelve blocks of rows."""
    folder.mkdir(parents=True)
    weight_map = {}
    for shard in (1, 2):
        name = f"model-0000{shard}-of-00002.safetensors"
        header, end = {}, 0
        for layer in range(3):
            for role, shape in (("up", [14336, 4096]), ("down", [4096, 14336]), ("q", [4096, 4096])):
                tensor = f"model.layers.{3 * shard - 3 + layer}.{role}.weight"
                header[tensor] = entry(shape, end, end + 2 * shape[0] * shape[1], "BF16")
                end += 2 * shape[0] * shape[1]
                weight_map[tensor] = name
        with (folder / name).open("wb") as file:
            file.write(file_bytes(header))
            file.truncate(file.tell() + end)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text("{}")
    hub.fast_digests = True
    checkpoint = opened(hub)
    block = np.arange(512, 528)
    checkpoint.read([Selection(f"model.layers.{layer}.up.weight", rows=block) for layer in range(6)])
    assert checkpoint.config == {}
    cost = checkpoint.cost()
    assert cost.requests == 1 + 1 + 2 * 2 + 6 + 1 == hub.log.requests()
    assert cost.tensor_bytes < 2 << 20
    assert cost.bytes_total > 1 << 30


def test_save_and_read_what_safetensors_writes_for_vectors(hub: LocalHub, folder: Path) -> None:
    folder.mkdir(parents=True)
    values = {"v": torch.arange(50_000, dtype=torch.float16), "s": torch.tensor(2.0)}
    save_file(values, folder / "model.safetensors")
    checkpoint = opened(hub)
    picks = np.array([0, 5, 40_000, 49_999])
    v, s = checkpoint.read([Selection("v", rows=picks), Selection("s")])
    np.testing.assert_array_equal(v[:, 0], values["v"].float().numpy()[picks])
    np.testing.assert_array_equal(s, [[2]])
