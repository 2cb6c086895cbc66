"""Fits: what PEFT saves fits the model that it was made on, and nothing of other shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from lineage_plugin.adapters import Fit, contradictions, fits, is_adapter, parts_of, read_settings
from tests.adapters.builders import SIZES, adapt, gpt2, llama, mixtral, opened, reconfigure, rewrite, saved

Q = ["q_proj"]


def fit_of(adapter: Path, base: Path) -> Fit:
    opened_base, checkpoint = opened(base), opened(adapter)
    before = opened_base.cost().tensor_bytes
    found = fits(parts_of(checkpoint.tensors), read_settings(checkpoint), opened_base.tensors, opened_base.config)
    assert opened_base.cost().tensor_bytes == before == 0
    return found


LAYOUTS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "lora": (llama, {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}, 6),
    "dora": (llama, {"r": 4, "use_dora": True, "target_modules": ["q_proj", "embed_tokens"]}, 3),
    "ranks": (llama, {"r": 4, "target_modules": Q, "rank_pattern": {"layers.1.self_attn.q_proj": 8}}, 2),
    "embeddings": (llama, {"r": 4, "target_modules": ["embed_tokens", "lm_head"]}, 2),
    "bias": (llama, {"r": 4, "target_modules": Q, "lora_bias": True}, 2),
    "tokens": (llama, {"r": 4, "target_modules": Q, "trainable_token_indices": [1, 2]}, 3),
    "saved": (llama, {"r": 4, "target_modules": Q, "modules_to_save": ["mlp", "lm_head"]}, 2),
    "layers": (llama, {"r": 4, "target_modules": Q, "layers_to_transform": [1]}, 1),
    "repeated layers": (llama, {"r": 4, "target_modules": Q, "layer_replication": [[0, 2], [1, 2]]}, 3),
    "conv1d": (gpt2, {"r": 4, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}, 4),
    "classifier": (
        lambda: transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**SIZES, pad_token_id=0)),
        {"r": 4, "target_modules": Q, "task_type": "SEQ_CLS"},
        2,
    ),
}


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_an_adapter_fits_the_model_it_was_made_on(tmp_path: Path, name: str) -> None:
    make, settings, modules = LAYOUTS[name]
    model = make()
    base = saved(model, tmp_path / "base")
    adapt(model, tmp_path / "adapter", **settings)
    found = fit_of(tmp_path / "adapter", base)
    assert (found.modules, found.fitting, found.misfits, found.open) == (modules, modules, (), ())
    assert found.vocabulary is None
    checkpoint = opened(tmp_path / "adapter")
    assert is_adapter(checkpoint)
    assert not is_adapter(opened(base))
    assert contradictions(read_settings(checkpoint), parts_of(checkpoint.tensors)) == ()


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_an_adapter_does_not_fit_a_wider_model(tmp_path: Path, name: str) -> None:
    make, settings, modules = LAYOUTS[name]
    adapt(make(), tmp_path / "adapter", **settings)
    base = saved(llama(hidden_size=48, intermediate_size=56), tmp_path / "base")
    found = fit_of(tmp_path / "adapter", base)
    assert found.refuted
    assert found.fitting < modules
    if name == "conv1d":
        assert all(misfit.base is None for misfit in found.misfits)
        assert "which the base does not have" in found.summary()
    else:
        shapes = {48, 56}
        assert all(misfit.base is not None and shapes & set(misfit.base) for misfit in found.misfits)
        assert "48" in found.summary() or "56" in found.summary()


def test_a_shallower_base_is_refuted_by_the_layer_it_lacks(tmp_path: Path) -> None:
    adapt(llama(num_hidden_layers=4), tmp_path / "adapter", r=4, target_modules=Q, modules_to_save=["mlp"])
    found = fit_of(tmp_path / "adapter", saved(llama(), tmp_path / "base"))
    assert found.fitting == 2
    assert {misfit.module.split(".")[2] for misfit in found.misfits} == {"2", "3"}
    assert "layers up to 1 only" in found.summary()


def test_heads_of_other_sizes_are_a_misfit_of_these_modules_alone(tmp_path: Path) -> None:
    adapt(llama(), tmp_path / "adapter", r=4, target_modules=["q_proj", "v_proj"])
    found = fit_of(tmp_path / "adapter", saved(llama(num_key_value_heads=4), tmp_path / "base"))
    assert [misfit.module for misfit in found.misfits] == [f"model.layers.{i}.self_attn.v_proj" for i in (0, 1)]
    assert found.misfits[0].adapter == (16, 32)
    assert found.misfits[0].base == (32, 32)
    assert "16 outputs and 32 inputs in the adapter and is 32x32 in the base" in found.misfits[0].why


@pytest.mark.parametrize("how", ["saved", "adapted"])
def test_a_resized_vocabulary_is_said_and_not_held_against_the_base(tmp_path: Path, how: str) -> None:
    model = llama()
    base = saved(model, tmp_path / "base")
    model.resize_token_embeddings(70, mean_resizing=False)
    tables = ["embed_tokens", "lm_head"]
    settings = {"modules_to_save": tables, "target_modules": Q} if how == "saved" else {"target_modules": [*Q, *tables]}
    adapt(model, tmp_path / "adapter", r=4, **settings)
    found = fit_of(tmp_path / "adapter", base)
    assert not found.refuted
    assert found.fitting == found.modules
    assert found.vocabulary == (70, 64)
    assert "70 rows" in found.notes[0]


def test_a_tied_head_is_found_in_the_embeddings(tmp_path: Path) -> None:
    model = llama(tie_word_embeddings=True)
    base = saved(model, tmp_path / "base")
    assert "lm_head.weight" not in opened(base).tensors
    adapt(model, tmp_path / "adapter", r=4, target_modules=["lm_head"])
    found = fit_of(tmp_path / "adapter", base)
    assert (found.fitting, found.misfits) == (1, ())


def test_names_in_memory_that_are_not_those_of_the_files_are_left_open(tmp_path: Path) -> None:
    """Mixtral's experts are one tensor in memory and stored one by one."""
    model = mixtral()
    base = saved(model, tmp_path / "base")
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    adapt(model, tmp_path / "adapter", r=4, target_modules=Q, target_parameters=parameters)
    found = fit_of(tmp_path / "adapter", base)
    assert (found.fitting, found.misfits, len(found.open)) == (2, (), 4)
    checkpoint = opened(tmp_path / "adapter")
    modules, settings = parts_of(checkpoint.tensors), read_settings(checkpoint)
    stacked = {name: info for name, info in opened(base).tensors.items() if "experts" not in name}
    kind = next(iter(stacked.values()))
    for layer in (0, 1):
        for name, shape in (("gate_up_proj", (3, 80, 32)), ("down_proj", (3, 32, 40))):
            full = f"model.layers.{layer}.mlp.experts.{name}"
            stacked[full] = type(kind)(full, shape, "F32", "model.safetensors", 0, 4 * 3 * 80 * 32)
    assert fits(modules, settings, stacked).fitting == 6


def test_other_prefixes_are_found_by_the_place_in_the_layer(tmp_path: Path) -> None:
    adapt(llama(), tmp_path / "adapter", r=4, target_modules=Q)
    checkpoint = opened(tmp_path / "adapter")
    parts, settings = parts_of(checkpoint.tensors), read_settings(checkpoint)
    tensors = opened(saved(llama(), tmp_path / "base")).tensors
    moved = {f"language_model.{name}": info for name, info in tensors.items()}
    assert fits(parts, settings, moved).fitting == 2
    consolidated = {
        name.replace("self_attn.q_proj", "attention.wq").split("model.")[-1]: i for name, i in tensors.items()
    }
    unknown = {name: info for name, info in consolidated.items() if "proj" not in name}
    assert fits(parts, settings, unknown).open == tuple(module.path for module in parts.modules)


def _shrunk(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        k: v[:2] if "layers.0" in k and "lora_A" in k else v[:, :2] if "layers.0" in k else v
        for k, v in tensors.items()
    }


def _torn(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v[:, :2] if "layers.0" in k and "lora_B" in k else v for k, v in tensors.items()}


def _half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v for k, v in tensors.items() if not ("layers.0" in k and "lora_B" in k)}


CLAIMS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "rank": (None, {"r": 8}, "rank 8 is claimed, but 2 modules are of another: 4 in model.layers.0.self_attn.q_proj"),
    "one rank": (_shrunk, {}, "rank 4 is claimed, but 1 module is of another: 2 in"),
    "torn": (_torn, {}, "its tensors disagree about rank: 4 and 2"),
    "half": (_half, {}, "lora_B is missing"),
    "dora": (None, {"use_dora": True}, "use_dora is claimed, but there are no magnitudes"),
    "type": (None, {"peft_type": "IA3"}, "the type IA3 is claimed, but there are tensors of LORA"),
    "targets": (None, {"target_modules": ["k_proj"]}, "2 modules are not among the claimed targets"),
    "absent": (None, {"target_modules": ["q_proj", "k_proj"]}, "k_proj is claimed as a target"),
    "layers": (
        None,
        {"layers_to_transform": [1]},
        "leaves out the layer of model.layers.0.self_attn.q_proj, which is adapted",
    ),
    "saved": (None, {"modules_to_save": ["lm_head"]}, "modules_to_save names lm_head"),
}


@pytest.mark.parametrize("name", list(CLAIMS))
def test_claims_that_the_weights_contradict_are_said(tmp_path: Path, name: str) -> None:
    change, claims, expected = CLAIMS[name]
    adapt(llama(), tmp_path, r=4, target_modules=Q)
    if change is not None:
        rewrite(tmp_path, change)
    reconfigure(tmp_path, **claims)
    checkpoint = opened(tmp_path)
    found = contradictions(read_settings(checkpoint), parts_of(checkpoint.tensors))
    assert [finding.code for finding in found] == ["LIN302"] * len(found)
    assert expected in " ".join(f.message for f in found)


def test_without_configuration_that_is_said(tmp_path: Path) -> None:
    adapt(llama(), tmp_path, r=4, target_modules=Q)
    (tmp_path / "adapter_config.json").unlink()
    checkpoint = opened(tmp_path)
    assert is_adapter(checkpoint)
    assert read_settings(checkpoint) is None
    (found,) = contradictions(None, parts_of(checkpoint.tensors))
    assert "there is no adapter_config.json" in found.message


OTHER: dict[str, tuple[Any, int]] = {
    "IA3": (peft.IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"]), 4),
    "LOHA": (peft.LoHaConfig(r=4, target_modules=["q_proj", "down_proj"]), 4),
    "LOKR": (peft.LoKrConfig(r=4, target_modules=["q_proj", "down_proj"]), 4),
    "VERA": (peft.VeraConfig(r=4, target_modules=Q), 2),
    "OFT": (peft.OFTConfig(oft_block_size=4, target_modules=Q), 2),
    "BOFT": (peft.BOFTConfig(boft_block_size=4, target_modules=Q), 2),
    "HRA": (peft.HRAConfig(r=4, target_modules=Q), 2),
    "ADALORA": (peft.AdaLoraConfig(total_step=5, target_modules=Q), 2),
    "FOURIERFT": (peft.FourierFTConfig(n_frequency=8, target_modules=Q), 2),
    "C3A": (peft.C3AConfig(block_size=4, target_modules=Q), 2),
    "TRAINABLE_TOKENS": (peft.TrainableTokensConfig(token_indices=[1], target_modules=["embed_tokens"]), 1),
    "LN_TUNING": (peft.LNTuningConfig(target_modules=["input_layernorm"]), 0),
    "PROMPT_TUNING": (peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), 0),
    "PREFIX_TUNING": (peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"), 0),
}
SHAPELESS = {"OFT", "FOURIERFT", "PREFIX_TUNING"}


@pytest.mark.parametrize("name", list(OTHER))
def test_other_methods_are_recognised_and_checked_as_far_as_shapes_tell(tmp_path: Path, name: str) -> None:
    config, modules = OTHER[name]
    model = llama()
    base = saved(model, tmp_path / "base")
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    checkpoint = opened(tmp_path / "adapter")
    settings, parts = read_settings(checkpoint), parts_of(checkpoint.tensors)
    assert settings is not None
    assert is_adapter(checkpoint)
    assert settings.method == name
    assert contradictions(settings, parts) == ()
    found = fit_of(tmp_path / "adapter", base)
    assert (found.modules, found.fitting, found.misfits) == (modules, modules, ())
    wider = fit_of(tmp_path / "adapter", saved(llama(hidden_size=48, intermediate_size=56), tmp_path / "wider"))
    assert wider.refuted == (name not in SHAPELESS)


def test_a_full_state_dict_keeps_names_of_wrappers_and_adapter(tmp_path: Path) -> None:
    model = llama()
    base = saved(model, tmp_path / "base")
    adapt(model, tmp_path / "adapter", r=4, target_modules=Q, modules_to_save=["lm_head"])

    def wrap(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {}
        for name, tensor in tensors.items():
            new = name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default.")
            renamed["module." + new.replace("lm_head.", "lm_head.modules_to_save.default.")] = tensor
        return renamed

    rewrite(tmp_path / "adapter", wrap)
    found = fit_of(tmp_path / "adapter", base)
    assert (found.modules, found.fitting, found.saved) == (2, 2, ("lm_head.weight",))


def test_a_model_whose_adapter_was_not_merged_is_a_model(tmp_path: Path) -> None:
    wrapped = adapt(llama(), tmp_path, r=4, target_modules=Q)
    rewrite(tmp_path, lambda _: dict(wrapped.state_dict()))
    assert not is_adapter(opened(tmp_path))
