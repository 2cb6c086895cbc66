r"""Which of many models may be relatives: a search by code.

Only the entries are reduced to their codes; of the query all layers are known. So each layer of a code is set against
the query's layers around the same place, and the best counts: layers that were dropped, repeated or inserted before it
have moved it by a few places. Shape is no filter. Where it differs the bits are coin tosses, and what kept its shape
still agrees, such as the value channels of a model whose MLP was pruned.

*First* the agreeing bits of every entry are counted where nothing has moved; of the ``EXACT`` best, or of the best
fiftieth if that is more, all alignments are. The counts of the front layers, of the back layers and of the stream are
standardised, as if all bits were fair coins; the largest of several alignments has the mean and variance of the largest
of as many normal numbers. The score is the largest of :math:`\sum z/\sqrt{k}` over the choices of :math:`k` of the
three, so what the entry or the query lacks does not dilute the rest.

*Then* the best are scored anew against the query's own units in another order. Units of a layer have directions in
common, so bits of unrelated models are no independent coins; but unit i of one has no more to do with unit i of the
other than with unit j. Of the agreements :math:`M_{ij}` of :math:`U` units the trace is compared with its mean and
variance over all orders of the units, which for a doubly centred :math:`M` are 0 and :math:`\sum M_{ij}^2/(U - 1)`
(Hoeffding 1951, doi:10.1214/aoms/1177729545). With the plain count, by which the alignment was chosen, it correlates by
:math:`\sqrt{1 - 1/U}`.

Candidates are what lies above the level that, by the normal tail and the number of entries, ``CHANCE`` unrelated ones
would reach. That level is a matter of economy: coins decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.fingerprint.bits import popcount
from lineage_plugin.fingerprint.code import CHANNELS, CODE_BYTES, ENDS, UNITS, CodeUnits, code_units
from lineage_plugin.fingerprint.sketch import TILE
from lineage_plugin.fingerprint.types import Fingerprint

__all__ = ["EXACT", "PARTS", "Candidate", "Index"]

ByteArray = NDArray[np.uint8]
HalfArray = NDArray[np.uint16]
WordArray = NDArray[np.uint64]
FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

EXACT = 1 << 13
"""Entries up to which all alignments of all are looked at."""
CHANCE = 1.0
"""Unrelated entries that may be candidates of a query."""
PARTS = ("front layers", "back layers", "residual stream")

_MOVES = (-2, -1, 0, 1, 2)
_RESCORED = 256
_SHARE = 50
_CHUNK = 1 << 15
"""Entries whose codes are looked at together: a column of them stays in the cache."""
_THREADS = 2
_PLACES = 2 * ENDS
_WORDS = UNITS // 4
"""Words of a layer."""
_UNIT_BITS = 16
_LAYER_BITS = UNITS * _UNIT_BITS
_STREAM = 2 * _PLACES * _WORDS
"""First word of the stream."""
_FILL = (0x9E37 * np.arange(1, max(UNITS, CHANNELS) + 1)).astype(np.uint16)
"""What stands for units that the query does not have: equal zeros are no agreement."""
_LARGEST_MEAN = (0.0, 0.0, 0.56419, 0.84628, 1.02938, 1.16296)
_LARGEST_VARIANCE = (0.0, 1.0, 0.68169, 0.55947, 0.49172, 0.44753)
"""Of the largest of 0 to 5 standard normal numbers (Teichroew 1956, doi:10.1214/aoms/1177728266)."""
_CHOICES = 2 ** len(PARTS) - 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be a relative.

    Attributes:
        row: Its row.
        score: Standard deviations above unrelated models; good for an order, not for a claim.
        how: What agrees, of :data:`PARTS`.
    """

    row: int
    score: float
    how: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _Place:
    """A layer of the codes and the layers of the query that it is set against, as halves of words.

    Attributes:
        number: 0 to 5 from the front, 6 to 11 from the back.
        neurons: ``[trials, 8]``.
        values: ``[trials, 8]``.
    """

    number: int
    neurons: HalfArray
    values: HalfArray

    @property
    def trials(self) -> int:
        """Number of alignments."""
        return int(self.neurons.shape[0])


@dataclass(frozen=True, eq=False, slots=True)
class _Counted:
    """What a pass over the codes counts.

    Attributes:
        places: The layers.
        stream: ``[channels]`` of the query.
    """

    places: tuple[_Place, ...]
    stream: HalfArray


class Index:
    """Codes of many models, in memory.

    Args:
        codes: ``[models, 512]``, see :func:`lineage_plugin.fingerprint.code.search_code`.
        exact: Entries up to which all alignments of all are looked at.
    """

    def __init__(self, codes: ByteArray, exact: int = EXACT) -> None:
        count = codes.shape[0]
        self._exact = exact
        self._words: WordArray = np.empty((CODE_BYTES // 8, count), dtype=np.uint64)
        for rows in _chunks(count, _CHUNK):
            self._words[:, rows] = np.ascontiguousarray(codes[rows]).view(np.uint64).T
        self._present = _present(self._words)

    def __len__(self) -> int:
        return int(self._words.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self._words.nbytes + self._present.nbytes

    def candidates(self, query: Fingerprint, most: int = 16) -> list[Candidate]:
        """Return the entries that may be relatives of a model, the nearest first.

        Args:
            query: The model.
            most: How many at most.

        Returns:
            The candidates; the model itself is one if it is an entry.
        """
        if not len(self):
            return []
        units = code_units(query)
        full = _Counted(_places(units, _MOVES), units.stream.view(np.uint16)[:, 0])
        words, present, rows = self._words, self._present, np.arange(len(self))
        if len(self) > self._exact:
            narrow = _Counted(_places(units, (0,)), full.stream)
            rows = _best(_count(narrow, words, present), max(self._exact, len(self) // _SHARE))
            words, present = words.take(rows, axis=1), present.take(rows, axis=1)
        best = _best(_count(full, words, present), max(_RESCORED, most))
        parts = np.empty((len(PARTS), len(best)), dtype=np.float32)

        def work(rows: slice) -> None:
            parts[:, rows] = _rescored(full, words[:, best[rows]], present[:, best[rows]])

        _in_threads(work, _chunks(len(best), _RESCORED // _THREADS))
        score = _combined(parts)
        level = NormalDist().inv_cdf(1.0 - min(0.5, CHANCE / (_CHOICES * len(self))))
        order = [at for at in np.argsort(-score, kind="stable")[:most] if score[at] > level]
        return [Candidate(int(rows[best[at]]), float(score[at]), _named(parts[:, at])) for at in order]


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _present(words: WordArray) -> HalfArray:
    """Return which parts each code has, ``[3, models]``.

    Of the front and of the back layers, 12 bits: neurons in the low six, value channels in the high six. Of the stream
    0 or 1.
    """
    present = np.zeros((len(PARTS), words.shape[1]), dtype=np.uint16)
    for kind in range(2):
        for place in range(_PLACES):
            first = _first_word(kind, place)
            there = (words[first : first + _WORDS] != 0).any(axis=0)
            present[place // ENDS] |= there.astype(np.uint16) << np.uint16(kind * ENDS + place % ENDS)
    present[2] = (words[_STREAM:] != 0).any(axis=0)
    return present


def _first_word(kind: int, place: int) -> int:
    return (kind * _PLACES + place) * _WORDS


def _places(units: CodeUnits, moves: Sequence[int]) -> tuple[_Place, ...]:
    """Return the layers of codes that some layers of the query can be set against."""
    neurons, values = units.neurons.view(np.uint16)[..., 0], units.values.view(np.uint16)[..., 0]
    count = max(neurons.shape[0], values.shape[0])
    places = []
    for back in (False, True):
        for layer in range(ENDS):
            trials = [layer + move for move in moves if 0 <= layer + move < count]
            if trials:
                chosen = [_layers(stack, trials, back) for stack in (neurons, values)]
                places.append(_Place(layer + ENDS * back, chosen[0], chosen[1]))
    return tuple(places)


def _layers(stack: HalfArray, trials: Sequence[int], back: bool) -> HalfArray:
    """Return some layers counted from either end; those that there are not are zeros."""
    count = stack.shape[0]
    found = np.zeros((len(trials), UNITS), dtype=np.uint16)
    for at, layer in enumerate(trials):
        if layer < count:
            found[at] = stack[count - 1 - layer if back else layer]
    return found


def _count(counted: _Counted, words: WordArray, present: HalfArray) -> FloatArray:
    """Return the first score of each code."""
    count = words.shape[1]
    score = np.empty(count, dtype=np.float32)
    tables = [_table(counted, end) for end in range(2)]

    def work(rows: slice) -> None:
        score[rows] = _count_chunk(counted, tables, words[:, rows], present[:, rows])

    _in_threads(work, _chunks(count, min(_CHUNK, -(-count // _THREADS))))
    return score


def _in_threads(work: Callable[[slice], None], chunks: Sequence[slice]) -> None:
    """Do some work in two threads: array operations do not hold each other up."""
    if len(chunks) < _THREADS:
        for rows in chunks:
            work(rows)
        return
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="lineage-search") as pool:
        list(pool.map(work, chunks))


def _count_chunk(counted: _Counted, tables: Sequence[FloatArray], words: WordArray, present: HalfArray) -> FloatArray:
    apart = np.zeros((len(PARTS), words.shape[1]), dtype=np.uint16)
    for place in counted.places:
        end = place.number // ENDS
        if place.trials > 1:
            apart[end] += _apart(place, words, present[end]).min(axis=0)
        else:
            for kind, units in enumerate((place.neurons[0], place.values[0])):
                _add_apart(apart[end], words[_first_word(kind, place.number) :], units)
    _add_apart(apart[2], words[_STREAM:], counted.stream)
    parts = np.empty(apart.shape, dtype=np.float32)
    for end in range(2):
        slope, offset = tables[end]
        parts[end] = slope[present[end]] * apart[end] + offset[present[end]]
    bits = _UNIT_BITS * counted.stream.shape[0]
    parts[2] = (bits - 2.0 * apart[2]) / np.sqrt(bits) * present[2] * float(counted.stream.any())
    return _combined(parts)


def _add_apart(total: HalfArray, words: WordArray, units: HalfArray) -> None:
    """Add the disagreeing bits of some units; nothing where the query has none."""
    if units.any():
        for at, word in enumerate(_filled(units).view(np.uint64)):
            total += popcount(words[at] ^ word)


def _apart(place: _Place, words: WordArray, present: HalfArray) -> ByteArray:
    """Return the disagreeing bits of one layer under each alignment, ``[trials, models]``.

    Where either has no such layer, half of the bits are taken to disagree.
    """
    half = np.uint8(_LAYER_BITS // 2)
    total = np.zeros((place.trials, words.shape[1]), dtype=np.uint8)
    for kind, stack in enumerate((place.neurons, place.values)):
        first = _first_word(kind, place.number)
        query = _filled(stack).view(np.uint64)
        found = popcount(words[first] ^ query[:, :1])
        for word in range(1, _WORDS):
            found += popcount(words[first + word] ^ query[:, word : word + 1])
        # 255 where the code has this layer, else 0.
        there = np.uint8(0) - (present >> np.uint16(kind * ENDS + place.number % ENDS) & np.uint16(1)).astype(np.uint8)
        found &= there
        found |= ~there & half
        found[~stack.any(axis=1)] = half
        # Twice 128 would be 0 in a byte.
        total += np.minimum(found, np.uint8(2 * half - 1))
    return total


def _filled(units: HalfArray) -> HalfArray:
    return np.where(units == 0, _FILL[: units.shape[-1]], units)


def _table(counted: _Counted, end: int) -> FloatArray:
    """Return slope and offset from disagreements to a standard number, by what a code has: ``[2, 4096]``."""
    has = np.arange(1 << 2 * ENDS)
    expected, mean, variance = (np.zeros(has.shape) for _ in range(3))
    for place in counted.places:
        if place.number // ENDS != end:
            continue
        bits = np.zeros(has.shape)
        for kind, stack in enumerate((place.neurons, place.values)):
            there = has >> (kind * ENDS + place.number % ENDS) & 1
            asked = bool(stack.any())
            bits += _LAYER_BITS * there * asked
            if place.trials > 1:
                expected += _LAYER_BITS / 2
            elif asked:
                # Against the zeros of a layer that the code does not have, the ones of the query were counted.
                ones = int(popcount(_filled(stack[0])).sum())
                expected += np.where(there, _LAYER_BITS / 2, ones)
        mean += np.sqrt(bits) * _LARGEST_MEAN[place.trials]
        variance += bits * _LARGEST_VARIANCE[place.trials]
    scale = np.where(variance > 0, 1.0 / np.sqrt(np.maximum(variance, 1.0)), 0.0)
    return np.stack([-2.0 * scale, (2.0 * expected - mean) * scale]).astype(np.float32)


def _best(score: FloatArray, count: int) -> IntArray:
    """Return the rows of the highest scores, increasing."""
    if score.shape[0] <= count:
        return np.arange(score.shape[0])
    return np.sort(np.argpartition(score, -count)[-count:])


def _combined(parts: FloatArray) -> FloatArray:
    r"""Return the largest :math:`\sum z/\sqrt{k}` over choices of :math:`k` of the parts, which are ``[3, models]``."""
    most, least = parts.max(axis=0), parts.min(axis=0)
    total = parts.sum(axis=0)
    pair = (total - least) * np.float32(0.5**0.5)
    score: FloatArray = np.maximum(np.maximum(most, pair), total * np.float32(3.0**-0.5))
    return score


def _named(parts: FloatArray) -> tuple[str, ...]:
    """Return the parts of the largest such sum."""
    order = np.argsort(-parts, kind="stable")
    sums = np.cumsum(parts[order]) / np.sqrt(np.arange(1, len(PARTS) + 1))
    return tuple(PARTS[part] for part in sorted(order[: int(sums.argmax()) + 1]))


def _rescored(counted: _Counted, words: WordArray, present: HalfArray) -> FloatArray:
    """Return the standard numbers of the parts over all orders of the units, ``[3, models]``."""
    models = words.shape[1]
    halves = np.ascontiguousarray(np.ascontiguousarray(words.T).view(np.uint16).T)
    parts = np.zeros((len(PARTS), models), dtype=np.float32)
    weight = np.zeros((2, models), dtype=np.float32)
    ours, theirs = np.zeros((2, len(counted.places), 2, UNITS, models), dtype=np.uint16)
    for at, place in enumerate(counted.places):
        choice = _apart(place, words, present[place.number // ENDS]).argmin(axis=0)
        for kind, stack in enumerate((place.neurons, place.values)):
            first = 4 * _first_word(kind, place.number)
            ours[at, kind] = halves[first : first + UNITS]
            theirs[at, kind] = stack.T[:, choice]
    traces, variances = _traces(ours.reshape(-1, UNITS, models), theirs.reshape(-1, UNITS, models))
    for at, place in enumerate(counted.places):
        end = place.number // ENDS
        trace, variance = (of[2 * at] + of[2 * at + 1] for of in (traces, variances))
        there = variance > 0
        z = trace / np.sqrt(np.where(there, variance, 1.0)) - np.sqrt(1 - 1 / UNITS) * _LARGEST_MEAN[place.trials]
        parts[end] += np.where(there, z, 0.0)
        weight[end] += np.where(there, (1 - 1 / UNITS) * _LARGEST_VARIANCE[place.trials] + 1 / UNITS, 0.0)
    parts[:2] /= np.sqrt(np.where(weight > 0, weight, 1.0))
    stream = halves[4 * _STREAM :].reshape(-1, TILE, models)
    trace, variance = (of.sum(axis=0) for of in _traces(stream, counted.stream.reshape(-1, TILE, 1)))
    parts[2] = trace / np.sqrt(np.where(variance > 0, variance, 1.0))
    return parts


def _traces(ours: HalfArray, theirs: HalfArray) -> tuple[FloatArray, FloatArray]:
    """Return how much more equal units agree than others, and the variance of that over all orders of the units.

    Args:
        ours: ``[tiles, units, models]``.
        theirs: ``[tiles, units, models or 1]``.

    Returns:
        Centred trace and variance, ``[tiles, models]`` each; 0 where fewer than two units are left.
    """
    both = ((ours != 0) & (theirs != 0)).astype(np.float32)
    count = both.sum(axis=1)
    m = popcount(ours[:, :, None] ^ theirs[:, None]).astype(np.float32)
    m -= _UNIT_BITS / 2
    m *= both[:, :, None]
    m *= both[:, None]
    n = np.maximum(count, 2.0)
    total = m.sum(axis=(1, 2))
    trace = total / n - np.einsum("tiim->tm", m)
    across, down = m.sum(axis=2), m.sum(axis=1)
    squares = np.einsum("tijm,tijm->tm", m, m)
    squares -= (np.einsum("tim,tim->tm", across, across) + np.einsum("tim,tim->tm", down, down)) / n
    squares += (total / n) ** 2
    enough = (count >= 2) & (squares > 1e-3)
    return np.where(enough, trace, 0.0), np.where(enough, squares / (n - 1.0), 0.0)
