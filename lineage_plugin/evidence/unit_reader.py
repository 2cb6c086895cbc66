"""Reading units for matching: whole matrices of the roles that units are matched by, in common coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.compare import shared_roles
from lineage_plugin.anatomy.stream import READS
from lineage_plugin.anatomy.types import Anatomy, UnitGroup
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.evidence.frame import Frame
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pairing import kind
from lineage_plugin.evidence.sample import read_units
from lineage_plugin.options import Options

__all__ = ["SAMPLE", "UnitReader", "role_of"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

MATCHED_BY: Mapping[str, tuple[str, ...]] = {"mlp": ("gate", "fc1"), "value": ("v",)}
"""Role that units of each kind are matched by, the first that they have."""
SAMPLE = 64
"""Base units by which layers are told apart."""
EXPERTS = 16
"""Experts of a layer that are looked at."""


@dataclass(eq=False)
class UnitReader:
    """Reads whole matching matrices, and holds those of small models."""

    models: Models
    options: Options
    frame: Frame | None
    held: dict[tuple[str, tuple[str, int, int], tuple[str, ...]], tuple[FloatArray, ...]] = field(default_factory=dict)

    def kinds(self) -> list[str]:
        """Return the kinds of unit that both models have in forms that can be set against each other."""
        found = []
        for name in MATCHED_BY:
            mine, theirs = self.groups("suspect", name), self.groups("base", name)
            if mine and theirs and role_of(mine[0]) in self.roles(mine[0], theirs[0]):
                found.append(name)
        return found

    def groups(self, side: str, name: str, layer: int | None = None) -> list[UnitGroup]:
        """Return the groups of one kind, all or of one layer."""
        anatomy = self.anatomy(side)
        return [
            group
            for group in anatomy.groups
            if kind(group) == name
            and group.swap
            and (layer is None or group.layer == layer)
            and (group.name != "experts" or group.part < EXPERTS)
        ]

    def anatomy(self, side: str) -> Anatomy:
        """Return the anatomy of one side, ``suspect`` or ``base``."""
        return self.models.suspect_anatomy if side == "suspect" else self.models.base_anatomy

    def checkpoint(self, side: str) -> Checkpoint:
        """Return the checkpoint of one side, ``suspect`` or ``base``."""
        return self.models.suspect if side == "suspect" else self.models.base

    def layers(self, side: str, kinds: Sequence[str]) -> tuple[int, ...]:
        """Return the numbers of the layers that have units of the given kinds."""
        return tuple(sorted({group.layer for name in kinds for group in self.groups(side, name)}))

    def roles(self, suspect: UnitGroup, base: UnitGroup) -> tuple[str, ...]:
        """Return the roles in which units of two groups can be set against each other."""
        return shared_roles(suspect, base, same_width=self.frame is None)

    def matrices(self, side: str, group: UnitGroup, roles: tuple[str, ...], *, hold: bool) -> tuple[FloatArray, ...]:
        """Return all units of a group in common coordinates, one matrix a role."""
        key = (side, group.key, roles)
        if key in self.held:
            return self.held[key]
        found = self.vectors(side, group, np.arange(group.units, dtype=np.int64), roles)
        if hold:
            self.held[key] = found
        return found

    def sampled(self, base: UnitGroup, roles: tuple[str, ...], small: bool) -> tuple[FloatArray, ...]:
        """Return the base units by which layers are told apart: all, for :func:`relatedness` to draw from, or few."""
        if small:
            return self.matrices("base", base, roles, hold=True)
        chosen = np.random.default_rng(self.options.seed).permutation(base.units)[:SAMPLE]
        return self.vectors("base", base, np.sort(chosen).astype(np.int64), roles)

    def matched_by(self, suspect: UnitGroup, base: UnitGroup, small: bool) -> tuple[str, ...]:
        """Return the roles that units are matched by: all they read, or one where each costs 100 MB."""
        first = role_of(base) or ""
        return tuple(role for role in self.roles(suspect, base) if role == first or (small and role in READS))

    def vectors(self, side: str, group: UnitGroup, units: IntArray, roles: Sequence[str]) -> tuple[FloatArray, ...]:
        """Return vectors of some units in common coordinates."""
        found = read_units(self.checkpoint(side), [(group, units, roles)])[0]
        if self.frame is None:
            return found
        return (self.frame.of_suspect if side == "suspect" else self.frame.of_base)(group, roles, found)


def role_of(group: UnitGroup) -> str | None:
    """Return the role that units of a group are matched by first; None where units are not matched."""
    return next((role for role in MATCHED_BY.get(kind(group), ()) if role in group.by_role), None)
