"""What the files beside a card say, of models as the Hub has them, and of damaged ones."""

# One case a line, as a table.
# ruff: noqa: E501

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage_plugin.card.beside import Beside
from lineage_plugin.card.gather import MAX_FILE, gather
from lineage_plugin.card.weight_names import weight_names
from lineage_plugin.errors import UnreadableCheckpoint
from tests.card.beside_files import beside, reader

LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000}
MERGE = "merge_method: slerp\nbase_model: a/b\nmodels:\n- model: a/b\n- model: c/d\n"


def quantised(**section: object) -> dict[str, Any]:
    return {**LLAMA, "quantization_config": section}


FOLDERS: list[tuple[str, dict[str, Any], tuple[str, ...], str | None, str | None, str | None]] = [
    # name, contents, names of others, scheme, relation, file that shows it
    ("empty", {}, (), None, None, None),
    ("whole weights", {"config.json": LLAMA}, ("model.safetensors", "tokenizer.json"), None, None, None),
    ("PEFT", {"adapter_config.json": {"peft_type": "LORA"}}, ("adapter_model.safetensors", "tokenizer.json"), None, "adapter", "adapter_config.json"),
    ("PEFT with training state", {"adapter_config.json": {}}, ("adapter_model.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "global_step5/mp_rank_00_model_states.pt"), None, "adapter", "adapter_config.json"),
    ("PEFT in checkpoints", {}, ("checkpoint-5/adapter_config.json", "checkpoint-5/adapter_model.safetensors", "checkpoint-5/optimizer.pt"), None, "adapter", "checkpoint-5/adapter_config.json"),
    ("PEFT beside whole weights", {"adapter_config.json": {}, "config.json": LLAMA}, ("adapter_model.safetensors", "model.safetensors"), None, None, None),
    ("PEFT with its merged model below", {"adapter_config.json": {}}, ("adapter_model.safetensors", "merged/model-00001-of-00002.safetensors"), None, None, None),
    ("QLoRA", {"adapter_config.json": {}, "config.json": quantised(quant_method="bitsandbytes", load_in_4bit=True)}, ("adapter_model.safetensors",), "bitsandbytes", "adapter", "adapter_config.json"),
    ("diffusers LoRA", {}, ("pytorch_lora_weights.safetensors", "image_0.png"), None, "adapter", "pytorch_lora_weights.safetensors"),
    ("LoRA of any name", {}, ("my_style_LoRA_v2.safetensors",), None, "adapter", "my_style_LoRA_v2.safetensors"),
    ("LoRA and something else", {}, ("my_lora.safetensors", "flux-dev.safetensors"), None, None, None),
    ("LoRA in GGUF", {}, ("x-lora-f16.gguf",), None, None, None),
    ("flora is no LoRA", {}, ("flora.safetensors",), None, None, None),
    ("MLX adapter", {"adapter_config.json": {}}, ("adapters.safetensors", "0000100_adapters.safetensors"), None, "adapter", "adapter_config.json"),
    ("training state only", {}, ("optimizer.pt", "scheduler.pt", "training_args.bin"), None, None, None),
    ("GPTQ", {"config.json": quantised(quant_method="gptq", bits=4, group_size=128)}, ("model.safetensors",), "gptq", "quantized", "config.json"),
    ("GPTQ of old", {"config.json": LLAMA, "quantize_config.json": {"bits": 4, "group_size": 128, "desc_act": False}}, ("model.safetensors",), "gptq", "quantized", "quantize_config.json"),
    ("AWQ", {"config.json": quantised(quant_method="AWQ", bits=4)}, ("model.safetensors",), "awq", "quantized", "config.json"),
    ("AWQ of old", {"config.json": LLAMA, "quant_config.json": {"w_bit": 4, "q_group_size": 128}}, ("model.safetensors",), "awq", "quantized", "quant_config.json"),
    ("bitsandbytes", {"config.json": quantised(load_in_8bit=True)}, ("model.safetensors",), "bitsandbytes", "quantized", "config.json"),
    ("compressed-tensors", {"config.json": quantised(quant_method="compressed-tensors")}, ("model.safetensors",), "compressed-tensors", "quantized", "config.json"),
    ("compressed-tensors of old", {"config.json": {**LLAMA, "compression_config": {"format": "pack"}}}, ("model.safetensors",), "compressed-tensors", "quantized", "config.json"),
    ("Kimi K2 Thinking", {"config.json": {"model_type": "kimi_k2", "quantization_config": {"quant_method": "compressed-tensors"}}}, ("model.safetensors",), "compressed-tensors", None, None),
    ("MLX", {"config.json": {**LLAMA, "quantization": {"group_size": 64, "bits": 4}, "quantization_config": {"group_size": 64, "bits": 4}}}, ("model.safetensors",), "mlx", "quantized", "config.json"),
    ("modelopt", {"config.json": LLAMA, "hf_quant_config.json": {"quantization": {"quant_algo": "NVFP4"}}}, ("model.safetensors",), "modelopt", "quantized", "hf_quant_config.json"),
    ("DeepSeek fine-tune", {"config.json": {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8"}}}, ("model-00001-of-00163.safetensors",), "fp8", None, None),
    ("gpt-oss fine-tune", {"config.json": {"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}}, ("model.safetensors",), "mxfp4", None, None),
    ("BitNet", {"config.json": quantised(quant_method="bitnet")}, ("model.safetensors",), "bitnet", None, None),
    ("GGUF", {}, ("m-Q4_K_M.gguf", "m-f16.gguf", "mmproj-m-f16.gguf", "imatrix.dat"), "gguf", "quantized", "m-Q4_K_M.gguf"),
    ("GGUF of small types", {}, ("m.i1-IQ2_XS.gguf",), "gguf", "quantized", "m.i1-IQ2_XS.gguf"),
    ("GGUF in lower case", {}, ("m.q8_0.gguf",), "gguf", "quantized", "m.q8_0.gguf"),
    ("GGUF in folders", {}, ("Q6_K/m-00001-of-00002.gguf", "Q6_K/m-00002-of-00002.gguf"), "gguf", "quantized", "Q6_K/m-00001-of-00002.gguf"),
    ("GGUF not quantised", {}, ("m-BF16.gguf", "mmproj-Q8_0.gguf", "Qwen3-imatrix-Q8_0.gguf"), None, None, None),
    ("merge", {"config.json": LLAMA, "mergekit_config.yml": MERGE}, ("model-00001-of-00002.safetensors",), None, "merge", "mergekit_config.yml"),
    ("quantised copy of a merge", {"config.json": quantised(quant_method="exl2"), "mergekit_config.yml": MERGE}, ("output.safetensors",), "exl2", "quantized", "config.json"),
    ("diffusers pipeline", {"model_index.json": {"_class_name": "FluxPipeline"}}, ("unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"), None, None, None),
    ("sentence-transformers", {"config.json": LLAMA, "modules.json": "[]"}, ("model.safetensors", "1_Pooling/config.json", "2_Dense/model.safetensors"), None, None, None),
    ("timm", {"config.json": {"architecture": "resnet50", "num_classes": 1000}}, ("model.safetensors", "pytorch_model.bin"), None, None, None),
    ("ONNX", {"config.json": LLAMA}, ("onnx/model.onnx", "onnx/model_quantized.onnx"), None, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("contents", "others", "scheme", "relation", "file"), [case[1:] for case in FOLDERS], ids=[case[0] for case in FOLDERS])  # fmt: skip
def test_folders(contents: dict[str, Any], others: tuple[str, ...], scheme: str | None, relation: str | None, file: str | None) -> None:  # fmt: skip
    found = beside(contents, *others)
    assert (found.quantisation, found.relation, found.relation_file) == (scheme, relation, file)
    assert found.files == tuple(sorted([*contents, *others, "README.md", ".gitattributes"]))
    assert found.problems == ()


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model.fp16.safetensors",
        "model-00001-of-00163.safetensors",
        "model-00001-of-000163.safetensors",
        "model.fp16-00001-of-00002.safetensors",
        "model-00001-of-00002.fp16.safetensors",
        "pytorch_model.bin",
        "tf_model.h5",
        "consolidated.00.pth",
        "consolidated.safetensors",
        "flax_model.msgpack",
        "open_clip_pytorch_model.bin",
        "x.gguf",
    ],
)
def test_names_of_whole_weights(name: str) -> None:
    assert weight_names([name]).whole == name
    assert weight_names([f"my_{name}"]).whole == (f"my_{name}" if name == "x.gguf" else None)


@pytest.mark.parametrize(("kind", "scheme"), [(0, None), (1, None), (32, None), (1025, None), (15, "gguf"), (True, "gguf"), ("15", "gguf")])  # fmt: skip
def test_the_header_of_a_gguf_file_comes_before_its_name(kind: object, scheme: str | None) -> None:
    asked = []

    def header(name: str) -> dict[str, object]:
        asked.append(name)
        return {
            "general.file_type": kind,
            "general.base_model.count": 1,
            "general.base_model.0.repo_url": "https://huggingface.co/a/b",
        }

    found = beside({}, "m-Q4_K_M.gguf", "mmproj-m.gguf", gguf=header)
    assert (found.quantisation, found.relation) == (scheme, scheme and "quantized")
    assert [(c.id, c.file, c.line) for c in found.claims] == [("a/b", "m-Q4_K_M.gguf", None)]
    assert asked == ["m-Q4_K_M.gguf"]


def test_a_damaged_gguf_file_is_explained() -> None:
    def header(name: str) -> dict[str, object]:
        raise UnreadableCheckpoint(name, "the magic is\nmissing")

    found = beside({}, "m-Q4_K_M.gguf", gguf=header)
    assert [(p.message, p.file, p.level) for p in found.problems] == [
        ("m-Q4_K_M.gguf was not read: the magic is missing", "m-Q4_K_M.gguf", "note")
    ]
    assert found.relation == "quantized"


def test_claims_and_where_they_stand() -> None:
    found = beside(
        {
            "config.json": '{\r\n  "_name_or_path": "owner/name",\r\n  "model_type": "llama"\r\n}',
            "tokenizer_config.json": '{"name_or_path":\n"gpt2"}',
            "mergekit_config.yml": MERGE + "tokenizer_source: t/t\n",
        },
        text="# x\n\nOriginal model: https://huggingface.co/o/m\n",
    )
    assert [(c.id, c.file, c.line, c.column) for c in found.claims] == [
        ("owner/name", "config.json", 2, 20),
        ("gpt2", "tokenizer_config.json", 2, 1),
        ("t/t", "mergekit_config.yml", 6, 19),
        ("o/m", "README.md", 3, 17),
    ]
    assert found.recipe is not None and [claim.id for claim in found.recipe.models] == ["a/b", "c/d"]
    assert found.config["model_type"] == "llama"


def test_a_claim_is_pointed_at_where_parts_have_its_key() -> None:
    found = beside({"config.json": '{\n "_name_or_path": "o/n",\n "text_config": {\n  "_name_or_path": ""}\n}'})
    assert [(c.id, c.line, c.column) for c in found.claims] == [("o/n", 2, 19)]


@pytest.mark.parametrize(
    "path",
    [
        "/data/m",
        "./m",
        "C:\\m",
        "output/checkpoint-500",
        "models/llama",
        "checkpoint-12",
        "me/ckpt-3",
        "merged",
        "a/b/c",
        "",
        " ",
        "None",
        7,
        None,
        [],
        "x" * 5000,
        "a/b\nc",
    ],
)
def test_folders_of_somebodys_disk_claim_nothing(path: object) -> None:
    found = beside({"config.json": {"_name_or_path": path}, "tokenizer_config.json": {"name_or_path": path}})
    assert (found.claims, found.problems) == ((), ())


def test_a_file_of_a_recipe_comes_before_the_text() -> None:
    text = "```yaml\nmerge_method: x\nmodels: [{model: x/y}, {model: v/w}]\n```\n"
    assert beside({"mergekit_config.yml": MERGE}, text=text).recipe == beside({"mergekit_config.yml": MERGE}).recipe
    alone = beside({"config.json": LLAMA}, "model.safetensors", text=text)
    assert alone.recipe is not None and (alone.recipe.file, alone.relation) == ("README.md", None)
    said = "The following YAML configuration was used to produce this model:\n\n" + text
    assert beside({}, "model.safetensors", text=said).relation == "merge"


def test_only_files_that_are_there_are_read() -> None:
    asked: list[str] = []

    def read(name: str, limit: int) -> None:
        asked.append(name)

    gather(read, ["README.md", "config.json", "model.safetensors"])
    assert asked == ["config.json"]
    asked.clear()
    found = gather(read, None)
    assert len(asked) == len(set(asked)) < 10 and not any(name.endswith(".safetensors") for name in asked)
    assert found == Beside()


def test_tokens_without_an_embedding() -> None:
    tokens = '{\n "added_tokens_decoder": {\n  "2": {"content": "</s>"},\n  "32000": {"content": "[PAD]"}\n }\n}'
    found = beside({"config.json": LLAMA, "tokenizer_config.json": tokens})
    (problem,) = found.problems
    assert (problem.file, problem.line, problem.column, problem.level) == ("tokenizer_config.json", 4, 12, "warning")
    assert "[PAD]" in problem.message and "31999" in problem.message
    older = beside({"config.json": {"text_config": {"vocab_size": 5}}, "added_tokens.json": {"a": 4, "b": 5}})
    assert [p.file for p in older.problems] == ["added_tokens.json"]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"vocab_size": 32001}, {"32000": {"content": "[PAD]"}}),
        ({}, {"32000": {"content": "[PAD]"}}),
        ({"vocab_size": True}, {"32000": {"content": "[PAD]"}}),
        ({"vocab_size": -1}, {"32000": {"content": "[PAD]"}}),
        ({"vocab_size": "5"}, {"32000": {"content": "[PAD]"}}),
        # google/gemma-3-1b-it reads text, with the tokenizer of its siblings that read images
        ({"vocab_size": 262144}, {"262144": {"content": "<image_soft_token>"}}),
        ({"vocab_size": 5}, {"-7": {"content": "x"}, "9" * 30: {"content": "x"}, "²": {"content": "x"}, "7": "x"}),
        ({"vocab_size": 5}, ["x"]),
        # LLaVA-1.5: the size of the text model counts; Idefics: some tokens have embeddings of their own
        ({"vocab_size": 5, "text_config": {"vocab_size": 8}}, {"7": {"content": "<pad>"}}),
        ({"vocab_size": 5, "additional_vocab_size": 3}, {"7": {"content": "<end>"}}),
        # wav2vec 2.0 writes tokens and reads none
        ({"vocab_size": 5, "architectures": ["Wav2Vec2ForCTC"]}, {"5": {"content": "<s>"}}),
        ({"vocab_size": 5, "auto_map": {}}, {"5": {"content": "<s>"}}),
    ],
)
def test_tokens_that_are_in_order(config: dict[str, Any], tokens: object) -> None:
    assert beside({"config.json": config, "tokenizer_config.json": {"added_tokens_decoder": tokens}}).problems == ()


HOSTILE = [
    b"",
    b"\xff\xfe{\x00}\x00",
    b"\xff",
    b"[]",
    b"null",
    b'"x"',
    b"{",
    b'{"a": NaN}',
    b'{"a": 1, "a": 2}',
    b'{"vocab_size": ' + b"9" * 400_000 + b"}",
    b"[" * 400_000,
    b'{"a":' * 100_000,
    b'{"a": "' + b"\\u0000" * 10_000 + b'"}',
    b'{"\xed\xa0\x80": 1}',
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_damaged_files_are_explained(content: bytes) -> None:
    names = ("config.json", "tokenizer_config.json", "added_tokens.json", "quantize_config.json", "mergekit_config.yml")
    found = beside(dict.fromkeys(names, content), "model.safetensors")
    assert (found.claims, found.recipe, found.relation) == ((), None, None)
    for problem in found.problems:
        assert problem.message.isprintable() and len(problem.message) < 200 and problem.level == "note"
    said = {problem.file for problem in found.problems}
    assert "config.json" in said or b"\\u0000" in content


def test_a_byte_order_mark_does_no_harm() -> None:
    assert beside({"config.json": b'\xef\xbb\xbf{"model_type": "llama"}'}).config == {"model_type": "llama"}


def test_more_than_was_asked_for_is_not_read() -> None:
    found = gather(lambda name, limit: b" " * (limit + 1), ["config.json"])
    assert found.config == {} and "4 MiB" in found.problems[0].message


def test_large_files_are_cheap() -> None:
    start = time.process_time()
    decoder = ",".join(f'"{number}": {{"content": "<{number}>"}}' for number in range(60_000))
    beside({"config.json": LLAMA, "tokenizer_config.json": f'{{"added_tokens_decoder": {{{decoder}}}}}'})
    beside({"config.json": b'"_name_or_path":' * (MAX_FILE // 16)})
    beside({"config.json": b'{"_name_or_path": "a/b"}' + b" " * (MAX_FILE - 30)})
    names = [f"model-{number:05d}-of-99999{'.' * 40}.safetensors" for number in range(5_000)]
    weight_names(["model" + ".1" * 100 + "!", "model" + "-1" * 100 + "!", "lora" * 60 + "!", "Q1_1_1_1" * 30 + ".gguf"])
    weight_names([*names, "x" * 100_000 + "lora", "-Q4" * 50_000 + ".gguf"])
    assert time.process_time() - start < 5


KEYS = (
    *("_name_or_path", "name_or_path", "quantization_config", "quantization", "quant_method", "bits", "group_size"),
    *("vocab_size", "text_config", "added_tokens_decoder", "content", "compression_config", "model_type", "7"),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["a/b", "gptq", "fp8", "5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=120, deadline=None)
@given(st.dictionaries(st.sampled_from(["config.json", "tokenizer_config.json", "added_tokens.json", "hf_quant_config.json"]), values))  # fmt: skip
@example({"config.json": {"quantization_config": {"quant_method": "compressed-tensors"}, "model_type": [{}]}})
def test_whatever_the_values_are_a_value_comes_out(documents: dict[str, Any]) -> None:
    import json

    contents = {name: json.dumps(value).encode() for name, value in documents.items()}
    found = gather(reader(contents), [*contents, "model.safetensors", "m.gguf"], gguf=lambda name: documents)
    assert isinstance(found, Beside)
    assert found.relation in (None, "quantized")
    for claim in found.claims:
        assert claim.id == "a/b"
