"""What the codes LIN3xx mean: weights that cannot be read or compared."""

from __future__ import annotations

from typing import Final

__all__ = ["TEXTS"]

TEXTS: Final[dict[str, str]] = {
    "LIN301": """
        Report weights that are pickles.

        The weights are pickles that cannot be read without running them: older than PyTorch 1.6, or holding other
        things than tensors. Nothing of them was run. It is a warning where the weights could be read without running
        anything: whoever loads them otherwise still runs what is in them.

        Do: convert them to safetensors.
        """,
    "LIN302": """
        Report a tensor file that is damaged or contradicts itself.

        A tensor file is damaged, cut short or contradicts itself: header length, JSON, offsets that overlap or leave
        the file, a shape that does not fit its bytes, a shard that is missing.

        Do: download or export the file again.
        """,
    "LIN303": """
        Report an encoding that is not decoded.

        A format, a quantisation scheme or a tensor type that is not decoded; the message names it and the conversion.
        What is read: [formats](formats.md).

        Do: convert, or compare the unquantised weights.
        """,
    "LIN304": """
        Report a pair of which nothing could be compared.

        Nothing could be compared: the structures differ too much (another layout, no layer or unit that could
        correspond to one of the base), or nothing is left whose units are known. Another depth, fewer units, experts in
        the place of an MLP or another vocabulary are no such difference. The declared base is neither confirmed nor
        refuted, and the verdict is "undecided" (exit code 3).
        """,
    "LIN305": """
        Report weight files beside those that were read.

        The model holds weight files beside those that were read: another format, another variant, other quantisations,
        shards that no index names. A loader may take them instead, and nothing is known about them.

        Do: check them by giving the file, or remove them.
        """,
}
