"""From the evidence about a pair to a relation, and when reading may stop.

A relation is claimed by coins alone; which of the two dependent relations it is, *derived* or *shared initialisation*,
is then decided by the row-energy slope and the contrast of the inheritance curve, whose decision regions are calibrated
(``docs/method.md``). Everything that neither decides is *inconclusive*, with the reason.
"""

from __future__ import annotations

from typing import Literal

from lineage_plugin.evidence.inheritance import Descent
from lineage_plugin.evidence.pair import PairEvidence
from lineage_plugin.judge.types import Relation

__all__ = [
    "DESCENT_CONTRAST",
    "DESCENT_SLOPE",
    "FLAT_SLOPE",
    "FULL_SLOPE",
    "PLAUSIBLE_SLOPE",
    "RETURN_SLOPE",
    "RULED_OUT",
    "SILENT",
    "VAGUE_CONTRAST",
    "WHOLE_CONTRAST",
    "ancestor_of",
    "is_decided",
    "relation_of",
]

DESCENT_SLOPE = 0.75
"""Slopes above are descent, slopes below a shared start; an interval that straddles it is neither."""
RETURN_SLOPE = 0.55
"""Slope that the way back must exceed for descent, with its whole interval: what the descendant learned is in the
ancestor, as far as that had come (measured: descendants from 0.60, twins of a hardly trained model up to 0.54)."""
PLAUSIBLE_SLOPE = 0.9
"""Slope that an interval must reach for descent to remain possible."""
FULL_SLOPE = 1.0
"""Slope from which faded directions do not refute descent (measured: far siblings 1.05 to 1.4, twins up to 0.95)."""
FLAT_SLOPE = 0.4
"""Slope below which a shared start is said although the learned directions seem whole."""
DESCENT_CONTRAST = 0.8
"""Contrasts below mean that the learned directions are missing; descent must exceed it."""
WHOLE_CONTRAST = 0.95
"""Contrast that the interval must reach for descent, which keeps learned directions as well as the others."""
VAGUE_CONTRAST = 2.0
"""Ratio of the ends of its interval from which a contrast is too vague to speak for descent (measured: of 630 twins two
whose interval from fingerprints was 1.0 to 2.8, while exact products gave 0.45)."""
SILENT = 3.0
"""``log10 E`` from which coins are no longer silent: between this and the bar nothing is claimed."""
RULED_OUT = 0.1
"""Share of the base above which "unrelated" is not said: the upper end of the interval must lie below."""


def relation_of(evidence: PairEvidence, bar: float) -> tuple[Relation, str]:
    """Return the relation that the evidence supports, and the reason in a few words.

    Args:
        evidence: The evidence about a pair.
        bar: Decimal logarithm of the e-value from which dependence is claimed.

    Returns:
        The relation and a phrase; for ``inconclusive`` the phrase says what is missing.
    """
    if evidence.embeddings_only and not evidence.layers:
        why = f" ({evidence.mismatch})" if evidence.mismatch else ""
        return "inconclusive", f"the models share token embeddings; their layers could not be compared{why}"
    if evidence.embeddings_only:
        return "inconclusive", "the models share token embeddings, but no layer shows a trace of the base"
    if evidence.log10_e >= bar and evidence.cut_short and not evidence.complete and evidence.descent.slope is None:
        return "inconclusive", "the models are dependent, but the byte budget ended before their layers were compared"
    if evidence.log10_e >= bar or (evidence.calibrated is not None and evidence.calibrated.log10_calibrated >= bar):
        return _dependent(evidence)
    if evidence.count.coins == 0:
        reason = "no unit could be compared"
        if evidence.cut_short:
            reason = "the byte budget ended before a unit was read"
        elif evidence.stages:
            reason = "no unit of the base was recognised"
        return "inconclusive", f"{evidence.mismatch}, and {reason}" if evidence.mismatch else reason
    if not evidence.complete:
        return "inconclusive", "the byte budget ended before every layer was read"
    if evidence.cut_short:
        return "inconclusive", "the stored order shows no trace, and the byte budget ended before more was looked at"
    if evidence.log10_e >= SILENT:
        return "inconclusive", "the coins lean towards dependence but do not reach the bar"
    if evidence.kept.high is None or evidence.kept.high > RULED_OUT:
        return "inconclusive", "too few units to rule out that a part of the base remains"
    if evidence.log10_e > 0:
        return "unrelated", "the coins lean towards dependence no more than chance makes them"
    return "unrelated", "the coins fall as they would for independent models"


def _dependent(evidence: PairEvidence) -> tuple[Relation, str]:
    """Tell descent from a shared start.

    What an ancestor learned is in its descendant, but not the other way round when the descendant went far; so descent
    is looked for with either model in the place of the ancestor, unless the likelier of the two is refuted by both
    statistics.
    """
    ancestor = ancestor_of(evidence)
    if ancestor is not None:
        return "derived", (
            "the models share what the base learned"
            if ancestor == "base"
            else "the models share what the suspect learned, so the base is the further from their common start"
        )
    if _reading(evidence.descent) == "shared-init" and not _may_descend(evidence.ascent):
        return "shared-init", "the models share a common start, but not what the base learned"
    if evidence.descent.slope is None or (_reading(evidence.descent) == "derived" and not _returns(evidence.ascent)):
        return "inconclusive", (
            "the models are dependent, but the base has learned too little to tell descent from a shared initialisation"
        )
    if evidence.ascent.slope is None or (_reading(evidence.ascent) == "derived" and not _returns(evidence.descent)):
        return "inconclusive", (
            "the models are dependent, but the suspect has learned too little to tell descent from a shared"
            " initialisation"
        )
    return "inconclusive", "the models are dependent, but descent cannot be told from a shared initialisation"


def ancestor_of(evidence: PairEvidence) -> Literal["base", "suspect"] | None:
    """Return which model shows descent when taken as the ancestor, the base first; None when neither does.

    An ancestor that is hardly more than its random start has learned nothing that a twin could lack, so every twin
    looks like its descendant. The way back tells: what a descendant learned is in its ancestor, as far as that had
    come, but what a twin learned is not in a hardly trained model.
    """
    # A child contains its parent whole: the larger coefficient points at the likelier ancestor.
    forward = (evidence.kept.estimate or 0.0) >= (evidence.reverse.estimate or 0.0)
    likelier = evidence.descent if forward else evidence.ascent
    if _is_flat(likelier) and _is_faded(likelier):
        return None
    if _reading(evidence.descent) == "derived" and _returns(evidence.ascent):
        return "base"
    return "suspect" if _reading(evidence.ascent) == "derived" and _returns(evidence.descent) else None


def _reading(found: Descent) -> Relation:
    """Read both statistics for one model in the place of the ancestor.

    Descent shows in both, as far as both could be measured. Fading refutes it unless the slope is full: units that
    learn much in one run learn much in its twin, which lifts the slope, and siblings that went far from their base in
    different directions fade, too. A low slope refutes it unless the contrast says that all of the learned directions
    are there: quantisation to few levels evens out the energies of rows.
    """
    contrast = found.curve
    steep = found.low is not None and found.low > DESCENT_SLOPE
    high = contrast.high or 0.0
    whole = contrast.low is None or (
        contrast.low > DESCENT_CONTRAST and WHOLE_CONTRAST <= high <= VAGUE_CONTRAST * contrast.low
    )
    if steep and whole:
        return "derived"
    intact = contrast.low is not None and contrast.low > DESCENT_CONTRAST
    level = found.high is not None and found.high < FLAT_SLOPE
    faded = _is_faded(found) and (found.high is None or found.high < FULL_SLOPE)
    if faded or level or (_is_flat(found) and not intact):
        return "shared-init"
    return "inconclusive"


def _returns(found: Descent) -> bool:
    """Whether the likely descendant, in the place of the ancestor, has enough of what it learned in the other."""
    return found.low is not None and found.low > RETURN_SLOPE


def _may_descend(found: Descent) -> bool:
    """Whether the intervals leave descent possible: then a shared start is not said, whatever the other way shows."""
    steep = found.high is not None and found.high > PLAUSIBLE_SLOPE
    return steep and (found.curve.high is None or found.curve.high >= WHOLE_CONTRAST)


def _is_flat(found: Descent) -> bool:
    return found.high is not None and found.high < DESCENT_SLOPE


def _is_faded(found: Descent) -> bool:
    return found.curve.high is not None and found.curve.high < DESCENT_CONTRAST


def is_decided(evidence: PairEvidence, bar: float) -> bool:
    """Return whether reading more could be spared.

    The e-value is valid at any stopping time; the mean over tensors of an unknown graph is valid only over all of them.

    Args:
        evidence: The evidence so far.
        bar: Decimal logarithm of the e-value from which dependence is claimed.

    Returns:
        True when a relation other than ``inconclusive`` stands.
    """
    relation, _ = relation_of(evidence, bar)
    return relation != "inconclusive" and (evidence.exact or evidence.complete)
