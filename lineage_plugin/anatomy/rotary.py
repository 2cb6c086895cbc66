"""Rotary position embeddings: which channels of a head turn together.

A rotary embedding turns pairs of channels of query and key by an angle that depends on the position and on the pair.
Flipping the sign of both channels of a pair, in query and key, changes no score. Exchanging two pairs does, because
each has a frequency of its own, and so does flipping one channel of a pair. Two conventions pair the channels
differently and leave no mark on names or shapes, so the model type has to be known (RoFormer, arXiv:2104.09864; the
conventions are those of the models' reference code, against which a test runs them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lineage_plugin.anatomy.settings import Settings, plain

__all__ = ["ROTARY", "Convention", "Rotary", "rotary_of"]

Pairing = Literal["half", "interleaved"]


@dataclass(frozen=True, slots=True)
class Convention:
    """How an architecture applies rotary embeddings.

    Attributes:
        pairing: ``half`` pairs channel c with c + n/2, ``interleaved`` channel 2c with 2c + 1, n channels turning.
        factor: Share of a head's channels that turn when the configuration is silent, or None when all always do.
    """

    pairing: Pairing
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class Rotary:
    """The rotary embedding of a model.

    Attributes:
        pairing: See :class:`Convention`.
        size: Number of channels of a head that turn; even, at least 2.
    """

    pairing: Pairing
    size: int


ROTARY: dict[str, Convention] = {
    **dict.fromkeys(
        (
            "apertus",
            "arcee",
            "cwm",
            "dots1",
            "exaone4",
            "flex_olmo",
            "gemma",
            "gemma2",
            "gemma3",
            "gemma3_text",
            "gpt_oss",
            "granite",
            "llama",
            "ministral",
            "ministral3",
            "mistral",
            "mixtral",
            "olmo",
            "olmo2",
            "olmo3",
            "olmoe",
            "phimoe",
            "qwen2",
            "qwen2_5_vl",
            "qwen2_5_vl_text",
            "qwen2_moe",
            "qwen2_vl",
            "qwen2_vl_text",
            "qwen3",
            "qwen3_moe",
            "qwen3_vl_text",
            "seed_oss",
            "smollm3",
            "starcoder2",
            "vaultgemma",
        ),
        Convention("half"),
    ),
    **dict.fromkeys(("cohere", "cohere2", "ernie4_5", "ernie4_5_moe", "helium"), Convention("interleaved")),
    **dict.fromkeys(("glm", "glm4"), Convention("interleaved", 0.5)),
    "glm4_moe": Convention("half", 0.5),
    "gpt_neox": Convention("half", 0.25),
    "nemotron": Convention("half", 0.5),
    "phi3": Convention("half", 1.0),
    "stablelm": Convention("half", 0.25),
}
"""Architectures whose attention is known, by model type. Attention of other types is left out."""


def rotary_of(settings: Settings, head_size: int) -> Rotary | str:
    """Say which channels of a head turn.

    Args:
        settings: Configuration of the stack.
        head_size: Channels of a query head.

    Returns:
        The rotary embedding, or the reason why it is not known.
    """
    convention = ROTARY.get(settings.model_type)
    if convention is None:
        return f"the rotary convention of model type '{plain(settings.model_type)}' is not known"
    claimed = settings.numbers("partial_rotary_factor", "rotary_pct")
    factor = 1.0 if convention.factor is None else convention.factor
    for value in claimed:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return "the configuration gives no usable rotary share"
    if claimed:
        if len(set(claimed)) > 1 or (convention.factor is None and claimed[0] != 1):
            return "the configuration contradicts itself or the architecture about the rotary share"
        factor = float(claimed[0])  # type: ignore[arg-type]
    if not 0 < factor <= 1:
        return "the configuration gives no usable rotary share"
    size = int(head_size * factor)
    if size < 2 or size % 2:
        return f"a rotary share of {factor:g} does not divide heads of {head_size} channels into pairs"
    return Rotary(convention.pairing, size)
