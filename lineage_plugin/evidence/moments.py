"""Second moments of one matrix of a family of models: all that weighing its members against each other needs.

Only *resolved* elements count, those where the models other than the suspect differ by several steps of the storage
type; :mod:`lineage_plugin.evidence.parents` says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.family_read import Block
from lineage_plugin.evidence.grid import significant_bits

__all__ = ["SINGULAR", "Moments", "moments"]

Float64Array = NDArray[np.float64]

STEPS = 8
"""Steps of the storage type by which models must differ at an element for it to count."""
CLUSTERS = 32
"""Runs of units, per matrix, whose moments are kept apart."""
RESIDUAL_ROWS = 64
"""Rows of a residual whose spectrum is looked at."""
SINGULAR = 1e-10
"""Least eigenvalue of the correlations of the regressors: below it the parents cannot be told apart."""


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Second moments of one matrix over its resolved elements; all that a fit needs of it.

    The basis is ``(S - R, P_1 - R, ..., P_k - R, R)`` with ``R`` the last model of the block.

    Attributes:
        layer: Layer in the suspect.
        role: Kind of group and field name, such as ``mlp up``.
        gram: ``[clusters, k + 2, k + 2]`` inner products in that basis, by run of units.
        parents: ``[k + 1, k + 1]`` inner products of the models other than the suspect, over all elements.
        rounding: Energy that one rounding of the suspect to its stored precision adds.
        residual: Energy left by the least squares fit of this matrix alone.
        concentrated: Share of it in the strongest quarter of its directions; NaN when there is no residual.
        elements: Number of elements.
        resolved: Number of resolved elements.
        still: Resolved elements at which the suspect equals the reference exactly.
        still_energy: Share of the energy of the parents' differences that lies at those.
    """

    layer: int
    role: str
    gram: Float64Array
    parents: Float64Array
    rounding: float
    residual: float
    concentrated: float
    elements: int
    resolved: int
    still: int
    still_energy: float


def moments(block: Block) -> Moments:
    """Reduce one matrix to its second moments.

    Args:
        block: The suspect first, the reference last.

    Returns:
        The moments.
    """
    values = block.values.astype(np.float64)
    basis = np.concatenate([values[:-1] - values[-1], values[-1:]])
    size, units, dim = basis.shape
    bits = significant_bits(block.values[0])
    # Chosen on the other models alone: the suspect's own rounding must not decide where it is looked at.
    distance = np.abs(basis[1:-1]).max(axis=0)
    resolved = distance >= STEPS * _step(values[-1], bits)
    resolved &= distance > 0
    still = resolved & (basis[0] == 0.0)
    energy = np.einsum("kud,kud->ud", basis[1:-1], basis[1:-1])
    total = float(energy[resolved].sum())
    everywhere, basis = basis, basis * resolved
    starts = np.linspace(0, units, min(CLUSTERS, units), endpoint=False).astype(np.int64)
    parts = np.split(basis, starts[1:], axis=1)
    gram = np.stack([part.reshape(size, -1) @ part.reshape(size, -1).T for part in parts])
    together = gram.sum(axis=0)
    scale = np.sqrt(np.diag(together)[1:])
    scale[scale == 0.0] = 1.0
    solution = np.linalg.lstsq(together[1:, 1:] / scale[:, None] / scale, together[1:, 0] / scale, rcond=SINGULAR)[0]
    solution = solution / scale
    left = float(together[0, 0] - 2.0 * solution @ together[1:, 0] + solution @ together[1:, 1:] @ solution)
    return Moments(
        layer=block.layer,
        role=f"{block.group} {block.role}",
        gram=gram,
        parents=np.einsum("iud,jud->ij", values[1:], values[1:], optimize=True),
        rounding=float((_step(values[0], bits)[resolved] ** 2).sum() / 12.0),
        residual=max(left, 0.0),
        concentrated=_concentrated(everywhere, solution, block.rows),
        elements=units * dim,
        resolved=int(resolved.sum()),
        still=int(still.sum()),
        still_energy=float(energy[still].sum()) / total if total > 0.0 else 0.0,
    )


def _step(values: Float64Array, bits: int) -> Float64Array:
    """Return the distance between neighbouring stored values at each value; 0 at 0."""
    mantissa, exponent = np.frexp(values)
    step: Float64Array = np.where(mantissa == 0.0, 0.0, np.ldexp(1.0, exponent - bits))
    return step


def _concentrated(basis: Float64Array, solution: Float64Array, rows: int) -> float:
    """Return the share of the residual's energy in its strongest quarter of directions; of all elements, whole rows."""
    units = basis.shape[1]
    some = np.linspace(0, units - 1, min(RESIDUAL_ROWS, units)).astype(np.int64)
    residual = basis[0, some] - np.tensordot(solution, basis[1:, some], axes=1)
    energies = np.linalg.svd(residual.reshape(some.shape[0] * rows, -1)[:RESIDUAL_ROWS], compute_uv=False) ** 2
    total = float(energies.sum())
    return float(energies[: max(1, energies.shape[0] // 4)].sum()) / total if total > 0.0 else math.nan
