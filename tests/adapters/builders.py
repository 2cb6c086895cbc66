"""Tiny models of real classes and adapters as the real PEFT saves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from lineage_plugin.checkpoint import Checkpoint, open_checkpoint
from lineage_plugin.options import Options

transformers.logging.set_verbosity_error()

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}


def llama(seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**(SIZES | changes)))


def gpt2(seed: int = 0) -> transformers.PreTrainedModel:
    torch.manual_seed(seed)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 64, "n_positions": 64}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def mixtral(seed: int = 0) -> transformers.PreTrainedModel:
    torch.manual_seed(seed)
    config = transformers.MixtralConfig(**SIZES, num_local_experts=3, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(config)


def shake(model: Any, seed: int = 1) -> None:
    """Move every parameter of the adapter away from its start, B from zero above all."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name and "magnitude" in name:
            parameter.data *= 1 + 0.02 * torch.randn(parameter.shape, generator=generator)
        elif "lora_" in name:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def adapt(model: Any, folder: Path, *, start: int = 1, name: str | None = None, **settings: Any) -> Any:
    """Put a LoRA adapter on a model, shake it and save it; returns the PEFT model."""
    torch.manual_seed(start)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings))
    shake(wrapped, start)
    wrapped.peft_config["default"].base_model_name_or_path = name
    wrapped.save_pretrained(folder)
    return wrapped


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def opened(folder: Path) -> Checkpoint:
    return open_checkpoint(str(folder), options=Options())


def deltas(wrapped: Any) -> dict[str, torch.Tensor]:
    """PEFT's own update of every adapted module, by path."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in wrapped.named_modules()
        if isinstance(module, LoraLayer)
    }


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]) -> None:
    """Change the tensors of a saved adapter."""
    file = folder / "adapter_model.safetensors"
    save_file({k: v.contiguous() for k, v in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def eight_bits(file: Path, which: str) -> None:
    """Store the matrices with a word in their names as bitsandbytes does in eight bits: a scale for each row."""
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in load_file(file).items():
        if which in name and tensor.dim() == 2:
            kept[f"{name.removesuffix('.weight')}.SCB"] = scale = tensor.abs().amax(1)
            tensor = torch.round(tensor * (127 / scale[:, None])).to(torch.int8)
        kept[name] = tensor.contiguous()
    save_file(kept, file, metadata={"format": "pt"})


def reconfigure(folder: Path, **changes: Any) -> None:
    """Change what a saved adapter claims."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@cache
def quiet() -> None:
    import warnings

    warnings.filterwarnings("ignore", module="peft")
