"""The rules that hold a card against the files beside it: LIN203, LIN204, LIN210, LIN211, LIN212, LIN214."""

# One case a line, as a table.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.card import BaseClaim, Card, read_card, read_front_matter
from lineage_plugin.card.beside import Beside
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.card.located import Problem
from lineage_plugin.card.rules.kind_of_card import is_other_card
from lineage_plugin.fixes import SetKey
from tests.card.beside_files import about, alarms, findings

LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000}
WHOLE = "model.safetensors"
MERGE = "merge_method: ties\nbase_model: a/base\nmodels:\n- model: a/one\n- model: b/two\n"


def card(*lines: str, body: str = "# Model\n") -> str:
    return "\n".join(["---", "license: mit", *lines, "---", body])


def adapter(base: str = "o/n") -> dict[str, object]:
    return {"base_model_name_or_path": base, "peft_type": "LORA"}


# --- LIN203 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("Adapter", "adapter"),
        ("fine-tuned", "finetune"),
        ("Fine Tune", "finetune"),
        ("quantised", "quantized"),
        ("QUANTIZED", "quantized"),
        ("quantize", "quantized"),
        ("merged", "merge"),
        ("adaptr", "adapter"),
        ("lora", None),  # what is meant is likely, not certain
        ("gguf", None),
        ("distilled", None),
        ("[finetune]", None),
    ],
)
def test_lin203_repairs_what_is_certain(value: str, fix: str | None) -> None:
    found = findings(card("base_model: o/n", f"base_model_relation: {value}"))
    assert about("LIN203", found) == [("LIN203", "warning", "README.md", 4, 22)]
    (repair,) = [f.fix for f in found if f.code == "LIN203"]
    assert (repair and repair.changes) == (fix and (SetKey("base_model_relation", fix, after="base_model"),))


# --- LIN204 -----------------------------------------------------------------------------------------------------------


def test_lin204_of_a_recipe() -> None:
    found = findings(card("base_model: [a/one, c/three]"), {"mergekit_config.yml": MERGE}, WHOLE)
    assert about("LIN204", found) == [
        ("LIN204", "warning", "README.md", 3, 21),
        ("LIN204", "warning", "mergekit_config.yml", 5, 10),
    ]
    one, other = (f.message for f in found if f.code == "LIN204")
    assert "c/three" in one and "b/two" in other and "mergekit_config.yml" in one and "mergekit_config.yml" in other


@pytest.mark.parametrize(
    "bases",
    ["[a/one, b/two]", "[a/base, a/one, b/two]", "[A/One, B/Two]", "[b/two, a/one, t/tok]"],
)
def test_lin204_says_nothing_of_a_recipe_that_fits(bases: str) -> None:
    recipe = MERGE + "tokenizer_source: t/tok\n"
    assert about("LIN204", findings(card(f"base_model: {bases}"), {"mergekit_config.yml": recipe}, WHOLE)) == []


def test_lin204_the_base_of_a_recipe_alone_is_not_enough() -> None:
    found = findings(card("base_model: a/base"), {"mergekit_config.yml": MERGE}, WHOLE)
    assert [f.level for f in found if f.code == "LIN204"] == ["warning", "warning"]


def test_lin204_a_model_from_a_folder_may_be_any() -> None:
    recipe = MERGE.replace("b/two", "./my-sft")
    assert about("LIN204", findings(card("base_model: [a/one, c/sft]"), {"mergekit_config.yml": recipe}, WHOLE)) == []


def test_lin204_a_copied_recipe_is_a_note() -> None:
    text = f"The following YAML configuration was used to produce this model:\n\n```yaml\n{MERGE}```\n"
    # Programs that quantise copy the recipe with the other small files; people copy the card.
    for found in (
        findings(
            card("base_model: m/merge", "base_model_relation: quantized"),
            {"mergekit_config.yml": MERGE},
            "x.Q4_K_M.gguf",
        ),
        findings(card("base_model: m/merge", body=text), {}, "x.Q4_K_M.gguf"),
        findings(
            card("base_model: m/merge", "base_model_relation: finetune", body=text), {"config.json": LLAMA}, WHOLE
        ),
    ):
        assert [f.level for f in found if f.code == "LIN204"] == ["note"]
        assert alarms(found) == []
    # A card with several bases speaks of its own recipe.
    found = findings(card("base_model: [a/one, c/three]", body=text), {}, WHOLE)
    assert [(f.level, f.line) for f in found if f.code == "LIN204"] == [("warning", 3), ("warning", 12)]


def test_lin204_one_finding_for_each_other_name() -> None:
    body = "This model is a fine-tuned version of [x/y](https://huggingface.co/x/y).\n\nOriginal model: https://huggingface.co/v/w\n"
    contents: dict[str, Any] = {
        "config.json": {**LLAMA, "_name_or_path": "x/y"},
        "tokenizer_config.json": {"name_or_path": "X/Y"},
        "adapter_config.json": adapter("x/y"),
    }
    found = findings(card("base_model: o/n", body=body), contents)
    assert about("LIN204", found) == [
        ("LIN204", "note", "README.md", 7, 17),
        ("LIN204", "warning", "adapter_config.json", 2, 30),
    ]
    del contents["adapter_config.json"]
    found = findings(card("base_model: o/n", body=body), contents, WHOLE)
    assert about("LIN204", found) == [
        ("LIN204", "note", "README.md", 7, 17),
        ("LIN204", "note", "config.json", 7, 20),
    ]


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        ({"config.json": {"_name_or_path": "x/y"}}, "the model that was loaded"),
        ({"tokenizer_config.json": {"name_or_path": "x/y"}}, "the origin of the tokenizer"),
    ],
)
def test_lin204_names_the_file_and_the_place(contents: dict[str, Any], says: str) -> None:
    (found,) = [f for f in findings(card("base_model: o/n"), contents, WHOLE) if f.code == "LIN204"]
    assert (found.file, found.line, found.level) == (next(iter(contents)), 2, "note")
    assert says in found.message and "x/y" in found.message and "o/n" in found.message


def test_lin204_of_a_gguf_header_points_at_the_card() -> None:
    header = {"general.base_model.count": 1, "general.base_model.0.repo_url": "https://huggingface.co/x/y"}
    found = findings(card("base_model: o/n"), {}, "m-Q4_K_M.gguf", gguf=lambda name: header)
    assert about("LIN204", found) == [("LIN204", "note", "README.md", 3, 1)]


@pytest.mark.parametrize(
    "loaded", ["o/n", "O/N", "unsloth/n-bnb-4bit", "me/mine", "output/checkpoint-7", "/data/x", "merged"]
)
def test_lin204_of_a_configuration_says_nothing_of(loaded: str) -> None:
    contents = {"config.json": {"_name_or_path": loaded}}
    assert about("LIN204", findings(card("base_model: o/n"), contents, WHOLE, name="me/mine")) == []


def test_lin204_knows_the_bases_of_the_base_from_the_hub() -> None:
    hub = {
        "o/n": HubModel("o/n", "found", id="o/n", bases=("P/Q",)),
        "p/q": HubModel("p/q", "found", id="p/q", bases=("r/s", "o/n")),
    }
    for loaded, notes in (("p/q", 0), ("r/s", 0), ("t/u", 1)):
        found = findings(card("base_model: o/n"), {"config.json": {"_name_or_path": loaded}}, WHOLE, hub=hub)
        assert len(about("LIN204", found)) == notes
    # What the adapter was trained on is its base, and not the base of that.
    found = findings(card("base_model: o/n"), {"adapter_config.json": adapter("p/q")}, hub=hub)
    assert [f.level for f in found if f.code == "LIN204"] == ["warning"]


@pytest.mark.parametrize(
    "name",
    [
        "n-bnb-4bit",
        "n-unsloth-bnb-4bit",
        "n-GPTQ-Int4",
        "n-AWQ",
        "n-FP8-dynamic",
        "n-quantized.w4a16",
        "n-w8a8",
        "N-GGUF",
    ],
)
def test_lin204_an_adapter_on_a_copy_is_a_note(name: str) -> None:
    found = findings(card("base_model: o/n"), {"adapter_config.json": adapter(f"copies/{name}")})
    assert [f.level for f in found if f.code == "LIN204"] == ["note"]
    other = findings(card("base_model: o/n"), {"adapter_config.json": adapter(f"copies/{name}-chat")})
    assert [f.level for f in other if f.code == "LIN204"] == ["warning"]


# --- LIN210 -----------------------------------------------------------------------------------------------------------

FITS: list[tuple[str, tuple[str, ...], dict[str, Any], tuple[str, ...]]] = [
    # name, lines of the card, contents, names of others
    ("LoRA", ("base_model_relation: adapter",), {"adapter_config.json": adapter()}, ("adapter_model.safetensors",)),
    ("LoRA with tokenizer and optimizer", ("base_model_relation: adapter",), {"adapter_config.json": adapter()}, ("adapter_model.safetensors", "tokenizer.json", "optimizer.pt", "scheduler.pt", "training_args.bin")),
    ("checkpoint with an adapter kept", ("base_model_relation: finetune",), {"adapter_config.json": adapter(), "config.json": LLAMA}, ("adapter_model.safetensors", WHOLE)),
    ("diffusers LoRA", ("base_model_relation: adapter",), {}, ("pytorch_lora_weights.safetensors",)),
    ("LoRA under any name", ("base_model_relation: adapter",), {}, ("style-v3.safetensors",)),
    ("ControlNet", ("base_model_relation: adapter",), {"config.json": {"_class_name": "ControlNetModel"}}, ("diffusion_pytorch_model.safetensors",)),
    ("LoRA in GGUF", ("base_model_relation: adapter",), {}, ("adapter-f16.gguf",)),
    ("GGUF of an adapter", ("base_model_relation: quantized",), {}, ("x-lora-Q8_0.gguf",)),
    ("fine-tune", ("base_model_relation: finetune",), {"config.json": LLAMA}, (WHOLE,)),
    ("fine-tune, not stated", (), {"config.json": LLAMA}, (WHOLE,)),
    ("FP8 fine-tune", ("base_model_relation: finetune",), {"config.json": {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8"}}}, (WHOLE,)),
    ("MXFP4 fine-tune, not stated", (), {"config.json": {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}}, (WHOLE,)),
    ("GGUF", ("base_model_relation: quantized",), {}, ("m-Q4_K_M.gguf", "mmproj-f16.gguf", "imatrix.dat")),
    ("GGUF in floats", (), {}, ("m-BF16.gguf",)),
    ("Unsloth's GGUF", ("tags: [gguf, unsloth]",), {}, ("m-Q4_K_M.gguf",)),
    ("4-bit fine-tune, not stated", ("tags:\n- trl\n- sft",), {"config.json": {"quantization_config": {"quant_method": "bitsandbytes"}}}, (WHOLE,)),
    ("diffusers pipeline", ("base_model_relation: finetune",), {"model_index.json": {}}, ("unet/diffusion_pytorch_model.safetensors",)),
    ("ONNX export", ("base_model_relation: quantized",), {"config.json": LLAMA}, ("onnx/model_q4.onnx",)),
    ("no files known to mean anything", ("base_model_relation: adapter",), {}, ("weights.npz",)),
    ("no weights yet", ("base_model_relation: merge",), {"mergekit_config.yml": MERGE.replace("a/one", "o/n")}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "contents", "others"), [case[1:] for case in FITS], ids=[case[0] for case in FITS])
def test_lin210_says_nothing(lines: tuple[str, ...], contents: dict[str, Any], others: tuple[str, ...]) -> None:
    assert about("LIN210", findings(card("base_model: o/n", *lines), contents, *others)) == []


BITS = {"config.json": {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 4}}}
MISFITS: list[tuple[str, str | None, dict[str, Any], tuple[str, ...], str, str | None]] = [
    # bases, relation, contents, names of others, level, relation to set
    ("o/n", "finetune", {"adapter_config.json": adapter()}, ("adapter_model.safetensors",), "warning", "adapter"),
    ("o/n", "quantized", {}, ("pytorch_lora_weights.safetensors",), "warning", "adapter"),
    ("o/n", "merge", {"adapter_config.json": adapter()}, (), "warning", "adapter"),
    ("o/n", None, {"adapter_config.json": adapter()}, ("adapter_model.safetensors",), "note", "adapter"),
    ("o/n", "adapter", {"config.json": LLAMA}, (WHOLE,), "warning", None),
    ("o/n", "adapter", {"config.json": LLAMA}, ("pytorch_model-00001-of-00002.bin",), "warning", None),
    ("[a/one, b/two]", "finetune", {"mergekit_config.yml": MERGE}, (WHOLE,), "warning", "merge"),
    ("a/one", "quantized", {"mergekit_config.yml": MERGE}, (WHOLE,), "warning", "merge"),
    ("[a/one, b/two]", None, {"mergekit_config.yml": MERGE}, (WHOLE,), "note", "merge"),
    ("o/n", "finetune", BITS, (WHOLE,), "note", None),
    ("o/n", None, BITS, (WHOLE,), "note", "quantized"),
    ("o/n", None, {}, ("m.IQ3_XXS.gguf",), "note", "quantized"),
    ("o/n", "merge", {"config.json": LLAMA}, (WHOLE,), "note", None),
]


@pytest.mark.parametrize(("bases", "relation", "contents", "others", "level", "repair"), MISFITS)
def test_lin210(bases: str, relation: str | None, contents: dict[str, Any], others: tuple[str, ...], level: str, repair: str | None) -> None:  # fmt: skip
    lines = [f"base_model: {bases}", *([f"base_model_relation: {relation}"] if relation else [])]
    found = findings(card(*lines), contents, *others)
    assert about("LIN210", found) == [("LIN210", level, "README.md", 4, 22) if relation else ("LIN210", level, "README.md", 3, 1)]  # fmt: skip
    (fix,) = [f.fix for f in found if f.code == "LIN210"]
    assert (fix and fix.changes) == (repair and (SetKey("base_model_relation", repair, after="base_model"),))


def test_lin210_quantised_weights_of_a_fine_tune_are_not_called_quantised() -> None:
    body = "- **Finetuned from model :** o/n\n"
    assert about("LIN210", findings(card("base_model: o/n"), {}, "m-Q4_K_M.gguf")) != []
    assert about("LIN210", findings(card("base_model: o/n", body=body), {}, "m-Q4_K_M.gguf")) == []


def test_lin210_leaves_an_unknown_relation_to_lin203() -> None:
    found = findings(card("base_model: o/n", "base_model_relation: finetuned"), {"adapter_config.json": adapter()})
    assert [f.code for f in found if f.code in ("LIN203", "LIN210")] == ["LIN203"]


def test_lin210_needs_a_declared_base_and_the_names_of_the_files() -> None:
    assert about("LIN210", findings(card(), {"adapter_config.json": adapter()})) == []
    _, found = read_card(card("base_model: o/n", "base_model_relation: adapter"))
    assert "LIN210" not in [f.code for f in found]


# --- LIN211 -----------------------------------------------------------------------------------------------------------


def hub_of(**config: object) -> dict[str, HubModel]:
    return {"o/n": HubModel("o/n", "found", id="o/n", config=config)}


@pytest.mark.parametrize(
    ("own", "theirs", "level"),
    [
        ({"model_type": "llama"}, {"model_type": "llama"}, None),
        ({"model_type": "gpt_neox"}, {"model_type": "mistral"}, "warning"),
        ({"architectures": ["GPTNeoXForCausalLM"]}, {"architectures": ["LlamaForCausalLM"]}, "warning"),
        ({"architectures": ["LlamaForSequenceClassification"]}, {"architectures": ["LlamaForCausalLM"]}, None),
        ({"model_type": "llama"}, {"model_type": "qwen2"}, "note"),
        ({"model_type": "mixtral"}, {"model_type": "mistral"}, None),
        ({"model_type": "gemma3_text"}, {"model_type": "gemma3"}, None),
        ({"model_type": "qwen2_moe"}, {"model_type": "qwen2"}, None),
        ({"model_type": "llava", "text_config": {"model_type": "llama"}}, {"model_type": "llama"}, None),
        ({"model_type": "llava_llama", "mm_hidden_size": 1024}, {"model_type": "llama"}, None),
        ({"model_type": "internvl_chat", "llm_config": {"model_type": "qwen2"}}, {"model_type": "qwen2"}, None),
        ({"model_type": "minicpmv", "auto_map": {}}, {"model_type": "qwen2"}, None),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLMEagle3"]}, {"model_type": "qwen3"}, None),
        ({"model_type": "distilbert"}, {"model_type": "bert"}, None),
        ({"model_type": "llama"}, {}, None),
        ({}, {"model_type": "llama"}, None),
        ({"architecture": "resnet50"}, {"model_type": "llama"}, None),
        ({"model_type": 7, "architectures": [7]}, {"model_type": ["x"], "architectures": "x"}, None),
    ],
)
def test_lin211_of_the_base(own: dict[str, Any], theirs: dict[str, Any], level: str | None) -> None:
    found = findings(card("base_model: o/n"), {"config.json": own}, WHOLE, hub=hub_of(**theirs))
    assert about("LIN211", found) == ([("LIN211", level, "README.md", 3, 13)] if level else [])


def test_lin211_asks_for_every_base() -> None:
    hub = {**hub_of(model_type="mistral"), "p/q": HubModel("p/q", "found", id="p/q", config={"model_type": "vit"})}
    for bases, own, alarmed in (
        ("[o/n, p/q]", "bert", True),
        ("[o/n, p/q]", "mistral", False),
        ("[o/n, not/known]", "bert", False),
    ):
        found = findings(card(f"base_model: {bases}"), {"config.json": {"model_type": own}}, WHOLE, hub=hub)
        assert bool(about("LIN211", found)) is alarmed


def test_lin211_is_silent_without_the_hub_and_for_adapters() -> None:
    contents: dict[str, Any] = {"config.json": {"model_type": "gpt_neox"}}
    assert about("LIN211", findings(card("base_model: o/n"), contents, WHOLE)) == []
    contents["adapter_config.json"] = adapter()
    assert about("LIN211", findings(card("base_model: o/n"), contents, hub=hub_of(model_type="llama"))) == []


def test_lin211_of_the_tokenizer() -> None:
    tokens = {"added_tokens_decoder": {"32000": {"content": "[PAD]"}}}
    found = findings(card("base_model: o/n"), {"config.json": LLAMA, "tokenizer_config.json": tokens}, WHOLE)
    assert about("LIN211", found) == [("LIN211", "warning", "tokenizer_config.json", 3, 14)]


# --- LIN212 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "files", "kind", "line"),
    [
        (("dataset_info: {features: []}",), (), "dataset", 3),
        (("configs:", "- config_name: default", "  data_files: x.parquet"), (), "dataset", 3),
        (("task_categories: [text-generation]", "size_categories: [1K<n<10K]"), (), "dataset", 4),
        (("task_categories: [text-generation]",), (), "dataset", 3),
        (("annotations_creators: [found]",), ("train.csv",), "dataset", 3),
        (("title: x", "sdk: gradio", "app_file: app.py"), (), "Space", 4),
        (("sdk: docker", "colorFrom: red"), (), "Space", 3),
        # Beside weights a card is held to what a model's has to say, whatever it says of itself.
        (("annotations_creators: [found]",), (WHOLE,), None, None),
        (("title: x", "sdk: gradio", "app_file: app.py"), (WHOLE,), None, None),
        # Cards of models, with keys of others
        (("task_categories: [text-generation]",), (WHOLE,), None, None),
        (("task_categories: [x]", "base_model: o/n"), (), None, None),
        (("dataset_info: {}", "library_name: transformers"), (), None, None),
        (("size_categories: [x]", "pipeline_tag: text-generation"), (), None, None),
        (("configs: [a, b]",), (), None, None),
        (("sdk: gradio",), (), None, None),
        (("sdk: pytorch", "app_file: x"), (), None, None),
        (("datasets: [a/b]", "tags: [x]"), (), None, None),
    ],
)
def test_lin212(lines: tuple[str, ...], files: tuple[str, ...], kind: str | None, line: int | None) -> None:
    text = card(*lines)
    found = findings(text, {}, *files)
    assert about("LIN212", found) == ([("LIN212", "warning", "README.md", line, 1)] if kind else [])
    assert is_other_card(Card(front_matter=read_front_matter(text), beside=Beside(files=files))) == (
        kind if "base_model: o/n" not in lines else None
    )


# --- LIN214 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (card("license_name: '{{ license }}'"), [(3, 15)]),
        (card("pipeline_tag: [More Information Needed]"), [(3, 16)]),
        (card("tags: ['{{ tag }}', ok]"), [(3, 8)]),
        (card("extra_gated_prompt: 'Hi {{ name }}'", "widget: '{{ x }}'"), []),
        (card(body="- **Finetuned from model [optional]:** [More Information Needed]"), [(4, 40)]),
        (card(body="- **License:** [More Information Needed]\n\n- **License:** [More Information Needed]"), [(4, 16)]),
        (card(body="- **License:** {{ license }}"), [(4, 16)]),
        (
            card(
                body="- **License:** Apache\n- **Demo [optional]:** [More Information Needed]\n\n[More Information Needed]"
            ),
            [],
        ),
        (card(body="<!-- - **License:** [More Information Needed] -->\n```\n- **License:** {{ x }}\n```"), []),
    ],
)
def test_lin214(text: str, places: list[tuple[int, int]]) -> None:
    found = findings(text, {}, WHOLE)
    assert [(f.line, f.column) for f in found if f.code == "LIN214"] == places
    assert {f.level for f in found if f.code == "LIN214"} <= {"note"}


# --- honest models ----------------------------------------------------------------------------------------------------

TRAINER = "<!-- This model card has been generated automatically -->\n\n# x\n\nThis model is a fine-tuned version of [{0}](https://huggingface.co/{0}) on the None dataset.\n"
HONEST: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    ("QLoRA on a 4-bit copy", card("base_model: meta-llama/Meta-Llama-3-8B", "library_name: peft", "tags: [unsloth, trl]", body="- **Finetuned from model :** unsloth/llama-3-8b-bnb-4bit\n"), {"adapter_config.json": adapter("unsloth/llama-3-8b-bnb-4bit"), "tokenizer_config.json": {"name_or_path": "unsloth/llama-3-8b-bnb-4bit"}}, ("adapter_model.safetensors", "optimizer.pt")),
    ("Trainer", card("base_model: google-bert/bert-base-cased", body=TRAINER.format("bert-base-cased")), {"config.json": {"_name_or_path": "bert-base-cased", "model_type": "bert", "vocab_size": 28996}}, (WHOLE, "training_args.bin")),
    ("DPO on an SFT in a folder", card("base_model: o/base", "base_model_relation: finetune", body=TRAINER.format("output/sft")), {"config.json": {**LLAMA, "_name_or_path": "output/sft/checkpoint-900"}}, (WHOLE,)),
    ("fine-tune of a fine-tune", card("base_model: o/instruct"), {"config.json": {**LLAMA, "_name_or_path": "o/base"}, "tokenizer_config.json": {"name_or_path": "o/base"}}, (WHOLE,)),
    ("GGUF with imatrix and mmproj", card("base_model: o/n", "base_model_relation: quantized", "quantized_by: someone", body="## Llamacpp imatrix\n\nOriginal model: https://huggingface.co/o/n\n"), {}, ("n-IQ2_XS.gguf", "n-Q8_0.gguf", "mmproj-n-f16.gguf", "n.imatrix")),
    ("GGUF of a fine-tune whose card it copies", card("base_model: o/ft", "base_model_relation: quantized", body=TRAINER.format("o/base")), {}, ("ft-Q4_K_M.gguf",)),
    ("composite", card("base_model:", "- OpenGVLab/InternViT-300M-448px", "- Qwen/Qwen2.5-7B-Instruct", "base_model_relation: merge"), {"config.json": {"model_type": "internvl_chat", "auto_map": {}, "llm_config": {"_name_or_path": "Qwen/Qwen2.5-7B-Instruct"}}}, ("model-00001-of-00004.safetensors",)),
    ("sentence-transformers", card("base_model: microsoft/mpnet-base", "library_name: sentence-transformers"), {"config.json": {"_name_or_path": "microsoft/mpnet-base", "model_type": "mpnet", "vocab_size": 30527}}, (WHOLE, "1_Pooling/config.json")),
    ("diffusers pipeline", card("base_model: stabilityai/stable-diffusion-xl-base-1.0", "library_name: diffusers"), {"model_index.json": {"_class_name": "X", "_name_or_path": "other/one"}}, ("unet/diffusion_pytorch_model.safetensors",)),
    ("merge of folders", card("base_model: [a/one, b/two]", "base_model_relation: merge"), {"mergekit_config.yml": MERGE.replace("a/base", "/mnt/base").replace("b/two", "C:\\m\\two"), "config.json": {**LLAMA, "_name_or_path": "a/one"}}, (WHOLE,)),
    ("FP8 fine-tune", card("base_model: deepseek-ai/DeepSeek-V3-Base", "base_model_relation: finetune"), {"config.json": {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8"}}}, ("model-00001-of-000163.safetensors",)),
    ("timm", card("library_name: timm", "pipeline_tag: image-classification", "base_model: timm/resnet50.a1_in1k"), {"config.json": {"architecture": "resnet50"}}, (WHOLE,)),
    ("ONNX export", card("base_model: o/n", "library_name: transformers.js"), {"config.json": {**LLAMA, "_name_or_path": "o/n"}}, ("onnx/model.onnx", "onnx/model_quantized.onnx")),
    ("MLX", card("base_model: o/n", "library_name: mlx", body="This model [m/n](https://huggingface.co/m/n) was\nconverted to MLX format from [o/n](https://huggingface.co/o/n)\n"), {"config.json": {**LLAMA, "quantization": {"group_size": 64, "bits": 4}}}, (WHOLE,)),
    ("extracted LoRA", card("base_model: [o/base, o/ft]", "tags: [mergekit, peft]", body="This LoRA adapter was extracted from [o/ft](https://huggingface.co/o/ft) and uses [o/base](https://huggingface.co/o/base) as a base.\n"), {"adapter_config.json": adapter("o/base")}, ("adapter_model.safetensors",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "contents", "others"), [case[1:] for case in HONEST], ids=[case[0] for case in HONEST]
)
def test_honest_models_get_no_alarm(text: str, contents: dict[str, Any], others: tuple[str, ...]) -> None:
    # Licences have tests of their own; these cards all say "mit".
    assert [alarm for alarm in alarms(findings(text, contents, *others)) if alarm[0] != "LIN206"] == []


# --- whatever the facts are -------------------------------------------------------------------------------------------

claims = st.builds(BaseClaim, st.sampled_from(["a/b", "c/d", "e"]), st.none(), st.sampled_from(["README.md", "config.json", "x.gguf"]), st.none() | st.integers(1, 9), st.none() | st.integers(1, 9))  # fmt: skip
anything = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=5), x, max_size=2), max_leaves=4)  # fmt: skip
facts = st.builds(
    Beside,
    files=st.none() | st.lists(st.sampled_from(["model.safetensors", "adapter_config.json", "x.gguf", "x\x1b[1m", ""])).map(tuple),
    config=st.dictionaries(st.sampled_from(["model_type", "architectures", "_class_name", "auto_map", "x"]), anything),
    quantisation=st.none() | st.just("gptq"),
    relation=st.sampled_from([None, "adapter", "quantized", "merge"]),
    relation_file=st.none() | st.text(max_size=5),
    claims=st.lists(claims, max_size=3).map(tuple),
    problems=st.lists(st.builds(Problem, st.just("x"), file=st.sampled_from(["", "tokenizer_config.json"])), max_size=2).map(tuple),
)  # fmt: skip
lines = st.lists(
    st.sampled_from(
        ["base_model: a/b", "base_model: [a/b, c/d]", "base_model_relation: finetune", "base_model_relation: 7"]
    )
    | st.sampled_from(
        ["tags: x", "tags: [[x]]", "sdk: gradio", "configs: x", "license: '{{'", "dataset_info: null", "? [a]"]
    ),
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(lines, facts, st.dictionaries(st.sampled_from(["a/b", "c/d"]), st.builds(HubModel, st.just("a/b"), st.just("found"), bases=st.just(("c/d", "a/b")), config=st.dictionaries(st.sampled_from(["model_type", "architectures"]), anything))))  # fmt: skip
def test_rules_never_raise(lines: list[str], facts: Beside, hub: dict[str, HubModel]) -> None:
    _, found = read_card(card(*lines), beside=facts, hub=hub)
    for one in found:
        assert (one.message + one.help).isprintable()
