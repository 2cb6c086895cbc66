"""Train families of small language models whose lineage is known, for calibrating and validating statistics.

Run from the root of the repository, with the ``dev`` extra installed::

    python -m benchmarks.train_lab OUT --families llama gpt2
    python -m benchmarks.train_lab OUT --families llama --variants sgd muon --roles base other child twin

Every model is a folder ``OUT/<family>[+<variant>]-<role>`` with safetensors weights (bfloat16), a config and a card.
``OUT/lab.json`` lists the finished models with the losses they reached, and every pair with the true relation; it is
rewritten after each model, so that others can start early. Finished models are not trained again.

========= ===================================================================================================
role      what it is
========= ===================================================================================================
base      random weights of seed 1, trained on program text
other     the same with seed 2: same config, same data, unrelated weights
child     base continued on documentation
far       base continued for long on documentation, at a higher rate and with more weight decay
twin      the *initial* weights of base, trained on other program text in another order
twin-docs the *initial* weights of base, trained on documentation
twin-same the *initial* weights of base, trained on the data of base in another order
stub      base after 4% of its steps: hardly more than its initial weights
========= ===================================================================================================
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging

from benchmarks.training import Recipe, Result, train

__all__ = ["FAMILIES", "ROLES", "VARIANTS", "main"]

ROLES = ("base", "stub", "child", "twin-docs", "twin", "other", "twin-same", "far")
CONTINUED = ("child", "far")
CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: {task}
tags:
- lineage-lab
{base}---

# {name}

A {family} of {parameters:,} parameters, byte vocabulary, trained for lineage tests. Role: {role}.
Held-out loss {loss:.3f} nats per byte; byte frequencies alone reach {unigram:.3f}.
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model: residual width, layers, seed of the initial weights, dropout."""

    width: int
    depth: int
    seed: int
    dropout: float


@dataclass(frozen=True, slots=True)
class Variant:
    """A departure from the usual recipe: factor on the steps, dropout, and fields of :class:`Recipe` that change."""

    change: dict[str, Any]
    stretch: float = 1.0
    dropout: float = 0.0


# Small batches: many noisy steps, after which two runs from one initialisation have learned different things.
SMALL = {"batch": 4, "length": 64}

VARIANTS: dict[str, Variant] = {
    "default": Variant({}),
    "small": Variant(SMALL, stretch=2.0),
    "small-hot": Variant(SMALL | {"lr": 2e-3}, stretch=2.0),
    "sgd": Variant(SMALL | {"optimizer": "sgd", "lr": 0.2, "weight_decay": 1e-4}, stretch=2.0),
    "lion": Variant(SMALL | {"optimizer": "lion", "lr": 2e-4, "weight_decay": 0.5}, stretch=2.0),
    "muon": Variant(SMALL | {"optimizer": "muon", "lr": 1e-2}, stretch=2.0),
    "nodecay": Variant(SMALL | {"weight_decay": 0.0}, stretch=2.0),
    "long": Variant(SMALL, stretch=6.0),
    "dropout": Variant(SMALL, stretch=2.0, dropout=0.1),
}


def _gated(shape: Shape) -> dict[str, Any]:
    """Config fields that the Llama-like layouts share: two KV heads, SwiGLU of 8/3 the width."""
    return {
        "vocab_size": 256,
        "hidden_size": shape.width,
        "intermediate_size": -(-shape.width * 8 // 3 // 32) * 32,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.width // 32,
        "num_key_value_heads": max(1, shape.width // 64),
        "max_position_embeddings": 256,
        "attention_dropout": shape.dropout,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _llama(shape: Shape) -> Any:
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**_gated(shape)))


def _qwen2(shape: Shape) -> Any:
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**_gated(shape), tie_word_embeddings=True))


def _qwen3(shape: Shape) -> Any:
    return transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**_gated(shape), head_dim=32, tie_word_embeddings=True)
    )


def _phi3(shape: Shape) -> Any:
    drop = {"resid_pdrop": shape.dropout, "embd_pdrop": shape.dropout}
    return transformers.Phi3ForCausalLM(transformers.Phi3Config(**_gated(shape), **drop))


def _mixtral(shape: Shape) -> Any:
    sizes = _gated(shape) | {"intermediate_size": shape.width, "num_local_experts": 4, "num_experts_per_tok": 2}
    return transformers.MixtralForCausalLM(transformers.MixtralConfig(**sizes, output_router_logits=True))


def _gpt2(shape: Shape) -> Any:
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=256,
            n_positions=256,
            n_embd=shape.width,
            n_layer=shape.depth,
            n_head=shape.width // 32,
            resid_pdrop=shape.dropout,
            embd_pdrop=shape.dropout,
            attn_pdrop=shape.dropout,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def _gpt_neox(shape: Shape) -> Any:
    return transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(
            vocab_size=256,
            hidden_size=shape.width,
            intermediate_size=4 * shape.width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.width // 32,
            max_position_embeddings=256,
            hidden_dropout=shape.dropout,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def _bert(shape: Shape) -> Any:
    return transformers.BertForMaskedLM(
        transformers.BertConfig(
            vocab_size=260,
            hidden_size=shape.width,
            intermediate_size=4 * shape.width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.width // 32,
            max_position_embeddings=256,
            hidden_dropout_prob=shape.dropout,
            attention_probs_dropout_prob=shape.dropout,
        )
    )


FAMILIES: dict[str, Callable[[Shape], Any]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt_neox": _gpt_neox,
    "phi3": _phi3,
    "bert": _bert,
    "mixtral": _mixtral,
}


def _recipe(role: str, steps: int, lr: float, variant: Variant, seeds: tuple[int, int]) -> Recipe:
    """The recipe of a role: which data, in which order, for how long."""
    usual = Recipe("code", seeds[0], round(steps * variant.stretch), lr=lr)
    usual = replace(usual, **variant.change)
    if role == "other":
        return replace(usual, order=seeds[1])
    if role == "child":
        return replace(usual, data="docs", order=101, steps=usual.steps // 2)
    if role == "far":
        return replace(usual, data="docs", order=102, steps=usual.steps * 3 // 2, lr=3 * usual.lr, weight_decay=0.3)
    if role == "twin-docs":
        return replace(usual, data="docs", order=105)
    if role == "twin":
        return replace(usual, data="other", order=103)
    if role == "twin-same":
        return replace(usual, order=104)
    if role == "stub":
        return replace(usual, steps=max(5, usual.steps // 25))
    return usual


def _relation(one: str, two: str) -> tuple[str, str, str]:
    """True relation of two roles of one family: ``(suspect, base, relation)``."""
    rank = ("base", "child", "far", "twin", "twin-docs", "twin-same", "other", "stub")
    base, suspect = sorted((one, two), key=rank.index)
    if "other" in (one, two):
        return suspect, base, "unrelated"
    line = ("base", *CONTINUED)
    return suspect, base, "derived" if base in line and suspect in line else "shared-init"


def _pairs(models: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pair within a family and variant, and the bases of different families or variants against each other."""
    pairs = []
    for (one, a), (two, b) in combinations(models.items(), 2):
        if (a["family"], a["variant"]) == (b["family"], b["variant"]):
            suspect, base, relation = _relation(a["role"], b["role"])
            prefix = one[: -len(a["role"])]
            note = f"{suspect} against {base}"
            pair = {"suspect": f"lab/{prefix}{suspect}", "base": f"lab/{prefix}{base}", "relation": relation}
            if "stub" in (suspect, base) and relation == "shared-init":
                # The first steps of base are those of stub, but too few to learn anything: both answers are true.
                note += "; hardly trained, so that descent and a shared draw are the same thing"
                pair["accept"] = ["shared-init", "derived", "inconclusive"]  # type: ignore[assignment]
            if relation == "derived" and "base" not in (suspect, base):
                note += "; siblings, both from base"
            pairs.append(pair | {"kind": "finetune" if relation == "derived" else None, "note": note})
        elif {a["role"], b["role"]} == {"base", "other"} and a["family"] != b["family"]:
            # Bases of different families have one seed, hence the same initial weights wherever shapes agree.
            note = "other architecture, other seed"
            pairs.append(
                {"suspect": f"lab/{two}", "base": f"lab/{one}", "relation": "unrelated", "kind": None, "note": note}
            )
        elif a["family"] == b["family"] and a["role"] == b["role"] == "base" and a["initial"] == b["initial"]:
            note = "same initial weights, other recipe"
            pairs.append(
                {"suspect": f"lab/{two}", "base": f"lab/{one}", "relation": "shared-init", "kind": None, "note": note}
            )
        elif a["family"] == b["family"] and {a["role"], b["role"]} == {"base", "other"}:
            note = "other recipe, other seed"
            pairs.append(
                {"suspect": f"lab/{two}", "base": f"lab/{one}", "relation": "unrelated", "kind": None, "note": note}
            )
    return pairs


def _save(model: Any, folder: Path, name: str, record: dict[str, Any], base: str | None) -> None:
    """Write weights (bfloat16), config and card."""
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    card = CARD.format(
        task="fill-mask" if "MaskedLM" in type(model).__name__ else "text-generation",
        base=f"base_model: {base}\nbase_model_relation: finetune\n" if base else "",
        name=name,
        **record,
    )
    (folder / "README.md").write_text(card)


def _train_one(out: Path, family: str, variant: str, role: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train and save one model; returns its record for lab.json."""
    prefix = family if variant == "default" else f"{family}+{variant}"
    name = f"{prefix}-{role}"
    build, change = FAMILIES[family], VARIANTS[variant]
    shape = Shape(options.width, options.depth, options.seeds[role == "other"], change.dropout)
    recipe = _recipe(role, options.steps, options.lr, change, tuple(options.seeds))
    torch.manual_seed(shape.seed)
    model = build(shape)
    if role in CONTINUED:
        # As in the wild, a fine-tune starts from the published bfloat16 weights.
        model = type(model).from_pretrained(out / f"{prefix}-base", dtype=torch.float32)
    result: Result = train(model, recipe)
    record = {
        "family": family,
        "variant": variant,
        "role": role,
        "initial": None if role in CONTINUED else [shape.width, shape.depth, shape.seed],
        "parameters": sum(p.numel() for p in model.parameters()),
        **asdict(recipe),
        **{k: round(v, 4) for k, v in asdict(result).items()},
    }
    _save(model, out / name, name, record, f"lab/{prefix}-base" if role in CONTINUED else None)
    return record


def main(argv: list[str] | None = None) -> int:
    """Train what is asked for and missing, keeping ``lab.json`` up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--families", nargs="+", choices=tuple(FAMILIES), default=["llama", "gpt2"])
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=["default"])
    parser.add_argument("--roles", nargs="+", choices=ROLES, default=list(ROLES))
    parser.add_argument("--steps", type=int, default=700, help="steps of the base (default %(default)s)")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate of the base (default %(default)s)")
    parser.add_argument("--width", type=int, default=128, help="residual width, a multiple of 64 (default %(default)s)")
    parser.add_argument("--depth", type=int, default=4, help="layers (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs=2, default=[1, 2], metavar=("BASE", "OTHER"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    index = options.out / "lab.json"
    models: dict[str, Any] = json.loads(index.read_text())["records"] if index.exists() else {}
    for family in options.families:
        for variant in options.variants:
            for role in sorted(options.roles, key=ROLES.index):
                name = f"{family}-{role}" if variant == "default" else f"{family}+{variant}-{role}"
                if name in models:
                    continue
                models[name] = _train_one(options.out, family, variant, role, options)
                lab = {"models": sorted(models), "pairs": _pairs(models), "records": models}
                # Replaced in one step: somebody may be reading it.
                partial = index.with_suffix(".tmp")
                partial.write_text(json.dumps(lab, indent=1) + "\n")
                partial.replace(index)
                record = models[name]
                print(
                    f"{name}: loss {record['loss']:.3f} (bytes alone {record['unigram']:.3f}), "
                    f"{record['steps']} steps, {record['seconds']:.0f} s",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
