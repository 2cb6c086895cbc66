"""Shapes, names and recipes of the models that are trained from scratch, and of their children and twins.

Two sizes. The *wide* ones are what derivations start from; the *narrow* ones are many, for unrelated pairs and for
pairs that share only their initial weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers

from benchmarks.training import Recipe

__all__ = ["FAMILIES", "SEEDS", "Root", "build", "configured", "roots"]

FAMILIES = ("llama", "gpt2", "qwen2", "gpt_neox")
SEEDS = 11
"""Narrow models of different seeds in each family; 11 make 55 pairs."""

WIDE, NARROW, DEPTH, HEAD = 96, 64, 6, 16
_SPECIAL = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@dataclass(frozen=True, slots=True)
class Root:
    """A model to be trained.

    Attributes:
        name: Folder name.
        family: ``model_type``.
        role: ``base``, ``other``, ``child``, ``seed`` or ``twin``.
        width: Residual width.
        seed: Seed of the initial weights.
        recipe: How it is trained.
        parent: Name of the model whose trained weights it continues; None when trained from scratch.
    """

    name: str
    family: str
    role: str
    width: int
    seed: int
    recipe: Recipe
    parent: str | None = None


def configured(family: str, width: int, depth: int = DEPTH) -> Any:
    """The configuration of a root.

    Args:
        family: ``llama`` (two query heads per key-value head), ``qwen2`` (as many key-value heads as query heads,
            biases, tied embeddings), ``gpt2`` or ``gpt_neox``.
        width: Residual width, a multiple of 32.
        depth: Number of blocks.

    Returns:
        A transformers configuration.

    Raises:
        ValueError: When the family is none of these.
    """
    heads = width // HEAD
    if family in ("llama", "qwen2"):
        shared = {
            "vocab_size": 256,
            "hidden_size": width,
            "intermediate_size": -(-width * 8 // 3 // 32) * 32,
            "num_hidden_layers": depth,
            "num_attention_heads": heads,
            "num_key_value_heads": heads if family == "qwen2" else heads // 2,
            "head_dim": HEAD,
            "max_position_embeddings": 256,
            **_SPECIAL,
        }
        if family == "llama":
            return transformers.LlamaConfig(**shared)
        return transformers.Qwen2Config(**shared, tie_word_embeddings=True)
    if family == "gpt2":
        drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        sizes = {"n_positions": 256, "n_embd": width, "n_layer": depth, "n_head": heads}
        return transformers.GPT2Config(vocab_size=256, **sizes, **drop, **_SPECIAL)
    if family == "gpt_neox":
        return transformers.GPTNeoXConfig(
            vocab_size=256,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=256,
            **_SPECIAL,
        )
    raise ValueError(f"no such family: {family!r}")


def build(root: Root) -> Any:
    """A model with the initial weights of a root."""
    torch.manual_seed(root.seed)
    return transformers.AutoModelForCausalLM.from_config(configured(root.family, root.width), dtype=torch.float32)


def roots(family: str) -> Iterator[tuple[int, Root]]:
    """What is trained in one family.

    Args:
        family: One of :data:`FAMILIES`.

    Yields:
        Stage and root. Stage 0 is needed by the derivations; 1 and 2 are twins and further seeds.
    """
    stretch = 1.5 if family == "gpt2" else 1.0  # learned positions are learned slowly
    wide = Recipe("code", 1, round(900 * stretch), lr=2e-3, batch=4, length=64)
    narrow = Recipe("code", 1, round(600 * stretch), lr=3e-3, batch=4, length=64)
    base = Root(f"{family}-base", family, "base", WIDE, 1, wide)
    yield 0, base
    yield 0, replace(base, name=f"{family}-other", role="other", seed=2, recipe=replace(wide, order=2))
    shorter = replace(wide, steps=250, lr=1e-3)
    for number, data in enumerate(("docs", "other")):
        recipe = replace(shorter, data=data, order=101 + number)
        yield 0, replace(base, name=f"{family}-child-{data}", role="child", recipe=recipe, parent=base.name)
    first = Root(f"{family}-seed01", family, "seed", NARROW, 1, narrow)
    for seed in range(1, SEEDS + 1):
        # The first, which the twins are compared with, is trained longer.
        steps = narrow.steps if seed == 1 else round(400 * stretch)
        recipe = replace(narrow, order=seed, steps=steps)
        yield (0 if seed < 3 else 2), replace(first, name=f"{family}-seed{seed:02}", seed=seed, recipe=recipe)
    for name, recipe in _twins(narrow).items():
        yield 1, replace(first, name=f"{family}-seed01-twin-{name}", role="twin", recipe=recipe)
    yield 1, replace(base, name=f"{family}-base-twin", role="twin", recipe=replace(wide, data="docs", order=201))


def _twins(narrow: Recipe) -> dict[str, Recipe]:
    """Recipes that share initial weights but neither order nor, mostly, data: optimisers, decay, length."""
    return {
        "docs": replace(narrow, data="docs", order=202),
        "order": replace(narrow, order=203),
        "sgd": replace(narrow, data="other", order=204, optimizer="sgd", lr=0.3, weight_decay=1e-4),
        "muon": replace(narrow, data="docs", order=205, optimizer="muon", lr=1e-2),
        "long": replace(narrow, data="other", order=206, steps=2 * narrow.steps, weight_decay=0.0),
        "decay": replace(narrow, data="docs", order=207, weight_decay=1.0, lr=2e-3),
    }
