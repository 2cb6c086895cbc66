"""Tiny GGUF files, all by the gguf library; blocks of types that it only decodes are random bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from .gguf_builders import Kind, add, close

__all__ = ["SAMPLES"]

_WIDTH = 32


def _llama(path: Path, kind: Kind = Kind.Q8_0, *, experts: int = 0, tokens: int = 8, **options: object) -> None:
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama", **options)  # type: ignore[arg-type]
    writer.add_name("Tiny")
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, "Base")
    writer.add_base_model_organization(0, "owner")
    writer.add_base_model_repo_url(0, "https://huggingface.co/owner/base")
    writer.add_block_count(2)
    writer.add_embedding_length(_WIDTH)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    if experts:
        writer.add_expert_count(experts)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{n}" for n in range(100)])
    writer.add_token_scores([0.5] * 100)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (tokens, _WIDTH), "output_norm": (_WIDTH,)}
    for layer in range(2):
        inside: dict[str, tuple[int, ...]] = {
            "attn_norm": (_WIDTH,),
            "attn_q": (_WIDTH, _WIDTH),
            "attn_k": (_WIDTH // 2, _WIDTH),
            "attn_v": (_WIDTH // 2, _WIDTH),
            "attn_output": (_WIDTH, _WIDTH),
        }
        for part in ("gate", "up", "down"):
            inside[f"ffn_{part}_exps" if experts else f"ffn_{part}"] = (*([experts] if experts else ()), 32, 32)
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in inside.items()}
    for name, shape in shapes.items():
        add(writer, f"{name}.weight", rng.normal(size=shape), kind if len(shape) > 1 else Kind.F32)
    close(writer)


def _single(folder: Path) -> None:
    _llama(folder / "model-Q8_0.gguf")


def _plain(folder: Path) -> None:
    """Two quantisations and a projector; the larger model counts."""
    _llama(folder / "model-F16.gguf", Kind.F16)
    _llama(folder / "model-Q4_0.gguf", Kind.Q4_0)
    _llama(folder / "mmproj-model-F32.gguf", Kind.F32)


def _experts(folder: Path) -> None:
    _llama(folder / "experts.gguf", Kind.BF16, experts=3)


def _split(folder: Path) -> None:
    _llama(folder / "model.gguf", Kind.Q5_1, split_max_tensors=7)


def _big_endian(folder: Path) -> None:
    _llama(folder / "model-be.gguf", Kind.F16, endianess=gguf.GGUFEndian.BIG)


def _every_type(folder: Path) -> None:
    """Two rows of every type that the library decodes, in an architecture that is not known."""
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(folder / "types.gguf", "never-heard-of")
    for kind, (elements, nbytes) in gguf.GGML_QUANT_SIZES.items():
        if kind.name in ("Q8_1", "Q8_K", "Q1_0"):
            continue
        packed = rng.integers(0, 256, (2, max(1, 256 // elements) * nbytes), np.uint8)
        writer.add_tensor(f"blk.0.{kind.name}.weight", packed, raw_dtype=kind)
    close(writer)


def _gpt2(folder: Path) -> None:
    """Transposed and fused matrices."""
    rng = np.random.default_rng(2)
    writer = gguf.GGUFWriter(folder / "gpt2.gguf", "gpt2")
    writer.add_head_count(4)
    for name, shape in (
        ("attn_qkv", (96, 32)),
        ("attn_output", (32, 32)),
        ("ffn_up", (64, 32)),
        ("ffn_down", (32, 64)),
    ):
        add(writer, f"blk.0.{name}.weight", rng.normal(size=shape), Kind.Q4_1)
        add(writer, f"blk.0.{name}.bias", rng.normal(size=shape[:1]), Kind.F32)
    close(writer)


def _gpt_oss(folder: Path) -> None:
    """Experts that are joined again, in MXFP4."""
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(folder / "oss.gguf", "gpt-oss")
    writer.add_head_count(4)
    for part in ("gate", "up", "down"):
        packed = rng.integers(0, 200, (2, 32, 17), np.uint8)
        writer.add_tensor(f"blk.0.ffn_{part}_exps.weight", packed, raw_dtype=Kind.MXFP4)
        add(writer, f"blk.0.ffn_{part}_exps.bias", rng.normal(size=(2, 32)), Kind.F32)
    close(writer)


SAMPLES: dict[str, Callable[[Path], None]] = {
    "single": _single,
    "plain": _plain,
    "experts": _experts,
    "split": _split,
    "big_endian": _big_endian,
    "every_type": _every_type,
    "gpt2": _gpt2,
    "gpt_oss": _gpt_oss,
}
