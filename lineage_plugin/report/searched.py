"""Sentences about the search: what was looked for, what was undone, and what the evidence that is not exact is worth.

Like those of :mod:`~lineage_plugin.report.phrases` they are plain ASCII (names taken from models aside) and shared by
the formats. Two more rules of wording hold here:

- That units stand in another order is an observation. Conversions and pruning tools re-order units, too; the words
  never accuse.
- Calibrated evidence is named as such wherever it appears, with the pairs of models it rests on; nothing of it is ever
  called a coin or an e-value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from lineage_plugin.judge.types import CalibratedEvidence, Comparison, Evidence, StageEvidence
from lineage_plugin.report.phrases import count, dependent, e_value, parameters, percent, plural, sentence
from lineage_plugin.text import one_line

__all__ = ["calibrated", "changes", "part", "relabelled", "searched", "stages"]

MOST_PHRASES = 16
"""Phrases that are shown of a list; the JSON report has all."""

_STAGES = {
    "fingerprint": "fingerprints",
    "identity": "stored order",
    "layers": "moved layers",
    "channels": "channels of the residual stream",
    "units": "re-ordered units",
    "basis": "changed basis",
}
_FINDS = {
    "identity": "units that kept their places, their signs flipped or not",
    "layers": "layers that were moved, repeated, dropped or inserted",
    "channels": "channels of the residual stream that kept their places, whatever became of hidden units",
    "units": "units that were re-ordered or removed, their signs kept",
    "basis": "a residual stream that was re-ordered or rotated",
}
_STATISTICS = {
    "cross-role": "matched units more alike than crossed ones",
    "sign product": "signs of a unit that agree with each other",
}


def stages(evidence: Evidence) -> str:
    """Say what was searched and what each search showed; empty when there was one only."""
    found = _merged(evidence.stages)
    if len(found) < 2:
        return ""
    said = [f"{_named(stage, _STAGES)} ({_shown(stage)})" for stage in found]
    return (
        f"Searched: {', '.join(said)}; the e-value is their weighted average, in shares fixed before anything was read."
    )


def _merged(found: Iterable[StageEvidence]) -> list[StageEvidence]:
    """Return one value a name: a stage that looked twice contributes the weighted average of both looks."""
    names: dict[str, list[StageEvidence]] = {}
    for stage in found:
        names.setdefault(stage.name, []).append(stage)
    return [_average(same) if len(same) > 1 else same[0] for same in names.values()]


def _average(same: Sequence[StageEvidence]) -> StageEvidence:
    weight = math.fsum(stage.weight for stage in same)
    # A look that tossed nothing counts as zero, as a stage does that did not run.
    heard = [stage for stage in same if stage.coins and stage.weight > 0 and math.isfinite(stage.log10_e)]
    peak = max((stage.log10_e for stage in heard), default=-math.inf)
    value = peak
    if heard:
        value += math.log10(math.fsum(stage.weight * 10.0 ** (stage.log10_e - peak) for stage in heard) / weight)
    coins, heads = sum(stage.coins for stage in same), sum(stage.heads for stage in same)
    return StageEvidence(same[0].name, weight, coins, heads, value)


def _named(stage: StageEvidence, names: dict[str, str]) -> str:
    return names.get(stage.name) or one_line(stage.name, 40) or "unnamed"


def _shown(stage: StageEvidence) -> str:
    if stage.coins == 0 or not math.isfinite(stage.log10_e):
        return "nothing to toss"
    # 10^1.6 rather than 39: side by side, orders of magnitude are what is compared.
    return f"10^{math.floor(stage.log10_e * 10) / 10 + 0.0:.1f}"


def searched(comparison: Comparison) -> str:
    """Say which disguises the search would have seen and which not; empty where something was found or nothing ran.

    Stages that ran are those that the evidence lists, with coins or without.
    """
    evidence = comparison.evidence
    if comparison.relation not in ("unrelated", "inconclusive") or dependent(comparison) or not evidence.stages:
        return ""
    ran = [stage for stage in _merged(evidence.stages) if stage.name in _FINDS]
    said = [f"Copies of these kinds were looked for: {'; '.join(_named(stage, _FINDS) for stage in ran)}."]
    left = [what for name, what in _FINDS.items() if name not in {stage.name for stage in ran}]
    if left:
        said.append(f"These were not looked for, and need not show: {'; '.join(left)}.")
    blind = "No coin can see a copy in which every label was redrawn at random, order and sign of units and channels"
    tried = "no calibrated comparison, which might, was made"
    if comparison.calibrated is not None:
        tried = "calibrated comparisons, which might, were made"
    said.append(f"{blind}; {tried}.")
    return " ".join(said)


def changes(comparison: Comparison) -> str:
    """Say how the structure differs and what was done to the values; empty when nothing is known."""
    return _listed(comparison.changes)


def relabelled(comparison: Comparison) -> str:
    """Say which relabellings were undone before comparing; empty when there were none."""
    if comparison.scrubbed is None:
        return ""
    said = _listed(comparison.scrubbed.how)
    if said:
        said += (
            " Where it could be, it was undone for the comparison. It is an observation, no accusation: conversions "
            "and pruning tools re-order units, too."
        )
    if comparison.scrubbed.calibrated_on and comparison.calibrated is None:
        said += f" Calibrated on: {sentence(comparison.scrubbed.calibrated_on)}"
    return said.strip()


def _listed(phrases: Sequence[str]) -> str:
    shown = [line for line in (one_line(phrase, 200).rstrip(" .;") for phrase in phrases[:MOST_PHRASES]) if line]
    if not shown:
        return ""
    if len(phrases) > MOST_PHRASES:
        shown.append(f"{count(len(phrases) - MOST_PHRASES)} more in the JSON report")
    text = "; ".join(shown)
    # Each phrase has passed the gate; all together may be longer than it lets through. An ellipsis ends a cut phrase.
    return text[:1].upper() + text[1:] + ("" if text[-1] in "!?\N{HORIZONTAL ELLIPSIS}" else ".")


def part(comparison: Comparison) -> str:
    """Say that a part of the suspect was compared; empty when all of it was."""
    prefix = one_line(comparison.part, 120)
    return f"Only the part under {prefix} was compared." if prefix else ""


def calibrated(comparison: Comparison) -> str:
    """Say what the evidence that is not exact shows, what it rests on and why it is kept apart; empty without any."""
    evidence = comparison.calibrated
    if evidence is None:
        return ""
    return " ".join(
        filter(None, (_why(comparison), _agreed(evidence), _null(evidence), _outside(comparison), _value(comparison)))
    )


def _why(comparison: Comparison) -> str:
    """Say what the evidence is for: a claim rests on it where the coins are not what the claim rests on."""
    if not comparison.evidence.exact:
        return (
            "This is not exact evidence. All labels of this copy have been redrawn, so no test can be exact by "
            "symmetry alone. What remains is to match units by one of their vectors, to compare the others, and to "
            "hold the outcome against that of independent models."
        )
    return "This is not exact evidence. It is meant for copies whose labels have all been redrawn, which no coin sees."


def _agreed(evidence: CalibratedEvidence) -> str:
    agreements, of = (sum(getattr(part, name) for part in evidence.statistics) for name in ("agreements", "of"))
    if not of:
        return "Nothing could be compared."
    parts = [
        f"{_STATISTICS.get(part.name) or one_line(part.name, 60)}: {count(part.agreements)}/{count(part.of)}"
        for part in evidence.statistics[:MOST_PHRASES]
    ]
    return f"{count(agreements)} of {plural(of, 'comparison')} agreed ({'; '.join(parts)})."


def _null(evidence: CalibratedEvidence) -> str:
    if evidence.pairs <= 0:
        return "No pair of independent models has been measured, so that it has no weight."
    details = [
        _families(evidence.families),
        f"width {_range(evidence.width, count)}",
        f"{_range(evidence.parameters, parameters)} parameters",
    ]
    worst, rate = percent(evidence.worst_share, toward="up"), percent(evidence.rate, toward="down")
    said = (
        f"Independent models agreed at a rate of at most {worst} in {plural(evidence.pairs, 'pair')} of "
        f"{plural(evidence.models, 'model')} ({'; '.join(filter(None, details))}); "
    )
    if evidence.worst_share > evidence.rate:
        return f"{said}that is more than the {rate} which the value grants them, so that it has no weight."
    return f"{said}the value grants them {rate}."


def _families(families: Sequence[str]) -> str:
    named = [name for name in (one_line(family, 40) for family in families[:MOST_PHRASES]) if name]
    more = [f"{len(families) - MOST_PHRASES} more"] if len(families) > MOST_PHRASES else []
    return ", ".join([*named, *more])


def _range(ends: tuple[int, int], show: Callable[[int], str]) -> str:
    return " to ".join(dict.fromkeys(show(end) for end in ends))


def _outside(comparison: Comparison) -> str:
    """Say when the base is smaller or larger than any model that was measured."""
    evidence, size = comparison.calibrated, comparison.base.parameters
    if evidence is None or evidence.pairs <= 0 or size is None:
        return ""
    low, high = evidence.parameters
    if low <= size <= high:
        return ""
    return f"The base, with {parameters(size)} parameters, is {'smaller' if size < low else 'larger'} than all of them."


def _value(comparison: Comparison) -> str:
    evidence = comparison.calibrated
    if evidence is None or not math.isfinite(evidence.log10_value):
        return ""
    said = f"Calibrated value {e_value(evidence.log10_value)}"
    apart = "It is kept apart from the coins and enters no e-value."
    if evidence.pairs <= 0 or evidence.worst_share > evidence.rate:
        return f"{said}: nothing follows from it. {apart}"
    if evidence.log10_value <= 0:
        return f"{said}: no sign of a copy. {apart}"
    if comparison.evidence.exact and comparison.relation in ("unrelated", "inconclusive"):
        return f"{said}: nothing is claimed from it. {apart}"
    return (
        f"{said}: independent models would reach it with a chance of at most 1 in {e_value(evidence.log10_value)}, if "
        f"none agree more often than they are granted. That is inferred from the models measured, not proved. {apart}"
    )
