"""Which layers of two fingerprints are set against each other, and what of them may be tossed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import cast

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.layers import LayerMap, align_layers
from lineage_plugin.evidence.ledger import components
from lineage_plugin.evidence.rounding import common_block
from lineage_plugin.fingerprint.bits import dots
from lineage_plugin.fingerprint.types import Fingerprint, Shelf, ShelfForm, Strip

__all__ = ["ShelfPair", "find_layers", "pair_shelves", "same_layers"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Float64Array = NDArray[np.float64]

SEARCHED = 32
"""Units by which layers are told apart."""
SEARCH_BITS = 64
LEAST_SCORE = 4.0
"""Standardised score from which two layers may be called the same; see :func:`align_layers`."""

_MOST_TRIED, _MOST_PAIRS = 1 << 16, 1024
"""Pairs of shelves that are looked at, and that are kept. Only a forged file has more, and each costs time."""
_MOST_SCORES = 1 << 18
"""Pairs of layers that are searched, 512 by 512: more than any model has, and all that a forged file may cost."""


@dataclass(frozen=True, eq=False, slots=True)
class ShelfPair:
    """Two shelves whose units can be set against each other, and the layers that are.

    Attributes:
        suspect: The suspect's shelf.
        base: The base's.
        strips: The roles that both have in equal form.
        units: Units that both hold.
        block: Neighbouring units that may change places in both.
        signs: Whether sign coins may be tossed.
        rounded: Whether the base is quantised here, so that the suspect's repeats count, too.
        mine: Positions of the suspect's layers.
        theirs: Positions of the base's layers.
        fresh: First unit whose swap coins no search has looked at.
    """

    suspect: Shelf
    base: Shelf
    strips: tuple[tuple[Strip, Strip], ...]
    units: int
    block: int
    signs: bool
    rounded: bool
    mine: IntArray
    theirs: IntArray
    fresh: int = 0

    @property
    def swaps(self) -> bool:
        """Whether units may change places, so far as their order tells."""
        quantised = any(strip.shared is not None for pair in self.strips for strip in pair)
        return self.base.swap and not self.suspect.ordered and not (quantised and self.base.ordered)

    @property
    def usable(self) -> BoolArray:
        """``[layers, units]`` units that have coins."""
        fine: BoolArray = self.suspect.usable[self.mine, : self.units]
        fine = fine & self.base.usable[self.theirs, : self.units] & ~self.base.clone[self.theirs, : self.units]
        return fine & ~self.suspect.clone[self.mine, : self.units] if self.rounded else fine

    @property
    def repeats(self) -> IntArray:
        """``[layers]`` first of the layers whose coins are one: they are set against one base layer, or its repeats."""
        label = self.base.repeats[self.theirs]
        if self.rounded:
            label = components(label, self.suspect.repeats[self.mine])
        _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
        return cast(IntArray, first[inverse.reshape(-1)].astype(np.int64))


def pair_shelves(suspect: Fingerprint, base: Fingerprint) -> tuple[ShelfPair, ...]:
    """Return the shelves of two fingerprints that can be compared, without any layers yet.

    Units must be as many in both and run over vectors of equal length; neurons of a dense MLP and of the first expert
    are of one kind. Where both are quantised, what rounding leaves exchangeable is compared
    (:mod:`lineage_plugin.evidence.rounding`).
    """
    of_form: dict[ShelfForm, list[Shelf]] = {}
    for mine in suspect.shelves:
        of_form.setdefault(mine.form, []).append(mine)
    neurons = [mine for mine in suspect.shelves if _neurons(mine)]
    alike = (
        (mine, theirs)
        for theirs in base.shelves
        for mine in of_form.get(theirs.form, neurons if _neurons(theirs) else [])
    )
    found = (_pair(mine, theirs) for mine, theirs in islice(alike, _MOST_TRIED))
    return tuple(islice((pair for pair in found if pair is not None), _MOST_PAIRS))


def _neurons(shelf: Shelf) -> bool:
    return shelf.kind in ("mlp", "experts") and shelf.part == 0


def _pair(mine: Shelf, theirs: Shelf) -> ShelfPair | None:
    if (mine.units, mine.block, mine.swap) != (theirs.units, theirs.block, theirs.swap):
        return None
    held = {strip.role: strip for strip in mine.strips}
    strips = [
        (held[strip.role], strip)
        for strip in theirs.strips
        if strip.role in held and (held[strip.role].dim, held[strip.role].odd) == (strip.dim, strip.odd)
    ]
    rounded = [any(pair[side].shared is not None for pair in strips) for side in (0, 1)]
    block, signs = theirs.block, True
    if all(rounded):
        sizes = [common_block({s.shared for s in pair if s.shared is not None}) for pair in strips]
        strips = [pair for pair, size in zip(strips, sizes, strict=True) if size != 0]
        limits = [size for size in sizes if size > 1]
        block, signs = int(np.gcd.reduce([block, *limits])), False
    units = min(mine.held, theirs.held)
    if not strips or units < 2:
        return None
    empty = np.zeros(0, dtype=np.int64)
    return ShelfPair(mine, theirs, tuple(strips), units, block, signs, rounded[1], empty, empty)


def same_layers(pairs: Sequence[ShelfPair]) -> tuple[ShelfPair, ...]:
    """Set layers of equal number against each other."""
    found = []
    for pair in pairs:
        _, mine, theirs = np.intersect1d(pair.suspect.layers, pair.base.layers, return_indices=True)
        if mine.size:
            found.append(replace(pair, mine=mine.astype(np.int64), theirs=theirs.astype(np.int64)))
    return tuple(_once(found))


def _once(pairs: Sequence[ShelfPair]) -> Iterator[ShelfPair]:
    """Leave out layers whose units have their coins in an earlier pair of shelves.

    One shelf can be set against two, where layers of one form differ in their roles.
    """
    taken: set[tuple[Shelf, int]] = set()
    for pair in pairs:
        owners: list[tuple[tuple[Shelf, int], ...]] = [((pair.base, int(of)),) for of in pair.base.repeats[pair.theirs]]
        if pair.rounded:
            mine = pair.suspect.repeats[pair.mine]
            owners = [(*held, (pair.suspect, int(at))) for held, at in zip(owners, mine, strict=True)]
        fresh = np.array([taken.isdisjoint(held) for held in owners])
        taken.update(*owners)
        if fresh.any():
            yield replace(pair, mine=pair.mine[fresh], theirs=pair.theirs[fresh])


def find_layers(pairs: Sequence[ShelfPair]) -> tuple[tuple[ShelfPair, ...], LayerMap, tuple[int, ...], tuple[int, ...]]:
    """Find which layer became which, from the first half of the units and from what sign flips leave alone.

    Swap coins are left to the other half; sign coins to all units, since the search saw no sign.

    Args:
        pairs: Comparable shelves.

    Returns:
        The pairs with their layers, the map, and the numbers of the suspect's and the base's layers.
    """
    searched = [pair for pair in pairs if pair.base.swap and pair.units >= 4]
    mine = tuple(sorted({layer for pair in searched for layer in pair.suspect.layers}))
    theirs = tuple(sorted({layer for pair in searched for layer in pair.base.layers}))
    if len(mine) * len(theirs) > _MOST_SCORES:
        searched, mine, theirs = [], (), ()
    total = np.zeros((len(mine), len(theirs)))
    count = np.zeros_like(total)
    for pair in searched:
        rows = np.searchsorted(mine, pair.suspect.layers)
        columns = np.searchsorted(theirs, pair.base.layers)
        total[np.ix_(rows, columns)] += _scores(pair)
        count[np.ix_(rows, columns)] += 1
    layers = align_layers(total / np.sqrt(np.maximum(count, 1)), least=LEAST_SCORE)
    matched = [(mine[at], theirs[of]) for at, of in layers.pairs]
    return tuple(_once(list(_with_layers(searched, matched)))), layers, mine, theirs


def _with_layers(pairs: Sequence[ShelfPair], matched: Sequence[tuple[int, int]]) -> Iterator[ShelfPair]:
    for pair in pairs:
        here = {layer: at for at, layer in enumerate(pair.suspect.layers)}
        there = {layer: at for at, layer in enumerate(pair.base.layers)}
        both = [(here[a], there[b]) for a, b in matched if a in here and b in there]
        if both:
            mine, theirs = np.array(both, dtype=np.int64).T
            # The search looked at whole pairs; trees begin behind them.
            yield replace(pair, mine=mine, theirs=theirs, fresh=_searched(pair.units))


def _searched(units: int) -> int:
    half = min(SEARCHED, units // 2)
    return half - half % 2


def _scores(pair: ShelfPair) -> Float64Array:
    """Score all layers of one shelf against all of the other: about standard normal for independent layers.

    The score is the sum of the swap statistics of the searched pairs over its deviation. For independent bits that is
    ``sqrt(bits)`` a product; the larger of this and of what the table itself shows (its median magnitude, since few
    layers correspond) is taken.
    """
    units = _searched(pair.units)
    statistic: Float64Array = np.zeros((len(pair.suspect.layers), len(pair.base.layers), units // 2))
    variance = 0.0
    for mine, theirs in pair.strips:
        size = min(mine.bits.shape[2], theirs.bits.shape[2], SEARCH_BITS // 8)
        a, b = mine.bits[:, :units, :size], theirs.bits[:, :units, :size]
        even = np.abs if mine.odd else np.positive
        for one, other, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1), (1, 0, -1)):
            statistic += sign * even(dots(a[:, None, one::2], b[None, :, other::2]))
        # A magnitude of a normal number has this share of its variance.
        variance += 4 * (units // 2) * 8 * size * ((1 - 2 / np.pi) if mine.odd else 1.0)
    fine = pair.suspect.usable[:, None, :units] & pair.base.usable[None, :, :units]
    total: Float64Array = np.where(fine[..., ::2] & fine[..., 1::2], statistic, 0.0).sum(axis=2)
    return total / max(float(np.sqrt(variance)), float(np.median(np.abs(total))) / 0.6745)
