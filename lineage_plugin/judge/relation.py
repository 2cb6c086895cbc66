"""From the evidence about a pair to a relation, and when reading may stop.

A relation is claimed by coins alone; which of the two dependent relations it is, *derived* or *shared initialisation*,
is then decided by the row-energy slope, whose decision region is calibrated (``docs/method.md``). Everything that
neither decides is *inconclusive*, with the reason.
"""

from __future__ import annotations

from lineage_plugin.evidence.gather import PairEvidence
from lineage_plugin.judge.types import Relation

__all__ = ["DESCENT_CONTRAST", "DESCENT_SLOPE", "RULED_OUT", "SILENT", "is_decided", "relation_of"]

DESCENT_SLOPE = 0.7
"""Slopes above are descent (measured: 0.9 to 2.2), slopes below a shared initialisation (measured: -0.5 to 0.6)."""
DESCENT_CONTRAST = 0.8
"""A contrast below this is no descent (measured: 0.97 to 1.6; shared initialisation 0.1 to 0.75, seldom 1)."""
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
    """Descent needs the slope and a contrast that does not contradict it; a shared draw needs the slope."""
    slope, contrast = evidence.slope, evidence.curve
    if slope.low is None or slope.high is None:
        return "inconclusive", (
            "the models are dependent, but the base has learned too little to tell descent from a shared initialisation"
        )
    kept = contrast.low is None or contrast.low > DESCENT_CONTRAST
    if slope.low > DESCENT_SLOPE and kept:
        return "derived", "the models share what the base learned"
    if slope.high < DESCENT_SLOPE:
        return "shared-init", "the models share the random draw they started from, not what the base learned"
    return "inconclusive", "the models are dependent, but descent cannot be told from a shared initialisation"


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
