"""Building: what is there is not read again, what fails is told, what is finished is kept."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lineage_plugin.errors import HubNotFound, UsageError
from lineage_plugin.fingerprint.file import read_fingerprint
from lineage_plugin.fingerprint.registry import build as building
from lineage_plugin.fingerprint.registry.build import Built, Failure, Model, Pinned, build, models_in, pin
from lineage_plugin.fingerprint.registry.entries import Key
from lineage_plugin.fingerprint.registry.store import Added, Registry
from lineage_plugin.options import Options
from tests.fingerprint.registry.samples import EXAMPLES, commit, entry
from tests.hub import LocalHub


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry", create=True)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))


class Maker:
    """Pins and makes samples; remembers what was asked of it."""

    def __init__(self, *, failing: set[int] = frozenset(), known: bool = True) -> None:  # type: ignore[assignment]
        self.failing, self.known = failing, known
        self.made: list[int] = []
        self.most = self.running = 0
        self._lock = threading.Lock()

    def __call__(self, model: Model) -> Pinned:
        number = int(model.ref)
        key = Key(f"owner{number % 3}/model-{number}", commit(number))

        def make() -> object:
            with self._lock:
                self.made.append(number)
                self.running += 1
                self.most = max(self.most, self.running)
            time.sleep(0.005)
            with self._lock:
                self.running -= 1
            if number in self.failing:
                raise HubNotFound(key.id, "there is no such model", "Check the spelling.")
            return entry(number)

        return Pinned(key if self.known else None, make)  # type: ignore[arg-type]


def models(count: int) -> list[Model]:
    return [Model(str(number)) for number in range(count)]


def test_a_second_run_finishes_the_first(registry: Registry) -> None:
    maker, told, failed = Maker(failing={3, 7}), [], []
    built = build(registry, models(20), maker, workers=3, progress=lambda *at: told.append(at), failed=failed.append)
    assert (built.added, built.skipped, len(built.failures)) == (Added(added=18), 0, 2)
    assert told == [("fingerprinting", done, 20) for done in range(1, 21)]
    assert {failure.model.ref for failure in built.failures} == {"3", "7"}
    assert failed == list(built.failures)
    assert failed[0].problem in {
        f"owner{n}/model-{m}: there is no such model. Check the spelling." for n, m in ((0, 3), (1, 7))
    }
    assert 1 < maker.most <= 3
    again = Maker()
    built = build(registry, models(22), again, workers=2)
    assert (built.added, built.skipped, built.failures) == (Added(added=4), 18, ())
    assert sorted(again.made) == [3, 7, 20, 21]
    assert len(registry) == 22


def test_without_a_cheap_commit_what_is_made_again_is_not_added_again(registry: Registry) -> None:
    build(registry, models(5), Maker(known=False))
    assert build(registry, models(6), Maker(known=False)).added == Added(added=1, unchanged=5)


def test_defects_hit_one_model(registry: Registry) -> None:
    def broken(model: Model) -> Pinned:
        if model.ref == "1":
            raise ZeroDivisionError("no\n::error::luck")
        return Maker()(model)

    built = build(registry, models(3), broken)
    assert built.added == Added(added=2)
    assert [failure.problem for failure in built.failures] == [
        "1: cannot be read (ZeroDivisionError: no : :error: :luck)"
    ]


def test_entries_are_written_while_others_are_made(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    add = Registry.add

    def counted(self: Registry, entries: list[object], **options: bool) -> Added:
        sizes.append(len(entries))
        return add(self, entries, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Registry, "add", counted)
    build(registry, models(40), Maker(), workers=4)
    assert sum(sizes) == 40
    assert max(sizes) < 16 + 4
    sizes.clear()
    monkeypatch.setattr(building, "_SECONDS", 0.3)
    done = threading.Event()

    def slow(model: Model) -> Pinned:
        if model.ref == "101":
            # It ends only when what was made before it has been written.
            assert done.wait(60)
        return Maker()(model)

    def watch() -> None:
        while len(registry) < 41:
            time.sleep(0.01)
        done.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert build(registry, [Model("100"), Model("101")], slow, workers=2).added == Added(added=2)
    watcher.join()


def test_models_may_come_one_by_one(registry: Registry) -> None:
    asked = 0

    def coming() -> Iterator[Model]:
        nonlocal asked
        for model in models(30):
            asked += 1
            yield model

    def first(model: Model) -> Pinned:
        assert asked <= int(model.ref) + 4, "no more is taken than hands are free"
        return Maker()(model)

    assert build(registry, coming(), first, workers=2).added == Added(added=30)


def test_what_is_finished_is_written_when_the_run_breaks(registry: Registry) -> None:
    def breaking() -> Iterator[Model]:
        yield from models(5)
        time.sleep(0.5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(registry, breaking(), Maker(), workers=8)
    assert len(registry) == 0 or len(registry) <= 5
    before = len(registry)
    assert build(registry, models(5), Maker()).skipped == before

    def late() -> Iterator[Model]:
        yield from [Model(str(number)) for number in range(10, 20)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(registry, late(), Maker(), workers=1)
    held = {key.id for key in registry.catalogue()}
    assert {f"owner{n % 3}/model-{n}" for n in range(10, 17)} <= held


def test_there_must_be_a_worker(registry: Registry) -> None:
    with pytest.raises(UsageError):
        build(registry, [], Maker(), workers=0)
    assert build(registry, [], Maker()) == Built(Added(), 0, (), pytest.approx(0, abs=5))


# Folders and the Hub ------------------------------------------------------------------------------------------------


def test_a_folder_of_models(registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    shutil.copytree(EXAMPLES / "base", folder / "acme" / "base")
    shutil.copytree(EXAMPLES / "liar", folder / "liar")
    shutil.copytree(EXAMPLES / "twin", folder / "deep" / "er" / "twin")
    shutil.copytree(EXAMPLES / "twin", folder / ".cache" / "twin")
    (folder / "notes").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "model.safetensors").write_bytes(b"x" * 100)
    found = list(models_in(folder))
    assert sorted(model.name for model in found) == ["acme/base", "broken", "liar", "twin"]
    run = partial(pin, options=Options(offline=True))
    built = build(registry, found, run)
    assert built.added == Added(added=3)
    (failure,) = built.failures
    assert isinstance(failure, Failure) and failure.model.name == "broken" and "\n" not in failure.problem
    listed = {listing.id: listing for listing in registry.listed()}
    assert set(listed) == {"acme/base", "liar", "twin"}
    assert listed["liar"].bases == ("examples/base",)
    assert all(len(listing.commit) == 64 and listing.commit == listing.content for listing in listed.values())
    assert build(registry, found, run).skipped == 3
    # Other weights in the same folder are another model of that name.
    shutil.copyfile(EXAMPLES / "honest" / "model.safetensors", folder / "liar" / "model.safetensors")
    built = build(registry, found, run)
    assert (built.added, built.skipped) == (Added(added=1), 2)
    assert len(registry.listed("liar")) == 2
    assert registry.verify().broken == ()


def test_the_models_folder_itself_and_none(tmp_path: Path) -> None:
    (model,) = models_in(EXAMPLES / "base")
    assert model.name == "base"
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(UsageError):
            list(models_in(path))


def test_models_of_the_hub_are_asked_for_their_commit_first(registry: Registry, hub: LocalHub) -> None:
    for name in ("base", "liar", "twin"):
        shutil.copytree(EXAMPLES / name, hub.root / "acme" / name)
    refs = [Model(f"acme/{name}") for name in ("base", "liar", "twin", "absent")]
    run = partial(pin, options=Options(endpoint=hub.endpoint))
    built = build(registry, refs, run)
    assert (built.added, built.skipped) == (Added(added=3), 0)
    (failure,) = built.failures
    assert failure.problem.startswith("acme/absent: there is no such model")
    for name in ("base", "liar", "twin"):
        found = registry.get(f"acme/{name}")
        assert found is not None and found.listing.commit == hub.commit_id(f"acme/{name}")
        assert read_fingerprint(found.fingerprint, "x").source.revision == found.listing.commit
    hub.log.clear()
    assert build(registry, refs[:3], run).skipped == 3
    assert hub.log.requests() == 3, "one request a model"
    hub.log.clear()
    pinned = [Model(f"acme/{name}@{hub.commit_id(f'acme/{name}')}") for name in ("base", "liar")]
    assert build(registry, pinned, run).skipped == 2
    assert hub.log.requests() == 0, "a commit that was given need not be asked for"
    # A new commit is a new entry.
    (hub.root / "acme" / "base" / "README.md").write_text("---\nbase_model: acme/root\n---\n")
    built = build(registry, refs[:3], run)
    assert (built.added, built.skipped) == (Added(added=1), 2)
    found = registry.get("acme/base")
    assert found is not None and found.listing.bases == ("acme/root",)
    assert len(registry) == 4


def test_a_server_that_fails_is_no_end(registry: Registry, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from lineage_plugin.checkpoint import transport

    monkeypatch.setattr(transport.Patience, "pause", lambda *_: 0.0)
    for name in ("base", "liar"):
        shutil.copytree(EXAMPLES / name, hub.root / "acme" / name)
    refs = [Model("acme/base"), Model("acme/liar")]
    run = partial(pin, options=Options(endpoint=hub.endpoint))
    hub.faults.server_errors(None, repo="acme/liar")
    built = build(registry, refs, run)
    assert (built.added, len(built.failures)) == (Added(added=1), 1)
    hub.faults.clear()
    assert build(registry, refs, run).added == Added(added=1)
