"""What is known about a derived pair when its kind is decided: structure, layers, and the values as they are stored."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import Anatomy, UnitGroup
from lineage_plugin.checkpoint.types import Checkpoint, TensorInfo
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.grid import grid, significant_bits
from lineage_plugin.evidence.lowrank import LowRank, low_rank, rounding_error, storage_step
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pair import LayerCoins, PairEvidence
from lineage_plugin.evidence.pairing import kind
from lineage_plugin.evidence.sample import Sample
from lineage_plugin.evidence.traits import Facts, dead_units, semi_structured, sparsity

__all__ = [
    "KIND_NAMES",
    "SILENT_COINS",
    "StoredRows",
    "facts_of",
    "is_silent",
    "shows_nothing",
    "silent_kinds",
    "stored_rows",
]

FloatArray = NDArray[np.float32]

MOST_ROWS, FEWEST_ROWS, ROW_BYTES = 256, 64, 1 << 20
"""Rows of a matrix that are kept for a look at its values: at most, and of long rows as many as these bytes hold."""
LOOKED_AT = 8
"""Matrices whose values are looked at for a grid; the search costs most there."""
SILENT_COINS = 24
"""Coins that a layer, or a kind of unit, needs before its silence means anything."""
SILENT_COSINE = 0.05
"""Cosine of a layer from which something of the base is left in it."""
KIND_NAMES = {
    "mlp": "MLP units",
    "experts": "experts' units",
    "value": "value channels",
    "query-key": "query-key channels",
    "lora": "rank components",
}
_NARROW = frozenset({"F8_E4M3", "F8_E5M2"})


@dataclass(frozen=True, eq=False, slots=True)
class StoredRows:
    """Rows of one matrix of the suspect, as stored, and the rows of the base that they are set against.

    Attributes:
        role: Role of the matrix.
        suspect_tensor: Name of the suspect's tensor.
        base_tensor: Name of the base's tensor.
        suspect: ``[rows, columns]``.
        base: The same of the base.
    """

    role: str
    suspect_tensor: str
    base_tensor: str
    suspect: FloatArray
    base: FloatArray


def stored_rows(sample: Sample) -> list[StoredRows]:
    """Return the matrices of a sample whose units are whole rows in both models."""
    mine, theirs = sample.probe.suspect.by_role, sample.probe.base.by_role
    found = []
    for role, a, b in zip(sample.roles, sample.suspect, sample.base, strict=True):
        one, other = mine[role], theirs[role]
        if (one.axis, one.span, one.index.shape[1]) == (0, None, 1) == (other.axis, other.span, other.index.shape[1]):
            most = max(FEWEST_ROWS, min(MOST_ROWS, ROW_BYTES // max(1, a[:1].nbytes)))
            found.append(StoredRows(role, one.tensor, other.tensor, a[:most].copy(), b[:most].copy()))
    return found


def is_silent(row: LayerCoins) -> bool:
    """Say whether a layer shows no trace of the base although it had the coins to show it."""
    return shows_nothing(row.count.coins, row.count.heads, row.cosine)


def shows_nothing(coins: int, heads: int, cosine: float) -> bool:
    """Say whether coins and cosine of a layer are those of independent layers, and the coins enough to tell."""
    return coins >= SILENT_COINS and abs(cosine) < SILENT_COSINE and log10_e_value(heads, coins) < 0


def silent_kinds(found: PairEvidence) -> set[str]:
    """Return the kinds of unit that show nothing, neither by swaps nor by signs."""
    kinds: dict[str, float] = {}
    for group in found.groups:
        if group.count.coins >= SILENT_COINS:
            name = group.name.rsplit(" ", 1)[0]
            kinds[name] = max(kinds.get(name, -math.inf), group.log10_e)
    return {name for name, value in kinds.items() if value < 0}


def facts_of(models: Models, found: PairEvidence, silent: Collection[str], rows: Sequence[StoredRows]) -> Facts:
    """Return what is known about a derived pair.

    Args:
        models: Suspect and base.
        found: The evidence.
        silent: Kinds of unit that show nothing.
        rows: Some rows of both models as stored; differences are taken only where units were not relabelled.

    Returns:
        The facts.
    """
    suspect, base = models.suspect_anatomy, models.base_anatomy
    experts = [any(group.name == "experts" for group in anatomy.groups) for anatomy in (suspect, base)]
    upcycled = experts == [True, False]
    packing = _narrow(models)
    layers = found.layer_map
    looked_at = rows[:: max(1, -(-len(rows) // LOOKED_AT))]
    return Facts(
        compared=max(1, len(rows)),
        experts_from_dense=upcycled,
        layers=suspect.layers,
        base_layers=base.layers,
        repeated=0 if layers is None else len(layers.repeated),
        dropped=0 if layers is None else len(layers.dropped),
        without_trace=(*_layers_without_trace(found), *_kinds_without_trace(found, silent)),
        units_kept=1.0 if upcycled else _ratio(suspect, base),
        width_kept=suspect.width / base.width if suspect.width and base.width else 1.0,
        grids=tuple(grid(row.suspect, _dtype(models.suspect, row.suspect_tensor)) for row in looked_at),
        base_grids=tuple(grid(row.base, _dtype(models.base, row.base_tensor)) for row in looked_at),
        narrow_dtype=packing[0],
        base_narrow_dtype=packing[1],
        low_rank=None if found.relabelled else _low_rank(models, rows),
        change=None if found.relabelled else _change(rows),
        rounded=not found.relabelled and bool(rows) and all(_only_rounded(models, row) for row in rows),
        zeros=_mean([sparsity(row.suspect) for row in rows]),
        base_zeros=_mean([sparsity(row.base) for row in rows]),
        zero_pattern=_pattern(rows),
        dead=sum(_dead(row) for row in rows),
    )


def _layers_without_trace(found: PairEvidence) -> tuple[str, ...]:
    return tuple(row.suspect for row in found.layers if row.base is None or is_silent(row))


def _kinds_without_trace(found: PairEvidence, silent: Collection[str]) -> tuple[str, ...]:
    """Return the kinds of which no layer has a trace, unless their channels were mixed or all labels redrawn."""
    if found.calibrated is not None or found.relabelled:
        return ()
    return tuple(f"all {KIND_NAMES[name]}" for name in sorted(silent) if name in KIND_NAMES)


def _low_rank(models: Models, rows: Sequence[StoredRows]) -> LowRank | None:
    noise = [rounding_error(row.suspect, _dtype(models.suspect, row.suspect_tensor)) for row in rows]
    return low_rank([row.suspect - row.base for row in rows], noise, [row.role for row in rows]) if rows else None


def _dead(row: StoredRows) -> int:
    """Count units that are zero in the suspect and not in the base, but for those that rounding took to zero."""
    alive = np.abs(row.suspect[row.suspect != 0])
    step = float(alive.min()) if alive.size else 0.0
    return int((dead_units(row.suspect) & (np.abs(row.base).max(axis=1, initial=0.0) > 0.5 * step)).sum())


def _change(rows: Sequence[StoredRows]) -> float | None:
    """Return the root mean square of the differences, relative to that of the base."""
    moved = sum(float(np.square(row.suspect - row.base, dtype=np.float64).sum()) for row in rows)
    total = sum(float(np.square(row.base, dtype=np.float64).sum()) for row in rows)
    return float(np.sqrt(moved / total)) if total > 0 and np.isfinite(moved) and np.isfinite(total) else None


def _only_rounded(models: Models, row: StoredRows) -> bool:
    """Say whether all differences are what conversion from one storage type to another makes: half a step."""
    steps = (
        _step(row.suspect, _dtype(models.suspect, row.suspect_tensor)),
        _step(row.base, _dtype(models.base, row.base_tensor)),
    )
    return bool((np.abs(row.suspect - row.base) <= 0.5 * np.maximum(*steps)).all())


def _step(rows: FloatArray, dtype: str) -> FloatArray:
    """Return the distance between neighbouring values of the narrowest usual type that holds the stored values."""
    used = significant_bits(rows)
    bits = next(size for size in (8, 11, 24) if used <= size)
    return storage_step(rows, bits, half=bits == 11 or dtype == "F16")


def _pattern(rows: Sequence[StoredRows]) -> tuple[int, int] | None:
    """Return the pattern of zeros that all matrices of the suspect share and no matrix of the base has."""
    found = {semi_structured(row.suspect) for row in rows}
    if len(found) != 1 or any(semi_structured(row.base) for row in rows):
        return None
    return found.pop()


def _ratio(suspect: Anatomy, base: Anatomy) -> float:
    """Return the units of the suspect's layers over those of the base's: the least of all kinds of unit."""
    shares = []
    for name in ("mlp", "value"):
        mine, theirs = _sizes(suspect, name), _sizes(base, name)
        if mine and theirs:
            shares.append(float(np.mean(mine)) / float(np.mean(theirs)))
    return min(shares, default=1.0)


def _sizes(anatomy: Anatomy, name: str) -> list[int]:
    groups: list[UnitGroup] = [group for group in anatomy.groups if kind(group) == name]
    return [group.units for group in groups]


def _dtype(checkpoint: Checkpoint, tensor: str) -> str:
    return checkpoint.tensors[tensor].dtype


def _narrow(models: Models) -> tuple[str | None, str | None]:
    """Return how the suspect's weights are packed where the base's are not packed in that way, and the base's."""
    suspect, base = ({_packing(info) for info in model.tensors.values()} for model in (models.suspect, models.base))
    mine, others = (sorted(name for name in names if name) for names in (suspect - base, base))
    return ", ".join(mine) or None, ", ".join(others) or None


def _packing(info: TensorInfo) -> str | None:
    if info.encoding is not None:
        named, bits = info.encoding.name, f"{info.encoding.bits:g}"
        # Most names tell the bits: Q4_K, NF4, MXFP4.
        return named if bits in named else f"{named} with {bits} bits"
    return info.dtype if info.dtype in _NARROW else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
