"""Tiny adapters, as the real PEFT saves them; ``full state dict`` and ``pytorch`` are rewritten from its output.

The names of a full state dict are those of ``torch.save(model.state_dict())`` on a PEFT model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load_file

from tests.adapters.builders import adapt, gpt2, llama, mixtral, rewrite

__all__ = ["SAMPLES"]

Q = ["q_proj"]


def _lora(make: Callable[[], Any], settings: dict[str, Any], folder: Path) -> None:
    adapt(make(), folder, name="owner/base", **settings)


def _other(config: Any, folder: Path) -> None:
    torch.manual_seed(0)
    peft.get_peft_model(llama(), config).save_pretrained(folder)


def _full_state_dict(folder: Path) -> None:
    _lora(llama, {"r": 4, "target_modules": Q}, folder)
    rewrite(
        folder,
        lambda tensors: {n.replace("_A.", "_A.default.").replace("_B.", "_B.default."): t for n, t in tensors.items()},
    )


def _pytorch(folder: Path) -> None:
    _lora(llama, {"r": 4, "target_modules": Q}, folder)
    file = folder / "adapter_model.safetensors"
    torch.save(load_file(file), folder / "adapter_model.bin")
    file.unlink()


SAMPLES: dict[str, Callable[[Path], None]] = {
    "lora": partial(_lora, llama, {"r": 4, "target_modules": ["q_proj", "down_proj"]}),
    "dora": partial(_lora, llama, {"r": 4, "use_dora": True, "target_modules": Q}),
    "embeddings": partial(_lora, llama, {"r": 4, "target_modules": ["embed_tokens", "lm_head"]}),
    "saved modules": partial(_lora, llama, {"r": 4, "target_modules": Q, "modules_to_save": ["mlp", "lm_head"]}),
    "conv1d": partial(_lora, gpt2, {"r": 4, "fan_in_fan_out": True, "target_modules": ["c_attn"]}),
    "experts": partial(_lora, mixtral, {"r": 4, "target_modules": [], "target_parameters": ["mlp.experts.down_proj"]}),
    "ia3": partial(_other, peft.IA3Config(target_modules=Q, feedforward_modules=[])),
    "lokr": partial(_other, peft.LoKrConfig(r=4, target_modules=Q)),
    "vera": partial(_other, peft.VeraConfig(r=4, target_modules=Q)),
    "prompt": partial(_other, peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")),
    "full state dict": _full_state_dict,
    "pytorch": _pytorch,
}
