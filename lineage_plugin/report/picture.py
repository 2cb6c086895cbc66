"""The picture of the layers: where in the suspect the base is found.

One bar per layer while there are few, one sign per layer when there are many. A bar is empty when half of the layer's
coins came up heads, which is what chance gives, and full when all did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lineage_plugin.judge.types import LayerEvidence
from lineage_plugin.report.phrases import count
from lineage_plugin.text import one_line

__all__ = ["Bar", "picture"]

MAX_BARS = 16
"""Up to so many layers get a bar of their own."""

NAMED_BARS = 10
"""So many bars are drawn of layers known by tensor name, which do not line up in a strip."""

STRIP = 40
"""Layers in one line of a strip."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_ASCII_HEIGHTS = "_.:-=+*#"


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of the picture.

    Attributes:
        label: What it is about.
        bar: The bar or strip; empty for a line of text.
        note: Numbers or words after it.
    """

    label: str
    bar: str
    note: str


def picture(layers: Sequence[LayerEvidence], *, width: int, unicode: bool) -> list[Bar]:
    """Draw the layers.

    Args:
        layers: Evidence by layer.
        width: Columns there are for a line.
        unicode: Whether block characters may be used.

    Returns:
        The lines, the legend last; empty when there are no layers.
    """
    if not layers:
        return []
    if len(layers) > MAX_BARS and all(layer.base.isdecimal() for layer in layers):
        return [*_strip(layers, width, unicode), *_outstanding(layers, unicode), Bar("", "", _legend("sign"))]
    shown: Sequence[LayerEvidence] = layers
    rest = ""
    if len(layers) > MAX_BARS:
        ranked = sorted(layers, key=_excess)
        shown = [*reversed(ranked[-NAMED_BARS // 2 :]), *reversed(ranked[: NAMED_BARS // 2])]
        rest = f"The {NAMED_BARS // 2} highest and lowest of {count(len(layers))}; the JSON report lists all. "
    return [*_bars(shown, width, unicode), Bar("", "", rest + _legend("bar"))]


def _legend(mark: str) -> str:
    return f"An empty {mark} is chance (half heads), a full one all heads; cos is the cosine of the weights compared."


def _bars(layers: Sequence[LayerEvidence], width: int, unicode: bool) -> list[Bar]:
    labels = _without_common_stem([_label(layer, unicode) for layer in layers])
    notes = [_note(layer) for layer in layers]
    label_width = min(max(map(len, labels)), max(8, width // 3))
    length = min(24, max(8, width - label_width - max(map(len, notes)) - 4))
    return [
        Bar(_shorten(label, label_width), _bar(_excess(layer), length, unicode), note)
        for label, layer, note in zip(labels, layers, notes, strict=True)
    ]


def _strip(layers: Sequence[LayerEvidence], width: int, unicode: bool) -> list[Bar]:
    heights = _HEIGHTS if unicode else _ASCII_HEIGHTS
    per_line = max(8, min(STRIP, width - 30))
    lines = []
    for start in range(0, len(layers), per_line):
        part = layers[start : start + per_line]
        signs = "".join(heights[min(len(heights) - 1, int(_excess(layer) * len(heights)))] for layer in part)
        label = f"{one_line(part[0].base, 6)}-{one_line(part[-1].base, 6)}"
        heads, coins = sum(layer.heads for layer in part), sum(layer.coins for layer in part)
        lines.append(Bar(label, signs, f"{count(heads)}/{count(coins)} heads"))
    return lines


def _outstanding(layers: Sequence[LayerEvidence], unicode: bool) -> list[Bar]:
    """Name the layers that scored clearly less than most, such as replaced ones."""
    ranked = sorted(layers, key=_excess)
    middle = _excess(ranked[len(ranked) // 2])
    low = [layer for layer in ranked if _excess(layer) < middle - 0.4]
    if not low:
        return []
    named = ", ".join(f"{_label(layer, unicode)} ({_note(layer)})" for layer in low[:4])
    more = f" and {len(low) - 4} more" if len(low) > 4 else ""
    return [Bar("", "", f"Clearly below the others: {named}{more}.")]


def _label(layer: LayerEvidence, unicode: bool) -> str:
    suspect, base = one_line(layer.suspect, 60), one_line(layer.base, 60)
    prefix = "layer " if layer.base.isdecimal() else ""
    if suspect == base:
        return f"{prefix}{base}"
    return f"{prefix}{suspect} {'←' if unicode else '<-'} {base}"


def _without_common_stem(labels: list[str]) -> list[str]:
    """Drop the leading parts that all tensor names share: they tell no layer from another."""
    split = [label.split(".") for label in labels]
    shared = 0
    for parts in zip(*(names[:-1] for names in split), strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return [".." + ".".join(names[shared:]) for names in split] if shared and len(labels) > 1 else labels


def _shorten(label: str, width: int) -> str:
    # The number of the layer stands at the beginning, the kind of matrix at the end.
    front = (width - 2) // 2
    return label if len(label) <= width else f"{label[:front]}..{label[front + 2 - width :]}"


def _note(layer: LayerEvidence) -> str:
    heads = f"{count(layer.heads)}/{count(layer.coins)} heads" if layer.coins else "not tested"
    # Adding 0.0 after rounding turns -0.0 into 0.0.
    return heads + (f"  cos {round(layer.cosine, 2) + 0.0:.2f}" if math.isfinite(layer.cosine) else "")


def _excess(layer: LayerEvidence) -> float:
    """Return how far heads exceed chance: 0 at one half or less, 1 when all are heads."""
    return max(0.0, 2 * layer.heads / layer.coins - 1) if layer.coins else 0.0


def _bar(share: float, length: int, unicode: bool) -> str:
    if not unicode:
        full = round(share * length)
        return "#" * full + "." * (length - full)
    full, eighths = divmod(round(share * length * 8), 8)
    bar = _EIGHTHS[8] * full + (_EIGHTHS[eighths] if eighths else "")
    return bar + "·" * (length - len(bar))
