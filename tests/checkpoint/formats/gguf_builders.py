"""GGUF files for tests, written by the gguf library the way llama.cpp's converter writes them.

Names come from the library's own table; what the converter does to tensors besides renaming is written down here once
more, from ``conversion/*.py`` of llama.cpp and forwards, where the package has it backwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from safetensors.torch import load_file

Kind = gguf.GGMLQuantizationType
ARCHITECTURES = {
    **{"llama": "llama", "mistral": "llama", "mixtral": "llama", "granite": "granite", "olmo": "olmo"},
    **{"qwen2": "qwen2", "qwen2_moe": "qwen2moe", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2"},
    **{"gemma3_text": "gemma3", "gpt2": "gpt2", "gpt_neox": "gptneox", "falcon": "falcon", "phi3": "phi3"},
    **{"starcoder2": "starcoder2", "gpt_oss": "gpt-oss", "bert": "bert", "nemotron": "nemotron"},
    **{"olmo2": "olmo2", "stablelm": "stablelm"},
}
_PERMUTED = {"llama", "granite", "olmo"}
_PLUS_ONE = {"gemma", "gemma2", "gemma3", "nemotron"}


def permute(weights: np.ndarray, heads: int) -> np.ndarray:
    """``LlamaModel.permute``: from halves of a head to neighbouring pairs."""
    shape = (heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return weights.reshape(shape).swapaxes(1, 2).reshape(weights.shape)


def load(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Tensors and configuration of a safetensors model."""
    tensors = {n: t.float().numpy() for f in sorted(folder.glob("*.safetensors")) for n, t in load_file(f).items()}
    return tensors, json.loads((folder / "config.json").read_text())


def convert(folder: Path, path: Path, kind: Kind = Kind.F32, extra: Mapping[str, object] | None = None) -> Path:
    """Convert a model, matrices to the given type, or to F16 where their rows are no multiple of its blocks."""
    tensors, config = load(folder)
    architecture = ARCHITECTURES[str(config["model_type"])]
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    _settings(writer, config, architecture)
    for key, value in (extra or {}).items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    for name, array in _converted(tensors, config, architecture):
        add(writer, name, array, kind if array.ndim > 1 and "norm" not in name else Kind.F32)
    close(writer)
    return path


def add(writer: gguf.GGUFWriter, name: str, array: np.ndarray, kind: Kind) -> np.ndarray:
    """Add a tensor, quantised by the library; return what it decodes to."""
    elements = gguf.GGML_QUANT_SIZES[kind][0]
    kind = kind if array.ndim and array.shape[-1] % elements == 0 else Kind.F16
    packed = quantize(np.ascontiguousarray(array, np.float32), kind)
    writer.add_tensor(name, packed, raw_dtype=kind)
    return dequantize(packed, kind)


def close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _settings(writer: gguf.GGUFWriter, config: Mapping[str, object], architecture: str) -> None:
    def get(*names: str) -> int:
        return next((int(config[n]) for n in names if config.get(n) is not None), 0)  # type: ignore[call-overload]

    heads, hidden = get("num_attention_heads", "n_head"), get("hidden_size", "n_embd")
    size = get("head_dim") or hidden // heads
    writer.add_block_count(get("num_hidden_layers", "n_layer"))
    writer.add_embedding_length(hidden)
    writer.add_head_count(heads)
    if kv := get("num_key_value_heads", "num_kv_heads"):
        writer.add_head_count_kv(kv)
    if get("head_dim"):
        writer.add_key_length(size)
    rope = config.get("rope_parameters")
    share = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    writer.add_rope_dimension_count(int(size * (1.0 if share is None else share)))
    if experts := get("num_local_experts", "num_experts"):
        writer.add_expert_count(experts)


def _converted(
    tensors: Mapping[str, np.ndarray], config: Mapping[str, object], architecture: str
) -> Iterable[tuple[str, np.ndarray]]:
    kind = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, int(config.get("num_hidden_layers") or config["n_layer"]))  # type: ignore[call-overload]
    for name, array in _modified(tensors, config, architecture):
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, f"the library does not know '{name}'"
        yield found, array


def _modified(
    tensors: Mapping[str, np.ndarray], config: Mapping[str, object], architecture: str
) -> Iterable[tuple[str, np.ndarray]]:
    heads = int(config.get("num_attention_heads") or config["n_head"])  # type: ignore[call-overload]
    groups = int(config.get("num_key_value_heads") or config.get("num_kv_heads") or heads)  # type: ignore[call-overload]
    experts: dict[str, dict[int, np.ndarray]] = {}
    for name, given in tensors.items():
        if name.startswith("pooler."):
            continue
        array = given
        module = name.rpartition(".")[0]
        if architecture in _PERMUTED and module.endswith(("q_proj", "k_proj")):
            array = permute(array, heads if module.endswith("q_proj") else groups)
        if architecture in _PLUS_ONE and name.endswith("norm.weight"):
            array = array + np.float32(1)
        if architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            array = array.T
        if architecture == "gptneox" and module.endswith("query_key_value"):
            array = array.reshape(heads, 3, -1, *array.shape[1:]).swapaxes(0, 1).reshape(array.shape)
        if architecture == "falcon" and module.endswith("query_key_value"):
            apart = array.reshape(groups, heads // groups + 2, -1, *array.shape[1:])
            parts = (apart[:, :-2], apart[:, [-2]], apart[:, [-1]])
            array = np.concatenate([part.reshape(-1, *array.shape[1:]) for part in parts])
        if architecture == "gpt-oss" and ".experts." in name:
            yield from _joined(name, array)
            continue
        if architecture == "gpt-oss" and name.endswith("sinks"):
            name += ".weight"
        if ".experts." in name:
            parent, _, rest = name.partition(".experts.")
            number, _, leaf = rest.partition(".")
            stacked = f"{parent}.experts.{leaf}"
            if architecture == "llama":
                stacked = stacked.replace("model.", "").replace("block_sparse_moe", "feed_forward")
            experts.setdefault(stacked, {})[int(number)] = array
            continue
        yield name, array
    for name, parts in experts.items():
        yield name, np.stack([parts[number] for number in range(len(parts))])


def _joined(name: str, array: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    bias = name.endswith("_bias")
    leaf = "bias" if bias else "weight"
    parent = name.rpartition(".")[0]
    turned = array if bias else array.swapaxes(-1, -2)
    if "down_proj" in name:
        yield f"{parent}.down_proj.{leaf}", turned
    else:
        for start, part in enumerate(("gate_proj", "up_proj")):
            yield f"{parent}.{part}.{leaf}", turned[:, start::2]
