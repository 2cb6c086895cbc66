"""Are coins fair when *both* models are quantised? Independent models, relabelled at random and then rounded.

In each draw the base's hidden units and residual channels change places and signs by a uniform draw from its symmetry
group; then both models are rounded by the same scheme. Coins are tossed as a comparison does it, restricted to what
rounding leaves exchangeable, and for contrast without the restriction, as if every number were stored by itself.

The schemes are the rounding of the formats that are read, scaled down to models of a few hundred thousand weights:

* ``int4``, ``int2``: symmetric whole numbers with one more level below zero than above, a scale for 32 in a row;
* ``nf4``: the levels of QLoRA, scales of 32 in a flat run, themselves rounded by the maximum of 48 (double
  quantisation: arXiv:2305.14314);
* ``tensor``: one scale a matrix, four bits;
* ``tiles``: FP8 E4M3, a scale for 16 by 16;
* ``gptq``: three bits, columns one after the other, each corrected by the errors of those before it (arXiv:2210.17323),
  calibrated on the model's own token embeddings.

Usage: ``python -m benchmarks.rounding_null --draws 1000``
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.derivations.layouts import Model
from benchmarks.stages_null import HEADER, Draws, Memory, Tossed, pair_of, relabelled, toss_everything
from lineage_plugin.checkpoint.schemes._bitsandbytes_state import TABLES
from lineage_plugin.checkpoint.types import Encoding
from lineage_plugin.evidence.models import Models, models_of
from lineage_plugin.evidence.pairing import match_groups
from lineage_plugin.evidence.plan import plan_rounds
from lineage_plugin.evidence.sample import read_probes
from lineage_plugin.evidence.tally import Tally
from lineage_plugin.options import Options

__all__ = ["SCHEMES", "Scheme", "quantised", "run", "toss_stored"]

Matrix = NDArray[np.float32]

RUN = 32
"""Neighbours in a row that share a scale."""
SECOND = 48
"""Scales of a flat run that share a scale of their own (``nf4``)."""
TILE = 16
"""Extent of a tile in both directions."""
UNITS, TOKENS, LAYERS = 128, 256, 2
"""What the models are cut down to."""


def symmetric(matrix: Matrix, bits: int, size: int = RUN) -> Matrix:
    """Round to ``-2^(bits-1) .. 2^(bits-1) - 1`` times a scale for ``size`` neighbours in a row; 0: for all."""
    groups = matrix.reshape(-1, size) if size else matrix.reshape(1, -1)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    # compressed-tensors: the range of a symmetric scheme is half a level wider than its largest level.
    scale = np.abs(groups).max(axis=1, keepdims=True) / ((high - low) / 2)
    scale[scale == 0] = 1
    return np.asarray(np.clip(np.rint(groups / scale), low, high) * scale, np.float32).reshape(matrix.shape)


def nested_nf4(matrix: Matrix) -> Matrix:
    """Round to NF4 with scales that are rounded themselves, after their mean was taken away."""
    levels = np.asarray(TABLES["nf4"], np.float32)
    groups = matrix.reshape(-1, RUN)
    scale = np.abs(groups).max(axis=1)
    mean = np.float32(scale.mean(dtype=np.float64))
    parts = np.pad(scale - mean, (0, -scale.shape[0] % SECOND)).reshape(-1, SECOND)
    step = np.abs(parts).max(axis=1, keepdims=True) / 127
    step[step == 0] = 1
    restored = (np.rint(parts / step) * step).reshape(-1)[: scale.shape[0]] + mean
    middle = (levels[1:] + levels[:-1]) / 2
    place = np.searchsorted(middle, groups / np.where(scale == 0, 1, scale)[:, None])
    return np.asarray(levels[place] * restored[:, None], np.float32).reshape(matrix.shape)


def tiles(matrix: Matrix) -> Matrix:
    """Round to FP8 with a scale for a tile."""
    height, width = matrix.shape
    cut = matrix.reshape(height // TILE, TILE, width // TILE, TILE)
    scale = np.abs(cut).max(axis=(1, 3), keepdims=True) / np.float32(448)
    scale[scale == 0] = 1
    return np.asarray((cut / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale).reshape(height, width)


def gptq(matrix: Matrix, inputs: Matrix, bits: int = 3) -> Matrix:
    """Round column after column, a scale for 32 of a row, and spread each error over the columns that are left.

    Args:
        matrix: ``[outputs, inputs]``.
        inputs: ``[samples, inputs]`` what the layer is fed.
        bits: Bits of a level.
    """
    x = inputs.astype(np.float64)
    hessian = x.T @ x / x.shape[0]
    hessian += 0.01 * np.diag(hessian).mean() * np.eye(hessian.shape[0])
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    left, found = matrix.astype(np.float64), np.empty_like(matrix, dtype=np.float64)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    for at in range(matrix.shape[1]):
        if at % RUN == 0:
            scale = np.abs(left[:, at : at + RUN]).max(axis=1) / high
            scale[scale == 0] = 1
        found[:, at] = np.clip(np.rint(left[:, at] / scale), low, high) * scale
        error = (left[:, at] - found[:, at]) / upper[at, at]
        left[:, at:] -= error[:, None] * upper[at, at:]
    return found.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to round a matrix, given what it is fed, and what :class:`Encoding` says of it."""

    rounded: Callable[[Matrix, Matrix | None], Matrix]
    shared: Callable[[tuple[int, ...]], tuple[int, int]]
    fed: bool = False


def _nested_rows(shape: tuple[int, ...]) -> tuple[int, int]:
    return (RUN * SECOND // shape[1] if RUN * SECOND % shape[1] == 0 else 0), RUN


SCHEMES: Mapping[str, Scheme] = {
    "int4": Scheme(lambda m, _: symmetric(m, 4), lambda _: (1, RUN)),
    "int2": Scheme(lambda m, _: symmetric(m, 2), lambda _: (1, RUN)),
    "nf4": Scheme(lambda m, _: nested_nf4(m), _nested_rows),
    "tensor": Scheme(lambda m, _: symmetric(m, 4, 0), lambda _: (-1, -1)),
    "tiles": Scheme(lambda m, _: tiles(m), lambda _: (TILE, TILE)),
    "gptq": Scheme(lambda m, x: gptq(m, m if x is None else x), lambda _: (1, 0), fed=True),
}
"""The schemes by name."""


def quantised(model: Model, scheme: Scheme, *, told: bool = True) -> Memory:
    """Round all matrices of the layers of a Llama.

    Args:
        model: The model.
        scheme: How.
        told: Whether tensors say how they are encoded; else nothing is restricted.
    """
    arrays: dict[str, Matrix] = {}
    shared: dict[str, tuple[int, int]] = {}
    for name, array in model.tensors.items():
        arrays[name] = np.asarray(array, np.float32)
        if "_proj" in name:
            shared[name] = scheme.shared(array.shape)
            arrays[name] = scheme.rounded(arrays[name], _fed(model, name) if scheme.fed else None)
    made = Memory(arrays, model.config)
    if told:
        made.tensors = {
            name: replace(info, encoding=Encoding("rounded", 4, shared[name])) if name in shared else info
            for name, info in made.tensors.items()
        }
    return made


def _fed(model: Model, name: str) -> Matrix:
    """Return what a matrix is fed when tokens go straight into its layer: a function that relabelling carries along."""
    tokens = np.asarray(model.tensors["model.embed_tokens.weight"], np.float64)
    tokens = tokens / np.sqrt(np.mean(tokens**2, axis=1, keepdims=True))
    stem = name.removesuffix("self_attn.o_proj.weight").removesuffix("mlp.down_proj.weight")
    if name.endswith("down_proj.weight"):
        gate, up = (tokens @ np.asarray(model.tensors[f"{stem}mlp.{part}_proj.weight"]).T for part in ("gate", "up"))
        tokens = gate / (1 + np.exp(-gate)) * up
    elif name.endswith("o_proj.weight"):
        heads, key_value = (int(model.config[f"num_{what}_heads"]) for what in ("attention", "key_value"))
        value = tokens @ np.asarray(model.tensors[f"{stem}self_attn.v_proj.weight"]).T
        value = value.reshape(value.shape[0], key_value, -1).repeat(heads // key_value, axis=1)
        tokens = value.reshape(value.shape[0], -1)
    return np.asarray(tokens, np.float32)


def toss_stored(models: Models, options: Options) -> Tossed:
    """Toss every coin of the stored order."""
    pairs, _ = match_groups(models.suspect_anatomy, models.base_anatomy)
    tally = Tally(models.exact, len({pair.base.layer for pair in pairs}))
    for step in plan_rounds(models.suspect, models.base, pairs, seed=options.seed, exhaustive=True):
        tally.add(read_probes(models.suspect, models.base, step.probes, options.seed))
    found = tally.evidence(options, complete=True, describe=False)
    return found.count.coins, found.count.heads, found.log10_e


WAYS: Mapping[str, Callable[[Models, Options], Tossed]] = {"stored order": toss_stored, "all": toss_everything}
"""The stored order alone, and the weighted average of all stages."""


def run(
    pair: tuple[Model, Model],
    name: str,
    draws: int,
    *,
    told: bool = True,
    ways: tuple[str, ...] = tuple(WAYS),
    seed: int = 0,
) -> dict[str, Draws]:
    """Compare a rounded suspect with many relabelled and rounded bases.

    Args:
        pair: Suspect and base, of independent origin.
        name: A key of :data:`SCHEMES`.
        draws: How many relabellings.
        told: Whether coins are restricted to what rounding leaves exchangeable.
        ways: Keys of :data:`WAYS`.
        seed: Seed of the relabellings.

    Returns:
        What each way tossed.
    """
    rng = np.random.default_rng(seed)
    scheme = SCHEMES[name]
    suspect = quantised(pair[0], scheme, told=told)
    found = {way: Draws() for way in ways}
    with threadpool_limits(limits=1):
        for number in range(draws):
            models: Any = models_of(suspect, quantised(relabelled(pair[1], rng), scheme, told=told))
            for way in ways:
                found[way].add(WAYS[way](models, Options(bar=2.0, seed=number)))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="relabellings for each scheme (default: 1000)")
    parser.add_argument("--only", nargs="*", choices=SCHEMES, default=list(SCHEMES), help="schemes (default: all)")
    parser.add_argument("pair", nargs="?", default="examples/liar,examples/base", metavar="SUSPECT,BASE")
    arguments = parser.parse_args()
    pair = pair_of(arguments.pair, layers=LAYERS, units=UNITS, tokens=TOKENS)
    print(HEADER)
    for name in arguments.only:
        for told in (True, False):
            ways = tuple(WAYS) if told else ("stored order",)
            for way, drawn in run(pair, name, arguments.draws, told=told, ways=ways).items():
                print(drawn.row(f"{name}{'' if told else ', not restricted'}: {way}"), flush=True)


if __name__ == "__main__":
    main()
