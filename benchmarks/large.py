"""Large models that were disguised or changed: seconds, memory and bytes of a comparison of local folders.

``layer``: the units of one layer of an 8B model, relabelled. ``scrubbed``: models of 1B shape whose every label was
redrawn (units, heads, signs, scales, value channels, the basis of the residual stream), of 8, 16 and 32 layers.
``plain``: the same models as stored, a child and an unrelated one. Weights are synthetic (``benchmarks/synthetic.py``)
and written to a folder matrix by matrix; the shallower models are the first layers of the deepest. Every comparison
runs in a process of its own, so that the peak is its own; of the peak, what is mapped from the files is no memory that
another process would miss, so the rest is shown, too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.synthetic import EMBEDDING, HEAD, Changes, Shape, describe, gain, write
from lineage_plugin.api import compare
from lineage_plugin.checkpoint import Selection, open_checkpoint
from lineage_plugin.evidence.units import match_units
from lineage_plugin.options import Options

__all__ = ["SMALL_1B", "Disguise", "Peak", "measured", "shallower"]

Array = NDArray[Any]

SMALL_1B = Shape(layers=16, width=2048, units=8192, heads=32, kv_heads=8, head_dim=64, vocabulary=32000)
"""The shapes of a Llama of 1.2 billion parameters, with a smaller vocabulary."""
LAYER_8B = Shape(layers=1)
LAYERS_A_FILE = 4
LARGEST_FACTOR = 4.0
SEED = 1


class Disguise:
    """A rewrite of a model of Llama layout that changes no output: all labels are redrawn.

    Unlike :mod:`benchmarks.scrubs` it works matrix by matrix: the draws of a layer are made anew from their seeds.

    Args:
        shape: Extents of the model.
        role: Role of the model, which its norm gains depend on.
        seed: Seed of all draws.
        rotate: Whether gains are folded and the stream is rotated.
        mix: Whether value channels are mixed inside their heads.
    """

    def __init__(self, shape: Shape, role: str, seed: int, *, rotate: bool = True, mix: bool = True) -> None:
        self._shape, self._role, self._seed, self._mix = shape, role, seed, mix
        self._rotation = _orthogonal(np.random.default_rng([seed, 0]), shape.width) if rotate else None

    def __call__(self, name: str, matrix: Array) -> Array:
        """Return the disguised tensor of this name."""
        if matrix.ndim == 1:
            return matrix if self._rotation is None else np.ones_like(matrix)
        if name == EMBEDDING:
            return self._read(matrix, None)
        if name == HEAD:
            return self._read(matrix, 1)
        layer, kind = int(name.split(".")[2]), name.split(".")[4]
        before = 2 + 2 * layer
        if kind in ("gate_proj", "up_proj", "down_proj"):
            order, sign, factor = self._neurons(layer)
            if kind == "gate_proj":
                return self._read(matrix[order], before + 1)
            if kind == "up_proj":
                return self._read(matrix[order] * (sign * factor)[:, None], before + 1)
            return self._write(matrix[:, order] * (sign / factor))
        heads, turns, mixes = self._heads(layer)
        if kind in ("q_proj", "k_proj"):
            return self._read(self._by_head(matrix, heads, turns), before)
        if kind == "v_proj":
            values = matrix.reshape(self._shape.kv_heads, self._shape.head_dim, -1)[heads]
            return self._read((mixes @ values).reshape(matrix.shape), before)
        # Columns of O, grouped by key-value head; each query head of a group undoes the mixing of the group's values.
        undo = np.linalg.inv(mixes).transpose(0, 2, 1)[:, None]
        columns = matrix.T.reshape(self._shape.kv_heads, -1, self._shape.head_dim, self._shape.width)[heads]
        return self._write((undo @ columns).reshape(-1, self._shape.width).T)

    def _read(self, matrix: Array, number: int | None) -> Array:
        if self._rotation is None:
            return matrix
        if number is not None:
            matrix = matrix * gain(self._role, number, self._shape.width)
        return np.asarray(matrix @ self._rotation)

    def _write(self, matrix: Array) -> Array:
        return matrix if self._rotation is None else np.asarray(self._rotation.T @ matrix)

    def order(self, layer: int) -> Array:
        """Return the neuron that each neuron of the disguised layer was."""
        return self._neurons(layer)[0]

    def _neurons(self, layer: int) -> tuple[Array, Array, Array]:
        rng = np.random.default_rng([self._seed, 1, layer])
        units = self._shape.units
        factor = np.exp(rng.uniform(-np.log(LARGEST_FACTOR), np.log(LARGEST_FACTOR), units))
        return rng.permutation(units), rng.choice(np.float32([-1, 1]), units), factor.astype(np.float32)

    def _heads(self, layer: int) -> tuple[Array, Array, Array]:
        rng = np.random.default_rng([self._seed, 2, layer])
        heads, size = self._shape.kv_heads, self._shape.head_dim
        turns = np.tile(rng.choice(np.float32([-1, 1]), (heads, size // 2)), (1, 2))
        if not self._mix:
            order = np.stack([rng.permutation(size) for _ in range(heads)])
            mixes = rng.choice(np.float32([-1, 1]), (heads, size, 1)) * np.eye(size, dtype=np.float32)[order]
        else:
            mixes = np.stack(
                [
                    _orthogonal(rng, size) * np.exp(rng.uniform(-0.7, 0.7, size)) @ _orthogonal(rng, size)
                    for _ in range(heads)
                ]
            ).astype(np.float32)
        return rng.permutation(heads), turns, mixes

    def _by_head(self, matrix: Array, heads: Array, turns: Array) -> Array:
        """Reorder key-value heads with their query heads, and turn the rotary pairs of each group."""
        rows = matrix.reshape(self._shape.kv_heads, -1, self._shape.head_dim, matrix.shape[1])[heads]
        return np.asarray((rows * turns[:, None, :, None]).reshape(matrix.shape))


def _orthogonal(rng: np.random.Generator, size: int) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((size, size)).astype(np.float32))
    return np.asarray(q * np.sign(np.diag(r)))


def shallower(source: Path, target: Path, shape: Shape) -> Path:
    """Make a model of the first layers of another, whose files hold whole layers; the files are linked, not copied.

    Args:
        source: The deeper model, as :func:`_build` wrote it.
        target: Where to.
        shape: Extents of the shallower model.

    Returns:
        The folder.
    """
    target.mkdir(parents=True, exist_ok=True)
    weight_map = json.loads((source / "model.safetensors.index.json").read_text())["weight_map"]
    kept = {name: weight_map[name] for name, _ in shape.tensors()}
    for file in sorted(set(kept.values())):
        if not (target / file).exists():
            os.link(source / file, target / file)
    describe(target, shape, kept, sum((target / file).stat().st_size for file in set(kept.values())))
    return target


class Peak:
    """Largest memory of this process that belongs to no file, looked at every 20 ms, in bytes (Linux; else 0)."""

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while status.exists() and not self._stop.wait(0.02):
            line = next((line for line in status.read_text().splitlines() if line.startswith("RssAnon")), "")
            self.bytes = max(self.bytes, 1024 * int(line.split()[1]) if line else 0)


def measured(suspect: Path, base: Path, **chosen: Any) -> dict[str, Any]:
    """Compare two models and return what it took and what was found."""
    calls: list[tuple[float, str]] = []
    start, used = time.perf_counter(), time.process_time()
    with Peak() as peak:
        report = compare(
            str(suspect),
            str(base),
            options=Options(**chosen),
            progress=lambda stage, _done, _all: calls.append((time.perf_counter() - start, stage)),
        )
    seconds = time.perf_counter() - start
    found = report.comparisons[0]
    times = [0.0, *(at for at, _ in calls), seconds]
    return {
        "relation": found.relation,
        "log10_e": found.evidence.log10_e,
        "calibrated": None if found.calibrated is None else found.calibrated.log10_value,
        "stages": [stage.name for stage in found.evidence.stages],
        "seconds": seconds,
        "processor": time.process_time() - used,
        "maxrss": _maxrss(),
        "anonymous": peak.bytes,
        "read": [cost.tensor_bytes for cost in (found.suspect_cost, found.base_cost)],
        "silence": max(after - before for before, after in pairwise(times)),
        "limits": list(found.limits),
        "said": list(found.scrubbed.how) if found.scrubbed else [],
    }


def _build(folder: Path, role: str, shape: Shape, disguised: str | None = None) -> Path:
    """Write a model in files of whole layers, in a process of its own, unless it is there."""
    if not (folder / "config.json").exists():
        _apart("build", str(folder), role, json.dumps(asdict(shape)), disguised or "")
    return folder


def _written(folder: Path, role: str, shape: Shape, disguised: str) -> None:
    start = time.perf_counter()
    rewrite = None
    if disguised:
        rewrite = Disguise(shape, role, SEED, rotate=disguised == "all", mix=disguised == "all")
    write(folder, role, shape, max(2, shape.layers // LAYERS_A_FILE + 2), changes=Changes(rewrite=rewrite), whole=True)
    print(f"wrote {folder} in {time.perf_counter() - start:.0f} s, {_maxrss() / 1e9:.1f} GB at most", file=sys.stderr)


def _maxrss() -> int:
    """Return the largest resident memory of this process so far, mapped files included, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _apart(*arguments: str) -> str:
    """Run this module in a process of its own and return what it printed."""
    command = [sys.executable, "-m", "benchmarks.large", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _row(name: str, found: dict[str, Any]) -> str:
    calibrated = "" if found["calibrated"] is None else f"{found['calibrated']:.0f}"
    read = "/".join(f"{size / 1e9:.2f}" for size in found["read"])
    return (
        f"| {name} | {found['relation']} | {found['log10_e']:.1f} | {calibrated} | {', '.join(found['stages'])} "
        f"| {found['seconds']:.0f} | {found['processor']:.0f} | {found['maxrss'] / 1e9:.2f} "
        f"| {found['anonymous'] / 1e9:.2f} | {read} | {found['silence']:.0f} |"
    )


HEADING = (
    "| pair | relation | log10 E | calibrated | stages | seconds | processor s | peak GB | of it not mapped "
    "| GB read | longest silence s |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def _table(root: Path, which: str, depths: list[int]) -> None:
    shape = replace(SMALL_1B, layers=max(depths))
    pairs = {"scrubbed": [("child", "all")], "plain": [("child", ""), ("other", "")], "other": [("other", "all")]}[
        which
    ]
    base = _build(root / "base", "base", shape)
    print(HEADING, flush=True)
    for role, disguised in pairs:
        name = f"{role}-{disguised or 'plain'}"
        suspect = _build(root / name, role, shape, disguised)
        for depth in depths:
            short = replace(shape, layers=depth)
            sides = [shallower(side, root / f"{side.name}-{depth}", short) for side in (suspect, base)]
            found = json.loads(_apart("pair", *map(str, sides)))
            print(_row(f"{name}, {depth} layers", found), flush=True)
            for said in (*found["said"], *found["limits"]):
                print(f"    {said}", file=sys.stderr)


def _layer(root: Path) -> None:
    """Compare models of one layer of 8B size with units and heads relabelled; then match all units by the gate."""
    base = _build(root / "layer-base", "base", LAYER_8B)
    suspect = _build(root / "layer-child", "child", LAYER_8B, "labels")
    print(HEADING)
    print(_row("one layer of 14,336 x 4,096", json.loads(_apart("pair", str(suspect), str(base)))), flush=True)
    print(_apart("match", str(suspect), str(base)))


def _match(suspect: Path, base: Path) -> str:
    """Match all units of the first layers of two models by their gates, and say what it took."""
    name = "model.layers.0.mlp.gate_proj.weight"
    sides = [open_checkpoint(str(side), options=Options()) for side in (suspect, base)]
    start, used = time.perf_counter(), time.process_time()
    with Peak() as peak, threadpool_limits(limits=1):
        gates = [side.read([Selection(name)])[0] for side in sides]
        found = match_units(gates[0], gates[1], even=False)
    seconds, units = time.perf_counter() - start, gates[1].shape[0]
    order = Disguise(LAYER_8B, "child", SEED, rotate=False).order(0)
    right = int((order[found.suspect_rows] == found.base_rows).sum())
    return (
        f"all {units:,} units by the gate: {right:,} of {found.base_rows.shape[0]:,} matches right, {seconds:.0f} s, "
        f"{time.process_time() - used:.0f} s of one processor; "
        f"peak {_maxrss() / 1e9:.2f} GB, {peak.bytes / 1e9:.2f} GB "
        "of it not mapped"
    )


def main() -> None:
    """Build, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["layer", "scrubbed", "plain", "other", "pair", "match", "build"])
    parser.add_argument("of", nargs="*", help="for pair and match: two folders, compared in this process")
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 16, 32], help="depths (default: 8 16 32)")
    parser.add_argument("--folder", type=Path, help="where the models are, or are to be written")
    arguments = parser.parse_args()
    if arguments.what == "build":
        folder, role, shape, disguised = arguments.of
        _written(Path(folder), role, Shape(**json.loads(shape)), disguised)
        return
    if arguments.what == "match":
        print(_match(*map(Path, arguments.of)))
        return
    if arguments.what == "pair":
        print(json.dumps(measured(*map(Path, arguments.of))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.folder or Path(scratch)
        if arguments.what == "layer":
            _layer(root)
        else:
            _table(root, arguments.what, sorted(arguments.layers))


if __name__ == "__main__":
    main()
