"""Pictures of a report as SVG: coins by layer, the map of the layers, the inheritance curve, estimates with intervals.

Each function returns one ``<svg>`` element as a string, or an empty string when there is nothing to draw. It is 360
units wide, so that its letters stay readable on a phone. Colours come from :func:`style`, which a page includes once;
they follow the ``prefers-color-scheme`` of the reader. No meaning rests on colour: kinds of layers differ in shape,
and the title and description of each picture say in words what it shows.

Colour means evidence: a layer is blue where more heads came up than chance gives any of the layers, and no interval
looks narrower than it is. Names taken from models pass through :func:`~lineage_plugin.text.one_line` and are escaped.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from importlib import resources
from typing import Literal, NamedTuple

import numpy as np

from lineage_plugin.judge.types import Candidate, Inheritance, Interval, LayerEvidence, MergeParent
from lineage_plugin.report import shapes
from lineage_plugin.report.parents import is_known
from lineage_plugin.report.phrases import count, plural
from lineage_plugin.report.picture import shorten
from lineage_plugin.report.shapes import LEFT, RIGHT, Bar
from lineage_plugin.text import one_line

__all__ = [
    "MOST_LAYERS",
    "chance_band",
    "coins_by_layer",
    "estimates",
    "inheritance_curve",
    "joint_bands",
    "kept_share",
    "layer_map",
    "style",
]

MOST_LAYERS = 320
"""Layers that are drawn; the JSON report has all."""

MOST_BARS = 16
"""Models that get a bar."""

_MOST_COLUMNS = 1000
"""A base with a higher layer number than this is not drawn by number."""

_NUMBER = re.compile(r"[0-9]{1,4}")

_TOP, _BOTTOM = 14.0, 150.0
"""Ends of the vertical axis."""


def style() -> str:
    """Return the style sheet of the pictures."""
    return resources.files(__package__).joinpath("html").joinpath("pictures.css").read_text(encoding="utf-8")


@functools.cache
def chance_band(coins: int, level: float = 0.99) -> tuple[int, int]:
    """Return how many heads chance gives: the central interval of the binomial distribution with probability 1/2.

    The ends are ``low``, the smallest k with P(X <= k) >= (1 - level) / 2, and ``coins - low``. Fewer than ``low``
    heads have less than that probability, and so have more than ``coins - low``. Probabilities are summed outwards
    from the middle by P(k - 1) / P(k) = k / (n - k + 1); what lies beyond nine standard deviations is below 10^-17
    and left out. Source: Johnson, Kemp and Kotz, Univariate Discrete Distributions, chapter 3.

    Args:
        coins: Number of fair coins.
        level: Probability of the interval, at least.

    Returns:
        The fewest and the most heads.
    """
    if coins <= 0:
        return 0, 0
    middle = coins // 2
    lowest = max(0, middle - math.ceil(4.5 * math.sqrt(coins)) - 1)
    k = np.arange(middle, lowest, -1, dtype=np.float64)
    logs = np.concatenate([[0.0], np.cumsum(np.log(k) - np.log(coins - k + 1))])
    masses = np.exp(logs)[::-1]  # of lowest to middle, in units of the middle's
    # Of an even number the middle stands alone, of an odd one it has a twin.
    total = 2 * masses.sum() - (masses[-1] if coins % 2 == 0 else 0.0)
    low = lowest + int(np.searchsorted(np.cumsum(masses) / total, (1 - level) / 2))
    return low, coins - low


def joint_bands(layers: Sequence[LayerEvidence], level: float = 0.99) -> list[tuple[int, int]]:
    """Return for each layer how many heads chance gives, such that all layers together stay within.

    Each of the m layers with coins gets the band of level ``1 - (1 - level) / m``. The probability that any leaves its
    band is at most the sum of the probabilities, ``m * (1 - level) / m`` (Bonferroni's inequality), so that chance
    keeps all of them with a probability of at least ``level``, whether or not layers depend on each other. At 99% a
    layer, one of 80 independent layers would leave its band in 1 - 0.99^80 = 55% of the reports.

    Args:
        layers: Evidence by layer.
        level: Probability that all layers stay within, at least.

    Returns:
        The fewest and the most heads, ``(0, 0)`` for layers without coins.
    """
    tested = sum(layer.coins > 0 for layer in layers)
    return [chance_band(layer.coins, 1 - (1 - level) / tested) if layer.coins > 0 else (0, 0) for layer in layers]


def coins_by_layer(layers: Sequence[LayerEvidence]) -> str:
    """Draw one column a layer: the share of heads from the line of chance, one half, and what chance gives.

    Columns that rise above the band are of class ``heads``, all others of class ``chance``: too few heads are no sign
    of a common origin.

    Args:
        layers: Evidence by layer, the suspect's layers in order.

    Returns:
        The picture; empty when no layer has coins.
    """
    tested = [layer for layer in layers if layer.coins > 0]
    if not tested:
        return ""
    shown = layers[:MOST_LAYERS]
    bands = joint_bands(layers)

    def y(share: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * share

    step = (RIGHT - LEFT) / len(shown)
    parts = shapes.axis_y([(0.0, "0%"), (0.5, "50%"), (1.0, "100%")], y)
    behind, bars = [], []
    for number, (layer, (low, high)) in enumerate(zip(shown, bands, strict=False)):
        x = LEFT + number * step
        if layer.coins <= 0:
            # On the axis, where no column ends that has coins.
            bars.append(shapes.speck(x + step / 2, y(0.0), min(2.2, 0.4 * step), "mark", f"{_layer(layer)}: no coins"))
            continue
        behind.append(shapes.rect(x, y(high / layer.coins), step, y(low / layer.coins) - y(high / layer.coins), "band"))
        share = min(1.0, max(0.0, layer.heads / layer.coins))
        width = min(26.0, step * 0.72)
        ends = sorted((y(share), y(0.5)))
        note = f"{_layer(layer)}: {count(layer.heads)} of {count(layer.coins)} heads"
        note += f"; chance gives {count(low)} to {count(high)}"
        # A share of one half has no height; a hair keeps it visible.
        height = max(1.2, ends[1] - ends[0])
        kind = "heads" if layer.heads > high else "chance"
        bars.append(shapes.rect(x + (step - width) / 2, ends[0], width, height, kind, note))
    parts += [*behind, shapes.line(LEFT, y(0.5), RIGHT, y(0.5), "half"), *bars]
    parts += shapes.axis_x([_short(layer.suspect) for layer in shown], _BOTTOM + 15)
    parts.append(shapes.text((LEFT + RIGHT) / 2, _BOTTOM + 32, "layer of the model", "label"))
    above, below = (
        sum(outside(layer, band) for layer, band in zip(layers, bands, strict=True)) for outside in (_above, _below)
    )
    heads, coins = sum(one.heads for one in tested), sum(one.coins for one in tested)
    said = (
        f"{count(heads)} of {plural(coins, 'coin')} came up heads. In {count(above)} of {plural(len(tested), 'layer')} "
        "the share of heads lies above the band in which chance keeps all layers with a probability of at least 99%"
    )
    said += f", in {count(below)} below it." if below else "."
    return shapes.svg(_BOTTOM + 40, "Heads by layer", said + _left_out(layers), parts)


def _above(layer: LayerEvidence, band: tuple[int, int]) -> bool:
    return layer.coins > 0 and layer.heads > band[1]


def _below(layer: LayerEvidence, band: tuple[int, int]) -> bool:
    return layer.coins > 0 and layer.heads < band[0]


_Place = Literal["kept", "moved", "again", "new", "traceless", "untested", "few"]


class _Mark(NamedTuple):
    """What is known of a layer's place in the base, and how strongly it is drawn, from 0 to 1."""

    place: _Place
    shade: float = 0.0


_TOLD: dict[_Place, str] = {
    "kept": "in place",
    "moved": "at another place",
    "again": "repeated from a layer of the base",
    "new": "new, in no layer of the base",
    "traceless": "without a trace of the base",
    "few": "with too few coins to tell",
    "untested": "not tested",
}


def layer_map(layers: Sequence[LayerEvidence], *, by_cosine: bool = False) -> str:
    """Draw which layer of the base each layer of the suspect corresponds to.

    The suspect's layers run down, the base's to the right, so that an unchanged order is the diagonal. A dot is a layer
    with more heads than chance gives, the fuller its colour the more; an empty square one that has coins and no more
    heads than that; a ring one that repeats a layer of the base, and a diamond one that was not tested, or by too few
    coins for any outcome to leave the band, the fuller the larger the cosine; a cross at the right is a layer that the
    base does not have. Grey columns are layers of the base that are missing, or, where layers of the suspect were not
    read, that no layer which was read corresponds to.

    Args:
        layers: Evidence by layer, the suspect's layers in order.
        by_cosine: Whether a layer with coins is a dot whatever they show, the fuller the larger its cosine: the answer
            rests on other evidence than coins.

    Returns:
        The picture; empty when there are no layers, and when all that have coins have no more heads than chance gives.
    """
    marks = _marks(layers, by_cosine)
    if not layers or ("traceless" in (places := {mark.place for mark in marks}) and not places & {"kept", "moved"}):
        return ""
    shown = layers[:MOST_LAYERS]
    columns = _columns(shown)
    place = {name: number for number, name in enumerate(columns)}
    top, size = 34.0, RIGHT - 30 - LEFT
    across = size / max(1, len(columns))
    # Cells are square unless the one model is much deeper than the other.
    down = min(max(across, 120 / len(shown)), 32.0, 360 / len(shown))
    across = min(across, 32.0, 2 * down)
    right, bottom = LEFT + across * len(columns), top + down * len(shown)
    radius = max(0.9, min(9.0, min(across, down) * 0.38))
    present = {layer.base for layer in shown}
    missing = [name for name in columns if name not in present] if len(shown) == len(layers) else []
    kind = "missing" if _is_whole(layers) else "unread"
    parts = [shapes.rect(LEFT + place[name] * across, top, across, bottom - top, kind) for name in missing]
    parts.append(shapes.rect(LEFT, top, right - LEFT, bottom - top, "frame"))
    for number, (layer, mark) in enumerate(zip(shown, marks, strict=False)):
        x = right + 13 if layer.base is None else LEFT + (place[layer.base] + 0.5) * across
        parts.append(_drawn(layer, mark, x, top + (number + 0.5) * down, radius))
    for at, name in shapes.ticks([_short(name) for name in columns]):
        parts.append(shapes.text(LEFT + (at + 0.5) * across, top - 5, name, "tick"))
    for at, name in shapes.ticks([_short(layer.suspect) for layer in shown], most=12):
        parts.append(shapes.text(LEFT - 6, top + (at + 0.5) * down + 3.5, name, "tick end"))
    parts.append(shapes.text(LEFT, 11, "layer of the base \N{RIGHTWARDS ARROW}", "label start"))
    parts.append(shapes.turned(11, top, "\N{LEFTWARDS ARROW} layer of the model"))
    if any(layer.base is None for layer in shown):
        parts.append(shapes.text(right + 13, top - 5, "new", "tick"))
    return shapes.svg(bottom + 8, "Layer against layer", _told(marks, kind, len(missing)) + _left_out(layers), parts)


def _marks(layers: Sequence[LayerEvidence], by_cosine: bool) -> list[_Mark]:
    """Say of each layer where in the base it stands, as far as its coins or its cosine show it."""
    seen: set[str] = set()
    found = []
    for layer, (_, most) in zip(layers, joint_bands(layers), strict=True):
        here: _Place = "kept" if layer.suspect == layer.base else "moved"
        if layer.base is None:
            found.append(_Mark("new"))
            continue
        if layer.coins > 0 and by_cosine:
            found.append(_Mark(here, layer.cosine))
        elif layer.coins > 0 and layer.heads > most:
            found.append(_Mark(here, 2 * layer.heads / layer.coins - 1))
        elif layer.coins > 0:
            found.append(_Mark("traceless" if most < layer.coins else "few", layer.cosine))
        else:
            found.append(_Mark("again" if layer.base in seen else "untested", layer.cosine))
        seen.add(layer.base)
    return found


def _drawn(layer: LayerEvidence, mark: _Mark, x: float, y: float, radius: float) -> str:
    if layer.base is None:
        return shapes.cross(x, y, radius, f"{_layer(layer)}: new, no layer of the base")
    cosine = f", cosine {layer.cosine + 0.0:.2f}" if math.isfinite(layer.cosine) else ""
    heads = f", {count(layer.heads)} of {count(layer.coins)} heads" if layer.coins > 0 else ""
    note = f"{_layer(layer)}: layer {_short(layer.base, 60)} of the base"
    match mark.place:
        case "again":
            return shapes.ring(x, y, radius, mark.shade, f"{note}, which it repeats{cosine}")
        case "untested":
            return shapes.diamond(x, y, radius, mark.shade, f"{note}, not tested{cosine}")
        case "few":
            return shapes.diamond(x, y, radius, mark.shade, f"{note}, too few coins to tell{heads}{cosine}")
        case "traceless":
            return shapes.square(x, y, radius, f"{note}, no trace of it{heads}{cosine}")
        case _:
            return shapes.dot(x, y, radius, mark.shade, f"{note}{heads}{cosine}")


def _is_whole(layers: Sequence[LayerEvidence]) -> bool:
    """Return whether no layer of the suspect was left unread: their numbers have no gap."""
    numbers = [layer.suspect for layer in layers]
    return all(_NUMBER.fullmatch(name) for name in numbers) and {*map(int, numbers)} == {*range(len(numbers))}


def _told(marks: Sequence[_Mark], kind: str, missing: int) -> str:
    numbers = {place: sum(mark.place == place for mark in marks) for place in _TOLD}
    said = [f"{count(number)} {_TOLD[place]}" for place, number in numbers.items() if number]
    if missing:
        what = "missing" if kind == "missing" else "without a partner among the layers that were read"
        said.append(f"{plural(missing, 'layer')} of the base {what}")
    return f"Layers of the model: {'; '.join(said)}."


def _columns(layers: Sequence[LayerEvidence]) -> list[str]:
    """Return the base's layers: by number with those that are missing, or in the order in which names appear."""
    names = list(dict.fromkeys(layer.base for layer in layers if layer.base is not None))
    if names and all(_NUMBER.fullmatch(name) for name in names):
        numbers = [int(name) for name in names]
        if len(set(numbers)) == len(numbers) and max(numbers) < min(_MOST_COLUMNS, 4 * len(layers) + 8):
            written = {int(name): name for name in names}
            return [written.get(number, str(number)) for number in range(max(numbers) + 1)]
    return names


def inheritance_curve(inheritance: Inheritance) -> str:
    """Draw how much of each part of the directions is kept, the strongest part first.

    A point ``(share, coefficient)`` of the curve is about a part of the directions whose middle the share is. Two
    points are what a fingerprint tells, the strongest directions and all others together: two bars, since nothing is
    known of what lies between.

    Args:
        inheritance: The curve; coefficient 1 is all.

    Returns:
        The picture; empty when there is no curve.
    """
    points = [
        (share, kept)
        for share, kept in inheritance.curve
        if shapes.known(share) and shapes.known(kept) and 0 < share <= 1
    ]
    if len(points) < 2 or any(one[0] >= two[0] for one, two in itertools.pairwise(points)):
        return ""
    values = [kept for _, kept in points]
    lowest, highest = min(0.0, min(values)), max(1.2, 1.1 * max(values))

    def x(share: float) -> float:
        return LEFT + (RIGHT - LEFT) * share

    def y(kept: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (kept - lowest) / (highest - lowest)

    parts = shapes.axis_y([(value, f"{value:g}") for value in (0.0, 0.5, 1.0)], y)
    two = len(points) == 2
    if two:
        edge = min(2 * points[0][0], 0.9)
        names = ("the strongest directions", "all others together")
        for name, kept, left, right in zip(names, values, (0.0, edge), (edge, 1.0), strict=True):
            ends = sorted((y(kept), y(0.0)))
            note = f"{name}: coefficient {kept + 0.0:.2f}"
            parts.append(
                shapes.rect(x(left) + 1, ends[0], x(right) - x(left) - 2, max(1.2, ends[1] - ends[0]), "part", note)
            )
            parts.append(shapes.text(x((left + right) / 2), ends[0] - 5, f"{kept + 0.0:.2f}", "value"))
    else:
        parts.append(shapes.polyline(((x(share), y(kept)) for share, kept in points), "step"))
        for number, (share, kept) in enumerate(points):
            note = f"around {share:.0%} of the directions: coefficient {kept + 0.0:.2f}"
            parts.append(shapes.dot(x(share), y(kept), 3.4, 1.0, note))
            if number in (0, len(points) - 1):
                side, beside = ("start", values[1]) if number == 0 else ("end", values[-2])
                # Away from the line, but not down into the names of the axis.
                below = beside >= kept and kept - lowest > 0.15 * (highest - lowest)
                parts.append(
                    shapes.text(x(share), y(kept) + (15 if below else -8), f"{kept + 0.0:.2f}", f"value {side}")
                )
    parts.append(shapes.line(LEFT, y(1.0), RIGHT, y(1.0), "half"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(shapes.text(x(share), _BOTTOM + 15, f"{share:.0%}", "tick"))
    owner = inheritance.ancestor
    parts.append(
        shapes.text((LEFT + RIGHT) / 2, _BOTTOM + 32, f"directions of the {owner}, the strongest first", "label")
    )
    said = (
        f"Coefficient kept along the directions of the {owner}: {values[0]:.2f} along the strongest, {values[-1]:.2f} "
        f"along {'the others' if two else 'the faintest'}; 1 is all."
    )
    return shapes.svg(_BOTTOM + 40, "What was learned against what is faint", said, parts)


def kept_share(kept: Interval, title: str, said: str) -> str:
    """Draw the share of the base that is kept, with its 95% interval.

    Args:
        kept: The share.
        title: What it is a share of.
        said: The sentence that says so in numbers.

    Returns:
        The picture; empty when the share was not estimated.
    """
    if not shapes.known(kept.estimate):
        return ""
    return shapes.bars([Bar("", kept.estimate, kept.low, kept.high)], title, said, percents=True)


def estimates(models: Sequence[MergeParent | Candidate], title: str) -> str:
    """Draw a bar a model: its weight or coefficient with the 95% interval.

    Args:
        models: Parents of a merge, or candidates.
        title: What is drawn.

    Returns:
        The picture; empty when nothing was estimated.
    """
    rows = []
    for model in models[:MOST_BARS]:
        value = model.weight if isinstance(model, MergeParent) else model.coefficient
        if shapes.known(value) and abs(value) <= 3:
            name = shorten(one_line(model.id, 400) or "unnamed", 48)
            rows.append(
                Bar(name, value, model.low, model.high, determined=is_known(Interval(value, model.low, model.high)))
            )
    if not rows:
        return ""
    said = "; ".join(
        f"{row.name} {row.value + 0.0:.2f}" if row.determined else f"{row.name} not determined" for row in rows
    )
    return shapes.bars(rows, title, f"Estimates: {said}. The thin lines are 95% intervals.", percents=False)


def _short(name: str, limit: int = 24) -> str:
    return shorten(one_line(name, 400) or "unnamed", limit)


def _layer(layer: LayerEvidence) -> str:
    return f"layer {_short(layer.suspect, 60)}"


def _left_out(layers: Sequence[LayerEvidence]) -> str:
    more = len(layers) - MOST_LAYERS
    return f" {plural(more, 'further layer')} not drawn." if more > 0 else ""
