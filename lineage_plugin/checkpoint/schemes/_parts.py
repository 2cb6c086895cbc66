"""The stored tensors that belong to one quantised weight, by their names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["ACTIVATIONS", "attention_scales", "beside", "is_conv1d", "matrices", "misfit", "whole"]

ACTIVATIONS = (
    *("input_scale", "input_zero_point", "input_global_scale", "input_scale_ub"),
    *("output_scale", "output_zero_point", "activation_scale", "qscale_act", "scale_input"),
)
"""Last parts of the names of what quantises the activations of a module: no weights, and no part of one."""
_ATTENTION = frozenset(f"{letter}_{what}" for letter in "kqv" for what in ("scale", "zero_point"))
_CONV1D_MODELS = ("gpt2", "imagegpt", "openai-gpt", "decision_transformer", "clvp")
_CONV1D = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})


def beside(tensors: Collection[str], module: str, suffixes: Iterable[str]) -> list[str]:
    """Return the names ``module.suffix`` that exist."""
    return [name for name in (f"{module}.{suffix}" for suffix in suffixes) if name in tensors]


def attention_scales(tensors: Iterable[str]) -> list[str]:
    """Return the scales of quantised keys and values, which are no weights."""
    return [name for name in tensors if name.rpartition(".")[2] in _ATTENTION]


def is_conv1d(module: str, config: Mapping[str, object]) -> bool:
    """Return whether a module is a ``Conv1D`` of transformers, whose weight is ``[in, out]``.

    Quantisers store it as that of any linear layer.
    """
    return module.rpartition(".")[2] in _CONV1D and config.get("model_type") in _CONV1D_MODELS


def matrices(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return how many matrices a tensor stacks, and the rows and columns of each."""
    return prod(shape[:-2]), shape[-2], shape[-1]


def whole(
    name: str, shape: tuple[int, ...], levels: TensorInfo, others: Iterable[TensorInfo], encoding: Encoding
) -> TensorInfo:
    """Return a quantised weight as later stages see it.

    Args:
        name: Its name.
        shape: Its shape.
        levels: The stored tensor with most of it.
        others: The other stored tensors that it is made of.
        encoding: How it is quantised.
    """
    nbytes = levels.nbytes + sum(other.nbytes for other in others)
    return replace(levels, name=name, shape=shape, dtype="F32", nbytes=nbytes, encoding=encoding)


def misfit(where: str, part: TensorInfo, shape: Sequence[int]) -> UnreadableCheckpoint:
    """Return the error for a part, such as a scale, that cannot belong to a weight of some shape."""
    return UnreadableCheckpoint(
        where,
        f"'{shown(part.name, 100)}' ({part.dtype}, {shown(list(part.shape), 60)}) does not fit its weight "
        f"({shown(list(shape), 60)})",
        "Get the files again.",
    )
