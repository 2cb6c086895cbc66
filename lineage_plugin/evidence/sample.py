"""Which units are read, and reading them from both models.

The draw depends only on the seed, the kind of group and its size, never on weights or layer: units of equal number are
read in every layer, so that layers can be compared with each other, and any two models of one shape as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import UnitGroup, Vectors
from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.evidence.coins import draw_pairs

__all__ = ["Probe", "Sample", "draw_units", "entropy", "read_probes", "read_units"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Probe:
    """Units to be read from one group of each model.

    Attributes:
        suspect: The suspect's group.
        base: The base's group, of the same shape.
        units: ``[m]`` increasing unit numbers of the base's group.
        roles: Names of the vectors to be read; a subset of what both groups have.
        partners: ``[m]`` unit numbers of the suspect's group that they are set against; None for equal numbers
            (identity order).
        searched: Whether partners were found by what these very units read. Exchanging two of them is then no
            symmetry, so no swap coin is tossed; and sign coins are those of the vectors that the units write, of which
            the search has seen nothing.
        swaps: Whether swap coins may be tossed; not on pairs by which the layers were found.
    """

    suspect: UnitGroup
    base: UnitGroup
    units: IntArray
    roles: tuple[str, ...]
    partners: IntArray | None = None
    searched: bool = False
    swaps: bool = True

    @property
    def partner_units(self) -> IntArray:
        """Unit numbers of the suspect's group, one for each of ``units``."""
        return self.units if self.partners is None else self.partners


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """The vectors of a probe's units, and the pairs drawn among them.

    Attributes:
        probe: What was read.
        roles: Field names of the matrices.
        odd: For each role, whether a sign flip of the unit negates it.
        suspect: One ``[m, dim]`` array a role.
        base: The same for the base.
        pairs: ``[pairs, 2]`` disjoint positions into the ``m`` units, inside exchangeable blocks.
    """

    probe: Probe
    roles: tuple[str, ...]
    odd: tuple[bool, ...]
    suspect: tuple[FloatArray, ...]
    base: tuple[FloatArray, ...]
    pairs: IntArray


def entropy(seed: int, group: UnitGroup) -> list[int]:
    """Return the seed of the draws for a group: a function of the seed, the group's kind and its size only."""
    return [seed & 0xFFFFFFFF, zlib.crc32(group.name.encode()), group.units]


def draw_units(group: UnitGroup, count: int, run: int, seed: int, start: int = 0) -> IntArray:
    """Draw units of a group in runs of neighbours, which lie side by side in the file.

    Args:
        group: The group.
        count: How many units.
        run: Length of a run, even, so that the pairs ``(2i, 2i+1)`` stay together.
        seed: Seed of the draw.
        start: Number of units to pass over; later draws with a larger ``start`` are disjoint from earlier ones.

    Returns:
        Increasing unit numbers; fewer than ``count`` when the group has no more.
    """
    run = max(2, run - run % 2)
    runs = -(-group.units // run)
    order = np.random.default_rng(entropy(seed, group)).permutation(runs)
    units = (order[:, None] * run + np.arange(run)[None, :]).ravel()
    units = units[units < group.units]
    return np.sort(units[start : start + count]).astype(np.int64)


def read_units(
    checkpoint: Checkpoint, wanted: Sequence[tuple[UnitGroup, IntArray, Sequence[str]]]
) -> list[tuple[FloatArray, ...]]:
    """Read units of several groups of one model in one call.

    Args:
        checkpoint: The model.
        wanted: Groups, the numbers of the units to be read, and the roles.

    Returns:
        For each group one ``[m, k * dim]`` array a role.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    chosen = [(vectors, units) for group, units, roles in wanted for vectors in _chosen(group, roles)]
    blocks = checkpoint.read([_selection(vectors, units) for vectors, units in chosen])
    rows = iter([_arrange(block, vectors, units) for block, (vectors, units) in zip(blocks, chosen, strict=True)])
    return [tuple(islice(rows, len(roles))) for _, _, roles in wanted]


def read_probes(suspect: Checkpoint, base: Checkpoint, probes: Sequence[Probe], seed: int) -> list[Sample]:
    """Read the vectors of all probes from both models, each model in one call.

    Args:
        suspect: The suspect.
        base: The base.
        probes: What to read.
        seed: Seed of the pairing.

    Returns:
        One sample a probe.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    from concurrent.futures import ThreadPoolExecutor

    sides = (
        (suspect, [(p.suspect, p.partner_units, p.roles) for p in probes]),
        (base, [(p.base, p.units, p.roles) for p in probes]),
    )
    with ThreadPoolExecutor(2) as pool:
        from_suspect, from_base = pool.map(lambda side: read_units(*side), sides)
    samples = []
    for probe, a, b in zip(probes, from_suspect, from_base, strict=True):
        block = probe.base.block[probe.units]
        pairs = draw_pairs(block, [*entropy(seed, probe.base), 1]) if probe.base.swap else np.empty((0, 2), np.int64)
        odd = tuple(
            mine.odd and other.odd
            for mine, other in zip(_chosen(probe.suspect, probe.roles), _chosen(probe.base, probe.roles), strict=True)
        )
        samples.append(Sample(probe, probe.roles, odd, a, b, pairs))
    return samples


def _chosen(group: UnitGroup, roles: Sequence[str]) -> list[Vectors]:
    return [vectors for role in roles for vectors in group.vectors if vectors.role == role]


def _selection(vectors: Vectors, units: IntArray) -> Selection:
    along = np.unique(vectors.index[units])
    across = None if vectors.span is None else np.arange(*vectors.span, dtype=np.int64)
    if vectors.axis == 0:
        return Selection(vectors.tensor, along, across, vectors.width)
    return Selection(vectors.tensor, across, along, vectors.width)


def _arrange(block: FloatArray, vectors: Vectors, units: IntArray) -> FloatArray:
    """Put what was read into one row a unit: ``[m, k * dim]``."""
    index = vectors.index[units]
    position = np.searchsorted(np.unique(index), index)
    matrix = block if vectors.axis == 0 else block.T
    return np.ascontiguousarray(matrix[position].reshape(units.shape[0], -1))
