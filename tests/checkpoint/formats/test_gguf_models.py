"""Converted models come back under the names, in the shapes and with the numbers of transformers."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers

from lineage_plugin.anatomy import analyse
from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.gguf_files.names import ARCHITECTURES, COMPUTED, locate
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import UnreadableCheckpoint
from tests.checkpoint.builders import expected, random_selections

from .gguf_builders import Kind, add, close, convert, load

BASE = {
    "vocab_size": 24,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
EXPERTS = {**BASE, "num_local_experts": 3, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT2 = {"vocab_size": 24, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32}
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("LlamaForCausalLM", {**BASE, "attention_bias": True}),
    "mistral, wide heads": ("MistralForCausalLM", {**BASE, "head_dim": 16}),
    "mixtral": ("MixtralForCausalLM", EXPERTS),
    "granite": ("GraniteForCausalLM", BASE),
    "olmo": ("OlmoForCausalLM", {**BASE, "pad_token_id": 0}),
    "olmo2": ("Olmo2ForCausalLM", {**BASE, "pad_token_id": 0}),
    "qwen2": ("Qwen2ForCausalLM", {**BASE, "tie_word_embeddings": True}),
    "qwen2_moe": ("Qwen2MoeForCausalLM", {**EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3": ("Qwen3ForCausalLM", {**BASE, "head_dim": 16}),
    "gemma": ("GemmaForCausalLM", {**BASE, "head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", {**BASE, "head_dim": 16}),
    "gemma3": ("Gemma3ForCausalLM", {**BASE, "head_dim": 16}),
    "nemotron": ("NemotronForCausalLM", BASE),
    "stablelm": ("StableLmForCausalLM", {**BASE, "partial_rotary_factor": 0.25}),
    "starcoder2": ("Starcoder2ForCausalLM", BASE),
    "phi3": ("Phi3ForCausalLM", {**BASE, "pad_token_id": 0}),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", BASE),
    "falcon": ("FalconForCausalLM", {**BASE, "num_kv_heads": 2, "new_decoder_architecture": True}),
    "gpt_oss": ("GptOssForCausalLM", {**EXPERTS, "head_dim": 8}),
    "bert": ("BertModel", {k: v for k, v in BASE.items() if k != "num_key_value_heads"}),
}
DROPPED = {"bert": {"pooler.dense.weight", "pooler.dense.bias"}}
"""What the converter leaves out."""
OUTSIDE = {"falcon"}
"""Layouts that the anatomy does not know."""

_MOE = {"ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}
UNKNOWN: dict[str, set[str]] = {
    **{"llama-embed": _MOE, "mistral3": _MOE, "minicpm": _MOE},
    "deepseek2": {"attn_k", "attn_v", "attn_k_b", "attn_v_b"},
    "gemma-embedding": {"dense_2", "dense_3"},
    "apertus": {"ffn_gate"},
    "phi2": {"ffn_norm"},
    "phi3": {"attn_q", "attn_k", "attn_v"},
    "phimoe": {"attn_qkv"},
    "bert": {"output_norm"},
    "nomic-bert": {"output_norm", "position_embd"},
}
"""Tensors that the library lists for an architecture and its models do not have, and halves of ``kv_b_proj``."""


def saved(folder: Path, name: str, settings: dict[str, object]) -> Path:
    """A tiny random model as transformers saves it, norms and biases drawn, too."""
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("case", MODELS)
def test_tensors_are_restored(tmp_path: Path, case: str) -> None:
    folder = saved(tmp_path / "hf", *MODELS[case])
    original = open_local(folder)
    tensors = {n: torch.from_numpy(a) for n, a in load(folder)[0].items() if n not in DROPPED.get(case, ())}
    if case == "falcon":  # one of the two norms has another name in older models, which the file does not tell
        tensors = {name.replace("ln_mlp", "input_layernorm"): t for name, t in tensors.items()}
    restored = open_local(convert(folder, tmp_path / "gguf" / "model.gguf"))
    assert {name: info.shape for name, info in restored.tensors.items()} == {
        n: tuple(t.shape) for n, t in tensors.items()
    }
    for selection in random_selections(tensors, 0):
        (found,) = restored.read([selection])
        want = expected(tensors[selection.tensor], selection)
        # One was added to gains in float32, and is taken away again.
        np.testing.assert_allclose(found, want, rtol=0, atol=2e-7 if "norm" in selection.tensor else 0)
    if case not in OUTSIDE:
        mine = {n: info for n, info in original.tensors.items() if n not in DROPPED.get(case, ())}
        want, found = analyse(mine, original.config), analyse(restored.tensors, restored.config)
        assert found.exact
        assert (found.family, found.limits) == (want.family, want.limits)
        assert [group.key for group in found.groups] == [group.key for group in want.groups]


@pytest.mark.parametrize("case", ["llama", "mixtral", "gpt2", "gpt_neox", "gpt_oss"])
def test_quantised_tensors_are_those_of_the_library_rearranged(tmp_path: Path, case: str) -> None:
    """Rows and columns of a rearranged quantised tensor are near the original, and those of the whole."""
    wide = {"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 64, "n_embd": 64}
    settings = {key: wide.get(key, value) for key, value in MODELS[case][1].items()}
    folder = saved(tmp_path / "hf", MODELS[case][0], settings)
    tensors = {n: torch.from_numpy(a) for n, a in load(folder)[0].items()}
    restored = open_local(convert(folder, tmp_path / "gguf" / "model.gguf", Kind.Q8_0))
    whole = {n: torch.from_numpy(restored.read([Selection(n)])[0].reshape(tensors[n].shape)) for n in tensors}
    packed = 0
    for name, tensor in tensors.items():
        encoding = restored.tensors[name].encoding
        packed += encoding is not None
        error = (whole[name] - tensor).abs().max()
        assert error <= (0 if encoding is None else 1 / 200) * tensor.abs().max(), name
        if encoding is not None and (case == "gpt2" and "wte" not in name and "wpe" not in name):
            assert (encoding.shared, encoding.axis) == ((32, 1), 1)
    assert packed > 5
    for selection in random_selections(whole, 1):
        np.testing.assert_array_equal(restored.read([selection])[0], expected(whole[selection.tensor], selection))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_are_those_of_the_library(name: str) -> None:
    """What the library maps to a tensor of the file is what we make of that tensor."""
    architecture = ARCHITECTURES[name]
    kind = next(kind for kind, named in gguf.MODEL_ARCH_NAMES.items() if named == name)
    names = gguf.get_tensor_name_map(kind, 2)
    known: set[str] = set()
    for tensor in gguf.MODEL_TENSORS[kind]:
        stored = gguf.TENSOR_NAMES[tensor].format(bid=1)
        module = stored.removeprefix("blk.1.")
        if module in COMPUTED | UNKNOWN.get(name, set()) or module.startswith("nextn."):
            continue
        leaf = "bias" if module == "exp_probs_b" else "weight"
        place = locate(architecture, f"{stored}.{leaf}")
        assert place is not None, stored
        if place.stacked:
            assert place.module == module
        elif place.module == module:
            ours = place.name.removesuffix("." + leaf).removesuffix("_bias")
            assert names.get_name(ours.replace(".language_model", "")) == stored, ours
        known.add(module)
    assert len(known) > 5


def test_rotary_pairs_of_fused_projections(tmp_path: Path) -> None:
    """llama.cpp can fuse query, key and value when it converts; they come apart again."""
    folder = saved(tmp_path / "hf", "LlamaForCausalLM", {**BASE, "attention_bias": True})
    tensors, _ = load(folder)
    apart = gguf.GGUFReader(convert(folder, tmp_path / "apart.gguf"))
    (tmp_path / "fused").mkdir()
    writer = gguf.GGUFWriter(tmp_path / "fused" / "model.gguf", "llama")
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    stored = {tensor.name: np.array(tensor.data) for tensor in apart.tensors}
    for layer in range(2):
        for leaf in ("weight", "bias"):
            parts = [stored.pop(f"blk.{layer}.attn_{part}.{leaf}") for part in "qkv"]
            stored[f"blk.{layer}.attn_qkv.{leaf}"] = np.concatenate(parts)
    for name, array in stored.items():
        add(writer, name, array, Kind.F32)
    close(writer)
    restored = open_local(tmp_path / "fused")
    assert set(restored.tensors) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(restored.read([Selection(name)])[0].reshape(array.shape), array)


def test_experts_from_before_they_were_stacked(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "old.gguf", "llama")
    writer.add_expert_count(2)
    for expert in range(2):
        add(writer, f"blk.0.ffn_down.{expert}.weight", np.full((4, 4), expert), Kind.F32)
    close(writer)
    checkpoint = open_local(tmp_path / "old.gguf")
    assert set(checkpoint.tensors) == {f"model.layers.0.block_sparse_moe.experts.{e}.w2.weight" for e in range(2)}


def test_without_the_number_of_heads_query_and_key_stay_apart(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "llama")
    for module in ("attn_q", "attn_k", "attn_v"):
        add(writer, f"blk.0.{module}.weight", np.ones((8, 8)), Kind.F32)
    close(writer)
    checkpoint = open_local(tmp_path / "w.gguf")
    kept = {"blk.0.attn_q.weight", "blk.0.attn_k.weight"}
    assert set(checkpoint.tensors) == kept | {"model.layers.0.self_attn.v_proj.weight"}
    assert any("keep the names" in note for note in checkpoint.notes)


def test_unknown_architectures_keep_their_names(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "never-heard-of")
    add(writer, "blk.0.attn_q.weight", np.ones((8, 8)), Kind.F32)
    close(writer)
    checkpoint = open_local(tmp_path / "w.gguf")
    assert set(checkpoint.tensors) == {"blk.0.attn_q.weight"}
    assert any("'never-heard-of' is not known" in note for note in checkpoint.notes)


def test_two_tensors_for_one_place(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "llama")
    for name in ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"):
        add(writer, name, np.ones((8, 8)), Kind.F32)
    close(writer)
    with pytest.raises(UnreadableCheckpoint, match="two tensors stand for"):
        open_local(tmp_path / "w.gguf")
