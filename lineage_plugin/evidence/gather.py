"""From two opened checkpoints to the evidence about one pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from lineage_plugin.anatomy import Anatomy
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.evidence.direction import indicate_direction
from lineage_plugin.evidence.effects import Differences, MatrixEffect, cosine, differences, ratio_interval
from lineage_plugin.evidence.evalue import log10_e_value, log10_mean
from lineage_plugin.evidence.inheritance import Descent, Grams, RowEnergies, descent, grams, row_energies
from lineage_plugin.evidence.ledger import CoinCount, Ledger, Toss
from lineage_plugin.evidence.match import match_groups
from lineage_plugin.evidence.plan import plan_rounds
from lineage_plugin.evidence.sample import Sample, read_probes
from lineage_plugin.options import Options, Progress

__all__ = ["GroupCoins", "LayerCoins", "PairEvidence", "gather"]

BUDGET_ENDED = "the byte budget ended"
SHARED_SCORE = 3.0
"""Normal score of the shared energy from which a group takes part in the inheritance statistics."""
CURVE_MATRICES = 128
"""Matrices whose inner products are kept for the inheritance curve."""


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
        cut_short: Whether the byte budget ended before the answer stood.
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
    cut_short: bool = False
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
    if not pairs:
        return PairEvidence(exact=exact, mismatch=mismatch, limits=limits)
    budget = options.budget if options.budget is not None else _default_budget(suspect, base, options)
    plan = plan_rounds(suspect, base, pairs, seed=options.seed, budget=options.budget, exhaustive=options.exhaustive)
    # Many small products and decompositions: BLAS threads only wait for each other, the longer the busier the machine.
    with threadpool_limits(limits=1):
        state = _State(exact, len({pair.base.layer for pair in pairs}))
        evidence: PairEvidence | None = None
        for step in plan:
            spent = max(suspect.cost().tensor_bytes, base.cost().tensor_bytes)
            if state.complete and budget is not None and spent >= budget:
                state.stopped = BUDGET_ENDED
                break
            try:
                state.add(read_probes(suspect, base, step.probes, options.seed), step.complete)
            except BudgetExceeded:
                state.stopped = BUDGET_ENDED
                break
            if progress is not None:
                progress("reading layers", len(state.covered), state.layers)
            evidence = state.evidence(options) if step.may_stop else None
            if evidence is not None and decided(evidence):
                state.stopped = "the others had decided the answer"
                break
        found = evidence if evidence is not None else state.evidence(options)
    cut_short = state.stopped == BUDGET_ENDED
    found = found if exact else _named(found, anatomies[1])
    return replace(found, cut_short=cut_short, mismatch=mismatch, limits=limits + state.limits())


def _default_budget(suspect: Checkpoint, base: Checkpoint, options: Options) -> int | None:
    if options.exhaustive:
        return None
    return (256 << 20) if suspect.local and base.local else (15 << 20)


class _State:
    """What is kept between rounds: counts and second moments, not weights (but for a few units, to find repeats)."""

    def __init__(self, exact: bool, layers: int) -> None:
        self.layers = layers
        self.covered: set[int] = set()
        self.complete = False
        self.stopped: str | None = None
        self._exact = exact
        self._ledger = Ledger()
        self._parts: list[Differences] = []
        self._rows: list[RowEnergies] = []
        self._grams: list[Grams] = []
        self._equal = True

    def add(self, samples: Sequence[Sample], complete: bool) -> None:
        self.complete = complete
        self._ledger.add(samples)
        for sample in samples:
            self.covered.add(sample.probe.base.layer)
            parts = differences(sample)
            self._parts.extend(parts)
            # Rows whose meaning is fixed from outside, such as rotary pairs, are large in both models anyway. Groups
            # that share nothing have no inheritance to describe: a replaced layer says nothing about the others.
            if sample.probe.base.swap and _shares(parts):
                self._rows.extend(row_energies(sample))
                if len(self._grams) < CURVE_MATRICES:
                    self._grams.extend(grams(sample))
            self._equal &= all(np.array_equal(a, b) for a, b in zip(sample.suspect, sample.base, strict=True))

    def evidence(self, options: Options) -> PairEvidence:
        tosses = self._ledger.tosses()
        cross = np.concatenate([part.cross for part in self._parts] or [np.zeros(0)])
        own = np.concatenate([part.suspect for part in self._parts] or [np.zeros(0)])
        other = np.concatenate([part.base for part in self._parts] or [np.zeros(0)])
        found = PairEvidence(
            log10_e=_weigh(tosses, self._exact),
            count=_count(tosses),
            exact=self._exact,
            groups=_by_kind(tosses, self._exact),
            layers=_by_layer(tosses, self._parts),
            kept=ratio_interval(cross, other),
            reverse=ratio_interval(cross, own),
            complete=self.complete,
            equal=self._equal and bool(self._parts),
        )
        # What is shared can be described only where something is: of independent models these are ratios of noise.
        if found.log10_e < options.bar:
            return found
        return replace(
            found,
            descent=descent(self._grams, self._rows, options.seed),
            ascent=descent([g.exchanged() for g in self._grams], [r.exchanged() for r in self._rows], options.seed),
            direction=indicate_direction(self._parts, found.kept.estimate, found.reverse.estimate),
        )

    def limits(self) -> tuple[str, ...]:
        said = []
        unread = self.layers - len(self.covered)
        if unread:
            said.append(f"{unread} of {self.layers} layers were not read, since {self.stopped}.")
        elif self.stopped == BUDGET_ENDED:
            said.append("The byte budget ended before the answer stood.")
        for name in sorted(self._ledger.repeats):
            said.append(f"The base repeats itself ({name}); repeated units share one coin.")
        for name in sorted(self._ledger.sorted_kinds):
            said.append(
                f"The suspect's units are sorted ({name}); they are not exchangeable, so only signs were tossed."
            )
        return tuple(said)


def _named(found: PairEvidence, base: Anatomy) -> PairEvidence:
    """Call the rows of an unknown graph by their tensors, since it has no layers."""
    names = {str(group.layer): group.vectors[0].tensor for group in base.groups}
    rows = (replace(row, suspect=names[row.suspect], base=names[row.base]) for row in found.layers)
    return replace(found, layers=tuple(rows))


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


def _count(tosses: Iterable[Toss]) -> CoinCount:
    return sum((toss.count for toss in tosses), NO_COINS)


def _weigh(tosses: Sequence[Toss], exact: bool) -> float:
    """Return ``log10 E``: of all coins together, or, for an unknown graph, the mean over its tensors.

    Nothing is known about how tensors of an unknown graph hang together; the mean is valid whatever it is.
    """
    if exact or not tosses:
        total = _count(tosses)
        return log10_e_value(total.heads, total.coins)
    tensors: dict[int, CoinCount] = {}
    for toss in tosses:
        tensors[toss.layer] = tensors.get(toss.layer, NO_COINS) + toss.count
    return log10_mean([log10_e_value(count.heads, count.coins) for count in tensors.values()])


def _by_kind(tosses: Sequence[Toss], exact: bool) -> tuple[GroupCoins, ...]:
    kinds: dict[str, list[Toss]] = {}
    for toss in tosses:
        kinds.setdefault(f"{toss.name} {toss.kind}", []).append(toss)
    return tuple(GroupCoins(name, _count(of), _weigh(of, exact)) for name, of in sorted(kinds.items()))


def _by_layer(tosses: Sequence[Toss], parts: Sequence[Differences]) -> tuple[LayerCoins, ...]:
    layers: dict[int, tuple[int, list[Differences]]] = {}
    for part in parts:
        layers.setdefault(part.base_layer, (part.suspect_layer, []))[1].append(part)
    return tuple(
        LayerCoins(str(mine), str(layer), _count(t for t in tosses if t.layer == layer), cosine(members))
        for layer, (mine, members) in sorted(layers.items())
    )
