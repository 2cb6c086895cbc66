"""Folders of formats that are refused by name; only the names count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["NAMES", "SAMPLES"]

NAMES: dict[str, tuple[str, ...]] = {
    "DeepSpeed": ("zero_to_fp32.py", "latest", "global_step10/zero_pp_rank_0_mp_rank_00_optim_states.pt"),
    "Megatron": ("latest_checkpointed_iteration.txt", "iter_0000100/mp_rank_00/model_optim_rng.pt"),
    "NeMo": ("model.nemo",),
    "SavedModel": ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"),
    "TensorFlow checkpoint": ("bert_config.json", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"),
    "Orbax": ("_CHECKPOINT_METADATA", "manifest.ocdbt"),
    "TensorFlow Lite": ("model.tflite",),
    "LiteRT-LM": ("gemma.litertlm",),
    "Core ML": ("Model.mlpackage/Manifest.json", "Model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"),
    "OpenVINO": ("config.json", "openvino_model.xml", "openvino_model.bin"),
    "TensorRT": ("rank0.engine", "config.json"),
    "ExecuTorch": ("model.pte",),
    "MLC": ("ndarray-cache.json", "params_shard_0.bin", "mlc-chat-config.json"),
    "rust-bert": ("rust_model.ot",),
    "llamafile": ("model.Q4_K_M.llamafile",),
    "GGML": ("ggml-model-q4_0.bin",),
    "NumPy": ("weights.npz", "config.json"),
}
"""Files by a word that the message must hold."""


def _writer(names: tuple[str, ...]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"{}" if name.endswith(".json") else b"\0" * 64)

    return write


SAMPLES: dict[str, Callable[[Path], None]] = {
    word.lower().replace(" ", "-"): _writer(names) for word, names in NAMES.items() if word in ("OpenVINO", "DeepSpeed")
}
