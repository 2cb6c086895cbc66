"""What is read, in which order, and at what price."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lineage_plugin.anatomy import analyse
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.evidence.pairing import match_groups
from lineage_plugin.evidence.plan import Round, plan_rounds
from lineage_plugin.evidence.sample import Probe, draw_units
from tests.evidence.builders import group

CONFIG = {"model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}


def checkpoint(
    layers: int, *, local: bool, width: int = 4096, units: int = 14336, kv: int = 1024, experts: int = 0
) -> Any:
    shapes: dict[str, tuple[int, int]] = {"model.embed_tokens.weight": (32000, width)}
    for layer in range(layers):
        name = f"model.layers.{layer}"
        shapes |= {
            f"{name}.self_attn.q_proj.weight": (4 * kv, width),
            f"{name}.self_attn.k_proj.weight": (kv, width),
            f"{name}.self_attn.v_proj.weight": (kv, width),
            f"{name}.self_attn.o_proj.weight": (width, 4 * kv),
        }
        for prefix in [f"{name}.mlp.experts.{e}" for e in range(experts)] or [f"{name}.mlp"]:
            shapes |= {
                f"{prefix}.gate_proj.weight": (units, width),
                f"{prefix}.up_proj.weight": (units, width),
                f"{prefix}.down_proj.weight": (width, units),
            }
    tensors = {
        name: TensorInfo(name, shape, "BF16", "model.safetensors", 0, 2 * shape[0] * shape[1])
        for name, shape in shapes.items()
    }
    config = CONFIG | {"num_hidden_layers": layers, "hidden_size": width, "num_key_value_heads": kv // 128}
    config |= {"num_attention_heads": kv // 32, "model_type": "qwen3_moe" if experts else "llama"}
    return SimpleNamespace(tensors=tensors, config=config, local=local)


def rounds(one: Any, **options: Any) -> list[Round]:
    anatomy = analyse(one.tensors, one.config)
    pairs, mismatch = match_groups(anatomy, anatomy)
    assert mismatch is None
    found = []
    for step in plan_rounds(one, one, pairs, seed=0, **options):
        found.append(step)
        if step.complete and not options:
            break
    return found


def price(probes: Sequence[Probe]) -> tuple[int, int]:
    """Bytes and ranges of reading rows of one model."""
    octets = ranges = 0
    for probe in probes:
        for vectors in probe.base.vectors:
            if vectors.role in probe.roles:
                rows = np.unique(vectors.index[probe.units])
                octets += rows.shape[0] * vectors.width * 2
                ranges += 1 + int((np.diff(rows) > 1).sum())
    return octets, ranges


@pytest.mark.parametrize(
    ("layers", "width", "units", "kv"), [(4, 4096, 14336, 1024), (32, 4096, 14336, 1024), (80, 8192, 28672, 1024)]
)
def test_hub_plan_keeps_to_its_prices(layers: int, width: int, units: int, kv: int) -> None:
    steps = rounds(checkpoint(layers, local=False, width=width, units=units, kv=kv))
    first_bytes, first_ranges = price(steps[0].probes)
    assert first_bytes <= 1.1e6
    assert first_ranges <= 8
    octets, _ = price([probe for step in steps for probe in step.probes])
    assert octets <= 16e6
    assert {p.base.layer for step in steps for p in step.probes} == set(range(layers))
    assert [step.complete for step in steps] == [False] * (len(steps) - 1) + [True]
    assert all(step.may_stop for step in steps)


def test_first_layers_are_spread_over_the_depth() -> None:
    steps = rounds(checkpoint(32, local=False))
    assert sorted({probe.base.layer for probe in steps[0].probes}) == [0, 10, 21, 31]


def test_local_plan_covers_every_layer_before_it_may_stop() -> None:
    steps = rounds(checkpoint(20, local=True))
    assert not any(step.may_stop for step in steps[:-1])
    assert steps[-1].may_stop
    assert {p.base.layer for step in steps for p in step.probes} == set(range(20))


def test_later_rounds_read_other_units() -> None:
    one = checkpoint(4, local=False)
    anatomy = analyse(one.tensors, one.config)
    pairs, _ = match_groups(anatomy, anatomy)
    seen: dict[tuple[str, int, int], set[int]] = {}
    for number, step in enumerate(plan_rounds(one, one, pairs, seed=0)):
        for probe in step.probes:
            units = set(probe.units.tolist())
            assert not units & seen.setdefault(probe.base.key, set())
            seen[probe.base.key] |= units
        if number > 12:
            break
    assert max(len(units) for units in seen.values()) > 500


def test_exhaustive_reads_every_unit_once() -> None:
    one = checkpoint(2, local=True, width=64, units=2500, kv=128)
    steps = rounds(one, exhaustive=True)
    assert not any(step.may_stop for step in steps)
    count: dict[tuple[str, int, int], list[int]] = {}
    for step in steps:
        for probe in step.probes:
            count.setdefault(probe.base.key, []).extend(probe.units.tolist())
    anatomy = analyse(one.tensors, one.config)
    for one_group in anatomy.groups:
        assert sorted(count[one_group.key]) == list(range(one_group.units))


def test_few_experts_stand_for_all_of_them_over_the_hub() -> None:
    steps = rounds(checkpoint(4, local=False, units=768, experts=16))
    parts = {p.base.part for step in steps for p in step.probes if p.base.name == "experts"}
    assert len(parts) == 2


def test_draws_depend_on_size_and_kind_only() -> None:
    a, b = group(512, [("gate", 8, False)], layer=0), group(512, [("gate", 99, False)], layer=7)
    assert np.array_equal(draw_units(a, 64, 16, 0), draw_units(b, 64, 16, 0))
    assert not np.array_equal(draw_units(a, 64, 16, 0), draw_units(a, 64, 16, 1))
    assert not np.array_equal(
        draw_units(a, 64, 16, 0), draw_units(group(512, [("gate", 8, False)], name="value"), 64, 16, 0)
    )


@pytest.mark.parametrize("units", [1, 2, 5, 15, 16, 17, 100])
def test_draws_of_small_and_odd_groups(units: int) -> None:
    drawn = draw_units(group(units, [("gate", 8, False)]), 64, 16, 0)
    assert np.array_equal(drawn, np.unique(drawn))
    assert drawn.shape[0] == min(units, 64)
