"""Memory of a comparison: models of 4 GB each, as sharded safetensors and as GGUF.

Weights are synthetic (``benchmarks/synthetic.py``): a base, a child of it and an unrelated model, of 2 billion
parameters in bfloat16, and of 4 billion in Q8_0. Every comparison is a process of its own, started from the command
line; the peak is what the system reports for it, mapped pages of the files included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.large import SMALL_1B
from benchmarks.synthetic import Shape, tensor, write

__all__ = ["write_gguf"]

SHAPES = {"safetensors": replace(SMALL_1B, layers=32), "gguf": replace(SMALL_1B, layers=64)}
ROLES = ("base", "child", "other")
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, role: str, shape: Shape) -> None:
    """Write a synthetic model as GGUF in Q8_0, tensor by tensor, the way llama.cpp's converter lays out a Llama.

    Args:
        path: The file.
        role: See :func:`benchmarks.synthetic.matrix`.
        shape: Extents of the model.
    """
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.units)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_context_length(4096)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    packed = gguf.GGMLQuantizationType.Q8_0
    for name, extents in shape.tensors():
        if len(extents) == 1:
            writer.add_tensor_info(_gguf_name(name), extents, np.dtype(np.float32), 4 * extents[0])
        else:
            stored = gguf.quant_shape_to_byte_shape(extents, packed)
            size = int(np.prod(stored))
            writer.add_tensor_info(_gguf_name(name), stored, np.dtype(np.uint8), size, raw_dtype=packed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, extents in shape.tensors():
        found = tensor(role, name, shape)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = shape.heads if "q_proj" in name else shape.kv_heads
            found = found.reshape(heads, 2, shape.head_dim // 2, -1).swapaxes(1, 2).reshape(extents)
        writer.write_tensor_data(found if len(extents) == 1 else gguf.quants.quantize(found, packed))
    writer.close()


def _gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return f"{_NAMES[name.removesuffix('.weight')]}.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_NAMES[rest.removesuffix('.weight')]}.weight"


def _build(root: Path, form: str, role: str) -> Path:
    folder = root / f"{form}-{role}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if form == "gguf":
            write_gguf(folder / "model.gguf", role, SHAPES[form])
        else:
            write(folder, role, SHAPES[form], 4)
        (folder / "done").touch()
    return folder


def _compare(suspect: Path, base: Path, more: list[str]) -> tuple[dict[str, object], int]:
    """Return the report of the command line, and the peak of its process in bytes."""
    command = [sys.executable, "-m", "lineage_plugin", "compare", str(suspect), str(base), "--format", "json", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    answer = process.stdout.read()
    said = process.stderr.read()
    _, _, used = os.wait4(process.pid, 0)
    if not answer:
        raise RuntimeError(said.decode())
    return json.loads(answer), 1024 * used.ru_maxrss


def main() -> None:
    """Build, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the models are, or are to be written (24 GB)")
    parser.add_argument("--forms", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.folder or Path(scratch)
        print(
            f"{'suspect':<18}{'base':<18}{'GB':>6} {'relation':<12}{'log10 E':>9}{'MB read':>9}{'s':>7}{'peak MB':>9}"
        )
        for form in arguments.forms:
            base = _build(root, form, "base")
            for role in ROLES[1:]:
                suspect = _build(root, form, role)
                report, peak = _compare(suspect, base, [])
                (found,) = report["comparisons"]  # type: ignore[misc]
                cost = report["cost"]
                size = sum(file.stat().st_size for file in suspect.iterdir()) / 1e9
                print(
                    f"{suspect.name:<18}{base.name:<18}{size:6.1f} {found['relation']:<12}"
                    f"{found['evidence']['log10_e']:9.1f}{cost['bytes_read'] / 1e6:9.1f}"  # type: ignore[index]
                    f"{cost['seconds']:7.1f}{peak / 1e6:9.0f}",  # type: ignore[index]
                    flush=True,
                )


if __name__ == "__main__":
    main()
