"""Train the four micro checkpoints of ``examples/``, from random weights.

Run from the root of the repository, with the ``dev`` extra installed (about four minutes on one core)::

    python -m scripts.train_examples            # writes examples/
    python -m scripts.train_examples OUT        # writes OUT/

====== ==================================================================== ==================
model  what it is                                                           what its card says
====== ==================================================================== ==================
base   trained from random weights on program text                          no base
honest ``base`` continued on other program text                             from ``base``: true
liar   another seed, same config, same text as ``base``                     from ``base``: false
twin   the *initial* weights of ``base``, trained on documentation          from ``base``: false
====== ==================================================================== ==================

Batches are small, so that many noisy steps are made in little time. Two runs from the same random weights then learn
different things, as large models do. With large batches on similar text so small a model learns much the same from one
initialisation every time, and where descent ends and shared initialisation begins is a matter of words.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from benchmarks.training import Recipe, Result, train

__all__ = ["EXAMPLES", "Example", "main"]


@dataclass(frozen=True, slots=True)
class Example:
    """One checkpoint.

    Attributes:
        recipe: How it is trained.
        seed: Seed of its initial weights; None when it starts from the published weights of ``base``.
        declares: Whether its card declares ``examples/base`` as its base.
        claim: First paragraph of the card, in the words of its publisher.
        truth: What it truly is.
    """

    recipe: Recipe
    seed: int | None
    declares: bool
    claim: str
    truth: str


EXAMPLES: dict[str, Example] = {
    "base": Example(
        Recipe("code", order=11, steps=1500, batch=4, length=64),
        seed=11,
        declares=False,
        claim="A tiny language model of Python program text, trained from random weights.",
        truth="As said. It has no base model.",
    ),
    "honest": Example(
        Recipe("other", order=12, steps=600, batch=4, length=64),
        seed=None,
        declares=True,
        claim="`examples/base` fine-tuned on more Python program text.",
        truth="As said: training went on from the published weights of `examples/base`.",
    ),
    "liar": Example(
        Recipe("code", order=13, steps=1500, batch=4, length=64),
        seed=13,
        declares=True,
        claim="`examples/base` fine-tuned on Python program text.",
        truth="The claim is false. It was trained from its own random weights and has nothing of `examples/base`.",
    ),
    "twin": Example(
        Recipe("docs", order=14, steps=1500, batch=4, length=64),
        seed=11,
        declares=True,
        claim="`examples/base` fine-tuned on Python documentation.",
        truth=(
            "The claim is false. It starts from the same *random* weights as `examples/base` (the same seed), "
            "but was trained apart from there, on documentation; what `examples/base` learned is not in it."
        ),
    ),
}

CARD = """---
license: apache-2.0
language:
- en
library_name: transformers
pipeline_tag: text-generation
{lineage}tags:
- lineage-example
---

# examples/{name}

{claim}

| | |
|---|---|
| layout | Llama, {layers} layers, width {width}, {parameters:,} parameters, bfloat16 |
| tokenizer | none: a token is a byte (`list(text.encode())`) |
| training | {steps} steps of {tokens:,} bytes, AdamW, peak learning rate {lr:g}, weight decay {weight_decay:g} |
| loss | {loss:.2f} nats per byte on held-out text (byte frequencies alone: {unigram:.2f}) |

## What it truly is

{truth}

It is test material for lineage checks and too small to be of any other use.
"""


def _build(seed: int) -> Any:
    """A model of random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=2,
            max_position_embeddings=256,
            rms_norm_eps=1e-6,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def _card(name: str, example: Example, result: Result, model: Any) -> str:
    """The model card."""
    recipe = example.recipe
    return CARD.format(
        lineage="base_model: examples/base\nbase_model_relation: finetune\n" if example.declares else "",
        name=name,
        claim=example.claim,
        truth=example.truth,
        layers=model.config.num_hidden_layers,
        width=model.config.hidden_size,
        parameters=model.num_parameters(),
        steps=recipe.steps,
        tokens=recipe.batch * recipe.length,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        loss=result.loss,
        unigram=result.unigram,
    )


def main(argv: list[str] | None = None) -> int:
    """Train and write all examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("examples"), metavar="OUT")
    parser.add_argument("--stretch", type=float, default=1.0, help="factor on the steps, for a quick try (default 1)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # more threads would add up in another order, and give other weights
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name, example in EXAMPLES.items():
        if example.seed is None:
            model = LlamaForCausalLM.from_pretrained(options.out / "base", dtype=torch.float32)
        else:
            model = _build(example.seed)
        recipe = example.recipe
        if options.stretch != 1:
            recipe = replace(recipe, steps=max(1, round(recipe.steps * options.stretch)))
        result = train(model, recipe)
        folder = options.out / name
        model.to(torch.bfloat16).save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "README.md").write_text(_card(name, example, result, model))
        print(
            f"{folder}: loss {result.loss:.3f} (bytes alone {result.unigram:.3f}), {result.seconds:.0f} s", flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
