"""The proof of the anatomy: what it calls a symmetry leaves a real model's outputs unchanged, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lineage_plugin.anatomy import Anatomy, UnitGroup, analyse
from lineage_plugin.anatomy.families import families
from tests.anatomy.models import TINY, Checkpoint, in_memory, saved
from tests.anatomy.relabel import describe, random_permutation, read, relabel, relabel_all

STACKED = [name for name in TINY if TINY[name].family == "mixtral"]
NEWER_NAMES = ["vit"]


@cache
def anatomy_of(name: str, how: str = "saved") -> tuple[Checkpoint, Anatomy, np.ndarray]:
    checkpoint = saved(name) if how == "saved" else in_memory(name)
    anatomy = analyse(describe(checkpoint.tensors), checkpoint.config)
    return checkpoint, anatomy, checkpoint.outputs(checkpoint.tensors)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize(
    ("name", "how"),
    [(name, "saved") for name in TINY] + [(name, "memory") for name in STACKED + NEWER_NAMES],
)
def test_licensed_relabellings_change_the_weights_but_not_the_outputs(name: str, how: str) -> None:
    checkpoint, anatomy, before = anatomy_of(name, how)
    assert anatomy.family == TINY[name].family
    assert anatomy.exact
    rng = np.random.default_rng(11)
    changed = relabel_all(checkpoint.tensors, anatomy.groups, rng)
    for group in anatomy.groups:
        for vectors in group.vectors:
            assert not np.array_equal(read(changed, vectors), read(checkpoint.tensors, vectors)), (
                group.key,
                vectors.role,
            )
    assert np.isfinite(before).all()
    assert before.std() > 1e-3
    assert distance(checkpoint.outputs(changed), before) < 1e-9


@pytest.mark.parametrize("name", list(TINY))
def test_every_layer_has_all_its_groups(name: str) -> None:
    _, anatomy, _ = anatomy_of(name)
    left_out = [limit for limit in anatomy.limits if "left out" in limit]
    assert left_out == []
    for layer in {group.layer for group in anatomy.groups}:
        names = {group.name for group in anatomy.groups if group.layer == layer}
        assert {"value", "query-key"} <= names
        assert names & {"mlp", "experts"}
    keys = [group.key for group in anatomy.groups]
    assert len(set(keys)) == len(keys)


def forged(group: UnitGroup, **changes: object) -> UnitGroup:
    return replace(group, **changes)  # type: ignore[arg-type]


def outputs_after(name: str, group: UnitGroup, order: np.ndarray, signs: np.ndarray, role: str | None = None) -> float:
    checkpoint, _, before = anatomy_of(name, "memory")
    odd = (lambda v: v.odd) if role is None else (lambda v: v.role == role)
    return distance(checkpoint.outputs(relabel(checkpoint.tensors, group, order, signs, odd)), before)


def first(name: str, kind: str, *, swap: bool | None = None) -> UnitGroup:
    _, anatomy, _ = anatomy_of(name, "memory")
    return next(g for g in anatomy.groups if g.name == kind and swap in (None, g.swap))


def exchange(group: UnitGroup, i: int, j: int) -> np.ndarray:
    order = np.arange(group.units)
    order[[i, j]] = j, i
    return order


REPRESENTATIVE = ["llama", "qwen3", "gemma3_text", "olmo2", "phi3 partial", "gpt_neox", "cohere", "glm", "mixtral"]
ENCODERS = ["gpt2", "bert", "vit", "clip", "whisper"]


@pytest.mark.parametrize("name", REPRESENTATIVE + ENCODERS)
def test_exchanging_value_channels_of_different_heads_changes_the_outputs(name: str) -> None:
    group = first(name, "value")
    last = group.units - 1
    assert group.block[0] != group.block[last]
    assert outputs_after(name, group, exchange(group, 0, last), np.ones(group.units)) > 1e-6


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_exchanging_rotary_pairs_changes_the_outputs(name: str) -> None:
    group = first(name, "query-key", swap=False)
    assert group.block[0] == group.block[1]
    assert outputs_after(name, group, exchange(group, 0, 1), np.ones(group.units)) > 1e-6


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_flipping_half_a_rotary_pair_changes_the_outputs(name: str) -> None:
    group = first(name, "query-key", swap=False)
    halved = forged(group, vectors=tuple(replace(v, index=v.index[:, ::2]) for v in group.vectors))
    signs = np.where(np.arange(group.units) == 0, -1.0, 1.0)
    assert outputs_after(name, halved, np.arange(group.units), signs) > 1e-6


@pytest.mark.parametrize("name", ENCODERS)
def test_exchanging_query_key_channels_of_different_heads_changes_the_outputs(name: str) -> None:
    group = first(name, "query-key")
    assert group.swap
    assert outputs_after(name, group, exchange(group, 0, group.units - 1), np.ones(group.units)) > 1e-6


@pytest.mark.parametrize("name", [*REPRESENTATIVE, *ENCODERS])
@pytest.mark.parametrize("kind", ["value", "query-key"])
def test_flipping_one_side_alone_changes_the_outputs(name: str, kind: str) -> None:
    group = first(name, kind)
    signs = np.where(np.arange(group.units) == 1, -1.0, 1.0)
    assert outputs_after(name, group, np.arange(group.units), signs, group.vectors[0].role) > 1e-6


@pytest.mark.parametrize("name", ["llama", "gemma", "phi3", "qwen3", "mixtral", "dinov2 gated"])
def test_flipping_a_gate_changes_the_outputs(name: str) -> None:
    group = first(name, "experts" if name == "mixtral" else "mlp")
    assert [v.role for v in group.vectors if v.odd] == ["up", "down"]
    signs = np.where(np.arange(group.units) < 8, -1.0, 1.0)
    assert outputs_after(name, group, np.arange(group.units), signs, "gate") > 1e-6


@pytest.mark.parametrize("name", ["gpt2", "bert", "gpt_neox", "whisper", "vit", "clip", "arcee", "gpt_oss"])
def test_neurons_that_may_not_flip_do_change_the_outputs_when_flipped(name: str) -> None:
    group = first(name, "experts" if name == "gpt_oss" else "mlp")
    assert not group.flip
    flipped = tuple(replace(v, odd=v.role in ("up", "down", "fc1", "fc2")) for v in group.vectors)
    signs = np.where(np.arange(group.units) < 8, -1.0, 1.0)
    assert outputs_after(name, forged(group, vectors=flipped), np.arange(group.units), signs) > 1e-6


def test_exchanging_neurons_of_different_experts_changes_the_outputs() -> None:
    checkpoint, anatomy, before = anatomy_of("mixtral")
    one, other = (g for g in anatomy.groups if g.name == "experts" and g.layer == 0 and g.part < 2)
    changed = dict(checkpoint.tensors)
    for v, w in zip(one.vectors, other.vectors, strict=True):
        a, b = changed[v.tensor].copy(), changed[w.tensor].copy()
        if v.axis == 0:
            a[0], b[0] = b[0].copy(), a[0].copy()
        else:
            a[:, 0], b[:, 0] = b[:, 0].copy(), a[:, 0].copy()
        changed |= {v.tensor: a, w.tensor: b}
    assert distance(checkpoint.outputs(changed), before) > 1e-6


def test_shared_gains_forbid_swaps_of_free_channels() -> None:
    """With gains shared by the heads, a channel that does not turn may change its sign but not its place."""
    group = next(g for g in anatomy_of("glm4_moe", "memory")[1].groups if g.name == "query-key" and g.part)
    assert not group.swap
    assert group.flip
    order = exchange(group, 0, 1)
    assert outputs_after("glm4_moe", group, order, np.ones(group.units)) > 1e-6


@pytest.mark.parametrize("name", STACKED)
def test_single_and_stacked_experts_give_the_same_vectors(name: str) -> None:
    if name == "gpt_oss":
        pytest.skip("saved stacked")
    single, one, _ = anatomy_of(name)
    stacked, two, _ = anatomy_of(name, "memory")
    assert sorted(g.key for g in one.groups) == sorted(g.key for g in two.groups)
    assert set(single.tensors) != set(stacked.tensors)
    by_key = {group.key: group for group in two.groups}
    for group in one.groups:
        for v, w in zip(group.vectors, by_key[group.key].vectors, strict=True):
            assert v.role == w.role
            assert np.array_equal(read(single.tensors, v), read(stacked.tensors, w))


def test_every_known_model_type_is_run() -> None:
    """The list of model types whose attention is trusted is no longer than what these tests establish."""
    tested = {str(saved(name).config.get("model_type", "")).replace("-", "_") for name in TINY}
    tested |= {
        str(section["model_type"])
        for name in TINY
        for section in saved(name).config.values()
        if isinstance(section, dict) and "model_type" in section
    }
    composites = {"gemma3", "qwen2_vl", "qwen2_5_vl"}
    for family in families():
        assert family.types - composites <= tested


def test_permutation_helper_moves_units() -> None:
    group = first("llama", "mlp")
    assert not np.array_equal(random_permutation(group, np.random.default_rng(0)), np.arange(group.units))
