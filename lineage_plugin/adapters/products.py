"""Two adapters beyond their coins: how alike their learned factors and their products are.

Factors of a module are ``A [r, in]`` and ``B [out, r]``; all of this is sums over modules of inner products of r x r
matrices, so nothing of the size of the base is made.

* ``learned``: cosine and coefficients of B on B. B starts at zero, so what it shares was learned, not drawn.
* ``product``: cosine of the updates ``B A``, which no mixing of the components changes::

      <B A, B' A'> = trace((B'^T B) (A A'^T))

* ``ordered``: whether the components are a singular value decomposition (resized, extracted or converted adapters, some
  starts). Then their order means something, in every adapter the same, and their coins are not fair.

None of these is evidence: two adapters trained on like data from one base are alike in ``product``, and from one seed
in all three. The bounds are those of small trainings (rank 8 and 16 on a language model of 4 million parameters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import UnitGroup
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pairing import match_groups
from lineage_plugin.evidence.sample import read_units

__all__ = ["APART", "COPY", "REMIXED", "Products", "products"]

Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

COPY: Final = 0.999
"""Cosine of B from which one adapter is called a copy of the other, rounded or hardly trained on (other orders of the
same data, from one seed: 0.82 to 0.95; trainings at 2.5 times the rate: 0.84 and 0.89)."""
APART: Final = 0.5
"""Coefficient of B on B, the larger of both ways, below which a shared start is said (continued adapters: from 0.71;
from one seed on other data: up to 0.38)."""
REMIXED: Final = 0.3
"""Cosine of the products from which silent coins do not mean "unrelated"."""

_MODULES: Final = 24
_BYTES: Final = 64 << 20
_REMOTE_BYTES: Final = 8 << 20
_ORTHOGONAL: Final = 0.2
"""Mean square cosine between components, over that of random ones, below which they were made orthogonal."""


@dataclass(frozen=True, slots=True)
class Products:
    """How alike two adapters are.

    Attributes:
        modules: Modules that were looked at.
        learned: Cosine of B; None when it could not be computed.
        on_base: Coefficient of the suspect's B on the base's.
        on_suspect: Coefficient of the base's B on the suspect's.
        product: Cosine of the updates.
        ordered: Whether the components of both are a singular value decomposition.
    """

    modules: int = 0
    learned: float | None = None
    on_base: float | None = None
    on_suspect: float | None = None
    product: float | None = None
    ordered: bool = False


def products(models: Models) -> Products:
    """Compare the factors of two adapters, of some modules spread over the depth.

    Args:
        models: Views of two adapters, of family ``lora``.

    Returns:
        How alike they are.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    pairs, _ = match_groups(models.suspect_anatomy, models.base_anatomy)
    pairs = pairs[:: max(1, -(-len(pairs) // _MODULES))]
    left = _BYTES if models.local else _REMOTE_BYTES
    sums = np.zeros(6)
    # Mean square cosines between components, over what random ones have.
    mixing: tuple[list[float], list[float]] = ([], [])
    looked_at = 0
    for pair in pairs:
        left -= max(_size(models.suspect.tensors, pair.suspect), _size(models.base.tensors, pair.base))
        if left < 0:
            break
        (a, b), (c, d) = (
            (m.astype(np.float64) for m in read_units(model, [(group, _all(group), ("lora_A", "lora_B"))])[0])
            for model, group in ((models.suspect, pair.suspect), (models.base, pair.base))
        )
        with np.errstate(all="ignore"):
            # Rows are components: B is read as its columns. Components of different experts do not meet.
            same_s = pair.suspect.block[:, None] == pair.suspect.block[None, :]
            same_b = pair.base.block[:, None] == pair.base.block[None, :]
            across = pair.suspect.block[:, None] == pair.base.block[None, :]
            row = [
                float(((a @ c.T) * (b @ d.T))[across].sum()),
                float(((a @ a.T) * (b @ b.T))[same_s].sum()),
                float(((c @ c.T) * (d @ d.T))[same_b].sum()),
                float(np.einsum("rd,rd->", b, d)) if b.shape == d.shape else 0.0,
                float(np.einsum("rd,rd->", b, b)),
                float(np.einsum("rd,rd->", d, d)),
            ]
            if not np.isfinite(row).all():
                continue
            sums += row
        for values, factors in zip(mixing, ((a, b), (c, d)), strict=True):
            values.extend(_mixing(factor) for factor in factors)
        looked_at += 1
    if not looked_at:
        return Products()
    ordered = all(bool(values) and float(np.median(values)) < _ORTHOGONAL for values in mixing)
    return Products(
        looked_at,
        _ratio(sums[3], np.sqrt(sums[4] * sums[5])),
        _ratio(sums[3], sums[5]),
        _ratio(sums[3], sums[4]),
        _ratio(sums[0], np.sqrt(sums[1] * sums[2])),
        ordered,
    )


def _all(group: UnitGroup) -> IntArray:
    return np.arange(group.units, dtype=np.int64)


def _size(tensors: object, group: UnitGroup) -> int:
    return sum(tensors[vectors.tensor].nbytes for vectors in group.vectors)  # type: ignore[index]


def _mixing(rows: Float64Array) -> float:
    """Return the mean square cosine between rows over ``1 / dim``, that of random ones; 1 where it says nothing."""
    norm = np.sqrt(np.einsum("rd,rd->r", rows, rows))
    rows = rows[norm > 0] / norm[norm > 0, None]
    if rows.shape[0] < 3 or rows.shape[1] < 2 * rows.shape[0]:
        return 1.0
    cosine = (rows @ rows.T)[~np.eye(rows.shape[0], dtype=bool)]
    return float(np.mean(cosine**2) * rows.shape[1])


def _ratio(one: float, other: float) -> float | None:
    return float(one / other) if other > 0 else None
