"""The same units of several models of one structure, matrix by matrix.

Merges and closest parents are questions about a whole family: a suspect, its possible parents and perhaps their common
ancestor. The draw of units is the one of all other comparisons (:func:`~lineage_plugin.evidence.sample.draw_units`),
so every model is read at the same places; matrices are handed on one at a time and dropped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy import Anatomy, comparable, structure_mismatch
from lineage_plugin.anatomy.types import UnitGroup, Vectors
from lineage_plugin.checkpoint.types import Checkpoint, TensorInfo
from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.evidence.plan import HUB_COLUMN_BYTES, LOCAL_COLUMN_BYTES
from lineage_plugin.evidence.sample import draw_units, read_units

__all__ = ["Block", "Member", "family_mismatch", "read_family"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

MIB = 1 << 20

HUB_LIMIT = 5 * MIB
"""Bytes read of each model on the Hub."""
LOCAL_LIMIT = 64 * MIB
"""Bytes read of each local model."""
UNITS = 512
"""Most units of a group that are read: more would narrow intervals that layers, not units, limit."""
LEAST_UNITS = 4
"""Fewest units of a matrix worth a request."""
RUN = 16
"""Neighbouring units in a run, locally."""
PARTS = 2
"""Experts of a layer that are read."""
CHUNK_BYTES = 48 * MIB
"""float32 bytes of all models held at once."""


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A model of the family.

    Attributes:
        id: What the report calls it.
        checkpoint: The opened model.
        anatomy: Its units.
    """

    id: str
    checkpoint: Checkpoint
    anatomy: Anatomy


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """The same units of one matrix in all members.

    Attributes:
        layer: Layer in the suspect.
        group: Kind of unit, such as ``mlp``.
        role: Field name of the matrix, such as ``up``.
        values: ``[members, units, dim]``, in the order in which the members were given; finite.
        rows: Rows of the matrix that make up one unit's vector, such as those of the heads that share a key.
    """

    layer: int
    group: str
    role: str
    values: FloatArray
    rows: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class _Request:
    """One matrix to read: where it lies in each member, and which units."""

    groups: tuple[UnitGroup, ...]
    role: str
    units: IntArray
    dim: int
    rows: int


def family_mismatch(members: Sequence[Member]) -> str | None:
    """Say what keeps the members from being set side by side.

    Args:
        members: Two or more models, the suspect first.

    Returns:
        A plain phrase that names the member, or None when all have one structure.
    """
    for member in members[1:]:
        mismatch = structure_mismatch(members[0].anatomy, member.anatomy)
        if mismatch is not None:
            return f"{mismatch} ({member.id})"
    return None if _common_groups([member.anatomy for member in members]) else "no comparable units"


def _common_groups(anatomies: Sequence[Anatomy]) -> tuple[tuple[UnitGroup, ...], ...]:
    """Return the groups that stand in the same place of every model.

    Args:
        anatomies: One a model.

    Returns:
        For each such group its form in every model, in the order of the first.
    """
    tables = [{group.key: group for group in anatomy.groups} for anatomy in anatomies]
    found = []
    for group in anatomies[0].groups:
        row = tuple(table[group.key] for table in tables if group.key in table)
        if len(row) == len(tables) and all(comparable(group, other) for other in row[1:]):
            found.append(row)
    return tuple(found)


def read_family(
    members: Sequence[Member], *, seed: int, limit: int | None = None, least: int = LEAST_UNITS
) -> Iterator[Block]:
    """Read the same units of every member and yield them matrix by matrix.

    Args:
        members: Two or more models, the suspect first.
        seed: Seed of the draw.
        limit: Bytes of tensor data that may be read of each model; None for 5 MiB when one of them is on the Hub, else
            64 MiB. Every layer is read, of as many units as fit; when not even ``least`` of each fit, fewer layers.
        least: Fewest units of a matrix worth reading.

    Yields:
        The matrices. Units with a value that is not finite in any member are left out; reading ends early when a
        byte budget of the checkpoints ends.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    local = all(member.checkpoint.local for member in members)
    if limit is None:
        limit = LOCAL_LIMIT if local else HUB_LIMIT
    requests = _plan(members, local, seed, limit, least)
    with ThreadPoolExecutor(len(members)) as pool:
        for chunk in _chunks(requests, len(members)):

            def load(number: int, chunk: Sequence[_Request] = chunk) -> list[FloatArray]:
                wanted = [(request.groups[number], request.units, (request.role,)) for request in chunk]
                return [rows for (rows,) in read_units(members[number].checkpoint, wanted)]

            try:
                sides = list(pool.map(load, range(len(members))))
            except BudgetExceeded:
                return
            for place, request in enumerate(chunk):
                values = np.stack([side[place] for side in sides])
                values = values[:, np.isfinite(values).all(axis=(0, 2))]
                if values.shape[1] >= 2:
                    group = request.groups[0]
                    yield Block(group.layer, group.name, request.role, values, request.rows)


def _plan(members: Sequence[Member], local: bool, seed: int, limit: int, least: int) -> list[_Request]:
    rows = _some_parts(_common_groups([member.anatomy for member in members]))
    kinds = {row[0].name for row in rows}
    if not local and kinds != {"query-key"}:
        # Rotary pairs lie in pieces: many requests for few bytes.
        rows = [row for row in rows if row[0].name != "query-key"]
    matrices = [
        (row, place, cost)
        for row in rows
        for place in range(len(row[0].vectors))
        if (cost := _unit_bytes(members, row, place, local)) is not None
    ]
    if not matrices:
        return []
    layers = sorted({row[0].layer for row, _, _ in matrices})
    a_layer = sum(min(least, row[0].units) * cost for row, _, cost in matrices) / len(layers)
    if a_layer * len(layers) > limit:
        count = max(1, int(limit // a_layer))
        kept = {layers[i] for i in np.linspace(0, len(layers) - 1, count).round().astype(int)}
        matrices = [item for item in matrices if item[0][0].layer in kept]
    # Bytes are shared out evenly among the matrices; narrow ones leave what they do not need.
    share = limit / len(matrices)
    requests = []
    for row, place, cost in matrices:
        count = max(least, min(UNITS, int(share // cost)))
        units = draw_units(row[0], count, RUN if local else count, seed)
        vectors = row[0].vectors[place]
        rows_a_unit = int(vectors.index.shape[1])
        dim = rows_a_unit * _length(members[0], vectors)
        requests.append(_Request(row, vectors.role, units, dim, rows_a_unit))
    return requests


def _some_parts(rows: Sequence[tuple[UnitGroup, ...]]) -> list[tuple[UnitGroup, ...]]:
    """Keep all groups but experts, and of each layer's experts the first few: all are merged alike."""
    return [row for row in rows if row[0].name != "experts" or row[0].part < PARTS]


def _unit_bytes(members: Sequence[Member], row: Sequence[UnitGroup], place: int, local: bool) -> int | None:
    """Return the bytes that a unit of this matrix costs in the dearest member, or None when it is not worth them."""
    columns = LOCAL_COLUMN_BYTES if local else HUB_COLUMN_BYTES
    costs = []
    for member, group in zip(members, row, strict=True):
        vectors = group.vectors[place]
        info = member.checkpoint.tensors[vectors.tensor]
        if vectors.axis == 1 and info.nbytes > columns:
            return None
        costs.append(
            int(vectors.index.shape[1]) * _length(member, vectors) * info.nbytes // max(info.size, 1)
            if vectors.axis == 0 or local
            else info.nbytes // max(group.units, 1)
        )
    return max(1, min(max(costs), sys.maxsize))


def _length(member: Member, vectors: Vectors) -> int:
    """Return the elements of one vector."""
    if vectors.span is not None:
        return vectors.span[1] - vectors.span[0]
    info: TensorInfo = member.checkpoint.tensors[vectors.tensor]
    return vectors.width if vectors.axis == 0 else info.size // max(vectors.width, 1)


def _chunks(requests: Sequence[_Request], members: int) -> Iterator[list[_Request]]:
    chunk: list[_Request] = []
    held = 0
    for request in requests:
        size = 4 * members * request.dim * int(request.units.shape[0])
        if chunk and held + size > CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(request)
        held += size
    if chunk:
        yield chunk
