"""The independence ledger: which coins were tossed, and each only once.

Counting heads assumes the coins are *jointly* fair. The ledger is where that is enforced: coins belong to the units of
the base; repeats of a unit inside the base share one coin; a unit is tossed once however often it is read; swap coins
of a kind whose units are sorted in the suspect are not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.stream import WRITES
from lineage_plugin.evidence.coins import sign_statistics, swap_statistics
from lineage_plugin.evidence.order import is_sorted, order_score
from lineage_plugin.evidence.repeats import (
    SEARCH_UNITS,
    repeat_classes,
    repeated_units,
    search_elements,
    search_units,
)
from lineage_plugin.evidence.sample import Sample

__all__ = ["CoinCount", "Ledger", "Side", "Toss", "components"]

Side = Literal["suspect", "base"]

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

    The model that is relabelled is the base, and the suspect is what is given. Where the base is quantised it is the
    other way round (:mod:`lineage_plugin.evidence.rounding`), so that repeats inside the suspect share a coin, too; and
    where either is, units that are sorted in either model have no swap coins.

    Args:
        rounded: Which of the models are quantised: ``suspect``, ``base``.
    """

    def __init__(self, rounded: Collection[Side] = ()) -> None:
        self._tosses: list[Toss] = []
        self._repeating: tuple[Side, ...] = ("base", "suspect") if "base" in rounded else ("base",)
        self._sorting: tuple[Side, ...] = ("suspect", "base") if rounded else ("suspect",)
        self._scores: dict[tuple[Side, str], list[Float64Array]] = {}
        self._first_reads: dict[_Form, list[tuple[_Key, dict[Side, tuple[FloatArray, ...]]]]] = {}
        self._class: dict[_Key, _Key] = {}
        self._swapped: set[tuple[_Key, bytes]] = set()
        self._signed: dict[_Key, IntArray] = {}
        self.repeats: set[str] = set()

    def add(self, samples: Sequence[Sample]) -> None:
        """Toss the coins of newly read samples.

        Args:
            samples: What a round read; no unit of a group that an earlier round read. Units that were searched for all
                come in one call.
        """
        for sample in samples:
            if sample.probe.base.swap and not sample.probe.searched:
                for side in self._sorting:
                    score = order_score(_rows(sample, side), sample.probe.base.block[sample.probe.units])
                    self._scores.setdefault((side, sample.probe.base.name), []).append(score)
        searched = [sample for sample in samples if sample.probe.searched]
        stored = [sample for sample in samples if not sample.probe.searched]
        self._toss_searched(searched)
        self._classify([sample for sample in stored if sample.probe.base.key not in self._class])
        classes: dict[_Key, list[Sample]] = {}
        for sample in stored:
            classes.setdefault(self._class[sample.probe.base.key], []).append(sample)
        for key, alike in classes.items():
            clones = [self._clones(sample) for sample in alike]
            if any(clone.any() for clone in clones):
                self.repeats.add(alike[0].probe.base.name)
            self._toss_swaps(key, alike, clones)
            self._toss_signs(key, alike, clones)

    def _classify(self, fresh: Sequence[Sample]) -> None:
        """Find the groups that repeat each other, from the first read of each."""
        searched: dict[_Form, tuple[Sample, IntArray]] = {}
        for sample in fresh:
            chosen, pairs = search_units(sample.pairs, sample.probe.units.shape[0])
            trimmed = {
                side: tuple(part[np.ix_(chosen, search_elements(part.shape[1]))] for part in _rows(sample, side))
                for side in self._repeating
            }
            self._first_reads.setdefault(_form(sample), []).append((sample.probe.base.key, trimmed))
            searched[_form(sample)] = (sample, pairs)
        for form, (sample, pairs) in searched.items():
            reads = self._first_reads[form]
            labels = {
                side: repeat_classes([rows[side] for _, rows in reads], sample.odd, pairs, sample.probe.base.flip)
                for side in self._repeating
            }
            label = labels["base"]
            if "suspect" in labels:
                _, first, whole = np.unique(
                    components(label, labels["suspect"]), return_index=True, return_inverse=True
                )
                label = first[whole]
            for (key, _), value in zip(reads, label, strict=True):
                self._class.setdefault(key, self._class.get(reads[value][0], reads[value][0]))
            # Several partners of one group are the suspect's doing, no repeat of the base.
            if len(set(labels["base"].tolist())) < len({key for key, _ in reads}):
                self.repeats.add(sample.probe.base.name)

    def _clones(self, sample: Sample) -> BoolArray:
        """Say which units of a sample are clones of an earlier one, in a model whose repeats count."""
        clone: BoolArray = np.logical_or.reduce([repeated_units(_rows(sample, side)) for side in self._repeating])
        return clone

    def _toss_swaps(self, key: _Key, alike: Sequence[Sample], clones: Sequence[BoolArray]) -> None:
        """Toss a fair coin a pair of base units: statistics of all copies are added, then the sum is tossed."""
        reads: dict[bytes, list[tuple[Sample, BoolArray]]] = {}
        for sample, clone in zip(alike, clones, strict=True):
            if sample.pairs.shape[0] and sample.probe.swaps:
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
            if any(sample.odd):
                statistic = sign_statistics(sample.suspect, sample.base, sample.odd)
                statistic[clone] = 0.0
                np.add.at(total, sample.probe.units, statistic)
                touched[sample.probe.units] = True
        done = self._signed.get(key, np.zeros(0, dtype=np.int64))
        fresh = np.setdiff1d(np.flatnonzero(touched), done)
        self._signed[key] = np.union1d(done, fresh)
        if fresh.size:
            self._tosses.append(Toss(group.name, group.layer, "sign", _count(total[fresh])))

    def _toss_searched(self, samples: Sequence[Sample]) -> None:
        """Toss the signs of what matched units write, one coin for all units that hang together.

        A base unit and the suspect unit it was matched to hang together; so do copies of one base unit, as far as a
        comparison of the base with itself shows them. Statistics of all that hang together are added: several experts
        copied from one unit, or one unit that several repeated units of the base were matched to, are one coin.
        """
        samples = [sample for sample in samples if any(_written(sample))]
        if not samples:
            return
        same = _repeats(samples, "base")
        base = np.concatenate([_nodes(same[s.probe.base.key], s.probe.units) for s in samples])
        same = _repeats(samples, "suspect") if "suspect" in self._repeating else {}
        suspect = np.concatenate(
            [_nodes(same.get(s.probe.suspect.key, s.probe.suspect.key), s.probe.partner_units) for s in samples]
        )
        _, base = np.unique(base, return_inverse=True)
        _, suspect = np.unique(suspect, return_inverse=True)
        label = components(base, suspect)
        clones = [self._clones(sample) for sample in samples]
        signs = [sign_statistics(s.suspect, s.base, _written(s)) for s in samples]
        # Units of the base that are clones of each other share one coin, as in the stored order: that of the first.
        statistics = np.concatenate([np.where(clone, 0.0, sign) for clone, sign in zip(clones, signs, strict=True)])
        self.repeats.update(s.probe.base.name for s, clone in zip(samples, clones, strict=True) if clone.any())
        total: Float64Array = np.bincount(label, statistics).astype(np.float64)
        place = np.repeat(np.arange(len(samples)), [s.probe.units.shape[0] for s in samples])
        first = np.full(total.shape[0], len(samples))
        np.minimum.at(first, label, place)
        groups: dict[tuple[str, int], list[int]] = {}
        for at, sample in enumerate(samples):
            groups.setdefault((sample.probe.base.name, sample.probe.base.layer), []).append(at)
        for (name, layer), members in groups.items():
            self._tosses.append(Toss(name, layer, "sign", _count(total[np.isin(first, members)])))
        if total.shape[0] < np.unique(base).shape[0]:
            self.repeats.update(sample.probe.base.name for sample in samples)

    @property
    def sorted_kinds(self) -> frozenset[str]:
        """Kinds of group whose units are sorted in the suspect; where one model is quantised, in either."""
        return frozenset(name for (_, name), scores in self._scores.items() if is_sorted(scores))

    def tosses(self) -> tuple[Toss, ...]:
        """Return all tosses that count."""
        dropped = self.sorted_kinds
        return tuple(t for t in self._tosses if t.count.coins and not (t.kind == "swap" and t.name in dropped))


def _written(sample: Sample) -> tuple[bool, ...]:
    """Say which roles the sign coins of searched units look at: what the units write."""
    return tuple(odd and role in WRITES for odd, role in zip(sample.odd, sample.roles, strict=True))


def _nodes(key: _Key, units: IntArray) -> NDArray[np.void]:
    """Return a name for each unit of a group: name, layer, part and number."""
    named = np.empty(
        units.shape[0], dtype=[("name", "U16"), ("layer", np.int64), ("part", np.int64), ("unit", np.int64)]
    )
    named["name"], named["layer"], named["part"], named["unit"] = *key, units
    return named


def components(left: IntArray, right: IntArray) -> IntArray:
    """Return for each edge of a bipartite graph the connected component it belongs to, numbered from 0."""
    label = np.arange(left.shape[0], dtype=np.int64)
    while True:
        before = label.copy()
        for side in (left, right):
            least = np.full(int(side.max()) + 1, label.shape[0], dtype=np.int64)
            np.minimum.at(least, side, label)
            label = least[side]
        if np.array_equal(before, label):
            return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _rows(sample: Sample, side: Side) -> tuple[FloatArray, ...]:
    return sample.base if side == "base" else sample.suspect


def _place(sample: Sample, side: Side) -> tuple[_Key, IntArray]:
    """Return which group of a model a sample is of, and its units there."""
    probe = sample.probe
    return (probe.base.key, probe.units) if side == "base" else (probe.suspect.key, probe.partner_units)


def _repeats(samples: Sequence[Sample], side: Side) -> dict[_Key, _Key]:
    """Return for each group of a model the first one that it repeats, unit by unit; itself, if it repeats none.

    Groups are set against each other on the units that were found in both; a search that sees that model alone.
    """
    groups: dict[_Key, Sample] = {}
    for sample in samples:
        key = _place(sample, side)[0]
        held = groups.get(key)
        if held is None or sample.probe.units.shape[0] > held.probe.units.shape[0]:
            groups[key] = sample
    same: dict[_Key, _Key] = {key: key for key in groups}
    keys = list(groups)
    for at, key in enumerate(keys):
        for other in keys[:at]:
            if same[other] == other and _repeat_each_other(groups[key], groups[other], side):
                same[key] = other
                break
    return same


def _repeat_each_other(one: Sample, other: Sample, side: Side) -> bool:
    if (one.probe.base.name, one.roles) != (other.probe.base.name, other.roles):
        return False
    pair = _rows(one, side), _rows(other, side)
    if any(a.shape[1] != b.shape[1] for a, b in zip(*pair, strict=True)):
        return False
    units, mine, theirs = np.intersect1d(_place(one, side)[1], _place(other, side)[1], return_indices=True)
    if units.shape[0] < 2:
        return False
    chosen = np.floor(np.linspace(0, units.shape[0] - 1, min(SEARCH_UNITS, units.shape[0]))).astype(np.int64)
    pairs = np.arange(chosen.shape[0] // 2 * 2, dtype=np.int64).reshape(-1, 2)
    label = repeat_classes(
        [[part[mine[chosen]] for part in pair[0]], [part[theirs[chosen]] for part in pair[1]]],
        one.odd,
        pairs,
        one.probe.base.flip,
    )
    return int(label[0]) == int(label[1])


def _form(sample: Sample) -> _Form:
    """What must agree for units of two groups to be set against each other: kind, units drawn, roles and lengths."""
    dims = tuple(f"{role}:{part.shape[1]}" for role, part in zip(sample.roles, sample.base, strict=True))
    return (sample.probe.base.name, sample.probe.units.tobytes(), dims)


def _count(statistic: Float64Array) -> CoinCount:
    # Exact ties and values that are not finite are no coins; both are unchanged by the swap, so dropping them is fair.
    usable = np.isfinite(statistic) & (statistic != 0.0)
    return CoinCount(int(usable.sum()), int((statistic[usable] > 0).sum()))
