"""The entries of a registry as arrays: what names them, and their search codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.fingerprint.registry.entries import Key
from lineage_plugin.fingerprint.registry.extra import arrow

__all__ = ["Catalogue", "read_catalogue"]

_SCANNED = 8192
"""Rows that are looked at together."""

ByteArray = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, slots=True)
class Catalogue:
    """The entries of a registry at one time, in as little memory as they take; iterating yields their keys.

    Attributes:
        codes: ``[models, CODE_BYTES]`` search codes; ``[models, 0]`` where they were not asked for.
        ids: Arrow array of ids.
        commits: Arrow array of commits.
        rows: ``[models]`` where the table keeps each row, until it is compacted.
    """

    codes: ByteArray
    ids: Any
    commits: Any
    rows: NDArray[np.uint64]

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.codes.nbytes + self.ids.nbytes + self.commits.nbytes + self.rows.nbytes)

    def key(self, row: int) -> Key:
        """Return what names an entry."""
        return Key(self.ids[int(row)].as_py(), self.commits[int(row)].as_py())

    def __iter__(self) -> Iterator[Key]:
        for start in range(0, len(self), _SCANNED):
            ids, commits = (column.slice(start, _SCANNED).to_pylist() for column in (self.ids, self.commits))
            yield from map(Key, ids, commits)


def read_catalogue(lance: Any, code_bytes: int) -> Catalogue:
    """Read the catalogue of a LanceDB table.

    Args:
        lance: The table.
        code_bytes: Bytes of a code, or 0 to leave codes out.
    """
    columns = ["id", "commit", "_rowid", *(["code"] if code_bytes else [])]
    codes: list[ByteArray] = [np.zeros((0, code_bytes), dtype=np.uint8)]
    rows: list[NDArray[np.uint64]] = [np.zeros(0, dtype=np.uint64)]
    names: dict[str, list[Any]] = {"id": [], "commit": []}
    for batch in lance.search().with_row_id(True).select(columns).to_batches(_SCANNED):
        rows.append(batch.column("_rowid").to_numpy())
        for name, parts in names.items():
            parts.append(batch.column(name))
        if code_bytes:
            column = batch.column("code")
            flat = np.frombuffer(column.buffers()[1], dtype=np.uint8)
            codes.append(flat[column.offset * code_bytes :][: len(column) * code_bytes].reshape(-1, code_bytes))
        else:
            codes.append(np.zeros((batch.num_rows, 0), dtype=np.uint8))
    string = arrow().string()
    ids, commits = (arrow().chunked_array(parts, string).combine_chunks() for parts in names.values())
    return Catalogue(np.concatenate(codes), ids, commits, np.concatenate(rows))
