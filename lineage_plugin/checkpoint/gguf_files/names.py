"""Tensor names of GGUF files, and what transformers calls the same tensors.

One :class:`Architecture` for each value of ``general.architecture`` whose conversion has been read. It says under which
names its tensors were known, and what the converter did to them besides renaming. Tests hold the names against the
table of the ``gguf`` library and the changes against the formulas of the converter.

* ``pairs``: rows of query and key stand so that the two channels of a rotary pair are neighbours; transformers has them
  half a head apart. llama.cpp's own list of rotary conventions agrees: it is ``NORM`` for exactly these types of the
  architectures that transformers rotates by halves.
* ``plus_one``: one was added to the gains of norms that compute ``1 + w``.
* ``turned``: ``Conv1D`` weights were transposed.
* ``fused``: how the rows of a fused query-key-value matrix are ordered in transformers; the file has all queries, then
  all keys, then all values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

__all__ = ["ARCHITECTURES", "COMPUTED", "Architecture", "Experts", "Place", "locate"]


@dataclass(frozen=True, slots=True)
class Experts:
    """Names of the experts, which the file stacks in one tensor for each projection.

    Attributes:
        parent: Module that holds the numbered experts.
        gate: Name of the gate projection of an expert.
        up: The same of the up projection.
        down: The same of the down projection.
    """

    parent: str = "mlp.experts"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"

    def name(self, projection: str, number: int) -> str:
        """Return the name of a projection (``gate``, ``up``, ``down``) of an expert."""
        return f"{self.parent}.{number}.{getattr(self, projection)}"


@dataclass(frozen=True, eq=False, slots=True)
class Architecture:
    """How the tensors of an architecture were named and changed.

    Attributes:
        model_type: ``model_type`` of its configuration.
        inside: Module or tensor inside a layer, as the file names it, to the name in transformers.
        outside: The same for what is outside the layers.
        layers: What stands before the number of a layer in transformers.
        pairs: See above; ``weights`` when biases, if there are any, were left alone.
        plus_one: See above.
        turned: See above; modules as the file names them.
        fused: See above: ``heads`` for query, key and value head by head, ``groups`` for groups of queries with one
            key and value each.
        experts: Names of single experts, or None.
        joined: Whether gate and up of all experts are one tensor with their units in turns (GPT-OSS).
    """

    model_type: str
    inside: Mapping[str, str]
    outside: Mapping[str, str] = field(default_factory=dict)
    layers: str = "model.layers"
    pairs: Literal["", "weights", "all"] = ""
    plus_one: bool = False
    turned: frozenset[str] = frozenset()
    fused: Literal["", "heads", "groups"] = ""
    experts: Experts | None = None
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor of a file belongs.

    Attributes:
        name: Its name in transformers; for stacked experts what stands before the number of the expert.
        module: The module as the file names it, such as ``attn_q``; several, joined by ``+``, where the file fuses
            what the model has apart, and ``name`` is then what stands before their names.
        leaf: ``weight`` or ``bias``.
        layer: Number of the layer, None outside the layers.
        stacked: ``gate``, ``up``, ``down`` or ``gate_up`` for stacked experts, else an empty string.
    """

    name: str
    module: str
    leaf: str
    layer: int | None = None
    stacked: str = ""


_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,5})\.(.+)", re.ASCII)
_STACKED = re.compile(r"ffn_(gate|up|down|gate_up)_exps")
_SINGLE = re.compile(r"ffn_(gate|up|down)\.(0|[1-9][0-9]{0,5})", re.ASCII)
"""Experts of files from before they were stacked (April 2024)."""
COMPUTED = frozenset({"rope_freqs", "rope_factors_long", "rope_factors_short", "attn_rot_embd"})
"""Modules that the converter computes from the configuration; the model has no such tensors."""


def locate(architecture: Architecture, name: str) -> Place | None:
    """Find out where a tensor belongs.

    Args:
        architecture: The architecture of the file.
        name: The tensor as the file names it.

    Returns:
        The place; None when the name is not known.
    """
    match = _LAYER.fullmatch(name)
    inner = match[2] if match else name
    module, dot, leaf = inner.rpartition(".")
    if not dot:
        return None
    number = int(match[1]) if match else None
    start = f"{architecture.layers}.{number}." if match else ""
    known = architecture.inside if match else architecture.outside
    if match and module == "attn_qkv" and module not in known and "attn_q" in known:
        # The converter may be asked to fuse what the model has apart.
        return Place(start, "attn_q+attn_k+attn_v", leaf, number)
    if inner in known:
        return Place(start + known[inner], module, leaf, number)
    if module in known:
        return Place(f"{start}{known[module]}.{leaf}", module, leaf, number)
    if match and (architecture.experts or architecture.joined):
        if stacked := _STACKED.fullmatch(module):
            parent = architecture.experts.parent if architecture.experts else "mlp.experts"
            return Place(start + parent, module, leaf, number, stacked[1])
        if (single := _SINGLE.fullmatch(module)) and architecture.experts:
            return Place(f"{start}{architecture.experts.name(single[1], int(single[2]))}.{leaf}", module, leaf, number)
    return None


_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_QK_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_BEFORE = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_AFTER = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
_AROUND = {"attn_norm": "input_layernorm", "ffn_norm": "pre_feedforward_layernorm", **_AFTER}
_PLAIN = {"ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_GATED = {"ffn_gate": "mlp.gate_proj", **_PLAIN}
_ROUTED = {"ffn_gate_inp": "mlp.gate"}
_CORRECTED = {"exp_probs_b.bias": "mlp.gate.e_score_correction_bias"}
_W = Experts("block_sparse_moe.experts", "w1", "w3", "w2")


def _shared(parent: str) -> dict[str, str]:
    return {f"ffn_{part}_shexp": f"mlp.{parent}.{part}_proj" for part in ("gate", "up", "down")}


_LLAMA = Architecture("llama", {**_ATTENTION, **_BEFORE, **_GATED}, _OUTSIDE)
_QWEN3 = replace(_LLAMA, model_type="qwen3", inside={**_LLAMA.inside, **_QK_NORMS})
_QWEN3_MOE = replace(_QWEN3, model_type="qwen3_moe", inside={**_QWEN3.inside, **_ROUTED}, experts=Experts())
_GEMMA2 = replace(_LLAMA, model_type="gemma2", inside={**_ATTENTION, **_AROUND, **_GATED}, plus_one=True)
_GEMMA3 = replace(_GEMMA2, model_type="gemma3_text", inside={**_GEMMA2.inside, **_QK_NORMS})
_UNDER = {
    "token_embd": "model.language_model.embed_tokens",
    "output_norm": "model.language_model.norm",
    "output": "lm_head",
}
_GPT2 = Architecture(
    "gpt2",
    {
        "attn_norm": "ln_1",
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    },
    {
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
    },
    "transformer.h",
    turned=frozenset({"attn_qkv", "attn_output", "ffn_up", "ffn_down"}),
)
_LATENT = {
    "attn_q": "self_attn.q_proj",
    "attn_q_a": "self_attn.q_a_proj",
    "attn_q_b": "self_attn.q_b_proj",
    "attn_q_a_norm": "self_attn.q_a_layernorm",
    "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
    "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    "attn_kv_b": "self_attn.kv_b_proj",
    "attn_output": "self_attn.o_proj",
}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": replace(
        _LLAMA,
        pairs="all",
        inside={**_LLAMA.inside, "ffn_gate_inp": "block_sparse_moe.gate"},
        experts=_W,
    ),
    "llama-embed": replace(_LLAMA, pairs="all"),
    "mistral3": replace(_LLAMA, model_type="mistral", pairs="all"),
    "smollm3": replace(_LLAMA, model_type="smollm3", pairs="all"),
    "granite": replace(_LLAMA, model_type="granite", pairs="all"),
    "minicpm": replace(_LLAMA, model_type="minicpm", pairs="weights"),
    "arcee": replace(_LLAMA, model_type="arcee", inside={**_ATTENTION, **_BEFORE, **_PLAIN}, pairs="all"),
    "olmo": replace(
        _LLAMA,
        model_type="olmo",
        inside={**_ATTENTION, **_GATED},
        outside={name: _OUTSIDE[name] for name in ("token_embd", "output")},
        pairs="weights",
    ),
    "deepseek": replace(
        _LLAMA,
        model_type="deepseek",
        inside={**_LLAMA.inside, **_ROUTED, **_shared("shared_experts")},
        pairs="all",
        experts=Experts(),
    ),
    "deepseek2": replace(
        _LLAMA,
        model_type="deepseek_v2",
        inside={**_LATENT, **_BEFORE, **_GATED, **_ROUTED, **_CORRECTED, **_shared("shared_experts")},
        experts=Experts(),
    ),
    "qwen2": replace(_LLAMA, model_type="qwen2"),
    "qwen2vl": replace(_LLAMA, model_type="qwen2_vl"),
    "qwen2moe": replace(
        _LLAMA,
        model_type="qwen2_moe",
        inside={
            **_LLAMA.inside,
            **_ROUTED,
            **_shared("shared_expert"),
            "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
        },
        experts=Experts(),
    ),
    "qwen3": _QWEN3,
    "qwen3moe": _QWEN3_MOE,
    "qwen3vl": replace(_QWEN3, model_type="qwen3_vl_text", outside=_UNDER, layers="model.language_model.layers"),
    "olmo2": replace(_LLAMA, model_type="olmo2", inside={**_ATTENTION, **_QK_NORMS, **_AFTER, **_GATED}),
    "olmoe": replace(_QWEN3_MOE, model_type="olmoe"),
    "exaone4": replace(_LLAMA, model_type="exaone4", inside={**_ATTENTION, **_QK_NORMS, **_AFTER, **_GATED}),
    "seed_oss": replace(
        _LLAMA,
        model_type="seed_oss",
        inside={
            **_ATTENTION,
            **_GATED,
            "attn_norm": "input_layernorm",
            "post_attention_norm": "post_attention_layernorm",
        },
    ),
    "gemma": replace(_LLAMA, model_type="gemma", plus_one=True),
    "gemma2": _GEMMA2,
    "gemma3": _GEMMA3,
    "gemma-embedding": _GEMMA3,
    "command-r": replace(
        _LLAMA, model_type="cohere", inside={**_ATTENTION, **_QK_NORMS, **_GATED, "attn_norm": "input_layernorm"}
    ),
    "cohere2": replace(_LLAMA, model_type="cohere2", inside={**_ATTENTION, **_GATED, "attn_norm": "input_layernorm"}),
    "nemotron": replace(_LLAMA, model_type="nemotron", inside={**_ATTENTION, **_BEFORE, **_PLAIN}, plus_one=True),
    "apertus": replace(
        _LLAMA,
        model_type="apertus",
        inside={
            **_ATTENTION,
            **_QK_NORMS,
            **_PLAIN,
            "attn_norm": "attention_layernorm",
            "ffn_norm": "feedforward_layernorm",
        },
    ),
    "stablelm": replace(
        _LLAMA,
        model_type="stablelm",
        inside={
            **_LLAMA.inside,
            "attn_q_norm": "self_attn.q_layernorm",
            "attn_k_norm": "self_attn.k_layernorm",
        },
    ),
    "starcoder2": replace(
        _LLAMA,
        model_type="starcoder2",
        inside={**_ATTENTION, **_BEFORE, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    ),
    "ernie4_5": replace(_LLAMA, model_type="ernie4_5"),
    "ernie4_5-moe": replace(
        _LLAMA,
        model_type="ernie4_5_moe",
        inside={
            **_LLAMA.inside,
            **_ROUTED,
            **_shared("shared_experts"),
            "exp_probs_b.bias": "mlp.moe_statics.e_score_correction_bias",
        },
        experts=Experts(),
    ),
    "dots1": replace(
        _QWEN3_MOE,
        model_type="dots1",
        inside={**_QWEN3_MOE.inside, **_CORRECTED, **_shared("shared_experts")},
    ),
    "glm4": replace(
        _LLAMA,
        model_type="glm4",
        inside={
            **_ATTENTION,
            **_BEFORE,
            "post_attention_norm": "post_self_attn_layernorm",
            "post_ffw_norm": "post_mlp_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
    ),
    "glm4moe": replace(
        _LLAMA,
        model_type="glm4_moe",
        inside={
            **_ATTENTION,
            **_QK_NORMS,
            **_GATED,
            **_ROUTED,
            **_CORRECTED,
            **_shared("shared_experts"),
            "attn_norm": "input_layernorm",
            "post_attention_norm": "post_attention_layernorm",
        },
        experts=Experts(),
    ),
    "gpt-oss": replace(
        _LLAMA,
        model_type="gpt_oss",
        inside={
            **_ATTENTION,
            "attn_norm": "input_layernorm",
            "post_attention_norm": "post_attention_layernorm",
            "attn_sinks.weight": "self_attn.sinks",
            "ffn_gate_inp": "mlp.router",
        },
        joined=True,
    ),
    "phi2": replace(
        _LLAMA,
        model_type="phi",
        inside={
            **_ATTENTION,
            "attn_norm": "input_layernorm",
            "attn_output": "self_attn.dense",
            "ffn_up": "mlp.fc1",
            "ffn_down": "mlp.fc2",
        },
        outside={**_OUTSIDE, "output_norm": "model.final_layernorm"},
    ),
    "phi3": replace(
        _LLAMA,
        model_type="phi3",
        inside={
            **_BEFORE,
            "attn_qkv": "self_attn.qkv_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
    ),
    "phimoe": replace(
        _LLAMA,
        model_type="phimoe",
        inside={**_ATTENTION, **_BEFORE, "ffn_gate_inp": "block_sparse_moe.gate"},
        experts=_W,
    ),
    "gpt2": _GPT2,
    "starcoder": replace(_GPT2, model_type="gpt_bigcode", turned=frozenset()),
    "gptneox": Architecture(
        "gpt_neox",
        {
            **_BEFORE,
            "attn_qkv": "attention.query_key_value",
            "attn_output": "attention.dense",
            "ffn_up": "mlp.dense_h_to_4h",
            "ffn_down": "mlp.dense_4h_to_h",
        },
        {"token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm", "output": "embed_out"},
        "gpt_neox.layers",
        fused="heads",
    ),
    "falcon": Architecture(
        "falcon",
        {
            "attn_norm": "input_layernorm",
            "attn_norm_2": "ln_attn",
            "attn_qkv": "self_attention.query_key_value",
            "attn_output": "self_attention.dense",
            "ffn_up": "mlp.dense_h_to_4h",
            "ffn_down": "mlp.dense_4h_to_h",
        },
        {"token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f", "output": "lm_head"},
        "transformer.h",
        fused="groups",
    ),
    "bert": Architecture(
        "bert",
        {
            "attn_q": "attention.self.query",
            "attn_k": "attention.self.key",
            "attn_v": "attention.self.value",
            "attn_output": "attention.output.dense",
            "attn_output_norm": "attention.output.LayerNorm",
            "ffn_up": "intermediate.dense",
            "ffn_down": "output.dense",
            "layer_output_norm": "output.LayerNorm",
        },
        {
            "token_embd": "embeddings.word_embeddings",
            "position_embd": "embeddings.position_embeddings",
            "token_types": "embeddings.token_type_embeddings",
            "token_embd_norm": "embeddings.LayerNorm",
            "cls": "classifier.dense",
            "cls.output": "classifier.out_proj",
        },
        "encoder.layer",
    ),
    "nomic-bert": Architecture(
        "nomic_bert",
        {
            "attn_qkv": "attn.Wqkv",
            "attn_output": "attn.out_proj",
            "attn_output_norm": "norm1",
            "ffn_up": "mlp.fc11",
            "ffn_gate": "mlp.fc12",
            "ffn_down": "mlp.fc2",
            "layer_output_norm": "norm2",
        },
        {
            "token_embd": "embeddings.word_embeddings",
            "token_types": "embeddings.token_type_embeddings",
            "token_embd_norm": "emb_ln",
        },
        "encoder.layers",
    ),
}
"""The architectures by the value of ``general.architecture``. Tensors of others keep the names of the file."""
