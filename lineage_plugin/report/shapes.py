"""The marks that pictures are made of, as strings of SVG: bars, dots, whiskers, axes and letters.

Positions are in units of the picture, which is :data:`WIDTH` wide, from its top left corner. ``kind`` is the class that
the style sheet ``html/pictures.css`` knows; a ``note`` becomes the title of the mark, which browsers show and read out.
Texts are escaped here, and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple, TypeGuard

__all__ = [
    "LEFT",
    "RIGHT",
    "WIDTH",
    "Bar",
    "axis_x",
    "axis_y",
    "bars",
    "cross",
    "diamond",
    "dot",
    "known",
    "line",
    "polyline",
    "rect",
    "ring",
    "speck",
    "square",
    "svg",
    "text",
    "ticks",
    "turned",
    "whisker",
]

WIDTH = 360
"""Units a picture is wide."""

LEFT, RIGHT = 44.0, 352.0
"""Ends of the horizontal axis."""

_NUMBER = re.compile(r"[0-9]{1,4}")


class Bar(NamedTuple):
    """A bar with its interval.

    Attributes:
        name: Stands above it.
        value: Where it ends.
        low: Lower end of the interval; None without one.
        high: Upper end.
        determined: Whether the value says something: if not, the interval is drawn alone, as far as the axis goes.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    determined: bool = True


def svg(height: float, title: str, said: str, parts: Iterable[str]) -> str:
    """Return the picture: its marks, what it is called and, in words, what it shows."""
    head = f"<title>{escape(title)}</title><desc>{escape(said)}</desc>"
    return f'<svg class="drawing" role="img" viewBox="0 0 {WIDTH} {_n(height)}">{head}{"".join(parts)}</svg>'


def axis_x(names: Sequence[str], y: float) -> list[str]:
    """Write the names of equal columns below them, as far as there is room."""
    step = (RIGHT - LEFT) / len(names)
    return [text(LEFT + (at + 0.5) * step, y, name, "tick") for at, name in ticks(names)]


def ticks(names: Sequence[str], most: int = 10) -> list[tuple[int, str]]:
    """Return the names that an axis has room for; where they are no numbers, positions from 1."""
    if not all(_NUMBER.fullmatch(name) for name in names):
        names = [str(number) for number in range(1, len(names) + 1)]
    every = next(one for one in (1, 2, 5, 10, 20, 50, 100, 200, 500) if len(names) <= one * most)
    return [(at, name) for at, name in enumerate(names) if at % every == 0]


def axis_y(marks: Iterable[tuple[float, str]], y: Callable[[float], float]) -> list[str]:
    """Draw a line across for each ``(value, name)``, at the height that ``y`` gives it."""
    parts: list[str] = []
    for value, name in marks:
        height = y(value)
        parts += [line(LEFT, height, RIGHT, height, "grid"), text(LEFT - 6, height + 3.5, name, "tick end")]
    return parts


def rect(x: float, y: float, width: float, height: float, kind: str, note: str = "") -> str:
    """Draw a rectangle from its top left corner."""
    size = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
    return f'<rect class="{kind}" {size}>{_note(note)}</rect>' if note else f'<rect class="{kind}" {size}/>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Draw a straight line."""
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def polyline(points: Iterable[tuple[float, float]], kind: str) -> str:
    """Draw straight lines from point to point."""
    return f'<polyline class="{kind}" points="{" ".join(f"{_n(x)},{_n(y)}" for x, y in points)}"/>'


def text(x: float, y: float, said: str, kind: str) -> str:
    """Write on a base line."""
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{escape(said)}</text>'


def turned(x: float, y: float, said: str) -> str:
    """Write upwards."""
    return f'<text class="label end" transform="translate({_n(x)} {_n(y)}) rotate(-90)">{escape(said)}</text>'


def speck(x: float, y: float, radius: float, kind: str, note: str) -> str:
    """Draw a small full circle."""
    return f'<circle class="{kind}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}">{_note(note)}</circle>'


def dot(x: float, y: float, radius: float, shade: float, note: str) -> str:
    """Draw a full circle, the fuller its colour the larger ``shade`` is from 0 to 1."""
    place = f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"'
    return f'<circle class="dot" {place} fill-opacity="{_opacity(shade)}">{_note(note)}</circle>'


def ring(x: float, y: float, radius: float, shade: float, note: str) -> str:
    """Draw an empty circle, its line shaded like a dot."""
    place = f'cx="{_n(x)}" cy="{_n(y)}" r="{_n(0.85 * radius)}"'
    place += f' stroke-width="{_n(min(1.6, 0.5 * radius))}"'
    return f'<circle class="ring" {place} stroke-opacity="{_opacity(shade)}">{_note(note)}</circle>'


def diamond(x: float, y: float, radius: float, shade: float, note: str) -> str:
    """Draw an empty diamond, its line shaded like a dot."""
    path = f"M{_n(x - radius)} {_n(y)}L{_n(x)} {_n(y - radius)}L{_n(x + radius)} {_n(y)}L{_n(x)} {_n(y + radius)}Z"
    look = f'class="diamond" stroke-width="{_n(min(1.6, 0.5 * radius))}"'
    return f'<path {look} d="{path}" stroke-opacity="{_opacity(shade)}">{_note(note)}</path>'


def square(x: float, y: float, radius: float, note: str) -> str:
    """Draw an empty square about its middle."""
    a = 0.8 * radius
    size = f'x="{_n(x - a)}" y="{_n(y - a)}" width="{_n(2 * a)}" height="{_n(2 * a)}"'
    return f'<rect class="empty" {size} stroke-width="{_n(min(1.4, 0.5 * radius))}">{_note(note)}</rect>'


def cross(x: float, y: float, radius: float, note: str) -> str:
    """Draw a diagonal cross."""
    a = min(5.0, radius)
    path = f"M{_n(x - a)} {_n(y - a)}L{_n(x + a)} {_n(y + a)}M{_n(x - a)} {_n(y + a)}L{_n(x + a)} {_n(y - a)}"
    return f'<path class="cross" d="{path}">{_note(note)}</path>'


def whisker(left: float, right: float, y: float, *, cut: tuple[bool, bool] = (False, False)) -> list[str]:
    """Draw an interval: a thin line with a bar across each end, or an arrowhead where it goes on beyond the picture.

    Args:
        left: Where it begins.
        right: Where it ends.
        y: Its height.
        cut: Whether it goes on to the left, and to the right.
    """
    paths = [(f"M{_n(left)} {_n(y)}H{_n(right)}", "whisker")]
    paths += [
        (_arrow(x, y, inwards), "arrow") if goes_on else (_cap(x, y), "whisker")
        for x, inwards, goes_on in ((left, 5, cut[0]), (right, -5, cut[1]))
    ]
    # A line of the paper's colour below sets it off from the bar.
    return [f'<path class="{kind}" d="{path}"/>' for path, own in paths for kind in ("under", own)]


def bars(rows: Sequence[Bar], title: str, said: str, *, percents: bool) -> str:
    """Return a picture of bars from 0, one below the other.

    Args:
        rows: The bars, at least one.
        title: What they are.
        said: What they show, in words.
        percents: Whether the axis is in percent.
    """
    ends = [end for row in rows if row.determined for end in (row.value, row.low, row.high) if known(end)]
    low, high = max(-3.0, min([0.0, *ends])), min(3.0, max([1.0, *ends]))

    def x(value: float) -> float:
        return 16 + (WIDTH - 32) * (min(max(value, low), high) - low) / (high - low)

    step, top, parts = 38.0, 6.0, []
    bottom = top + step * len(rows)
    for value in (0.0, 0.5, 1.0):
        parts.append(line(x(value), top, x(value), bottom, "grid"))
        parts.append(text(x(value), bottom + 14, f"{value:.0%}" if percents else f"{value:g}", "tick"))
    for number, row in enumerate(rows):
        middle = top + step * number + (25 if row.name else 19)
        if row.name:
            parts.append(text(16, middle - 12, row.name, "label start"))
        if row.determined:
            left, right = sorted((x(0.0), x(row.value)))
            note = f"{row.name} {row.value + 0.0:.3f}".strip()
            parts.append(rect(left, middle - 7, max(0.8, right - left), 14, "heads", note))
        else:
            parts.append(text(WIDTH - 16, middle - 12, "not determined", "value end"))
        if row.low is not None and row.high is not None and row.low <= row.high:
            parts += whisker(x(row.low), x(row.high), middle, cut=(row.low < low, row.high > high))
    return svg(bottom + 22, title, said, parts)


def known(value: float | None) -> TypeGuard[float]:
    """Return whether a number can be drawn."""
    return value is not None and math.isfinite(value) and abs(value) < 1e6


def _cap(x: float, y: float) -> str:
    return f"M{_n(x)} {_n(y - 5)}V{_n(y + 5)}"


def _arrow(x: float, y: float, inwards: float) -> str:
    return f"M{_n(x + inwards)} {_n(y - 5)}L{_n(x)} {_n(y)}L{_n(x + inwards)} {_n(y + 5)}"


def _opacity(shade: float) -> str:
    return f"{0.25 + 0.75 * min(max(shade, 0.0), 1.0):.2f}" if math.isfinite(shade) else "0.25"


def _note(said: str) -> str:
    return f"<title>{escape(said)}</title>"


def _n(value: float) -> str:
    return f"{round(value, 2) + 0.0:g}"
