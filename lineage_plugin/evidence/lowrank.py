"""Is the difference of two models of low rank, as a merged adapter leaves it?

Merging a LoRA adapter (Hu et al., arXiv:2106.09685) stores ``round(B + U V)`` with ``U V`` of small rank. Seen from the
base, the suspect's difference is then a matrix of that rank plus rounding, whose size is known from the stored values.
A training step on the whole matrix leaves energy in every direction instead.

The rule. Singular values above the largest that rounding alone can have (an edge for entries of unequal variance:
Bandeira & van Handel, Annals of Probability 44 (2016), 2479) count as directions of the update. The matrix is of low
rank when they are few, hold several times the energy of rounding, and the rest has the energy of rounding, no more and
no less. Updates that hide under the rounding decide nothing; nor does one matrix alone, whose full update may look so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["LowRank", "Spectrum", "low_rank", "rounding_error", "spectrum", "storage_step"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]

_ROWS = 512
"""At most so many rows are decomposed."""
_FRACTION = 4
"""A low rank is at most this fraction of the rows and of the columns looked at."""
_EDGE = 1.1
"""Factor on the rounding edge: finite size lifts the largest singular value by less."""
_REST = (0.85, 1.15)
"""Energy of the rest over that of rounding: above, there is more than rounding; below, the update is so small that most
values round back to the base's, and what is left of it need not show its rank."""
_SIGNAL = 6.0
"""Energy of the directions over that of rounding: with 0.3 of it at most in hiding, they hold 95% of the update."""
_AGREEING = 0.9
"""Share of the decided matrices that must be of low rank."""
_SIGNIFICAND = {"BF16": 8, "F16": 11, "F32": 24, "F64": 24}


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What the singular values of one difference say.

    Attributes:
        kind: ``untouched`` (no value differs), ``low``, ``full``, or ``undecided``: too few rows or columns, an update
            that hides under the rounding, or values that are not finite.
        rank: Directions above the rounding; an estimate, exact where all of them clear it. 0 when undecided.
        rest: Energy beyond those directions over the energy of rounding.
        signal: Energy in those directions over the energy of rounding.
    """

    kind: Literal["untouched", "low", "full", "undecided"]
    rank: int
    rest: float
    signal: float


@dataclass(frozen=True, slots=True)
class LowRank:
    """A difference of low rank in all matrices that were touched, up to a few.

    Attributes:
        rank: Largest rank among the matrices of low rank.
        spectra: One a matrix, in the order given.
        touched: Roles with a matrix that changed, in order of appearance; empty when no roles were given.
        untouched: Roles none of whose matrices changed in any value.
    """

    rank: int
    spectra: tuple[Spectrum, ...]
    touched: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()

    @property
    def low(self) -> int:
        """Number of matrices of low rank."""
        return sum(one.kind == "low" for one in self.spectra)

    @property
    def changed(self) -> int:
        """Number of matrices that changed at all."""
        return sum(one.kind != "untouched" for one in self.spectra)


def storage_step(rows: FloatArray, bits: int, *, half: bool = False) -> FloatArray:
    """Return the distance between neighbouring values of storage, at each stored value.

    Args:
        rows: Stored values, any shape.
        bits: Significant bits of the stored type.
        half: Whether the type has no finer steps than half precision, whose subnormal values are ``2^-24`` apart.

    Returns:
        Array of the same shape; 0 at zeros, which are as exact as storage allows, but for half precision.
    """
    with np.errstate(invalid="ignore"):
        # frexp gives zeros the exponent of 0.5, so that they would get the step of that.
        step = np.where(rows == 0, np.float32(0.0), np.ldexp(np.float32(1.0), np.frexp(rows)[1] - bits))
    found: FloatArray = np.maximum(step, np.float32(2.0**-24)) if half else step
    return found


def rounding_error(rows: FloatArray, dtype: str) -> FloatArray:
    """Return the standard deviation of the rounding that each stored value went through.

    Rounding to nearest leaves an error uniform over one step of storage, of standard deviation ``step / sqrt(12)``.

    Args:
        rows: Stored values of the suspect, any shape.
        dtype: Name of the stored type.

    Returns:
        Array of the same shape; NaN where the type is not a float that weights are merged in.
    """
    if dtype not in _SIGNIFICAND:
        return np.full(rows.shape, np.nan, np.float32)
    step = storage_step(rows, _SIGNIFICAND[dtype], half=dtype == "F16")
    error: FloatArray = np.asarray(step / math.sqrt(12.0), dtype=np.float32)
    return error


def spectrum(difference: FloatArray, rounding: float | FloatArray) -> Spectrum:
    """Return what the singular values of one difference say.

    Args:
        difference: ``[m, d]`` suspect minus base, rows of equal units.
        rounding: Standard deviation of the suspect's rounding: one of each element (:func:`rounding_error`), or the
            root mean square over all.

    Returns:
        The kind of update and its rank.
    """
    delta = np.asarray(difference, np.float64)
    noise = np.broadcast_to(np.asarray(rounding, np.float64), delta.shape)
    chosen = np.floor(np.linspace(0, delta.shape[0] - 1, min(_ROWS, delta.shape[0]))).astype(np.int64)
    delta, noise = delta[chosen], noise[chosen]
    if not (np.isfinite(delta).all() and np.isfinite(noise).all()):
        return Spectrum("undecided", 0, math.nan, math.nan)
    if not delta.any():
        return Spectrum("untouched", 0, 0.0, 0.0)
    m, d = delta.shape
    # Eigenvalues of the smaller Gram matrix; those below its own arithmetic are nothing.
    gram = delta @ delta.T if m <= d else delta.T @ delta
    energy = np.maximum(np.linalg.eigvalsh(gram)[::-1], 0.0)
    blur = np.finfo(np.float64).eps * max(m, d) * energy[0]
    variance = noise**2
    edge = (math.sqrt(variance.sum(axis=1).max()) + math.sqrt(variance.sum(axis=0).max())) * _EDGE
    rank = int((energy > max(edge**2, blur)).sum())
    expected = float(variance.sum())
    # The directions take up their share of the rounding, too.
    left = expected * (1.0 - rank / m) * (1.0 - rank / d)
    signal = float(energy[:rank].sum()) - (expected - left)
    rest = float(energy[rank:].sum())
    scale = max(left, blur * min(m, d))
    ratio, strength = rest / scale, signal / max(expected, blur)
    if rank == 0:
        return Spectrum("undecided", 0, ratio, strength)
    if min(m, d) < 4 * _FRACTION or strength < _SIGNAL:
        return Spectrum("undecided", 0, ratio, strength)
    if _FRACTION * rank > min(m, d) or ratio > _REST[1]:
        return Spectrum("full", rank, ratio, strength)
    # A merge of float32 is exact to less than its own arithmetic; there the rest may well be smaller.
    if ratio >= _REST[0] or blur * min(m, d) > left:
        return Spectrum("low", rank, ratio, strength)
    return Spectrum("undecided", 0, ratio, strength)


def low_rank(
    differences: Sequence[FloatArray], rounding: Sequence[float | FloatArray], roles: Sequence[str] = ()
) -> LowRank | None:
    """Return the rank of an update that is of low rank wherever there is one.

    Args:
        differences: One ``[m, d]`` array a matrix, suspect minus base, rows of equal units.
        rounding: For each, the standard deviation of rounding (see :func:`spectrum`).
        roles: For each, the role of the matrix, to say which were touched.

    Returns:
        The ranks, or None when the update is not of low rank, or nothing could be decided.
    """
    found = tuple(spectrum(delta, noise) for delta, noise in zip(differences, rounding, strict=True))
    low = [one.rank for one in found if one.kind == "low"]
    decided = len(low) + sum(one.kind == "full" for one in found)
    if not low or len(low) < _AGREEING * decided:
        return None
    changed = {role for role, one in zip(roles, found, strict=False) if one.kind != "untouched"}
    order = tuple(dict.fromkeys(roles))
    return LowRank(
        max(low), found, tuple(r for r in order if r in changed), tuple(r for r in order if r not in changed)
    )
