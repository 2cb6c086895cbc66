"""Coins of the residual stream: are its channels in the same places in both models?

The channels of the residual stream have no names: exchanging two of them in every tensor of a model (and flipping the
sign of one, where the norm has no mean) leaves its function and its law under the null unchanged. Token rows do have
names, and independent models agree on them. So column ``i`` of the embedding, over tokens that both models have, is
the vector of channel ``i``: one swap coin a pair of channels, and one sign coin a channel.

**Validity.** A relabelling of the base's channels permutes (and negates) the columns of its embedding. The columns are
prepared by operations that commute with that: taking the mean over tokens, scaling token rows to unit length, and
balancing token directions by the Gram matrix over tokens, which no relabelling of channels changes. Exchanging
channels ``i`` and ``j`` of the base thus negates ``D`` of their pair and leaves that of every other pair; flipping
channel ``i`` negates its sign coin only, since ``D`` takes absolute values where signs are free. What all channels have
in common, such as the lengths of token rows, cancels in ``D``.

**With unit coins.** Exchanging hidden units does not touch the embedding, so channel coins do not depend on the labels
of units; unit coins do depend on those of the channels. That order is triangular: channel coins first, unit coins
given them. Their e-values might be multiplied; the tool takes the weighted average over its stages instead.

**Repeats.** A widened base holds channels several times. Channels that are near each other in the base form classes;
classes of one size are paired, their members in order of position, the statistics of members are added and tossed
once. Exchanging two classes leaves the partition as it is, so that it may depend on the base's weights.

**How many tokens.** Measured on children of trained models: 16 rows give nearly all heads, 64 all, and 256 still
resolve what a twin from the same random draw shares. Fewer than 32 rows make channels look like repeats of each other
by chance, which costs coins, never validity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.coins import draw_pairs, sign_statistics, swap_statistics
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.ledger import CoinCount, Toss
from lineage_plugin.evidence.order import is_sorted, order_score
from lineage_plugin.evidence.repeats import CLONE_COSINE

__all__ = ["ChannelCoins", "balanced_rows", "channel_coins", "match_channels"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_TOKENS: Final = 512
"""Token rows used at most, evenly spread: the Gram matrix of more costs more than they tell."""
ROUNDING: Final = 1e-9
"""Statistics below this are rounding of the preparation in float64, and count as ties."""
ALIKE_MOST: Final = 64
"""Pairs of near channels, a channel, beyond which a base has no channels to speak of, and no coins."""

NO_COINS: Final = CoinCount()

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class ChannelCoins:
    """The coins of the residual stream.

    Attributes:
        swap: Swap coins, one a pair of channels (or of classes of repeated ones).
        sign: Sign coins, one a channel (or class); none where signs are not free.
        tokens: Token rows that were used.
        channels: Channels that were compared.
        repeats: Channels that repeat another of the base and share its coins.
        sorted: Whether the suspect's channels are sorted, so that swap coins were not counted.
    """

    swap: CoinCount = NO_COINS
    sign: CoinCount = NO_COINS
    tokens: int = 0
    channels: int = 0
    repeats: int = 0
    sorted: bool = False

    @property
    def count(self) -> CoinCount:
        """All coins."""
        return self.swap + self.sign

    @property
    def log10_e(self) -> float:
        """Decimal logarithm of their e-value."""
        return log10_e_value(self.count.heads, self.count.coins)

    def tosses(self, layer: int = -1) -> tuple[Toss, ...]:
        """Return the tosses as the ledger keeps them; the stream belongs to no layer."""
        both = (Toss("stream", layer, "swap", self.swap), Toss("stream", layer, "sign", self.sign))
        return tuple(toss for toss in both if toss.count.coins)


def channel_coins(
    suspect_rows: FloatArray, base_rows: FloatArray, *, flip: bool, seed: int, channels: IntArray | None = None
) -> ChannelCoins:
    """Toss the coins of the residual stream's channels.

    Args:
        suspect_rows: ``[T, dA]`` embeddings of the suspect.
        base_rows: ``[T, dB]`` embeddings of the same tokens of the base.
        flip: Whether a channel's sign is arbitrary (RMSNorm), which adds sign coins and makes swap coins blind to sign.
        seed: Seed of the pairing.
        channels: ``[m, 2]`` channels of suspect and base to be compared, as :func:`match_channels` found them. These
            were selected by what swap coins measure, so only sign coins are tossed, which the search did not see.
            Whether to toss these or those of the stored order must not be decided by a fit that saw the signs: toss
            both and average the e-values. None compares channels of equal number.

    Returns:
        The coins; none when there are fewer than two usable tokens.

    Raises:
        ValueError: When the arrays are not matrices with one row a token.
    """
    if suspect_rows.ndim != 2 or base_rows.ndim != 2 or suspect_rows.shape[0] != base_rows.shape[0]:
        raise ValueError(f"rows of shapes {suspect_rows.shape} and {base_rows.shape} are not of the same tokens")
    # Whether a row is usable is the same for all labels of its channels.
    usable = np.isfinite(suspect_rows).all(axis=1) & np.isfinite(base_rows).all(axis=1)
    usable &= suspect_rows.any(axis=1) & base_rows.any(axis=1)
    rows = _spread(np.flatnonzero(usable))
    if rows.shape[0] < 2:
        return ChannelCoins()
    ours, theirs = suspect_rows[rows], base_rows[rows]
    a, b = balanced_rows(ours).T, balanced_rows(theirs).T
    label = _repeats(b)
    if channels is not None:
        return ChannelCoins(NO_COINS, _matched(a, b, label, flip, channels), rows.shape[0], channels.shape[0])
    shared = min(a.shape[0], b.shape[0])
    ordered = is_sorted([order_score([ours.T[:shared]], np.zeros(shared, np.int64))])
    swap = sign = NO_COINS
    for members in _classes(label, shared):
        if not ordered:
            pairs = draw_pairs(np.zeros(members.shape[0], np.int64), [seed & 0xFFFFFFFF, 0x5C, members.shape[1]])
            swap += _count(_swaps(a[:shared], b[:shared], flip, members, pairs))
        if flip:
            sign += _count(_signs(a[members.ravel()], b[members.ravel()]).reshape(members.shape).sum(axis=1))
    distinct = int(np.unique(label[:shared]).shape[0])
    return ChannelCoins(swap, sign, rows.shape[0], shared, shared - distinct, ordered)


def balanced_rows(rows: FloatArray) -> Float64Array:
    """Prepare embeddings so that no few directions drown the rest.

    The mean row is removed, rows are scaled to unit length, and the singular values are replaced by their square roots,
    ``G^(-1/4) E`` with ``G = E E^T``: embeddings of trained models, tied ones above all, lie along a few directions
    (one held 92% of the energy in a small Qwen2) that make all channels look alike. Each step commutes with permuting
    and flipping channels.

    Args:
        rows: ``[T, d]`` finite values; the cost grows with the cube of ``T``.

    Returns:
        ``[T, d]``; a channel of the same value in all rows is zero.
    """
    raw = rows.astype(np.float64)
    centred = raw - raw.mean(axis=0)
    # What is left of a constant channel is rounding, and is the same rounding in independent models.
    constant = np.abs(centred).max(axis=0) <= 1e-9 * np.abs(raw).max(axis=0)
    centred[:, constant] = 0.0
    length = np.sqrt(np.einsum("td,td->t", centred, centred))
    unit = centred / np.where(length > 0.0, length, 1.0)[:, None]
    energy, u = np.linalg.eigh(unit @ unit.T)
    keep = energy > 1e-9 * max(float(energy[-1]), np.finfo(np.float64).tiny)
    u, energy = u[:, keep], energy[keep]
    balanced: Float64Array = (u / energy**0.25) @ (u.T @ unit)
    balanced[:, constant] = 0.0
    return balanced


def match_channels(suspect_rows: FloatArray, base_rows: FloatArray, *, flip: bool) -> tuple[IntArray, FloatArray]:
    """Match the channels of two residual streams by their columns over tokens.

    Mutual nearest neighbours first, then those among the channels that are left, and so on; pairs that are no nearer
    than the second choices of all channels are not made. The widths may differ.

    Args:
        suspect_rows: ``[T, dA]`` finite embeddings.
        base_rows: ``[T, dB]`` of the same tokens.
        flip: Whether signs are free; the match then sees absolute cosines only, so that sign coins of the matched
            channels stay exactly fair.

    Returns:
        ``[m, 2]`` channels of suspect and base, by channel of the base, each at most once; and their ``[m]`` signs, to
        which the match is blind.
    """
    rows = _spread(np.arange(base_rows.shape[0]))
    a = _columns(balanced_rows(suspect_rows[rows]))
    b = _columns(balanced_rows(base_rows[rows]))
    left, right = np.flatnonzero(a.any(axis=1)), np.flatnonzero(b.any(axis=1))
    bar: float | None = None
    found: list[IntArray] = []
    while left.shape[0] and right.shape[0]:
        ours, near, second = _nearest(a[left], b[right], flip)
        theirs, _, _ = _nearest(b[right], a[left], flip)
        if bar is None:
            bar = float(np.median(second))
        mutual = np.flatnonzero(theirs[ours] == np.arange(left.shape[0]))
        good = mutual[near[mutual] > bar]
        if not good.shape[0]:
            break
        found.append(np.stack([left[good], right[ours[good]]], axis=1))
        left, right = np.delete(left, good), np.delete(right, ours[good])
    channels = np.concatenate(found) if found else np.empty((0, 2), np.int64)
    channels = channels[np.argsort(channels[:, 1])]
    dot = np.einsum("ct,ct->c", a[channels[:, 0]], b[channels[:, 1]])
    return channels, np.where(flip & (dot < 0), np.float32(-1), np.float32(1))


def _spread(rows: IntArray) -> IntArray:
    """Return at most :data:`MOST_TOKENS` of the rows, evenly spread."""
    return rows[:: max(1, -(-rows.shape[0] // MOST_TOKENS))]


def _columns(balanced: Float64Array) -> FloatArray:
    """Return the columns as rows of unit length."""
    length = np.sqrt(np.einsum("td,td->d", balanced, balanced))
    return np.ascontiguousarray((balanced / np.where(length > 0.0, length, 1.0)).T.astype(np.float32))


def _nearest(a: FloatArray, b: FloatArray, flip: bool) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return for each row of ``a`` the nearest row of ``b``, how near it is, and how near the second is."""
    place = np.empty(a.shape[0], np.int64)
    best, second = np.empty(a.shape[0], np.float32), np.full(a.shape[0], -1, np.float32)
    for start in range(0, a.shape[0], _BLOCK):
        block = slice(start, start + _BLOCK)
        near = a[block] @ b.T
        if flip:
            np.abs(near, out=near)
        place[block] = near.argmax(axis=1)
        row = np.arange(near.shape[0])
        best[block] = near[row, place[block]]
        if near.shape[1] > 1:
            near[row, place[block]] = -2
            second[block] = near.max(axis=1)
    return place, best, second


def _repeats(b: Float64Array) -> IntArray:
    """Label the base's channels; those that repeat each other share the smallest number among them.

    The classes are the connected components of "nearer than :data:`CLONE_COSINE`", whichever way round the channels
    stand. When far too many are near each other all channels are one class.

    Args:
        b: ``[d, T]`` columns of the balanced embedding.
    """
    units = _columns(b.T)
    label = np.arange(units.shape[0], dtype=np.int64)
    edges: list[IntArray] = []
    total = 0
    for start in range(0, units.shape[0], _BLOCK):
        near = np.abs(units[start : start + _BLOCK] @ units.T) >= CLONE_COSINE
        total += int(near.sum())
        if total > ALIKE_MOST * units.shape[0]:
            return np.zeros_like(label)
        first, second = np.nonzero(near)
        edges.append(np.stack([first + start, second], axis=1))
    pairs = np.concatenate(edges)
    while True:
        lower = label.copy()
        np.minimum.at(lower, pairs[:, 0], label[pairs[:, 1]])
        lower = lower[lower]
        if (lower == label).all():
            return label
        label = lower


def _classes(label: IntArray, shared: int) -> list[IntArray]:
    """Return the classes of repeated channels by size: ``[classes, size]`` members in order of position.

    Args:
        label: ``[d]`` labels of all channels of the base.
        shared: Only channels below this are compared. Classes are alike only if they agree in the number of members
            below it and in all, since exchanging others would change the partition.
    """
    names, place, total = np.unique(label, return_inverse=True, return_counts=True)
    inside = np.bincount(place[:shared], minlength=names.shape[0])
    order = np.argsort(place[:shared], kind="stable")
    start = np.concatenate(([0], np.cumsum(inside)[:-1]))
    result = []
    for size, whole in sorted(set(zip(inside.tolist(), total.tolist(), strict=True))):
        if size:
            chosen = np.flatnonzero((inside == size) & (total == whole))
            result.append(order[start[chosen][:, None] + np.arange(size)[None, :]])
    return result


def _swaps(a: Float64Array, b: Float64Array, flip: bool, members: IntArray, pairs: IntArray) -> Float64Array:
    """Return the swap statistic of each pair of classes, added over their members."""
    size = members.shape[1]
    paired = np.stack([members[pairs[:, 0]].ravel(), members[pairs[:, 1]].ravel()], axis=1)
    # The statistics are computed in float64 whatever comes in.
    one, other = cast(FloatArray, a), cast(FloatArray, b)
    statistics: Float64Array = swap_statistics([one], [other], [flip], paired).reshape(-1, size).sum(axis=1)
    return statistics


def _signs(a: Float64Array, b: Float64Array) -> Float64Array:
    """Return the sign statistic of each channel."""
    return sign_statistics([cast(FloatArray, a)], [cast(FloatArray, b)], [True])


def _matched(a: Float64Array, b: Float64Array, label: IntArray, flip: bool, channels: IntArray) -> CoinCount:
    """Toss the sign coins of matched channels, one a class of the base's."""
    if not flip or not channels.shape[0]:
        return NO_COINS
    total = np.zeros(label.shape[0])
    np.add.at(total, label[channels[:, 1]], _signs(a[channels[:, 0]], b[channels[:, 1]]))
    return _count(total)


def _count(statistic: Float64Array) -> CoinCount:
    usable = np.isfinite(statistic) & (np.abs(statistic) > ROUNDING)
    return CoinCount(int(usable.sum()), int((statistic[usable] > 0).sum()))
