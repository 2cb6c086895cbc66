"""Tiny GPTQ folders.

``REAL`` names folders in ``data/`` that the libraries wrote, on a CPU and from random weights with random calibration
tokens: ``gptq-act-order`` (4 bits, symmetric, v1), ``gptq-v2-3bit`` (asymmetric), ``gptq-5bit-planes`` and
``gptq-conv1d`` (GPT-2) by GPTQModel 7.6.0, ``gptq-autoround`` by AutoRound 0.15.1. Only the ``meta`` entry of their
settings was taken out.

The others are packed here, bit by bit, as the definition has it (GPTQModel 7.6.0, ``nn_modules/qlinear/__init__.py``:
``pack_original``): layouts that no library writes any more, and shapes at the edge.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

__all__ = ["DATA", "LAYER", "REAL", "SAMPLES", "Made", "copy", "make", "pack", "save"]

DATA = Path(__file__).parent / "data"
REAL = ("gptq-act-order", "gptq-v2-3bit", "gptq-5bit-planes", "gptq-conv1d", "gptq-autoround")
LAYER = "model.layers.0.mlp.up_proj"


class Made:
    """A layer made by hand: its stored tensors, and the weight they stand for, ``[outputs, inputs]``."""

    def __init__(self, tensors: dict[str, NDArray[np.generic]], weight: NDArray[np.float32]) -> None:
        self.tensors = tensors
        self.weight = weight


def pack(levels: NDArray[np.int64], bits: int, word: int = 32) -> NDArray[np.generic]:
    """Pack ``[fields, columns]`` into ``[words, columns]``: one stream of bits a column, low bits first."""
    words = -(-levels.shape[0] * bits // word)
    packed = np.zeros((words, levels.shape[1]), f"<u{word // 8}")
    for column in range(levels.shape[1]):
        stream = sum(int(level) << (bits * i) for i, level in enumerate(levels[:, column]))
        for i in range(words):
            packed[i, column] = stream >> (word * i) & ((1 << word) - 1)
    return packed.view(f"<i{word // 8}")


def make(
    bits: int = 4,
    inputs: int = 64,
    outputs: int = 32,
    group: int = 32,
    *,
    reduced: bool = True,
    order: NDArray[np.int64] | None = None,
    stored_order: bool = True,
    word: int = 32,
    seed: int = 0,
) -> Made:
    """Make a layer of random levels, zero points (none and all included) and scales.

    Args:
        bits: Bits of a level.
        inputs: Inputs.
        outputs: Outputs.
        group: Inputs of a group.
        reduced: Whether zero points are stored reduced by one.
        order: Group of each input; None for the order of the groups.
        stored_order: Whether the groups are stored.
        word: Bits of a word.
        seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    count, most = -(-inputs // group), (1 << bits) - 1
    levels = rng.integers(0, most, (inputs, outputs), endpoint=True)
    zeros = rng.integers(0, most, (count, outputs), endpoint=True)
    scales = rng.uniform(0.01, 0.1, (count, outputs)).astype(np.float16)
    groups = np.arange(inputs) // group if order is None else order
    weight = scales.astype(np.float32)[groups] * (levels - zeros[groups]).astype(np.float32)
    if not reduced or bits == 3:
        qzeros = pack(((zeros - reduced) & most).T, bits, word).T
    else:
        # Words are reduced as a whole, so that a zero point of 0 borrows from its neighbour.
        ones = sum(1 << shift for shift in range(0, word, bits))
        whole = pack(zeros.T, bits, word).T.astype(object)
        qzeros = ((whole - ones) % (1 << word)).astype(f"<u{word // 8}").view(f"<i{word // 8}")
    tensors: dict[str, NDArray[np.generic]] = {
        f"{LAYER}.qweight": pack(levels, bits, word),
        f"{LAYER}.qzeros": np.ascontiguousarray(qzeros),
        f"{LAYER}.scales": scales,
        "model.norm.weight": np.ones(inputs, np.float16),
    }
    if stored_order:
        tensors[f"{LAYER}.g_idx"] = groups.astype(np.int32)
    return Made(tensors, np.ascontiguousarray(weight.T))


def save(
    folder: Path,
    tensors: Mapping[str, NDArray[np.generic]],
    settings: Mapping[str, object] | None,
    *,
    beside: bool = False,
    **config: object,
) -> Path:
    """Write a folder; ``beside`` puts the settings into a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    whole = {"model_type": "llama", **config}
    if settings is not None and beside:
        (folder / "quantize_config.json").write_text(json.dumps(settings))
    elif settings is not None:
        whole["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(whole))
    return folder


def copy(name: str, folder: Path) -> None:
    """Copy a folder of ``data/``."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (DATA / name).iterdir():
        shutil.copyfile(file, folder / file.name)


def _made(folder: Path, settings: Mapping[str, object], **layer: object) -> None:
    save(folder, make(**layer).tensors, {"quant_method": "gptq", **settings})  # type: ignore[arg-type]


SAMPLES: dict[str, Callable[[Path], None]] = {
    "gptq-act-order": partial(copy, "gptq-act-order"),
    "gptq-5bit-planes": partial(copy, "gptq-5bit-planes"),
    "gptq-v1": partial(_made, settings={"bits": 4, "group_size": 32, "desc_act": False}),
    "gptq-v2-2bit": partial(
        _made, settings={"bits": 2, "group_size": 16, "checkpoint_format": "gptq_v2"}, bits=2, group=16, reduced=False
    ),
    "gptq-3bit": partial(_made, settings={"bits": 3, "group_size": -1}, bits=3, group=64),
    "gptq-8bit-bytes": partial(_made, settings={"bits": 8, "desc_act": True}, bits=8, word=8),
}
