"""The registry: fingerprints of many models, in a folder.

    >>> with Registry.open("bases.lineage", create=True) as registry:  # doctest: +SKIP
    ...     registry.add([entry_of(data, "atlas")])
    ...     index = Index(registry.codes().codes)

The folder holds one LanceDB table, ``models``, of a row a model and commit, and a lock. There is no server: every
process opens the folder by itself. Reading takes no lock; writers wait for each other (:mod:`.lock`). Each write is one
transaction of the table, so a process may be killed at any time: what ``add`` has returned for is there, what it was
about to write is there as a whole or not at all. Power that fails may take the last seconds with it, for nothing waits
for the disk.

Small writes leave small files behind. They are gathered when there are many, at the end of a write, which then takes
a second for each 200 MB of the registry; the larger it is, the rarer.
"""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import UsageError
from lineage_plugin.fingerprint.code import CODE_BYTES
from lineage_plugin.fingerprint.registry.catalogue import Catalogue, read_catalogue
from lineage_plugin.fingerprint.registry.columns import LISTED, STORED, entry_of_row, listing_of, table_of
from lineage_plugin.fingerprint.registry.entries import Entry, Key, Listing, replaces
from lineage_plugin.fingerprint.registry.table import Table, where
from lineage_plugin.options import Progress
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.fingerprint.registry.verify import Verified

__all__ = ["Added", "Registry", "Stats"]

_ROWS_AT_ONCE, _BYTES_AT_ONCE = 512, 32 << 20
"""Most entries of one transaction."""
_READ_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Added:
    """What became of entries that were added.

    Attributes:
        added: Entries that are new.
        replaced: Entries in whose place there was one of an older version of the program, or any, if forced.
        unchanged: Entries that were there already.
        kept: Entries in whose place another one stays that was not made by an older version.
    """

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    kept: tuple[Key, ...] = ()

    def __add__(self, other: Added) -> Added:
        return Added(
            self.added + other.added,
            self.replaced + other.replaced,
            self.unchanged + other.unchanged,
            self.kept + other.kept,
        )


@dataclass(frozen=True, slots=True)
class Stats:
    """How large a registry is.

    Attributes:
        rows: Entries.
        bytes: Bytes of the folder, those of removed and replaced entries included until it is compacted.
        families: Entries by layout name, the most frequent first.
        duplicates: Entries whose weight files another entry has, too.
    """

    rows: int
    bytes: int
    families: Mapping[str, int]
    duplicates: int


class Registry:
    """An open registry; a context manager. Several threads may read, one may write.

    Args:
        path: Its folder.
        create: Whether to make it where there is none.

    Raises:
        UsageError: When there is none, it cannot be made there, or LanceDB is not installed.
        InputError: When it is none that this version can read.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.folder = Path(path).expanduser().absolute()
        self._table = Table(self.folder, create=create)

    @classmethod
    def open(cls, path: str | Path, *, create: bool = False) -> Registry:
        """Open a registry; arguments and errors as for the class."""
        return cls(path, create=create)

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the block; nothing has to be closed, for every write is finished when it returns."""

    def __len__(self) -> int:
        return self._table.read(lambda lance: int(lance.count_rows()))

    # Writing --------------------------------------------------------------------------------------------------------

    def add(self, entries: Iterable[Entry], *, force: bool = False, strict: bool = True) -> Added:
        """Add entries, or leave them as they are where they are there already.

        Args:
            entries: The entries; several hundred go into one transaction.
            force: Whether to replace an entry that has another fingerprint, whatever version made it. Without it only
                one that was made by an older version is replaced.
            strict: Whether it is an error that an entry stays in place of another one.

        Raises:
            UsageError: When, if ``strict``, there is another fingerprint for an id and commit; nothing of that
                transaction is written. When the folder cannot be written to.
            InputError: When the table is damaged.
        """
        result = Added()
        for some in _portions(entries):
            with self._table.writing():
                result += self._write(some, force, strict)
                self._table.gather()
        return result

    def _write(self, entries: Sequence[Entry], force: bool, strict: bool) -> Added:
        found = self._table.find({entry.listing.id for entry in entries}, ["id", "commit", "sha256", "tool"])
        known = {Key(row["id"], row["commit"]): (str(row["sha256"]), str(row["tool"])) for row in found}
        before = set(known)
        chosen: dict[Key, Entry] = {}
        unchanged, kept = 0, list[Key]()
        for entry in entries:
            new, key = entry.listing, entry.listing.key
            sha256, tool = known.get(key, ("", ""))
            if sha256 == new.sha256:
                unchanged += 1
            elif not sha256 or force or replaces(new.tool, tool):
                chosen[key], known[key] = entry, (new.sha256, new.tool)
            else:
                kept.append(key)
        if kept and strict:
            id, commit = kept[0]
            raise UsageError(
                f"{shown(id)} at {shown(commit[:12])}: the registry holds another fingerprint, made by "
                f"{one_line(known[kept[0]][1])}. Remove it first, or replace it with force"
            )
        replaced = sum(key in before for key in chosen)
        if replaced:
            self._table.upsert(table_of(list(chosen.values())))
        elif chosen:
            self._table.append(table_of(list(chosen.values())))
        return Added(len(chosen) - replaced, replaced, unchanged, tuple(kept))

    def remove(self, id: str, commit: str | None = None) -> int:
        """Remove an entry, or all of a model; return how many there were.

        Their bytes stay in the folder until :meth:`compact` finds them to be a tenth of a file.
        """
        with self._table.writing():
            found = self._table.find([id], ["commit"])
            count = sum(commit in (None, row["commit"]) for row in found)
            if count:
                self._table.delete(where(id, commit))
        return count

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> Verified:
        """Look at every entry, see :func:`lineage_plugin.fingerprint.registry.verify.verify`."""
        from lineage_plugin.fingerprint.registry.verify import verify

        return verify(self._table, repair=repair, progress=progress)

    def compact(self) -> None:
        """Gather small files, and delete what no entry needs any more.

        Others that are reading the registry begin again. While it runs it takes as much room again as the registry.
        """
        with self._table.writing():
            self._table.compact()

    # Reading --------------------------------------------------------------------------------------------------------

    def get(self, id: str, commit: str | None = None) -> Entry | None:
        """Return an entry, without a commit the one added last; None when there is none."""
        found = self._table.find([id], STORED)
        rows = [row for row in found if commit in (None, row["commit"])]
        last = max(rows, key=lambda row: row["added"], default=None)
        return None if last is None else entry_of_row(last)

    def catalogue(self) -> Catalogue:
        """Return what names the entries, and nothing else."""
        return self._table.read(lambda lance: read_catalogue(lance, 0))

    def codes(self) -> Catalogue:
        """Return all codes and what names their entries: some 90 bytes a model besides the codes."""
        return self._table.read(lambda lance: read_catalogue(lance, CODE_BYTES))

    def fetch(self, catalogue: Catalogue, rows: Sequence[int]) -> list[bytes | None]:
        """Return the fingerprints of a few entries.

        Args:
            catalogue: What :meth:`codes` or :meth:`catalogue` returned.
            rows: Rows of it.

        Returns:
            The bytes of their files, in this order; None for what has been removed meanwhile.
        """
        keys = [catalogue.key(row) for row in rows]
        found = self._table.take([int(catalogue.rows[row]) for row in rows], keys, ["fingerprint"])
        return [None if row is None else row["fingerprint"] for row in found]

    def entries(self, catalogue: Catalogue | None = None) -> Iterator[Entry]:
        """Return all entries of a catalogue (by default: of now) one after the other, a few in memory at a time."""
        known = self.catalogue() if catalogue is None else catalogue
        for start in range(0, len(known), _READ_AT_ONCE):
            rows = range(start, min(start + _READ_AT_ONCE, len(known)))
            keys = [known.key(row) for row in rows]
            places = [int(known.rows[row]) for row in rows]
            for row in self._table.take(places, keys, STORED):
                if row is not None:
                    yield entry_of_row(row)

    def listed(self, glob: str | None = None, owner: str | None = None) -> list[Listing]:
        """Return what the registry says about its models, by id and commit.

        Args:
            glob: Pattern that ids match, such as ``Qwen/*``; letters count as they are written.
            owner: The part of ids before the slash.
        """
        found = self._table.read(lambda lance: lance.search().select(list(LISTED)).to_arrow())
        # Most of the work is in making Python values, so rows are chosen before.
        chosen = [
            row
            for row, id in enumerate(found["id"].to_pylist())
            if (glob is None or fnmatch.fnmatchcase(id, glob)) and (owner is None or id.startswith(f"{owner}/"))
        ]
        listings = map(listing_of, found.take(np.array(chosen, dtype=np.int64)).to_pylist())
        return sorted(listings, key=lambda listing: listing.key)

    def stats(self) -> Stats:
        """Return how large the registry is."""
        found = self._table.read(lambda lance: lance.search().select(["family", "content"]).to_arrow())
        families = Counter(found["family"].to_pylist())
        copies = Counter(content for content in found["content"].to_pylist() if content)
        return Stats(
            rows=found.num_rows,
            bytes=self._table.nbytes(),
            families=dict(families.most_common()),
            duplicates=sum(count for count in copies.values() if count > 1),
        )


def _portions(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Cut entries into transactions."""
    portion: list[Entry] = []
    size = 0
    for entry in entries:
        portion.append(entry)
        size += len(entry.fingerprint)
        if len(portion) == _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
