"""Tiny AWQ folders.

``awq-gemm``, ``awq-gemv`` and ``awq-gemv-fast`` in ``data/`` are the same two random layers, packed by the three
``from_linear`` of AutoAWQ 0.2.9 on a CPU (64 inputs a group; one layer has a bias). The others are packed here from the
definition: widths other than four bits as GPTQModel 7.6.0 packs them (``quantization/awq/utils/packing_utils.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .gptq_samples import LAYER, Made, copy, pack, save

__all__ = ["REAL", "SAMPLES", "make"]

REAL = ("awq-gemm", "awq-gemv", "awq-gemv-fast")
_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def make(bits: int = 4, inputs: int = 64, outputs: int = 32, group: int = 32, seed: int = 0) -> Made:
    """Make a layer in the gemm layout of random levels, zero points and scales."""
    rng = np.random.default_rng(seed)
    count, most = inputs // group, (1 << bits) - 1
    levels = rng.integers(0, most, (inputs, outputs), endpoint=True)
    zeros = rng.integers(0, most, (count, outputs), endpoint=True)
    scales = rng.uniform(0.01, 0.1, (count, outputs)).astype(np.float16)
    groups = np.arange(inputs) // group
    weight = scales.astype(np.float32)[groups] * (levels - zeros[groups]).astype(np.float32)
    tensors: dict[str, NDArray[np.generic]] = {
        f"{LAYER}.qweight": _packed(levels, bits),
        f"{LAYER}.qzeros": _packed(zeros, bits),
        f"{LAYER}.scales": scales,
        "model.norm.weight": np.ones(inputs, np.float16),
    }
    return Made(tensors, np.ascontiguousarray(weight.T))


def _packed(levels: NDArray[np.int64], bits: int) -> NDArray[np.generic]:
    if bits == 4:
        levels = levels.reshape(levels.shape[0], -1, 8)[..., _ORDER].reshape(levels.shape)
    return np.ascontiguousarray(pack(levels.T, bits).T)


def _made(folder: Path, bits: int) -> None:
    save(folder, make(bits).tensors, {"quant_method": "awq", "bits": bits, "group_size": 32, "version": "gemm"})


SAMPLES: dict[str, Callable[[Path], None]] = {
    **{name: partial(copy, name) for name in REAL},
    "awq-5bit": partial(_made, bits=5),
}
