"""Undoing what a relabelling did to single units, for measuring what is shared. Coins never see the result.

A gated neuron computes ``activation(gate) * up`` and writes it through ``down``: flipping both, or scaling one up and
the other down, changes nothing. The same holds for value and output rows of a value channel. Signs that were redrawn,
and scales that were, would make a copy look as if little of it were left.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.stream import WRITES
from lineage_plugin.evidence.coins import sign_statistics, swap_statistics
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.sample import Sample

__all__ = ["is_alike", "rescaled", "turned"]

Float64Array = NDArray[np.float64]

LEAST_UNITS = 16
"""Units that a group needs before its signs or scales are said to have been changed."""
TURNING_BAR = 2.0
"""``log10 E`` of a group's swap coins from which its signs may be turned to those of the base."""
OPPOSED = -0.8
"""Correlation of the two log scales below which one was traded for the other."""
TRADED = 0.15
"""Standard deviation of the log scale that was traded, from which it is undone."""


def is_alike(sample: Sample) -> bool:
    """Say whether matched units are alike in what the match has not seen: in what they write, up to sign.

    A match makes what units read alike, of independent models too; what follows from that describes nothing.

    Args:
        sample: Units matched by what they read.
    """
    places = [place for place, role in enumerate(sample.roles) if role in WRITES]
    if not places or not sample.pairs.shape[0]:
        return False
    swap = swap_statistics(
        [sample.suspect[i] for i in places],
        [sample.base[i] for i in places],
        [sample.odd[i] for i in places],
        sample.pairs,
    )
    return log10_e_value(int((swap > 0).sum()), int((swap != 0).sum())) >= TURNING_BAR


def turned(sample: Sample) -> Sample:
    """Turn the suspect's units to the base's signs where signs alone were redrawn.

    Signs were redrawn where the units agree in absolute value, unit by unit, and their signs are at chance.

    Args:
        sample: Matched units.

    Returns:
        The sample, its suspect's units flipped where that was found.
    """
    if not any(sample.odd):
        return sample
    sign = sign_statistics(sample.suspect, sample.base, sample.odd)
    tossed, heads = int((sign != 0).sum()), int((sign > 0).sum())
    if tossed < LEAST_UNITS or log10_e_value(heads, tossed) > 0:
        return sample
    if sample.pairs.shape[0]:
        swap = swap_statistics(sample.suspect, sample.base, sample.odd, sample.pairs)
        if log10_e_value(int((swap > 0).sum()), int((swap != 0).sum())) < TURNING_BAR:
            return sample
    elif not sample.probe.searched:
        return sample
    turn = np.where(sign < 0, np.float32(-1.0), np.float32(1.0))[:, None]
    return replace(sample, suspect=tuple(a * turn if o else a for a, o in zip(sample.suspect, sample.odd, strict=True)))


def rescaled(sample: Sample) -> Sample | None:
    """Undo a rescaling of what units read against what they write.

    Of a copy that was trained on, both norms of a unit move a little, and together; a traded scale moves them apart by
    the same factor.

    Args:
        sample: Matched units.

    Returns:
        The sample with the suspect's scales as in the base, or None where nothing was traded.
    """
    places = [place for place, odd in enumerate(sample.odd) if odd]
    if len(places) != 2 or sample.base[0].shape[0] < LEAST_UNITS:
        return None
    one, two = (_log_ratio(sample, place) for place in places)
    usable = np.isfinite(one) & np.isfinite(two)
    if int(usable.sum()) < LEAST_UNITS or not (one[usable].std() and two[usable].std()):
        return None
    traded = np.where(usable, (one - two) / 2, 0.0)
    if float(np.corrcoef(one[usable], two[usable])[0, 1]) > OPPOSED or float(traded[usable].std()) < TRADED:
        return None
    factor = np.exp(traded - np.median(traded[usable])).astype(np.float32)[:, None]
    suspect = list(sample.suspect)
    suspect[places[0]] = suspect[places[0]] / factor
    suspect[places[1]] = suspect[places[1]] * factor
    return replace(sample, suspect=tuple(suspect))


def _log_ratio(sample: Sample, place: int) -> Float64Array:
    mine, theirs = (
        np.sqrt(np.einsum("ud,ud->u", part[place], part[place], dtype=np.float64))
        for part in (sample.suspect, sample.base)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Float64Array = np.log(mine / theirs)
    return ratio
