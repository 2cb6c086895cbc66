"""Whether a registry holds what it says."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from lineage_plugin.errors import InputError
from lineage_plugin.fingerprint.registry.catalogue import read_catalogue
from lineage_plugin.fingerprint.registry.columns import STORED, entry_of_row, table_of
from lineage_plugin.fingerprint.registry.entries import Entry, Key, entry_of
from lineage_plugin.fingerprint.registry.table import Table
from lineage_plugin.options import Progress

__all__ = ["Fault", "Verified", "verify"]

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry that cannot be used.

    Attributes:
        key: What names it.
        problem: What is wrong, lower case, without a full stop.
    """

    key: Key
    problem: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found.

    Attributes:
        rows: Entries that were looked at.
        broken: Those whose fingerprint cannot be read or is another one's, and second ones of an id and commit.
        outdated: Those whose fingerprint is right, but not what was read off it: as a rule the code, which another
            version of the program computed.
        repaired: Whether broken ones have been removed and outdated ones brought up to date.
    """

    rows: int
    broken: tuple[Fault, ...]
    outdated: tuple[Key, ...]
    repaired: bool


def verify(table: Table, *, repair: bool = False, progress: Progress | None = None) -> Verified:
    """Read every fingerprint and compare what follows from it with what is stored.

    Args:
        table: The registry's table.
        repair: Whether to remove what is broken and bring up to date what is outdated. Nobody else can write meanwhile.
        progress: Called as entries are looked at.

    Raises:
        UsageError: When it is to be repaired and cannot be written to.
        InputError: When the table itself cannot be read.
    """
    broken: dict[int, Fault] = {}
    outdated: list[Entry] = []
    seen: set[Key] = set()
    with table.writing() if repair else nullcontext():
        found = table.read(lambda lance: read_catalogue(lance, 0))
        for start in range(0, len(found), _ROWS_AT_ONCE):
            some = range(start, min(start + _ROWS_AT_ONCE, len(found)))
            places, keys = [int(found.rows[row]) for row in some], [found.key(row) for row in some]
            for place, key, row in zip(places, keys, table.take(places, keys, STORED), strict=True):
                if row is None:
                    continue
                problem, right = _looked_at(row, key)
                if problem or key in seen:
                    broken[place] = Fault(key, problem or "there is another entry of this id and commit")
                    continue
                seen.add(key)
                if right is not None:
                    outdated.append(right)
            if progress is not None:
                progress("verifying", some.stop, len(found))
        if repair:
            for start in range(0, len(broken), _ROWS_AT_ONCE):
                chosen = list(broken)[start : start + _ROWS_AT_ONCE]
                table.delete(f"_rowid IN ({', '.join(map(str, chosen))})")
            for start in range(0, len(outdated), _ROWS_AT_ONCE):
                table.upsert(table_of(outdated[start : start + _ROWS_AT_ONCE]))
    keys = [entry.listing.key for entry in outdated]
    return Verified(len(found), tuple(broken.values()), tuple(keys), repair)


def _looked_at(row: dict[str, Any], key: Key) -> tuple[str, Entry | None]:
    """Return what is wrong with a fingerprint, or else, where what is stored beside it is wrong, the right entry."""
    stored = entry_of_row(row)
    try:
        right = entry_of(stored.fingerprint, key.id, stored.listing.bases)
    except InputError as error:
        return error.problem, None
    if right.listing.sha256 != stored.listing.sha256:
        return "the fingerprint is not the one that was added: its digest is another", None
    if right.listing.key != key:
        return "the fingerprint is that of another model or commit", None
    right = Entry(replace(right.listing, added=stored.listing.added), right.fingerprint, right.code)
    return "", None if (right.listing, right.code) == (stored.listing, stored.code) else right
