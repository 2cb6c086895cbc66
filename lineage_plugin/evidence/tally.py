"""What has been seen so far of one pairing: counts and second moments, not weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np

from lineage_plugin.evidence.direction import indicate_direction
from lineage_plugin.evidence.effects import Differences, cosine, differences, ratio_interval
from lineage_plugin.evidence.evalue import log10_e_value, log10_mean
from lineage_plugin.evidence.facts import StoredRows, stored_rows
from lineage_plugin.evidence.inheritance import Grams, RowEnergies, descent, grams, row_energies
from lineage_plugin.evidence.ledger import CoinCount, Ledger, Side, Toss
from lineage_plugin.evidence.pair import NO_COINS, GroupCoins, LayerCoins, PairEvidence
from lineage_plugin.evidence.pairing import kind
from lineage_plugin.evidence.sample import Sample
from lineage_plugin.evidence.undo import is_alike, rescaled, turned
from lineage_plugin.live import watching
from lineage_plugin.options import Options

__all__ = ["Tally"]

SHARED_SCORE = 3.0
"""Normal score of the shared energy from which a group takes part in the inheritance statistics."""
CURVE_MATRICES = 128
"""Matrices whose inner products are kept for the inheritance curve."""
STORED_BYTES = 24 << 20
"""Bytes of rows that are kept for a look at their values."""


class Tally:
    """What is kept between rounds: counts and second moments, not weights (but for a few units, to find repeats).

    Args:
        exact: Whether coins of different groups may be pooled.
        layers: Number of layers of the base that are to be read.
        rounded: Which of the models are quantised; see :class:`lineage_plugin.evidence.ledger.Ledger`.
    """

    def __init__(self, exact: bool, layers: int, rounded: Collection[Side] = ()) -> None:
        self.layers = layers
        self.covered: set[int] = set()
        self._exact = exact
        self._ledger = Ledger(rounded)
        self._parts: list[Differences] = []
        self._rows: list[RowEnergies] = []
        self._grams: list[Grams] = []
        self._equal = True
        self.rescaled: set[str] = set()
        self._stored: list[StoredRows] = []
        self._stored_bytes = 0

    def add(self, samples: Sequence[Sample], *, as_stored: bool = True) -> None:
        """Toss the coins of what was read, and measure how much is shared.

        Args:
            samples: Units that no earlier call brought.
            as_stored: Whether the vectors are as the files have them, in no other coordinates.
        """
        self._ledger.add(samples)
        for sample in samples:
            self.covered.add(sample.probe.base.layer)
            if sample.probe.searched and not is_alike(sample):
                continue
            if as_stored:
                self._keep(sample)
            restored = turned(sample)
            scaled = rescaled(restored)
            if scaled is not None:
                self.rescaled.add(kind(sample.probe.base))
                restored = scaled
            parts = differences(restored)
            self._parts.extend(parts)
            # Rows whose meaning is fixed from outside, such as rotary pairs, are large in both models anyway. Groups
            # that share nothing have no inheritance to describe: a replaced layer says nothing about the others.
            if sample.probe.base.swap and _shares(parts):
                self._rows.extend(row_energies(restored))
                if len(self._grams) < CURVE_MATRICES:
                    self._grams.extend(grams(restored))
            self._equal &= all(np.array_equal(a, b) for a, b in zip(sample.suspect, sample.base, strict=True))
        live = watching()
        if live is not None:
            count = _count_of(self._ledger.tosses())
            live.tossed(count.coins, count.heads)

    def evidence(self, options: Options, *, complete: bool, describe: bool | None = None) -> PairEvidence:
        """Return the evidence so far.

        Args:
            options: Bar and seed.
            complete: Whether every layer was read.
            describe: Whether to describe what is shared; None: when the coins reach the bar.

        Returns:
            The evidence, its e-value that of this pairing alone.
        """
        tosses = self._ledger.tosses()
        cross = np.concatenate([part.cross for part in self._parts] or [np.zeros(0)])
        own = np.concatenate([part.suspect for part in self._parts] or [np.zeros(0)])
        other = np.concatenate([part.base for part in self._parts] or [np.zeros(0)])
        found = PairEvidence(
            log10_e=_weigh(tosses, self._exact),
            count=_count_of(tosses),
            exact=self._exact,
            groups=_by_kind(tosses, self._exact),
            layers=_by_layer(tosses, self._parts),
            kept=ratio_interval(cross, other),
            reverse=ratio_interval(cross, own),
            complete=complete,
            equal=self._equal and bool(self._parts),
        )
        # What is shared can be described only where something is: of independent models these are ratios of noise.
        if not (found.log10_e >= options.bar if describe is None else describe):
            return found
        return replace(
            found,
            descent=descent(self._grams, self._rows, options.seed),
            ascent=descent([g.exchanged() for g in self._grams], [r.exchanged() for r in self._rows], options.seed),
            direction=indicate_direction(self._parts, found.kept.estimate, found.reverse.estimate),
        )

    @property
    def stored(self) -> tuple[StoredRows, ...]:
        """Some of the rows that were read, for a look at their values."""
        return tuple(self._stored)

    def _keep(self, sample: Sample) -> None:
        for rows in stored_rows(sample):
            size = rows.suspect.nbytes + rows.base.nbytes
            if self._stored_bytes + size <= STORED_BYTES:
                self._stored.append(rows)
                self._stored_bytes += size

    def limits(self) -> tuple[str, ...]:
        """Return plain sentences about coins that were merged or left out."""
        said = []
        for name in sorted(self._ledger.repeats):
            said.append(f"Some units of the base are nearly copies of each other ({name}); they share one coin.")
        for name in sorted(self._ledger.sorted_kinds):
            said.append(
                f"The suspect's units are sorted ({name}); they are not exchangeable, so only signs were tossed."
            )
        return tuple(said)


def _shares(parts: Sequence[Differences]) -> bool:
    """Whether a group's shared energy stands out: a score that is standard normal when its units are independent.

    A handful of pairs cannot reach any score: n equal terms give sqrt(n). For them most of what is possible is asked.
    """
    scores, most = [], []
    for part in parts:
        # Cosines, pair by pair: a few large pairs would outweigh all others in the energies.
        scale = np.sqrt(part.suspect) * np.sqrt(part.base)
        cosines = part.cross[scale > 0] / scale[scale > 0]
        if cosines.any():
            scores.append(float(cosines.sum() / np.sqrt((cosines**2).sum())))
            most.append(math.sqrt(cosines.shape[0]))
    if not scores:
        return False
    return sum(scores) / math.sqrt(len(scores)) > min(SHARED_SCORE, 0.75 * sum(most) / math.sqrt(len(most)))


def _count_of(tosses: Iterable[Toss]) -> CoinCount:
    """Return all coins and heads together."""
    return sum((toss.count for toss in tosses), NO_COINS)


def _weigh(tosses: Sequence[Toss], exact: bool) -> float:
    """Return ``log10 E``: of all coins together, or, for an unknown graph, the mean over its tensors.

    Nothing is known about how tensors of an unknown graph hang together; the mean is valid whatever it is.
    """
    if exact or not tosses:
        total = _count_of(tosses)
        return log10_e_value(total.heads, total.coins)
    tensors: dict[int, CoinCount] = {}
    for toss in tosses:
        tensors[toss.layer] = tensors.get(toss.layer, NO_COINS) + toss.count
    return log10_mean([log10_e_value(count.heads, count.coins) for count in tensors.values()])


def _by_kind(tosses: Sequence[Toss], exact: bool) -> tuple[GroupCoins, ...]:
    kinds: dict[str, list[Toss]] = {}
    for toss in tosses:
        kinds.setdefault(f"{toss.name} {toss.kind}", []).append(toss)
    return tuple(GroupCoins(name, _count_of(of), _weigh(of, exact)) for name, of in sorted(kinds.items()))


def _by_layer(tosses: Sequence[Toss], parts: Sequence[Differences]) -> tuple[LayerCoins, ...]:
    """Return a row for each layer of the suspect and the layer of the base it was set against.

    Coins belong to the base's layers: where one became several, the first row has them.
    """
    rows: dict[tuple[int, int], list[Differences]] = {}
    for part in parts:
        rows.setdefault((part.base_layer, part.suspect_layer), []).append(part)
    counted: set[int] = set()
    found = []
    for (layer, mine), members in sorted(rows.items()):
        count = NO_COINS if layer in counted else _count_of(t for t in tosses if t.layer == layer)
        counted.add(layer)
        found.append((mine, LayerCoins(str(mine), str(layer), count, cosine(members))))
    return tuple(row for _, row in sorted(found, key=lambda item: item[0]))
