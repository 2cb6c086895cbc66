"""Entries as rows: the columns of the table, and of the Parquet files that registries are exchanged in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timezone
from typing import Any

from lineage_plugin.fingerprint.code import CODE_BYTES
from lineage_plugin.fingerprint.registry.entries import Entry, Listing
from lineage_plugin.fingerprint.registry.extra import arrow

__all__ = [
    "FORMAT",
    "LISTED",
    "STORED",
    "entry_of_row",
    "exchange_of",
    "exchange_schema",
    "listing_of",
    "table_of",
    "table_schema",
]

FORMAT = "lineage-registry/1"
LISTED = tuple(field.name for field in fields(Listing))
"""Columns that a listing is made of."""
STORED = (*LISTED, "fingerprint", "code")
"""Columns that an entry is made of."""

_NUMBERS = ("layers", "width", "parameters")
_EXCHANGED = tuple(name for name in LISTED if name != "added")


def table_schema() -> Any:
    """Return the Arrow schema of the table."""
    pa = arrow()
    kinds = {
        **{name: pa.string() for name in LISTED},
        **{name: pa.int64() for name in _NUMBERS},
        "bases": pa.list_(pa.field("item", pa.string())),
        "added": pa.timestamp("us", tz="UTC"),
        "fingerprint": pa.large_binary(),
        "code": pa.binary(CODE_BYTES),
    }
    return pa.schema([pa.field(name, kinds[name], nullable=False) for name in STORED], metadata={"format": FORMAT})


def exchange_schema() -> Any:
    """Return the Arrow schema of exchanged files.

    It is that of the table, but bases are the lines of one text, for lists can be forged to unpack to any length; codes
    and times are the reader's own.
    """
    pa = arrow()
    kinds = {name: pa.int64() if name in _NUMBERS else pa.string() for name in _EXCHANGED}
    columns = [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]
    return pa.schema([*columns, pa.field("fingerprint", pa.binary(), nullable=False)], metadata={"format": FORMAT})


def table_of(entries: Sequence[Entry]) -> Any:
    """Return entries as rows of the table; those that come into a registry do so now."""
    now = datetime.now(timezone.utc)
    columns: dict[str, list[object]] = {name: [getattr(entry.listing, name) for entry in entries] for name in LISTED}
    columns["bases"] = [list(entry.listing.bases) for entry in entries]
    columns["added"] = [entry.listing.added or now for entry in entries]
    columns["fingerprint"] = [entry.fingerprint for entry in entries]
    columns["code"] = [entry.code for entry in entries]
    return arrow().table(columns, schema=table_schema())


def exchange_of(entries: Sequence[Entry]) -> Any:
    """Return entries as rows of exchanged files."""
    columns: dict[str, list[object]] = {
        name: [getattr(entry.listing, name) for entry in entries] for name in _EXCHANGED
    }
    columns["bases"] = ["\n".join(entry.listing.bases) for entry in entries]
    columns["fingerprint"] = [entry.fingerprint for entry in entries]
    return arrow().table(columns, schema=exchange_schema())


def listing_of(row: Mapping[str, Any]) -> Listing:
    """Return the listing in a row that has the columns :data:`LISTED`."""
    values: dict[str, Any] = {name: row[name] for name in LISTED}
    return Listing(**{**values, "bases": tuple(values["bases"])})


def entry_of_row(row: Mapping[str, Any]) -> Entry:
    """Return the entry in a row that has the columns :data:`STORED`."""
    return Entry(listing_of(row), row["fingerprint"], row["code"])
