"""Sentences that programs write into cards, and what only looks like them."""

# One case a line, as a table.
# ruff: noqa: E501

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.card.body import read_body
from lineage_plugin.card.prose import claims_of_text

HUB = "https://huggingface.co"

SENTENCES = [
    # transformers 5, Trainer.create_model_card
    ("This model is a fine-tuned version of [google-bert/bert-base-cased](https://huggingface.co/google-bert/bert-base-cased) on the glue dataset.", "google-bert/bert-base-cased"),
    ("This model is a fine-tuned version of [gpt2](https://huggingface.co/gpt2) on the None dataset.", "gpt2"),
    # trl, templates/lm_model_card.md
    ("This model is a fine-tuned version of [Qwen/Qwen2-0.5B](https://huggingface.co/Qwen/Qwen2-0.5B).", "Qwen/Qwen2-0.5B"),
    # unsloth, save.py
    ("- **Finetuned from model :** unsloth/gemma-2-2b-bnb-4bit", "unsloth/gemma-2-2b-bnb-4bit"),
    ("- **Finetuned from model :** [https://huggingface.co/stabilityai/stable-diffusion-2-1]", "stabilityai/stable-diffusion-2-1"),
    # huggingface_hub, templates/modelcard_template.md
    ("- **Finetuned from model [optional]:** meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf"),
    ("- **Finetuned from model [optional]:** [Llama 2](https://huggingface.co/meta-llama/Llama-2-7b-hf).", "meta-llama/Llama-2-7b-hf"),
    # gguf-my-repo; gguf-my-lora
    ("This model was converted to GGUF format from [`o/n`](https://huggingface.co/o/n) using llama.cpp via the ggml.ai's [GGUF-my-repo](https://huggingface.co/spaces/ggml-org/gguf-my-repo) space.", "o/n"),
    ("This LoRA adapter was converted to GGUF format from [`o/n`](https://huggingface.co/o/n) via the ggml.ai's [GGUF-my-lora](https://huggingface.co/spaces/ggml-org/gguf-my-lora) space.", "o/n"),
    # mlx-lm, of several years; mlx-vlm
    ("The Model [mlx-community/m](https://huggingface.co/mlx-community/m) was converted to MLX format from [o/n](https://huggingface.co/o/n) using mlx-lm version **0.0.3**.", "o/n"),
    ("This model [mlx-community/m](https://huggingface.co/mlx-community/m) was\nconverted to MLX format from [o/n](https://huggingface.co/o/n)\nusing mlx-lm version **0.27.1**.", "o/n"),
    ("This model was converted to MLX format from [`qwen/Qwen1.5-0.5B-Chat`]() using mlx-lm version **0.10.0**.", "qwen/Qwen1.5-0.5B-Chat"),
    ("This model was converted to MLX format from google/medgemma-1.5-4b-it using mlx-vlm version 0.3.9.", "google/medgemma-1.5-4b-it"),
    # packagers
    ("- Model creator: [Mistral AI_](https://huggingface.co/mistralai)\n- Original model: [Mixtral 8X7B Instruct v0.1](https://huggingface.co/mistralai/Mixtral-8x7B-Instruct-v0.1)", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
    ("Original model: https://huggingface.co/RLHFlow/LLaMA3-iterative-DPO-final", "RLHFlow/LLaMA3-iterative-DPO-final"),
    ("**Original model**: [a-b](https://huggingface.co/a/b)<br>", "a/b"),
    # mergekit, card.py
    ("This model was merged using the [TIES](https://arxiv.org/abs/2306.01708) merge method using [a/b](https://huggingface.co/a/b) as a base.", "a/b"),
    ("This model was merged using the linear merge method using a/b as a base.", "a/b"),
    ("The following models were included in the merge:\n* [a/b](https://huggingface.co/a/b)\n* c/d\n\n### Configuration\n* e/f", "a/b c/d"),
    ("The following models were included in the merge:\n\n* [a/b](https://huggingface.co/a/b) + [c/l](https://huggingface.co/c/l)\n* /mnt/x\n* D:/x y/z\n* g/h", "a/b c/l g/h"),
    ("This LoRA adapter was extracted from [a/b](https://huggingface.co/a/b) and uses [c/d](https://huggingface.co/c/d) as a base.", "a/b c/d"),
]  # fmt: skip

NOTHING = [
    "This model is a fine-tuned version of [None](https://huggingface.co/None) on an unknown dataset.",
    "This model is a fine-tuned version of [./results](https://huggingface.co/./results) on the None dataset.",
    "This model is a fine-tuned version of [/data/llama](https://huggingface.co//data/llama) on the None dataset.",
    "This model is a fine-tuned version of [output/checkpoint-500](https://huggingface.co/output/checkpoint-500).",
    "This model is a fine-tuned version of [my_model](https://huggingface.co/my_model) on the None dataset.",
    "This model was trained from scratch on the None dataset.",
    "- **Finetuned from model [optional]:** [More Information Needed]",
    "- **Finetuned from model [optional]:** ",
    "- **Finetuned from model :** {base_model}",
    "Original model: [source](https://github.com/a/b)",
    "Original model: https://example.com/a/b",
    "The original model: https://huggingface.co/a/b is good",
    "We compare it with a fine-tuned version of [a/b](https://huggingface.co/a/b).",
    "Try a/b, using c/d as a base.",
]


@pytest.mark.parametrize(("sentence", "named"), SENTENCES)
def test_sentences_of_programs(sentence: str, named: str) -> None:
    card = f"---\nlicense: mit\n---\n\n# Model\n\n{sentence}\n\nMore.\n"
    claims = claims_of_text(card, "README.md")
    assert [claim.id for claim in claims] == named.split()
    rows = card.split("\n")
    for claim in claims:
        assert claim.line is not None and claim.column is not None and claim.file == "README.md"
        # The column is that of the name as it is shown, which a link may give another text than the id.
        shown = rows[claim.line - 1][claim.column - 1 :]
        assert shown.startswith((claim.id, "https://", "Mixtral 8X7B", "Llama 2", "a-b"))


@pytest.mark.parametrize("sentence", NOTHING)
def test_what_only_looks_like_them(sentence: str) -> None:
    assert claims_of_text(f"# Model\n\n{sentence}\n", "README.md") == ()


@pytest.mark.parametrize(
    "around",
    [
        "```\n{}\n```",
        "~~~text\n{}\n```\n~~~",
        "  ```\n  {}\n  ```",
        "- ```\n  {}\n  ```",
        "````\n```\n{}\n```\n````",
        "<!-- {} -->",
        "<!--\n{}\n-->",
        "<!-- a --> b <!-- {} -->",
        "> {}",
        "# Original model card: Meta's Llama\n\n{}",
        "---\nx: |\n  {}\n---\n",
        "```\n{}",
    ],
)
@pytest.mark.parametrize("sentence", [SENTENCES[2][0], SENTENCES[3][0], SENTENCES[14][0]])
def test_code_comments_quotations_and_copied_cards_do_not_count(around: str, sentence: str) -> None:
    assert claims_of_text(around.replace("{}", sentence), "README.md") == ()


@pytest.mark.parametrize(
    "before", ["```\nx\n```\n", "<!-- x -->\n", "a ``` b\n", "`<!-` \n", "- x\n", "\ufeff", "~~~\n~~~\n"]
)
def test_what_has_ended_hides_nothing(before: str) -> None:
    (claim,) = claims_of_text(before + SENTENCES[2][0], "README.md")
    assert (claim.line, claim.column) == (before.count("\n") + 1, 40)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_those_of_the_file(end: str) -> None:
    text = end.join(["# a", "", "<!-- x", "y -->", "Original model: https://huggingface.co/a/b", ""])
    (claim,) = claims_of_text(text, "README.md")
    assert (claim.line, claim.column) == (5, 17)


def test_each_model_is_claimed_once() -> None:
    card = "\n".join(sentence for sentence, named in SENTENCES if named == "o/n")
    assert len(claims_of_text(card, "README.md")) == 1
    many = "\n".join(f"Original model: https://huggingface.co/a/b{number}" for number in range(1000))
    assert len(claims_of_text(many, "README.md")) == 64


pieces = st.sampled_from(
    ["```", "~~~", "<!--", "-->", "\n", "\r", " ", ">", "---\n", "# Original model card", "- ", "x", "`", "\u2028"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=30))
def test_rows_and_blocks_are_parts_of_the_text(parts: list[str]) -> None:
    text = "".join(parts)
    body = read_body(text)
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for row in body.rows:
        whole = rows[row.number - 1]
        assert len(row.text) == len(whole)
        assert all(seen in (" ", there) for seen, there in zip(row.text, whole))
    for block in body.blocks:
        assert 0 <= block.start <= block.end <= len(body.text)
        assert not body.text[: block.start] or body.text[block.start - 1] in "\r\n"


def test_hostile_text_takes_linear_time() -> None:
    start = time.process_time()
    for piece in (
        *("This model is a fine-tuned version of [", "This model is a fine-tuned version of ", " and uses "),
        *("**Finetuned from model :** ", "merge method using [a](", "Original model: \n", "* [a/b] + [c/d]"),
        *("The following models were included in the merge:\n* [a](b) + ", "<!--", "<!---->", "```", "- ", "[", "\n"),
    ):
        claims_of_text(piece * (4_000_000 // len(piece)), "README.md")
    assert time.process_time() - start < 12
