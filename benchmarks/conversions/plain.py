"""Plain weights in other containers: nothing is quantised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.conversions.conversion import LINEAR, Conversion, config_of, save, state_of

__all__ = ["CONVERSIONS"]


def _recast(source: Path, target: Path, dtype: str) -> None:
    """By safetensors."""
    import torch

    save(target, {name: tensor.to(getattr(torch, dtype)) for name, tensor in state_of(source).items()}, dtype=dtype)


def _sharded(source: Path, target: Path, *, safe: bool) -> None:
    """By huggingface_hub, which does it for transformers; in about four shards."""
    from huggingface_hub import save_torch_state_dict

    size = (source / "model.safetensors").stat().st_size
    pattern = "model{suffix}.safetensors" if safe else "pytorch_model{suffix}.bin"
    save_torch_state_dict(
        state_of(source), target, filename_pattern=pattern, max_shard_size=size // 3, safe_serialization=safe
    )


def _consolidated(source: Path, target: Path) -> None:
    """By hand, in the names and the row order of Mistral."""
    from safetensors.torch import save_file

    from tests.checkpoint.formats.layout_samples import original_names

    config = config_of(source)
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    save_file(original_names(state_of(source), head), target / "consolidated.safetensors")
    params = {
        **{"dim": config["hidden_size"], "n_layers": config["num_hidden_layers"], "head_dim": head, "n_heads": heads},
        **{"hidden_dim": config["intermediate_size"], "n_kv_heads": config["num_key_value_heads"]},
        **{"norm_eps": config["rms_norm_eps"], "vocab_size": config["vocab_size"]},
    }
    (target / "params.json").write_text(json.dumps(params))
    (target / "config.json").unlink()


def _pickled(source: Path, target: Path) -> None:
    """By torch.save."""
    import torch

    torch.save(state_of(source), target / "pytorch_model.bin")


def _flax(source: Path, target: Path) -> None:
    """By the msgpack library, in the tree and the encoding of Flax models of transformers 4."""
    from tests.checkpoint.formats.flax_samples import packed

    tree: dict[str, Any] = {}
    for path, array in _foreign(source, "kernel", "scale", "embedding"):
        *modules, leaf = path
        inner = tree
        for module in modules:
            inner = inner.setdefault(module, {})
        inner["bias" if leaf == "beta" else leaf] = array
    (target / "flax_model.msgpack").write_bytes(packed(tree))


def _keras(source: Path, target: Path) -> None:
    """By h5py, under the paths that the TensorFlow models of transformers 4 gave their variables."""
    import h5py

    gpt2 = config_of(source)["model_type"] == "gpt2"
    model = "tfgpt2lm_head_model" if gpt2 else "tf_mistral_for_causal_lm"
    with h5py.File(target / "tf_model.h5", "w") as file:
        file.attrs["backend"] = "tensorflow"
        for path, array in _foreign(source, "weight" if gpt2 else "kernel", "gamma", "embeddings"):
            top, *modules = "/".join(path).replace("h/", "h_._").replace("layers/", "layers_._").split("/")
            if gpt2 and "c_" in path[-2] and path[-1] == "weight":
                array = array.T
            row = array[None] if gpt2 and "c_" in path[-2] and array.ndim == 1 else array
            file.create_dataset(f"{top}/{model}/{'/'.join((top, *modules))}:0", data=np.ascontiguousarray(row))


def _foreign(source: Path, kernel: str, scale: str, embedding: str) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Yield paths and arrays as Flax and TensorFlow have them: kernels of linear layers ``[in, out]``."""
    gpt2 = config_of(source)["model_type"] == "gpt2"
    for name, tensor in state_of(source).items():
        *path, leaf = name.split(".")
        array = tensor.float().numpy()
        if path[-1] in ("embed_tokens", "wte", "wpe"):
            leaf = embedding
        elif leaf == "weight" and array.ndim == 2:
            # Conv1D of PyTorch is [in, out], that of Flax [out, in].
            leaf, array = kernel, np.ascontiguousarray(array.T)
        elif gpt2 and "ln_" in path[-1]:
            leaf = scale if leaf == "weight" else "beta"
        yield [*path, leaf], array


def _onnx(source: Path, target: Path) -> None:
    """By torch.onnx.export (torch.export), in float32, with the weights in a file beside."""
    import torch
    from transformers import AutoModelForCausalLM

    from tests.checkpoint.formats.onnx_samples import export

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
    model.config.use_cache = False
    (target / "onnx").mkdir()
    export(model, target / "onnx" / "model.onnx", dynamo=True, inside=False)


CONVERSIONS = (
    Conversion("safetensors F32", "safetensors", partial(_recast, dtype="float32")),
    Conversion("safetensors F16", "safetensors", partial(_recast, dtype="float16")),
    Conversion("safetensors shards", "huggingface_hub", partial(_sharded, safe=True)),
    Conversion("consolidated", "by hand", _consolidated, models=("llama", "mistral")),
    Conversion("PyTorch .bin", "torch", _pickled),
    Conversion("PyTorch shards", "huggingface_hub", partial(_sharded, safe=False)),
    Conversion("Flax", "by hand", _flax, needs=("torch", "msgpack"), models=(*LINEAR, "gpt2")),
    Conversion("Keras", "by hand", _keras, needs=("torch", "h5py"), models=("llama", "mistral", "gpt2")),
    Conversion("ONNX", "torch", _onnx, needs=("torch", "transformers", "onnx", "onnxscript"), models=LINEAR),
)
