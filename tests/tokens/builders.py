"""Models whose tokenizers are written by hand, and sentencepiece files byte by byte."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from lineage_plugin.checkpoint import Checkpoint, open_checkpoint
from lineage_plugin.options import Options


def model(folder: Path, files: Mapping[str, bytes], rows: int = 8) -> Checkpoint:
    """Write a model with the given files beside its embedding, and open it."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    save_file({"embed": torch.randn(rows, 4, generator=generator)}, str(folder / "model.safetensors"))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return open_checkpoint(str(folder), options=Options())


def varint(value: int) -> bytes:
    """Encode a number as protocol buffers do."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | int) -> bytes:
    """Encode a field: a number, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def sentencepiece(pieces: Sequence[tuple[str, int]]) -> bytes:
    """Encode a model of pieces and their types, with the other fields that such files hold."""
    scored = b"".join(
        field(1, field(1, text.encode()) + b"\x15\x00\x00\x80\xbf" + (field(3, kind) if kind != 1 else b""))
        for text, kind in pieces
    )
    return scored + field(2, field(4, 32_000)) + field(3, b"identity")
