"""One model in every format: what benchmarks and tests compare with the model itself.

``CONVERSIONS[name](source, target)`` writes the model in the folder ``source`` (safetensors, one file, Llama layout;
some take others) into the folder ``target``. ``writer`` says which library made the bytes. "By hand" means: written
here or in ``tests/checkpoint/formats``, from the definition of the format, because the library runs on other machines
only, is no longer published, or needs minutes of calibration. Quantisation by hand rounds to the nearest level of each
group. Real conversions by the heavier writers are compared by ``benchmarks.formats --ready``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

__all__ = ["CONVERSIONS", "Conversion"]

LINEAR = ("llama", "mistral", "qwen2", "qwen3")
"""Models whose layers are linear ones with transformers' names, one tensor a matrix."""
_BESIDE = ("config.json", "tokenizer.json", "README.md")


@dataclass(frozen=True, slots=True)
class Conversion:
    """A format and how it is written.

    Attributes:
        name: Name of the format and its settings.
        writer: The library that makes the bytes, or ``by hand``.
        write: Writes the model in one folder into another, which is there.
        quantised: Whether it has fewer levels than 16 bits.
        needs: Modules that the writer imports.
        models: Values of ``model_type`` that it takes; empty for all.
    """

    name: str
    writer: str
    write: Callable[[Path, Path], None]
    quantised: bool = False
    needs: tuple[str, ...] = ("torch",)
    models: tuple[str, ...] = ()

    def __call__(self, source: Path, target: Path) -> Path:
        """Convert a model.

        Args:
            source: Its folder.
            target: Folder to write into; made where it is missing.

        Returns:
            ``target``.
        """
        target.mkdir(parents=True, exist_ok=True)
        for name in _BESIDE:
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
        self.write(source, target)
        return target

    def fits(self, source: Path) -> bool:
        """Return whether the model in a folder can be written in this format."""
        return not self.models or _config(source).get("model_type") in self.models

    def missing(self) -> tuple[str, ...]:
        """Return the modules that are not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)


CONVERSIONS: dict[str, Conversion] = {}
"""All conversions by name."""

State = dict[str, "torch.Tensor"]
_Write = Callable[..., None]


def _register(name: str, writer: str, write: _Write, *, quantised: bool = True, **more: Any) -> None:
    CONVERSIONS[name] = Conversion(name, writer, write, quantised, **more)


# Reading and saving ----------------------------------------------------------------------------------------------


def _config(source: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((source / "config.json").read_text())
    return found


def _state(source: Path) -> State:
    from safetensors.torch import load_file

    return dict(load_file(source / "model.safetensors"))


def _save(target: Path, tensors: Mapping[str, torch.Tensor], **config: object) -> None:
    """Write one file, and put settings into ``config.json``."""
    from safetensors.torch import save_file

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps({**_config(target), **config}))


def _is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


def _replaced(source: Path, pack: Callable[[str, torch.Tensor], State]) -> State:
    """Return the state of a model with each linear layer but the head packed; names of parts are given in full."""
    found: State = {}
    for name, tensor in _state(source).items():
        found |= pack(name, tensor) if _is_linear(name) else {name: tensor}
    return found


# Plain weights ---------------------------------------------------------------------------------------------------


def _recast(source: Path, target: Path, dtype: str) -> None:
    """By safetensors."""
    import torch

    _save(target, {name: tensor.to(getattr(torch, dtype)) for name, tensor in _state(source).items()}, dtype=dtype)


def _sharded(source: Path, target: Path, *, safe: bool) -> None:
    """By huggingface_hub, which does it for transformers; in about four shards."""
    from huggingface_hub import save_torch_state_dict

    size = (source / "model.safetensors").stat().st_size
    pattern = "model{suffix}.safetensors" if safe else "pytorch_model{suffix}.bin"
    save_torch_state_dict(
        _state(source), target, filename_pattern=pattern, max_shard_size=size // 3, safe_serialization=safe
    )


def _consolidated(source: Path, target: Path) -> None:
    """By hand, in the names and the row order of Mistral."""
    from safetensors.torch import save_file

    from tests.checkpoint.formats.layout_samples import original_names

    config = _config(source)
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    save_file(original_names(_state(source), head), target / "consolidated.safetensors")
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

    torch.save(_state(source), target / "pytorch_model.bin")


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

    gpt2 = _config(source)["model_type"] == "gpt2"
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
    gpt2 = _config(source)["model_type"] == "gpt2"
    for name, tensor in _state(source).items():
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


_register("safetensors F32", "safetensors", partial(_recast, dtype="float32"), quantised=False)
_register("safetensors F16", "safetensors", partial(_recast, dtype="float16"), quantised=False)
_register("safetensors shards", "huggingface_hub", partial(_sharded, safe=True), quantised=False)
_register("consolidated", "by hand", _consolidated, quantised=False, models=("llama", "mistral"))
_register("PyTorch .bin", "torch", _pickled, quantised=False)
_register("PyTorch shards", "huggingface_hub", partial(_sharded, safe=False), quantised=False)
_register("Flax", "by hand", _flax, quantised=False, needs=("torch", "msgpack"), models=(*LINEAR, "gpt2"))
_register("Keras", "by hand", _keras, quantised=False, needs=("torch", "h5py"), models=("llama", "mistral", "gpt2"))
_register("ONNX", "torch", _onnx, quantised=False, needs=("torch", "transformers", "onnx", "onnxscript"), models=LINEAR)


# GGUF ------------------------------------------------------------------------------------------------------------


def _gguf(source: Path, target: Path, kind: str) -> None:
    """By the gguf library, after what llama.cpp's converter does to names and rows."""
    from tests.checkpoint.formats.gguf_builders import Kind, convert

    convert(source, target / f"model-{kind}.gguf", Kind[kind])
    (target / "config.json").unlink()


def _gguf_k(source: Path, target: Path) -> None:
    """K-quants by hand (ggml-quants.c, without its search for the best scales): the library only decodes them.

    As in llama.cpp's Q4_K_M, half of the value and down projections have six bits, and rows of no multiple of 256
    fall back to Q5_0 and Q8_0.
    """
    import gguf

    from tests.checkpoint.formats import gguf_builders as builders

    kinds = builders.Kind
    tensors, config = builders.load(source)
    architecture = builders.ARCHITECTURES[config["model_type"]]  # type: ignore[index]
    writer = gguf.GGUFWriter(target / "model-Q4_K_M.gguf", architecture)
    builders._settings(writer, config, architecture)
    for number, (name, array) in enumerate(builders._converted(tensors, config, architecture)):
        rich = name == "output.weight" or (number % 2 and ("attn_v" in name or "ffn_down" in name))
        if array.ndim < 2 or "norm" in name:
            builders.add(writer, name, array, kinds.F32)
        elif array.shape[-1] % 256:
            builders.add(writer, name, array, kinds.Q8_0 if rich else kinds.Q5_0)
        else:
            blocks = np.asarray(array, np.float32).reshape(-1, 256)
            packed = (_q6_k if rich else _q4_k)(blocks).reshape(array.shape[0], -1)
            writer.add_tensor(name, packed, raw_dtype=kinds.Q6_K if rich else kinds.Q4_K)
    builders.close(writer)
    (target / "config.json").unlink()


def _inverse(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(scale == 0, np.float32(0), 1 / np.where(scale == 0, np.float32(1), scale)).astype(np.float32)


def _half(scale: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return numbers in half precision: their two bytes, and what they are then."""
    stored = scale.astype("<f2")
    return stored.view(np.uint8).reshape(-1, 2), stored.astype(np.float32)


def _q4_k(blocks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``block_q4_K``: eight runs of 32, each with a scale and an offset of six bits."""
    runs = blocks.reshape(-1, 8, 32)
    low = np.maximum(-runs.min(-1), 0)
    step = (runs.max(-1) + low) / 15
    (d, wide), (dmin, least) = _half(step.max(-1) / 63), _half(low.max(-1) / 63)
    s, m = (
        np.rint(part * _inverse(unit)[:, None]).clip(0, 63).astype(np.uint8)
        for part, unit in ((step, wide), (low, least))
    )
    scaled = (runs + (least[:, None] * m)[..., None]) * _inverse(wide[:, None] * s)[..., None]
    levels = np.rint(scaled).clip(0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    scales = [s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4]
    return np.concatenate([d, dmin, *scales, (levels[:, :, 0] | levels[:, :, 1] << 4).reshape(-1, 128)], axis=1)


def _q6_k(blocks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``block_q6_K``: sixteen runs of 16, each with a scale of eight bits."""
    runs = blocks.reshape(-1, 16, 16)
    step = np.abs(runs).max(-1) / 32
    d, wide = _half(step.max(-1) / 127)
    scales = np.rint(step * _inverse(wide)[:, None]).clip(0, 127).astype(np.int8)
    levels = np.rint(runs * _inverse(wide[:, None] * scales)[..., None]).clip(-32, 31).astype(np.int8) + 32
    q = levels.astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.stack([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], axis=2)
    high = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    return np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), scales.view(np.uint8), d], axis=1)


for _kind in ("F16", "BF16", "Q8_0", "Q5_1", "Q4_0"):
    _register(
        f"GGUF {_kind}",
        "gguf",
        partial(_gguf, kind=_kind),
        quantised=_kind[0] == "Q",
        needs=("torch", "gguf"),
        models=(*LINEAR, "gpt2", "gpt_neox", "phi3", "mixtral"),
    )
_register("GGUF Q4_K_M", "by hand", _gguf_k, needs=("torch", "gguf"), models=(*LINEAR, "gpt2"))


# Quantised safetensors ------------------------------------------------------------------------------------------


def _bitsandbytes(source: Path, target: Path, kind: str, *, double: bool = False) -> None:
    """Levels, scales and states by bitsandbytes, names as transformers saves them."""
    from tests.checkpoint.formats.bitsandbytes_samples import four_bit, int8

    def pack(name: str, tensor: torch.Tensor) -> State:
        if kind == "int8":
            return int8(name, tensor.half())[0]
        return four_bit(name, tensor, kind, double=double)[0]

    settings = {"quant_method": "bitsandbytes", "load_in_8bit": kind == "int8", "load_in_4bit": kind != "int8"}
    _save(target, _replaced(source, pack), quantization_config=settings)


def _levels(
    weight: NDArray[np.float32], bits: int, groups: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float16]]:
    """Round ``[outputs, inputs]`` by groups of inputs: levels, and zeros and scales ``[outputs, groups]``."""
    count, most = int(groups.max()) + 1, (1 << bits) - 1
    low, high = (np.zeros((weight.shape[0], count), np.float32) for _ in range(2))
    np.minimum.at(low.T, groups, weight.T)
    np.maximum.at(high.T, groups, weight.T)
    scales = np.maximum((high - low) / most, 1e-7).astype(np.float16)
    zeros = np.rint(-low / scales.astype(np.float32)).clip(0, most).astype(np.int64)
    levels = np.rint(weight / scales.astype(np.float32)[:, groups]).astype(np.int64) + zeros[:, groups]
    return levels.clip(0, most), zeros, scales


def _runs(inputs: int, group: int) -> NDArray[np.int64]:
    return np.arange(inputs, dtype=np.int64) // group


def _parts(name: str, **arrays: NDArray[Any]) -> State:
    import torch

    module = name.removesuffix(".weight")
    return {f"{module}.{part}": torch.from_numpy(np.ascontiguousarray(array)) for part, array in arrays.items()}


def _gptq(source: Path, target: Path, *, bits: int, act_order: bool, group: int = 32) -> None:
    """By hand, in the layout ``gptq`` (v1) of AutoGPTQ: rounded to nearest, not corrected for errors.

    With act-order the inputs are grouped by falling energy, as GPTQ does with the diagonal of its Hessian.
    """
    from tests.checkpoint.formats.gptq_samples import pack

    def packed(name: str, tensor: torch.Tensor) -> State:
        weight = tensor.float().numpy()
        groups = _runs(weight.shape[1], group)
        if act_order:
            groups[np.argsort(-(weight**2).sum(axis=0))] = groups.copy()
        levels, zeros, scales = _levels(weight, bits, groups)
        zeros = np.maximum(zeros, 1)
        return _parts(
            name,
            qweight=pack(levels.T, bits),
            qzeros=pack(zeros - 1, bits).T,
            scales=scales.T,
            g_idx=groups.astype(np.int32),
        )

    settings = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": False}
    _save(target, _replaced(source, packed), quantization_config=settings)


def _awq(source: Path, target: Path, group: int = 32) -> None:
    """By hand, in the layout ``gemm`` of AutoAWQ: rounded to nearest, inputs not rescaled."""
    from tests.checkpoint.formats.gptq_samples import pack

    def interleaved(fields: NDArray[np.int64]) -> NDArray[np.generic]:
        eights = fields.reshape(fields.shape[0], -1, 8)[..., (0, 2, 4, 6, 1, 3, 5, 7)]
        return pack(eights.reshape(fields.shape).T, 4).T

    def packed(name: str, tensor: torch.Tensor) -> State:
        weight = tensor.float().numpy()
        levels, zeros, scales = _levels(weight, 4, _runs(weight.shape[1], group))
        return _parts(name, qweight=interleaved(levels.T), qzeros=interleaved(zeros.T), scales=scales.T)

    settings = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    _save(target, _replaced(source, packed), quantization_config=settings)


def _mlx(source: Path, target: Path, *, bits: int, group: int = 32) -> None:
    """By hand, in the layout of mlx-lm, mode affine; embeddings and the head are packed, too."""
    from safetensors.torch import save_file

    from tests.checkpoint.formats.gptq_samples import pack

    found: State = {}
    for name, tensor in _state(source).items():
        weight = tensor.float().numpy()
        if weight.ndim < 2:
            found[name] = tensor
            continue
        levels, zeros, scales = _levels(weight, bits, _runs(weight.shape[1], group))
        words = pack(levels.T, bits).T
        offsets = (-zeros * scales.astype(np.float32)).astype(np.float16)
        found |= _parts(name, weight=words.view(np.uint32), scales=scales, biases=offsets)
    settings = {"group_size": group, "bits": bits, "mode": "affine"}
    save_file(found, target / "model.safetensors", metadata={"format": "mlx"})
    config = {**_config(target), "quantization": settings, "quantization_config": settings}
    (target / "config.json").write_text(json.dumps(config))


def _compressed(source: Path, target: Path, case: str) -> None:
    """By the compressors of compressed-tensors; names and settings as llm-compressor writes them."""
    from tests.checkpoint.formats.compressed_tensors_samples import CASES, compressed

    scheme = CASES[case]

    def pack(name: str, tensor: torch.Tensor) -> State:
        module = name.removesuffix(".weight")
        return {f"{module}.{part}": value for part, value in compressed(tensor, scheme).items()}

    settings = {
        **{"quant_method": "compressed-tensors", "format": scheme.format, "ignore": ["lm_head"]},
        **{"config_groups": {"group_0": json.loads(scheme.model_dump_json())}, "quantization_status": "compressed"},
    }
    _save(target, _replaced(source, pack), quantization_config=settings)


def _fine_grained(source: Path, target: Path, block: int = 32) -> None:
    """By transformers' own operation, ``Fp8Quantize``, the layout of DeepSeek-V3."""
    from transformers import FineGrainedFP8Config
    from transformers.integrations.finegrained_fp8 import Fp8Quantize

    settings = FineGrainedFP8Config(weight_block_size=(block, block))
    quantise = Fp8Quantize(SimpleNamespace(quantization_config=settings))
    _save(
        target,
        _replaced(source, lambda name, tensor: dict(quantise.convert({name: tensor.float()}))),
        quantization_config=settings.to_dict(),
    )


_SAFETENSORS: dict[str, tuple[str, _Write, tuple[str, ...]]] = {
    "bitsandbytes NF4": ("bitsandbytes", partial(_bitsandbytes, kind="nf4"), ("bitsandbytes",)),
    "bitsandbytes NF4 double": ("bitsandbytes", partial(_bitsandbytes, kind="nf4", double=True), ("bitsandbytes",)),
    "bitsandbytes FP4": ("bitsandbytes", partial(_bitsandbytes, kind="fp4"), ("bitsandbytes",)),
    "bitsandbytes int8": ("bitsandbytes", partial(_bitsandbytes, kind="int8"), ("bitsandbytes",)),
    "GPTQ 4 bits": ("by hand", partial(_gptq, bits=4, act_order=False), ()),
    "GPTQ 4 bits act-order": ("by hand", partial(_gptq, bits=4, act_order=True), ()),
    "GPTQ 8 bits": ("by hand", partial(_gptq, bits=8, act_order=False), ()),
    "AWQ 4 bits": ("by hand", _awq, ()),
    **{
        f"compressed-tensors {label}": (
            "compressed-tensors",
            partial(_compressed, case=case),
            ("compressed_tensors",),
        )
        for label, case in (
            *(("W4A16", "int4-group"), ("W4A16 zeros", "int4-group-zeros"), ("W8A8", "int8-channel")),
            *(("FP8 channel", "fp8-channel"), ("FP8 block", "fp8-block"), ("NVFP4", "nvfp4"), ("MXFP4", "mxfp4")),
        )
    },
    "FP8 fine-grained": ("transformers", _fine_grained, ("transformers",)),
    "MLX 4 bits": ("by hand", partial(_mlx, bits=4), ()),
    "MLX 8 bits": ("by hand", partial(_mlx, bits=8), ()),
}
for _name, (_writer, _write, _modules) in _SAFETENSORS.items():
    _register(_name, _writer, _write, needs=("torch", *_modules), models=LINEAR)
