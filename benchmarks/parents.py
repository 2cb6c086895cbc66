"""Merge weights and closest parents, on merges built from trained models.

Run from the root of the repository, with the models of :mod:`benchmarks.train_lab`::

    python -m benchmarks.parents LAB [LAB ...]

For every trained family of a base and two descendants the usual merges are computed here, rounded to bfloat16, and
weighed; the error is the largest deviation of a weight from the recipe's. Then every known descendant is offered a
choice between its parent and other members of the family.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy import stats

from lineage_plugin.anatomy import analyse
from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.evidence.closest import closest_parent
from lineage_plugin.evidence.family_read import Member
from lineage_plugin.evidence.parents import merge_weights
from lineage_plugin.options import Options

__all__ = ["MERGES", "Weights", "merged", "read", "save"]

Weights = Mapping[str, NDArray[np.float64]]
"""Tensors of a model by name."""

_Merge = Callable[[Sequence[NDArray[np.float64]], NDArray[np.float64], Sequence[float], np.random.Generator], NDArray]

DENSITY = 0.5


def _linear(
    parents: Sequence[NDArray], ancestor: NDArray, weights: Sequence[float], rng: np.random.Generator
) -> NDArray:
    """Weighted mean of the parents."""
    return sum(w * p for w, p in zip(weights, parents, strict=True)) / sum(weights)


def _arithmetic(
    parents: Sequence[NDArray], ancestor: NDArray, weights: Sequence[float], rng: np.random.Generator
) -> NDArray:
    """Ancestor plus weighted differences (task arithmetic)."""
    return ancestor + sum(w * (p - ancestor) for w, p in zip(weights, parents, strict=True))


def _slerp(
    parents: Sequence[NDArray], ancestor: NDArray, weights: Sequence[float], rng: np.random.Generator
) -> NDArray:
    """Spherical interpolation of two tensors; the second weight is the place on the arc."""
    one, two = parents
    cosine = float((one * two).sum() / max(np.linalg.norm(one) * np.linalg.norm(two), 1e-300))
    if abs(cosine) > 0.9995:
        return (1 - weights[1]) * one + weights[1] * two
    angle = np.arccos(cosine)
    return (np.sin((1 - weights[1]) * angle) * one + np.sin(weights[1] * angle) * two) / np.sin(angle)


def _dare(parents: Sequence[NDArray], ancestor: NDArray, weights: Sequence[float], rng: np.random.Generator) -> NDArray:
    """Task arithmetic on differences of which half were dropped at random and the rest doubled."""
    kept = [(p - ancestor) * (rng.random(p.shape) < DENSITY) / DENSITY for p in parents]
    return ancestor + sum(w * d for w, d in zip(weights, kept, strict=True))


def _ties(parents: Sequence[NDArray], ancestor: NDArray, weights: Sequence[float], rng: np.random.Generator) -> NDArray:
    """Task arithmetic on the larger half of the differences, those of the minority sign dropped."""
    kept = []
    for p in parents:
        d = p - ancestor
        kept.append(d * (np.abs(d) >= np.quantile(np.abs(d), 1 - DENSITY)))
    raised = np.stack([w * d for w, d in zip(weights, kept, strict=True)])
    agrees = np.sign(raised) == np.sign(raised.sum(axis=0))
    mass = (np.asarray(weights).reshape(-1, *[1] * ancestor.ndim) * agrees).sum(axis=0)
    return ancestor + (raised * agrees).sum(axis=0) / np.where(mass > 0, mass, 1.0)


MERGES: Mapping[str, _Merge] = {
    "linear": _linear,
    "task arithmetic": _arithmetic,
    "slerp": _slerp,
    "dare": _dare,
    "ties": _ties,
}
"""Ways to merge one tensor, by name."""


def merged(
    style: str, parents: Sequence[Weights], ancestor: Weights, weights: Sequence[float], *, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Merge whole models tensor by tensor.

    Args:
        style: A key of :data:`MERGES`.
        parents: The parents.
        ancestor: Their common ancestor.
        weights: One a parent.
        seed: Seed of what is dropped.

    Returns:
        The tensors.
    """
    rng = np.random.default_rng(seed)
    return {name: MERGES[style]([p[name] for p in parents], ancestor[name], weights, rng) for name in ancestor}


def read(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Read a model's tensors."""
    return {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}


def save(folder: Path, weights: Weights, like: Path, dtype: type = ml_dtypes.bfloat16) -> Path:
    """Write a model beside the config of another one."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(v.astype(dtype)) for name, v in weights.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_bytes((like / "config.json").read_bytes())
    return folder


def member(folder: Path) -> Member:
    """Open a model."""
    checkpoint = open_checkpoint(str(folder), options=Options())
    return Member(folder.name, checkpoint, analyse(checkpoint.tensors, checkpoint.config))


CONTINUED = ("child", "far", "farA", "farB", "farC")
"""Ends of the names of models that were continued from the base of their family, where no index says more."""


class _Lab:
    """Trained models of folders that belong together, and which was continued from which."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.paths: dict[str, Path] = {}
        self.parents: dict[str, str] = {}
        for folder in folders:
            found = {path.name: path for path in sorted(folder.iterdir()) if (path / "model.safetensors").is_file()}
            self.paths |= found
            for name in found:
                family, _, role = name.rpartition("-")
                if role in CONTINUED:
                    self.parents.setdefault(name, f"{family}-base")
            for index in sorted(folder.glob("lab*.json")):
                for name, record in json.loads(index.read_text())["records"].items():
                    if record.get("role") == "child" and isinstance(record.get("parent"), str):
                        self.parents[name] = record["parent"]

    def children(self, name: str) -> list[Path]:
        """Return the models that were continued from one."""
        return [self.paths[child] for child, parent in self.parents.items() if parent == name and child in self.paths]

    def families(self, children: int) -> Iterator[tuple[Path, list[Path]]]:
        """Yield the base and the descendants of each family that has at least so many."""
        for name, path in self.paths.items():
            if name not in self.parents and len(found := self.children(name)) >= children:
                yield path, found


def share(hits: int, trials: int) -> str:
    """Return a share with its exact (Clopper-Pearson) 95% interval."""
    if not trials:
        return "none tried"
    found = stats.binomtest(hits, trials).proportion_ci(method="exact")
    return f"{hits}/{trials} ({100 * found.low:.0f} to {100 * found.high:.0f}%)"


def _noisy(weights: Weights, ancestor: Weights, part: float, seed: int) -> dict[str, NDArray[np.float64]]:
    """Add dense noise, as a share of the length of the change: a stand-in for training on after the merge."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, value in weights.items():
        length = np.sqrt(np.mean((value - ancestor[name]) ** 2))
        result[name] = value + part * length * rng.normal(size=value.shape)
    return result


def _merges(lab: _Lab, scratch: Path) -> None:
    """Print the weight error of every style."""
    errors: dict[tuple[str, bool], list[float]] = defaultdict(list)
    inside: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    named: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    number = 0
    for base, children in lab.families(2):
        ancestor = read(base)
        for one, two in list(combinations(children, 2))[:3]:
            loaded = [read(one), read(two)]
            for style in MERGES:
                for weights in ((0.3, 0.7), (0.5, 0.5), (0.85, 0.15)):
                    for part in (0.0, 0.2):
                        number += 1
                        made = merged(style, loaded, ancestor, weights, seed=number)
                        made = _noisy(made, ancestor, part, number) if part else made
                        suspect = save(scratch / f"merge{number}", made, base)
                        for known in (True, False):
                            if not known and style == "ties":
                                continue
                            fit = merge_weights(
                                member(suspect), [member(one), member(two)], member(base) if known else None
                            )
                            key = (style + (", noise" if part else ""), known)
                            got = [parent.weight for parent in fit.parents[:2]]
                            if any(w.estimate is None for w in got):
                                continue
                            for w, truth in zip(got, weights, strict=True):
                                errors[key].append(abs((w.estimate or 0.0) - truth))
                                inside[key].append((w.low or 0.0) - 1e-3 <= truth <= (w.high or 0.0) + 1e-3)
                            named[key].append(fit.style == ("linear" if style == "task arithmetic" else style))
                        (suspect / "model.safetensors").unlink()
    print("| merge | ancestor | weights | mean error | largest error | in the interval | style named |")
    print("|---|---|---|---|---|---|---|")
    for key, found in errors.items():
        print(
            f"| {key[0]} | {'known' if key[1] else 'unknown'} | {len(found)} | {np.mean(found):.4f} | {max(found):.4f} "
            f"| {share(sum(inside[key]), len(inside[key]))} | {share(sum(named[key]), len(named[key]))} |",
            flush=True,
        )


def _closest(lab: _Lab, scratch: Path) -> None:
    """Offer every descendant its parent and others, and print how often the right one is chosen."""
    table: dict[str, list[bool | None]] = defaultdict(list)
    number = 0

    def ask(kind: str, suspect: Path, candidates: Sequence[Path], ancestor: Path | None, truth: str | None) -> None:
        found = closest_parent(
            member(suspect), [member(c) for c in candidates], member(ancestor) if ancestor is not None else None
        )
        right = found.choice == truth
        table[kind].append(right if found.choice is not None or truth is None else None)
        if found.choice is not None and not right:
            print(f"wrong: {suspect.name} of {truth}, answered {found.choice}", flush=True)

    for base, children in lab.families(1):
        ancestor = read(base)
        for child, rival in permutations(children, 2):
            ask("trained sibling: the base", child, [base, rival], base, base.name)
        for parent in children:
            for path in lab.children(parent.name):
                ask("trained grandchild: its parent", path, [base, parent], base, parent.name)
                ask("the same, base not known as such", path, [base, parent], None, parent.name)
        for one, two in list(combinations(children, 2))[:3]:
            first, second = read(one), read(two)
            for part in (0.1, 0.5):
                # The update of one child, on top of the other: a grandchild whose update is real, yet correlated.
                number += 1
                moved = {n: first[n] + part * (second[n] - ancestor[n]) for n in first}
                suspect = save(scratch / f"moved{number}", _noisy(moved, ancestor, 0.1, number), base)
                ask(f"other child's update times {part}: its parent", suspect, [base, one], base, one.name)
            number += 1
            half = merged("linear", [first, second], ancestor, (0.5, 0.5))
            ask("merge: neither", save(scratch / f"half{number}", half, base), [one, two], base, None)
    print("\n| suspect: truth | right | abstained | wrong |\n|---|---|---|---|")
    for kind, answers in table.items():
        wrong = sum(answer is False for answer in answers)
        print(
            f"| {kind} | {share(sum(answer is True for answer in answers), len(answers))} "
            f"| {sum(answer is None for answer in answers)} | {share(wrong, len(answers))} |",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "lab", nargs="+", type=Path, help="folders of trained models; names count once, the last folder wins"
    )
    arguments = parser.parse_args(argv)
    lab = _Lab(arguments.lab)
    with tempfile.TemporaryDirectory() as scratch:
        _merges(lab, Path(scratch))
        _closest(lab, Path(scratch))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
