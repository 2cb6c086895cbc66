"""Verification finds what is broken, and repair removes that and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lineage_plugin.fingerprint.code import CODE_BYTES
from lineage_plugin.fingerprint.registry.columns import table_of
from lineage_plugin.fingerprint.registry.entries import Entry, Key
from lineage_plugin.fingerprint.registry.store import Registry
from lineage_plugin.fingerprint.registry.table import Table
from lineage_plugin.fingerprint.registry.verify import Fault
from tests.fingerprint.registry.samples import data, entry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry", create=True)


def put(registry: Registry, *entries: Entry) -> None:
    """Append rows as they are, past all checks."""
    Table(registry.folder, create=False).append(table_of(entries))


def test_what_is_right_is_left_alone(registry: Registry) -> None:
    registry.add(entry(number) for number in range(100))
    told: list[tuple[str, int, int]] = []
    verified = registry.verify(repair=True, progress=lambda *at: told.append(at))
    assert (verified.rows, verified.broken, verified.outdated, verified.repaired) == (100, (), (), True)
    assert told == [("verifying", 64, 100), ("verifying", 100, 100)]
    assert len(registry) == 100


def test_broken_rows_are_told_and_removed(registry: Registry) -> None:
    good = [entry(number) for number in range(4)]
    registry.add(good)
    junk = replace(entry(10), fingerprint=b"no fingerprint")
    bad = data(11)[:-1] + bytes([data(11)[-1] ^ 1])
    flipped = replace(entry(11), fingerprint=bad)
    other = replace(entry(12), fingerprint=data(13), listing=replace(entry(13).listing, id="owner0/model-12"))
    put(registry, junk, flipped, other, good[1])
    expected = {
        junk.listing.key: "",
        flipped.listing.key: "its digest is another",
        Key("owner0/model-12", entry(13).listing.commit): "of another model or commit",
        good[1].listing.key: "there is another entry",
    }
    for repair in (False, True):
        verified = registry.verify(repair=repair)
        assert verified.rows == 8
        assert {fault.key for fault in verified.broken} == set(expected)
        for fault in verified.broken:
            assert isinstance(fault, Fault) and expected[fault.key] in fault.problem
    assert registry.verify().rows == 4
    assert set(registry.catalogue()) == {one.listing.key for one in good}
    assert registry.verify().broken == ()
    for one in good:
        found = registry.get(*one.listing.key)
        assert found is not None and found.fingerprint == one.fingerprint


def test_a_right_double_survives_a_wrong_one(registry: Registry) -> None:
    right = entry(1)
    put(registry, replace(right, fingerprint=b"junk"), right, right)
    assert len(registry.verify(repair=True).broken) == 2
    found = registry.get(*right.listing.key)
    assert found is not None and found.fingerprint == right.fingerprint
    assert len(registry) == 1


def test_what_follows_from_a_fingerprint_is_brought_up_to_date(registry: Registry) -> None:
    stale = replace(entry(1), code=bytes(CODE_BYTES))
    renamed = replace(entry(2), listing=replace(entry(2).listing, family="unknown", layers=99))
    put(registry, stale, renamed, entry(3))
    before = registry.get(*stale.listing.key)
    assert registry.verify().outdated == (stale.listing.key, renamed.listing.key)
    assert registry.verify(repair=True).broken == ()
    assert registry.verify().outdated == ()
    after = registry.get(*stale.listing.key)
    assert before is not None and after is not None
    assert (after.code, after.listing) == (entry(1).code, before.listing)
    assert len(registry) == 3


def test_bits_that_flip_on_the_disk_are_found(registry: Registry) -> None:
    registry.add([entry(number) for number in range(3)])
    (path,) = (registry.folder / "models.lance" / "data").iterdir()
    content = path.read_bytes()
    at = content.index(data(1)) + len(data(1)) - 50
    path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    assert [fault.key for fault in registry.verify().broken] == [entry(1).listing.key]
