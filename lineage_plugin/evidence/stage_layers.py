"""Layers that moved: dropped, repeated, inserted, re-ordered.

Units keep their numbers when whole layers move, so the same units of every layer of both models are set against each
other, all layers against all. Half of the pairs are used for the search; it looks at absolute values where a unit's
sign is free. Coins are tossed on the units of the *other* half, which no one has looked at: exchanging two of them, or
flipping one, changes nothing that the search saw, so the coins are as fair as without a search. Where there are few
units, all are searched, and only sign coins are tossed, which the search does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.compare import shared_roles
from lineage_plugin.anatomy.types import Anatomy, UnitGroup
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.evidence.coins import draw_pairs
from lineage_plugin.evidence.frame import Frame
from lineage_plugin.evidence.layers import LayerMap, align_layers, swap_scores
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pairing import GroupPair, kind, match_groups, pair_groups
from lineage_plugin.evidence.plan import HUB_COLUMN_BYTES, LOCAL_COLUMN_BYTES, first_draw, is_scattered
from lineage_plugin.evidence.repeats import search_elements
from lineage_plugin.evidence.sample import Probe, Sample, entropy, read_units
from lineage_plugin.evidence.tally import Tally
from lineage_plugin.options import Options

__all__ = ["LayerStage", "align_by_layer"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_Turn = Callable[[UnitGroup, Sequence[str], Sequence[FloatArray]], tuple[FloatArray, ...]]
"""Brings vectors into common coordinates."""

LEAST_SCORE = 4.0
"""Standardised swap score from which two layers may be called the same."""
HELD_BYTES = 24 << 20
"""Bytes of float32 units of one kind that are held of one model; of larger models search and test are read apart."""
SEARCHED_UNITS = 64
"""Units that are searched of a large model, by some of their elements."""
FEW_PAIRS = 24
"""Pairs of a group on the Hub below which all of them are searched, and signs alone tossed."""
EXPERTS = 4
"""Experts of a layer that are looked at."""


@dataclass(frozen=True, eq=False, slots=True)
class LayerStage:
    """Outcome of the search.

    Attributes:
        layers: Which layer of the base each layer of the suspect corresponds to, by position among the layers.
        suspect_layers: Numbers of the suspect's layers, in order.
        base_layers: Numbers of the base's layers, in order.
        tally: Coins and effects of the units that the search did not look at; empty when no layer was found.
    """

    layers: LayerMap
    suspect_layers: tuple[int, ...]
    base_layers: tuple[int, ...]
    tally: Tally

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the numbers of corresponding layers, the suspect's first."""
        for mine, position in zip(self.suspect_layers, self.layers.base_of, strict=True):
            if position is not None:
                yield mine, self.base_layers[position]


@dataclass(frozen=True, eq=False, slots=True)
class _Shelf:
    """The same units of all layers of one kind and part.

    Of small models, and over the Hub, the vectors of all ``units`` are held. Of large ones those of the searched units
    are, shortened; the others are read when the layers are known.
    """

    pair: GroupPair
    units: IntArray
    odd: tuple[bool, ...]
    suspect: Mapping[int, UnitGroup]
    base: Mapping[int, UnitGroup]
    suspect_vectors: Mapping[int, tuple[FloatArray, ...]]
    base_vectors: Mapping[int, tuple[FloatArray, ...]]
    search: IntArray
    test: IntArray
    swaps: bool
    shortened: bool = False


def align_by_layer(models: Models, options: Options, frame: Frame | None = None) -> LayerStage | None:
    """Find which layer became which, and toss coins on units that the search did not look at.

    Args:
        models: Suspect and base.
        options: Seed and budget.
        frame: Common coordinates of the two streams; None when they are the same.

    Returns:
        The outcome, or None when no kind of unit has the same form in both models.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    stored, _ = match_groups(models.suspect_anatomy, models.base_anatomy)
    filled = [_fill(models, found, stored, options, frame) for found in _kinds(models, frame)]
    shelves = [shelf for shelf in filled if shelf is not None]
    shelves = [shelf for shelf in shelves if shelf.search.shape[0] >= 4 and shelf.test.shape[0] >= 2]
    if not shelves:
        return None
    mine = tuple(sorted({layer for shelf in shelves for layer in shelf.suspect}))
    others = tuple(sorted({layer for shelf in shelves for layer in shelf.base}))
    total = np.zeros((len(mine), len(others)))
    weight = np.zeros_like(total)
    for shelf in shelves:
        rows = [mine.index(layer) for layer in shelf.suspect_vectors]
        columns = [others.index(layer) for layer in shelf.base_vectors]
        found = swap_scores(
            list(shelf.suspect_vectors.values()), list(shelf.base_vectors.values()), shelf.odd, shelf.search
        )
        total[np.ix_(rows, columns)] += found
        weight[np.ix_(rows, columns)] += 1
    scores = total / np.sqrt(np.maximum(weight, 1))
    layers = align_layers(scores, least=LEAST_SCORE)
    tally = Tally(models.exact, len(others), models.rounded)
    stage = LayerStage(layers, mine, others, tally)
    samples = [_sample(models, frame, shelf, a, b) for a, b in stage.pairs() for shelf in shelves]
    tally.add([sample for sample in samples if sample is not None], as_stored=frame is None)
    return stage


def _kinds(
    models: Models, frame: Frame | None
) -> Iterator[tuple[GroupPair, dict[int, UnitGroup], dict[int, UnitGroup]]]:
    """Yield for each kind and part the usual form of its groups and the layers that have it."""
    mine, others = _parts(models.suspect_anatomy), _parts(models.base_anatomy)
    for key, bases in others.items():
        candidates = mine.get(key)
        if candidates is None:
            continue
        base, suspect = _usual(bases), _usual(candidates)
        experts = len({group.part for group in models.suspect_anatomy.groups if group.name == "experts"})
        pair = pair_groups(suspect, base, experts=experts, same_width=frame is None)
        if pair is None or (frame is None and models.suspect_anatomy.width != models.base_anatomy.width):
            continue
        roles = _cheap_roles(models, pair)
        if not roles:
            continue
        yield (
            replace(pair, roles=roles),
            {group.layer: group for group in candidates if _has_form(group, suspect, roles)},
            {group.layer: group for group in bases if _has_form(group, base, roles)},
        )


def _has_form(group: UnitGroup, usual: UnitGroup, roles: Sequence[str]) -> bool:
    """Whether a layer's units can be stacked with those of the others: as many, with vectors of the same lengths."""
    return group.units == usual.units and set(roles) <= set(shared_roles(group, usual))


def _cheap_roles(models: Models, pair: GroupPair) -> tuple[str, ...]:
    """Leave out the vectors that are columns of a large matrix, which would be read whole, in every layer.

    Over the Hub one role of each kind, with a sign if there is one, has to do where every layer is read anew.
    """
    most = LOCAL_COLUMN_BYTES if models.local else HUB_COLUMN_BYTES
    sides = ((models.suspect, pair.suspect), (models.base, pair.base))
    dear = {
        vectors.role
        for checkpoint, group in sides
        for vectors in group.vectors
        if is_scattered(vectors, info := checkpoint.tensors[vectors.tensor]) and info.nbytes > most
    }
    roles = tuple(role for role in pair.roles if role not in dear)
    if models.local or not _depth_differs(models):
        return roles
    odd = {vectors.role for vectors in pair.base.vectors if vectors.odd}
    return tuple(sorted(roles, key=lambda role: role not in odd))[:1]


def _depth_differs(models: Models) -> bool:
    return models.suspect_anatomy.layers != models.base_anatomy.layers


def _parts(anatomy: Anatomy) -> dict[tuple[str, int], list[UnitGroup]]:
    found: dict[tuple[str, int], list[UnitGroup]] = {}
    for group in anatomy.groups:
        if group.swap and (group.name != "experts" or group.part < EXPERTS):
            found.setdefault((kind(group), group.part), []).append(group)
    return found


def _usual(groups: Sequence[UnitGroup]) -> UnitGroup:
    counts = np.bincount([group.units for group in groups])
    return next(group for group in groups if group.units == int(counts.argmax()))


def _fill(
    models: Models,
    found: tuple[GroupPair, dict[int, UnitGroup], dict[int, UnitGroup]],
    stored: Sequence[GroupPair],
    options: Options,
    frame: Frame | None,
) -> _Shelf | None:
    pair, suspects, bases = found
    if models.local or _depth_differs(models):
        stored = [pair]
    elif all(other.base.name != pair.base.name for other in stored):
        stored = [replace(pair, base=group) for group in bases.values()]
    # Over the Hub the draw of the stored order, whose units are at hand. Of deep models it is too small for a search:
    # where layers must have moved, more units are read.
    draw = first_draw(models.suspect, models.base, stored, seed=options.seed, budget=options.budget)
    units = draw.units(pair.base)
    units = units[pair.partners_of(units) >= 0]
    if not units.size:
        # A kind that the first rounds pass over, such as query-key channels over the Hub.
        return None
    theirs = pair.base.by_role
    width = models.base_anatomy.width
    size = 4 * max(width, 1) * sum(theirs[role].index.shape[1] for role in pair.roles)
    limit = max(16, HELD_BYTES // (size * max(len(suspects), len(bases))))
    drawn = draw_pairs(pair.base.block[units], [*entropy(options.seed, pair.base), 3])
    if models.local and 2 * drawn.shape[0] > limit and limit < 2 * SEARCHED_UNITS:
        most = min(SEARCHED_UNITS // 2, drawn.shape[0] // 2)
        return _shortened(models, frame, pair, suspects, bases, units, drawn[:most], drawn[most : most + limit // 2])
    pairs = drawn[: limit // 2]
    # Units without a partner are not read, except over the Hub, where the same rows were read before.
    kept = np.unique(pairs) if models.local else np.arange(units.shape[0])
    units, pairs = units[kept], np.searchsorted(kept, pairs).astype(np.int64)
    # Of deep models on the Hub there are too few pairs to keep some from the search; signs can still be tossed on all.
    few = not models.local and pairs.shape[0] < FEW_PAIRS
    half = pairs.shape[0] // 2
    return _Shelf(
        pair=pair,
        units=units,
        odd=_odd(pair),
        suspect=suspects,
        base=bases,
        suspect_vectors=_vectors(models.suspect, suspects, pair.partners_of(units), pair.roles, _turns(frame)[0]),
        base_vectors=_vectors(models.base, bases, units, pair.roles, _turns(frame)[1]),
        search=pairs if few else pairs[:half],
        test=pairs if few else pairs[half:],
        swaps=not few,
    )


def _shortened(
    models: Models,
    frame: Frame | None,
    pair: GroupPair,
    suspects: Mapping[int, UnitGroup],
    bases: Mapping[int, UnitGroup],
    units: IntArray,
    search: IntArray,
    test: IntArray,
) -> _Shelf:
    """Return the searched units of a large model, layer by layer and of each vector some elements."""
    kept = np.unique(search)
    wanted = units[kept]

    def held(
        checkpoint: Checkpoint, groups: Mapping[int, UnitGroup], numbers: IntArray, turn: _Turn | None
    ) -> dict[int, tuple[FloatArray, ...]]:
        found = {}
        for layer, group in groups.items():
            rows = _vectors(checkpoint, {layer: group}, numbers, pair.roles, turn)[layer]
            found[layer] = tuple(part[:, search_elements(part.shape[1])] for part in rows)
        return found

    turns = _turns(frame)
    return _Shelf(
        pair=pair,
        units=units,
        odd=_odd(pair),
        suspect=suspects,
        base=bases,
        suspect_vectors=held(models.suspect, suspects, pair.partners_of(wanted), turns[0]),
        base_vectors=held(models.base, bases, wanted, turns[1]),
        search=np.searchsorted(kept, search).astype(np.int64),
        test=test,
        swaps=True,
        shortened=True,
    )


def _turns(frame: Frame | None) -> tuple[_Turn | None, _Turn | None]:
    return (None, None) if frame is None else (frame.of_suspect, frame.of_base)


def _odd(pair: GroupPair) -> tuple[bool, ...]:
    mine, theirs = pair.suspect.by_role, pair.base.by_role
    return tuple(mine[role].odd and theirs[role].odd for role in pair.roles)


def _vectors(
    checkpoint: Checkpoint,
    groups: Mapping[int, UnitGroup],
    units: IntArray,
    roles: tuple[str, ...],
    turn: _Turn | None,
) -> dict[int, tuple[FloatArray, ...]]:
    """Read the same units of several layers in one call, in common coordinates."""
    rows = read_units(checkpoint, [(group, units, roles) for group in groups.values()])
    if turn is not None:
        rows = [turn(group, roles, found) for group, found in zip(groups.values(), rows, strict=True)]
    return dict(zip(groups, rows, strict=True))


def _sample(models: Models, frame: Frame | None, shelf: _Shelf, suspect: int, base: int) -> Sample | None:
    """Return the units of two corresponding layers that the search did not look at."""
    if suspect not in shelf.suspect_vectors or base not in shelf.base_vectors:
        return None
    pair, chosen = shelf.pair, np.unique(shelf.test)
    units = shelf.units[chosen]
    partners = pair.partners_of(units)
    mine, theirs = shelf.suspect[suspect], shelf.base[base]
    if shelf.shortened:
        turns = _turns(frame)
        mine_rows = _vectors(models.suspect, {suspect: mine}, partners, pair.roles, turns[0])[suspect]
        their_rows = _vectors(models.base, {base: theirs}, units, pair.roles, turns[1])[base]
    else:
        mine_rows = tuple(part[chosen] for part in shelf.suspect_vectors[suspect])
        their_rows = tuple(part[chosen] for part in shelf.base_vectors[base])
    return Sample(
        Probe(mine, theirs, units, pair.roles, partners, swaps=shelf.swaps),
        pair.roles,
        shelf.odd,
        mine_rows,
        their_rows,
        np.searchsorted(chosen, shelf.test).astype(np.int64),
    )
