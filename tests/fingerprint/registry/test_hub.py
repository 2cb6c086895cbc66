"""Registries on the Hub, with the real client and a local server."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import get_token

from lineage_plugin.errors import HubDenied, HubError, HubNotFound, HubUnreachable, InputError, UsageError
from lineage_plugin.fingerprint.registry import hub as publishing
from lineage_plugin.fingerprint.registry.exchange import write_parquet
from lineage_plugin.fingerprint.registry.hub import Pushed, pull, push
from lineage_plugin.fingerprint.registry.store import Added, Registry
from lineage_plugin.options import Options
from tests.fingerprint.registry.samples import data, entry
from tests.hub import OUTSIDER, TOKEN, LocalHub

REPO = "owner/registry"
STORED = f"datasets/{REPO}"


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # There is no xet storage behind the local server.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf-cache"))
    monkeypatch.setattr(publishing, "_ENTRIES_A_FILE", 8)


@pytest.fixture
def owner(hub: LocalHub) -> Options:
    return Options(endpoint=hub.endpoint, token=TOKEN)


@pytest.fixture
def reader(hub: LocalHub) -> Options:
    return Options(endpoint=hub.endpoint)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry.open(tmp_path / "registry", create=True)
    made.add(entry(number, bases=["acme/base"]) for number in range(20))
    return made


@pytest.fixture
def other(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "other", create=True)


def held(registry: Registry) -> dict[object, tuple[bytes, tuple[str, ...]]]:
    return {one.listing.key: (one.fingerprint, one.listing.bases) for one in registry.entries()}


def test_push_and_pull(hub: LocalHub, registry: Registry, other: Registry, owner: Options, reader: Options) -> None:
    told: list[object] = []
    pushed = push(registry, REPO, owner, progress=lambda *at: told.append(at))
    assert pushed == Pushed(20, hub.commit_id(STORED), 3)
    assert told[-1] == ("preparing files", 3, 3)
    folder = hub.root / STORED
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"README.md", *(f"data/models-0000{number}.parquet" for number in range(3))}
    assert pq.read_table(folder / "data/models-00000.parquet")["fingerprint"][0].as_py() == data(0)
    card = (folder / "README.md").read_text()
    assert "data_files: data/*.parquet" in card and f"lineage registry pull {REPO}" in card
    result = pull(other, REPO, reader, progress=lambda *at: told.append(at))
    assert (result.added, result.refused) == (Added(added=20), 0)
    assert told[-1] == ("pulling files", 3, 3)
    assert held(other) == held(registry)
    assert pull(other, REPO, reader).added == Added(unchanged=20)
    assert hub.log.leaks() == []
    info = HfApi(endpoint=hub.endpoint, token=False).dataset_info(REPO)
    assert info.card_data["pretty_name"] == "Model fingerprints"


def test_a_push_sends_what_is_new_in_one_commit(hub: LocalHub, registry: Registry, owner: Options) -> None:
    first = push(registry, REPO, owner)
    hub.log.clear()
    assert push(registry, REPO, owner) == Pushed(20, first.commit, 0)
    assert hub.log.records(path="*/commit/*") == []
    (hub.root / STORED / "README.md").write_text("---\npretty_name: Mine\n---\n")
    registry.add([entry(30)])
    second = push(registry, REPO, owner)
    assert (second.rows, second.files) == (21, 1)
    assert len(hub.log.records(path="*/commit/*")) == 1
    assert "Mine" in (hub.root / STORED / "README.md").read_text()


def test_entries_of_others_are_not_dropped(
    hub: LocalHub, registry: Registry, other: Registry, owner: Options, reader: Options
) -> None:
    push(registry, REPO, owner)
    other.add([entry(40)])
    before = hub.commit_id(STORED)
    with pytest.raises(UsageError, match="holds 20 entries that this registry does not, such as owner0/model-0"):
        push(other, REPO, owner)
    assert hub.commit_id(STORED) == before
    pull(other, REPO, reader)
    assert push(other, REPO, owner).rows == 21
    assert push(registry, REPO, owner, replace=True).rows == 20
    registry.remove("owner0/model-0")
    assert push(registry, REPO, owner, replace=True).rows == 19
    for number in range(10, 20):
        registry.remove(f"owner{number % 3}/model-{number}")
    assert push(registry, REPO, owner, replace=True) == Pushed(9, hub.commit_id(STORED), 1)
    assert len(list((hub.root / STORED / "data").iterdir())) == 2


def test_two_who_push_at_once(
    hub: LocalHub, registry: Registry, owner: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(registry, REPO, owner)
    registry.add([entry(50)])
    described = publishing._described

    def overtaken(*asked: object) -> object:
        found = described(*asked)  # type: ignore[arg-type]
        (hub.root / STORED / "note.txt").write_text("pushed meanwhile")
        return found

    monkeypatch.setattr(publishing, "_described", overtaken)
    with pytest.raises(HubError, match="somebody else has pushed meanwhile"):
        push(registry, REPO, owner)


def test_a_revision_can_be_pulled(
    hub: LocalHub, registry: Registry, other: Registry, owner: Options, reader: Options
) -> None:
    first = push(registry, REPO, owner).commit
    registry.add([entry(60)])
    push(registry, REPO, owner)
    assert pull(other, REPO, reader, revision=first).added == Added(added=20)
    assert pull(other, REPO, reader).added == Added(added=1, unchanged=20)
    with pytest.raises(HubNotFound, match="no such revision"):
        pull(other, REPO, reader, revision="v9")


def test_the_token_is_the_clients(
    hub: LocalHub, registry: Registry, reader: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get_token() is None
    with pytest.raises(HubDenied):
        push(registry, REPO, reader)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert push(registry, REPO, reader).rows == 20
    with pytest.raises(HubDenied, match="HTTP 403"):
        push(registry, "acme/other", Options(endpoint=hub.endpoint, token=OUTSIDER))


def test_private_repositories(
    hub: LocalHub, registry: Registry, other: Registry, owner: Options, reader: Options
) -> None:
    push(registry, REPO, owner, private=True)
    assert STORED in hub.faults.private
    with pytest.raises((HubDenied, HubNotFound)):
        pull(other, REPO, reader)
    assert pull(other, REPO, owner).added.added == 20


# Refusals -----------------------------------------------------------------------------------------------------------


def test_what_is_no_id_and_what_is_not_there(
    hub: LocalHub, registry: Registry, other: Registry, reader: Options
) -> None:
    for repo in ("name", "a/b/c", "../x", "https://example.org/x", "a/b@c", ""):
        with pytest.raises(UsageError):
            pull(other, repo, reader)
        with pytest.raises(UsageError):
            push(registry, repo, reader)
    assert hub.log.requests() == 0
    for offline in (Options(offline=True, endpoint=hub.endpoint),):
        with pytest.raises(UsageError, match="offline"):
            pull(other, REPO, offline)
    with pytest.raises(UsageError, match="empty"):
        push(other, REPO, reader)
    with pytest.raises(HubNotFound, match="no such dataset"):
        pull(other, "acme/absent", reader)
    (hub.root / "datasets" / "acme" / "texts").mkdir(parents=True)
    (hub.root / "datasets" / "acme" / "texts" / "train.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match="holds no registry"):
        pull(other, "acme/texts", reader)


def test_wrong_entries_of_a_repository_are_refused(
    hub: LocalHub, other: Registry, reader: Options, tmp_path: Path
) -> None:
    folder = hub.root / STORED / "data"
    folder.mkdir(parents=True)
    write_parquet([entry(number) for number in range(3)], folder / "a.parquet")
    forged = pq.read_table(folder / "a.parquet")
    column = forged.schema.get_field_index("id")
    forged = forged.set_column(column, forged.schema.field("id"), [["owner0/model-0", "acme/evil", "owner2/model-2"]])
    pq.write_table(forged, folder / "b.parquet")
    result = pull(other, REPO, reader)
    assert (result.added, result.refused) == (Added(added=3, unchanged=2), 1)
    assert result.problems[0].startswith("b.parquet, row 1: ") or "another model" in result.problems[0]
    (folder / "c.parquet").write_bytes(b"PAR1 no, not really PAR1")
    with pytest.raises(InputError):
        pull(other, REPO, reader)
    assert len(other) == 3


def test_files_that_arrive_otherwise_than_described(
    hub: LocalHub, registry: Registry, other: Registry, owner: Options, reader: Options, tmp_path: Path
) -> None:
    push(registry, REPO, owner)
    path = hub.root / STORED / "data" / "models-00001.parquet"
    # The server states the digest of other content.
    digests = {"data/models-00001.parquet": hashlib.sha256(b"other").hexdigest()}
    (hub.root / STORED / ".digests.json").write_text(json.dumps(digests))
    path.touch()
    with pytest.raises(HubError, match="did not arrive as it was described"):
        pull(other, REPO, reader)
    assert len(other) == 8, "what came before is there"


def test_a_server_that_fails(
    hub: LocalHub,
    registry: Registry,
    other: Registry,
    owner: Options,
    reader: Options,
    capfd: pytest.CaptureFixture[str],
) -> None:
    push(registry, REPO, owner)
    for spoil in (
        lambda: hub.faults.server_errors(None, status=500, repo=STORED),
        lambda: hub.faults.truncate(None, port="cdn"),
        lambda: hub.faults.drop(None, port="cdn"),
    ):
        spoil()
        with pytest.raises(HubUnreachable) as caught:
            pull(other, REPO, reader)
        message = str(caught.value)
        assert "\n" not in message and "Signature" not in message and "http" not in message
        hub.faults.clear()
    assert "Signature" not in capfd.readouterr().err
    hub.faults.gated.add(STORED)
    with pytest.raises(HubDenied):
        pull(other, REPO, reader)
