"""GPT-NeoX layout: query, key and value interleaved head by head in one matrix, partial rotary embeddings."""

from __future__ import annotations

from lineage_plugin.anatomy.channels import columns, rows
from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.anatomy.stream import Norms, StreamLayout

__all__ = ["FAMILY"]

_KNOWN = frozenset({"query_key_value", "dense", "rotary_emb", "bias", "masked_bias"})


def _claims(stack: Stack) -> bool:
    return stack.has("attention.query_key_value.weight", "attention.dense.weight")


def _analyse(task: Task, layer: Layer) -> None:
    _attention(task, layer)
    if not task.dense_mlp(layer, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"):
        task.leave_out("mlp", layer, "its MLP has other tensors than the known layouts")


def _attention(task: Task, layer: Layer) -> None:
    what = "value and query-key"
    fused, output = layer.matrix("attention.query_key_value.weight"), layer.matrix("attention.dense.weight")
    if not layer.modules("attention") <= _KNOWN or fused is None or output is None:
        task.leave_out(what, layer, "its attention has other tensors than the known layouts")
        return
    if not task.knows_type(layer):
        return
    heads = task.settings.integer("num_attention_heads")
    if heads is None:
        task.leave_out(what, layer, "the configuration does not give the number of heads")
        return
    count = output.shape[1]
    if fused.shape[0] != 3 * count or count % heads:
        task.leave_out(what, layer, "the configured number of attention heads does not fit the shapes")
        return
    size, lines = count // heads, rows("q", fused)
    q, k, v = (lines.heads(role, at * size, count, 3 * size) for at, role in enumerate("qkv"))
    task.attention(layer, q, k, v, columns("o", output), ("num_attention_heads",), rotary=True)


def _norms(task: Task) -> Norms | None:
    # Side by side or one after the other: either way attention and MLP have a norm of their own.
    if task.settings.model_type != "gpt_neox":
        return None
    return Norms("layer", attention="input_layernorm", mlp="post_attention_layernorm", bias=True)


FAMILY = Family(
    name="gpt_neox",
    claims=_claims,
    analyse=_analyse,
    types=frozenset({"gpt_neox"}),
    stream=StreamLayout(
        embedding="embed_in",
        blocks=frozenset({"attention", "mlp"}),
        norms=_norms,
        unembedding=("embed_out", "lm_head"),
        final="final_layer_norm",
    ),
    rank=1,
    models="GPT-NeoX, Pythia, StableLM-alpha",
    units=(
        ("mlp", "swap"),
        ("value", "swap, flip"),
        ("query-key", "flip of rotary pairs; free channels swap, flip"),
    ),
    notes="`query_key_value` holds, head by head, the rows of query, key and value.",
)
