"""Formats that are recognised by the names of their files, and refused in one line that says what to do instead."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from lineage_plugin.checkpoint.formats import Format, Row
from lineage_plugin.checkpoint.layout import Layout
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["FORMAT", "KINDS", "Kind", "kind_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A format that is not read.

    Attributes:
        name: What it is called.
        pattern: Names of its files, anywhere in the model.
        problem: Why it is not read, where more than its name is to be said.
        remedy: How to get weights that are.
    """

    name: str
    pattern: re.Pattern[str]
    remedy: str
    problem: str = "is not read"


def _kind(name: str, pattern: str, remedy: str, problem: str = "is not read") -> Kind:
    return Kind(name, re.compile(rf"(?:^|/)(?:{pattern})\Z", re.ASCII), remedy, problem)


_ORIGINAL = "Give the model that it was made from."
_COMPILED = "is compiled for one kind of device"
KINDS: tuple[Kind, ...] = (
    _kind(
        "a DeepSpeed ZeRO checkpoint",
        r"(?:bf16_)?zero_pp_rank_\d+_mp_rank_\d+_(?:optim|model)_states\.pt|mp_rank_\d+_model_states\.pt",
        "Run `python zero_to_fp32.py . merged --safe_serialization` in its folder and give 'merged'.",
        "is cut into pieces by parameter groups",
    ),
    _kind(
        "a Megatron checkpoint",
        r"mp_rank_\d+(?:_\d+)*/(?:model_optim_rng|model_rng|distrib_optim)\.pt",
        "Convert it with the checkpoint converter of Megatron (`tools/checkpoint/convert.py`) to a Hugging Face model.",
        "is cut into pieces by process",
    ),
    _kind("a NeMo archive", r"[^/]+\.nemo", "Convert it with the export scripts of NeMo to a Hugging Face model."),
    _kind(
        "a TensorFlow SavedModel",
        r"saved_model\.pb",
        "Give the weights that it was exported from; transformers before 5 converts with `from_tf=True`.",
    ),
    _kind(
        "a TensorFlow checkpoint",
        r"[^/]*\.ckpt(?:-\d+)?\.(?:index|meta|data-\d{5}-of-\d{5})|variables\.(?:index|data-\d{5}-of-\d{5})"
        r"|model\.ckpt-\d+\.(?:index|meta|data-\d{5}-of-\d{5})|ckpt-\d+\.(?:index|data-\d{5}-of-\d{5})",
        "Convert it with the `convert_*_tf_checkpoint_to_pytorch` script of its architecture in transformers.",
    ),
    _kind(
        "an Orbax or T5X checkpoint",
        r"_CHECKPOINT_METADATA|manifest\.ocdbt|checkpoint_\d+/checkpoint|[^/]*\.orbax-checkpoint[^/]*",
        "Convert it with the `convert_*_to_pytorch` script of its architecture in transformers.",
    ),
    _kind("a TensorFlow graph", r"[^/]+\.pb", _ORIGINAL),
    _kind("a TensorFlow.js model", r"group1-shard\d+of\d+\.bin", _ORIGINAL),
    _kind("a TensorFlow Lite or LiteRT model", r"[^/]+\.tflite", _ORIGINAL),
    _kind("a MediaPipe or LiteRT-LM bundle", r"[^/]+\.(?:task|litertlm)", _ORIGINAL),
    _kind(
        "a Core ML model",
        r"[^/]+\.mlmodel|[^/]+\.mlmodelc/.+|[^/]+\.mlpackage/.+",
        _ORIGINAL,
    ),
    _kind(
        "an OpenVINO model",
        r"openvino_[^/]*\.(?:xml|bin)",
        "Give the model that it was exported from (`optimum-cli export openvino --model`).",
    ),
    _kind("a TensorRT engine", r"[^/]+\.(?:engine|plan|trt)", _ORIGINAL, _COMPILED),
    _kind("an ExecuTorch program", r"[^/]+\.pte", _ORIGINAL, _COMPILED),
    _kind("a Qualcomm, Rockchip or Hailo binary", r"[^/]+\.(?:dlc|rknn|rkllm|hef)", _ORIGINAL, _COMPILED),
    _kind("an NCNN or MNN model", r"[^/]+\.(?:mnn|ncnn\.bin|ncnn\.param)", _ORIGINAL),
    _kind(
        "an MLC model",
        r"ndarray-cache\.json|tensor-cache\.json|params_shard_\d+\.bin",
        "Give the model that it was converted from (`mlc_llm convert_weight`).",
    ),
    _kind(
        "a rust-bert file",
        r"[^/]+\.ot",
        "Give the `pytorch_model.bin` or `model.safetensors` that it was converted from.",
    ),
    _kind("a PaddlePaddle checkpoint", r"[^/]+\.(?:pdparams|pdiparams|pdmodel)", _ORIGINAL),
    _kind("a MindSpore checkpoint", r"[^/]+\.mindir", _ORIGINAL),
    _kind(
        "a llamafile",
        r"[^/]+\.llamafile",
        "It is a program: nothing of it is opened here. Give the .gguf file it was packed from.",
    ),
    _kind(
        "a file in the GGML format before GGUF",
        r"ggml-[^/]*\.bin|[^/]+\.(?:ggml|ggmlv3[^/]*\.bin)",
        "Convert it with `convert_llama_ggml_to_gguf.py` of llama.cpp and give the .gguf file.",
    ),
    _kind(
        "an archive of NumPy arrays",
        r"[^/]+\.npz",
        "Write it as safetensors (`safetensors.numpy.save_file(dict(numpy.load(FILE)), 'model.safetensors')`).",
    ),
)
_SUFFIXES = (
    *(".nemo", ".tflite", ".task", ".litertlm", ".mlmodel", ".mlpackage", ".engine", ".plan", ".trt", ".pte", ".dlc"),
    *(".rknn", ".rkllm", ".hef", ".mnn", ".ot", ".pdparams", ".pdiparams", ".mindir", ".llamafile", ".ggml", ".npz"),
    *(".pb",),
)
_READABLE = (".safetensors", ".gguf")


def kind_of(name: str) -> Kind | None:
    """Return the refused format that a file belongs to by its name, or None."""
    return next((kind for kind in KINDS if kind.pattern.search(name)), None)


def _find(names: Collection[str], where: str) -> Layout | None:
    # Weights that can be read in some folder below say more than a file that cannot.
    if any(name.endswith(_READABLE) for name in names):
        return None
    for kind in KINDS:
        found = sorted(name for name in names if kind.pattern.search(name))
        if found:
            return Layout(None, (found[0],))
    return None


def _open(source: Source, layout: Layout) -> Opened:
    name = layout.files[0] if layout.files else (layout.index or "")
    kind = kind_of(name)
    what, problem = (kind.name, kind.problem) if kind else ("a file of a format that is not known", "is not read")
    raise UnsupportedEncoding(f"{source.where}/{shown(name)}", f"{what} {problem}", kind.remedy if kind else _ORIGINAL)


FORMAT = Format(
    name="refused",
    rank=90,
    suffixes=_SUFFIXES,
    find=_find,
    open=_open,
    rows=(
        Row(
            "TensorFlow SavedModel and checkpoints, TFLite, Core ML, OpenVINO, TensorRT, DeepSpeed ZeRO, NeMo, MLC, "
            "llamafile, `.npz` and others",
            "-",
            "-",
            "-",
            "Recognised by name and refused (LIN303) with the conversion to run.",
        ),
    ),
)
