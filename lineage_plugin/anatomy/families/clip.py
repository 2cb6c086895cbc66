"""CLIP layout: text and vision encoders of CLIP and SigLIP."""

from __future__ import annotations

from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.families.fairseq import SELF
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.stacks import Layer, Stack

__all__ = ["FAMILY"]

_TYPES = frozenset(
    {
        "clip",
        "clip_text_model",
        "clip_vision_model",
        "siglip",
        "siglip_text_model",
        "siglip_vision_model",
    }
)


def _claims(stack: Stack) -> bool:
    return stack.has(SELF.q + ".weight", SELF.o + ".weight", "mlp.fc1.weight", "mlp.fc2.weight")


def _analyse(task: Task, layer: Layer) -> None:
    task.separate_attention(layer, SELF, ("num_attention_heads",))
    if not task.dense_mlp(layer, "mlp.fc1", "mlp.fc2"):
        task.leave_out("mlp", layer, "its MLP has other tensors than the known layouts")


FAMILY = Family(
    name="clip",
    claims=_claims,
    analyse=_analyse,
    types=_TYPES,
    every_stack=True,
    models="CLIP, SigLIP (text, vision, or both)",
    units=(("mlp", "swap"), ("value", "swap, flip"), ("query-key", "swap, flip")),
    notes="The layers of the second encoder are numbered after those of the first.",
)
