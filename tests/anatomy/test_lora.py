"""Rank components of adapters: what is called a symmetry leaves PEFT's own update unchanged, and nothing else does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file

from lineage_plugin.adapters.prepare import factors_view
from lineage_plugin.adapters.settings import read_settings
from lineage_plugin.anatomy import Anatomy, analyse
from lineage_plugin.checkpoint import TensorInfo
from tests.adapters.builders import adapt, deltas, gpt2, llama, mixtral, opened, reconfigure
from tests.anatomy.relabel import random_permutation, relabel, relabel_all

LAYOUTS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "lora": (llama, {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}, 6),
    "rslora": (llama, {"r": 4, "use_rslora": True, "target_modules": ["q_proj"]}, 2),
    "ranks": (llama, {"r": 4, "target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 8}}, 2),
    "embeddings": (llama, {"r": 4, "target_modules": ["embed_tokens", "lm_head"]}, 2),
    "conv1d": (gpt2, {"r": 4, "fan_in_fan_out": True, "target_modules": ["c_attn"]}, 2),
    "experts": (
        mixtral,
        {"r": 4, "target_modules": [], "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
        4,
    ),
}


def made(folder: Path, name: str) -> tuple[Any, Anatomy, dict[str, str]]:
    """The PEFT model, the anatomy of its factors, and the file's name of each tensor of the view."""
    make, settings, _ = LAYOUTS[name]
    wrapped = adapt(make(), folder, **settings)
    checkpoint = opened(folder)
    claimed = read_settings(checkpoint)
    assert claimed is not None
    view = factors_view(checkpoint, claimed)
    return wrapped, analyse(view.tensors, view.config), view._names


def updates(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The updates of the saved adapter, loaded by PEFT on a fresh model."""
    model = LAYOUTS[name][0]()
    return deltas(peft.PeftModel.from_pretrained(model, folder))


def rewritten(folder: Path, names: dict[str, str], tensors: dict[str, np.ndarray]) -> None:
    file = folder / "adapter_model.safetensors"
    old = load_file(file)
    save_file(old | {names[new]: np.ascontiguousarray(t) for new, t in tensors.items()}, file, {"format": "pt"})


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_relabelled_components_make_the_same_update(tmp_path: Path, name: str) -> None:
    wrapped, anatomy, names = made(tmp_path, name)
    assert (anatomy.family, anatomy.exact, anatomy.width) == ("lora", True, 0)
    assert len(anatomy.groups) == LAYOUTS[name][2]
    assert {(group.name, group.swap, group.flip) for group in anatomy.groups} == {("lora", True, True)}
    assert len({group.key for group in anatomy.groups}) == len(anatomy.groups)
    before = deltas(wrapped)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    tensors = {new: stored[old] for new, old in names.items()}
    changed = relabel_all(tensors, anatomy.groups, np.random.default_rng(3))
    assert any(not np.array_equal(changed[new], tensors[new]) for new in tensors)
    rewritten(tmp_path, names, changed)
    after = updates(tmp_path, name)
    assert set(after) == set(before)
    for path, update in before.items():
        torch.testing.assert_close(after[path], update, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("change", ["A alone", "flip of A alone", "other expert"])
def test_other_relabellings_change_the_update(tmp_path: Path, change: str) -> None:
    name = "experts" if change == "other expert" else "lora"
    wrapped, anatomy, names = made(tmp_path, name)
    before = deltas(wrapped)
    stored = load_file(tmp_path / "adapter_model.safetensors")
    tensors = {new: stored[old] for new, old in names.items()}
    group = anatomy.groups[0]
    order, signs = np.arange(group.units), np.ones(group.units)
    if change == "flip of A alone":
        signs[1] = -1
        group = replace(group, vectors=group.vectors[:1])
    elif change == "A alone":
        order[[0, 1]] = 1, 0
        group = replace(group, vectors=group.vectors[:1])
    else:
        last = group.units - 1
        assert group.block[0] != group.block[last]
        order[[0, last]] = last, 0
    rewritten(tmp_path, names, relabel(tensors, group, order, signs))
    after = updates(tmp_path, name)
    assert max(float((after[path] - before[path]).abs().max()) for path in before) > 1e-3


def test_training_commutes_with_relabelling(tmp_path: Path) -> None:
    """A relabelled start, trained in the same way, ends in the relabelled adapter: the null hypothesis rests on it."""
    adapt(llama(), tmp_path / "start", r=4, target_modules=["q_proj", "v_proj"])
    checkpoint = opened(tmp_path / "start")
    settings = read_settings(checkpoint)
    assert settings is not None
    view = factors_view(checkpoint, settings)
    anatomy, names = analyse(view.tensors, view.config), view._names
    orders = {g.key: random_permutation(g, np.random.default_rng(g.part)) for g in anatomy.groups}
    signs = {g.key: np.random.default_rng(g.part + 1).choice([-1.0, 1.0], g.units) for g in anatomy.groups}

    def relabelled(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        for group in anatomy.groups:
            tensors = relabel(tensors, group, orders[group.key], signs[group.key].astype(np.float32))
        return {new: tensor.astype(np.float32) for new, tensor in tensors.items()}

    def trained(folder: Path) -> dict[str, np.ndarray]:
        model = peft.PeftModel.from_pretrained(llama(), folder, is_trainable=True)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        tokens = torch.arange(24).reshape(2, 12)
        for _ in range(5):
            optimizer.zero_grad()
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
        model.save_pretrained(tmp_path / "trained")
        stored = load_file(tmp_path / "trained" / "adapter_model.safetensors")
        return {new: stored[old] for new, old in names.items()}

    stored = load_file(tmp_path / "start" / "adapter_model.safetensors")
    start = {new: stored[old] for new, old in names.items()}
    plain = trained(tmp_path / "start")
    rewritten(tmp_path / "start", names, relabelled(start))
    other = trained(tmp_path / "start")
    want = relabelled(plain)
    assert max(float(np.abs(plain[name] - start[name]).max()) for name in plain) > 1e-2
    for name, tensor in want.items():
        np.testing.assert_allclose(other[name], tensor, atol=2e-5)


OBSTACLES: dict[str, tuple[dict[str, Any], str]] = {
    "pissa": ({"init_lora_weights": "pissa"}, "start from the base's weights"),
    "pissa niter": ({"init_lora_weights": "pissa_niter_16"}, "start from the base's weights"),
    "olora": ({"init_lora_weights": "olora"}, "start from the base's weights"),
    "kasa": ({"kasa_config": {"beta": 1}}, "start from the base's weights"),
    "block diagonal": ({"use_bdlora": {"nblocks": 2}}, "block-diagonal"),
    "experts unknown": ({"target_parameters": ["x"], "rank_pattern": {"q_proj": 4}}, "number of experts"),
}


@pytest.mark.parametrize("name", list(OBSTACLES))
def test_components_that_mean_something_are_no_units(tmp_path: Path, name: str) -> None:
    claims, why = OBSTACLES[name]
    adapt(llama(), tmp_path, r=4, target_modules=["q_proj"])
    reconfigure(tmp_path, **claims)
    checkpoint = opened(tmp_path)
    settings = read_settings(checkpoint)
    assert settings is not None
    view = factors_view(checkpoint, settings)
    anatomy = analyse(view.tensors, view.config, family="lora")
    assert anatomy.groups == ()
    assert why in " ".join(anatomy.limits)


def test_a_module_has_one_number_whatever_else_is_adapted(tmp_path: Path) -> None:
    def keys(targets: list[str]) -> set[tuple[str, int, int]]:
        adapt(llama(), tmp_path, r=4, target_modules=targets)
        checkpoint = opened(tmp_path)
        settings = read_settings(checkpoint)
        assert settings is not None
        view = factors_view(checkpoint, settings)
        return {group.key for group in analyse(view.tensors, view.config).groups}

    few, many = keys(["q_proj"]), keys(["q_proj", "k_proj", "lm_head"])
    assert len(few) == 2
    assert len(many) == 5
    assert few < many


def infos(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorInfo]:
    return {n: TensorInfo(n, s, "F32", "f", 0, 4 * int(np.prod(s))) for n, s in shapes.items()}


def test_convolutions_have_components_too() -> None:
    anatomy = analyse(
        infos({"layers.0.conv.lora_A.weight": (4, 3, 5, 5), "layers.0.conv.lora_B.weight": (8, 4, 1, 1)}), {}
    )
    (group,) = anatomy.groups
    assert [(v.width, v.axis, v.span) for v in group.vectors] == [(75, 0, None), (4, 1, (0, 8))]


@pytest.mark.parametrize(
    "shapes",
    [
        {"layers.0.q.lora_A.weight": (4, 8)},
        {"layers.0.q.lora_A.weight": (4, 8), "layers.0.q.lora_B.weight": (8, 3)},
        {"layers.0.q.lora_A.weight": (1, 8), "layers.0.q.lora_B.weight": (8, 1)},
        {"layers.0.q.lora_A.weight": (4,), "layers.0.q.lora_B.weight": (8, 4)},
        {"layers.0.q.lora_A.weight": (0, 8), "layers.0.q.lora_B.weight": (8, 0)},
    ],
)
def test_factors_that_do_not_fit_together_are_left_out(shapes: dict[str, tuple[int, ...]]) -> None:
    anatomy = analyse(infos(shapes), {}, family="lora")
    assert anatomy.groups == ()
    assert "left out" in " ".join(anatomy.limits)


def test_a_model_with_full_weights_beside_factors_keeps_its_family(tmp_path: Path) -> None:
    wrapped = adapt(copy.deepcopy(llama()), tmp_path, r=4, target_modules=["q_proj"])
    shapes = {name: tuple(tensor.shape) for name, tensor in wrapped.state_dict().items()}
    anatomy = analyse(infos(shapes), {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2})
    assert anatomy.family == "llama"
    names: set[str] = {group.name for group in anatomy.groups}
    assert "mlp" in names
