r"""Calibrated evidence, for when every relabelling has been redrawn and no exact coin is left.

Once both the order and the signs of the hidden units were redrawn at random, a copy is exchangeable by construction and
no test is exact by symmetry alone. Units can still be matched by *one* of their vectors (the gate of a gated MLP, the
first layer's row of a plain one), and the *other* vectors can then be looked at, which the search never saw:

* ``cross-role``: for disjoint pairs (i, j) of matched units the statistic of a swap coin over the vectors that they
  write (|cos| where the sign is arbitrary). Agreement: the matched units are more alike than the crossed ones.
* ``sign product``: where two other vectors share one arbitrary sign, the product of the signs of their two cosines,
  which no flip changes. Agreement: both cosines have one sign.

For a copy every comparison agrees. For independent models about half do, but only about: vectors of one unit resemble
each other, and models that are trained on like data converge. Two things are therefore taken away first.

1. The strongest half of the principal directions of each kind of vector, on each side. What independent models have in
   common lies there: the stream's basis is recovered from token embeddings, which aligns what the models *learned*, and
   where the embedding is also the output projection, up to nine in ten comparisons of independent models then agree.
2. From each vector its component along the vector that was matched on, and from the second of the other vectors its
   component along the first: without that the two signs of a sign product have a common cause.

What is left was measured on independent pairs of trained models (``NULL``; ``python -m benchmarks.calibration``). The
evidence is a likelihood ratio against a rate :math:`p_0` well above the largest rate seen, for a rate uniform above it,

.. math::

    E = \frac{1}{1-p_0}\int_{p_0}^{1} \Bigl(\frac{t}{p_0}\Bigr)^{k} \Bigl(\frac{1-t}{1-p_0}\Bigr)^{n-k} dt
      = \frac{\sum_{j=0}^{k}\binom{n+1}{j}\,(p_0/(1-p_0))^{j-k}}{(n+1)\binom{n}{k}} .

For each :math:`t \ge p_0` one comparison multiplies by :math:`pt/p_0 + (1-p)(1-t)/(1-p_0)` in expectation, which grows
in the rate :math:`p` and is 1 at :math:`p_0`: so the expectation of :math:`E` is at most 1 whenever each comparison,
given those before it, agrees at a rate of at most :math:`p_0`. That this holds is an inference from the models that
were measured, not a theorem; the value is never mixed with the exact e-value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.stream import WRITES
from lineage_plugin.evidence.coins import draw_pairs, swap_statistics
from lineage_plugin.evidence.evalue import log10_mean

__all__ = [
    "NULL",
    "Agreements",
    "Calibrated",
    "Null",
    "Statistic",
    "calibrated",
    "count_agreements",
    "log10_calibrated_value",
]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEAST_UNITS = 64
"""Units of a layer below which its principal directions are not known well enough."""
LEAST_SHARE = 0.5
"""The same, as a share of the vectors' length."""
MOST_UNITS = 1024
"""Units that the directions are computed from, or half the length of the vectors if that is more."""


@dataclass(frozen=True, slots=True)
class Null:
    """What the calibration rests on.

    Attributes:
        rate: The rate of agreement :math:`p_0` that evidence must exceed.
        worst_share: Largest share of agreements of an independent pair of models, of any statistic, in any basis.
        worst_value: Largest ``log10`` value of an independent pair, of any basis.
        models: Number of models.
        pairs: Number of independent pairs of models.
        families: Their architectures.
        width: Smallest and largest width of the residual stream.
        parameters: Fewest and most parameters of a model.
    """

    rate: float
    worst_share: float
    worst_value: float
    models: int
    pairs: int
    families: tuple[str, ...]
    width: tuple[int, int]
    parameters: tuple[int, int]


NULL = Null(
    rate=2 / 3,
    worst_share=0.608,
    worst_value=-1.4,
    models=81,
    pairs=197,
    families=("gpt2", "gpt_neox", "llama", "mixtral", "phi3"),
    width=(64, 192),
    parameters=(213824, 3934656),
)
"""The null that is in use, as ``python -m benchmarks.calibration`` prints it."""


@dataclass(frozen=True, slots=True)
class Agreements:
    """Comparisons of one layer, or of several added up.

    Attributes:
        cross: Agreements of the cross-role statistic.
        cross_of: Number of its comparisons.
        sign: Agreements of the sign product.
        sign_of: Number of its comparisons; 0 where units have no arbitrary sign.
    """

    cross: int = 0
    cross_of: int = 0
    sign: int = 0
    sign_of: int = 0

    def __add__(self, other: Agreements) -> Agreements:
        return Agreements(
            self.cross + other.cross,
            self.cross_of + other.cross_of,
            self.sign + other.sign,
            self.sign_of + other.sign_of,
        )


@dataclass(frozen=True, slots=True)
class Statistic:
    """One of the two statistics: its name, agreements, comparisons and ``log10`` value."""

    name: str
    agreements: int
    of: int
    log10_value: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibrated evidence of dependence.

    Attributes:
        statistics: What was counted; those without a comparison are left out.
        log10_calibrated: Decimal logarithm of the mean of their values, each the mean over layers, which is valid
            whatever their dependence; 0 when nothing was counted.
        null: What it was calibrated on.
    """

    statistics: tuple[Statistic, ...]
    log10_calibrated: float
    null: Null = NULL


def calibrated(counts: Sequence[Agreements], null: Null = NULL) -> Calibrated:
    """Weigh the comparisons of several layers.

    Args:
        counts: One value a layer. A unit of the base must not be counted twice: leave out repeated layers and experts.
        null: What it is calibrated on.

    Returns:
        The evidence.
    """
    total = sum(counts, Agreements())
    found = (
        ("cross-role", total.cross, total.cross_of, [(one.cross, one.cross_of) for one in counts]),
        ("sign product", total.sign, total.sign_of, [(one.sign, one.sign_of) for one in counts]),
    )
    # Layer by layer: over a whole model a rate hardly above the null's would add up, and nobody has measured whether
    # the rates of large models stay below it that closely.
    statistics = tuple(
        Statistic(name, agreements, of, log10_mean([log10_calibrated_value(k, n, null.rate) for k, n in layers if n]))
        for name, agreements, of, layers in found
        if of
    )
    value = log10_mean([statistic.log10_value for statistic in statistics]) if statistics else 0.0
    return Calibrated(statistics, value, null)


def log10_calibrated_value(agreements: int, of: int, rate: float) -> float:
    """Return the decimal logarithm of the mixture likelihood ratio of the rates above ``rate`` against it.

    Args:
        agreements: Number of agreements, at least 0.
        of: Number of comparisons, at least ``agreements``.
        rate: Rate under the null, at least 1/2 and below 1.

    Returns:
        ``log10`` of the value; 0 for no comparisons, always finite. At a rate of 1/2 it is the exact e-value.

    Raises:
        ValueError: If the counts contradict each other or the rate is out of range.
    """
    if not 0 <= agreements <= of or not 0.5 <= rate < 1.0:
        raise ValueError(f"{agreements} agreements of {of} at a rate of {rate}")
    j = np.arange(1, agreements + 1, dtype=np.float64)
    log_odds = math.log(rate) - math.log1p(-rate)
    # log of C(n+1, j) odds^j for j = 0..k, by the ratio to the term before.
    log_terms = np.concatenate(([0.0], np.cumsum(np.log((of + 2 - j) / j) + log_odds)))
    peak = float(log_terms.max())
    log_sum = peak + math.log(float(np.exp(log_terms - peak).sum())) - agreements * log_odds
    log_choose = math.lgamma(of + 1) - math.lgamma(agreements + 1) - math.lgamma(of - agreements + 1)
    return (log_sum - math.log(of + 1) - log_choose) / math.log(10)


def count_agreements(
    suspect: Mapping[str, FloatArray],
    base: Mapping[str, FloatArray],
    odd: Mapping[str, bool],
    *,
    matched_on: str,
    rows: tuple[IntArray, IntArray] | None = None,
    seed: int = 0,
) -> Agreements:
    """Count the comparisons of one layer that agree.

    Args:
        suspect: ``[n, dim]`` vectors of the suspect's units by role, in the basis of the base, norm gains folded in.
            None but ``matched_on`` may have had a part in the search for the match.
        base: ``[m, dim]`` the same of the base.
        odd: For each role, whether a flip of the unit negates it.
        matched_on: Role by which units were matched.
        rows: ``[k]`` units of the suspect and ``[k]`` their partners in the base, each unit at most once; None when row
            i is matched to row i. Units without a partner still help to find the principal directions.
        seed: Seed of the pairing.

    Returns:
        The counts; none when the layer has no other role, or too few units to know its principal directions.

    Raises:
        ValueError: If shapes or roles do not fit together.
    """
    others = sorted(role for role in base if role != matched_on)
    if matched_on not in base or set(suspect) != set(base):
        raise ValueError("the roles of the two sides differ, or the matched one is missing")
    if rows is None:
        rows = (np.arange(base[matched_on].shape[0]), np.arange(base[matched_on].shape[0]))
    if rows[0].shape != rows[1].shape:
        raise ValueError("the match pairs unequal numbers of units")
    if not others or rows[0].shape[0] < 2:
        return Agreements()
    mine = _residuals(suspect, rows[0], odd, matched_on, others)
    theirs = _residuals(base, rows[1], odd, matched_on, others)
    if mine is None or theirs is None:
        return Agreements()
    usable = mine[1] & theirs[1]
    a = [part[usable] for part in mine[0]]
    b = [part[usable] for part in theirs[0]]
    units = int(usable.sum())
    pairs = draw_pairs(np.zeros(units, dtype=np.int64), [seed & 0xFFFFFFFF, 0xCA, units])
    # What a unit writes, where that is known: two trainings from one stream of random numbers (one seed, two programs)
    # can draw alike rows for what units read, shifted by a few rows, and yet have no unit in common.
    written = [place for place, role in enumerate(others) if role in WRITES] or list(range(len(others)))
    swap = swap_statistics([a[i] for i in written], [b[i] for i in written], [odd[others[i]] for i in written], pairs)
    cross = Agreements(int((swap > 0).sum()), int((swap != 0).sum()))
    flipped = [place for place, role in enumerate(others) if odd[role]]
    if len(flipped) != 2:
        return cross
    one, two = (np.einsum("ud,ud->u", a[place], b[place], dtype=np.float64) for place in flipped)
    product = np.sign(one) * np.sign(two)
    return cross + Agreements(sign=int((product > 0).sum()), sign_of=int((product != 0).sum()))


def _residuals(
    vectors: Mapping[str, FloatArray],
    rows: IntArray,
    odd: Mapping[str, bool],
    matched_on: str,
    others: Sequence[str],
) -> tuple[list[FloatArray], NDArray[np.bool_]] | None:
    """Return what is left of the other vectors of the matched units, of length 1, and which units are whole.

    None when there are too few units to know the principal directions.
    """
    whole = np.ones(vectors[matched_on].shape[0], dtype=bool)
    for part in vectors.values():
        whole &= np.isfinite(part).all(axis=1) & part.any(axis=1)
    gate = _unit(vectors[matched_on][rows])
    left: list[Float64Array] = []
    for role in others:
        known = _unit(vectors[role][whole])
        if known.shape[0] < max(LEAST_UNITS, LEAST_SHARE * known.shape[1]):
            return None
        # Vectors of arbitrary sign have no mean; what they have in common is a direction.
        mean = np.zeros(known.shape[1]) if odd[role] else known.mean(axis=0)
        strongest = _principal(known - mean)
        mine = _unit(vectors[role][rows]) - mean
        mine -= (mine @ strongest) @ strongest.T
        for taken in (gate, *left):
            mine -= np.einsum("ud,ud->u", mine, taken)[:, None] * taken
        left.append(_unit(mine))
    return [part.astype(np.float32) for part in left], whole[rows]


def _unit(rows: FloatArray | Float64Array) -> Float64Array:
    """Return the rows scaled to length 1; rows that have no length become zero."""
    taken = np.asarray(rows, dtype=np.float64)
    taken = np.where(np.isfinite(taken), taken, 0.0)
    largest = np.abs(taken).max(axis=1, keepdims=True, initial=0.0)
    taken = taken / np.where(largest > 0, largest, 1.0)
    length = np.sqrt(np.einsum("ud,ud->u", taken, taken))[:, None]
    scaled: Float64Array = taken / np.where(length > 0, length, 1.0)
    return scaled


def _principal(rows: Float64Array) -> Float64Array:
    """Return the strongest half of the principal directions of some rows: ``[dim, count]``, orthonormal."""
    units, dim = rows.shape
    most = max(MOST_UNITS, dim // 2)
    if units > most:
        rows = rows[np.linspace(0, units - 1, most).astype(np.int64)]
    count = min(rows.shape) // 2
    if dim <= rows.shape[0]:
        strongest: Float64Array = np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :count]
        return strongest
    energy, left = np.linalg.eigh(rows @ rows.T)
    directions = rows.T @ left[:, ::-1][:, :count]
    length = np.sqrt(np.maximum(energy[::-1][:count], 0.0))
    # Directions without energy have nothing to be taken away.
    scaled: Float64Array = np.where(length > 1e-6 * length[0], directions / np.where(length > 0, length, 1.0), 0.0)
    return scaled
