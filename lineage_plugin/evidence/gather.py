"""From two opened checkpoints to the evidence about one pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from threadpoolctl import threadpool_limits

from lineage_plugin.anatomy import Anatomy
from lineage_plugin.checkpoint.remembered import Remembered
from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.evidence.escalate import escalate, identity_weight
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pair import PairEvidence
from lineage_plugin.evidence.pairing import match_groups
from lineage_plugin.evidence.plan import plan_rounds
from lineage_plugin.evidence.sample import read_probes
from lineage_plugin.evidence.tally import Tally
from lineage_plugin.evidence.window import narrow
from lineage_plugin.options import Options, Progress

__all__ = ["gather"]

BUDGET_ENDED = "the byte budget ended"
OTHERS_DECIDED = "the others had decided the answer"


def gather(
    models: Models,
    options: Options,
    decided: Callable[[PairEvidence], bool],
    progress: Progress | None = None,
) -> PairEvidence:
    """Read until the answer stands, first in the stored order, then further; return what was seen.

    Args:
        models: Suspect and base.
        options: Seed, budget, exhaustiveness.
        decided: Says whether the evidence so far answers the question.
        progress: Called after each round.

    Returns:
        The evidence.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    if not models.local:
        models = replace(models, suspect=Remembered(models.suspect), base=Remembered(models.base))
        models = models if options.exhaustive else narrow(models)
    # Many small products and decompositions: BLAS threads only wait for each other, the longer the busier the machine.
    with threadpool_limits(limits=1):
        found, tally = _in_stored_order(models, options, decided, progress)
        limits = tuple(dict.fromkeys(models.base_anatomy.limits + models.suspect_anatomy.limits))
        found = replace(found, limits=limits + found.limits)
        return escalate(models, found, tally, options, progress)


def _in_stored_order(
    models: Models, options: Options, decided: Callable[[PairEvidence], bool], progress: Progress | None
) -> tuple[PairEvidence, Tally | None]:
    """Compare layers and units of equal number, round by round."""
    pairs, mismatch = match_groups(models.suspect_anatomy, models.base_anatomy)
    if not pairs:
        return PairEvidence(exact=models.exact, mismatch=mismatch), None
    suspect, base = models.suspect, models.base
    budget = options.budget if options.budget is not None else _default_budget(models, options)
    plan = plan_rounds(suspect, base, pairs, seed=options.seed, budget=options.budget, exhaustive=options.exhaustive)
    tally = Tally(models.exact, len({pair.base.layer for pair in pairs}), models.rounded)
    share = math.log10(identity_weight(models))
    complete, stopped = False, None
    evidence: PairEvidence | None = None
    for step in plan:
        if complete and budget is not None and models.spent >= budget:
            stopped = BUDGET_ENDED
            break
        try:
            tally.add(read_probes(suspect, base, step.probes, options.seed))
        except BudgetExceeded:
            stopped = BUDGET_ENDED
            break
        complete = step.complete
        if progress is not None:
            progress("reading layers", len(tally.covered), tally.layers)
        evidence = tally.evidence(options, complete=complete) if step.may_stop else None
        if evidence is not None and decided(replace(evidence, log10_e=evidence.log10_e + share)):
            stopped = OTHERS_DECIDED
            break
    found = evidence if evidence is not None else tally.evidence(options, complete=complete)
    found = found if models.exact else _named_by_tensor(found, models.base_anatomy)
    found = replace(
        found, cut_short=stopped == BUDGET_ENDED, mismatch=mismatch, limits=_unread(tally, stopped) + tally.limits()
    )
    return found, tally


def _unread(tally: Tally, stopped: str | None) -> tuple[str, ...]:
    unread = tally.layers - len(tally.covered)
    if unread:
        return (f"{unread} of {tally.layers} layers were not read, since {stopped}.",)
    return ("The byte budget ended before the answer stood.",) if stopped == BUDGET_ENDED else ()


def _default_budget(models: Models, options: Options) -> int | None:
    if options.exhaustive:
        return None
    return (256 << 20) if models.local else (15 << 20)


def _named_by_tensor(found: PairEvidence, base: Anatomy) -> PairEvidence:
    """Call the rows of an unknown graph by their tensors, since it has no layers."""
    names = {str(group.layer): group.vectors[0].tensor for group in base.groups}
    rows = (replace(row, suspect=names[row.suspect], base=names[row.base or ""]) for row in found.layers)
    return replace(found, layers=tuple(rows))
