"""Tiny random transformers models, with every weight, bias and gain away from its initial value."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

transformers.logging.set_verbosity_error()

VOCABULARY = 61
_ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_DECODER = _ENCODER | {"num_key_value_heads": 2, "head_dim": 12, "max_position_embeddings": 64}
_PLAIN = {key: value for key, value in _DECODER.items() if key != "head_dim"}
_MOE = {"num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 20}
_VISION = {key: value for key, value in _ENCODER.items() if not key.endswith("_id") and key != "vocab_size"}
_IMAGE = {"image_size": 8, "patch_size": 4}
_FAIRSEQ = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 36,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Tiny:
    """A tiny model: its type and settings, and how to run it."""

    type: str
    settings: dict[str, object]
    auto: type = AutoModelForCausalLM
    run: str = "tokens"
    family: str = "llama"


def _decoder(model_type: str, family: str = "llama", base: dict[str, object] = _DECODER, **extra: object) -> Tiny:
    return Tiny(model_type, base | extra, family=family)


TINY: dict[str, Tiny] = {
    "llama": _decoder("llama", attention_bias=True, mlp_bias=True),
    "llama tied": _decoder("llama", tie_word_embeddings=True),
    "mistral": _decoder("mistral", sliding_window=4),
    "ministral": _decoder("ministral"),
    "ministral3": _decoder("ministral3"),
    "qwen2": _decoder("qwen2", base=_PLAIN),
    "qwen2_vl_text": Tiny(
        "qwen2_vl_text",
        _PLAIN | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}},
        AutoModel,
    ),
    "qwen2_5_vl_text": Tiny(
        "qwen2_5_vl_text",
        _PLAIN | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}},
        AutoModel,
    ),
    "qwen3": _decoder("qwen3"),
    "qwen3_vl_text": Tiny(
        "qwen3_vl_text",
        _DECODER | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}},
        AutoModel,
    ),
    "gemma": _decoder("gemma"),
    "gemma2": _decoder("gemma2", query_pre_attn_scalar=12, sliding_window=4),
    "gemma3_text": _decoder("gemma3_text", query_pre_attn_scalar=12, sliding_window=4),
    "vaultgemma": _decoder("vaultgemma", query_pre_attn_scalar=12, sliding_window=4),
    "olmo": _decoder("olmo", base=_PLAIN, clip_qkv=1.0),
    "olmo2": _decoder("olmo2", base=_PLAIN),
    "olmo3": _decoder("olmo3", base=_PLAIN, sliding_window=4),
    "granite": _decoder("granite", base=_PLAIN),
    "smollm3": _decoder("smollm3", base=_PLAIN, no_rope_layers=[1, 0]),
    "seed_oss": _decoder("seed_oss"),
    "cwm": _decoder("cwm", sliding_window=4),
    "exaone4": _decoder("exaone4", base=_PLAIN, sliding_window=4, sliding_window_pattern=2),
    "arcee": _decoder("arcee"),
    "apertus": _decoder("apertus", base=_PLAIN),
    "starcoder2": _decoder("starcoder2", base=_PLAIN, use_bias=True),
    "nemotron": _decoder("nemotron", partial_rotary_factor=0.5),
    "stablelm": _decoder("stablelm", base=_PLAIN, partial_rotary_factor=0.5),
    "cohere": _decoder("cohere", base=_PLAIN),
    "cohere2": _decoder("cohere2", base=_DECODER, sliding_window=4),
    "helium": _decoder("helium", head_dim=8),
    "ernie4_5": _decoder("ernie4_5"),
    "glm": _decoder("glm", partial_rotary_factor=0.5),
    "glm4": _decoder("glm4", partial_rotary_factor=0.5),
    "phi3": _decoder("phi3", "phi3", base=_PLAIN),
    "phi3 partial": _decoder("phi3", "phi3", base=_PLAIN, partial_rotary_factor=0.5),
    "gpt_neox": _decoder("gpt_neox", "gpt_neox", base=_ENCODER, rotary_pct=0.5),
    "gpt2": Tiny(
        "gpt2",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_head": 4, "n_layer": 2, "n_inner": 40, "n_positions": 32},
        family="gpt2",
    ),
    "bert": Tiny("bert", _ENCODER, AutoModel, family="bert"),
    "roberta": Tiny("roberta", _ENCODER, AutoModel, family="bert"),
    "xlm-roberta": Tiny("xlm-roberta", _ENCODER, AutoModel, family="bert"),
    "electra": Tiny("electra", _ENCODER, AutoModel, family="bert"),
    "camembert": Tiny("camembert", _ENCODER, AutoModel, family="bert"),
    "ernie": Tiny("ernie", _ENCODER, AutoModel, family="bert"),
    "data2vec-text": Tiny("data2vec-text", _ENCODER, AutoModel, family="bert"),
    "distilbert": Tiny(
        "distilbert",
        {"vocab_size": VOCABULARY, "dim": 32, "hidden_dim": 40, "n_layers": 2, "n_heads": 4},
        AutoModel,
        family="bert",
    ),
    "vit": Tiny("vit", _VISION | _IMAGE, AutoModel, "image", "vit"),
    "deit": Tiny("deit", _VISION | _IMAGE, AutoModel, "image", "vit"),
    "vit_msn": Tiny("vit_msn", _VISION | _IMAGE, AutoModel, "image", "vit"),
    "dinov2": Tiny("dinov2", _VISION | _IMAGE, AutoModel, "image", "vit"),
    "dinov2 gated": Tiny("dinov2", _VISION | _IMAGE | {"use_swiglu_ffn": True}, AutoModel, "image", "vit"),
    "clip": Tiny(
        "clip", {"text_config": _ENCODER, "vision_config": _VISION | _IMAGE | {"intermediate_size": 36}}, AutoModel,
        "both", "clip",
    ),
    "siglip": Tiny(
        "siglip", {"text_config": _ENCODER, "vision_config": _VISION | _IMAGE | {"intermediate_size": 36}}, AutoModel,
        "both", "clip",
    ),
    "clip_vision_model": Tiny("clip_vision_model", _VISION | _IMAGE, AutoModel, "image", "clip"),
    "whisper": Tiny("whisper", _FAIRSEQ | {"max_source_positions": 8}, AutoModel, "audio", "fairseq"),
    "bart": Tiny("bart", _FAIRSEQ, AutoModel, "sequence", "fairseq"),
    "mbart": Tiny("mbart", _FAIRSEQ, AutoModel, "sequence", "fairseq"),
    "marian": Tiny("marian", _FAIRSEQ, AutoModel, "sequence", "fairseq"),
    "pegasus": Tiny("pegasus", _FAIRSEQ, AutoModel, "sequence", "fairseq"),
    "blenderbot": Tiny("blenderbot", _FAIRSEQ, AutoModel, "sequence", "fairseq"),
    "blenderbot-small": Tiny("blenderbot-small", _FAIRSEQ, AutoModel, "sequence", "fairseq"),
    "m2m_100": Tiny("m2m_100", _FAIRSEQ, AutoModel, "sequence", "fairseq"),
    "opt": Tiny("opt", _ENCODER | {"ffn_dim": 40, "word_embed_proj_dim": 32}, family="fairseq"),
    "biogpt": Tiny("biogpt", _ENCODER, family="fairseq"),
    "mixtral": _decoder("mixtral", "mixtral", num_local_experts=3),
    "qwen2_moe": _decoder(
        "qwen2_moe", "mixtral", base=_PLAIN, **_MOE, shared_expert_intermediate_size=24, mlp_only_layers=[1]
    ),
    "qwen3_moe": _decoder("qwen3_moe", "mixtral", **_MOE),
    "olmoe": _decoder("olmoe", "mixtral", base=_PLAIN, num_experts=3, num_experts_per_tok=2),
    "flex_olmo": _decoder("flex_olmo", "mixtral", base=_PLAIN, num_experts=3, num_experts_per_tok=2),
    "phimoe": _decoder("phimoe", "mixtral", base=_PLAIN, num_local_experts=3),
    "dots1": _decoder(
        "dots1", "mixtral", base=_PLAIN, n_routed_experts=4, n_shared_experts=1, n_group=1, topk_group=1,
        num_experts_per_tok=2, moe_intermediate_size=20, first_k_dense_replace=1,
    ),
    "glm4_moe": _decoder(
        "glm4_moe", "mixtral", n_routed_experts=4, n_shared_experts=1, n_group=1, topk_group=1,
        num_experts_per_tok=2, moe_intermediate_size=20, first_k_dense_replace=1, use_qk_norm=True,
    ),
    "ernie4_5_moe": _decoder(
        "ernie4_5_moe", "mixtral", base=_PLAIN, moe_num_experts=4, moe_k=2, moe_intermediate_size=20,
        moe_num_shared_experts=1, moe_layer_start_index=1,
    ),
    "gpt_oss": _decoder("gpt_oss", "mixtral", num_local_experts=3, num_experts_per_tok=2, sliding_window=4),
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A model as its files hold it."""

    tensors: dict[str, np.ndarray]
    config: dict[str, object]
    outputs: Callable[[dict[str, np.ndarray]], np.ndarray]


def _outputs(model: torch.nn.Module, run: str) -> np.ndarray:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(3, VOCABULARY, (2, 7), generator=generator)
    image = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    sound = torch.randn(2, 80, 16, generator=generator, dtype=torch.float64)
    inputs = {
        "tokens": {"input_ids": tokens},
        "image": {"pixel_values": image},
        "both": {"input_ids": tokens, "pixel_values": image},
        "audio": {"input_features": sound, "decoder_input_ids": tokens},
        "sequence": {"input_ids": tokens, "decoder_input_ids": tokens.flip(1)},
    }[run]
    with torch.no_grad():
        found = model(**inputs)
    if run == "both":
        return torch.cat([found.text_embeds, found.image_embeds]).numpy()
    return (found.logits if "logits" in found else found.last_hidden_state).numpy()


@cache
def build(name: str) -> torch.nn.Module:
    """A model with random weights in float64."""
    tiny = TINY[name]
    torch.manual_seed(7)
    config = AutoConfig.for_model(tiny.type, **tiny.settings)
    model = tiny.auto.from_config(
        config, attn_implementation="eager", experts_implementation="eager", dtype=torch.float64
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25 * torch.randn_like(parameter))
    return model.eval()


@cache
def saved(name: str) -> Checkpoint:
    """The checkpoint that ``save_pretrained`` writes, and how to run changed tensors in its place."""
    tiny, model = TINY[name], build(name)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tensors = safetensors.numpy.load_file(Path(folder) / "model.safetensors")
        config = json.loads((Path(folder) / "config.json").read_text())

    def outputs(changed: dict[str, np.ndarray]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            safetensors.numpy.save_file(changed, Path(folder) / "model.safetensors", {"format": "pt"})
            loaded, report = tiny.auto.from_pretrained(
                folder,
                attn_implementation="eager",
                experts_implementation="eager",
                dtype=torch.float64,
                output_loading_info=True,
            )
        assert not report["missing_keys"], report
        return _outputs(loaded.eval(), tiny.run)

    return Checkpoint(tensors, config, outputs)


@cache
def in_memory(name: str) -> Checkpoint:
    """The tensors as the model holds them, which is how some tools save them."""
    tiny, model = TINY[name], build(name)
    tensors = {key: value.numpy().copy() for key, value in model.state_dict().items()}

    def outputs(changed: dict[str, np.ndarray]) -> np.ndarray:
        model.load_state_dict({key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in changed.items()})
        try:
            return _outputs(model, tiny.run)
        finally:
            model.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})

    return Checkpoint(tensors, model.config.to_dict(), outputs)
