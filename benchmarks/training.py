"""Train small language models from random weights, on text that every machine has.

Lineage statistics are only as good as the models they were tried on, and those must have *learned* something: random
matrices have neither rows of unequal energy nor learned directions. This module holds what the training laboratory
(:mod:`benchmarks.train_lab`) and the example checkpoints (:mod:`scripts.train_examples`) share: the text, the order in
which it is seen, the optimisers and the loop.

The text is the standard library of the running Python, read as bytes (vocabulary 256), in three disjoint parts:

========== ==========================================================
``code``   program text of one half of the files
``other``  program text of a quarter of the files, none of them above
``docs``   docstrings and comments of the last quarter
========== ==========================================================
"""

from __future__ import annotations

import ast
import hashlib
import io
import math
import sysconfig
import time
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["MASK", "ByteArray", "Encoder", "Recipe", "Result", "evaluate", "text", "train", "unigram_loss"]

MASK = 256
"""Token id that hides a byte from a masked language model."""

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "encodings", "pydoc_data"}
BLOCK = 2048
HELD_OUT = 20
MASKED_SHARE = 0.15

ByteArray = NDArray[np.uint8]
Encoder = Callable[[ByteArray], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained.

    Attributes:
        data: Part of the text: ``code``, ``other`` or ``docs``.
        order: Seed of the order in which the text is seen.
        steps: Optimiser steps.
        optimizer: ``adamw``, ``sgd`` (Nesterov momentum), ``lion`` or ``muon`` (AdamW for what is no matrix).
        lr: Peak learning rate, reached by a linear warm-up of 5% of the steps and left by a cosine to a tenth.
        weight_decay: Decoupled weight decay.
        batch: Sequences per step.
        length: Tokens per sequence.
    """

    data: str
    order: int
    steps: int
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.1
    batch: int = 16
    length: int = 96


@dataclass(frozen=True, slots=True)
class Result:
    """What training reached, in nats per byte.

    Attributes:
        loss: Loss on held-out text of the kind trained on.
        unigram: Loss of byte frequencies alone on the same text; a model that has learned is clearly below.
        seconds: Wall-clock time.
    """

    loss: float
    unigram: float
    seconds: float


@cache
def text(part: str) -> ByteArray:
    """Read one part of the text.

    Args:
        part: ``code``, ``other`` or ``docs``.

    Returns:
        The bytes, in an order of files that depends on their names only.
    """
    quarter = {"code": (0, 1), "other": (2,), "docs": (3,)}[part]
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [f for f in root.rglob("*.py") if not SKIPPED_FOLDERS & set(f.relative_to(root).parts)]
    digests = sorted((hashlib.sha256(f.relative_to(root).as_posix().encode()).digest(), f) for f in files)
    pieces = []
    for digest, file in digests:
        if digest[0] % 4 in quarter:
            source = file.read_bytes()
            pieces.append("\n".join(_documentation(source)).encode() if part == "docs" else source)
    return np.frombuffer(b"\n".join(pieces), dtype=np.uint8)


def _documentation(source: bytes) -> Iterator[str]:
    """Docstrings, then comments, of one source file."""
    try:
        tree = ast.parse(source)
        comments = [
            t.string.lstrip("# ") for t in tokenize.tokenize(io.BytesIO(source).readline) if t.type == tokenize.COMMENT
        ]
    except (SyntaxError, ValueError, tokenize.TokenError):
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (doc := ast.get_docstring(node)):
            yield doc
    yield from comments


def _split(part: str) -> tuple[ByteArray, ByteArray]:
    """Text to train on and held-out text: every twentieth block of 2,048 bytes is held out."""
    data = text(part)
    blocks = data[: len(data) // BLOCK * BLOCK].reshape(-1, BLOCK)
    held = np.arange(len(blocks)) % HELD_OUT == HELD_OUT // 2
    return blocks[~held].reshape(-1), blocks[held].reshape(-1)


def unigram_loss(part: str) -> float:
    """Cross-entropy of held-out text under the byte frequencies of the rest, in nats per byte."""
    seen, held = _split(part)
    counts = np.bincount(seen, minlength=256) + 1.0
    return float(-np.log(counts / counts.sum())[held].mean())


def _windows(data: ByteArray | NDArray[np.int64], recipe: Recipe, generator: np.random.Generator) -> torch.Tensor:
    """One batch of windows at random places, ``[batch, length]``."""
    start = generator.integers(0, len(data) - recipe.length, size=recipe.batch)
    return torch.from_numpy(data[start[:, None] + np.arange(recipe.length)].astype(np.int64))


def _loss(model: Any, tokens: torch.Tensor, generator: np.random.Generator, masked: bool) -> torch.Tensor:
    """Mean cross-entropy: of the next byte, or of hidden bytes for a masked language model."""
    if not masked:
        return model(input_ids=tokens, labels=tokens, use_cache=False).loss  # type: ignore[no-any-return]
    hidden = torch.from_numpy(generator.random(tokens.shape) < MASKED_SHARE)
    labels = tokens.masked_fill(~hidden, -100)
    return model(input_ids=tokens.masked_fill(hidden, MASK), labels=labels).loss  # type: ignore[no-any-return]


class _Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, with decoupled weight decay (Chen et al. 2023, "Symbolic discovery")."""

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                update = torch.lerp(momentum, p.grad, 0.1).sign_()
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                momentum.lerp_(p.grad, 0.01)


def _optimizers(model: Any, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The optimisers of a recipe; matrices decay, vectors do not, as is usual."""
    params = [p for p in model.parameters() if p.requires_grad]
    matrices = {"params": [p for p in params if p.ndim >= 2], "weight_decay": recipe.weight_decay}
    vectors = {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}
    groups = [g for g in (matrices, vectors) if g["params"]]
    if recipe.optimizer == "adamw":
        return [torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.95), fused=True)]
    if recipe.optimizer == "sgd":
        return [torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)]
    if recipe.optimizer == "lion":
        return [_Lion(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)]
    if recipe.optimizer == "muon":
        # Muon is for hidden matrices; embeddings and vectors take AdamW, at a rate that scales with Muon's.
        names = {id(p): n for n, p in model.named_parameters()}
        table = [p for p in params if p.ndim == 2 and ("emb" in names[id(p)] or "head" in names[id(p)])]
        kept = {id(p) for p in table}
        hidden = [p for p in params if p.ndim == 2 and id(p) not in kept]
        rest = [p for p in params if p.ndim != 2] + table
        return [
            torch.optim.Muon(hidden, lr=recipe.lr, weight_decay=recipe.weight_decay),
            torch.optim.AdamW(rest, lr=recipe.lr / 10, betas=(0.9, 0.95), weight_decay=0.0),
        ]
    raise ValueError(f"unknown optimizer {recipe.optimizer!r}")


def train(model: Any, recipe: Recipe, encode: Encoder | None = None) -> Result:
    """Train a model in place.

    Args:
        model: A transformers model for (masked) language modelling, float32.
        recipe: How.
        encode: From bytes to the model's tokens, for a model that does not read bytes.

    Returns:
        What was reached. The same model, recipe and text give the same weights on the same machine.
    """
    masked = "MaskedLM" in type(model).__name__
    data: ByteArray | NDArray[np.int64] = _split(recipe.data)[0]
    if encode is not None:
        data = encode(data)
    generator = np.random.default_rng([recipe.order, len(recipe.data)])
    torch.manual_seed(recipe.order)  # for dropout
    optimizers = _optimizers(model, recipe)
    peaks = [[g["lr"] for g in o.param_groups] for o in optimizers]
    warm = max(1, recipe.steps // 20)
    started = time.perf_counter()
    model.train()
    for step in range(recipe.steps):
        progress = max(0.0, (step - warm) / max(1, recipe.steps - warm))
        factor = min(1.0, (step + 1) / warm) * (0.55 + 0.45 * math.cos(math.pi * progress))
        for optimizer, rates in zip(optimizers, peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = peak * factor
        loss = _loss(model, _windows(data, recipe, generator), generator, masked)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    seconds = time.perf_counter() - started
    return Result(evaluate(model, recipe.data, encode=encode), unigram_loss(recipe.data), seconds)


@torch.no_grad()
def evaluate(model: Any, part: str, batches: int = 16, encode: Encoder | None = None) -> float:
    """Loss on held-out text.

    Args:
        model: The model; left in evaluation mode.
        part: Part of the text.
        batches: Number of batches of 16 windows of 96 tokens.
        encode: From bytes to the model's tokens; None where these are bytes.

    Returns:
        Nats per (masked) token.
    """
    masked = "MaskedLM" in type(model).__name__
    model.eval()
    data: ByteArray | NDArray[np.int64] = _split(part)[1]
    if encode is not None:
        data = encode(data)
    generator = np.random.default_rng(0)
    recipe = Recipe(part, 0, 0)
    losses = [float(_loss(model, _windows(data, recipe, generator), generator, masked)) for _ in range(batches)]
    return float(np.mean(losses))
