"""Families made by hand, and small models on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from lineage_plugin.family.types import Claim, Link, Member
from lineage_plugin.judge.types import Evidence, Indication, Interval, ModelSummary, Relation

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("base", "honest", "liar", "twin")


def example(name: str) -> str:
    return str(EXAMPLES / name)


def member(name: str) -> Member:
    return Member(name, ModelSummary(name, None, "safetensors", 1000, None), "tested", "weights")


def link(
    suspect: int,
    base: int,
    cosine: float | None = 0.9,
    relation: Relation = "derived",
    direction: Indication = "unclear",
    summary: str = "the models share what the base learned",
) -> Link:
    known = Interval(cosine, None, None)
    return Link(suspect, base, relation, summary, Evidence(50.0, 200, 200, True), cosine, known, known, direction)


def claim(model: int, base: int, standing: str = "supported") -> Claim:
    return Claim(model, base, f"a/m{base}", "README.md", 4, False, None, standing, "so")  # type: ignore[arg-type]


def copy(name: str, target: Path, *, card: str | None = None) -> Path:
    """A copy of an example, with another card where one is given."""
    shutil.copytree(EXAMPLES / name, target)
    if card is not None:
        (target / "README.md").write_text(card, encoding="utf-8")
    return target


def tuned(source: Path, target: Path, amount: float, seed: int, *, of: str | None = None) -> Path:
    """A model that went ``amount`` of its length in a random direction from another one."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    rng = np.random.default_rng(seed)
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            wide = tensor.astype(np.float32)
            step = rng.standard_normal(wide.shape, np.float32) * wide.std(axis=1, keepdims=True)
            tensors[name] = (wide + amount * step).astype(tensor.dtype)
    save_file(tensors, target / "model.safetensors")
    (target / "README.md").write_text(f"---\nbase_model: {of}\n---\n" if of else "---\nlicense: mit\n---\n")
    return target


def adapter(target: Path, base: str) -> Path:
    """A bare LoRA for an example, as PEFT names its tensors."""
    target.mkdir(parents=True)
    up = load_file(EXAMPLES / "base" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.weight"
    rng = np.random.default_rng(3)
    parts = {name.format("A"): rng.random((2, up.shape[1])), name.format("B"): rng.random((up.shape[0], 2))}
    save_file({key: value.astype(np.float32) for key, value in parts.items()}, target / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["up_proj"],
        "task_type": "CAUSAL_LM",
    }
    (target / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return target
