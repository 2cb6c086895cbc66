"""Mixture-of-experts on the Llama layout: Mixtral, Qwen-MoE and their relatives, experts stored singly or stacked."""

from __future__ import annotations

import re

from lineage_plugin.anatomy.channels import Channels, columns, expert_columns, expert_rows, rows
from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.families.llama import STREAM, attention, gated, mlp
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.rotary import ROTARY
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["FAMILY"]

_EXPERT = re.compile(
    r"(?:mlp|block_sparse_moe)\.experts\.(0|[1-9][0-9]{0,5})\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight"
)
_ROLES = {"w1": "gate", "w3": "up", "w2": "down", "gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
_STACKED = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
_SHARED = ("mlp.shared_expert", "mlp.shared_experts", "mlp.shared_mlp")
_MOST_EXPERTS = 1 << 14


def _claims(stack: Stack) -> bool:
    return any(
        _STACKED[0] in layer.tensors or any(_EXPERT.fullmatch(name) for name in layer.tensors) for layer in stack.layers
    )


def _analyse(task: Task, layer: Layer) -> None:
    attention(task, layer)
    odd = gated(task)
    stacked = [layer.matrix(name, 3) for name in _STACKED]
    if stacked[0] is not None and stacked[1] is not None:
        _stacked_experts(task, layer, stacked[0], stacked[1], odd)
        routed = True
    else:
        routed = _single_experts(task, layer, odd)
    if not routed:
        if any(name.startswith(_STACKED[0]) for name in layer.tensors):
            task.leave_out("experts", layer, "the experts are stored in an encoding that is not read")
            return
        mlp(task, layer)
    for parent in _SHARED:
        mlp(task, layer, parent)


def _single_experts(task: Task, layer: Layer, odd: frozenset[str]) -> bool:
    experts: dict[int, dict[str, TensorInfo]] = {}
    for name in layer.tensors:
        match = _EXPERT.fullmatch(name)
        info = layer.matrix(name) if match else None
        if match and info is not None:
            experts.setdefault(int(match[1]), {})[_ROLES[match[2]]] = info
    for expert in sorted(experts):
        found = experts[expert]
        if set(found) == {"gate", "up", "down"}:
            maps = (rows("gate", found["gate"]), rows("up", found["up"]), columns("down", found["down"]))
            task.mlp(layer, *maps, odd=odd, name="experts", part=expert)
        else:
            task.leave_out("experts", layer, "an expert lacks one of gate, up and down")
    return bool(experts)


def _stacked_experts(task: Task, layer: Layer, first: TensorInfo, second: TensorInfo, odd: frozenset[str]) -> None:
    """Add experts stacked as ``[experts, 2 * units, width]`` and ``[experts, width, units]``, or GPT-OSS's transpose.

    GPT-OSS stores ``[experts, width, 2 * units]`` with gate and up in turns, and ``[experts, units, width]``.
    """
    count = first.shape[0]
    if second.shape[0] != count or count > _MOST_EXPERTS:
        task.leave_out("experts", layer, "the shapes of its tensors do not fit together")
        return
    if first.shape[2] == second.shape[1] and first.shape[1] == 2 * second.shape[2]:
        units = second.shape[2]
        for expert in range(count):
            both = expert_rows("gate", first, expert)
            maps = (both.part("gate", 0, units), both.part("up", units, units), expert_columns("down", second, expert))
            task.mlp(layer, *maps, odd=odd, name="experts", part=expert)
    elif task.settings.model_type in ("gpt_oss", "openai_privacy_filter") and (
        first.shape[1] == second.shape[2] and first.shape[2] == 2 * second.shape[1]
    ):
        for expert in range(count):
            both = expert_columns("gate", first, expert)
            maps = (*_in_turns(both), expert_rows("down", second, expert))
            task.mlp(layer, *maps, odd=odd, name="experts", part=expert)
    else:
        task.leave_out("experts", layer, "the orientation of the stacked experts is not known")


def _in_turns(both: Channels) -> tuple[Channels, Channels]:
    units = both.count // 2
    return both.every("gate", 0, 2, units), both.every("up", 1, 2, units)


FAMILY = Family(
    name="mixtral",
    claims=_claims,
    analyse=_analyse,
    types=frozenset(ROTARY),
    stream=STREAM,
    rank=1,
    models="Mixtral, Qwen2-MoE, Qwen3-MoE, OLMoE, GPT-OSS (unquantised)",
    units=(
        ("experts", "one group per expert: swap, flip (GPT-OSS: swap)"),
        ("mlp", "dense layers and shared experts: swap, flip"),
        ("value", "swap, flip"),
        ("query-key", "as in the llama layout"),
    ),
    notes="Experts stored singly and stacked in one tensor give the same groups. Experts as wholes are not tossed.",
)
