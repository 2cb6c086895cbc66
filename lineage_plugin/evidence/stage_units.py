"""Units that were relabelled, dropped or copied: which unit became which.

Units are matched by what they *read* (gate and up rows, value rows), up to a flip of their sign, and their coins are
the signs of what they *write* (down, output). The search has seen nothing of these, so the coins are exactly fair
however hard it looked; swap coins are not tossed, since exchanging two units would have exchanged their partners, too.

That a unit must be copied as a whole has a second reason. Two trainings from one seed draw from one stream of random
numbers; where the architectures differ a little (biases draw, too) the same rows come out a few places later. Such
models are dependent in what units read, unit by unit, and yet share no unit: what they write was drawn elsewhere.

A layer costs the whole matrix that units are matched by, so of a large model only a few layers spread over the depth
are aligned: their thousands of sign coins are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import Anatomy, UnitGroup
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.evidence.coins import cosines, draw_pairs
from lineage_plugin.evidence.frame import Frame
from lineage_plugin.evidence.layers import LayerMap, align_layers
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pairing import kind
from lineage_plugin.evidence.sample import Probe, Sample, entropy
from lineage_plugin.evidence.tally import Tally
from lineage_plugin.evidence.undo import is_alike
from lineage_plugin.evidence.unit_reader import SAMPLE, UnitReader, role_of
from lineage_plugin.evidence.units import match_units, relatedness
from lineage_plugin.options import Options

__all__ = ["UnitStage", "align_by_unit", "matching_bytes"]

IntArray = NDArray[np.int64]

LEAST_SCORE = 4.0
"""Relatedness from which two layers may be called the same (of independent models the largest of 1,000 was 2.5)."""
SMALL = 96 << 20
"""Bytes of one model's matching matrices up to which all layers are held and compared with all."""
LARGE_LAYERS = 4
"""Layers of a large model that are aligned."""
NEIGHBOURS = 3
"""Layers to either side of the expected place that are looked at in a large model."""
UNITS = 512
"""Base units of a group that are matched in a large model."""


@dataclass(frozen=True, eq=False, slots=True)
class UnitStage:
    """Outcome of the search.

    Attributes:
        layers: Which layer of the base each layer of the suspect corresponds to, by position; None where only some
            layers were looked at.
        suspect_layers: Numbers of the suspect's layers.
        base_layers: Numbers of the base's layers.
        tally: Sign coins of the matched units, and effects.
        moved: For each kind of which units are alike, the share of neighbouring units that changed their order.
        nearness: The mean cosine, in absolute value, of what these units are matched by.
        samples: The matched units of the MLPs, without their vectors.
    """

    layers: LayerMap | None
    suspect_layers: tuple[int, ...]
    base_layers: tuple[int, ...]
    tally: Tally
    moved: Mapping[str, float]
    nearness: Mapping[str, float]
    samples: tuple[Sample, ...]


def matching_bytes(models: Models) -> int:
    """Return about how many stored bytes of a model matching its units reads, of the larger model."""
    return max(_bytes(checkpoint, anatomy) for checkpoint, anatomy in models.sides)


def _bytes(checkpoint: Checkpoint, anatomy: Anatomy) -> int:
    groups = [group for group in anatomy.groups if role_of(group) is not None]
    tensors = {vectors.tensor for group in groups for vectors in group.vectors}
    total = sum(checkpoint.tensors[name].nbytes for name in tensors)
    if _is_small(anatomy):
        return total
    # What units are matched by is read twice: once to find the layer, and once to match.
    total += sum(checkpoint.tensors[group.by_role[role_of(group) or ""].tensor].nbytes for group in groups)
    return total * LARGE_LAYERS // max(anatomy.layers, 1)


def _is_small(anatomy: Anatomy) -> bool:
    held = sum(4 * group.units * anatomy.width for group in anatomy.groups if role_of(group) is not None)
    return held <= SMALL


def align_by_unit(
    models: Models,
    options: Options,
    frame: Frame | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UnitStage | None:
    """Match units layer by layer and toss their sign coins.

    Args:
        models: Suspect and base.
        options: Seed.
        frame: Common coordinates of the two streams; None when they are the same.
        progress: Called with the layers aligned so far, and all.

    Returns:
        The outcome, or None when the models have no kind of unit in common.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    search = UnitReader(models, options, frame)
    kinds = search.kinds()
    if not kinds or (frame is None and models.suspect_anatomy.width != models.base_anatomy.width):
        return None
    mine, others = search.layers("suspect", kinds), search.layers("base", kinds)
    small = _is_small(models.suspect_anatomy) and _is_small(models.base_anatomy)
    layers = _align(search, kinds, mine, others, small)
    copies: dict[int, list[int]] = {}
    for i, j in enumerate(layers):
        if j is not None:
            # One layer of the suspect for each base layer is enough where each costs hundreds of megabytes.
            copies[others[j]] = [*copies.get(others[j], []), mine[i]] if small else [mine[i]]
    tally = Tally(models.exact, len(others), models.rounded)
    moved: dict[str, list[float]] = {}
    near: dict[str, list[float]] = {}
    kept: list[Sample] = []
    matched: list[Sample] = []
    for done, (base, suspects) in enumerate(copies.items()):
        samples = [s for a in suspects for s in _match_layer(search, kinds, a, base, small, options.seed)]
        matched.extend(samples)
        for sample in samples:
            if kind(sample.probe.base) == "mlp" and len(kept) < 64:
                kept.append(replace(sample, suspect=(), base=()))
            if not is_alike(sample):
                continue
            # Units of a pruned layer change their numbers but keep their order.
            share = float(np.mean(np.diff(sample.probe.partner_units) < 0))
            moved.setdefault(kind(sample.probe.base), []).append(share)
            first = sample.roles.index(role_of(sample.probe.base) or "")
            cosine = np.nan_to_num(np.abs(cosines(sample.suspect[first], sample.base[first])))
            near.setdefault(kind(sample.probe.base), []).append(float(cosine.mean()))
        if progress is not None:
            progress(done + 1, len(copies))
    # In one call: units of different layers may hang together, and then they share one coin.
    tally.add(matched, as_stored=frame is None)
    found = LayerMap(tuple(layers), len(others)) if small else None
    shares, nearness = (
        {name: float(np.mean(values)) for name, values in measured.items()} for measured in (moved, near)
    )
    return UnitStage(found, mine, others, tally, shares, nearness, tuple(kept))


def _align(
    search: UnitReader, kinds: Sequence[str], mine: Sequence[int], others: Sequence[int], small: bool
) -> list[int | None]:
    """Return, for each layer of the suspect, the position of the base's layer it corresponds to."""
    scores = np.full((len(mine), len(others)), -np.inf)
    chosen = (
        range(len(others)) if small else np.unique(np.linspace(0, len(others) - 1, LARGE_LAYERS).round().astype(int))
    )
    for j in chosen:
        for i in _candidates(j, len(mine), len(others), small):
            if not small and np.isfinite(scores[:, j]).any() and scores[:, j].max() >= 2 * LEAST_SCORE:
                break
            scores[i, j] = _score(search, kinds, mine[i], others[j], small)
    if small:
        return list(align_layers(scores, least=LEAST_SCORE).base_of)
    # Few base layers were looked at: each goes to its best partner.
    found: list[int | None] = [None] * len(mine)
    for j in chosen:
        best = int(np.argmax(scores[:, j]))
        if scores[best, j] >= LEAST_SCORE:
            found[best] = int(j)
    return found


def _candidates(base: int, mine: int, others: int, small: bool) -> Iterable[int]:
    """Yield positions of suspect layers, the likeliest first."""
    if small:
        return range(mine)
    place = base if mine == others else round(base * (mine - 1) / max(others - 1, 1))
    near = sorted(range(mine), key=lambda i: abs(i - place))
    return near[: 2 * NEIGHBOURS + 1]


def _score(search: UnitReader, kinds: Sequence[str], suspect: int, base: int, small: bool) -> float:
    """Return the relatedness of two layers: over kinds of unit, of each the best part."""
    found = []
    for name in kinds:
        scores = []
        for b in search.groups("base", name, base)[:2]:
            for a in search.groups("suspect", name, suspect):
                roles = search.matched_by(a, b, small)
                if not roles:
                    continue
                mine = search.matrices("suspect", a, roles, hold=small)
                theirs = search.sampled(b, roles, small)
                even = _odd(a, b, roles)
                scores.append(relatedness(mine, theirs, even=even, sample=SAMPLE, seed=search.options.seed))
        if scores:
            found.append(max(scores))
    return float(np.sum(found) / np.sqrt(len(found))) if found else -np.inf


def _odd(a: UnitGroup, b: UnitGroup, roles: Sequence[str]) -> tuple[bool, ...]:
    """Say of each role whether a flip of the unit negates it, in either model."""
    return tuple(a.by_role[role].odd or b.by_role[role].odd for role in roles)


def _match_layer(
    search: UnitReader, kinds: Sequence[str], suspect: int, base: int, small: bool, seed: int
) -> Iterator[Sample]:
    """Match the units of two corresponding layers, of experts only those that have something in common."""
    for name in kinds:
        mine = search.groups("suspect", name, suspect)
        for theirs in search.groups("base", name, base):
            units = np.arange(theirs.units, dtype=np.int64)
            if not small and theirs.units > UNITS:
                rng = np.random.default_rng([*entropy(seed, theirs), 5])
                units = np.sort(rng.permutation(theirs.units)[:UNITS]).astype(np.int64)
            for group in mine:
                roles = search.matched_by(group, theirs, small)
                if not roles:
                    continue
                wanted = (
                    search.matrices("base", theirs, roles, hold=True)
                    if small
                    else search.vectors("base", theirs, units, roles)
                )
                matrices, odd = search.matrices("suspect", group, roles, hold=small), _odd(group, theirs, roles)
                if len(mine) > 1 and relatedness(matrices, wanted, even=odd, sample=SAMPLE, seed=seed) < LEAST_SCORE:
                    continue
                match = match_units(matrices, wanted, even=odd)
                found = match.suspect >= 0
                if int(found.sum()) >= 2:
                    yield _sample(search, group, theirs, units[found], match.suspect[found], seed)


def _sample(
    search: UnitReader, mine: UnitGroup, theirs: UnitGroup, units: IntArray, partners: IntArray, seed: int
) -> Sample:
    roles = search.roles(mine, theirs)
    probe = Probe(mine, theirs, units, roles, partners.astype(np.int64), searched=True)
    odd = tuple(mine.by_role[role].odd and theirs.by_role[role].odd for role in roles)
    return Sample(
        probe,
        roles,
        odd,
        search.vectors("suspect", mine, partners.astype(np.int64), roles),
        search.vectors("base", theirs, units, roles),
        draw_pairs(theirs.block[units], [*entropy(seed, theirs), 1]),
    )
