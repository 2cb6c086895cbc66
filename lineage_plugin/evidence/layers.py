"""Layer alignment: which layer of the base each layer of the suspect was.

Layers are added, dropped, repeated and moved (depth up-scaling, pruning, merging). Every layer of the suspect is
compared with every layer of the base on the same units, and the alignment is the best way through the table of scores.

The scores look at the swap statistics of *some* pairs of units and ignore signs. Under the null hypothesis what remains
is exactly fair, however the alignment was chosen: the swap coins of units that no score looked at, and all sign coins.
The swap coins of the searched pairs are not: the search picked the layers in which they happened to come up heads.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.units import normalised

__all__ = ["LayerMap", "align_layers", "swap_scores"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

CHUNK = 1 << 23
"""Most elements of one role of one model that are normalised at a time."""


BACKWARDS = 1.5
"""Cost of a run that starts before the end of the last one, in costs of a run."""


@dataclass(frozen=True, slots=True)
class LayerMap:
    """Which base layer each suspect layer corresponds to.

    Attributes:
        base_of: For each suspect layer the base layer, or None.
        base_layers: Number of layers of the base.
    """

    base_of: tuple[int | None, ...]
    base_layers: int

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The matched layers: (suspect, base), in the order of the suspect."""
        return tuple((mine, base) for mine, base in enumerate(self.base_of) if base is not None)

    @property
    def repeated(self) -> tuple[int, ...]:
        """Base layers that stand in the suspect more than once."""
        found = [base for _, base in self.pairs]
        return tuple(sorted(base for base in set(found) if found.count(base) > 1))

    @property
    def dropped(self) -> tuple[int, ...]:
        """Base layers without a partner."""
        return tuple(sorted(set(range(self.base_layers)) - {base for _, base in self.pairs}))

    @property
    def inserted(self) -> tuple[int, ...]:
        """Suspect layers without a partner."""
        return tuple(mine for mine, base in enumerate(self.base_of) if base is None)

    @property
    def replaced(self) -> tuple[tuple[int, int], ...]:
        """Suspect layers without a partner that stand where as many base layers are missing, and those: in order."""
        missing = set(self.dropped)
        anchors = [(-1, -1), *self.pairs, (len(self.base_of), self.base_layers)]
        found: list[tuple[int, int]] = []
        for (mine, base), (next_mine, next_base) in itertools.pairwise(anchors):
            between = range(base + 1, next_base)
            if next_mine - mine == next_base - base and missing.issuperset(between):
                found += zip(range(mine + 1, next_mine), between, strict=True)
        return tuple(found)

    @property
    def reordered(self) -> bool:
        """Whether base layers first appear in another order than the base's: blocks that merely recur are in order."""
        first = list(dict.fromkeys(base for _, base in self.pairs))
        return first != sorted(first)

    @property
    def identity(self) -> bool:
        """Whether every layer stands where it stood."""
        return self.base_of == tuple(range(self.base_layers))

    def describe(self) -> tuple[str, ...]:
        """Return what was done to the layers as plain phrases; empty where nothing was, or nothing matched.

        Replaced and inserted layers bear the suspect's numbers, all others the base's; numbers start at 0.
        """
        if not self.pairs:
            return ()
        found = [base for _, base in self.pairs]
        said = []
        for times in sorted({found.count(base) for base in self.repeated}):
            layers = [base for base in self.repeated if found.count(base) == times]
            verb = "appears" if len(layers) == 1 else "appear"
            said.append(f"{_layers(layers)} {verb} {'twice' if times == 2 else f'{times} times'}")
        if self.reordered:
            said.append(f"the layers stand in another order: {_ranges(found)}")
        kinds = (
            ("replaced", [mine for mine, _ in self.replaced]),
            ("inserted", sorted(set(self.inserted) - {mine for mine, _ in self.replaced})),
            ("dropped", sorted(set(self.dropped) - {base for _, base in self.replaced})),
        )
        for kind, layers in kinds:
            if layers:
                said.append(f"{len(layers)} {'layer' if len(layers) == 1 else 'layers'} {kind}: {_ranges(layers)}")
        return tuple(said)


def swap_scores(
    suspect: Sequence[Sequence[FloatArray]], base: Sequence[Sequence[FloatArray]], odd: Sequence[bool], pairs: IntArray
) -> Float64Array:
    """Score every layer of the suspect against every layer of the base by the same units, in identity order.

    The score of two layers is ``sum D / sqrt(sum D^2)`` over the pairs, with ``D`` the statistic of the swap coin
    (:func:`lineage_plugin.evidence.coins.swap_statistics`). Under the null hypothesis the signs of ``D`` are fair
    coins: the score has mean 0 and variance 1, is nearly normal, and reaches ``x`` with probability at most
    ``exp(-x^2 / 2)`` whatever the law of ``D`` (Hoeffding 1963). It cannot exceed ``sqrt(pairs)``. Flipping signs of
    units leaves it alone.

    Args:
        suspect: For each layer one ``[units, dim]`` array a role.
        base: The same; the same units, roles and dims in every layer of both models.
        odd: For each role, whether a sign flip of the unit negates it.
        pairs: ``[pairs, 2]`` disjoint positions along the units.

    Returns:
        ``[suspect layers, base layers]``; 0 where no pair can be compared. A pair with a vector that is zero or not
        finite is passed over.

    Raises:
        ValueError: If roles or shapes differ between layers.
    """
    shape = (len(suspect), len(base))
    if len({tuple(part.shape for part in layer) for layer in (*suspect, *base)}) > 1:
        raise ValueError("the sampled units of the layers differ in shape")
    total, square = np.zeros((2, *shape))
    if not (suspect and base):
        return total
    dim = max(part.shape[1] for part in base[0])
    step = max(1, CHUNK // (2 * max(shape) * max(1, dim)))
    for start in range(0, pairs.shape[0], step):
        units = pairs[start : start + step].T
        statistic = np.zeros((units.shape[1], *shape))
        usable = np.ones((units.shape[1], *shape), dtype=bool)
        for role, is_odd in enumerate(odd):
            # [2, pairs, layers, dim]: the first and the second unit of each pair.
            a, has_a = normalised(np.stack([layer[role][units] for layer in suspect], axis=2))
            b, has_b = normalised(np.stack([layer[role][units] for layer in base], axis=2))
            even = np.abs if is_odd else np.positive
            for i, j, sign in ((0, 0, 1), (1, 1, 1), (0, 1, -1), (1, 0, -1)):
                statistic += sign * even(a[i] @ b[j].transpose(0, 2, 1))
            usable &= np.logical_and.reduce(has_a)[:, :, None] & np.logical_and.reduce(has_b)[:, None, :]
        statistic[~usable] = 0.0
        total += statistic.sum(axis=0)
        square += (statistic**2).sum(axis=0)
    score: Float64Array = total / np.sqrt(np.where(square > 0, square, 1.0))
    return score


def align_layers(scores: Float64Array, *, least: float) -> LayerMap:
    """Find the base layer of each suspect layer.

    A *run* is a stretch of neighbouring layers that are neighbours, in the same order, in the base. With
    ``c = least / 2``, a matched layer earns ``score - c`` and a run costs ``c``, or ``1.5 c`` if it starts before the
    base layer at which the last run ended. So a layer that stands alone must reach ``least`` and one in a long run only
    half of it: a faint diagonal is found where no single score would do. Chance does not profit, since ``n`` scores
    must come to ``(n + 1) c``, which for ``n = 1`` is easiest. A layer out of order amid a run must reach
    ``1.75 least`` (the run is broken, too), so that order yields to clear scores only.

    The best total is found layer by layer. Let ``V(j)`` be the best total so far with base layer ``j`` the last
    matched, and ``W(j)`` the best of those in which it was matched to the very last suspect layer. The next suspect
    layer ``i`` either stays without partner, which leaves ``V`` as it is, or takes ``j``::

        W'(j) = score(i, j) - c + max( W(j-1), max over k <= j of V(k) - c, max over k > j of V(k) - 1.5 c )
        V'(j) = max( V(j), W'(j) )

    (the same run, a new run behind it, a new run before it; the first run costs ``c`` wherever it starts). The maxima
    are running maxima, so the cost is the number of scores.

    A run bridges a single layer of any score, since a break is as dear. In the end, therefore, layers are given up
    whose score is better explained by chance than by being matched: those below half of the median of all matched, or
    ``c`` if that is less.

    Args:
        scores: ``[suspect layers, base layers]``, about standard normal for independent layers; what is not finite
            never matches.
        least: Score a layer must reach to be matched on its own, above 0. At 4, 30% of all tables of 100 by 100
            independent layers hold a false match. Scores of :func:`swap_scores` end at ``sqrt(pairs)``: 64 pairs leave
            room for re-ordered layers at 4.

    Returns:
        The map with the largest total; of equal ones that with fewer matches.
    """
    mine, others = scores.shape
    if not scores.size:
        return LayerMap((None,) * mine, others)
    cost = least / 2
    gain = np.where(np.isfinite(scores), scores, -np.inf) - cost
    best = np.full(others, -np.inf)
    here = best
    # given[i, j]: base layer matched before j was given to i, -1 for none; where[i, j]: the suspect layer it was given.
    given = np.full((mine, others), -1, dtype=np.int64)
    where = np.full((mine, others), -1, dtype=np.int64)
    latest = np.full(others, -1, dtype=np.int64)
    positions = np.arange(others)
    for layer in range(mine):
        up_to, up_to_at = _running_maximum(best)
        beyond, beyond_at = (part[::-1] for part in _running_maximum(best[::-1]))
        first_run = (np.full(others, -cost), np.full(others, -1))
        same_run = (np.append(-np.inf, here[:-1]), positions - 1)
        behind = (up_to - cost, up_to_at)
        before = (np.append(beyond[1:], -np.inf) - BACKWARDS * cost, np.append(others - 1 - beyond_at[1:], -1))
        totals, origins = (np.stack(part) for part in zip(first_run, same_run, behind, before, strict=True))
        choice = totals.argmax(axis=0)
        given[layer] = origins[choice, positions]
        where[layer] = np.where(choice == 1, layer - 1, np.where(choice == 0, -1, latest[given[layer]]))
        here = gain[layer] + totals[choice, positions]
        latest = np.where(here > best, layer, latest)
        best = np.maximum(here, best)
    base_of: list[int | None] = [None] * mine
    if best.max() > 0:
        at = int(best.argmax())
        layer = int(latest[at])
        while layer >= 0:
            base_of[layer] = at
            layer, at = int(where[layer, at]), int(given[layer, at])
    matched = [(layer, at) for layer, at in enumerate(base_of) if at is not None]
    if matched:
        faint = min(cost, float(np.median([scores[pair] for pair in matched])) / 2)
        base_of = [None if at is None or scores[layer, at] < faint else at for layer, at in enumerate(base_of)]
    return LayerMap(tuple(base_of), others)


def _running_maximum(values: Float64Array) -> tuple[Float64Array, IntArray]:
    """Return the largest value up to each position and the first position where it stands."""
    largest = np.maximum.accumulate(values)
    rises = np.append(True, largest[1:] > largest[:-1])
    return largest, np.maximum.accumulate(np.where(rises, np.arange(values.shape[0]), 0))


def _layers(numbers: Sequence[int]) -> str:
    return f"{'layer' if len(numbers) == 1 else 'layers'} {_ranges(numbers)}"


def _ranges(numbers: Sequence[int]) -> str:
    """Write numbers as ranges, in the order given: ``0-3, 8, 5-6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
