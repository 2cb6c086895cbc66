"""Llama layout: separate projections, rotary embeddings, gated MLP."""

from __future__ import annotations

from dataclasses import replace

from lineage_plugin.anatomy.channels import columns, rows
from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.layouts import GATED, AttentionNames, Task
from lineage_plugin.anatomy.rotary import ROTARY
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.anatomy.stream import Norms, StreamLayout

__all__ = ["FAMILY", "STREAM", "attention", "gated", "mlp"]

_NAMES = AttentionNames(
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "self_attn",
    # A sink is one score per head: no channel enters it.
    frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm", "rotary_emb", "sinks"}),
)
_PLUS_ONE = frozenset({"gpt_oss", "openai_privacy_filter", "minimax_m3_vl", "minimax_m3_vl_text"})
"""Model types that compute ``activation(gate) * (up + 1)``, which is not odd in ``up``."""
_BEFORE = Norms("rms", attention="input_layernorm", mlp="post_attention_layernorm")
_AFTER = Norms("rms", after_attention="post_attention_layernorm", after_mlp="post_feedforward_layernorm")
_AROUND = Norms(
    "rms",
    attention="input_layernorm",
    mlp="pre_feedforward_layernorm",
    after_attention="post_attention_layernorm",
    after_mlp="post_feedforward_layernorm",
    plus_one=True,
)
_CENTRED = replace(_BEFORE, kind="layer", bias=True)
_PARALLEL = Norms("layer", attention="input_layernorm", mlp="input_layernorm")
_PARALLEL_WITH_BIAS = replace(_PARALLEL, bias=True)
_NORMS: dict[str, Norms] = {
    **dict.fromkeys(
        (
            "arcee",
            "cwm",
            "dots1",
            "ernie4_5",
            "ernie4_5_moe",
            "glm",
            "glm4_moe",
            "gpt_oss",
            "granite",
            "helium",
            "llama",
            "ministral",
            "ministral3",
            "mistral",
            "mixtral",
            "olmoe",
            "phi3",
            "qwen2",
            "qwen2_5_vl",
            "qwen2_5_vl_text",
            "qwen2_moe",
            "qwen2_vl",
            "qwen2_vl_text",
            "qwen3",
            "qwen3_moe",
            "qwen3_vl_text",
            "seed_oss",
            "smollm3",
        ),
        _BEFORE,
    ),
    **dict.fromkeys(("exaone4", "flex_olmo", "olmo2", "olmo3"), _AFTER),
    **dict.fromkeys(("gemma2", "gemma3", "gemma3_text"), _AROUND),
    **dict.fromkeys(("phimoe", "stablelm", "starcoder2"), _CENTRED),
    # LayerNorm without a bias looks like RMSNorm on disk.
    **dict.fromkeys(("cohere", "cohere2"), _PARALLEL),
    "apertus": Norms("rms", attention="attention_layernorm", mlp="feedforward_layernorm"),
    "gemma": replace(_BEFORE, plus_one=True),
    "glm4": replace(_BEFORE, after_attention="post_self_attn_layernorm", after_mlp="post_mlp_layernorm"),
    "nemotron": replace(_CENTRED, plus_one=True),
    "olmo": Norms("layer", gains=False),
    "vaultgemma": Norms("rms", attention="input_layernorm", mlp="pre_feedforward_layernorm", plus_one=True),
}
"""Norms by model type, as the models' reference code has them."""
_MLP = frozenset({"gate_proj", "up_proj", "down_proj", "gate_up_proj", "c_fc", "c_proj", "act_fn"})


def attention(task: Task, layer: Layer) -> None:
    """Add the units of self-attention."""
    task.separate_attention(layer, _NAMES, ("num_attention_heads", "n_head"), rotary=True)


def gated(task: Task) -> frozenset[str]:
    """Return the roles that the sign flip of a gated neuron negates; none where there is no such symmetry."""
    return frozenset() if task.settings.model_type in _PLUS_ONE else GATED


def mlp(task: Task, layer: Layer, parent: str = "mlp", *, part: int = 0, known: frozenset[str] = _MLP) -> None:
    """Add the neurons of a dense MLP: gated (separate or fused), or not.

    Args:
        task: The analysis.
        layer: The layer.
        parent: The module.
        part: Part number of the group.
        known: Modules that may stand below ``parent``; with any other one the neurons are left out.
    """
    found = layer.modules(parent)
    if not found:
        return
    gate, up, down, fused = (
        layer.matrix(f"{parent}.{name}.weight") for name in ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
    )
    if not found <= known:
        task.leave_out("mlp", layer, "the MLP holds a module that is not known")
    elif gate is not None and up is not None and down is not None:
        task.mlp(layer, rows("gate", gate), rows("up", up), columns("down", down), odd=gated(task), part=part)
    elif fused is not None and down is not None and fused.shape[0] % 2 == 0:
        both, half = rows("gate", fused), fused.shape[0] // 2
        maps = (both.part("gate", 0, half), both.part("up", half, half), columns("down", down))
        task.mlp(layer, *maps, odd=gated(task), part=part)
    elif up is not None and down is not None and "gate_proj" not in found:
        task.mlp(layer, rows("fc1", up), columns("fc2", down), part=part)
    elif not task.dense_mlp(layer, f"{parent}.c_fc", f"{parent}.c_proj"):
        task.leave_out("mlp", layer, "its MLP has other tensors than the known layouts")


def _norms(task: Task) -> Norms | None:
    norms = _NORMS.get(task.settings.model_type)
    if task.settings.model_type == "stablelm" and not task.stack.has("post_attention_layernorm.weight"):
        return _PARALLEL_WITH_BIAS  # attention and MLP side by side behind one norm
    return norms


STREAM = StreamLayout(
    embedding="embed_tokens",
    blocks=frozenset({"self_attn", "mlp", "block_sparse_moe"}),
    norms=_norms,
    unembedding=("lm_head",),
    final="norm",
    symmetry="swap; flip with RMSNorm",
)


def _claims(stack: Stack) -> bool:
    return stack.has("self_attn.q_proj.weight", "self_attn.o_proj.weight") or (
        stack.has("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
    )


def _analyse(task: Task, layer: Layer) -> None:
    attention(task, layer)
    mlp(task, layer)


FAMILY = Family(
    name="llama",
    claims=_claims,
    analyse=_analyse,
    types=frozenset(ROTARY),
    stream=STREAM,
    models="Llama, Mistral, Qwen2, Qwen3, Gemma 1-3, OLMo 1-3, Granite, SmolLM3, StableLM, Cohere, GLM, Starcoder2",
    units=(
        ("mlp", "swap; flip when gated"),
        ("value", "swap, flip"),
        ("query-key", "flip of rotary pairs; free channels of a partial rotary embedding also swap"),
    ),
    notes="Query and key norms keep the flips; gains shared by the heads forbid swaps of free channels.",
)
