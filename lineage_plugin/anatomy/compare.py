"""Whether two checkpoints have units that can be set against each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lineage_plugin.anatomy.types import Anatomy, UnitGroup, Vectors

__all__ = ["comparable", "structure_mismatch"]


def comparable(a: UnitGroup, b: UnitGroup) -> bool:
    """Say whether unit i of one group can be set against unit i of the other.

    Tensor names, orientation and layer may differ; a Conv1D and a Linear, or a single and a stacked expert, compare.

    Args:
        a: A group of units.
        b: Another one, usually of another model.

    Returns:
        Whether both have the same name, number of units, blocks and symmetries, and vectors of the same roles, numbers
        and lengths.
    """
    if (a.name, a.swap, len(a.vectors)) != (b.name, b.swap, len(b.vectors)) or not np.array_equal(a.block, b.block):
        return False
    return all(_form(v) == _form(w) for v, w in zip(a.vectors, b.vectors, strict=True))


def structure_mismatch(a: Anatomy, b: Anatomy) -> str | None:
    """Say what keeps two models from being compared unit by unit.

    Args:
        a: Anatomy of one model.
        b: Anatomy of the other.

    Returns:
        A plain phrase, such as ``depth differs: 6 layers against 8``, or None when the structures agree. Groups that
        only one of the models has are no mismatch.
    """
    if a.family != b.family:
        return f"different layouts ({a.family} against {b.family})"
    if not a.groups or not b.groups:
        return "no comparable units"
    if a.family == "unknown":
        return _unknown_mismatch(a, b)
    if a.layers != b.layers:
        return f"depth differs: {_count(a.layers, 'layer')} against {b.layers}"
    if a.width != b.width:
        return f"width differs: {a.width} against {b.width}"
    ours, theirs = _by_key(a), _by_key(b)
    if {g.layer for g in a.groups}.isdisjoint(g.layer for g in b.groups):
        return "the layers are numbered differently"
    experts = (_parts(a), _parts(b))
    if experts[0] != experts[1] and all(experts):
        return f"number of experts differs: {experts[0]} against {experts[1]}"
    shared = [(ours[key], theirs[key]) for key in ours if key in theirs]
    if not shared:
        return "no comparable units"
    for one, other in shared:
        if not comparable(one, other):
            return _difference(one, other)
    return None


def _unknown_mismatch(a: Anatomy, b: Anatomy) -> str | None:
    if a.layers != b.layers:
        return f"different numbers of usable tensors: {a.layers} against {b.layers}"
    if not all(comparable(one, other) for one, other in zip(a.groups, b.groups, strict=True)):
        return "shapes of the usable tensors differ"
    return None


def _difference(a: UnitGroup, b: UnitGroup) -> str:
    where = f"in layer {a.layer}"
    if a.name == "mlp" or a.name == "experts":
        what = "MLP" if a.name == "mlp" else "expert"
        if a.units != b.units:
            return f"{what} width differs {where}: {a.units} against {b.units}"
        return f"{what} kind differs {where}"
    return f"attention heads differ {where}"


def _form(v: Vectors) -> tuple[str, int, int | None, bool]:
    """Return role, vectors per unit, elements per vector (None when the anatomy does not tell), sign symmetry."""
    length = v.span[1] - v.span[0] if v.span is not None else v.width if v.axis == 0 else None
    return v.role, int(v.index.shape[1]), length, v.odd


def _by_key(anatomy: Anatomy) -> Mapping[tuple[str, int, int], UnitGroup]:
    return {group.key: group for group in anatomy.groups}


def _parts(anatomy: Anatomy) -> int:
    return len({group.part for group in anatomy.groups if group.name == "experts"})


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
