"""A large GGUF file in a second: the shape of a Llama of any size, its weights one stretch of random blocks repeated.

For measuring what opening and sampling cost, not for comparing: every row of a tensor repeats after a few rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["write_big_gguf"]

_STRETCH = 8 << 20
_WIDTH, _UNITS, _KEYS, _HEADS, _TOKENS = 4096, 14336, 1024, 32, 32_000


def write_big_gguf(path: Path, gigabytes: float, kind: Literal["Q8_0", "Q4_K"] = "Q4_K", seed: int = 0) -> int:
    """Write a GGUF file of about a size, with a tokenizer in its header as real files have.

    The memory taken is a few stretches of 8 MB, whatever the size.

    Args:
        path: The file.
        gigabytes: Size in 2**30 bytes, at least 0.5.
        kind: Quantisation of the matrices.
        seed: Seed of the random blocks.

    Returns:
        Number of layers written.
    """
    import gguf

    number = gguf.GGMLQuantizationType[kind]
    elements, nbytes = gguf.GGML_QUANT_SIZES[number]
    inside = {
        "attn_norm": (_WIDTH,),
        "attn_q": (_WIDTH, _WIDTH),
        "attn_k": (_KEYS, _WIDTH),
        "attn_v": (_KEYS, _WIDTH),
        "attn_output": (_WIDTH, _WIDTH),
        "ffn_norm": (_WIDTH,),
        "ffn_gate": (_UNITS, _WIDTH),
        "ffn_up": (_UNITS, _WIDTH),
        "ffn_down": (_WIDTH, _UNITS),
    }
    outside = {"token_embd": (_TOKENS, _WIDTH), "output_norm": (_WIDTH,), "output": (_TOKENS, _WIDTH)}

    def size(shape: tuple[int, ...]) -> int:
        return int(np.prod(shape)) // elements * nbytes if len(shape) > 1 else 4 * shape[0]

    fixed, each = (sum(size(shape) for shape in shapes.values()) for shapes in (outside, inside))
    layers = max(1, round((gigabytes * 2**30 - fixed) / each))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_UNITS)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KEYS * _HEADS // _WIDTH)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token-{number}" for number in range(_TOKENS)])
    writer.add_token_types([1] * _TOKENS)
    names = {f"{name}.weight": shape for name, shape in outside.items()}
    names |= {f"blk.{layer}.{name}.weight": shape for layer in range(layers) for name, shape in inside.items()}
    for name, shape in names.items():
        if len(shape) == 1:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size(shape))
        else:
            packed = (*shape[:-1], shape[-1] // elements * nbytes)
            writer.add_tensor_info(name, packed, np.dtype(np.uint8), size(shape), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    stretch = _blocks(kind, nbytes, seed)
    assert writer.fout is not None
    with writer.fout[0] as file:
        file.write(b"\0" * (-file.tell() % 32))
        for shape in names.values():
            left = size(shape)
            if len(shape) == 1:
                file.write(np.ones(shape, np.float32).tobytes())
            while len(shape) > 1 and left > 0:
                left -= file.write(stretch[: min(left, len(stretch))])
            file.write(b"\0" * (-file.tell() % 32))
        writer.fout = None
    return layers


def _blocks(kind: str, nbytes: int, seed: int) -> memoryview:
    """Return random blocks with scales of the size that weights have."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (_STRETCH // nbytes, nbytes), np.uint8)
    scale = np.abs(rng.normal(2e-4, 5e-5, (len(blocks), 1))).astype(np.float16).view(np.uint8)
    blocks[:, :2] = scale
    if kind == "Q4_K":
        blocks[:, 2:4] = scale
    return memoryview(blocks.tobytes())
