"""Sentences: what the numbers of a report mean, for a reader who is not a statistician.

Every function takes values and returns plain ASCII text (names taken from models aside), so that each report format can
say the same thing in the same words. Three rules of wording hold throughout:

- An e-value E bounds a probability, it is none: were the models independent, a value of E or more would ever be seen
  with probability at most 1/E. Nothing is ever "p = 0", and bounds are rounded to the cautious side.
- ``derived`` means shared learned weights. The words are "consistent with", never "copied from".
- Who came first is an indication, never evidence.
"""

from __future__ import annotations

import math
import re

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.judge.types import Comparison, Direction, Evidence, Report, Settings
from lineage_plugin.text import one_line

__all__ = [
    "UNSEEN",
    "at_most",
    "coins",
    "cost",
    "count",
    "curve",
    "dependent",
    "descent",
    "direction",
    "e_value",
    "kept",
    "moment",
    "outward",
    "parameters",
    "percent",
    "plural",
    "relation",
    "rests_on_calibration",
    "sentence",
    "size",
    "summary",
    "tenths",
    "unread",
]

UNSEEN = "No test of weights can see distillation into fresh weights, training on the base's outputs, or shared data."

_DEPENDENT = 3.0
"""``log10 E`` from which something seems to be shared, whose origin is worth a sentence."""

_KINDS = {
    "finetune": "fine-tuned",
    "adapter": "a low-rank update",
    "quantized": "quantised",
    "merge": "a merge",
    "pruned": "pruned to fewer units or layers",
    "upscaled": "up-scaled",
    "upcycled": "up-cycled to experts",
    "partial": "in part; some layers are not the base's",
}

_ALIGNED = {
    "layers": " after layers were aligned",
    "units": " after units were matched",
    "basis": " after the basis of the residual stream was recovered",
}


def plural(number: int, noun: str) -> str:
    """Return ``1 coin``, ``1,536 coins``."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def count(number: int) -> str:
    """Return a number with thousands separators."""
    return f"{number:,}"


def size(octets: int) -> str:
    """Return a number of bytes in decimal units: ``1.9 MB``."""
    value, unit = float(octets), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        # 999.95 and more would be rounded up to four digits.
        if value < (1000 if unit == "bytes" else 999.95):
            break
        value, unit = value / 1000, larger
    return (f"{octets} byte" + ("" if octets == 1 else "s")) if unit == "bytes" else f"{value:.1f} {unit}"


def moment(created: str) -> str:
    """Return a time such as ``2026-11-21T18:32:07+00:00`` as ``2026-11-21, 18:32 UTC``; another text as it is."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:\.\d+)?(?:\+00:00|Z)$", r"\1, \2 UTC", one_line(created, 40))


def parameters(number: int) -> str:
    """Return a number of parameters as people quote it: ``3.2M``, ``70B``."""
    value, unit = float(number), ""
    for larger in ("k", "M", "B", "T"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"


def percent(share: float, *, toward: str = "nearest") -> str:
    """Return a share as a percentage, not below 0%.

    Args:
        share: The share; estimates may stray outside 0 to 1, and are above 1 where something was amplified.
        toward: ``up`` or ``down`` for a bound, ``nearest`` for an estimate.
    """
    # Rounding to nine digits first keeps 0.012 * 1000 = 12.000000000000002 from being rounded up to 1.3%.
    tenths = round(max(share, 0.0) * 1000, 9)
    rounded = {"up": math.ceil, "down": math.floor}.get(toward, round)(tenths)
    return f"{rounded / 10:.1f}%"


def at_most(share: float) -> str:
    """Return the beginning of a sentence about an upper bound: ``At most 0.6%``, ``Less than 0.1%``."""
    return "Less than 0.1%" if share <= 0.0005 else f"At most {percent(share, toward='up')}"


def outward(low: float, high: float) -> str:
    """Return an interval, ``0.95 to 1.07``, its ends rounded away from each other."""
    # Rounding to nine digits first keeps 0.29 * 100 = 28.999999999999996 from being rounded down to 0.28.
    ends = (math.floor(round(low * 100, 9)) / 100, math.ceil(round(high * 100, 9)) / 100)
    return f"{ends[0] + 0.0:.2f} to {ends[1] + 0.0:.2f}"


def e_value(log10_e: float) -> str:
    """Return an e-value, rounded down: ``10^459.8``, ``31``, ``0.05``."""
    if not math.isfinite(log10_e):
        return "unknown"
    if log10_e >= 6 or log10_e <= -4:
        return f"10^{tenths(log10_e)}"
    value = 10**log10_e
    if value >= 10:
        return count(math.floor(value))
    decimals = 1 if value >= 1 else 2 - math.floor(log10_e) - 1
    return f"{math.floor(value * 10**decimals) / 10**decimals:.{decimals}f}"


def tenths(log10_e: float) -> str:
    """Return a logarithm rounded down to one decimal, as e-values are."""
    if not math.isfinite(log10_e):
        return "unknown"
    # A number so large that it has no tenths is down already, and ten times it may be infinite.
    return f"{math.floor(log10_e * 10) / 10 + 0.0 if abs(log10_e) < 1e15 else log10_e:.1f}"


def coins(evidence: Evidence, *, calibrated: bool = False) -> str:
    """Return the coins sentence: how many were tossed, how they fell and what that is worth.

    Args:
        evidence: The coins.
        calibrated: Whether there is calibrated evidence, which is then what a claim without exact coins rests on.
    """
    rests = not evidence.exact and calibrated
    if evidence.coins == 0 and not any(stage.coins for stage in evidence.stages):
        said = "No coin was tossed."
    elif evidence.coins == 0:
        said = f"No units could be set against each other; coins of another kind were tossed. {_worth(evidence)}"
    else:
        fair = "each a fair coin if the models were independent (trained from different random starts)"
        if not evidence.exact and not rests:
            fair = "each a fair coin if the models were independent and the assumptions under Limits hold"
        heads = f"{count(evidence.heads)} came up heads"
        if evidence.heads != evidence.coins:
            share = evidence.heads / evidence.coins
            # 100.0% are all, and 0.0% are none.
            toward = "down" if share > 0.999 else "up" if share < 0.001 else "nearest"
            heads += f" ({percent(share, toward=toward)})"
        said = f"{plural(evidence.coins, 'comparison')}{_lined_up(evidence)}, {fair}; {heads}. {_worth(evidence)}"
    return f"{said} The answer does not rest on coins but on the calibrated evidence." if rests else said


def _lined_up(evidence: Evidence) -> str:
    """Say what was done before the coins were tossed that the comparison is described by, where the stages tell."""
    if len(evidence.stages) < 2:
        return ""
    same = {stage.name for stage in evidence.stages if (stage.coins, stage.heads) == (evidence.coins, evidence.heads)}
    return _ALIGNED.get(same.pop(), "") if len(same) == 1 else ""


def _worth(evidence: Evidence) -> str:
    value = e_value(evidence.log10_e)
    if not math.isfinite(evidence.log10_e):
        return "Their e-value could not be computed."
    if evidence.log10_e <= 0:
        return f"E-value {value}: no evidence against independence, which takes a value well above 1."
    given = "" if evidence.exact else ", if the assumptions under Limits hold,"
    return f"E-value {value}: independent models would{given} ever reach it with a chance of at most 1 in {value}."


def relation(comparison: Comparison, *, declared: bool) -> tuple[str, str, str]:
    """Say a relation in plain words.

    Args:
        comparison: The comparison.
        declared: Whether the card declares this base.

    Returns:
        A label of a few words; what was found, the comparison's own sentence when it has one; and what follows from
        it, which may be empty.
    """
    label, found, consequence = {
        "identical": ("identical", "the weights are those of the base, unchanged.", ""),
        "derived": (
            "derived",
            "the models share learned weights.",
            "One descends from the other, or both from a third model.",
        ),
        "shared-init": (
            "shared initialisation only",
            "the models share a common start, but not what the base learned.",
            "They look trained apart from a common start, such as the same initial weights or an early checkpoint. By "
            "statistics calibrated on small trained models, neither holds what the other learned; that one is an early "
            "checkpoint of the other is not ruled out.",
        ),
        "unrelated": (
            "no relation found",
            "the weights behave like those of independent models.",
            "",
        ),
        "inconclusive": ("inconclusive", "what was read does not settle the relation.", ""),
    }[comparison.relation]
    if declared and comparison.relation in ("identical", "derived"):
        consequence = f"{consequence} This is consistent with the declared base.".strip()
    if comparison.relation in ("derived", "shared-init") and rests_on_calibration(comparison):
        consequence = f"{consequence} This rests on calibrated evidence, not on exact coins.".strip()
    found = sentence(comparison.summary.removeprefix(f"{label}: ")) or found
    if comparison.kind:
        label += f" ({_KINDS.get(comparison.kind) or one_line(comparison.kind, 40)})"
    return label, found, consequence


def rests_on_calibration(comparison: Comparison) -> bool:
    """Return whether what is said rests on calibrated evidence instead of coins."""
    return comparison.calibrated is not None and not comparison.evidence.exact


def kept(comparison: Comparison) -> str:
    """Say how much of the base is left, or at most could be; empty when it was not estimated."""
    estimate = _finite(comparison.kept.estimate)
    low, high = _finite(comparison.kept.low), _finite(comparison.kept.high)
    bounds = (percent(low, toward="down"), percent(high, toward="up")) if low is not None and high is not None else None
    if comparison.relation == "identical":
        return ""
    if comparison.relation == "unrelated":
        if bounds is None:
            return ""
        what = "of the base could remain in the weights that were compared, unit against unit"
        return f"{at_most(high or 0.0)} {what} (upper end of the 95% interval)."
    if comparison.relation == "inconclusive":
        return f"Between {bounds[0]} and {bounds[1]} of the base may be present (95% interval)." if bounds else ""
    if estimate is None:
        return ""
    if comparison.relation == "derived" and low is not None and high is not None and low > 1:
        interval = f"95% interval {outward(low, high)}; above 1, what the base learned was amplified"
        return f"All of the base is still present in the weights compared, {estimate:.2f} times ({interval})."
    interval = f" (95% interval {bounds[0]} to {bounds[1]})" if bounds else ""
    if comparison.relation == "shared-init":
        told = "as two runs from one start do: the start shows through, not what the base learned"
        return f"The weights agree to about {percent(estimate)}{interval}, {told}."
    return f"About {percent(estimate)} of the base is still present in the weights compared{interval}."


def descent(comparison: Comparison) -> str:
    """Say whether what is shared was learned or is the random draw both started from; empty when not estimated."""
    slope = _finite(comparison.inheritance.slope)
    low, high = _finite(comparison.inheritance.low), _finite(comparison.inheritance.high)
    if comparison.relation not in ("derived", "shared-init", "inconclusive") or slope is None:
        return ""
    if comparison.relation == "inconclusive" and not dependent(comparison):
        return ""  # the slope of models that share nothing is noise
    meaning = {
        "derived": (
            "what is shared follows what the base learned, the mark of descent. A shared random start alone gives "
            "values well below, often near 0."
        ),
        "shared-init": (
            "descent gives about 1 here and about 1 or more in the ratio that follows; a shared start falls short in "
            "at least one of them."
        ),
        "inconclusive": "descent gives values near 1, a shared random start values well below, often near 0.",
    }[comparison.relation]
    interval = f" (95% interval {outward(low, high)})" if low is not None and high is not None else ""
    if comparison.inheritance.ancestor == "suspect":
        meaning = "what is shared follows what the suspect learned, the mark of descent the other way round."
    return f"Row-energy slope {slope:.2f}{interval}: {meaning}"


def dependent(comparison: Comparison) -> bool:
    """Return whether something seems to be shared, by coins or by what is calibrated."""
    return comparison.evidence.log10_e >= _DEPENDENT or rests_on_calibration(comparison)


def curve(comparison: Comparison) -> str:
    """Say how the directions that carry what was learned fared against the faint ones; empty when not measured."""
    points = comparison.inheritance.curve
    if len(points) < 2 or comparison.relation not in ("derived", "shared-init"):
        return ""
    first, last = _finite(points[0][1]), _finite(points[-1][1])
    if first is None or last is None:
        return ""
    owner = comparison.inheritance.ancestor
    said = f"The strongest directions of the {owner}, the learned ones, are kept at {first:.2f}, "
    said += f"{'the others' if len(points) == 2 else 'the faintest'} at {last:.2f}"
    contrast = comparison.inheritance.contrast
    estimate, low, high = _finite(contrast.estimate), _finite(contrast.low), _finite(contrast.high)
    if estimate is None or low is None or high is None:
        return f"{said} (1 is all)."
    # Fingerprints hold the strongest directions and what all others have together.
    which = "Strongest eighth over all others" if len(points) == 2 else "Strongest tenth over weaker half"
    return f"{said} (1 is all). {which}: {estimate:.2f} ({outward(low, high)}); descent gives about 1 or more."


def direction(value: Direction) -> str:
    """Say which of two related models looks like the parent, with the caveat; empty when it was not measured."""
    on_base, on_suspect = _finite(value.suspect_on_base), _finite(value.base_on_suspect)
    if on_base is None or on_suspect is None:
        return ""
    reading = {
        "suspect-from-base": "The base looks nearer to the common ancestor, as a parent would",
        "base-from-suspect": "The suspect looks nearer to the common ancestor: the base may be the child",
        "siblings": "Neither looks like the parent of the other: both may descend from a third model",
        "unclear": "Unclear",
    }[value.indication]
    caveat = (
        "An indication, not evidence: weight decay can shrink a child, and a sibling that barely moved looks like a "
        "parent."
    )
    return f"{reading} (coefficient of suspect on base {on_base:.2f}, of base on suspect {on_suspect:.2f}). {caveat}"


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def cost(suspect: Cost, base: Cost) -> str:
    """Say what was read of both models of a comparison."""
    total = suspect + base
    if total.bytes_total == 0:
        return "Nothing more: both fingerprints were at hand."
    if total.bytes_read == 0:
        parts = [f"Nothing of {size(total.bytes_total)} of weight files"]
    else:
        parts = [f"{size(total.bytes_read)} of {size(total.bytes_total)} of weight files{_share(total)}"]
        parts.append(f"suspect {size(suspect.bytes_read)}, base {size(base.bytes_read)}")
    parts.append(plural(total.requests, "request") if total.requests else "no network requests")
    parts.append(f"{total.seconds:.1f} s" if total.seconds >= 0.1 else "less than 0.1 s")
    return "; ".join(parts) + "."


def _share(cost: Cost) -> str:
    if cost.bytes_total <= 0 or cost.bytes_read <= 0:
        return ""
    share = 100 * cost.bytes_read / cost.bytes_total
    if share > 100:
        return ", parts of them more than once"
    return f" ({share:.1f}%)" if share >= 0.1 else " (less than 0.1%)"


def unread(comparison: Comparison, settings: Settings) -> str:
    """Say what was not read; empty when everything was, or when nothing was compared."""
    total = comparison.suspect_cost + comparison.base_cost
    if comparison.evidence.coins == 0 or total.bytes_read >= total.bytes_total:
        return ""
    rest = size(total.bytes_total - total.bytes_read)
    what = "tensors that are not compared, such as embeddings, and any units outside the random sample"
    if settings.exhaustive:
        return f"{rest} were not read: tensors that are not compared, such as embeddings."
    return f"{rest} were not read: {what} (--exhaustive reads every unit)."


def summary(report: Report) -> str:
    """Return the verdict sentence."""
    if report.summary:
        return sentence(report.summary)
    return {
        "pass": "nothing that was checked contradicts what is declared.",
        "fail": "the weights or the card contradict what is declared.",
        "undecided": "the evidence decides neither way.",
    }[report.verdict]


def sentence(text: str) -> str:
    """Return foreign text as one safe line that ends like a sentence; empty when there is none."""
    line = one_line(text, 600)
    return line if not line or line[-1] in ".!?\N{HORIZONTAL ELLIPSIS}" else f"{line}."
