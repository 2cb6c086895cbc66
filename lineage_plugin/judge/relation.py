"""From the evidence about a pair to a relation, and when reading may stop.

A relation is claimed by coins alone; which of the two dependent relations it is, *derived* or *shared initialisation*,
is then decided by the row-energy slope and the contrast of the inheritance curve, whose decision regions are calibrated
(``docs/method.md``). Everything that neither decides is *inconclusive*, with the reason.
"""

from __future__ import annotations

from typing import Literal

from lineage_plugin.evidence.gather import PairEvidence
from lineage_plugin.evidence.inheritance import Descent
from lineage_plugin.judge.types import Relation

__all__ = [
    "DESCENT_CONTRAST",
    "DESCENT_SLOPE",
    "RULED_OUT",
    "SILENT",
    "ancestor_of",
    "is_decided",
    "relation_of",
]

DESCENT_SLOPE = 0.75
"""Slopes above are descent, slopes below a shared initialisation; an interval that straddles it is neither."""
DESCENT_CONTRAST = 0.8
"""Contrasts below mean that the learned directions are missing; descent must exceed it."""
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
    if evidence.mismatch is not None:
        return "inconclusive", f"{evidence.mismatch}; models of different structure are not compared yet"
    if evidence.count.coins == 0:
        return "inconclusive", "there are no comparable units"
    if evidence.log10_e >= bar:
        return _dependent(evidence)
    if not evidence.complete:
        return "inconclusive", "the byte budget ended before every layer was read"
    if evidence.log10_e >= SILENT:
        return "inconclusive", "the coins lean towards dependence but do not reach the bar"
    if evidence.kept.high is None or evidence.kept.high > RULED_OUT:
        return "inconclusive", "too few units to rule out that a part of the base remains"
    return "unrelated", "the coins fall as they would for independent models"


def _dependent(evidence: PairEvidence) -> tuple[Relation, str]:
    """Tell descent from a shared draw.

    What an ancestor learned is in its descendant, but not the other way round when the descendant went far; so descent
    is looked for with either model in the place of the ancestor.
    """
    down, up = _reading(evidence.descent), _reading(evidence.ascent)
    if down == "derived":
        return "derived", "the models share what the base learned"
    if up == "derived":
        return (
            "derived",
            "the models share what the suspect learned, so the base is the further from their common start",
        )
    if down == "shared-init":
        return "shared-init", "the models share a common start, but not what the base learned"
    if evidence.descent.slope is None:
        return "inconclusive", (
            "the models are dependent, but the base has learned too little to tell descent from a shared initialisation"
        )
    return "inconclusive", "the models are dependent, but descent cannot be told from a shared initialisation"


def ancestor_of(evidence: PairEvidence) -> Literal["base", "suspect"]:
    """Return which model shows descent when taken as the ancestor: the base, unless only the suspect does."""
    if _reading(evidence.descent) != "derived" and _reading(evidence.ascent) == "derived":
        return "suspect"
    return "base"


def _reading(found: Descent) -> Relation:
    """Read both statistics for one model in the place of the ancestor.

    Descent shows in both, as far as both could be measured; each alone can refute it. Units that learn much in one run
    learn much in its twin, which lifts the slope but not the contrast; in long trainings of convolutions nothing is
    left of the start anywhere, which levels the contrast but not the slope.
    """
    steep = found.low is not None and found.low > DESCENT_SLOPE
    flat = found.high is not None and found.high < DESCENT_SLOPE
    faded = found.curve.high is not None and found.curve.high < DESCENT_CONTRAST
    whole = found.curve.low is None or found.curve.low > DESCENT_CONTRAST
    if steep and whole:
        return "derived"
    if flat or faded:
        return "shared-init"
    return "inconclusive"


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
