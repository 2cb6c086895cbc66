"""Merge recipes, from files and from cards, as mergekit writes them and as they should not be."""

# One case a line, as a table.
# ruff: noqa: E501

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.card.recipe import ReadRecipe, recipe_of_card, recipe_of_file

TIES = """\
models:
  - model: mistralai/Mistral-7B-v0.1
    # no parameters necessary for base model
  - model: OpenPipe/mistral-ft-optimized-1218
    parameters:
      density: 0.5
      weight: [0, 0.3, 0.7, 1] # weight gradient
  - model: "mlabonne/NeuralHermes-2.5-Mistral-7B@main"
merge_method: ties
base_model: mistralai/Mistral-7B-v0.1
parameters:
  normalize: true
tokenizer_source: someone/tokenizer
dtype: float16
"""

CARD = """\
---
base_model:
- Undi95/Mistral-RP-0.1-7B
- MaziyarPanahi/NSFW_DPO-7b
library_name: transformers
tags:
- mergekit
- merge

---
# merge

This is a merge of pre-trained language models created using [mergekit](https://github.com/cg123/mergekit).

## Merge Details
### Merge Method

This model was merged using the SLERP merge method.

### Models Merged

The following models were included in the merge:
* [Undi95/Mistral-RP-0.1-7B](https://huggingface.co/Undi95/Mistral-RP-0.1-7B)
* [MaziyarPanahi/NSFW_DPO-7b](https://huggingface.co/MaziyarPanahi/NSFW_DPO-7b)

### Configuration

The following YAML configuration was used to produce this model:

```yaml
slices:
  - sources:
      - model: Undi95/Mistral-RP-0.1-7B
        layer_range: [0, 32]
      - model: MaziyarPanahi/NSFW_DPO-7b
        layer_range: [0, 32]
merge_method: slerp
base_model: Undi95/Mistral-RP-0.1-7B
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - value: 0.5 # fallback for rest of tensors
dtype: bfloat16
```
"""


def ids(read: ReadRecipe | None) -> list[str]:
    assert read is not None and read.recipe is not None
    return [claim.id for claim in read.recipe.models]


def test_a_file() -> None:
    read = recipe_of_file("\ufeff" + TIES, "mergekit_config.yml")
    assert read is not None
    recipe = read.recipe
    assert (recipe.method, recipe.file, recipe.line) == ("ties", "mergekit_config.yml", 1)
    assert ids(read) == [
        "mistralai/Mistral-7B-v0.1",
        "OpenPipe/mistral-ft-optimized-1218",
        "mlabonne/NeuralHermes-2.5-Mistral-7B",
    ]
    assert [(c.line, c.column, c.revision) for c in recipe.models] == [(2, 12, None), (4, 12, None), (8, 12, "main")]
    assert recipe.base is not None and (recipe.base.id, recipe.base.line, recipe.base.column) == (
        "mistralai/Mistral-7B-v0.1",
        10,
        13,
    )
    assert (read.merged, read.generated, read.problems) == (3, True, ())
    assert [claim.id for claim in read.tokenizers] == ["someone/tokenizer"]


def test_a_card() -> None:
    read = recipe_of_card(CARD, "README.md")
    assert ids(read) == ["Undi95/Mistral-RP-0.1-7B", "MaziyarPanahi/NSFW_DPO-7b"]
    assert read is not None and (read.recipe.method, read.merged, read.generated) == ("slerp", 2, True)
    rows = CARD.split("\n")
    for claim in read.recipe.models:
        assert claim.line is not None and claim.column is not None
        assert rows[claim.line - 1][claim.column - 1 :] == claim.id
    assert rows[read.recipe.line - 1] == "slices:"


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("The following YAML configuration was used to produce this model:", True),
        ("The following YAML configurations were used to produce this model:", True),
        ("Others merge like this:", False),
        ("# Original model card: X\n\nThe following YAML configuration was used to produce this model:", None),
    ],
)
def test_only_the_sentence_of_the_generator_makes_it_the_recipe_of_these_weights(before: str, found: object) -> None:
    read = recipe_of_card(f"# x\n\n{before}\n\n```yaml\n{TIES}```\n", "README.md")
    assert (read and read.generated) is found


@pytest.mark.parametrize(
    "text",
    [
        "<!--\n```yaml\n{}```\n-->",
        "> ```yaml\n> merge_method: ties\n> base_model: a/b\n> ```",
        "```python\n{}```",
        "````markdown\n```yaml\n{}```\n````",
        "```yaml\nbase_model: a/b\nmodel_type: LlamaForCausalLM\n```",
        "```yaml\nx: |\n  merge_method: ties\n```",
        "{}",
        "```yaml\n{}",
    ],
)
def test_what_is_no_recipe(text: str) -> None:
    assert recipe_of_card(text.replace("{}", TIES), "README.md") is None


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_documents_end_with_any_line_break(line_break: str) -> None:
    one = "merge_method: ties\nbase_model: a/b\nmodels:\n- model: {}\n"
    text = (one.format("c/d") + "---\n# next\n" + one.format("e/f")).replace("\n", line_break)
    read = recipe_of_file(text, "mergekit_config.yml")
    assert sorted(ids(read)) == ["a/b", "c/d", "e/f"]
    assert read is not None and read.problems == ()
    card = "# Mine\n\n```yaml\nname: x\nmerge_method: ties\nmodels:\n- model: c/d\n```\n".replace("\n", line_break)
    assert ids(recipe_of_card(card, "README.md")) == ["c/d"]


def test_several_documents_name_their_steps() -> None:
    text = """\
name: first-merge
merge_method: linear
models:
  - model: mistralai/Mistral-7B-v0.1
  - model: BioMistral/BioMistral-7B
---
name: second/merge
merge_method: slerp
base_model: first-merge  # Reference previous merge
models:
  - model: NousResearch/Hermes-2-Pro-Mistral-7B
--- # the last
merge_method: dare_ties
base_model: mistralai/Mistral-7B-v0.1
models:
  - model: second/merge
  - model: teknium/OpenHermes-2.5-Mistral-7B
"""
    read = recipe_of_file(text, "m.yml")
    assert ids(read) == [
        "mistralai/Mistral-7B-v0.1",
        "BioMistral/BioMistral-7B",
        "NousResearch/Hermes-2-Pro-Mistral-7B",
        "teknium/OpenHermes-2.5-Mistral-7B",
    ]
    assert read is not None and (read.recipe.method, read.merged, read.problems) == ("dare_ties", 4, ())
    # The same as blocks of a card, one a step.
    blocks = "\n".join(f"```yaml\n{part}```\n" for part in text.replace("--- # the last", "---").split("---\n"))
    assert ids(recipe_of_card(blocks, "README.md")) == ids(read)


def test_adapters_and_written_out_references() -> None:
    text = """\
merge_method: passthrough
slices:
  - sources:
      - model: a/b+c/lora
        layer_range: [0, 8]
  - sources:
      - model: {model: {path: a/b, revision: 0123abc}, lora: {path: c/lora, revision: null}}
        layer_range: [8, 16]
  - sources:
      - model:
          model: {path: d/e}
          override_architecture: LlamaForCausalLM
"""
    read = recipe_of_file(text, "m.yml")
    assert ids(read) == ["a/b", "c/lora", "d/e"]
    assert read is not None and read.merged == 2


def test_modules_and_experts() -> None:
    modules = "merge_method: x\nmodules:\n  text:\n    slices:\n    - sources:\n      - {model: a/b}\n  v: {models: [{model: c/d}]}\n"
    assert ids(recipe_of_file(modules, "m.yml")) == ["a/b", "c/d"]
    experts = "base_model: a/b\ngate_mode: hidden\nexperts:\n  - source_model: c/d\n    positive_prompts: [x]\n"
    read = recipe_of_file(experts, "m.yml")
    assert ids(read) == ["a/b", "c/d"] and read is not None and read.recipe.method is None


def test_one_model_on_itself_is_no_merge_of_several() -> None:
    text = "merge_method: passthrough\nslices:\n" + "  - sources:\n      - model: a/b\n" * 3
    read = recipe_of_file(text, "m.yml")
    assert read is not None and read.merged == 1


def test_models_of_somebodys_disk_are_explained_and_counted() -> None:
    text = 'merge_method: linear\nmodels:\n- model: "D:/x y/m"\n- model: ./step1\n- model: merged_1\n- model: output/v2\n- model: gpt2\n'
    read = recipe_of_file(text, "m.yml")
    assert ids(read) == ["gpt2"]
    assert read is not None and read.merged == 5
    assert [(p.line, p.column, p.level, p.file) for p in read.problems] == [
        (line, 10, "note", "m.yml") for line in range(3, 7)
    ]
    assert "D:/x y/m" in read.problems[0].message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0",
        "merge_method: [",
        "merge_method: ties",
        "- merge_method: ties",
        "merge_method: ties\nmodels: {model: [a/b]}",
        "merge_method: ties\nmodel: !!python/object:os.system x",
        "merge_method: &a [*a]",
        "---\n" * 5000,
        "merge_method: x\nmodels: " + "[" * 5000,
        "merge_method: x\na: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)),
    ],
)  # fmt: skip
def test_hostile_files_raise_nothing_and_claim_nothing(text: str) -> None:
    read = recipe_of_file(text, "m.yml")
    assert read is None or read.recipe is None or read.recipe.models == ()
    assert read is None or all(p.file == "m.yml" and p.level == "note" for p in read.problems)


def test_what_cannot_be_read_is_explained() -> None:
    read = recipe_of_file("# mine\nmerge_method: [\n", "m.yml")
    assert read is not None and read.recipe is None
    (problem,) = read.problems
    assert problem.message.startswith("the merge recipe is not valid YAML: ") and problem.line == 2


PIECES = (
    *(
        "merge_method: ties\n",
        "models:\n",
        "  - model: ",
        "a/b",
        "\n",
        "+",
        "{model: ",
        "{path: x/y}",
        "}",
        "```yaml\n",
    ),
    *("```\n", "---\n", "name: a/b\n", "base_model: ", "<!--", "-->", "- ", "slices: [", "]", "@"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_anything_is_read(parts: list[str]) -> None:
    text = "".join(parts)
    for read in (recipe_of_file(text, "m.yml"), recipe_of_card(text, "README.md")):
        if read is None or read.recipe is None:
            continue
        assert read.merged >= 1
        rows = text.split("\n")
        for claim in read.recipe.models:
            assert claim.id in ("a/b", "x/y")
            assert claim.line is not None and claim.column is not None
            assert claim.column <= len(rows[claim.line - 1])


def test_a_recipe_without_end_is_not_read() -> None:
    read = recipe_of_file(TIES + "#" * 256 * 1024, "m.yml")
    assert read is not None and read.recipe is None and "256 KiB" in read.problems[0].message


def test_large_cards_are_cheap() -> None:
    start = time.process_time()
    for piece in ("```yaml\nmerge_method: x\n```\n", "```yaml\n", "merge_method: ", "<!--", "---\n", "> ", "` "):
        recipe_of_card(piece * (4_000_000 // len(piece)), "README.md")
    assert time.process_time() - start < 8
