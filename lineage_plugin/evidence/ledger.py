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

from lineage_plugin.evidence.coins import sign_statistics, swap_statistics
from lineage_plugin.evidence.order import is_sorted, order_score
from lineage_plugin.evidence.repeats import repeat_classes, repeated_units, search_units
from lineage_plugin.evidence.sample import Sample

__all__ = ["CoinCount", "Ledger", "Toss"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
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
        self._tossed: set[tuple[_Key, bytes]] = set()
        self.repeats: set[str] = set()

    def add(self, samples: Sequence[Sample]) -> None:
        """Toss the coins of newly read samples.

        Args:
            samples: What a round read; no unit of a group that an earlier round read.
        """
        for sample in samples:
            if sample.probe.base.swap:
                score = order_score(sample.suspect, sample.probe.base.block[sample.probe.units])
                self._scores.setdefault(sample.probe.base.name, []).append(score)
        self._classify([sample for sample in samples if sample.probe.base.key not in self._class])
        copies: dict[tuple[_Key, bytes], list[Sample]] = {}
        for sample in samples:
            copies.setdefault((self._class[sample.probe.base.key], sample.probe.units.tobytes()), []).append(sample)
        for units, alike in copies.items():
            if units not in self._tossed:
                self._tossed.add(units)
                self._toss(alike)

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

    def _toss(self, copies: Sequence[Sample]) -> None:
        first = copies[0]
        group = first.probe.base
        clone = repeated_units(first.base)
        if clone.any():
            self.repeats.add(group.name)
        # One fair coin per base unit: statistics of all copies are added, then the sum is tossed.
        if first.pairs.shape[0]:
            swap = np.sum([swap_statistics(s.suspect, s.base, s.odd, s.pairs) for s in copies], axis=0)
            swap[clone[first.pairs].any(axis=1)] = 0.0
            self._tosses.append(Toss(group.name, group.layer, "swap", _count(swap)))
        if any(first.odd):
            sign = np.sum([sign_statistics(s.suspect, s.base, s.odd) for s in copies], axis=0)
            sign[clone] = 0.0
            self._tosses.append(Toss(group.name, group.layer, "sign", _count(sign)))

    @property
    def sorted_kinds(self) -> frozenset[str]:
        """Kinds of group whose units are sorted in the suspect."""
        return frozenset(name for name, scores in self._scores.items() if is_sorted(scores))

    def tosses(self) -> tuple[Toss, ...]:
        """Return all tosses that count."""
        dropped = self.sorted_kinds
        return tuple(t for t in self._tosses if t.count.coins and not (t.kind == "swap" and t.name in dropped))


def _form(sample: Sample) -> _Form:
    """What must agree for units of two groups to be set against each other: kind, units drawn, roles and lengths."""
    dims = tuple(f"{role}:{part.shape[1]}" for role, part in zip(sample.roles, sample.base, strict=True))
    return (sample.probe.base.name, sample.probe.units.tobytes(), dims)


def _count(statistic: Float64Array) -> CoinCount:
    # Exact ties and values that are not finite are no coins; both are unchanged by the swap, so dropping them is fair.
    usable = np.isfinite(statistic) & (statistic != 0.0)
    return CoinCount(int(usable.sum()), int((statistic[usable] > 0).sum()))
