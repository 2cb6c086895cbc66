"""A tiny MLX folder. MLX runs on few machines: what it wrote once is kept in ``data/mlx.safetensors``.

The file was written by ``mlx.core.save_safetensors`` of MLX 0.32.4 on a Linux processor: normal random matrices packed
by ``mlx.core.quantize`` in every mode, and ``expected.NAME``, what ``mlx.core.dequantize`` made of them (scales and
biases cast to float32 before, where they are stored in 16 bits). The settings stand as mlx-lm writes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

__all__ = ["SAMPLES", "SETTINGS", "WRITTEN", "save"]

WRITTEN = Path(__file__).parent / "data" / "mlx.safetensors"

SETTINGS: dict[str, object] = {
    "group_size": 64,
    "bits": 4,
    "mode": "affine",
    **{f"affine{bits}": {"group_size": 64, "bits": bits} for bits in (2, 5, 6, 8)},
    "affine3": {"group_size": 32, "bits": 3},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
    "nvfp4": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
    "mxfp8": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
}


def save(folder: Path, settings: object = SETTINGS) -> None:
    """Copy the file, without what is expected, and its settings."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor for name, tensor in load_file(WRITTEN).items() if not name.startswith("expected.")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "mlx"})
    config = {"model_type": "llama", "quantization": settings, "quantization_config": settings}
    (folder / "config.json").write_text(json.dumps(config))


SAMPLES: dict[str, Callable[[Path], None]] = {"modes": save}
