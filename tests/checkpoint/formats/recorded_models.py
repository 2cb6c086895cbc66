"""Checkpoints of Flax and TensorFlow that cannot be written any more; see ``recorded/README.md``."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

__all__ = ["RECORDED", "recorded", "unpack"]

RECORDED = Path(__file__).parent / "recorded"


def unpack(model: str, kind: str, folder: Path) -> Path:
    """Put a recorded checkpoint into a folder, with its config."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(RECORDED / model / "config.json", folder)
    for file in sorted((RECORDED / model / kind).iterdir()):
        if file.suffix == ".gz":
            (folder / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        else:
            shutil.copy(file, folder)
    return folder


def writer(model: str, kind: str) -> Callable[[Path], None]:
    """Return a function that puts a recorded checkpoint into a folder."""

    def write(folder: Path) -> None:
        unpack(model, kind, folder)

    return write


def recorded(model: str) -> dict[str, NDArray[np.float32]]:
    """Return the weights as PyTorch has them."""
    return load_file(RECORDED / model / "torch" / "model.safetensors")
