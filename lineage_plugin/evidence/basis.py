"""Recovering the basis of the residual stream from the embeddings of tokens that two models share.

Whoever permutes, flips or rotates the residual stream of a copy changes every matrix of it, but all in the same way,
and the token embeddings tell which: row ``t`` of the suspect is row ``t`` of the base in another basis. The basis is
recovered from them alone, and the suspect's vectors are brought into the base's.

**Why the coins tossed afterwards stay exactly fair.** A relabelling of hidden units moves rows and columns of the
blocks and leaves the embeddings as they are. The recovered basis is a function of the embeddings, hence unchanged by
every exchange and every flip of units: given the embeddings of both models the statistic of a unit's coin is negated by
the unit's own relabelling as before. The fit may therefore search as hard as it likes, and may be poor: under the null
a poor basis makes the coins noisy, never unfair. That ends where a block is looked at: nothing here does.

Coins of the stream's own channels are another matter, since a fitted permutation was chosen by them; see
:mod:`lineage_plugin.evidence.channels`.

**How many tokens.** Permutations need few: 64 rows tell 4,096 channels apart when the embeddings drifted little, 256
are ample. A rotation needs as many rows as the stream is wide to be known whole. With ``T`` rows of width ``d`` it is
known on the ``T`` directions that the rows span, other directions are dropped, and the cosine of a vector with its
counterpart falls to about ``sqrt(T / d)``, against a noise of about ``1 / sqrt(T)``: coins need no more than one or
two hundred rows, effect sizes need ``2 d``.

Orthogonal Procrustes: Schoenemann (1966), doi:10.1007/BF02289451; the orthogonal polar factor of ``A^T B``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.channels import match_channels

__all__ = ["Basis", "BasisKind", "Fit", "recover_basis"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

BasisKind = Literal["identity", "permutation", "rotation"]

LEAST_ROWS: Final = 16
"""Fewer token rows than this are not fitted."""
MOST_ROWS: Final = 1 << 14
"""Rows beyond this are left out: they would add time, not accuracy."""
CHECKED: Final = 512
"""Rows that a fit is made from when it is only to be checked on others: enough to tell the kinds apart."""
GOOD: Final = 0.8
"""Fit from which a simpler kind is taken without trying the next."""
NEARLY: Final = 0.9
"""Share of the best fit at which a simpler kind is preferred."""
CLEAR: Final = 5.0
"""Standard errors by which the fit must exceed that of shuffled tokens."""
FOREIGN: Final = 0.05
"""Share of rows that fit no better than shuffled ones, from which they are left out and the basis is fitted again."""
FLIPPED: Final = 0.02
"""Share of negative signs from which a stream is said to be flipped."""
DOMINANT: Final = 0.25
"""Share of the energy from which a direction is left out of the comparison of rows: all rows agree along it."""
RANK: Final = 1e-13
"""Squared singular values below this share of the largest are rounding."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a kind of basis explains token rows that it was not fitted to.

    All rows have their mean removed, and the few directions that hold most of the energy of either model: tied
    embeddings are long along the frequency of the token, which makes all rows look alike. Only the better half of the
    held-out rows is counted, so that up to half of the vocabulary may have been replaced; shuffled rows are treated
    alike.

    Attributes:
        kind: The kind.
        cosine: Mean cosine of a row of the suspect, mapped, with that of the base.
        shuffled: The same with the tokens of one side shuffled.
        score: Difference of the two in standard errors.
    """

    kind: BasisKind
    cosine: float
    shuffled: float
    score: float

    @property
    def gain(self) -> float:
        """What the kind explains beyond chance."""
        return self.cosine - self.shuffled


@dataclass(frozen=True, eq=False, slots=True)
class Basis:
    """A map from the suspect's residual stream into the base's.

    Attributes:
        kind: ``identity``, ``permutation`` (with signs, perhaps of some channels only) or ``rotation``.
        widths: Channels of the suspect and of the base.
        fits: Every kind that was tried, in order.
        rows: Number of token rows of the final fit.
        channels: ``[m, 2]`` channels of the suspect and the base that belong together; empty for a rotation.
        signs: ``[m]`` factor of each of them, 1 or -1.
        factors: For a rotation, the matrices to multiply by, ``[dA, r]`` and ``[r, dB]`` or ``[dA, dB]``; else empty.
    """

    kind: BasisKind
    widths: tuple[int, int]
    fits: tuple[Fit, ...]
    rows: int
    channels: IntArray
    signs: FloatArray
    factors: tuple[FloatArray, ...] = ()

    @property
    def fit(self) -> Fit:
        """The fit of the kind that was chosen."""
        return next(fit for fit in self.fits if fit.kind == self.kind)

    def apply(self, vectors: FloatArray) -> FloatArray:
        """Bring vectors that read or write the suspect's stream into the base's.

        A gain that multiplies the stream before it is read belongs to the vector: the caller multiplies it in first.
        Channels of the base without a counterpart become zero.

        Args:
            vectors: ``[m, k * dA]``: ``k`` vectors of the suspect a row, one after the other.

        Returns:
            ``[m, k * dB]``.

        Raises:
            ValueError: When the rows are not made of vectors of ``dA`` elements.
        """
        ours, theirs = self.widths
        if vectors.ndim != 2 or vectors.shape[1] % ours:
            raise ValueError(f"vectors of shape {vectors.shape} are not of a stream of {ours} channels")
        if self.kind == "identity":
            return vectors
        parts = vectors.reshape(-1, ours)
        if self.kind == "rotation":
            with np.errstate(invalid="ignore", over="ignore"):
                for factor in self.factors:
                    parts = parts @ factor
            mapped = parts
        else:
            mapped = np.zeros((parts.shape[0], theirs), np.float32)
            mapped[:, self.channels[:, 1]] = parts[:, self.channels[:, 0]] * self.signs
        return mapped.reshape(vectors.shape[0], vectors.shape[1] // ours * theirs)

    def restrict(self, vectors: FloatArray) -> FloatArray:
        """Return vectors of the base with only that left of them which :meth:`apply` can reach.

        Channels without a counterpart become zero, and of a rotation known on some directions only these are kept;
        a vector and its counterpart are then as near as they can be.

        Args:
            vectors: ``[m, k * dB]``.

        Returns:
            ``[m, k * dB]``.

        Raises:
            ValueError: When the rows are not made of vectors of ``dB`` elements.
        """
        theirs = self.widths[1]
        if vectors.ndim != 2 or vectors.shape[1] % theirs:
            raise ValueError(f"vectors of shape {vectors.shape} are not of a stream of {theirs} channels")
        if self.kind == "identity":
            return vectors
        parts = vectors.reshape(-1, theirs)
        if self.kind == "rotation":
            if self.rows >= theirs and self.widths[0] >= theirs:
                return vectors
            last = self.factors[-1]
            with np.errstate(invalid="ignore", over="ignore"):
                kept: FloatArray = (parts @ last.T) @ last
        else:
            kept = np.zeros_like(parts)
            kept[:, self.channels[:, 1]] = parts[:, self.channels[:, 1]]
        return kept.reshape(vectors.shape)

    def describe(self) -> str:
        """Return what was undone, as a plain phrase."""
        ours, theirs = self.widths
        if self.kind == "identity":
            return "the residual stream is in the base's order"
        if self.kind == "rotation":
            width = "" if ours == theirs else f" and its width changed from {theirs} to {ours}"
            return f"the residual stream was rotated{width}"
        kept = self.channels.shape[0]
        moved = bool((np.diff(self.channels[np.argsort(self.channels[:, 1]), 0]) < 0).any())
        changes = [
            *(["permuted"] if moved else []),
            # The sign of a channel that was matched wrongly means nothing; whoever flips signs flips many.
            *(["flipped in sign"] if kept and (self.signs < 0).mean() > FLIPPED else []),
        ]
        phrases = [f"the residual stream was {' and '.join(changes)}"] if changes else []
        if kept < theirs:
            phrases.append(f"{kept:,} of {theirs:,} channels kept")
        if ours > theirs:
            phrases.append(f"the residual stream was widened from {theirs:,} to {ours:,} channels")
        return "; ".join(phrases) or "the residual stream is in the base's order"


def recover_basis(suspect_rows: FloatArray, base_rows: FloatArray, *, flip: bool, rotate: bool) -> Basis | None:
    """Recover the basis of the suspect's residual stream relative to the base's.

    Kinds are tried from the simplest on, each fitted on one half of the tokens and checked on the other; the simplest
    is chosen that comes near the best. Rows that the fit of the other half does not explain (tokens whose rows were
    replaced) are left out once, if that helps.

    Rows of unrelated models can be fitted, too: tokens of like meaning lie alike in both. The basis is a help to the
    coins, no evidence.

    Args:
        suspect_rows: ``[T, dA]`` embeddings of the suspect.
        base_rows: ``[T, dB]`` embeddings of the same tokens of the base.
        flip: Whether a channel's sign may have been flipped (RMSNorm; never LayerNorm, which subtracts a mean).
        rotate: Whether the stream may have been rotated (RMSNorm with gains folded).

    Returns:
        The basis, or None when there are too few usable rows or no kind explains held-out rows clearly better than
        shuffled ones.

    Raises:
        ValueError: When the arrays are not matrices with one row a token.
    """
    if suspect_rows.ndim != 2 or base_rows.ndim != 2 or suspect_rows.shape[0] != base_rows.shape[0]:
        raise ValueError(f"rows of shapes {suspect_rows.shape} and {base_rows.shape} are not of the same tokens")
    a, b = _usable(suspect_rows, base_rows)
    if b.shape[0] < LEAST_ROWS or not a.shape[1] or not b.shape[1]:
        return None
    kinds: list[BasisKind] = ["permutation", *(["rotation"] if rotate else [])]  # type: ignore[list-item]
    if a.shape[1] == b.shape[1]:
        kinds.insert(0, "identity")
    fits: list[Fit] = []
    kept: dict[BasisKind, BoolArray] = {}
    dominant = (_dominant(a), _dominant(b))
    for kind in kinds:
        fit, kept[kind] = _checked(kind, a, b, flip, dominant)
        fits.append(fit)
        if fit.gain >= GOOD and fit.score >= CLEAR:
            break
    clear = [fit for fit in fits if fit.score >= CLEAR]
    if not clear:
        return None
    best = max(fit.gain for fit in clear)
    chosen = next(fit.kind for fit in clear if fit.gain >= NEARLY * best)
    rows = kept[chosen]
    channels, signs, factors = _fitted(chosen, a[rows], b[rows], flip)
    return Basis(chosen, (a.shape[1], b.shape[1]), tuple(fits), int(rows.sum()), channels, signs, factors)


def _usable(suspect: FloatArray, base: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the rows that say something, without their mean and with unit length.

    Rows that are the base's twice (reserved tokens) are used once: a held-out row must not be a fitted one.
    """
    suspect, base = suspect[:MOST_ROWS], base[:MOST_ROWS]
    finite = np.isfinite(suspect).all(axis=1) & np.isfinite(base).all(axis=1)
    finite &= suspect.any(axis=1) & base.any(axis=1)
    chosen = np.flatnonzero(finite)
    if chosen.shape[0]:
        _, first = np.unique(base[chosen], axis=0, return_index=True)
        chosen = chosen[np.sort(first)]
    parts = []
    usable = np.ones(chosen.shape[0], dtype=bool)
    for rows in (suspect[chosen].astype(np.float64), base[chosen].astype(np.float64)):
        centred = rows - rows.mean(axis=0) if rows.shape[0] else rows
        norm = np.sqrt(np.einsum("td,td->t", centred, centred))
        usable &= norm > 0.0
        parts.append((centred / np.where(norm > 0.0, norm, 1.0)[:, None]).astype(np.float32))
    return parts[0][usable], parts[1][usable]


def _dominant(rows: FloatArray) -> FloatArray:
    """Return the directions, ``[d, k]``, that hold more than a quarter of the energy that is left without those before.

    By subspace iteration: at most eight directions are looked for.
    """
    rng = np.random.default_rng(rows.shape[1])
    found = rng.standard_normal((rows.shape[1], min(8, *rows.shape))).astype(np.float32)
    for _ in range(8):
        found, _ = np.linalg.qr(rows.T @ (rows @ found))
    image = rows @ found
    energy, u = np.linalg.eigh((image.T @ image).astype(np.float64))
    left, count = float(np.einsum("td,td->", rows, rows, dtype=np.float64)), 0
    for share in energy[::-1]:
        if share <= DOMINANT * left:
            break
        left, count = left - float(share), count + 1
    return np.asarray(found @ u[:, ::-1][:, :count], dtype=np.float32)


def _checked(
    kind: BasisKind, a: FloatArray, b: FloatArray, flip: bool, dominant: tuple[FloatArray, FloatArray]
) -> tuple[Fit, BoolArray]:
    """Fit a kind on half of the rows and check it on the others; say which rows are worth fitting."""
    count = b.shape[0]
    rng = np.random.default_rng([count, a.shape[1], b.shape[1]])
    order = rng.permutation(count)
    part = min(count // 2, CHECKED)
    first, second = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    first[order[:part]], second[order[part : 2 * part]] = True, True
    everything = np.ones(count, dtype=bool)
    fit, cosines, shuffled = _held_out(kind, a, b, first, ~first, flip, dominant, rng)
    if kind == "identity":
        return fit, everything
    # Rows no better than shuffled ones are foreign. The fitted ones are judged by a fit of others.
    _, others, _ = _held_out(kind, a, b, second, first, flip, dominant, rng)
    foreign = np.zeros(count, dtype=bool)
    limit = float(np.quantile(shuffled, 0.9))
    foreign[~first], foreign[first] = cosines <= limit, others <= limit
    if foreign.mean() < FOREIGN or (first & ~foreign).sum() < LEAST_ROWS // 2:
        return fit, everything
    again, _, _ = _held_out(kind, a, b, first & ~foreign, ~first, flip, dominant, rng)
    return (again, ~foreign) if again.gain > fit.gain else (fit, everything)


def _held_out(
    kind: BasisKind,
    a: FloatArray,
    b: FloatArray,
    fitted: BoolArray,
    held: BoolArray,
    flip: bool,
    dominant: tuple[FloatArray, FloatArray],
    rng: np.random.Generator,
) -> tuple[Fit, Float64Array, Float64Array]:
    """Return the fit on held-out rows, with the cosine of each, true and shuffled."""
    channels, signs, factors = _fitted(kind, a[fitted], b[fitted], flip)
    basis = Basis(kind, (a.shape[1], b.shape[1]), (), 0, channels, signs, factors)
    common, _ = np.linalg.qr(np.concatenate([dominant[1], basis.apply(dominant[0].T).T], axis=1))
    unit, target = (_direction(rows - (rows @ common) @ common.T) for rows in (basis.apply(a[held]), b[held]))
    # A rotation by one place of shuffled rows leaves no row in its place.
    order = rng.permutation(target.shape[0])
    wrong = np.empty_like(order)
    wrong[order] = np.roll(order, 1)
    true = np.einsum("td,td->t", unit, target, dtype=np.float64)
    shuffled = np.einsum("td,td->t", unit, target[wrong], dtype=np.float64)
    upper = -(-target.shape[0] // 2)
    best, best_shuffled = np.sort(true)[-upper:], np.sort(shuffled)[-upper:]
    error = float(np.sqrt((shuffled.var() + 1e-12) / upper))
    cosine, chance = float(best.mean()), float(best_shuffled.mean())
    return Fit(kind, cosine, chance, (cosine - chance) / error), true, shuffled


def _direction(rows: FloatArray) -> FloatArray:
    length = np.sqrt(np.einsum("td,td->t", rows, rows, dtype=np.float64))
    return np.asarray(rows / np.where(length > 0.0, length, 1.0)[:, None], dtype=np.float32)


def _fitted(
    kind: BasisKind, a: FloatArray, b: FloatArray, flip: bool
) -> tuple[IntArray, FloatArray, tuple[FloatArray, ...]]:
    """Return channels, signs and factors of the kind that fits the rows best."""
    none = np.empty((0, 2), np.int64)
    if kind == "identity":
        every = np.arange(b.shape[1], dtype=np.int64)
        return np.stack([every, every], axis=1), np.ones(b.shape[1], np.float32), ()
    if kind == "rotation":
        return none, np.empty(0, np.float32), _procrustes(a, b)
    return *match_channels(a, b, flip=flip), ()


def _procrustes(a: FloatArray, b: FloatArray) -> tuple[FloatArray, ...]:
    """Return the (semi-)orthogonal map that carries rows of ``a`` to rows of ``b``, on the directions they span."""
    rows, width = a.shape[0], min(a.shape[1], b.shape[1])
    if 2 * rows >= width:
        return (_polar(a.T.astype(np.float64) @ b).astype(np.float32),)
    # Few rows: only the directions that they span matter, and there are no more of them than rows.
    left, upper = np.linalg.qr(a.T)
    right, lower = np.linalg.qr(b.T)
    core = _polar(upper.astype(np.float64) @ lower.T.astype(np.float64)).astype(np.float32)
    return left @ core, np.ascontiguousarray(right.T)


def _polar(matrix: Float64Array) -> Float64Array:
    """Return ``U V^T`` of ``U S V^T``, without the directions whose singular values are zero.

    By the eigenvectors of ``M^T M``, three times as fast as a singular value decomposition; in float64 this resolves
    singular values down to 3e-7 of the largest, as a decomposition in float32 would.
    """
    if matrix.shape[0] < matrix.shape[1]:
        return np.asarray(_polar(matrix.T).T)
    energy, v = np.linalg.eigh(matrix.T @ matrix)
    keep = energy > RANK * max(float(energy[-1]), np.finfo(np.float64).tiny)
    return np.asarray((matrix @ (v[:, keep] / np.sqrt(energy[keep]))) @ v[:, keep].T)
