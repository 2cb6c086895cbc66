"""GGUF, plain and quantised."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.conversions.conversion import LINEAR, Conversion

__all__ = ["CONVERSIONS"]


def _gguf(source: Path, target: Path, kind: str) -> None:
    """By the gguf library, after what llama.cpp's converter does to names and rows."""
    from tests.checkpoint.formats.gguf_builders import Kind, convert

    convert(source, target / f"model-{kind}.gguf", Kind[kind])
    (target / "config.json").unlink()


def _gguf_k(source: Path, target: Path) -> None:
    """K-quants by hand (ggml-quants.c, without its search for the best scales): the library only decodes them.

    As in llama.cpp's Q4_K_M, half of the value and down projections have six bits, and rows of no multiple of 256
    fall back to Q5_0 and Q8_0.
    """
    import gguf

    from tests.checkpoint.formats import gguf_builders as builders

    kinds = builders.Kind
    tensors, config = builders.load(source)
    architecture = builders.ARCHITECTURES[config["model_type"]]  # type: ignore[index]
    writer = gguf.GGUFWriter(target / "model-Q4_K_M.gguf", architecture)
    builders._settings(writer, config, architecture)
    for number, (name, array) in enumerate(builders._converted(tensors, config, architecture)):
        rich = name == "output.weight" or (number % 2 and ("attn_v" in name or "ffn_down" in name))
        if array.ndim < 2 or "norm" in name:
            builders.add(writer, name, array, kinds.F32)
        elif array.shape[-1] % 256:
            builders.add(writer, name, array, kinds.Q8_0 if rich else kinds.Q5_0)
        else:
            blocks = np.asarray(array, np.float32).reshape(-1, 256)
            packed = (_q6_k if rich else _q4_k)(blocks).reshape(array.shape[0], -1)
            writer.add_tensor(name, packed, raw_dtype=kinds.Q6_K if rich else kinds.Q4_K)
    builders.close(writer)
    (target / "config.json").unlink()


def _inverse(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(scale == 0, np.float32(0), 1 / np.where(scale == 0, np.float32(1), scale)).astype(np.float32)


def _half(scale: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return numbers in half precision: their two bytes, and what they are then."""
    stored = scale.astype("<f2")
    return stored.view(np.uint8).reshape(-1, 2), stored.astype(np.float32)


def _q4_k(blocks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``block_q4_K``: eight runs of 32, each with a scale and an offset of six bits."""
    runs = blocks.reshape(-1, 8, 32)
    low = np.maximum(-runs.min(-1), 0)
    step = (runs.max(-1) + low) / 15
    (d, wide), (dmin, least) = _half(step.max(-1) / 63), _half(low.max(-1) / 63)
    s, m = (
        np.rint(part * _inverse(unit)[:, None]).clip(0, 63).astype(np.uint8)
        for part, unit in ((step, wide), (low, least))
    )
    scaled = (runs + (least[:, None] * m)[..., None]) * _inverse(wide[:, None] * s)[..., None]
    levels = np.rint(scaled).clip(0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    scales = [s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4]
    return np.concatenate([d, dmin, *scales, (levels[:, :, 0] | levels[:, :, 1] << 4).reshape(-1, 128)], axis=1)


def _q6_k(blocks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``block_q6_K``: sixteen runs of 16, each with a scale of eight bits."""
    runs = blocks.reshape(-1, 16, 16)
    step = np.abs(runs).max(-1) / 32
    d, wide = _half(step.max(-1) / 127)
    scales = np.rint(step * _inverse(wide)[:, None]).clip(0, 127).astype(np.int8)
    levels = np.rint(runs * _inverse(wide[:, None] * scales)[..., None]).clip(-32, 31).astype(np.int8) + 32
    q = levels.astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.stack([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], axis=2)
    high = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), scales.view(np.uint8), d], axis=1)


_NEEDS = ("torch", "gguf")
_MODELS = (*LINEAR, "gpt2", "gpt_neox", "phi3", "mixtral")
CONVERSIONS = (
    *(
        Conversion(f"GGUF {kind}", "gguf", partial(_gguf, kind=kind), kind[0] == "Q", _NEEDS, _MODELS)
        for kind in ("F16", "BF16", "Q8_0", "Q5_1", "Q4_0")
    ),
    Conversion("GGUF Q4_K_M", "by hand", _gguf_k, True, _NEEDS, (*LINEAR, "gpt2")),
)
