"""Vision transformer layout, under its classic and its newer names."""

from __future__ import annotations

from lineage_plugin.anatomy.channels import columns, rows
from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.layouts import GATED, AttentionNames, Task
from lineage_plugin.anatomy.stacks import Layer, Stack

__all__ = ["FAMILY"]

_CLASSIC = AttentionNames(
    "attention.attention.query",
    "attention.attention.key",
    "attention.attention.value",
    "attention.output.dense",
    "attention.attention",
    frozenset({"query", "key", "value"}),
)
_NEWER = AttentionNames(
    "attention.q_proj",
    "attention.k_proj",
    "attention.v_proj",
    "attention.o_proj",
    "attention",
    frozenset({"q_proj", "k_proj", "v_proj", "o_proj"}),
)
_TYPES = frozenset({"deit", "dinov2", "vit", "vit_msn"})


def _claims(stack: Stack) -> bool:
    return any(stack.has(names.q + ".weight", names.o + ".weight") for names in (_CLASSIC, _NEWER))


def _analyse(task: Task, layer: Layer) -> None:
    names = _NEWER if _NEWER.q + ".weight" in layer.tensors else _CLASSIC
    task.separate_attention(layer, names, ("num_attention_heads",))
    fused, down = layer.matrix("mlp.weights_in.weight"), layer.matrix("mlp.weights_out.weight")
    if fused is not None and down is not None and fused.shape[0] % 2 == 0:
        both, half = rows("gate", fused), fused.shape[0] // 2
        maps = (both.part("gate", 0, half), both.part("up", half, half), columns("down", down))
        task.mlp(layer, *maps, odd=GATED)
    elif not (
        task.dense_mlp(layer, "intermediate.dense", "output.dense") or task.dense_mlp(layer, "mlp.fc1", "mlp.fc2")
    ):
        task.leave_out("mlp", layer, "its MLP has other tensors than the known layouts")


FAMILY = Family(
    name="vit",
    claims=_claims,
    analyse=_analyse,
    types=_TYPES,
    every_stack=True,
    models="ViT, DeiT, ViT-MSN, DINOv2",
    units=(("mlp", "swap; flip when gated"), ("value", "swap, flip"), ("query-key", "swap, flip")),
    notes="Names as saved by transformers 4 and 5.",
)
