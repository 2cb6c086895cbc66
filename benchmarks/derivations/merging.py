"""Merges of two children of one base, tensor by tensor.

``weights`` are what the recipe asks for. What a least-squares fit of the merged difference on the children's
differences finds is another thing for SLERP, TIES and DARE, and is computed by :func:`fitted` for the truth.
"""

from __future__ import annotations

import numpy as np

from benchmarks.derivations.layouts import Array, Model

__all__ = ["dare", "fitted", "linear", "slerp", "ties"]

Weights = tuple[float, float]


def linear(one: Model, two: Model, weights: Weights) -> Model:
    """Weighted mean (Wortsman et al. 2022)."""
    a, b = np.float32(weights)
    return one.with_tensors({name: a * array + b * two.tensors[name] for name, array in one.tensors.items()})


def slerp(one: Model, two: Model, weights: Weights) -> Model:
    """Along the great circle between the two, each tensor taken as one vector."""
    made = {}
    for name, array in one.tensors.items():
        other = two.tensors[name]
        cosine = float(np.vdot(array, other) / (np.linalg.norm(array) * np.linalg.norm(other) + 1e-30))
        angle = np.arccos(np.clip(cosine, -1.0, 1.0))
        a, b = weights if angle < 1e-4 else (np.sin(w * angle) / np.sin(angle) for w in weights)
        made[name] = (a * array + b * other).astype(np.float32)
    return one.with_tensors(made)


def ties(base: Model, one: Model, two: Model, weights: Weights, density: float = 0.5) -> Model:
    """Trim small changes, elect a sign by mass, mean of those that agree (Yadav et al. 2023)."""
    made = {}
    for name, start in base.tensors.items():
        changes = np.stack([_trimmed(child.tensors[name] - start, density) for child in (one, two)])
        weighted = changes * np.float32(weights).reshape(2, *[1] * start.ndim)
        agree = np.sign(weighted) == np.sign(weighted.sum(0))
        share = (agree * np.float32(weights).reshape(2, *[1] * start.ndim)).sum(0)
        made[name] = (start + (weighted * agree).sum(0) / np.where(share > 0, share, 1)).astype(np.float32)
    return base.with_tensors(made)


def _trimmed(change: Array, density: float) -> Array:
    """Only the greatest elements of a change."""
    return np.where(np.abs(change) >= np.quantile(np.abs(change), 1 - density), change, np.float32(0))


def dare(
    base: Model, one: Model, two: Model, weights: Weights, rng: np.random.Generator, density: float = 0.5
) -> Model:
    """Drop changes at random, rescale what is left, add with weights (Yu et al. 2023)."""
    made = {}
    for name, start in base.tensors.items():
        total = start.astype(np.float64)
        for child, weight in zip((one, two), weights, strict=True):
            change = child.tensors[name] - start
            total = total + weight / density * change * (rng.random(change.shape) < density)
        made[name] = total.astype(np.float32)
    return base.with_tensors(made)


def fitted(base: Model, one: Model, two: Model, merged: Model) -> Weights:
    """Least-squares weights of the children's differences in the merged one's, over the matrices of all blocks."""
    normal, right = np.zeros((2, 2)), np.zeros(2)
    for name, start in base.tensors.items():
        if start.ndim == 2 and name.startswith(base.layout.prefix):
            x = np.stack([(child.tensors[name] - start).ravel().astype(np.float64) for child in (one, two)])
            normal += x @ x.T
            right += x @ (merged.tensors[name] - start).ravel()
    a, b = np.linalg.solve(normal, right)
    return float(a), float(b)
