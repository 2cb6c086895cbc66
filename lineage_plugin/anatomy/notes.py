"""What an analysis assumed or left out, collected layer by layer and said in a few sentences."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Notes", "ranges"]

_MOST_SENTENCES = 24
_MOST_RANGES = 8


class Notes:
    """Collects what was left out; equal reasons of several layers become one sentence."""

    def __init__(self) -> None:
        self._left_out: dict[tuple[str, str], list[int]] = {}
        self._said: list[str] = []

    def leave_out(self, what: str, layer: int, why: str) -> None:
        """Note that the units ``what`` of a layer were left out.

        Args:
            what: The units, such as ``query-key``.
            layer: Index of the layer.
            why: The reason, lower case, without a full stop.
        """
        self._left_out.setdefault((what, why), []).append(layer)

    def say(self, sentence: str) -> None:
        """Add a sentence of its own."""
        if sentence not in self._said:
            self._said.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        """Return everything noted, at most a page of it."""
        said = list(self._said)
        for (what, why), layers in self._left_out.items():
            said.append(f"{what} units of {ranges(layers)} left out: {why}.")
        if len(said) > _MOST_SENTENCES:
            said[_MOST_SENTENCES - 1 :] = [f"{len(said) - _MOST_SENTENCES + 1} more remarks of this kind."]
        return tuple(said)


def ranges(layers: Iterable[int]) -> str:
    """Return layer numbers in words, such as ``layers 0-3, 7``."""
    ordered = sorted(set(layers))
    runs: list[list[int]] = []
    for layer in ordered:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:_MOST_RANGES])
    more = ", ..." if len(runs) > _MOST_RANGES else ""
    return f"{'layer' if len(ordered) == 1 else 'layers'} {shown}{more}"
