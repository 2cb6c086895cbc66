"""Safetensors files made byte by byte, right ones and wrong ones, and random selections to read from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from lineage_plugin.checkpoint import Selection

TORCH_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_bytes(header: Mapping[str, object] | bytes | str, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of this header, which may be any bytes, with a length field that may lie."""
    if isinstance(header, Mapping):
        header = json.dumps(header)
    raw = header.encode("utf-8") if isinstance(header, str) else header
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def random_tensors(seed: int, dtype: str = "F32", layers: int = 2, width: int = 24) -> dict[str, torch.Tensor]:
    """Tensors of the ranks that checkpoints hold."""
    generator = torch.Generator().manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"norm.weight": (width,), "scale": (), "conv.weight": (6, 4, 3, 3)}
    for layer in range(layers):
        shapes[f"layers.{layer}.up.weight"] = (3 * width, width)
        shapes[f"layers.{layer}.down.weight"] = (width, 3 * width)
    shapes["experts.gate_up"] = (3, 10, width)
    kind = TORCH_DTYPES[dtype]
    return {name: torch.randn(shape, generator=generator).mul(0.5).to(kind) for name, shape in shapes.items()}


def write_single(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_sharded(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def expected(tensor: torch.Tensor, selection: Selection) -> np.ndarray:
    """What reading a selection must give, by torch alone."""
    values = tensor.to(torch.float32).numpy()
    if selection.width is not None:
        matrix = values.reshape(-1, selection.width)
    elif values.ndim <= 1:
        matrix = values.reshape(-1, 1)
    else:
        matrix = values.reshape(values.shape[0], -1)
    rows = np.arange(matrix.shape[0]) if selection.rows is None else selection.rows
    columns = np.arange(matrix.shape[1]) if selection.columns is None else selection.columns
    return matrix[np.ix_(rows, columns)]


def random_selections(tensors: Mapping[str, torch.Tensor], seed: int) -> Iterator[Selection]:
    """All, rows, columns, both, runs, and nothing, of each tensor; fused experts with their own width."""
    rng = np.random.default_rng(seed)
    for name, tensor in tensors.items():
        width = tensor.shape[-1] if tensor.ndim == 3 else None
        columns = width or (tensor.numel() // tensor.shape[0] if tensor.ndim > 1 else 1)
        height = tensor.numel() // columns

        def some(extent: int) -> np.ndarray:
            return np.sort(rng.choice(extent, rng.integers(1, extent + 1), replace=False))

        start = int(rng.integers(height))
        yield Selection(name, width=width)
        yield Selection(name, rows=some(height), width=width)
        yield Selection(name, columns=some(columns), width=width)
        yield Selection(name, rows=some(height), columns=some(columns), width=width)
        yield Selection(name, rows=np.arange(start, height), width=width)
        yield Selection(name, rows=np.array([], np.int64), width=width)
        yield Selection(name, columns=np.arange(columns // 2, columns), width=width)
