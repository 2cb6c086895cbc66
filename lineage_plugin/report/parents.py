"""Sentences and rows about several parents at once: the weights of a merge, and the closest parent of a family.

Like those of :mod:`~lineage_plugin.report.phrases` the sentences are shared by the formats, and names taken from models
pass through :func:`~lineage_plugin.text.one_line`. One more rule of wording holds here: all of it is estimated. The
headings say so, and an interval never looks narrower than it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lineage_plugin.judge.types import Candidate, Closest, Interval, Merge
from lineage_plugin.report.phrases import count, sentence
from lineage_plugin.report.picture import Bar, blocks, shorten
from lineage_plugin.text import one_line

__all__ = [
    "ESTIMATE",
    "answer",
    "candidates",
    "candidates_legend",
    "closest_ancestor",
    "is_known",
    "merge_ancestor",
    "merge_scale",
    "merge_style",
    "merge_summary",
    "weights",
]

ESTIMATE = "an estimate, not exact evidence"
"""What the headings add."""

MOST_ROWS = 16
"""Parents that get a row; the JSON report has all."""

_MUCH = 0.2
"""A sibling of k models looks like a mixture of them that leaves about 1/k unexplained; from this part of it on the
report says so."""

_VAGUE = 2.0
"""Width of an interval from which an estimate says nothing."""

_STYLES = {
    "linear": "a linear combination",
    "slerp": "a spherical interpolation (SLERP)",
    "dare": "differences that were dropped at random (DARE)",
    "ties": "differences of which the smaller ones were dropped (TIES)",
}


def weights(merge: Merge, *, width: int, unicode: bool) -> list[Bar]:
    """Draw one bar a parent, as long as its weight.

    Args:
        merge: The merge.
        width: Columns there are for a line.
        unicode: Whether block characters may be used.

    Returns:
        The rows, a line about what was left out last; empty when no weight was estimated.
    """
    shown = merge.parents[:MOST_ROWS]
    if not any(_is_number(parent.weight) for parent in shown):
        return []
    notes = [_estimate(Interval(parent.weight, parent.low, parent.high)) for parent in shown]
    labels = _labels([parent.id for parent in shown], width - 2 - max(map(len, notes)))
    length = min(24, width - max(map(len, labels)) - max(map(len, notes)) - 4)
    rows = []
    for parent, label, note in zip(shown, labels, notes, strict=True):
        share = min(1.0, max(0.0, parent.weight)) if parent.weight is not None and _is_number(parent.weight) else None
        bar = blocks(share, length, unicode) if share is not None and length >= 6 else ""
        rows.append(Bar(label, bar, note))
    return [*rows, *_rest(len(merge.parents))]


def merge_summary(merge: Merge) -> str:
    """Say how much of the suspect the parents explain."""
    return _capital(sentence(merge.summary))


def merge_ancestor(merge: Merge) -> str:
    """Say against which ancestor the parents were weighed, and what is left open without one."""
    weighed = [parent.id for parent in merge.parents if _is_number(parent.weight)]
    if merge.ancestor is not None:
        rest = "; its weight is what the parents leave of it" if merge.ancestor in weighed else ""
        return f"Common ancestor: {one_line(merge.ancestor, 120)}{rest}."
    if not weighed:
        return ""
    said = "No common ancestor is known; the parents were set against each other alone."
    if (merge.unexplained or 0.0) < _MUCH / len(merge.parents):
        return said
    return f"{said} A sibling that holds none of them looks like an even mixture then, too (--ancestor settles it)."


def merge_style(merge: Merge) -> str:
    """Say how the parents seem to have been merged; empty when it cannot be told."""
    style = _STYLES.get(merge.style or "")
    return f"It looks like {style}: a hint, no more." if style else ""


def merge_scale(merge: Merge) -> str:
    """Say by how much the whole was scaled; empty when it was not, or when the style explains it."""
    low, high = merge.scale.low, merge.scale.high
    if low is None or high is None or merge.style == "slerp" or not (_is_number(low) and _is_number(high)):
        return ""
    if low <= 1.0 <= high or f"{low:.2f}" == f"{high:.2f}" == "1.00":
        return ""
    return f"The whole is scaled by {_estimate(merge.scale)}: weight decay and training after a merge do that."


def answer(closest: Closest) -> str:
    """Say which member of the family the suspect descends from, or why that is left open."""
    reason = sentence(closest.reason)
    if closest.id is not None:
        return f"{one_line(closest.id, 120)}. {_capital(reason)}".rstrip()
    if closest.between:
        return f"None alone. {_capital(reason)}".rstrip()
    return f"It cannot be told: {reason}" if reason else "It cannot be told."


def candidates(closest: Closest, *, width: int) -> list[Bar]:
    """Write one row a candidate: its coefficient, and that along its weakest directions.

    Args:
        closest: The closest parent.
        width: Columns there are for a line.

    Returns:
        The rows, a line about what was left out last; empty when nothing was estimated.
    """
    shown = closest.candidates[:MOST_ROWS]
    if not any(is_known(_coefficient(one)) for one in shown):
        return []  # of a model that has no trace of the family
    notes = [f"{_estimate(_coefficient(one))}; {_estimate(one.weakest)}" for one in shown]
    labels = _labels([one.id for one in shown], width - 2 - max(map(len, notes)))
    rows = [Bar(label, "", note) for label, note in zip(labels, notes, strict=True)]
    return [*rows, *_rest(len(closest.candidates))]


def candidates_legend(closest: Closest) -> str:
    """Say what the two numbers of a candidate are."""
    if not candidates(closest, width=80):
        return ""
    return (
        "First its weight among all of them, then the coefficient where least of it is found (95% intervals): both are "
        "near 1 for the parent; for its siblings and its ancestors the second is near 0."
    )


def closest_ancestor(closest: Closest) -> str:
    """Say against which ancestor the candidates were weighed."""
    if closest.ancestor is not None:
        return f"Common ancestor: {one_line(closest.ancestor, 120)}."
    if not candidates(closest, width=80):
        return ""
    return "No common ancestor is known, which leaves more open (--ancestor names it)."


def _coefficient(candidate: Candidate) -> Interval:
    return Interval(candidate.coefficient, candidate.low, candidate.high)


def _rest(number: int) -> list[Bar]:
    more = number - MOST_ROWS
    return [Bar("", "", f"And {count(more)} more; the JSON report lists all.")] if more > 0 else []


def _labels(names: Sequence[str], width: int) -> list[str]:
    room = max(16, width)  # names that cannot be told from each other help nobody
    return [shorten(one_line(name, 1000) or "unnamed", room) for name in names]


def _estimate(interval: Interval) -> str:
    """Return an estimate with its interval, the ends rounded outwards."""
    estimate, low, high = interval.estimate, interval.low, interval.high
    if estimate is None or not _is_number(estimate):
        return "not estimated"
    if low is None or high is None or not is_known(interval):
        return "not determined"
    digits = 3 if high - low < 0.02 else 2
    return f"{_rounded(estimate, digits)} ({_rounded(low, digits, down=True)} to {_rounded(high, digits, down=False)})"


def is_known(interval: Interval) -> bool:
    """Whether an estimate has an interval that says something."""
    ends = (interval.low, interval.estimate, interval.high)
    if interval.low is None or interval.high is None or not all(_is_number(end) for end in ends):
        return False
    return interval.high - interval.low < _VAGUE


def _rounded(value: float, digits: int, *, down: bool | None = None) -> str:
    # Rounding to nine digits first keeps 0.012 * 1000 = 12.000000000000002 from being rounded up to 0.013.
    steps = round(value * 10**digits, 9)
    whole = round(steps) if down is None else math.floor(steps) if down else math.ceil(steps)
    return f"{whole / 10**digits + 0.0:.{digits}f}"


def _is_number(value: float | None) -> bool:
    # Beyond this no coefficient is one, and rounding would print hundreds of digits.
    return value is not None and math.isfinite(value) and abs(value) < 1e6


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
