"""Tiny Keras folders: recorded ones by the real writer, and one by h5py in the layout of other Keras models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from .recorded_models import writer

__all__ = ["SAMPLES"]


def _plain(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(folder / "model.h5", "w") as file:
        file.attrs["backend"] = "tensorflow"
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = [f"dense_{n}" for n in range(9)]
        for n in range(9):
            group = weights.create_group(f"dense_{n}")
            group.create_dataset(f"dense_{n}/kernel:0", data=rng.normal(size=(3, 4)).astype(np.float32))
            group.create_dataset(f"dense_{n}/bias:0", data=rng.normal(size=4).astype(np.float16))
        file.create_dataset("optimizer_weights/Adam/iter:0", data=np.int64(3))


SAMPLES: dict[str, Callable[[Path], None]] = {
    "gpt2": writer("gpt2", "keras"),
    "vit": writer("vit", "keras"),
    "bert-shards": writer("bert", "keras-shards"),
    "plain": _plain,
}
