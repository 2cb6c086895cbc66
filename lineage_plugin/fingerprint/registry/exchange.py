"""Registries as Parquet files, and one registry into another.

Whatever comes in is taken apart anew: of a row only the fingerprint and the bases that a card declared are believed,
everything else is read off the fingerprint and must agree.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import InputError, UsageError
from lineage_plugin.fingerprint.file import MAX_FILE
from lineage_plugin.fingerprint.registry.columns import exchange_of, exchange_schema
from lineage_plugin.fingerprint.registry.entries import Entry, Key, entry_of
from lineage_plugin.fingerprint.registry.extra import parquet
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.fingerprint.registry.store import Added, Registry

__all__ = ["Merged", "export_parquet", "import_parquet", "keys_of", "merge", "write_parquet"]

_ROWS_AT_ONCE = 256
"""Rows of a row group; with the largest fingerprints, and the rest of a row, they stay below ``_GROUP_BYTES``."""
_GROUP_BYTES = 1 << 30
_GROUP_ROWS = 1 << 17
_READ_AT_ONCE = 16
_BASES_LENGTH = 1 << 16
_PROBLEMS = 100
_THRIFT_BYTES, _THRIFT_VALUES = 64 << 20, 4 << 20
"""Limits for the description at the end of a file."""
_FAILURES = (RuntimeError, OSError, ValueError, OverflowError, MemoryError)
"""What Arrow raises."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of entries that came from elsewhere.

    Attributes:
        added: Those that were right.
        refused: How many were not.
        problems: What was wrong with them, a line each, of the first 100.
    """

    added: Added
    refused: int = 0
    problems: tuple[str, ...] = ()

    def __add__(self, other: Merged) -> Merged:
        problems = (self.problems + other.problems)[:_PROBLEMS]
        return Merged(self.added + other.added, self.refused + other.refused, problems)


@dataclass(frozen=True, slots=True)
class _Offer:
    """A row from elsewhere."""

    where: str
    id: str
    commit: str
    sha256: str
    bases: tuple[str, ...]
    fingerprint: bytes


def merge(registry: Registry, other: Registry) -> Merged:
    """Add the entries of another registry.

    Args:
        registry: Where they go.
        other: Where they come from.

    Raises:
        UsageError: When both are one, or the registry cannot be written to.
        InputError: When one of them cannot be read.
    """
    if registry.folder.resolve() == other.folder.resolve():
        raise UsageError(f"{shown(registry.folder)}: a registry cannot be merged into itself")
    return _taken_in(registry, (_offer(entry) for entry in other.entries()))


def _offer(entry: Entry) -> _Offer:
    found = entry.listing
    return _Offer(shown(found.id), found.id, found.commit, found.sha256, found.bases, entry.fingerprint)


def export_parquet(registry: Registry, file: Path) -> int:
    """Write all entries to a Parquet file, whole or not at all.

    Args:
        registry: Where they are.
        file: The file; one that is there is replaced, and a link keeps pointing where it points.

    Returns:
        How many there were.

    Raises:
        UsageError: When the file cannot be written.
        InputError: When the registry cannot be read.
    """
    return write_parquet(registry.entries(), file)


def write_parquet(entries: Iterable[Entry], file: Path) -> int:
    """Write entries to a Parquet file, see :func:`export_parquet`."""
    pq, count = parquet(), 0
    file = file.resolve()
    if file.exists() and not file.is_file():
        raise UsageError(f"{shown(file)}: is no file that could be replaced; name another one")
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".tmp")
    except OSError as error:
        raise _unwritable(file, error) from None
    left = iter(entries)
    try:
        with os.fdopen(descriptor, "wb") as sink, pq.ParquetWriter(sink, exchange_schema(), compression="zstd") as out:
            while some := list(islice(left, _ROWS_AT_ONCE)):
                out.write_table(exchange_of(some))
                count += len(some)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(file)
    except OSError as error:
        raise _unwritable(file, error) from None
    finally:
        Path(name).unlink(missing_ok=True)
    return count


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _unwritable(file: Path, error: OSError) -> UsageError:
    return UsageError(f"{shown(file)}: cannot be written ({one_line(error.strerror or error)})")


def import_parquet(registry: Registry, file: Path) -> Merged:
    """Add the entries of a Parquet file.

    Args:
        registry: Where they go.
        file: What :func:`export_parquet` has written, anywhere.

    Raises:
        UsageError: When there is no such file, or the registry cannot be written to.
        InputError: When it is no Parquet file of a registry. What was read before it turned out to be damaged may
            have been added.
    """
    return _taken_in(registry, _offers(file))


def keys_of(file: Path) -> Iterator[Key]:
    """Return what the rows of a Parquet file say that they are; errors as for :func:`import_parquet`."""
    for row in _rows(file, ["id", "commit"]):
        yield Key(row["id"], row["commit"])


def _offers(file: Path) -> Iterator[_Offer]:
    columns = ["id", "commit", "sha256", "bases", "fingerprint"]
    for number, row in enumerate(_rows(file, columns)):
        where = f"{shown(file.name, 60)}, row {number}"
        yield _Offer(
            where,
            id=row["id"] or "",
            commit=row["commit"] or "",
            sha256=row["sha256"] or "",
            bases=tuple((row["bases"] or "")[:_BASES_LENGTH].split("\n")),
            fingerprint=row["fingerprint"] or b"",
        )


def _rows(file: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Return some columns of the rows of a Parquet file, a few in memory at a time."""
    if not file.is_file():
        raise UsageError(f"{shown(file)}: there is no such file")
    pq, where = parquet(), shown(file)
    try:
        with pq.ParquetFile(
            file, thrift_string_size_limit=_THRIFT_BYTES, thrift_container_size_limit=_THRIFT_VALUES
        ) as source:
            problem = _unfit(source, columns)
            if problem:
                raise InputError(where, problem, "Export it again with `lineage registry export`.")
            for batch in source.iter_batches(_READ_AT_ONCE, columns=columns, use_threads=False):
                yield from batch.to_pylist()
    except InputError:
        raise
    except _FAILURES as error:
        reason = one_line(str(error).partition("\n")[0], 120)
        raise InputError(where, f"this Parquet file cannot be read ({reason})", "Get it again.") from None


def _unfit(source: Any, columns: list[str]) -> str:
    """Return what keeps a Parquet file from being read; empty for nothing."""
    given, wanted = source.schema_arrow, exchange_schema()
    for name in columns:
        field = given.field(name) if given.names.count(name) == 1 else None
        if field is None or field.type != wanted.field(name).type:
            return f"there is no column '{name}' of the type {wanted.field(name).type}: this is no registry"
    places = [n for n in range(len(source.schema)) if source.schema.column(n).path in columns]
    for number in range(source.metadata.num_row_groups):
        group = source.metadata.row_group(number)
        size = sum(group.column(n).total_uncompressed_size for n in places)
        if not 0 <= group.num_rows <= _GROUP_ROWS or not 0 <= size <= _GROUP_BYTES:
            return f"row group {number} has {group.num_rows} rows and {size} bytes, more than any of a registry"
        if any(group.column(n).num_values != group.num_rows for n in places):
            return f"row group {number} contradicts itself"
    return ""


def _taken_in(registry: Registry, offers: Iterable[_Offer]) -> Merged:
    """Add what is right, and tell what is wrong with the rest."""
    problems: list[str] = []
    refused = 0

    def right() -> Iterator[Entry]:
        nonlocal refused
        for offer in offers:
            try:
                yield _verified(offer)
            except InputError as error:
                refused += 1
                if len(problems) < _PROBLEMS:
                    problems.append(str(error))

    added = registry.add(right(), strict=False)
    return Merged(added, refused, tuple(problems))


def _verified(offer: _Offer) -> Entry:
    data = offer.fingerprint
    if len(data) > MAX_FILE:
        raise InputError(offer.where, f"{len(data)} bytes are more than the {MAX_FILE} that a fingerprint may have")
    if hashlib.sha256(data).hexdigest() != offer.sha256:
        raise InputError(offer.where, "the fingerprint does not have the digest that is stated beside it")
    entry = entry_of(data, offer.where, offer.bases)
    if entry.listing.key != (offer.id, offer.commit):
        raise InputError(offer.where, "the fingerprint is that of another model or commit than is stated beside it")
    return entry
