"""What matched units show besides their coins: evidence that is not exact, and value channels that were mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.types import UnitGroup
from lineage_plugin.evidence.calibrated import Calibrated, calibrated, count_agreements
from lineage_plugin.evidence.frame import Frame
from lineage_plugin.evidence.mixing import head_cosines, is_mixed
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.sample import entropy
from lineage_plugin.evidence.stage_units import UnitStage
from lineage_plugin.evidence.unit_reader import UnitReader, role_of
from lineage_plugin.evidence.units import match_units
from lineage_plugin.options import Options

__all__ = ["calibrate_stage", "values_are_mixed"]

IntArray = NDArray[np.int64]

CALIBRATED = 2048
"""Base units of a layer that calibrated evidence looks at."""


def calibrate_stage(
    models: Models,
    stage: UnitStage,
    frame: Frame | None,
    options: Options,
    progress: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Compare the vectors that the match did not look at, for models whose labels have all been redrawn.

    Args:
        models: Suspect and base.
        stage: The groups that correspond.
        frame: The common coordinates in which they were found.
        options: Seed.
        progress: Called with the groups compared so far, and all.

    Returns:
        The calibrated evidence; each unit of the base is counted once.
    """
    search = UnitReader(models, options, frame)
    counts, seen = [], set()
    for done, sample in enumerate(stage.samples):
        if progress is not None:
            progress(done, len(stage.samples))
        mine, theirs = sample.probe.suspect, sample.probe.base
        if theirs.key in seen:
            continue
        seen.add(theirs.key)
        roles, by = sample.roles, role_of(theirs) or ""
        # The other roles are looked at afterwards, so here they may have no part in the match.
        units = _drawn(theirs, options.seed)
        (gates,), (wanted,) = (
            search.matrices("suspect", mine, (by,), hold=False),
            search.vectors("base", theirs, units, (by,)),
        )
        match = match_units(gates, wanted, even=theirs.by_role[by].odd)
        del gates, wanted
        # Units without a partner show the principal directions, too.
        known = np.union1d(_drawn(mine, options.seed), match.suspect_rows)
        suspect, base = (
            dict(zip(roles, search.vectors(side, group, chosen, roles), strict=True))
            for side, group, chosen in (("suspect", mine, known), ("base", theirs, units))
        )
        counts.append(
            count_agreements(
                suspect,
                base,
                dict(zip(roles, sample.odd, strict=True)),
                matched_on=by,
                rows=(np.searchsorted(known, match.suspect_rows), match.base_rows),
                seed=options.seed,
            )
        )
    return calibrated(counts)


def _drawn(group: UnitGroup, seed: int) -> IntArray:
    """Return the units of a group that calibrated evidence looks at: all, or some of very many."""
    chosen = np.random.default_rng([*entropy(seed, group), 6]).permutation(group.units)[:CALIBRATED]
    return np.sort(chosen).astype(np.int64)


def values_are_mixed(
    models: Models, layers: Sequence[tuple[str, str]], frame: Frame | None, nearness: float = 0.0
) -> bool:
    """Say whether the heads of corresponding layers do more alike as wholes than their channels do one by one.

    Args:
        models: Suspect and base.
        layers: Numbers of corresponding layers, the suspect's first.
        frame: The common coordinates; None when the streams are the same.
        nearness: Mean cosine of the value channels that were matched one by one.
    """
    search = UnitReader(models, Options(), frame)
    found = []
    for suspect, base in layers:
        mine, theirs = search.groups("suspect", "value", int(suspect)), search.groups("base", "value", int(base))
        if mine and theirs and {"v", "o"} <= set(search.roles(mine[0], theirs[0])) and mine[0].units == theirs[0].units:
            a = search.matrices("suspect", mine[0], ("v", "o"), hold=False)
            b = search.matrices("base", theirs[0], ("v", "o"), hold=False)
            found.append(head_cosines(theirs[0], (a[0], a[1]), (b[0], b[1])))
    return is_mixed(found, nearness)
