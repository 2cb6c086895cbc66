"""Composite models: each part is found, described by its own configuration, and set against its own base."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from lineage_plugin.anatomy import analyse, families_of, parts_of, structure_mismatch
from lineage_plugin.checkpoint.types import TensorInfo
from tests.anatomy.models import VOCABULARY
from tests.anatomy.relabel import Tensors, describe, infos, read, relabel_all
from tests.anatomy.test_analyse import CONFIG, llama

_TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
_EYE = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 6, "image_size": 8,
        "patch_size": 4}  # fmt: skip


@cache
def model(name: str) -> torch.nn.Module:
    torch.manual_seed(3)
    built = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**_TEXT)),
        "eye": lambda: CLIPVisionModel(CLIPVisionConfig(**_EYE)),
        "clip": lambda: CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=_EYE)),
        "llava": lambda: LlavaForConditionalGeneration(
            LlavaConfig(text_config=LlamaConfig(**_TEXT), vision_config=CLIPVisionConfig(**_EYE), image_token_index=60)
        ),
        "qwen2_vl": lambda: Qwen2VLForConditionalGeneration(
            Qwen2VLConfig(
                text_config=_TEXT
                | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}},
                vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4},
            )
        ),
    }[name]()
    return built.double().eval()


@cache
def stored(name: str) -> tuple[Tensors, dict[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        model(name).save_pretrained(folder)
        config = json.loads((Path(folder) / "config.json").read_text())
        return safetensors.numpy.load_file(Path(folder) / "model.safetensors"), config


def infos_of(name: str) -> tuple[dict[str, TensorInfo], dict[str, object]]:
    tensors, config = stored(name)
    return describe(tensors), config


def test_the_families_of_a_composite() -> None:
    assert families_of(infos_of("llava")[0]) == ("llama", "clip")
    assert families_of(infos_of("clip")[0]) == ("clip",)
    assert families_of(infos_of("llama")[0]) == ("llama",)
    assert families_of(infos({"fc.weight": (8, 8), "out.weight": (8, 8)})) == ()
    assert [family for family, _ in parts_of(infos_of("clip")[0])] == ["clip", "clip"]


def test_each_part_of_llava_has_the_structure_of_its_base() -> None:
    suspect = infos_of("llava")
    for family, base in (("llama", "llama"), ("clip", "eye")):
        part, whole = analyse(*suspect, family=family), analyse(*infos_of(base))
        assert part.family == whole.family == family
        assert part.layers == whole.layers
        assert structure_mismatch(part, whole) is None
        assert {group.key for group in part.groups} == {group.key for group in whole.groups}
        assert {group.name for group in part.groups} == {"mlp", "value", "query-key"}
        assert whole.part == ""


def test_the_part_is_named() -> None:
    tensors, config = infos_of("llava")
    language = analyse(tensors, config)
    assert language.part == "language_model.model.layers"
    assert analyse(tensors, config, family="llama").part == language.part
    vision = analyse(tensors, config, family="clip")
    assert vision.part.startswith("vision_tower.")
    assert all(v.tensor.startswith(vision.part + ".") for group in vision.groups for v in group.vectors)
    assert any("are not used" in limit for limit in vision.limits)
    assert any("are not used" in limit for limit in language.limits)


def test_streams_of_the_parts() -> None:
    tensors, config = infos_of("llava")
    stream = analyse(tensors, config).stream
    assert stream is not None
    assert stream.embedding == "language_model.model.embed_tokens.weight"
    assert stream.unembedding == "language_model.lm_head.weight"
    assert analyse(tensors, config, family="clip").stream is None


def test_half_of_a_pair_of_encoders() -> None:
    """CLIP as a base: LLaVA holds its vision half only, whose layers then begin at 0."""
    tensors, config = infos_of("clip")
    whole = analyse(tensors, config)
    assert (whole.part, whole.layers) == ("", 6)
    half = analyse(tensors, config, part="vision_model")
    assert (half.part, half.layers, half.width) == ("vision_model.encoder.layers", 4, 48)
    assert structure_mismatch(analyse(*infos_of("llava"), family="clip"), half) is None
    text = analyse(tensors, config, family="clip", part="text_model.encoder.layers")
    assert (text.layers, text.width) == (2, 32)


def test_a_composite_whose_tower_has_another_layout() -> None:
    tensors, config = infos_of("qwen2_vl")
    anatomy = analyse(tensors, config)
    assert anatomy.family == "llama"
    assert families_of(tensors) == ("llama",)
    assert {group.name for group in anatomy.groups} == {"mlp", "value", "query-key"}
    assert anatomy.stream is not None
    assert anatomy.part.endswith("layers")


def test_relabelling_both_parts_leaves_the_outputs() -> None:
    """What is said of the parts holds inside the whole."""
    built = model("llava")
    tokens = torch.randint(3, 59, (1, 8), generator=torch.Generator().manual_seed(1))
    tokens[0, 1:5] = 60
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def run() -> np.ndarray:
        with torch.no_grad():
            return built(input_ids=tokens, pixel_values=image).logits.numpy()

    state = {name: tensor.numpy().copy() for name, tensor in built.state_dict().items()}
    config = stored("llava")[1]
    before, rng, changed = run(), np.random.default_rng(5), state
    for family in families_of(describe(state)):
        groups = analyse(describe(state), config, family=family).groups
        changed = relabel_all(changed, groups, rng)
        assert all(not np.array_equal(read(changed, v), read(state, v)) for group in groups for v in group.vectors)
    try:
        built.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(t)) for name, t in changed.items()})
        assert np.abs(run() - before).max() < 1e-9
    finally:
        built.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in state.items()})


@pytest.mark.parametrize(
    ("family", "part"), [("gpt2", None), ("nonsense\x1b[0m", None), (None, "no.where"), ("llama", "x")]
)
def test_asking_for_what_is_not_there(family: str | None, part: str | None) -> None:
    anatomy = analyse(infos(llama()), CONFIG, family=family, part=part)
    assert anatomy.groups == ()
    assert anatomy.layers == 0
    assert anatomy.limits
    assert all(limit.isprintable() for limit in anatomy.limits)
    assert structure_mismatch(anatomy, analyse(infos(llama()), CONFIG)) is not None


def test_asking_for_the_conservative_path() -> None:
    anatomy = analyse(infos(llama()), CONFIG, family="unknown")
    assert anatomy.family == "unknown"
    assert not anatomy.exact


def test_two_stacks_of_one_family() -> None:
    shapes = llama("talker.model.") | llama("thinker.model.", (0, 1, 2))
    assert analyse(infos(shapes), CONFIG).part == "thinker.model.layers"
    assert analyse(infos(shapes), CONFIG, part="talker").part == "talker.model.layers"
    assert analyse(infos(shapes), CONFIG, part="talk").groups == ()
