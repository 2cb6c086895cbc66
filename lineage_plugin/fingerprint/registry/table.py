"""The table of a registry: LanceDB in a folder, with its errors, versions and small files taken care of."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import InputError, UsageError
from lineage_plugin.fingerprint.code import CODE_BYTES
from lineage_plugin.fingerprint.registry.columns import FORMAT, table_schema
from lineage_plugin.fingerprint.registry.entries import Key
from lineage_plugin.fingerprint.registry.extra import lance
from lineage_plugin.fingerprint.registry.lock import LOCK, locked
from lineage_plugin.text import one_line

__all__ = ["Table", "where"]

_TABLE = "models"
_FAILURES = (RuntimeError, OSError, ValueError)
"""What LanceDB and Arrow raise."""
_ATTEMPTS = 3
_NAMES_AT_ONCE = 512
_MOMENT = timedelta(milliseconds=1)
"""The shortest age that LanceDB deletes versions by without a warning."""
_FRAGMENTS, _MOST_FRAGMENTS, _ROWS_A_FRAGMENT = 64, 1024, 128
"""Small files are gathered from this number on, or where there is one for so many rows."""

T = TypeVar("T")
Row = dict[str, Any]


class Table:
    """The rows in a folder. Several threads may read, one may write.

    Args:
        folder: The registry's folder.
        create: Whether to make it where there is none.

    Raises:
        UsageError: When there is none, it cannot be made there, or LanceDB is not installed.
        InputError: When it is none that this version can read.
    """

    def __init__(self, folder: Path, *, create: bool) -> None:
        self.folder = folder
        database = lance()
        if not _exists(folder):
            if not create:
                raise UsageError(
                    f"{shown(folder)}: there is no registry. Make one with `lineage registry build`, or check the path"
                )
            _make(folder, database)
        with _failing(folder):
            self._lance = database.connect(str(folder)).open_table(_TABLE)
            schema = self._lance.schema
        version = (schema.metadata or {}).get(b"format", b"").decode("utf-8", "replace")
        if version != FORMAT or not schema.equals(table_schema()):
            raise InputError(
                shown(folder),
                f"this is no registry of the form {FORMAT} with codes of {CODE_BYTES} bytes",
                "Export it with the version that made it, and import that file into a new one.",
            )

    # Reading --------------------------------------------------------------------------------------------------------

    def read(self, work: Callable[[Any], T]) -> T:
        """Read the newest version; again, when another process has deleted its files meanwhile.

        Raises:
            InputError: When the table cannot be read.
        """
        with _failing(self.folder):
            for _ in range(_ATTEMPTS - 1):
                with suppress(*_FAILURES):
                    self._lance.checkout_latest()
                    return work(self._lance)
            self._lance.checkout_latest()
            return work(self._lance)

    def find(self, ids: Iterable[str], columns: Sequence[str]) -> list[Row]:
        """Return some columns of all rows of some models."""
        found: list[Row] = []
        for some in _slices(sorted(ids), _NAMES_AT_ONCE):
            found += self._find(f"id IN ({', '.join(map(_quoted, some))})", columns)
        return found

    def _find(self, condition: str, columns: Sequence[str]) -> list[Row]:
        return self.read(
            lambda lance: list[Row](lance.search().where(condition).select(list(columns)).to_arrow().to_pylist())
        )

    def take(self, places: Sequence[int], keys: Sequence[Key], columns: Sequence[str]) -> list[Row | None]:
        """Return some columns of a few rows.

        Args:
            places: Where the table kept the rows (``_rowid``) when that was asked for.
            keys: What names them.
            columns: The columns.

        Returns:
            The rows, in this order; None for those that are gone.
        """
        names = list(dict.fromkeys(["id", "commit", *columns]))
        by_place: dict[int, Row] = {}
        # Where the table was compacted since, the places are others' or nobody's.
        with suppress(*_FAILURES):
            taken = self._lance.take_row_ids(list(dict.fromkeys(places))).with_row_id().select([*names, "_rowid"])
            by_place = {row.pop("_rowid"): row for row in taken.to_arrow().to_pylist()}
        found: list[Row | None] = []
        for place, key in zip(places, keys, strict=True):
            row = by_place.get(place)
            found.append(row if row is not None and (row["id"], row["commit"]) == key else None)
        lost = {key.id for row, key in zip(found, keys, strict=True) if row is None}
        if lost:
            again = {Key(row["id"], row["commit"]): row for row in self.find(lost, names)}
            found = [again.get(key) if row is None else row for row, key in zip(found, keys, strict=True)]
        return found

    # Writing --------------------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock, and see the newest version."""
        with locked(self.folder):
            self.read(lambda lance: None)
            yield

    def append(self, rows: Any) -> None:
        """Add rows, an Arrow table, in one transaction; the caller holds the lock."""
        self._transact(lambda lance: lance.add(rows))

    def upsert(self, rows: Any) -> None:
        """Write rows in place of those with their keys, in one transaction; the caller holds the lock."""
        self._transact(
            lambda lance: (
                lance.merge_insert(["id", "commit"])
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .execute(rows)
            )
        )

    def delete(self, condition: str) -> None:
        """Delete rows, in one transaction; the caller holds the lock."""
        self._transact(lambda lance: lance.delete(condition))

    def gather(self) -> None:
        """Compact when there are many small files for the number of rows; the caller holds the lock."""
        # What was written is written: that it could not be tidied up (a full disk) is no failure of the write.
        with suppress(InputError, *_FAILURES):
            found = self._lance.stats()
            most = min(_MOST_FRAGMENTS, found["num_rows"] // _ROWS_A_FRAGMENT)
            if found["fragment_stats"]["num_fragments"] >= max(_FRAGMENTS, most):
                self.compact()

    def compact(self) -> None:
        """Gather small files, and delete those that the newest version does not need; the caller holds the lock."""
        # Nobody writes meanwhile, so whatever the newest version does not name is left from a write that was killed.
        # Gathering itself makes a version that still names the old files: it is deleted the second time.
        for _ in range(2):
            self._transact(lambda lance: lance.optimize(cleanup_older_than=_MOMENT, delete_unverified=True))
            time.sleep(2 * _MOMENT.total_seconds())
        for path in (self.folder / f"{_TABLE}.lance").glob("*/.tmp*"):
            with suppress(OSError):
                path.unlink()

    def _transact(self, work: Callable[[Any], object]) -> None:
        """Write; what has begun ends before anything else happens, an interrupt included.

        LanceDB works in a thread of its own. An interrupt would leave it at it, with the lock given back.
        """
        raised: list[Exception] = []
        done = threading.Event()

        def run() -> None:
            try:
                work(self._lance)
            except Exception as error:
                raised.append(error)
            finally:
                done.set()

        try:
            threading.Thread(target=run, name="lineage-registry").start()
            done.wait()
        except RuntimeError:
            # No thread could be started.
            done.set()
            raise
        finally:
            while not done.is_set():
                with suppress(KeyboardInterrupt):
                    done.wait()
        with _failing(self.folder):
            for error in raised:
                raise error

    def nbytes(self) -> int:
        """Return the bytes of all files in the folder."""
        total = 0
        for parent, _, names in os.walk(self.folder):
            for name in names:
                # Another process may be tidying up.
                with suppress(OSError):
                    total += (Path(parent) / name).lstat().st_size
        return total


def where(id: str, commit: str | None) -> str:
    """Return the SQL condition for an entry, or for all of a model."""
    condition = f"id = {_quoted(id)}"
    return condition if commit is None else f"{condition} AND commit = {_quoted(commit)}"


def _exists(folder: Path) -> bool:
    """Return whether there is a table: one whose making was killed has no version yet."""
    return any((folder / f"{_TABLE}.lance" / "_versions").glob("*.manifest"))


def _make(folder: Path, database: Any) -> None:
    """Make the folder and an empty table in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted({entry.name for entry in folder.iterdir()} - {LOCK, f"{_TABLE}.lance"})
    except OSError as error:
        raise UsageError(f"{shown(folder)}: a registry cannot be made there ({error.strerror or error})") from None
    if foreign:
        raise UsageError(
            f"{shown(folder)}: this folder is no registry, and not empty ({shown(foreign[0], 60)}). Give another one"
        )
    with locked(folder), _failing(folder):
        if not _exists(folder):
            database.connect(str(folder)).create_table(_TABLE, schema=table_schema())


@contextmanager
def _failing(folder: Path) -> Iterator[None]:
    """Turn what LanceDB raises into one line."""
    try:
        yield
    except _FAILURES as error:
        # Lance says where in its own source it was, too.
        reason = one_line(re.split(r",?\s*\S*/\.cargo/", str(error).partition("\n")[0])[0], 160)
        raise InputError(
            shown(folder),
            f"the registry cannot be read or written ({reason})",
            "Look for a full disk; else take it from a copy, or make it again.",
        ) from error


def _quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _slices(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (values[start : start + size] for start in range(0, len(values), size))
