"""The independence ledger: which coins were tossed, and each only once.

Counting heads assumes the coins are *jointly* fair. The ledger is where that is enforced: coins belong to the units of
the base; repeats of a unit inside the base share one coin; a unit is tossed once however often it is read; swap coins
of a kind whose units are sorted in the suspect are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.stream import WRITES
from lineage_plugin.evidence.coins import sign_statistics, swap_statistics
from lineage_plugin.evidence.order import is_sorted, order_score
from lineage_plugin.evidence.repeats import repeat_classes, repeated_units, search_units
from lineage_plugin.evidence.sample import Sample

__all__ = ["CoinCount", "Ledger", "Toss"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

_Key = tuple[str, int, int]
_Form = tuple[str, bytes, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class CoinCount:
    """Coins and heads."""

    coins: int = 0
    heads: int = 0

    def __add__(self, other: CoinCount) -> CoinCount:
        return CoinCount(self.coins + other.coins, self.heads + other.heads)


@dataclass(frozen=True, slots=True)
class Toss:
    """The coins of one group, or of a class of groups that repeat each other.

    Attributes:
        name: Kind of group, such as ``mlp``.
        layer: Layer of the first group of the class, in the base.
        kind: ``swap`` or ``sign``.
        count: Coins and heads.
    """

    name: str
    layer: int
    kind: str
    count: CoinCount


class Ledger:
    """Collects the tosses of a comparison, round by round.

    A toss, once made, is never revised, so that the e-value stays a martingale: a repeat that is read in a later round
    than its first copy is passed over. What is kept between rounds is bounded: a few units of each group's first read.
    """

    def __init__(self) -> None:
        self._tosses: list[Toss] = []
        self._scores: dict[str, list[Float64Array]] = {}
        self._first_reads: dict[_Form, list[tuple[_Key, tuple[FloatArray, ...]]]] = {}
        self._class: dict[_Key, _Key] = {}
        self._swapped: set[tuple[_Key, bytes]] = set()
        self._signed: dict[_Key, IntArray] = {}
        self.repeats: set[str] = set()

    def add(self, samples: Sequence[Sample]) -> None:
        """Toss the coins of newly read samples.

        Args:
            samples: What a round read; no unit of a group that an earlier round read.
        """
        for sample in samples:
            if sample.probe.base.swap and not sample.probe.searched:
                score = order_score(sample.suspect, sample.probe.base.block[sample.probe.units])
                self._scores.setdefault(sample.probe.base.name, []).append(score)
        self._classify([sample for sample in samples if sample.probe.base.key not in self._class])
        classes: dict[_Key, list[Sample]] = {}
        for sample in samples:
            classes.setdefault(self._class[sample.probe.base.key], []).append(sample)
        for key, alike in classes.items():
            clones = [repeated_units(sample.base) for sample in alike]
            if any(clone.any() for clone in clones):
                self.repeats.add(alike[0].probe.base.name)
            self._toss_swaps(key, alike, clones)
            self._toss_signs(key, alike, clones)

    def _classify(self, fresh: Sequence[Sample]) -> None:
        """Find the groups that repeat each other, from the first read of each."""
        searched: dict[_Form, tuple[Sample, IntArray]] = {}
        for sample in fresh:
            chosen, pairs = search_units(sample.pairs, sample.probe.units.shape[0])
            trimmed = tuple(part[chosen] for part in sample.base)
            self._first_reads.setdefault(_form(sample), []).append((sample.probe.base.key, trimmed))
            searched[_form(sample)] = (sample, pairs)
        for form, (sample, pairs) in searched.items():
            reads = self._first_reads[form]
            label = repeat_classes([trimmed for _, trimmed in reads], sample.odd, pairs, sample.probe.base.flip)
            for (key, _), value in zip(reads, label, strict=True):
                self._class.setdefault(key, self._class.get(reads[value][0], reads[value][0]))
            if len(set(label.tolist())) < len(reads):
                self.repeats.add(sample.probe.base.name)

    def _toss_swaps(self, key: _Key, alike: Sequence[Sample], clones: Sequence[BoolArray]) -> None:
        """Toss a fair coin a pair of base units: statistics of all copies are added, then the sum is tossed."""
        reads: dict[bytes, list[tuple[Sample, BoolArray]]] = {}
        for sample, clone in zip(alike, clones, strict=True):
            if sample.pairs.shape[0] and not sample.probe.searched:
                reads.setdefault(sample.probe.units.tobytes(), []).append((sample, clone))
        for units, copies in reads.items():
            if (key, units) in self._swapped:
                continue
            self._swapped.add((key, units))
            group, pairs = copies[0][0].probe.base, copies[0][0].pairs
            statistic = np.sum([swap_statistics(s.suspect, s.base, s.odd, s.pairs) for s, _ in copies], axis=0)
            statistic[copies[0][1][pairs].any(axis=1)] = 0.0
            self._tosses.append(Toss(group.name, group.layer, "swap", _count(statistic)))

    def _toss_signs(self, key: _Key, alike: Sequence[Sample], clones: Sequence[BoolArray]) -> None:
        """Toss a fair coin a base unit, however many suspect units it was set against."""
        group = alike[0].probe.base
        size = max(sample.probe.base.units for sample in alike)
        total = np.zeros(size)
        touched = np.zeros(size, dtype=bool)
        for sample, clone in zip(alike, clones, strict=True):
            odd = _tossed(sample)
            if any(odd):
                statistic = sign_statistics(sample.suspect, sample.base, odd)
                statistic[clone] = 0.0
                np.add.at(total, sample.probe.units, statistic)
                touched[sample.probe.units] = True
        done = self._signed.get(key, np.zeros(0, dtype=np.int64))
        fresh = np.setdiff1d(np.flatnonzero(touched), done)
        self._signed[key] = np.union1d(done, fresh)
        if fresh.size:
            self._tosses.append(Toss(group.name, group.layer, "sign", _count(total[fresh])))

    @property
    def sorted_kinds(self) -> frozenset[str]:
        """Kinds of group whose units are sorted in the suspect."""
        return frozenset(name for name, scores in self._scores.items() if is_sorted(scores))

    def tosses(self) -> tuple[Toss, ...]:
        """Return all tosses that count."""
        dropped = self.sorted_kinds
        return tuple(t for t in self._tosses if t.count.coins and not (t.kind == "swap" and t.name in dropped))


def _tossed(sample: Sample) -> tuple[bool, ...]:
    """Say which roles the sign coins of a sample look at: of searched units only what they write."""
    if not sample.probe.searched:
        return sample.odd
    return tuple(odd and role in WRITES for odd, role in zip(sample.odd, sample.roles, strict=True))


def _form(sample: Sample) -> _Form:
    """What must agree for units of two groups to be set against each other: kind, units drawn, roles and lengths."""
    dims = tuple(f"{role}:{part.shape[1]}" for role, part in zip(sample.roles, sample.base, strict=True))
    return (sample.probe.base.name, sample.probe.units.tobytes(), dims)


def _count(statistic: Float64Array) -> CoinCount:
    # Exact ties and values that are not finite are no coins; both are unchanged by the swap, so dropping them is fair.
    usable = np.isfinite(statistic) & (statistic != 0.0)
    return CoinCount(int(usable.sum()), int((statistic[usable] > 0).sum()))
