"""Tiny Flax folders: recorded ones by the real writer, one by the msgpack library as flax.serialization uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgpack
import numpy as np
from numpy.typing import NDArray

from .recorded_models import writer

__all__ = ["SAMPLES", "packed"]


def _leaf(value: object) -> msgpack.ExtType:
    """Encode an array as flax/serialization.py does: extension type 1 around shape, type and bytes."""
    assert isinstance(value, np.ndarray)
    inner = msgpack.packb((value.shape, value.dtype.name, value.tobytes()), use_bin_type=True)
    return msgpack.ExtType(1, inner)


def packed(tree: Mapping[str, object]) -> bytes:
    """Encode a tree of arrays."""
    return msgpack.packb(tree, default=_leaf, strict_types=True)


def chunked(array: NDArray[np.float32], pieces: int) -> dict[str, object]:
    """Cut an array as flax/serialization.py does with those of more than 2^30 bytes."""
    parts = np.array_split(array.reshape(-1), pieces)
    shape = {str(n): extent for n, extent in enumerate(array.shape)}
    return {
        "__msgpack_chunked_array__": True,
        "shape": shape,
        "chunks": {str(n): part for n, part in enumerate(parts)},
    }


def _chunks(folder: Path) -> None:
    rng = np.random.default_rng(0)
    tree = {
        "params": {
            "embed": {"embedding": chunked(rng.normal(size=(7, 3)).astype(np.float32), 4)},
            "head": {"kernel": chunked(rng.normal(size=(3, 5)).astype(np.float32), 2), "bias": np.zeros(5, np.float16)},
            "norm": {"scale": np.ones(3, np.float64), "steps": np.arange(2)},
        },
        "step": 12,
    }
    (folder / "flax_model.msgpack").write_bytes(packed(tree))


SAMPLES: dict[str, Callable[[Path], None]] = {
    "bert": writer("bert", "flax"),
    "bert-bf16": writer("bert", "flax-bf16"),
    "bert-shards": writer("bert", "flax-shards"),
    "vit": writer("vit", "flax"),
    "chunks": _chunks,
}
