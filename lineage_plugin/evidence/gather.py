"""From two opened checkpoints to the evidence about one pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from lineage_plugin.anatomy import Anatomy
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.evidence.direction import indicate_direction
from lineage_plugin.evidence.effects import Differences, MatrixEffect, cosine, differences, ratio_interval
from lineage_plugin.evidence.evalue import log10_e_value, log10_mean
from lineage_plugin.evidence.inheritance import Descent, RowEnergies, descent, row_energies
from lineage_plugin.evidence.ledger import CoinCount, Ledger, Toss
from lineage_plugin.evidence.match import match_groups
from lineage_plugin.evidence.plan import plan_rounds
from lineage_plugin.evidence.sample import Sample, read_probes
from lineage_plugin.options import Options, Progress

__all__ = ["GroupCoins", "LayerCoins", "PairEvidence", "gather"]

CURVE_SAMPLES = 48
"""Samples kept in memory for the inheritance curve."""


@dataclass(frozen=True, slots=True)
class GroupCoins:
    """Coins of one kind, such as ``mlp swap``."""

    name: str
    count: CoinCount
    log10_e: float


@dataclass(frozen=True, slots=True)
class LayerCoins:
    """Coins and cosine of one layer."""

    suspect: str
    base: str
    count: CoinCount
    cosine: float


NO_COINS = CoinCount()
UNKNOWN = MatrixEffect(None, None, None)
NO_DESCENT = Descent()


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """What reading two models has shown.

    Attributes:
        log10_e: Decimal logarithm of the e-value of all coins.
        count: Coins and heads.
        exact: Whether the coins are jointly fair under the null by symmetry alone.
        groups: The coins by kind.
        layers: The coins by layer.
        kept: Coefficient of the suspect on the base.
        reverse: Coefficient of the base on the suspect.
        descent: Slope and curve with the base in the place of the ancestor; unknown below the bar.
        ascent: The same with the suspect in that place.
        direction: Indication of who came first.
        mismatch: Why the structures could not be compared, or None.
        complete: Whether every layer was read.
        exhausted: Whether the plan or the budget had nothing more to read.
        equal: Whether every value read is the same in both models.
        limits: Plain sentences about what was assumed, merged or left out.
    """

    log10_e: float = 0.0
    count: CoinCount = NO_COINS
    exact: bool = True
    groups: tuple[GroupCoins, ...] = ()
    layers: tuple[LayerCoins, ...] = ()
    kept: MatrixEffect = UNKNOWN
    reverse: MatrixEffect = UNKNOWN
    descent: Descent = NO_DESCENT
    ascent: Descent = NO_DESCENT
    direction: str = "unclear"
    mismatch: str | None = None
    complete: bool = False
    exhausted: bool = False
    equal: bool = False
    limits: tuple[str, ...] = ()


def gather(
    suspect: Checkpoint,
    base: Checkpoint,
    anatomies: tuple[Anatomy, Anatomy],
    options: Options,
    decided: Callable[[PairEvidence], bool],
    progress: Progress | None = None,
) -> PairEvidence:
    """Read round by round until the answer stands, and return what was seen.

    Args:
        suspect: The suspect.
        base: The base.
        anatomies: Anatomy of the suspect and of the base.
        options: Seed, budget, exhaustiveness.
        decided: Says whether the evidence so far answers the question.
        progress: Called after each round.

    Returns:
        The evidence.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    pairs, mismatch = match_groups(*anatomies)
    exact = anatomies[0].exact and anatomies[1].exact
    limits = tuple(dict.fromkeys(anatomies[1].limits + anatomies[0].limits))
    nothing = PairEvidence(exact=exact, mismatch=mismatch, limits=limits, exhausted=True)
    if not pairs:
        return nothing
    state = _State(exact)
    evidence = nothing
    layers = {pair.base.layer for pair in pairs}
    covered: set[int] = set()
    budget = options.budget if options.budget is not None else _default_budget(suspect, base, options)
    plan = plan_rounds(suspect, base, pairs, seed=options.seed, budget=options.budget, exhaustive=options.exhaustive)
    for step in plan:
        spent = max(suspect.cost().tensor_bytes, base.cost().tensor_bytes)
        if evidence.complete and budget is not None and spent >= budget:
            break
        try:
            samples = read_probes(suspect, base, step.probes, options.seed)
        except BudgetExceeded:
            limits = (*limits, "The byte budget ended before the plan did.")
            break
        for sample in samples:
            state.add(sample)
        state.toss()
        covered.update(probe.base.layer for probe in step.probes)
        if progress is not None:
            progress("reading layers", len(covered), len(layers))
        evidence = replace(state.evidence(options.seed, options.bar), complete=step.complete, limits=limits)
        if step.may_stop and decided(evidence):
            return state.finish(evidence, anatomies[1], len(layers) - len(covered))
    evidence = replace(evidence, exhausted=True, limits=limits)
    return state.finish(evidence, anatomies[1], len(layers) - len(covered))


def _default_budget(suspect: Checkpoint, base: Checkpoint, options: Options) -> int | None:
    if options.exhaustive:
        return None
    return (256 << 20) if suspect.local and base.local else (15 << 20)


class _State:
    """What is kept between rounds: counts and second moments, not weights (but for a few samples for the curve)."""

    def __init__(self, exact: bool) -> None:
        self._exact = exact
        self._ledger = Ledger()
        self._fresh: list[Sample] = []
        self._parts: list[Differences] = []
        self._rows: tuple[list[RowEnergies], list[RowEnergies]] = ([], [])
        self._samples: list[Sample] = []
        self._equal = True

    def add(self, sample: Sample) -> None:
        self._fresh.append(sample)
        self._parts.extend(differences(sample))
        if sample.probe.base.swap:
            # Rows whose meaning is fixed from outside, such as rotary pairs, are large in both models anyway.
            self._rows[0].extend(row_energies(sample))
            self._rows[1].extend(row_energies(_exchanged(sample)))
            if len(self._samples) < CURVE_SAMPLES:
                self._samples.append(sample)
        self._equal &= all(np.array_equal(a, b) for a, b in zip(sample.suspect, sample.base, strict=True))

    def toss(self) -> None:
        self._ledger.add(self._fresh)
        self._fresh = []

    def evidence(self, seed: int, bar: float) -> PairEvidence:
        tosses = self._ledger.tosses()
        count = sum((toss.count for toss in tosses), NO_COINS)
        cross = np.concatenate([part.cross for part in self._parts] or [np.zeros(0)])
        own = np.concatenate([part.suspect for part in self._parts] or [np.zeros(0)])
        other = np.concatenate([part.base for part in self._parts] or [np.zeros(0)])
        kept, reverse = ratio_interval(cross, other), ratio_interval(cross, own)
        log10_e = self._combine(tosses)
        # What is shared can be described only where something is: of independent models these are ratios of noise.
        dependent = log10_e >= bar
        return PairEvidence(
            log10_e=log10_e,
            count=count,
            exact=self._exact,
            groups=_by_kind(tosses, self._exact),
            layers=_by_layer(tosses, self._parts),
            kept=kept,
            reverse=reverse,
            descent=self._descent(seed, exchange=False) if dependent else NO_DESCENT,
            ascent=self._descent(seed, exchange=True) if dependent else NO_DESCENT,
            direction=indicate_direction(self._parts, kept.estimate, reverse.estimate) if dependent else "unclear",
            equal=self._equal,
        )

    def _descent(self, seed: int, *, exchange: bool) -> Descent:
        samples = [_exchanged(sample) for sample in self._samples] if exchange else self._samples
        # Many small decompositions: BLAS threads only wait for each other, 150 times as long on a busy machine.
        with threadpool_limits(limits=1):
            return descent(samples, self._rows[exchange], seed)

    def _combine(self, tosses: Sequence[Toss]) -> float:
        if self._exact:
            return log10_e_value(sum(t.count.heads for t in tosses), sum(t.count.coins for t in tosses))
        # Nothing is known about how tensors of an unknown graph hang together: the mean is valid whatever it is.
        values = [log10_e_value(t.count.heads, t.count.coins) for t in tosses]
        return log10_mean(values) if values else 0.0

    def finish(self, evidence: PairEvidence, base: Anatomy, unread: int) -> PairEvidence:
        limits = list(evidence.limits)
        if unread:
            limits.append(f"{unread} of {base.layers} layers were not read, since the others had decided the answer.")
        for name in sorted(self._ledger.repeats):
            limits.append(f"The base repeats itself ({name}); repeated units share one coin.")
        for name in sorted(self._ledger.sorted_kinds):
            limits.append(
                f"The suspect's units are sorted ({name}); they are not exchangeable, so only signs were tossed."
            )
        names = {group.layer: group.vectors[0].tensor for group in base.groups} if not evidence.exact else {}
        layers = tuple(
            replace(row, suspect=names.get(int(row.base), row.suspect), base=names.get(int(row.base), row.base))
            for row in evidence.layers
        )
        return replace(evidence, limits=tuple(limits), layers=layers)


def _exchanged(sample: Sample) -> Sample:
    return replace(sample, suspect=sample.base, base=sample.suspect)


def _by_kind(tosses: Sequence[Toss], exact: bool) -> tuple[GroupCoins, ...]:
    kinds: dict[str, list[Toss]] = {}
    for toss in tosses:
        kinds.setdefault(f"{toss.name} {toss.kind}", []).append(toss)
    result = []
    for name, members in sorted(kinds.items()):
        count = sum((toss.count for toss in members), NO_COINS)
        values = [log10_e_value(toss.count.heads, toss.count.coins) for toss in members]
        log10_e = log10_e_value(count.heads, count.coins) if exact else log10_mean(values)
        result.append(GroupCoins(name, count, log10_e))
    return tuple(result)


def _by_layer(tosses: Sequence[Toss], parts: Sequence[Differences]) -> tuple[LayerCoins, ...]:
    layers: dict[int, tuple[int, list[Differences]]] = {}
    for part in parts:
        layers.setdefault(part.base_layer, (part.suspect_layer, []))[1].append(part)
    result = []
    for layer, (suspect_layer, members) in sorted(layers.items()):
        count = sum((toss.count for toss in tosses if toss.layer == layer), NO_COINS)
        result.append(LayerCoins(str(suspect_layer), str(layer), count, cosine(members)))
    return tuple(result)
