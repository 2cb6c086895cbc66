"""The update of an adapter is PEFT's own, row by row."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lineage_plugin.adapters import Merged, effective_update, parts_of, read_settings
from lineage_plugin.checkpoint import Selection
from lineage_plugin.errors import UnsupportedEncoding
from tests.adapters.builders import adapt, deltas, gpt2, llama, mixtral, opened, saved

Q, V, EVERY = ["q_proj"], ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "down_proj", "up_proj"]
PLAIN: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 12, "target_modules": EVERY},
    "rslora": {"r": 4, "lora_alpha": 12, "use_rslora": True, "target_modules": V},
    "patterns": {
        "r": 4,
        "lora_alpha": 12,
        "target_modules": V,
        "rank_pattern": {"layers.1.self_attn.q_proj": 8, "v_proj": 2},
        "alpha_pattern": {"v_proj": 5},
    },
    "embedding": {"r": 4, "target_modules": ["embed_tokens", "lm_head"]},
    "some layers": {"r": 4, "target_modules": V, "layers_to_transform": [1]},
}


@pytest.mark.parametrize("name", list(PLAIN))
def test_updates_are_those_of_peft(tmp_path: Path, name: str) -> None:
    wrapped = adapt(llama(), tmp_path, **PLAIN[name])
    adapter, expected = opened(tmp_path), deltas(wrapped)
    settings, parts = read_settings(adapter), parts_of(adapter.tensors)
    assert settings is not None
    assert {module.path for module in parts.modules} == set(expected)
    for module in parts.modules:
        want = expected[module.path].numpy()
        np.testing.assert_allclose(effective_update(adapter, module, settings), want, atol=1e-6)
        rows = np.array([1, 5, 6])
        np.testing.assert_allclose(effective_update(adapter, module, settings, rows), want[rows], atol=1e-6)


@pytest.mark.parametrize("name", [*PLAIN, "dora", "dora rslora", "gpt2", "saved modules"])
def test_base_and_adapter_together_are_the_model_that_peft_merges(tmp_path: Path, name: str) -> None:
    special: dict[str, dict[str, Any]] = {
        "dora": {"r": 4, "lora_alpha": 12, "use_dora": True, "target_modules": EVERY},
        "dora rslora": {"r": 4, "use_rslora": True, "use_dora": True, "target_modules": Q},
        "gpt2": {"r": 4, "fan_in_fan_out": True, "target_modules": ["c_attn", "c_proj", "c_fc"]},
        "saved modules": {"r": 4, "target_modules": Q, "modules_to_save": ["mlp", "lm_head"]},
    }
    model = gpt2() if name == "gpt2" else llama()
    base = opened(saved(model, tmp_path / "base"))
    wrapped = adapt(copy.deepcopy(model), tmp_path / "adapter", **(PLAIN | special)[name])
    for key, value in wrapped.named_parameters():
        if "modules_to_save" in key:
            value.data += 0.5
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = opened(saved(wrapped.merge_and_unload(), tmp_path / "merged"))
    both = Merged(base, opened(tmp_path / "adapter"))
    assert set(both.tensors) == set(merged.tensors)
    differs = 0
    for tensor, info in merged.tensors.items():
        (want,) = merged.read([Selection(tensor)])
        (have,) = both.read([Selection(tensor)])
        (before,) = base.read([Selection(tensor)])
        np.testing.assert_allclose(have, want, atol=2e-6)
        differs += not np.allclose(before, want, atol=1e-4)
        if len(info.shape) == 2:
            part = Selection(tensor, np.array([0, 3]), np.array([2, 5, 7]))
            np.testing.assert_allclose(both.read([part])[0], want[[0, 3]][:, [2, 5, 7]], atol=2e-6)
            wide = Selection(tensor, np.array([1]), None, 2 * info.shape[1])
            np.testing.assert_allclose(both.read([wide])[0], want[2:4].reshape(1, -1), atol=2e-6)
    assert differs >= len(parts_of(opened(tmp_path / "adapter").tensors).modules)


def test_few_rows_cost_few_rows(tmp_path: Path) -> None:
    adapt(llama(), tmp_path, r=4, target_modules=["up_proj"])
    adapter = opened(tmp_path)
    settings, (module, *_) = read_settings(adapter), parts_of(adapter.tensors).modules
    assert settings is not None
    before = adapter.cost().tensor_bytes
    effective_update(adapter, module, settings, np.array([3]))
    assert adapter.cost().tensor_bytes - before == 4 * (4 * 32 + 4)


@pytest.mark.parametrize("what", ["experts", "dora without weights", "no scale"])
def test_what_cannot_be_computed_is_refused(tmp_path: Path, what: str) -> None:
    if what == "experts":
        adapt(mixtral(), tmp_path, r=4, target_modules=[], target_parameters=["mlp.experts.down_proj"])
    else:
        adapt(llama(), tmp_path, r=4, target_modules=Q, use_dora=what != "no scale")
    adapter = opened(tmp_path)
    settings, (module, *_) = read_settings(adapter), parts_of(adapter.tensors).modules
    assert settings is not None
    if what == "no scale":
        settings = type(settings)(method="LORA", rank=4)
    with pytest.raises(UnsupportedEncoding) as caught:
        effective_update(adapter, module, settings)
    assert "\n" not in str(caught.value)
