"""What is read for a fingerprint, from the headers of models of all kinds and sizes: nothing of them but shapes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from benchmarks.synthetic import Shape
from lineage_plugin.anatomy import Anatomy, analyse
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.evidence.plan import is_scattered
from lineage_plugin.fingerprint.make import TOKEN_ROWS
from lineage_plugin.fingerprint.plan import ShelfPlan, plan_shelves
from lineage_plugin.fingerprint.sketch import TILE

transformers.logging.set_verbosity_error()

MIB = 1 << 20
OPENING = 3
"""Requests before any weight file: the repository, the index, the configuration."""
Header = tuple[dict[str, tuple[int, ...]], dict[str, object]]


def llama(layers: int, width: int, units: int, heads: int, kv_heads: int, head_dim: int) -> Header:
    shape = Shape(layers, width, units, heads, kv_heads, head_dim, 128256)
    return dict(shape.tensors()), shape.config()


def mixture(
    layers: int, width: int, units: int, experts: int, names: Sequence[str], block: str, **more: object
) -> Header:
    """A Llama whose MLPs are experts, under the names of its files; further tensors of ``more`` are its attention's."""
    tensors, config = llama(layers, width, units, 32, 8, 128)
    tensors = {name: shape for name, shape in tensors.items() if ".mlp." not in name}
    for layer in range(layers):
        for expert in range(experts):
            for role, name in zip(("gate", "up", "down"), names, strict=True):
                shape = (width, units) if role == "down" else (units, width)
                tensors[f"model.layers.{layer}.{block}.experts.{expert}.{name}.weight"] = shape
        tensors[f"model.layers.{layer}.{block}.gate.weight"] = (experts, width)
    return tensors, config | more


def built(kind: str, auto: type = AutoModel, **settings: object) -> Header:
    """A model of transformers, without weights."""
    config = AutoConfig.for_model(kind, **settings)
    with torch.device("meta"):
        model = auto.from_config(config)
    state = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return state, json.loads(config.to_json_string(use_diff=False))


def convolutions(count: int) -> Header:
    """A deep network of convolutions that no layout knows."""
    widths = [min(512, 32 << (4 * at // count)) for at in range(count + 1)]
    return {f"features.{at}.conv.weight": (widths[at + 1], widths[at], 3, 3) for at in range(count)}, {}


MODELS = {
    "Llama 405B": lambda: llama(126, 16384, 53248, 128, 8, 128),
    "Llama 70B": lambda: llama(80, 8192, 28672, 64, 8, 128),
    "Llama 8B": lambda: llama(32, 4096, 14336, 32, 8, 128),
    "Llama 1B": lambda: llama(16, 2048, 8192, 32, 8, 64),
    "Mixtral 8x7B": lambda: mixture(32, 4096, 14336, 8, ("w1", "w3", "w2"), "block_sparse_moe", model_type="mixtral"),
    "256 experts": lambda: mixture(
        58, 7168, 2048, 256, ("gate_proj", "up_proj", "down_proj"), "mlp", model_type="qwen3_moe"
    ),
    "GPT-2": lambda: built("gpt2", AutoModelForCausalLM),
    "GPT-NeoX 20B": lambda: built("gpt_neox", AutoModelForCausalLM),
    "BERT large": lambda: built(
        "bert", hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    ),
    "ViT huge": lambda: built(
        "vit", hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, intermediate_size=5120
    ),
    "Whisper large": lambda: built(
        "whisper",
        d_model=1280,
        encoder_layers=32,
        decoder_layers=32,
        encoder_attention_heads=20,
        decoder_attention_heads=20,
        encoder_ffn_dim=5120,
        decoder_ffn_dim=5120,
    ),
    "ResNet 50": lambda: built("resnet"),
    "300 convolutions": lambda: convolutions(300),
}
SHARDS = {"Llama 405B": 191, "Llama 70B": 30, "Llama 8B": 4, "Mixtral 8x7B": 19, "256 experts": 163}


@cache
def planned(name: str) -> tuple[Anatomy, Mapping[str, TensorInfo], tuple[ShelfPlan, ...]]:
    shapes, config = MODELS[name]()
    tensors: dict[str, TensorInfo] = {}
    offset = 0
    for tensor, shape in shapes.items():
        size = 2 * math.prod(shape)
        tensors[tensor] = TensorInfo(tensor, shape, "BF16", "model.safetensors", offset, size)
        offset += size
    anatomy = analyse(tensors, config)
    return anatomy, tensors, plan_shelves(anatomy, tensors)


def reads(plans: Sequence[ShelfPlan], tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[int, int]]:
    """Yield requests and bytes of each role of each group: stretches of rows, or the whole matrix."""
    for plan in plans:
        for group in plan.groups:
            for vectors in (group.by_role[role] for role in plan.roles):
                info = tensors[vectors.tensor]
                rows = np.unique(vectors.index[: plan.units])
                if is_scattered(vectors, info):
                    yield 1, info.nbytes
                else:
                    yield 1 + int((np.diff(rows) > 1).sum()), rows.shape[0] * info.nbytes // info.shape[0]


def held(plans: Sequence[ShelfPlan]) -> int:
    """Bytes of sign bits and numbers, without the description."""
    total = 0
    for plan in plans:
        numbers = plan.measured + 2 * TILE + 8
        total += len(plan.groups) * sum(plan.units * plan.bits[role] // 8 + numbers for role in plan.roles)
    return total


@pytest.mark.parametrize("name", MODELS)
def test_limits(name: str) -> None:
    anatomy, tensors, plans = planned(name)
    assert plans, anatomy.limits
    costs = list(reads(plans, tensors))
    requests, size = (sum(cost[at] for cost in costs) for at in (0, 1))
    embedding = tensors[anatomy.stream.embedding] if anatomy.stream is not None else None
    if embedding is not None:
        requests, size = requests + 1, size + TOKEN_ROWS * embedding.nbytes // embedding.shape[0]
    total = requests + OPENING + 2 * SHARDS.get(name, 1)
    # A model in more than 70 files takes more requests for their headers alone.
    assert requests <= 140
    assert total <= 200 or SHARDS[name] > 70
    assert size <= 24 * MIB
    assert held(plans) <= 120 << 10


@pytest.mark.parametrize("name", MODELS)
def test_there_are_coins_enough(name: str) -> None:
    _, _, plans = planned(name)
    tosses = sum(len(plan.groups) * (plan.units - 1) for plan in plans)
    # A hundred are 30 orders of magnitude when all come up heads.
    assert tosses >= 100
    assert all(plan.units >= 2 and min(plan.bits.values()) >= 8 for plan in plans)


@pytest.mark.parametrize(
    ("one", "other"), [((80, 64, 8), (81, 64, 8)), ((32, 32, 8), (48, 32, 8)), ((32, 32, 8), (24, 32, 8))]
)
def test_depth_leaves_units_and_roles_comparable(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    """A model with layers dropped or repeated holds the first units of the same groups."""
    both = []
    for layers, heads, kv_heads in (one, other):
        shapes, config = llama(layers, 8192 if heads == 64 else 4096, 14336, heads, kv_heads, 128)
        tensors = {n: TensorInfo(n, s, "BF16", "model.safetensors", 0, 2 * math.prod(s)) for n, s in shapes.items()}
        plans = plan_shelves(analyse(tensors, config), tensors)
        both.append({plan.groups[0].name: set(plan.roles) for plan in plans})
    common = both[0].keys() & both[1].keys()
    assert common
    assert any(both[0][kind] & both[1][kind] for kind in common)


def test_every_layer_of_the_first_role_is_read() -> None:
    """Of a model of 80 layers the MLPs are read in each of them, so that each has coins."""
    _, _, plans = planned("Llama 70B")
    assert {plan.groups[0].name: len(plan.groups) for plan in plans}["mlp"] == 80


def test_experts_are_few() -> None:
    _, _, plans = planned("256 experts")
    assert {group.part for plan in plans for group in plan.groups if group.name == "experts"} <= {0, 1}
