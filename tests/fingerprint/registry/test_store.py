"""The registry: what is put in comes out, once, and nothing else."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from lineage_plugin.errors import InputError, UnreadableCheckpoint, UsageError
from lineage_plugin.fingerprint.code import CODE_BYTES, search_code
from lineage_plugin.fingerprint.file import read_fingerprint, to_bytes
from lineage_plugin.fingerprint.registry.entries import Key, entry_of, replaces
from lineage_plugin.fingerprint.registry.store import Added, Registry
from lineage_plugin.fingerprint.registry.table import Table
from tests.fingerprint.registry.samples import commit, data, entry, example


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry", create=True)


# Entries ------------------------------------------------------------------------------------------------------------


def test_an_entry_is_read_off_its_fingerprint() -> None:
    found = example()
    raw = data(7)
    made = entry_of(raw, "here", ["acme/base", "two\nlines", "", "acme/base"])
    assert made.fingerprint == raw
    assert made.code == search_code(found).tobytes()
    listing = made.listing
    assert listing.key == Key("owner1/model-7", commit(7))
    assert (listing.family, listing.layers, listing.width) == (found.family, found.layers, found.width)
    assert (listing.parameters, listing.format) == (found.source.parameters, found.source.format)
    assert listing.bases == ("acme/base", "two lines")
    assert listing.sha256 == hashlib.sha256(raw).hexdigest()
    assert len(entry_of(raw, "here", map(str, range(10_000))).listing.bases) == 64
    with pytest.raises(UnreadableCheckpoint, match="here"):
        entry_of(raw[:-1], "here")


def test_models_without_a_commit_are_known_by_their_content() -> None:
    found = example()
    one, other = "a" * 64, "b" * 64
    for files, content in (
        ({"x": (1, one), "y": (2, other)}, hashlib.sha256(f"{one}\n{other}".encode()).hexdigest()),
        ({"x": (1, other), "y": (2, one)}, hashlib.sha256(f"{one}\n{other}".encode()).hexdigest()),
        ({"x": (1, one), "y": (2, None)}, ""),
    ):
        raw = to_bytes(replace(found, source=replace(found.source, files=files)))
        listing = entry_of(raw, "here").listing
        assert listing.content == content
        assert listing.commit == (content or hashlib.sha256(raw).hexdigest())


@pytest.mark.parametrize(
    ("new", "old", "newer"),
    [
        ("lineage-plugin 1.10.0", "lineage-plugin 1.9.3", True),
        ("lineage-plugin 1.9.3", "lineage-plugin 1.10.0", False),
        ("lineage-plugin 1.2.0", "lineage-plugin 1.2.0", False),
        ("lineage-plugin 1.2.0", "lineage-plugin 1.2", True),
        ("lineage-plugin 1.2.0rc1", "lineage-plugin 1.2.0", False),
        ("another 9.0", "lineage-plugin 1.0", False),
        ("lineage-plugin", "lineage-plugin", False),
    ],
)
def test_which_tool_is_newer(new: str, old: str, newer: bool) -> None:
    assert replaces(new, old) is newer


# In and out ---------------------------------------------------------------------------------------------------------


def test_what_is_added_comes_out_again(registry: Registry) -> None:
    entries = [entry(number, bases=["acme/base"]) for number in range(20)]
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    assert registry.add(entries) == Added(added=20)
    again = Registry.open(registry.folder)
    assert len(again) == 20
    for added in entries:
        found = again.get(*added.listing.key)
        assert found is not None
        assert (found.fingerprint, found.code) == (added.fingerprint, added.code)
        assert found.listing.added is not None and before < found.listing.added < datetime.now(timezone.utc)
        assert replace(found.listing, added=None) == added.listing
    assert read_fingerprint(found.fingerprint, "x").source.id == found.listing.id
    assert again.get("owner0/model-0", commit(1)) is None
    assert again.get("owner0/absent") is None


def test_the_commit_added_last_stands_for_the_model(registry: Registry) -> None:
    older, newer = entry(1), entry(1)
    raw = read_fingerprint(newer.fingerprint, "x")
    newer = entry_of(to_bytes(replace(raw, source=replace(raw.source, revision=commit(99)))), "x")
    registry.add([newer])
    registry.add([older])
    found = registry.get(older.listing.id)
    assert found is not None and found.listing.commit == older.listing.commit
    assert len(registry) == 2


def test_adding_is_idempotent(registry: Registry) -> None:
    entries = [entry(number) for number in range(5)]
    registry.add(entries)
    assert registry.add([*entries[1:], entry(5), entry(5)]) == Added(added=1, unchanged=5)
    assert len(registry) == 6
    assert registry.add([]) == Added()


def test_another_fingerprint_replaces_only_an_older_ones(registry: Registry) -> None:
    held = entry(1)
    registry.add([held, entry(2)])
    other = entry(1, name="liar")
    with pytest.raises(UsageError, match=r"^owner1/model-1 at [0-9a-f]{12}: .* made by lineage-plugin 1\.2\.0\. "):
        registry.add([entry(3), other])
    assert len(registry) == 2, "a transaction is written as a whole or not at all"
    assert registry.add([entry(3), other], strict=False) == Added(added=1, kept=(held.listing.key,))
    found = registry.get(*held.listing.key)
    assert found is not None and found.fingerprint == held.fingerprint
    newer = entry(1, name="liar", tool="lineage-plugin 1.3.0")
    assert registry.add([newer, entry(4)]) == Added(added=1, replaced=1)
    assert registry.add([held], strict=False) == Added(kept=(held.listing.key,))
    assert registry.add([held], force=True) == Added(replaced=1)
    found = registry.get(*held.listing.key)
    assert found is not None and (found.fingerprint, found.code) == (held.fingerprint, held.code)
    assert len(registry) == 4
    assert registry.verify().broken == ()


def test_the_same_key_twice_in_one_call(registry: Registry) -> None:
    newer = entry(1, name="liar", tool="lineage-plugin 1.3.0")
    assert registry.add([entry(1), newer, entry(1)], strict=False) == Added(added=1, kept=(newer.listing.key,))
    found = registry.get(*newer.listing.key)
    assert found is not None and found.fingerprint == newer.fingerprint
    assert len(registry) == 1


def test_remove(registry: Registry) -> None:
    registry.add(entry(number) for number in range(6))
    assert registry.remove("owner1/model-1", commit(2)) == 0
    assert registry.remove("owner1/model-1", commit(1)) == 1
    assert registry.remove("owner2/model-2") == 1
    assert registry.remove("owner2/model-2") == 0
    assert registry.remove("' OR 1 = 1 --") == 0
    assert sorted(key.id for key in registry.catalogue()) == [f"owner{n % 3}/model-{n}" for n in (0, 3, 4, 5)]
    assert registry.add([entry(1)]) == Added(added=1)


def test_names_are_no_sql(registry: Registry) -> None:
    found = example()
    names = ["it's", "a'; DROP TABLE models; --", "per%cent_", "back\\slash", "näme"]
    readable = [name for name in names if "\\" not in name]
    registry.add(
        entry_of(to_bytes(replace(found, source=replace(found.source, id=name))), "sample") for name in readable
    )
    for name in readable:
        assert registry.get(name) is not None, name
    assert registry.remove(names[0]) == 1
    assert len(registry) == len(readable) - 1
    assert registry.get(names[3]) is None


def test_list_and_stats(registry: Registry) -> None:
    registry.add([entry(number) for number in range(9)])
    registry.add([entry_of(data(20, family="gpt2"), "x")])
    assert [listing.id for listing in registry.listed("*/model-[12]")] == ["owner1/model-1", "owner2/model-2"]
    assert [listing.id for listing in registry.listed(owner="owner1")] == [f"owner1/model-{n}" for n in (1, 4, 7)]
    assert [listing.id for listing in registry.listed("*-4", owner="owner2")] == []
    assert len(registry.listed()) == 10
    stats = registry.stats()
    assert (stats.rows, stats.families, stats.duplicates) == (10, {"llama": 9, "gpt2": 1}, 0)
    assert list(stats.families) == ["llama", "gpt2"]
    assert stats.bytes > 10 * len(data(0))


def test_copies_of_weights_are_counted(registry: Registry) -> None:
    found = example()
    for name, digest in (("one", "a"), ("two", "a"), ("three", "b")):
        source = replace(found.source, id=name, files={"model.safetensors": (1, digest * 64)})
        registry.add([entry_of(to_bytes(replace(found, source=source)), "x")])
    assert registry.stats().duplicates == 2


# Codes and fingerprints ---------------------------------------------------------------------------------------------


def test_codes_and_fetch(registry: Registry) -> None:
    entries = {}
    for start in range(0, 30, 5):
        some = [entry(number, name="base" if number % 2 else "liar") for number in range(start, start + 5)]
        registry.add(some)
        entries |= {one.listing.key: one for one in some}
    catalogue = registry.codes()
    assert catalogue.codes.shape == (30, CODE_BYTES) and catalogue.codes.dtype == np.uint8
    assert len(catalogue) == 30
    assert {catalogue.key(row) for row in range(30)} == set(catalogue) == set(entries)
    for row in range(30):
        assert catalogue.codes[row].tobytes() == entries[catalogue.key(row)].code
    wanted = [17, 3, 29, 3]
    fetched = registry.fetch(catalogue, wanted)
    assert fetched == [entries[catalogue.key(row)].fingerprint for row in wanted]
    assert registry.fetch(catalogue, []) == []
    assert len(set(fetched)) == 3
    assert registry.catalogue().codes.shape == (30, 0)
    assert catalogue.nbytes < (CODE_BYTES + 120) * 30


def test_an_empty_registry(registry: Registry) -> None:
    assert registry.codes().codes.shape == (0, CODE_BYTES)
    assert list(registry.catalogue()) == []
    assert registry.listed() == []
    assert registry.stats().rows == len(registry) == 0
    assert registry.verify().rows == 0


def test_a_catalogue_outlives_what_happens_to_the_table(registry: Registry) -> None:
    entries = [entry(number) for number in range(40)]
    for start in range(0, 40, 4):
        registry.add(entries[start : start + 4])
    known = {one.listing.key: one.fingerprint for one in entries}
    catalogue = registry.codes()
    other = Registry.open(registry.folder)
    other.remove(*catalogue.key(5))
    other.compact()
    newer = entry(99)
    other.add([newer])
    # Places have moved and files are gone, for this reader and for one that sees the newest version.
    for reader in (registry, other):
        fetched = reader.fetch(catalogue, range(40))
        for row, raw in enumerate(fetched):
            assert raw == (None if row == 5 else known[catalogue.key(row)])
    assert len(registry) == 40
    assert len(registry.codes()) == 40


def test_small_files_are_gathered_and_nothing_is_lost(registry: Registry) -> None:
    for number in range(140):
        registry.add([entry(number)])
    assert len(list((registry.folder / "models.lance" / "data").iterdir())) < 70
    assert sorted(key.commit for key in registry.catalogue()) == sorted(commit(number) for number in range(140))
    assert registry.verify().broken == ()


def test_compacting_forgets(registry: Registry) -> None:
    gone = entry(3, name="liar")
    bits = gone.fingerprint[-400:]
    registry.add([*(entry(number) for number in range(5, 10)), gone])

    def there() -> bool:
        return any(bits in path.read_bytes() for path in registry.folder.rglob("*") if path.is_file())

    assert there(), "or this test shows nothing"
    registry.remove(gone.listing.id)
    registry.compact()
    assert not there()
    assert len(registry) == 5


# Folders ------------------------------------------------------------------------------------------------------------


def test_folders_that_are_no_registry(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no registry"):
        Registry.open(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"no registry, and not empty \(model.safetensors\)"):
        Registry.open(tmp_path / "model", create=True)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError):
        Registry.open(tmp_path / "file", create=True)
    with pytest.raises(UsageError):
        Registry.open(tmp_path / "file")


def test_making_a_registry_that_was_killed_before_is_finished(tmp_path: Path) -> None:
    for name in ("_versions", "_transactions", "data"):
        (tmp_path / "registry" / "models.lance" / name).mkdir(parents=True)
    with pytest.raises(UsageError, match="there is no registry"):
        Registry.open(tmp_path / "registry")
    registry = Registry.open(tmp_path / "registry", create=True)
    registry.add([entry(1)])
    assert len(Registry.open(tmp_path / "registry", create=True)) == 1


@pytest.mark.parametrize("name", ["with space", "per%20cent", "ha#sh", "que?ry", "ümlaut", "s3:x"])
def test_any_folder_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with Registry.open(name, create=True) as registry:
        registry.add([entry(1)])
    assert len(Registry.open(tmp_path / name)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_tables_of_another_form_are_refused(tmp_path: Path) -> None:
    import lancedb
    import pyarrow as pa

    for number, table in enumerate(
        (pa.table({"id": ["x"]}), pa.table({"id": ["x"]}).replace_schema_metadata({"format": "lineage-registry/1"}))
    ):
        folder = tmp_path / str(number)
        lancedb.connect(str(folder)).create_table("models", table)
        with pytest.raises(InputError, match="no registry of the form lineage-registry/1"):
            Registry.open(folder)


@pytest.mark.parametrize("place", ["_versions", "data"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "gone"])
def test_damaged_tables_give_one_line(tmp_path: Path, place: str, damage: str) -> None:
    registry = Registry.open(tmp_path / "registry", create=True)
    registry.add([entry(number) for number in range(3)])
    for path in (registry.folder / "models.lance" / place).iterdir():
        content = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "cut" else bytes(255 - b for b in content))

    def used() -> None:
        found = Registry.open(tmp_path / "registry")
        found.fetch(found.codes(), [0, 1, 2])

    with pytest.raises((InputError, UsageError)) as caught:
        used()
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_written_to_can_be_read(tmp_path: Path) -> None:
    registry = Registry.open(tmp_path / "registry", create=True)
    registry.add([entry(1)])
    lock = registry.folder / "registry.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()  # what even root cannot open for writing
    assert len(registry.codes()) == 1
    with pytest.raises(UsageError, match="cannot be written to"):
        registry.add([entry(2)])


def test_writers_wait_but_not_for_ever(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    from lineage_plugin.fingerprint.registry import lock

    monkeypatch.setattr(lock.locked, "__defaults__", (0.2,), raising=False)
    monkeypatch.setattr(lock.locked.__wrapped__, "__defaults__", (0.2,))
    with FileLock(str(registry.folder / "registry.lock")), pytest.raises(UsageError, match="has been writing"):
        registry.add([entry(1)])
    assert registry.add([entry(1)]) == Added(added=1)


def test_an_interrupt_waits_for_the_transaction(tmp_path: Path) -> None:
    table = Table(tmp_path / "registry", create=True)
    finished = []

    def slow(lance: object) -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        finished.append(lance)

    with pytest.raises(KeyboardInterrupt):
        table._transact(slow)
    assert finished, "the lock must not be given back before"


# The libraries ------------------------------------------------------------------------------------------------------


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)


def test_lancedb_is_imported_only_where_it_is_used() -> None:
    loaded = "[m for m in ('lancedb', 'pyarrow', 'filelock') if m in sys.modules]"
    code = f"import sys, lineage_plugin, lineage_plugin.cli; lineage_plugin.check; print({loaded})"
    assert run(code).stdout.strip() == "[]"
    modules = ", ".join(f"lineage_plugin.fingerprint.registry.{name}" for name in ("store", "build", "hub", "exchange"))
    code = f"import sys, {modules}; print({loaded})"
    assert run(code).stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["lancedb", "pyarrow"])
def test_what_is_missing_is_named(name: str, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules[{name!r}] = None
from lineage_plugin.errors import UsageError
from lineage_plugin.fingerprint.registry.store import Registry
try:
    Registry.open({str(tmp_path / "registry")!r}, create=True)
except UsageError as error:
    print(error)
"""
    said = run(code).stdout
    assert said.count("\n") == 1
    assert "a registry needs lancedb" in said or f"a registry needs {name}" in said
    assert "pip install 'lineage-plugin[registry]'" in said
