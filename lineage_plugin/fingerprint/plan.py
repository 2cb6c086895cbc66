"""What of a model goes into its fingerprint, decided from shapes alone.

Three limits are kept. *Bytes and requests* of reading over the Hub: neighbouring rows cost one request a matrix, the
columns of a matrix lie scattered through it. *Size* of the fingerprint. And *comparability*: the units are always the
first ones of a group, as many as the limits allow, so that of two models of one shape, however stored and however deep,
one has the units of the other or more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lineage_plugin.anatomy.types import Anatomy, UnitGroup, Vectors
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.evidence.plan import is_scattered
from lineage_plugin.fingerprint.sketch import TILE

__all__ = ["AXES_UNITS", "ShelfPlan", "axes_units", "plan_shelves"]

KIB, MIB = 1 << 10, 1 << 20

READ_BYTES = 16 * MIB
"""Bytes of rows that are read, counted as two an element: what they take in most models on the Hub."""
COLUMN_BYTES = 256 * KIB
"""Matrix size up to which columns are read: the whole matrix is."""
ALL_COLUMNS_BYTES = 4 * MIB
"""Bytes of all such matrices together."""
RUNS = 128
"""Stretches of rows: each is a request."""
LAYER_BYTES, MOST_BYTES = 2048, 100 * KIB
"""Bytes of sign bits a layer, and of a model."""
STEPS = (1, 2, 4, 8, 16)
"""Layers from one that is read to the next, of a role that there are too few requests for."""
MOST_UNITS = 1024
MOST_BITS, LEAST_BITS = 256, 16
EXPERTS = 2
"""Experts of a layer."""
MEASURED, MEASURED_OF_FEW, FEW_LAYERS = 32, 64, 4
"""Units of a group whose energies are kept, where units may change places: more in models of few layers, which have
little else to tell descent by."""
AXES_UNITS = 16
"""Units among which principal directions are taken; half as many where there are fewer."""

_FIRST = ("up", "v", "fc2", "o", "fc1", "gate", "down")
"""Roles by what their bits tell: those with a sign symmetry first, of each kind one, since the others cost as much."""


@dataclass(frozen=True, eq=False, slots=True)
class ShelfPlan:
    """Groups of one form, and what is read of them.

    Attributes:
        groups: The groups, one a layer, in order.
        block: Neighbouring units that may change places.
        roles: Roles that are read.
        units: Units of each group.
        bits: Bits of each vector, by role.
        measured: Units whose energies are kept.
    """

    groups: tuple[UnitGroup, ...]
    block: int
    roles: tuple[str, ...]
    units: int
    bits: Mapping[str, int]
    measured: int


@dataclass(frozen=True, eq=False, slots=True)
class _Run:
    """One role of a shelf: rows at ``step`` layers apart, or, if ``whole``, all of its small matrices."""

    shelf: int
    role: str
    dim: int
    layers: int
    whole: bool
    step: int = 1


def plan_shelves(anatomy: Anatomy, tensors: Mapping[str, TensorInfo]) -> tuple[ShelfPlan, ...]:
    """Choose groups, roles, units and bits.

    Args:
        anatomy: The model's anatomy.
        tensors: Its tensors.

    Returns:
        The shelves; none when no role of any group can be read at a bearable price.
    """
    shelves = _by_form(anatomy)
    runs = _within_runs([run for at, groups in enumerate(shelves) for run in _runs(at, groups, tensors)])
    if not runs:
        return ()
    kept: dict[int, list[_Run]] = {}
    for run in runs:
        kept.setdefault(run.shelf, []).append(run)
    parts = [(shelves[shelf][:: of[0].step], of) for shelf, of in kept.items()]
    layers = len({group.layer for group in anatomy.groups})
    measured = MEASURED_OF_FEW if layers <= FEW_LAYERS else MEASURED
    bits, units = _bits(parts, _units(parts), layers)
    return tuple(
        ShelfPlan(
            groups=tuple(groups),
            block=_block(groups[0]) or 1,
            roles=tuple(run.role for run in of),
            units=min(units, groups[0].units),
            bits={run.role: min(bits, max(8, _power(run.dim))) for run in of},
            measured=min(measured, units, groups[0].units) if groups[0].swap else 0,
        )
        for groups, of in parts
    )


def axes_units(held: int) -> int:
    """Return among how many of the first units principal directions are taken; 0 where there are too few."""
    return next((units for units in (AXES_UNITS, AXES_UNITS // 2) if held >= units), 0)


def _by_form(anatomy: Anatomy) -> list[list[UnitGroup]]:
    """Return the groups of equal form, layer by layer; those whose blocks are not equal runs are left out."""
    found: dict[tuple[object, ...], list[UnitGroup]] = {}
    for group in anatomy.groups:
        block = _block(group)
        if block is None or (group.name == "experts" and group.part >= EXPERTS):
            continue
        vectors = tuple((v.role, _dim(v), v.odd) for v in group.vectors)
        found.setdefault((group.name, group.part, group.units, block, group.swap, vectors), []).append(group)
    return [sorted(groups, key=lambda group: group.layer) for groups in found.values()]


def _block(group: UnitGroup) -> int | None:
    """Return the length of the runs of neighbours that may change places; None where they are no equal runs."""
    if not group.units:
        return None
    size = int(np.argmax(group.block != group.block[0])) or group.units
    expected = group.block[::size].repeat(size)[: group.units]
    distinct = np.unique(group.block[::size]).shape[0] == -(-group.units // size)
    return size if distinct and np.array_equal(expected, group.block) else None


def _dim(vectors: Vectors) -> int:
    along = vectors.span[1] - vectors.span[0] if vectors.span is not None else vectors.width
    return int(vectors.index.shape[1]) * along


def _runs(shelf: int, groups: Sequence[UnitGroup], tensors: Mapping[str, TensorInfo]) -> Iterable[_Run]:
    """Yield the roles of a shelf that are read as rows, or as whole small matrices."""
    for vectors in groups[0].vectors:
        stored = [(group.by_role[vectors.role], tensors[group.by_role[vectors.role].tensor]) for group in groups]
        small = max(info.size for _, info in stored) * 2 <= COLUMN_BYTES
        if small or not any(is_scattered(v, info) or not _is_run(v) for v, info in stored):
            scattered = any(is_scattered(v, info) or not _is_run(v) for v, info in stored)
            yield _Run(shelf, vectors.role, _dim(vectors), len(groups), scattered)


def _is_run(vectors: Vectors) -> bool:
    """Whether the first units' vectors are neighbours."""
    first = np.unique(vectors.index[:TILE])
    return bool(first[-1] - first[0] + 1 == first.shape[0])


def _within_runs(runs: Sequence[_Run]) -> list[_Run]:
    """Keep the roles that tell most, as many as the requests allow; of the last one perhaps some layers only."""
    kept: list[_Run] = []
    steps: dict[int, int] = {}
    columns = rows = 0
    for run in sorted(runs, key=lambda run: (run.role not in _FIRST, (*_FIRST, run.role).index(run.role))):
        if run.whole:
            columns += run.layers * COLUMN_BYTES
            allowed = list(STEPS[:1]) if columns <= ALL_COLUMNS_BYTES else []
        else:
            allowed = [step for step in STEPS if rows + -(-run.layers // step) <= RUNS]
        # All roles of a unit make one coin, so a shelf has them all in the same layers.
        step = next((step for step in allowed if steps.setdefault(run.shelf, step) == step), None)
        if step is not None:
            kept.append(replace(run, step=step))
            rows += 0 if run.whole else -(-run.layers // step)
    return sorted(kept, key=lambda run: run.shelf)


_Part = tuple[Sequence[UnitGroup], Sequence[_Run]]


def _units(parts: Sequence[_Part]) -> int:
    """Return how many units of each group the bytes of reading allow."""
    rows = sum(2 * run.dim * len(groups) for groups, runs in parts for run in runs if not run.whole)
    most = max(groups[0].units for groups, _ in parts)
    return _rounded(min(MOST_UNITS, most, READ_BYTES // rows if rows else most))


def _bits(parts: Sequence[_Part], units: int, layers: int) -> tuple[int, int]:
    """Return the bits of a vector, and the units of a group, that the size of the fingerprint allows."""
    most = min(MOST_BYTES, LAYER_BYTES * layers)
    bits = MOST_BITS
    while bits > LEAST_BITS and _size(parts, units, bits) > most:
        bits //= 2
    while units > TILE and _size(parts, units, bits) > most:
        units -= TILE
    return bits, _rounded(units)


def _size(parts: Sequence[_Part], units: int, bits: int) -> int:
    return sum(
        len(groups) * min(units, groups[0].units) * min(bits, max(8, _power(run.dim))) // 8
        for groups, runs in parts
        for run in runs
    )


def _rounded(units: int) -> int:
    """Round down to whole tiles, or to pairs where there is less than a tile."""
    return max(2, units - units % TILE if units >= TILE else units - units % 2)


def _power(dim: int) -> int:
    """Return the least power of two from ``dim`` on."""
    return 1 << max(0, dim - 1).bit_length()
