"""Pictures of a report as SVG: coins by layer, the map of the layers, the inheritance curve, estimates with intervals.

Each function returns one ``<svg>`` element as a string, or an empty string when there is nothing to draw. It is 360
units wide, so that its letters stay readable on a phone. Colours come from :func:`style`, which a page includes once;
they follow the ``prefers-color-scheme`` of the reader. No meaning rests on colour: kinds of layers differ in shape,
and the title and description of each picture say in words what it shows.

Names taken from models pass through :func:`~lineage_plugin.text.one_line` and are escaped.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from importlib import resources

import numpy as np

from lineage_plugin.judge.types import Candidate, Inheritance, Interval, LayerEvidence, MergeParent
from lineage_plugin.report.phrases import count, percent, plural
from lineage_plugin.report.picture import shorten
from lineage_plugin.text import one_line

__all__ = [
    "MOST_LAYERS",
    "WIDTH",
    "chance_band",
    "coins_by_layer",
    "estimates",
    "inheritance_curve",
    "kept_share",
    "layer_map",
    "style",
]

WIDTH = 360
"""Units a picture is wide."""

MOST_LAYERS = 320
"""Layers that are drawn; the JSON report has all."""

MOST_BARS = 16
"""Models that get a bar."""

_LEFT, _RIGHT = 44.0, 352.0
"""Ends of the horizontal axis."""

_MOST_COLUMNS = 1000
"""A base with a higher layer number than this is not drawn by number."""

_NUMBER = re.compile(r"[0-9]{1,4}")


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


def coins_by_layer(layers: Sequence[LayerEvidence]) -> str:
    """Draw one column a layer: the share of heads from the line of chance, one half, and what chance gives.

    Args:
        layers: Evidence by layer, the suspect's layers in order.

    Returns:
        The picture; empty when no layer has coins.
    """
    tested = [layer for layer in layers if layer.coins > 0]
    if not tested:
        return ""
    shown = layers[:MOST_LAYERS]
    top, bottom = 14.0, 150.0

    def y(share: float) -> float:
        return bottom - (bottom - top) * share

    step = (_RIGHT - _LEFT) / len(shown)
    parts = _axis_y([(0.0, "0%"), (0.5, "50%"), (1.0, "100%")], y)
    bands, bars = [], []
    for number, layer in enumerate(shown):
        x = _LEFT + number * step
        if layer.coins <= 0:
            bars.append(_text(x + step / 2, y(0.5) + 3.5, "\N{MIDDLE DOT}", "mark"))
            continue
        low, high = chance_band(layer.coins)
        bands.append(_rect(x, y(high / layer.coins), step, y(low / layer.coins) - y(high / layer.coins), "band"))
        share = min(1.0, max(0.0, layer.heads / layer.coins))
        width = min(26.0, step * 0.72)
        ends = sorted((y(share), y(0.5)))
        inside = low <= layer.heads <= high
        note = f"{_layer(layer)}: {count(layer.heads)} of {count(layer.coins)} heads"
        note += f"; chance gives {count(low)} to {count(high)}"
        # A share of one half has no height; a hair keeps it visible.
        height = max(1.2, ends[1] - ends[0])
        bars.append(_rect(x + (step - width) / 2, ends[0], width, height, "chance" if inside else "heads", note))
    parts += [*bands, _line(_LEFT, y(0.5), _RIGHT, y(0.5), "half"), *bars]
    parts += _ticks_x([_short(layer.suspect) for layer in shown], bottom)
    parts.append(_text((_LEFT + _RIGHT) / 2, bottom + 32, "layer of the model", "label"))
    outside = sum(not low <= one.heads <= high for one in tested for low, high in [chance_band(one.coins)])
    heads, coins = sum(one.heads for one in tested), sum(one.coins for one in tested)
    said = (
        f"{count(heads)} of {plural(coins, 'coin')} came up heads. In {count(outside)} of "
        f"{plural(len(tested), 'layer')} the share of heads lies outside the band "
        "in which chance keeps a layer with a probability of 99%."
    )
    return _svg(bottom + 40, "Heads by layer", said + _left_out(layers), parts)


def layer_map(layers: Sequence[LayerEvidence]) -> str:
    """Draw which layer of the base each layer of the suspect corresponds to.

    The suspect's layers run down, the base's to the right, so that an unchanged order is the diagonal. A dot is a layer
    with coins, the fuller its colour the more heads; a ring one that repeats a layer of the base, and a diamond one
    that was not tested, the fuller the larger the cosine; a cross at the right is a layer that the base does not have.
    Grey columns are layers of the base that are missing.

    Args:
        layers: Evidence by layer, the suspect's layers in order.

    Returns:
        The picture; empty when there are no layers.
    """
    if not layers:
        return ""
    shown = layers[:MOST_LAYERS]
    columns = _columns(shown)
    place = {name: number for number, name in enumerate(columns)}
    top, size = 34.0, _RIGHT - 30 - _LEFT
    across = size / max(1, len(columns))
    # Cells are square unless the one model is much deeper than the other.
    down = min(max(across, 120 / len(shown)), 32.0, 360 / len(shown))
    across = min(across, 32.0, 2 * down)
    right, bottom = _LEFT + across * len(columns), top + down * len(shown)
    radius = max(0.9, min(9.0, min(across, down) * 0.38))
    present = {layer.base for layer in shown}
    missing = [name for name in columns if name not in present] if len(shown) == len(layers) else []
    parts = [_rect(_LEFT + place[name] * across, top, across, bottom - top, "missing") for name in missing]
    parts.append(_rect(_LEFT, top, right - _LEFT, bottom - top, "frame"))
    seen: set[str] = set()
    counted = dict.fromkeys(("kept", "moved", "again", "new", "untested"), 0)
    for number, layer in enumerate(shown):
        y = top + (number + 0.5) * down
        if layer.base is None:
            counted["new"] += 1
            parts.append(_cross(right + 13, y, radius, f"{_layer(layer)}: new, no layer of the base"))
            continue
        x = _LEFT + (place[layer.base] + 0.5) * across
        note = f"{_layer(layer)}: layer {_short(layer.base, 60)} of the base"
        cosine = f", cosine {layer.cosine + 0.0:.2f}" if math.isfinite(layer.cosine) else ""
        if layer.coins > 0:
            counted["kept" if layer.suspect == layer.base else "moved"] += 1
            shade = 2 * layer.heads / layer.coins - 1
            parts.append(
                _dot(x, y, radius, shade, f"{note}, {count(layer.heads)} of {count(layer.coins)} heads{cosine}")
            )
        elif layer.base in seen:
            counted["again"] += 1
            parts.append(_ring(x, y, radius, layer.cosine, f"{note}, which it repeats{cosine}"))
        else:
            counted["untested"] += 1
            parts.append(_diamond(x, y, radius, layer.cosine, f"{note}, not tested{cosine}"))
        seen.add(layer.base)
    for at, name in _ticks([_short(name) for name in columns]):
        parts.append(_text(_LEFT + (at + 0.5) * across, top - 5, name, "tick"))
    for at, name in _ticks([_short(layer.suspect) for layer in shown], most=12):
        parts.append(_text(_LEFT - 6, top + (at + 0.5) * down + 3.5, name, "tick end"))
    parts.append(_text(_LEFT, 11, "layer of the base \N{RIGHTWARDS ARROW}", "label start"))
    parts.append(_turned(11, top, "\N{LEFTWARDS ARROW} layer of the model"))
    if counted["new"]:
        parts.append(_text(right + 13, top - 5, "new", "tick"))
    return _svg(bottom + 8, "Layer against layer", _told(counted, len(missing)) + _left_out(layers), parts)


def _told(counted: dict[str, int], missing: int) -> str:
    words = {
        "kept": "in place",
        "moved": "at another place",
        "again": "repeated from a layer of the base",
        "new": "new, in no layer of the base",
        "untested": "not tested",
    }
    said = [f"{count(counted[name])} {meaning}" for name, meaning in words.items() if counted[name]]
    if missing:
        said.append(f"{plural(missing, 'layer')} of the base missing")
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

    A point ``(share, coefficient)`` of the curve is about a part of the directions whose middle the share is.

    Args:
        inheritance: The curve; coefficient 1 is all.

    Returns:
        The picture; empty when there is no curve.
    """
    points = [(share, kept) for share, kept in inheritance.curve if _known(share) and _known(kept) and 0 < share <= 1]
    if len(points) < 2 or any(one[0] >= two[0] for one, two in itertools.pairwise(points)):
        return ""
    values = [kept for _, kept in points]
    lowest, highest = min(0.0, min(values)), max(1.2, 1.1 * max(values))
    top, bottom = 14.0, 150.0

    def x(share: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * share

    def y(kept: float) -> float:
        return bottom - (bottom - top) * (kept - lowest) / (highest - lowest)

    parts = _axis_y([(value, f"{value:g}") for value in (0.0, 0.5, 1.0)], y)
    parts.append(_line(_LEFT, y(1.0), _RIGHT, y(1.0), "half"))
    path = " ".join(f"{_n(x(share))},{_n(y(kept))}" for share, kept in points)
    parts.append(f'<polyline class="step" points="{path}"/>')
    for number, (share, kept) in enumerate(points):
        note = f"around {share:.0%} of the directions: coefficient {kept + 0.0:.2f}"
        parts.append(_dot(x(share), y(kept), 3.4, 1.0, note))
        if number in (0, len(points) - 1):
            side = "value start" if number == 0 else "value end"
            parts.append(_text(x(share), y(kept) + (15 if kept > 0.5 * highest else -8), f"{kept + 0.0:.2f}", side))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(x(share), bottom + 15, f"{share:.0%}", "tick"))
    owner = inheritance.ancestor
    parts.append(_text((_LEFT + _RIGHT) / 2, bottom + 32, f"directions of the {owner}, the strongest first", "label"))
    said = (
        f"Coefficient kept along the directions of the {owner}: {values[0]:.2f} along the strongest, {values[-1]:.2f} "
        "along the faintest; 1 is all."
    )
    return _svg(bottom + 40, "What was learned against what is faint", said, parts)


def kept_share(kept: Interval) -> str:
    """Draw the share of the base that is kept, with its 95% interval; empty when it was not estimated."""
    if not _known(kept.estimate):
        return ""
    row = ("", kept)
    words = f"Estimate {percent(_value(kept.estimate))} of the base"
    if _known(kept.low) and _known(kept.high):
        low, high = percent(_value(kept.low), toward="down"), percent(_value(kept.high), toward="up")
        words += f", 95% interval {low} to {high}"
    return _bars([row], "Share of the base that is kept", words + ".", percents=True)


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
        if _known(value) and abs(_value(value)) <= 3:
            rows.append((shorten(one_line(model.id, 400) or "unnamed", 48), Interval(value, model.low, model.high)))
    if not rows:
        return ""
    said = "; ".join(f"{name} {_value(interval.estimate) + 0.0:.2f}" for name, interval in rows)
    return _bars(rows, title, f"Estimates: {said}. The thin lines are 95% intervals.", percents=False)


def _bars(rows: Sequence[tuple[str, Interval]], title: str, said: str, *, percents: bool) -> str:
    ends = [_value(end) for _, one in rows for end in (one.estimate, one.low, one.high) if _known(end)]
    low, high = max(-0.5, min(0.0, *ends)), min(3.0, max(1.0, *ends))
    low, high = (math.floor(low * 10) / 10 if low < -0.02 else 0.0), max(1.0, math.ceil(high * 10 - 0.2) / 10)

    def x(value: float) -> float:
        return 16 + (WIDTH - 32) * (min(max(value, low), high) - low) / (high - low)

    step, top, parts = 38.0, 6.0, []
    bottom = top + step * len(rows)
    for value in (0.0, 0.5, 1.0):
        parts.append(_line(x(value), top, x(value), bottom, "grid"))
        parts.append(_text(x(value), bottom + 14, f"{value:.0%}" if percents else f"{value:g}", "tick"))
    for number, (name, one) in enumerate(rows):
        middle = top + step * number + (25 if name else 19)
        if name:
            parts.append(_text(16, middle - 12, name, "label start"))
        value = _value(one.estimate)
        left, right = sorted((x(0.0), x(value)))
        parts.append(_rect(left, middle - 7, max(0.8, right - left), 14, "heads", f"{name} {value + 0.0:.3f}".strip()))
        if _known(one.low) and _known(one.high):
            a, b = x(_value(one.low)), x(_value(one.high))
            for edge, kind in ((f"M{_n(a)} {_n(middle)}H{_n(b)}", "whisker"), (_caps(a, b, middle), "whisker")):
                parts += [f'<path class="under" d="{edge}"/>', f'<path class="{kind}" d="{edge}"/>']
    return _svg(bottom + 22, title, said, parts)


def _caps(a: float, b: float, y: float) -> str:
    return f"M{_n(a)} {_n(y - 5)}V{_n(y + 5)}M{_n(b)} {_n(y - 5)}V{_n(y + 5)}"


def _svg(height: float, title: str, said: str, parts: Iterable[str]) -> str:
    head = f"<title>{escape(title)}</title><desc>{escape(said)}</desc>"
    return f'<svg class="drawing" role="img" viewBox="0 0 {WIDTH} {_n(height)}">{head}{"".join(parts)}</svg>'


def _axis_y(marks: Iterable[tuple[float, str]], y: Callable[[float], float]) -> list[str]:
    parts: list[str] = []
    for value, name in marks:
        height = y(value)
        parts += [_line(_LEFT, height, _RIGHT, height, "grid"), _text(_LEFT - 6, height + 3.5, name, "tick end")]
    return parts


def _ticks_x(names: Sequence[str], bottom: float) -> list[str]:
    step = (_RIGHT - _LEFT) / len(names)
    return [_text(_LEFT + (at + 0.5) * step, bottom + 15, name, "tick") for at, name in _ticks(names)]


def _ticks(names: Sequence[str], most: int = 10) -> list[tuple[int, str]]:
    """Return the names that an axis has room for; where they are no numbers, positions from 1."""
    if not all(_NUMBER.fullmatch(name) for name in names):
        names = [str(number) for number in range(1, len(names) + 1)]
    every = next(one for one in (1, 2, 5, 10, 20, 50, 100, 200, 500) if len(names) <= one * most)
    return [(at, name) for at, name in enumerate(names) if at % every == 0]


def _short(name: str, limit: int = 24) -> str:
    return shorten(one_line(name, 400) or "unnamed", limit)


def _layer(layer: LayerEvidence) -> str:
    return f"layer {_short(layer.suspect, 60)}"


def _left_out(layers: Sequence[LayerEvidence]) -> str:
    more = len(layers) - MOST_LAYERS
    return f" {plural(more, 'further layer')} not drawn." if more > 0 else ""


def _rect(x: float, y: float, width: float, height: float, kind: str, note: str = "") -> str:
    size = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
    return f'<rect class="{kind}" {size}>{_note(note)}</rect>' if note else f'<rect class="{kind}" {size}/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _text(x: float, y: float, said: str, kind: str) -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{escape(said)}</text>'


def _turned(x: float, y: float, said: str) -> str:
    return f'<text class="label end" transform="translate({_n(x)} {_n(y)}) rotate(-90)">{escape(said)}</text>'


def _dot(x: float, y: float, radius: float, shade: float, note: str) -> str:
    place = f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"'
    return f'<circle class="dot" {place} fill-opacity="{_opacity(shade)}">{_note(note)}</circle>'


def _ring(x: float, y: float, radius: float, shade: float, note: str) -> str:
    place = f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(0.85 * radius)}"'
    place += f' stroke-width="{_n(min(1.6, 0.5 * radius))}"'
    return f'<circle class="ring" {place} stroke-opacity="{_opacity(shade)}">{_note(note)}</circle>'


def _diamond(x: float, y: float, radius: float, shade: float, note: str) -> str:
    path = f"M{_n(x - radius)} {_n(y)}L{_n(x)} {_n(y - radius)}L{_n(x + radius)} {_n(y)}L{_n(x)} {_n(y + radius)}Z"
    look = f'class="diamond" stroke-width="{_n(min(1.6, 0.5 * radius))}"'
    return f'<path {look} d="{path}" stroke-opacity="{_opacity(shade)}">{_note(note)}</path>'


def _cross(x: float, y: float, radius: float, note: str) -> str:
    a = min(5.0, radius)
    path = f"M{_n(x - a)} {_n(y - a)}L{_n(x + a)} {_n(y + a)}M{_n(x - a)} {_n(y + a)}L{_n(x + a)} {_n(y - a)}"
    return f'<path class="cross" d="{path}">{_note(note)}</path>'


def _opacity(shade: float) -> str:
    return f"{0.25 + 0.75 * min(max(shade, 0.0), 1.0):.2f}" if math.isfinite(shade) else "0.25"


def _note(said: str) -> str:
    return f"<title>{escape(said)}</title>"


def _n(value: float) -> str:
    return f"{round(value, 2) + 0.0:g}"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and abs(value) < 1e6


def _value(value: float | None) -> float:
    return 0.0 if value is None else value
