"""Which groups of two models are set against each other, and unit by unit how.

The first pairing tried is *identity order*: the layer of the same number, the unit of the same number. Where the
structure differs it pairs what is left of that order: the layers both models have, a dense MLP with every expert, the
pooled heads with those they were pooled from. No weight is looked at, so all coins of such a pairing are fair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy import Anatomy
from lineage_plugin.anatomy.compare import comparable, expert_slice, pooled_units, shared_roles, structure_mismatch
from lineage_plugin.anatomy.types import UnitGroup

__all__ = ["GroupPair", "kind", "match_groups", "pair_groups"]

IntArray = NDArray[np.int64]

MOST_EXPERTS = 16
"""Experts of a layer that are set against one dense MLP."""


@dataclass(frozen=True, eq=False, slots=True)
class GroupPair:
    """Two groups that are set against each other.

    Attributes:
        suspect: The suspect's group.
        base: The base's group.
        roles: Vectors that both have in equal form.
        partners: ``[base.units]`` the suspect's unit for each unit of the base, -1 for none; None for equal numbers.
    """

    suspect: UnitGroup
    base: UnitGroup
    roles: tuple[str, ...]
    partners: IntArray | None = None

    def partners_of(self, units: IntArray) -> IntArray:
        """Return the suspect's unit for each of some units of the base, -1 for none."""
        return units if self.partners is None else self.partners[units]


def match_groups(suspect: Anatomy, base: Anatomy) -> tuple[tuple[GroupPair, ...], str | None]:
    """Pair the groups of two models in identity order.

    Args:
        suspect: Anatomy of the suspect.
        base: Anatomy of the base.

    Returns:
        The pairs, by layer, and a phrase about the structure where it differs, such as ``depth differs: 6 layers
        against 8``, else None.
    """
    mismatch = structure_mismatch(suspect, base)
    if mismatch is not None and "unknown" in (suspect.family, base.family):
        return (), mismatch
    if suspect.width != base.width:
        return (), mismatch
    layers: dict[int, list[UnitGroup]] = {}
    for group in suspect.groups:
        layers.setdefault(group.layer, []).append(group)
    pairs = [pair for group in base.groups for pair in _in_layer(layers.get(group.layer, ()), group)]
    return tuple(pairs), mismatch


def _in_layer(candidates: Iterable[UnitGroup], base: UnitGroup) -> Iterator[GroupPair]:
    """Pair a group of the base with its namesake in a layer, or, a dense MLP and experts, with all of that kind."""
    alike = [group for group in candidates if kind(group) == kind(base)]
    exact = [group for group in alike if group.key[0::2] == base.key[0::2]]
    experts = sum(group.name == "experts" for group in alike)
    for group in exact or [group for group in alike if group.name != base.name][:MOST_EXPERTS]:
        pair = pair_groups(group, base, experts=experts)
        if pair is not None:
            yield pair


def kind(group: UnitGroup) -> str:
    """Return what kind of unit a group holds: experts are MLPs."""
    return "mlp" if group.name == "experts" else group.name


def pair_groups(suspect: UnitGroup, base: UnitGroup, *, experts: int = 0, same_width: bool = True) -> GroupPair | None:
    """Pair the units of two groups by their numbers, or by the place that a usual conversion gives them.

    Args:
        suspect: The suspect's group.
        base: The base's group.
        experts: Number of experts in the suspect's layer, where its group is an expert and the base's is not.
        same_width: Whether vectors must be of equal length; not when a basis maps one stream to the other.

    Returns:
        The pair, or None when unit numbers do not correspond.
    """
    if same_width and comparable(suspect, base):
        return GroupPair(suspect, base, tuple(vectors.role for vectors in base.vectors))
    roles = shared_roles(suspect, base, same_width=same_width)
    if not roles or suspect.swap != base.swap:
        return None
    if suspect.units == base.units and np.array_equal(suspect.block, base.block):
        return GroupPair(suspect, base, roles)
    partners = pooled_units(suspect, base)
    if partners is None and suspect.name == "experts" and base.name == "mlp":
        held = expert_slice(suspect, base, experts)
        if held is not None:
            partners = np.full(base.units, -1, dtype=np.int64)
            partners[held] = np.arange(suspect.units, dtype=np.int64)
    return None if partners is None else GroupPair(suspect, base, roles, partners)
