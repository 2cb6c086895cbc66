"""Who came first? An indication, never evidence.

An update is nearly orthogonal to the weights it starts from, so a child contains its base whole (the coefficient of the
child on the base is near 1) while the base contains only a part of its child. Two siblings each lost something of their
common ancestor. Weight decay can shrink a child, and a sibling that barely moved looks like a base; in between nothing
is said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lineage_plugin.evidence.effects import Differences

__all__ = ["indicate_direction"]

APART = 1.03
"""Ratio of the two coefficients from which one model is called the nearer to the common ancestor."""
AGREEMENT = 0.8
"""Share of the matrices that must point the same way."""
WHOLE = 0.95
"""Coefficient below which a model has lost a part of the other."""


def indicate_direction(
    parts: Sequence[Differences], suspect_on_base: float | None, base_on_suspect: float | None
) -> str:
    """Return ``suspect-from-base``, ``base-from-suspect``, ``siblings`` or ``unclear``.

    Args:
        parts: Pair differences of each matrix.
        suspect_on_base: Coefficient of the suspect on the base.
        base_on_suspect: The reverse coefficient.

    Returns:
        The indication.
    """
    if not suspect_on_base or not base_on_suspect or suspect_on_base <= 0 or base_on_suspect <= 0 or not parts:
        return "unclear"
    ratio = suspect_on_base / base_on_suspect
    logs = np.array([np.log(p.suspect.sum() / p.base.sum()) for p in parts if p.suspect.sum() > 0 < p.base.sum()])
    if logs.shape[0] == 0:
        return "unclear"
    if ratio >= APART and float(np.mean(logs > 0)) >= AGREEMENT:
        return "suspect-from-base"
    if ratio <= 1 / APART and float(np.mean(logs < 0)) >= AGREEMENT:
        return "base-from-suspect"
    if max(suspect_on_base, base_on_suspect) < WHOLE and 1 / APART < ratio < APART:
        return "siblings"
    return "unclear"
