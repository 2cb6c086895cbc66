"""What is read, and in which order.

On the Hub bytes and requests are the price, so the first rounds read a few blocks of neighbouring units from layers far
apart, and reading stops as soon as the answer stands; every layer is read before "unrelated" is said. Local files are
read more widely from the start, since a row costs a memory access and people want to see every layer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import UnitGroup, Vectors
from lineage_plugin.checkpoint.types import Checkpoint, TensorInfo
from lineage_plugin.evidence.pairing import GroupPair
from lineage_plugin.evidence.sample import Probe, draw_units, entropy

__all__ = ["WINDOW", "FirstDraw", "Round", "first_draw", "is_scattered", "plan_rounds", "weight"]

IntArray = NDArray[np.int64]

KIB, MIB = 1 << 10, 1 << 20

HUB_ROLE_BYTES = 128 * KIB
"""Bytes of one matrix of one layer in one read from the Hub."""
HUB_COVERAGE_BYTES = 11 * MIB
"""Bytes for reading every layer of a model on the Hub once."""
HUB_WHOLE_BYTES = 1 * MIB
"""A model on the Hub up to this size is read whole: more requests would cost more than the bytes saved."""
HUB_COLUMN_BYTES = 256 * KIB
"""Matrix size up to which columns are read over the Hub (the whole matrix is transferred)."""
HUB_FIRST_LAYERS = 4
HUB_CHUNK_LAYERS = 8
HUB_EXPERTS = 2
"""Experts of a layer that are sampled over the Hub."""

LOCAL_ROLE_BYTES = 1 * MIB
LOCAL_UNITS = 512
LOCAL_COLUMN_BYTES = 64 * MIB
LOCAL_EXPERTS = 8
RUN = 16
"""Neighbouring units in a run, locally."""
WINDOW = (0, 64)
"""Inputs that are read over the Hub of a matrix whose rows lie scattered in the file."""
EXHAUSTIVE_UNITS = 1024
"""Units of a group read at once when all are read."""


@dataclass(frozen=True, eq=False, slots=True)
class Round:
    """One read from both models.

    Attributes:
        probes: What to read.
        complete: Whether every layer has been read once this round is done.
        may_stop: Whether reading may end after this round when the answer stands.
    """

    probes: tuple[Probe, ...]
    complete: bool
    may_stop: bool


@dataclass(frozen=True, eq=False, slots=True)
class _Readable:
    """A pair of groups with the roles that are worth reading and the bytes a unit of the dearest role costs."""

    pair: GroupPair
    roles: tuple[str, ...]
    unit_bytes: int


def plan_rounds(
    suspect: Checkpoint,
    base: Checkpoint,
    pairs: Sequence[GroupPair],
    *,
    seed: int,
    budget: int | None = None,
    exhaustive: bool = False,
) -> Iterator[Round]:
    """Yield the rounds of a comparison; the caller stops when it has seen enough.

    After every layer was read, further rounds read other units of all layers, until there are none left.

    Args:
        suspect: The suspect, for sizes and for whether it is local.
        base: The base.
        pairs: Comparable groups.
        seed: Seed of the draws.
        budget: Bytes that may be read of each model, or None; smaller blocks are read when it is small.
        exhaustive: Read every unit of every group, locally or not.

    Yields:
        The rounds, in order.
    """
    local = suspect.local and base.local
    columns = HUB_COLUMN_BYTES if not local else sys.maxsize if exhaustive else LOCAL_COLUMN_BYTES
    readable = [found for pair in pairs if (found := _readable(suspect, base, pair, columns))]
    if not readable:
        return
    if exhaustive:
        largest = max(item.pair.base.units for item in readable)
        chunk = dict.fromkeys(_names(readable), EXHAUSTIVE_UNITS)
        for start in range(0, largest, EXHAUSTIVE_UNITS):
            draw = _Draw(dict.fromkeys(chunk, start), chunk, dict.fromkeys(chunk, RUN), seed)
            left = [item for item in readable if item.pair.base.units > start]
            # Who asks for everything gets everything, decided or not.
            yield from (replace(step, may_stop=False) for step in _sweep(left, draw, 1))
        return
    kept, counts, runs = _first(suspect, base, readable, seed, budget)
    draw = _Draw(dict.fromkeys(counts, 0), counts, runs, seed)
    # On this machine a round saves no requests, and holds what it reads in memory.
    layers = 1 if local else HUB_CHUNK_LAYERS
    if _is_cheap(suspect, base):
        yield from _sweep(kept, draw, layers, may_stop=False)
    else:
        leading = _leading(kept)
        first = [item for item in kept if item.pair.base.name == leading]
        order = _spread(sorted({item.pair.base.layer for item in first}))
        rest = list(kept)
        for step in range(2):
            chosen = order[step * HUB_FIRST_LAYERS : (step + 1) * HUB_FIRST_LAYERS]
            probed = [item for item in first if item.pair.base.layer in chosen]
            if probed:
                rest = [item for item in rest if item not in probed]
                yield Round(tuple(draw.probe(item) for item in probed), not rest, True)
        yield from _sweep(rest, draw, HUB_CHUNK_LAYERS)
    # More units of every layer, twice as many each time, for pairs that are still undecided.
    done = dict(counts)
    while left := [item for item in kept if item.pair.base.units > done[item.pair.base.name]]:
        yield from _sweep(left, _Draw(done, done, runs, seed), layers, complete=True)
        done = {name: 2 * count for name, count in done.items()}


@dataclass(frozen=True, eq=False, slots=True)
class FirstDraw:
    """The units of each kind that the first rounds read: the same in every layer.

    Attributes:
        counts: Units of a group, by kind.
        runs: Length of a run of neighbours, by kind.
        seed: Seed of the draw.
    """

    counts: Mapping[str, int]
    runs: Mapping[str, int]
    seed: int

    def units(self, group: UnitGroup) -> IntArray:
        """Return the units of a group; none of a kind that the first rounds pass over."""
        count = self.counts.get(group.name, 0)
        return draw_units(group, count, self.runs.get(group.name, 2), self.seed) if count else np.empty(0, np.int64)


def first_draw(
    suspect: Checkpoint, base: Checkpoint, pairs: Sequence[GroupPair], *, seed: int, budget: int | None = None
) -> FirstDraw:
    """Return which units the first rounds of a comparison read.

    Args:
        suspect: The suspect.
        base: The base.
        pairs: Comparable groups, one for each kind at least.
        seed: Seed of the draws.
        budget: Bytes that may be read of each model, or None.

    Returns:
        The draw.
    """
    columns = LOCAL_COLUMN_BYTES if suspect.local and base.local else HUB_COLUMN_BYTES
    readable = [found for pair in pairs if (found := _readable(suspect, base, pair, columns))]
    if not readable:
        return FirstDraw({}, {}, seed)
    _, counts, runs = _first(suspect, base, readable, seed, budget)
    return FirstDraw(counts, runs, seed)


def _is_cheap(suspect: Checkpoint, base: Checkpoint) -> bool:
    """Whether bytes are cheap: on this machine, or of a model so small that requests are the greater cost."""
    return (suspect.local and base.local) or max(weight(suspect), weight(base)) <= HUB_WHOLE_BYTES


def _first(
    suspect: Checkpoint, base: Checkpoint, readable: Sequence[_Readable], seed: int, budget: int | None
) -> tuple[list[_Readable], dict[str, int], dict[str, int]]:
    """Return the groups that are looked at, and how many units of each kind in runs of what length."""
    if _is_cheap(suspect, base):
        kept = _some_experts(readable, LOCAL_EXPERTS, seed)
        counts = {name: _local_count(kept, name) for name in _names(kept)}
        return kept, counts, dict.fromkeys(counts, RUN)
    kept = _some_experts([item for item in readable if _cheap(item, readable)], HUB_EXPERTS, seed)
    layers = len({item.pair.base.layer for item in readable})
    counts = {name: _hub_count(kept, name, layers, budget) for name in _names(kept)}
    return kept, counts, counts


@dataclass(frozen=True, eq=False, slots=True)
class _Draw:
    """How many units of each kind are drawn, after how many that were drawn before, in runs of what length."""

    start: Mapping[str, int]
    count: Mapping[str, int]
    run: Mapping[str, int]
    seed: int

    def probe(self, item: _Readable) -> Probe:
        group = item.pair.base
        name = group.name
        units = draw_units(group, self.count[name], self.run[name], self.seed, self.start[name])
        partners = item.pair.partners
        if partners is not None:
            units = units[partners[units] >= 0]
            partners = partners[units]
        return Probe(item.pair.suspect, group, units, item.roles, partners)


def _sweep(
    items: Sequence[_Readable], draw: _Draw, chunk: int, *, may_stop: bool = True, complete: bool = False
) -> Iterator[Round]:
    """Yield rounds over all layers, ``chunk`` layers at a time; the last one may always be stopped after."""
    layers = sorted({item.pair.base.layer for item in items})
    for position in range(0, len(layers), chunk):
        wanted = set(layers[position : position + chunk])
        probes = (draw.probe(item) for item in items if item.pair.base.layer in wanted)
        last = position + chunk >= len(layers)
        yield Round(tuple(probe for probe in probes if probe.units.size), complete or last, may_stop or last)


def _readable(suspect: Checkpoint, base: Checkpoint, pair: GroupPair, columns: int) -> _Readable | None:
    """Leave out the vectors that lie scattered through a matrix of more than ``columns`` bytes."""
    roles, costs = [], []
    mine = pair.suspect.by_role
    for a, b in ((mine[vectors.role], vectors) for vectors in pair.base.vectors if vectors.role in pair.roles):
        infos = (suspect.tensors[a.tensor], base.tensors[b.tensor])
        if not any(is_scattered(v, t) for v, t in zip((a, b), infos, strict=True)):
            roles.append(b.role)
            costs.append(max(_row_bytes(v, t) for v, t in zip((a, b), infos, strict=True)))
        elif max(t.nbytes for t in infos) <= columns:
            roles.append(b.role)
            costs.append(max(t.nbytes for t in infos) // max(pair.base.units, 1))
    if not roles:
        return None
    return _Readable(pair, tuple(roles), max(max(costs), 1))


def is_scattered(vectors: Vectors, info: TensorInfo) -> bool:
    """Say whether the elements of a unit's vectors lie apart in the file, so that the whole matrix is transferred.

    Args:
        vectors: Where the vectors are.
        info: Their tensor.
    """
    along = info.encoding.axis if info.encoding is not None else 0
    return vectors.axis != along and vectors.span != WINDOW


def _row_bytes(vectors: Vectors, info: TensorInfo) -> int:
    across = vectors.span[1] - vectors.span[0] if vectors.span else vectors.width
    return int(vectors.index.shape[1]) * across * info.nbytes // max(info.size, 1)


def _cheap(item: _Readable, among: Sequence[_Readable]) -> bool:
    """Whether a group is worth its requests over the Hub: rotary pairs lie in pieces and are read only if alone."""
    return item.pair.base.name != "query-key" or all(other.pair.base.name == "query-key" for other in among)


def _leading(items: Sequence[_Readable]) -> str:
    """Return the kind read first: the one with most coins a byte, which is the widest."""
    names = _names(items)
    return next((n for n in ("mlp", "experts", "channels") if n in names), names[0])


def _names(items: Sequence[_Readable]) -> list[str]:
    return sorted({item.pair.base.name for item in items})


def _hub_count(items: Sequence[_Readable], name: str, layers: int, budget: int | None) -> int:
    kinds = _names(items)
    of_kind = [item for item in items if item.pair.base.name == name]
    unit = max(item.unit_bytes for item in of_kind)
    roles = max(len(item.roles) for item in of_kind)
    parts = max(1, round(len(of_kind) / layers))
    # Headers count towards a budget, too, hence not all of it is planned for rows.
    coverage = (
        min(HUB_COVERAGE_BYTES, 0.75 * budget if budget is not None else HUB_COVERAGE_BYTES)
        / layers
        / len(kinds)
        / roles
        / parts
    )
    count = int(min(HUB_ROLE_BYTES, coverage) // unit)
    return max(4, min(64, count - count % 2))


def _local_count(items: Sequence[_Readable], name: str) -> int:
    unit = max(item.unit_bytes for item in items if item.pair.base.name == name)
    count = int(LOCAL_ROLE_BYTES // unit)
    return max(32, min(LOCAL_UNITS, count - count % RUN))


def _some_experts(items: Sequence[_Readable], limit: int, seed: int) -> list[_Readable]:
    """Keep all groups but experts, and of each layer's experts the same few."""
    parts = sorted({_expert(item) for item in items if _expert(item) >= 0})
    if len(parts) <= limit:
        return list(items)
    some = next(item.pair.base for item in items if _expert(item) >= 0)
    drawn = np.random.default_rng([*entropy(seed, some), 2]).permutation(len(parts))[:limit]
    kept = {-1, *(parts[i] for i in drawn)}
    return [item for item in items if _expert(item) in kept]


def _expert(item: _Readable) -> int:
    """Return the number of the expert that a pair is about, of the base's if both are; -1 where there is none."""
    return next((group.part for group in (item.pair.base, item.pair.suspect) if group.name == "experts"), -1)


def _spread(layers: Sequence[int]) -> list[int]:
    """Return the layers in an order whose every beginning is spread over the depth."""
    order: list[int] = []
    points = HUB_FIRST_LAYERS
    while len(order) < len(layers):
        for place in np.linspace(0, len(layers) - 1, min(points, len(layers))).round().astype(int):
            if layers[place] not in order:
                order.append(layers[place])
        points *= 2
    return order


def weight(checkpoint: Checkpoint) -> int:
    """Return the bytes of all tensors of a model."""
    return sum(info.nbytes for info in checkpoint.tensors.values())
