"""Whether, and how, the units of two checkpoints can be set against each other.

:func:`comparable` is for groups of one shape. The other functions are for structures that were changed: units of equal
kind but unequal number, keys and values pooled into fewer heads, neurons dealt out to experts.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import Anatomy, UnitGroup, Vectors

__all__ = ["comparable", "expert_slice", "pooled_units", "shared_roles", "structure_mismatch"]

IntArray = NDArray[np.int64]

_NEURONS = frozenset({"mlp", "experts"})


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


def shared_roles(a: UnitGroup, b: UnitGroup, *, same_width: bool = True) -> tuple[str, ...]:
    """Return the roles in which a unit of one group can be set against a unit of the other, whatever their numbers.

    Neurons of a dense MLP and of an expert are of one kind. Rotary pairs and channels that do not turn are not, nor are
    neurons with and without a gate.

    Args:
        a: A group of units.
        b: Another one.
        same_width: Whether vectors must be of equal length, that is, run over streams of equal width.

    Returns:
        Roles in the order of ``a`` whose vectors agree in number per unit, in sign symmetry and (with ``same_width``)
        in length; empty when the groups are of different kinds.
    """
    if a.name != b.name and not {a.name, b.name} <= _NEURONS:
        return ()
    theirs = {v.role: _form(v) for v in b.vectors}
    ours = {v.role: _form(v) for v in a.vectors}
    if a.name in _NEURONS and set(ours) != set(theirs):
        return ()
    if a.name == "query-key" and ("k" in ours) and ("k" in theirs) and ours["k"][1] != theirs["k"][1]:
        return ()
    return tuple(
        role
        for role, (_, count, length, odd) in ours.items()
        if role in theirs
        and (count, odd) == (theirs[role][1], theirs[role][3])
        and (not same_width or length == theirs[role][2])
    )


def pooled_units(a: UnitGroup, b: UnitGroup) -> IntArray | None:
    """Return the unit of ``a`` that each unit of ``b`` would have become, had heads been pooled or repeated.

    Query heads that shared no keys and values are made to share them by pooling the key-value heads of each group (GQA,
    arXiv:2305.13245), or the reverse by repeating them. Head h of n becomes head ``h // (n / m)`` of m; channel c of a
    head stays channel c. Where heads were repeated, the first copy is returned.

    Args:
        a: Value or query-key units of one model.
        b: The same of the other; its units are asked for.

    Returns:
        ``[units of b]`` unit numbers of ``a``; None when the groups are of different kinds or head sizes, or neither
        number of heads is a multiple of the other.
    """
    if a.name != b.name or a.name not in ("value", "query-key") or not shared_roles(a, b, same_width=False):
        return None
    heads = (_heads(a), _heads(b))
    if heads[0] is None or heads[1] is None or a.units // heads[0] != b.units // heads[1]:
        return None
    size = b.units // heads[1]
    head, channel = np.divmod(np.arange(b.units, dtype=np.int64), size)
    if heads[1] % heads[0] == 0:
        return (head // (heads[1] // heads[0])) * size + channel
    if heads[0] % heads[1] == 0:
        return head * (heads[0] // heads[1]) * size + channel
    return None


def expert_slice(expert: UnitGroup, dense: UnitGroup, experts: int) -> IntArray | None:
    """Return the neurons of a dense MLP that an expert holds if they were dealt out to the experts in order.

    Args:
        expert: The neurons of one of the experts.
        dense: The neurons of a dense MLP.
        experts: Number of experts of the layer.

    Returns:
        ``[units of expert]`` unit numbers of ``dense``; None unless ``experts`` experts of this size make up the MLP.
    """
    if expert.name != "experts" or dense.name != "mlp" or not 0 <= expert.part < experts:
        return None
    if experts * expert.units != dense.units:
        return None
    return expert.part * expert.units + np.arange(expert.units, dtype=np.int64)


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


def _heads(group: UnitGroup) -> int | None:
    """Return the number of key-value heads when the blocks are equal runs of neighbours, else None."""
    heads = int(group.block[-1]) + 1 if group.units else 0
    if heads < 1 or group.units % heads:
        return None
    expected = np.arange(group.units, dtype=np.int64) // (group.units // heads)
    return heads if np.array_equal(group.block, expected) else None


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
