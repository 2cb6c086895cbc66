"""Phi-3 layout: the Llama graph with query, key and value in one matrix, and gate and up in another."""

from __future__ import annotations

from lineage_plugin.anatomy.channels import columns, rows
from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.families.llama import STREAM, mlp
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.stacks import Layer, Stack

__all__ = ["FAMILY"]

_KNOWN = frozenset({"qkv_proj", "o_proj", "rotary_emb"})


def _claims(stack: Stack) -> bool:
    return stack.has("self_attn.qkv_proj.weight", "self_attn.o_proj.weight")


def _analyse(task: Task, layer: Layer) -> None:
    _attention(task, layer)
    mlp(task, layer)


def _attention(task: Task, layer: Layer) -> None:
    fused, output = layer.matrix("self_attn.qkv_proj.weight"), layer.matrix("self_attn.o_proj.weight")
    if not layer.modules("self_attn") <= _KNOWN or fused is None or output is None:
        task.leave_out("value and query-key", layer, "its attention has other tensors than the known layouts")
        return
    if not task.knows_type(layer):
        return
    queries = output.shape[1]
    keys, odd = divmod(fused.shape[0] - queries, 2)
    if keys < 1 or odd:
        task.leave_out("value and query-key", layer, "the shapes of its tensors do not fit together")
        return
    both = rows("q", fused)
    task.attention(
        layer,
        both.part("q", 0, queries),
        both.part("k", queries, keys),
        both.part("v", queries + keys, keys),
        columns("o", output),
        ("num_attention_heads",),
        rotary=True,
    )


FAMILY = Family(
    name="phi3",
    claims=_claims,
    analyse=_analyse,
    types=frozenset({"phi3"}),
    stream=STREAM,
    rank=1,
    models="Phi-3, Phi-3.5, Phi-4",
    units=(
        ("mlp", "swap, flip"),
        ("value", "swap, flip"),
        ("query-key", "flip of rotary pairs; free channels of a partial rotary embedding also swap"),
    ),
    notes="Fused `qkv_proj` (queries, keys, values) and `gate_up_proj` (gate, up).",
)
