"""Kinds that weights alone show: adapters merged, quantisers, pruning, on copies of real trained models.

Every fine-tune of the manifests' derived pairs is taken as it is, and copied with each treatment in numpy; the kind is
judged from sampled rows of its matrices against its base's. A copy is set against the model it was copied from, and
*trained on* means a full update of 1% of the weights' size on top of the treatment.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.evidence.grid import grid
from lineage_plugin.evidence.lowrank import low_rank, rounding_error
from lineage_plugin.evidence.traits import Facts, kind_of, semi_structured, sparsity
from lineage_plugin.options import Options

Matrix = np.ndarray
_NF4 = np.array(
    [
        *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
    ]
)
_TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}


def stored(values: Matrix, dtype: str) -> Matrix:
    """Round to the storage type."""
    return np.asarray(values).astype(_TYPES[dtype]).astype(np.float32)


def _grouped(weights: Matrix, size: int) -> Matrix:
    return weights.reshape(-1, size if weights.shape[1] % size == 0 else weights.shape[1])


def integers(
    bits: int, size: int | None, *, zero_point: bool = False
) -> Callable[[Matrix, np.random.Generator], Matrix]:
    """Round to nearest integer levels, one scale a group (a row when None)."""

    def treat(weights: Matrix, rng: np.random.Generator) -> Matrix:
        groups = _grouped(weights, size or weights.shape[1]).astype(np.float64)
        if zero_point:
            low, high = np.minimum(groups.min(axis=1), 0)[:, None], np.maximum(groups.max(axis=1), 0)[:, None]
            scale = np.maximum((high - low) / (2**bits - 1), 1e-30)
            zero = np.rint(-low / scale)
            return ((np.clip(np.rint(groups / scale) + zero, 0, 2**bits - 1) - zero) * scale).reshape(weights.shape)
        scale = np.maximum(np.abs(groups).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1), 1e-30)
        return (np.rint(groups / scale) * scale).reshape(weights.shape)

    return treat


def book(size: int) -> Callable[[Matrix, np.random.Generator], Matrix]:
    """Round to NF4."""

    def treat(weights: Matrix, rng: np.random.Generator) -> Matrix:
        groups = _grouped(weights, size)
        scale = np.maximum(np.abs(groups).max(axis=1, keepdims=True), 1e-30)
        return (_NF4[np.abs((groups / scale)[..., None] - _NF4).argmin(axis=-1)] * scale).reshape(weights.shape)

    return treat


def floats(kind: type, top: float, size: int | None) -> Callable[[Matrix, np.random.Generator], Matrix]:
    """Cast to a short float at a scale for each group (a row when None)."""

    def treat(weights: Matrix, rng: np.random.Generator) -> Matrix:
        groups = _grouped(weights, size or weights.shape[1])
        scale = np.maximum(np.abs(groups).max(axis=1, keepdims=True) / top, 1e-30)
        return ((groups / scale).astype(kind).astype(np.float32) * scale).reshape(weights.shape)

    return treat


def adapter(rank: int, size: float) -> Callable[[Matrix, np.random.Generator], Matrix]:
    """Add a product of ``rank`` with a decaying spectrum and ``size`` times the weights' norm."""

    def treat(weights: Matrix, rng: np.random.Generator) -> Matrix:
        decay = np.linspace(1.0, 0.2, rank)
        update = (rng.standard_normal((weights.shape[0], rank)) * decay) @ rng.standard_normal((rank, weights.shape[1]))
        return weights + update * (size * np.linalg.norm(weights) / np.linalg.norm(update))

    return treat


def trained(weights: Matrix, rng: np.random.Generator) -> Matrix:
    """Add a full update of 1% of the weights' size."""
    return weights + 0.01 * np.sqrt(np.mean(weights**2)) * rng.standard_normal(weights.shape)


def by_magnitude(share: float) -> Callable[[Matrix, np.random.Generator], Matrix]:
    """Set the smallest weights to zero."""
    return lambda weights, rng: np.where(np.abs(weights) < np.quantile(np.abs(weights), share), 0, weights)


def two_of_four(weights: Matrix, rng: np.random.Generator) -> Matrix:
    """Keep the two largest of every four neighbours."""
    whole = weights.shape[1] // 4 * 4
    groups = np.abs(weights[:, :whole]).reshape(weights.shape[0], -1, 4)
    kept = np.argsort(np.argsort(groups, axis=2), axis=2) >= 2
    return np.concatenate([weights[:, :whole] * kept.reshape(weights.shape[0], -1), weights[:, whole:]], axis=1)


Treatment = Callable[[Matrix, np.random.Generator], Matrix]
_PLAIN: dict[str, tuple[str, Treatment]] = {
    "int8, row": ("quantized", integers(8, None)),
    "int8, groups of 32": ("quantized", integers(8, 32)),
    "int4, groups of 128": ("quantized", integers(4, 128)),
    "int4 with zero point, groups of 64": ("quantized", integers(4, 64, zero_point=True)),
    "int3, groups of 32": ("quantized", integers(3, 32)),
    "NF4, groups of 64": ("quantized", book(64)),
    "FP8 E4M3, row": ("quantized", floats(ml_dtypes.float8_e4m3fn, 448.0, None)),
    "FP4 E2M1, groups of 32": ("quantized", floats(ml_dtypes.float4_e2m1fn, 6.0, 32)),
    "adapter of rank 1": ("adapter", adapter(1, 0.02)),
    "adapter of rank 4": ("adapter", adapter(4, 0.02)),
    "adapter of rank 16": ("adapter", adapter(16, 0.05)),
    "zeros, 50%": ("pruned", by_magnitude(0.5)),
    "zeros, 2 of 4": ("pruned", two_of_four),
    "trained on": ("finetune", trained),
}


def _both(first: Treatment, second: Treatment) -> Treatment:
    return lambda weights, rng: second(first(weights, rng), rng)


TREATMENTS: dict[str, tuple[str, Treatment]] = {
    **_PLAIN,
    "int4, then trained on": ("finetune", _both(integers(4, 128), trained)),
    "adapter of rank 4, then trained on": ("finetune", _both(adapter(4, 0.02), trained)),
    "adapter of rank 4, then int4": ("quantized", _both(adapter(4, 0.02), integers(4, 128))),
    "zeros, 50%, then int8": ("pruned", _both(by_magnitude(0.5), integers(8, None))),
}
"""For each treatment the kind that is right, and what is done to a matrix."""


def matrices(model: Checkpoint, most: int) -> Iterator[tuple[str, str]]:
    """Yield names and types of up to ``most`` matrices of at least 64 by 64, evenly spread."""
    names = [n for n, t in model.tensors.items() if len(t.shape) == 2 and min(t.shape) >= 64 and t.dtype in _TYPES]
    for place in np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).astype(int)) if names else ():
        yield names[place], model.tensors[names[place]].dtype


def kind(copy: list[Matrix], original: list[Matrix], dtypes: list[str]) -> str | None:
    """Judge the kind from matrices of both."""
    differences = [a - b for a, b in zip(copy, original, strict=True)]
    noise = [rounding_error(rows, dtype) for rows, dtype in zip(copy, dtypes, strict=True)]
    patterns = {semi_structured(rows) for rows in copy}
    size = np.sqrt(sum(float((x**2).sum()) for x in differences) / sum(float((x**2).sum()) for x in original))
    facts = Facts(
        compared=len(copy),
        grids=tuple(grid(rows, dtype) for rows, dtype in zip(copy, dtypes, strict=True)),
        base_grids=tuple(grid(rows, dtype) for rows, dtype in zip(original, dtypes, strict=True)),
        low_rank=low_rank(differences, noise),
        change=float(size),
        zeros=float(np.mean([sparsity(rows) for rows in copy])),
        base_zeros=float(np.mean([sparsity(rows) for rows in original])),
        zero_pattern=patterns.pop() if len(patterns) == 1 else None,
    )
    return kind_of(facts)[0]


def main() -> None:
    """Print the confusion table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path, help="zoo.json or lab.json")
    parser.add_argument("--rows", type=int, default=128, help="rows looked at of each matrix (default: 128)")
    parser.add_argument("--matrices", type=int, default=8, help="matrices of each model (default: 8)")
    parser.add_argument("--models", type=int, default=1000, help="models of each manifest (default: all)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    table: Counter[tuple[str, str, str | None]] = Counter()
    for manifest in arguments.manifests:
        pairs = [pair for pair in json.loads(manifest.read_text())["pairs"] if pair["relation"] == "derived"]
        for pair in pairs[: arguments.models]:
            folders = [manifest.parent / pair[side].split("/")[-1] for side in ("suspect", "base")]
            if not all((folder / "model.safetensors").is_file() for folder in folders):
                continue
            child, base = (open_checkpoint(str(folder), options=Options()) for folder in folders)
            chosen = [
                (name, dtype)
                for name, dtype in matrices(child, arguments.matrices)
                if name in base.tensors and base.tensors[name].shape == child.tensors[name].shape
            ]
            if not chosen:
                continue
            dtypes = [dtype for _, dtype in chosen]
            mine, theirs = (model.read([Selection(name) for name, _ in chosen]) for model in (child, base))
            rows = slice(0, arguments.rows)
            table["a real fine-tune", "finetune", kind([x[rows] for x in mine], [x[rows] for x in theirs], dtypes)] += 1
            for name, (truth, treat) in TREATMENTS.items():
                copies = [stored(treat(x, rng), dtype)[rows] for x, dtype in zip(mine, dtypes, strict=True)]
                table[name, truth, kind(copies, [x[rows] for x in mine], dtypes)] += 1
    print("| treatment | right answer | answers |\n|---|---|---|")
    for name, truth in dict.fromkeys((name, truth) for name, truth, _ in table):
        answers = {answer: count for (n, _, answer), count in table.items() if n == name}
        print(f"| {name} | {truth} | {', '.join(f'{answer} {count}' for answer, count in answers.items())} |")


if __name__ == "__main__":
    main()
