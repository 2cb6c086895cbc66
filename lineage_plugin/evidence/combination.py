r"""A model as a weighted combination of others, from second moments.

With reference :math:`R` and differences :math:`D_i = P_i - R` the least squares fit of
:math:`S - R = \sum_i c_i D_i + \gamma R + \varepsilon` gives the scale :math:`1 + \gamma` and the weights
:math:`w_i = c_i / (1 + \gamma)`, :math:`w_R = 1 - \sum_i w_i`. Any of the models may be the reference; the weights are
the same.

The covariance is the cluster-robust one of a regression (Liang & Zeger 1986, doi:10.1093/biomet/73.1.13), carried over
to the weights by the delta method: once with runs of units as clusters, once with matrices (and Student's t, since
these are few). The wider interval is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.effects import Z95, MatrixEffect

__all__ = ["combine", "t95"]

Float64Array = NDArray[np.float64]

LEAST_MATRICES = 4
"""Matrices from which they are used as sampling units, too."""


def combine(grams: Sequence[Float64Array]) -> tuple[MatrixEffect, ...]:
    """Return the weights of all models, the reference last, and then the scale, with 95% intervals.

    Args:
        grams: One a matrix, ``[clusters, k + 2, k + 2]``: inner products of ``(S - R, D_1, ..., D_k, R)``.

    Returns:
        ``k + 2`` estimates; all None when they are not determined or there are too few clusters.
    """
    clusters = np.concatenate(grams)
    size = clusters.shape[1]
    unknown: tuple[MatrixEffect, ...] = (MatrixEffect(None, None, None),) * int(size)
    if clusters.shape[0] <= size:
        return unknown
    total = clusters.sum(axis=0)
    spread = np.sqrt(np.diag(total)[1:])
    if not (spread > 0.0).all():
        return unknown
    # In units of the regressors' own lengths, so that the inverse is as good as the parents allow.
    left = total[1:, 1:] / spread[:, None] / spread
    # Below this an eigenvalue is rounding: one huge value in all models makes them indistinguishable.
    if np.linalg.eigvalsh(left)[0] <= size * np.finfo(np.float64).eps:
        return unknown
    inverse = np.linalg.inv(left) / spread[:, None] / spread
    solution = inverse @ total[1:, 0]
    scale = 1.0 + float(solution[-1])
    if not np.isfinite(solution).all() or scale == 0.0:
        return unknown
    weights = solution[:-1] / scale
    estimates = np.array([*weights, 1.0 - weights.sum(), scale])
    # Derivatives of (w_1, ..., w_k, w_R, scale) with respect to (c_1, ..., c_k, gamma).
    slope = np.zeros((size, size - 1))
    slope[: size - 2, : size - 2] = np.eye(size - 2) / scale
    slope[: size - 2, -1] = -weights / scale
    slope[size - 2] = -slope[: size - 2].sum(axis=0)
    slope[size - 1, -1] = 1.0
    transform = slope @ inverse
    reach = Z95 * _error(clusters, solution, transform)
    if len(grams) >= LEAST_MATRICES:
        matrices = np.stack([gram.sum(axis=0) for gram in grams])
        reach = np.maximum(reach, t95(len(grams) - 1) * _error(matrices, solution, transform))
    return tuple(
        MatrixEffect(float(value), float(value - half), float(value + half))
        for value, half in zip(estimates, reach, strict=True)
    )


def _error(clusters: Float64Array, solution: Float64Array, transform: Float64Array) -> Float64Array:
    """Return standard errors from the scores of clusters, which sum to zero at the solution."""
    scores = (clusters[:, 1:, 0] - clusters[:, 1:, 1:] @ solution) @ transform.T
    count = clusters.shape[0]
    errors: Float64Array = np.sqrt(count / (count - 1) * (scores**2).sum(axis=0))
    return errors


def t95(freedom: int) -> float:
    """Return the two-sided 95% point of Student's t.

    Args:
        freedom: Degrees of freedom, at least 3.

    Returns:
        The point, to three digits: the expansion of Cornish and Fisher (Abramowitz & Stegun 1964, 26.7.5).
    """
    z, n = Z95, float(freedom)
    terms = (
        z,
        (z**3 + z) / (4 * n),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3),
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4),
    )
    return sum(terms)
