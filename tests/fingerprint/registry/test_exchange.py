"""Registries as Parquet files: what is exported comes in elsewhere, and nothing that is wrong does."""

from __future__ import annotations

import hashlib
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lineage_plugin.errors import InputError, UsageError
from lineage_plugin.fingerprint.file import MAX_FILE
from lineage_plugin.fingerprint.registry import exchange
from lineage_plugin.fingerprint.registry.columns import exchange_of, exchange_schema
from lineage_plugin.fingerprint.registry.exchange import export_parquet, import_parquet, merge, write_parquet
from lineage_plugin.fingerprint.registry.store import Added, Registry
from tests.fingerprint.registry.samples import data, entry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "registry", create=True)


@pytest.fixture
def other(tmp_path: Path) -> Registry:
    return Registry.open(tmp_path / "other", create=True)


def rows(registry: Registry) -> dict[Any, tuple[Any, ...]]:
    found = {}
    for one in registry.entries():
        listing = one.listing
        found[listing.key] = (listing.bases, listing.sha256, listing.parameters, one.fingerprint, one.code)
    return found


def test_there_and_back(registry: Registry, other: Registry, tmp_path: Path) -> None:
    registry.add(entry(number, bases=["acme/base", "acme/other"][: number % 3]) for number in range(300))
    file = tmp_path / "models.parquet"
    assert export_parquet(registry, file) == 300
    result = import_parquet(other, file)
    assert (result.added, result.refused, result.problems) == (Added(added=300), 0, ())
    assert rows(other) == rows(registry)
    assert import_parquet(other, file).added == Added(unchanged=300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models.parquet", "other", "registry"]


def test_anything_that_reads_parquet_reads_it(registry: Registry, tmp_path: Path) -> None:
    registry.add([entry(1, bases=["a/b", "c/d"]), entry(2)])
    export_parquet(registry, tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.metadata[b"format"] == b"lineage-registry/1"
    assert table["id"].to_pylist() == ["owner1/model-1", "owner2/model-2"]
    assert table["bases"].to_pylist() == ["a/b\nc/d", ""]
    assert table["fingerprint"].to_pylist() == [data(1), data(2)]
    assert {str(kind) for kind in table.schema.types} == {"string", "int64", "binary"}


def test_exports_are_whole_or_not_there(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.parquet"
    file.write_bytes(b"before")

    def breaking() -> Any:
        yield entry(1)
        raise InputError("registry", "broken")

    with pytest.raises(InputError):
        write_parquet(breaking(), file)
    assert file.read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["registry", "x.parquet"]
    assert export_parquet(registry, file) == 0
    assert pq.read_table(file).num_rows == 0
    with pytest.raises(UsageError, match="cannot be written"):
        export_parquet(registry, tmp_path / "absent" / "x.parquet")
    with pytest.raises(UsageError, match="is no file that could be replaced"):
        export_parquet(registry, tmp_path / "registry")


def test_merging_keeps_ours_unless_theirs_are_newer(registry: Registry, other: Registry) -> None:
    ours = [entry(1), entry(2), entry(3, tool="lineage-plugin 1.0.0")]
    registry.add(ours)
    other.add([entry(1), entry(2, name="liar"), entry(3, name="liar"), entry(4)])
    result = merge(registry, other)
    assert result.added == Added(added=1, replaced=1, unchanged=1, kept=(ours[1].listing.key,))
    for number, name in ((1, "base"), (2, "base"), (3, "liar"), (4, "base")):
        found = registry.get(f"owner{number % 3}/model-{number}")
        assert found is not None and found.fingerprint == data(number, name=name)
    assert len(other) == 4
    with pytest.raises(UsageError, match="into itself"):
        merge(registry, Registry.open(registry.folder))


# Hostile files ------------------------------------------------------------------------------------------------------


def forged(tmp_path: Path, **changed: Any) -> Path:
    """Write rows 0 to 4 with some columns replaced."""
    table = exchange_of([entry(number) for number in range(5)])
    for name, values in changed.items():
        kind = table.schema.field(name).type
        table = table.set_column(table.schema.get_field_index(name), pa.field(name, kind), pa.array(values, kind))
    pq.write_table(table, tmp_path / "forged.parquet")
    return tmp_path / "forged.parquet"


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def test_wrong_rows_are_refused_one_by_one(registry: Registry, tmp_path: Path) -> None:
    raw = [data(number) for number in range(5)]
    raw[1] = raw[1][:-1]
    raw[2] = b"\x00" * (MAX_FILE + 1)
    raw[3] = data(7)
    file = forged(tmp_path, fingerprint=raw, sha256=[sha(one) for one in raw])
    result = import_parquet(registry, file)
    assert result.added == Added(added=2)
    assert result.refused == 3
    assert [problem.split(":")[0] for problem in result.problems] == [f"forged.parquet, row {n}" for n in (1, 2, 3)]
    assert "is that of another model" in result.problems[2]
    assert {key.id for key in registry.catalogue()} == {"owner0/model-0", "owner1/model-4"}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"sha256": ["0" * 64] * 5}, "digest"),
        ({"sha256": [None] * 5}, "digest"),
        ({"fingerprint": [None] * 5}, "digest"),
        ({"id": ["owner0/model-0\x1b[31m\n::error::x"] * 5}, "another model"),
        ({"id": [None] * 5}, "another model"),
        ({"commit": ["main"] * 5}, "another model"),
    ],
)
def test_what_is_stated_beside_must_agree(
    registry: Registry, tmp_path: Path, changed: dict[str, Any], problem: str
) -> None:
    result = import_parquet(registry, forged(tmp_path, **changed))
    assert (result.added, result.refused) == (Added(), 5)
    assert all(problem in line and "\n" not in line and "\x1b" not in line for line in result.problems)
    assert len(registry) == 0


def test_what_is_not_believed_does_not_matter(registry: Registry, tmp_path: Path) -> None:
    bases = ["x" * (1 << 20), "a\nb\x1b[31m\u202ec", None, "\n".join(map(str, range(100_000))), ""]
    result = import_parquet(registry, forged(tmp_path, layers=[-1] * 5, family=["lies"] * 5, bases=bases))
    assert result.added == Added(added=5)
    found = {one.listing.id[-1]: one.listing for one in registry.entries()}
    assert {listing.family for listing in found.values()} == {"llama"}
    assert all(len(listing.bases) <= 64 and len("".join(listing.bases)) <= 64 * 200 for listing in found.values())
    assert found["1"].bases == ("a", "bc")
    assert found["2"].bases == ()


def test_many_wrong_rows_do_not_fill_the_memory(registry: Registry, tmp_path: Path) -> None:
    table = exchange_of([entry(0)] * 500)
    table = table.set_column(
        table.schema.get_field_index("commit"), exchange_schema().field("commit"), pa.array(["0" * 40] * 500)
    )
    pq.write_table(table, tmp_path / "x.parquet")
    result = import_parquet(registry, tmp_path / "x.parquet")
    assert (result.refused, len(result.problems)) == (500, 100)


def test_files_that_are_no_registry(registry: Registry, tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    write_parquet([entry(number) for number in range(300)], good)
    content = good.read_bytes()
    table = pq.read_table(good)
    wrong: dict[str, Any] = {
        "empty": b"",
        "magic alone": b"PAR1PAR1",
        "no parquet": b"x" * 5000,
        "cut": content[: len(content) // 2],
        "footer of zeros": content[:-300] + bytes(292) + content[-8:],
        "footer too long": content[:-8] + (1 << 31).to_bytes(4, "little")[:4] + b"PAR1",
        "no fingerprints": table.drop_columns(["fingerprint"]),
        "texts": table.set_column(0, "id", pa.array(list(range(300)))),
        "list": table.set_column(table.schema.get_field_index("bases"), "bases", pa.array([["x"]] * 300)),
        "nested": pa.table({name: pa.array([[{"x": 1}]] * 3) for name in table.schema.names}),
        "dictionary": table.set_column(0, "id", table["id"].dictionary_encode()),
    }
    for name, value in wrong.items():
        path = tmp_path / f"{name}.parquet"
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            pq.write_table(value, path)
        with pytest.raises(InputError) as caught:
            import_parquet(registry, path)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value), name
    assert len(registry) == 0
    with pytest.raises(UsageError, match="no such file"):
        import_parquet(registry, tmp_path)
    with pytest.raises(UsageError, match="no such file"):
        import_parquet(registry, tmp_path / "absent")


def test_damage_anywhere_is_an_error_or_a_refusal(registry: Registry, tmp_path: Path) -> None:
    good = tmp_path / "good.parquet"
    write_parquet([entry(number) for number in range(3)], good)
    content, draw = good.read_bytes(), random.Random(1)
    known = {entry(number).listing.key: data(number) for number in range(3)}
    path = tmp_path / "bad.parquet"
    for _ in range(150):
        bad = bytearray(content)
        for _ in range(draw.choice((1, 1, 4, 40))):
            # The description at the end is a small part, and the one that matters.
            at = draw.randrange(len(bad)) if draw.random() < 0.4 else draw.randrange(len(bad) - 4000, len(bad))
            bad[at] = draw.randrange(256)
        path.write_bytes(bad)
        with suppress(InputError):
            import_parquet(registry, path)
    assert {one.listing.key: one.fingerprint for one in registry.entries()}.items() <= known.items()


def test_bombs_are_seen_before_they_unpack(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_GROUP_BYTES", 4 << 20)
    monkeypatch.setattr(exchange, "_GROUP_ROWS", 1000)
    names = ["id", "commit", "sha256", "bases"]
    for rows, size in ((5, 1 << 20), (1001, 0)):
        table = pa.table({name: pa.array(["x"] * rows) for name in names})
        table = table.append_column("fingerprint", pa.array([bytes(size)] * rows, pa.binary()))
        path = tmp_path / f"{rows}.parquet"
        pq.write_table(table, path, compression="zstd", use_dictionary=False)
        assert path.stat().st_size < 1 << 16
        with pytest.raises(InputError, match=f"row group 0 has {rows} rows"):
            import_parquet(registry, path)


def test_repeated_values_are_not_unpacked_at_once(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One value of a megabyte for 600 rows: 600 MB if they were read together.
    raw = bytes(MAX_FILE)
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array([raw], pa.binary()))
    names = ["id", "commit", "sha256", "bases"]
    table = pa.table({name: pa.array(["x"] * 600) for name in names}).append_column("fingerprint", values)
    path = tmp_path / "repeated.parquet"
    pq.write_table(table, path, store_schema=False)
    assert path.stat().st_size < 4 << 20
    most, verified = 0, exchange._verified

    def watched(offer: Any) -> Any:
        nonlocal most
        most = max(most, pa.total_allocated_bytes())
        return verified(offer)

    monkeypatch.setattr(exchange, "_verified", watched)
    result = import_parquet(registry, path)
    assert (result.added, result.refused) == (Added(), 600)
    assert 0 < most < 100 << 20
