"""The picture of the layers: where in the suspect the base is found.

One bar per layer while there are few, one sign per layer when there are many. A bar is empty when half of the layer's
coins came up heads, which is what chance gives, and full when all did. Where layers were moved, repeated, dropped or
inserted the picture is a map as well: ``layer 5 <- 3`` in a row of its own, or runs such as
``0-5 <- 0-5, 6-9 <- 2-5 (again), 10 new``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lineage_plugin.judge.types import LayerEvidence
from lineage_plugin.report.phrases import count
from lineage_plugin.text import one_line

__all__ = ["Bar", "blocks", "picture", "shorten"]

MAX_BARS = 16
"""Up to so many layers get a bar of their own."""

NAMED_BARS = 10
"""So many bars are drawn of layers known by tensor name, which do not line up in a strip."""

STRIP = 40
"""Layers in one line of a strip."""

MAX_RUNS = 24
"""Runs of a map that are written out."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_ASCII_HEIGHTS = "_.:-=+*#"
_PREFIX = "layer "
_NUMBER = re.compile(r"[0-9]{1,9}")


class _State(Enum):
    """What a layer is; the value is its sign in a strip, where it has no coins to be drawn."""

    TESTED = ""
    REPEAT = "r"
    NEW = "n"
    UNTESTED = "?"


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of the picture.

    Attributes:
        label: What it is about; empty, as ``bar`` is, for a line of text.
        bar: The bar or strip; empty for a layer without coins of its own.
        note: Numbers or words after it.
    """

    label: str
    bar: str
    note: str


@dataclass(frozen=True, slots=True)
class _Layer:
    evidence: LayerEvidence
    state: _State

    @property
    def excess(self) -> float:
        """How far heads exceed chance: 0 at one half or less, 1 when all are heads."""
        found = self.evidence
        return max(0.0, 2 * found.heads / found.coins - 1) if found.coins else 0.0

    @property
    def numbers(self) -> tuple[int, int | None] | None:
        """The numbers of the suspect's and the base's layer; None for layers known by name."""
        suspect = self.evidence.suspect
        base = "" if self.evidence.base is None else self.evidence.base
        if not _NUMBER.fullmatch(suspect) or not (self.evidence.base is None or _NUMBER.fullmatch(base)):
            return None
        return int(suspect), int(base) if base else None


def picture(layers: Sequence[LayerEvidence], *, width: int, unicode: bool) -> list[Bar]:
    """Draw the layers.

    Args:
        layers: Evidence by layer, the suspect's layers in order.
        width: Columns there are for a line.
        unicode: Whether block characters may be used.

    Returns:
        The lines, the legend last; empty when there are no layers.
    """
    if not layers:
        return []
    found = _with_states(layers)
    if len(found) > MAX_BARS and all(layer.numbers is not None for layer in found):
        lines = [*_strip(found, width, unicode), *_map(found, unicode), *_outstanding(found, unicode)]
        return [*lines, Bar("", "", _legend(found, "sign", unicode))]
    shown, rest = found, ""
    if len(found) > MAX_BARS:
        ranked = sorted((layer for layer in found if layer.state is _State.TESTED), key=lambda layer: layer.excess)
        if len(ranked) > NAMED_BARS:
            shown = [*reversed(ranked[-NAMED_BARS // 2 :]), *reversed(ranked[: NAMED_BARS // 2])]
            rest = f"The {NAMED_BARS // 2} highest and lowest of {count(len(found))}; the JSON report lists all. "
        else:
            shown = (ranked or found)[:NAMED_BARS]
            rest = f"{len(shown)} of {count(len(found))}; the JSON report lists all. "
    return [*_bars(shown, width, unicode), Bar("", "", rest + _legend(shown, "bar", unicode))]


def _with_states(layers: Sequence[LayerEvidence]) -> list[_Layer]:
    """Say of each layer whether it has coins and, if not, why."""
    seen: set[str] = set()
    found = []
    for layer in layers:
        state = _State.TESTED if layer.coins else _State.UNTESTED
        if layer.base is None:
            state = _State.NEW
        elif state is _State.UNTESTED and layer.base in seen:
            state = _State.REPEAT  # a coin belongs to a unit of the base, however often that stands in the suspect
        if layer.base is not None:
            seen.add(layer.base)
        found.append(_Layer(layer, state))
    return found


def _legend(layers: Sequence[_Layer], mark: str, unicode: bool) -> str:
    said = f"An empty {mark} is chance (half heads), a full one all heads; "
    states = {layer.state for layer in layers}
    if mark == "sign":
        what = {
            _State.REPEAT: "repeats a layer of the base, whose coins are counted once",
            _State.NEW: "new, no layer of the base",
            _State.UNTESTED: "not tested",
        }
        said += "".join(f"{state.value}: {meaning}; " for state, meaning in what.items() if state in states)
    said += "cos is the cosine of the weights compared."
    for mine, base in (layer.numbers for layer in layers if layer.numbers is not None):
        if mark == "bar" and base is not None and base != mine:
            said += f" {mine} {_arrow(unicode)} {base}: layer {mine} corresponds to layer {base} of the base."
            break
    return said


def _bars(layers: Sequence[_Layer], width: int, unicode: bool) -> list[Bar]:
    labels = _without_common_stem([_label(layer, unicode) for layer in layers])
    if max(map(len, labels)) > max(8, width // 3):
        labels = [label.removeprefix(_PREFIX) for label in labels]  # the numbers matter more
    notes = [_note(layer) for layer in layers]
    label_width = min(max(map(len, labels)), max(8, width // 3))
    longest = max(map(len, notes))
    length = min(24, max(8, width - label_width - longest - 4))
    return [
        Bar(
            shorten(label, label_width),
            blocks(layer.excess, length, unicode) if layer.state is _State.TESTED else "",
            note,
        )
        for label, layer, note in zip(labels, layers, notes, strict=True)
    ]


def _strip(layers: Sequence[_Layer], width: int, unicode: bool) -> list[Bar]:
    heights = _HEIGHTS if unicode else _ASCII_HEIGHTS
    per_line = max(8, min(STRIP, width - 30))
    lines = []
    for start in range(0, len(layers), per_line):
        part = layers[start : start + per_line]
        signs = "".join(
            layer.state.value or heights[min(len(heights) - 1, int(layer.excess * len(heights)))] for layer in part
        )
        label = f"{one_line(part[0].evidence.suspect, 6)}-{one_line(part[-1].evidence.suspect, 6)}"
        heads, coins = (sum(getattr(layer.evidence, name) for layer in part) for name in ("heads", "coins"))
        lines.append(Bar(label, signs, f"{count(heads)}/{count(coins)} heads" if coins else "no coins of their own"))
    return lines


def _map(layers: Sequence[_Layer], unicode: bool) -> list[Bar]:
    """Write which layer became which as runs; nothing when every layer kept its number."""
    pairs = [layer.numbers for layer in layers]
    if not any(_is_moved(pair) for pair in pairs):
        return []
    runs: list[list[tuple[int, int | None]]] = []
    kinds: list[bool] = []
    seen: set[int] = set()
    for pair in pairs:
        if pair is None:
            continue
        again = pair[1] in seen
        if pair[1] is not None:
            seen.add(pair[1])
        if runs and kinds[-1] == again and _follows(runs[-1][-1], pair):
            runs[-1].append(pair)
        else:
            runs.append([pair])
            kinds.append(again)
    said = [_run(run, again, unicode) for run, again in zip(runs[:MAX_RUNS], kinds, strict=False)]
    if len(runs) > MAX_RUNS:
        said.append(f"and {count(len(runs) - MAX_RUNS)} more runs; the JSON report lists all")
    return [Bar("", "", f"Model {_arrow(unicode)} base: {', '.join(said)}.")]


def _follows(one: tuple[int, int | None], two: tuple[int, int | None]) -> bool:
    if two[0] != one[0] + 1 or (one[1] is None) != (two[1] is None):
        return False
    return one[1] is None or two[1] == one[1] + 1


def _run(run: Sequence[tuple[int, int | None]], again: bool, unicode: bool) -> str:
    mine, base = ((run[0][side], run[-1][side]) for side in (0, 1))
    if base[0] is None:
        return f"{_span(*mine)} new"
    return f"{_span(*mine)} {_arrow(unicode)} {_span(*base)}" + (" (again)" if again else "")


def _span(first: int | None, last: int | None) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _is_moved(pair: tuple[int, int | None] | None) -> bool:
    return pair is not None and pair[0] != pair[1]


def _arrow(unicode: bool) -> str:
    return "←" if unicode else "<-"


def _outstanding(layers: Sequence[_Layer], unicode: bool) -> list[Bar]:
    """Name the layers that scored clearly less than most, such as replaced ones."""
    ranked = sorted((layer for layer in layers if layer.state is _State.TESTED), key=lambda layer: layer.excess)
    if not ranked:
        return []
    middle = ranked[len(ranked) // 2].excess
    low = [layer for layer in ranked if layer.excess < middle - 0.4]
    if not low:
        return []
    named = ", ".join(f"{_label(layer, unicode)} ({_note(layer)})" for layer in low[:4])
    more = f" and {len(low) - 4} more" if len(low) > 4 else ""
    return [Bar("", "", f"Clearly below the others: {named}{more}.")]


def _label(layer: _Layer, unicode: bool) -> str:
    suspect = one_line(layer.evidence.suspect, 60)
    prefix = "" if layer.numbers is None else _PREFIX
    if layer.evidence.base is None:
        return f"{prefix}{suspect}"
    base = one_line(layer.evidence.base, 60)
    return f"{prefix}{base}" if suspect == base else f"{prefix}{suspect} {_arrow(unicode)} {base}"


def _without_common_stem(labels: list[str]) -> list[str]:
    """Drop the leading parts that all tensor names share: they tell no layer from another."""
    split = [label.split(".") for label in labels]
    shared = 0
    for parts in zip(*(names[:-1] for names in split), strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return [".." + ".".join(names[shared:]) for names in split] if shared and len(labels) > 1 else labels


def shorten(label: str, width: int) -> str:
    """Return a label of at most ``width`` columns; what is cut stood in the middle."""
    # The number of the layer stands at the beginning, the kind of matrix at the end.
    front = (width - 2) // 2
    return label if len(label) <= width else f"{label[:front]}..{label[front + 2 - width :]}"


def _note(layer: _Layer) -> str:
    found = layer.evidence
    base = one_line(found.base or "", 40)
    said = {
        _State.TESTED: f"{count(found.heads)}/{count(found.coins)} heads",
        _State.REPEAT: f"repeats {_PREFIX if layer.numbers else ''}{base} of the base",
        _State.NEW: "new: no layer of the base",
        _State.UNTESTED: "not tested",
    }[layer.state]
    if layer.state is _State.NEW or not math.isfinite(found.cosine):
        return said
    # Adding 0.0 after rounding turns -0.0 into 0.0.
    return f"{said}  cos {round(found.cosine, 2) + 0.0:.2f}"


def blocks(share: float, length: int, unicode: bool) -> str:
    """Return a bar of ``length`` columns of which a share is full."""
    if not unicode:
        full = round(share * length)
        return "#" * full + "." * (length - full)
    full, eighths = divmod(round(share * length * 8), 8)
    bar = _EIGHTHS[8] * full + (_EIGHTHS[eighths] if eighths else "")
    return bar + "·" * (length - len(bar))
