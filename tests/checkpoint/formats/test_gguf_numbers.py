"""Every GGUF number type: sizes against the library, rows and columns against the reference decoder."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.gguf_files.numbers import NUMBERS
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import UnsupportedEncoding
from tests.checkpoint.builders import expected, random_selections

from .gguf_builders import Kind, add, close

PLAIN = {"F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64"}
DECODED = [kind for kind in Kind if NUMBERS[int(kind)].decoded]


def test_sizes_are_those_of_the_library() -> None:
    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    assert {number: (n.elements, n.nbytes) for number, n in NUMBERS.items() if number in sizes} == sizes
    assert {number: n.name for number, n in NUMBERS.items()} == {int(kind): kind.name for kind in Kind}


def test_what_is_decoded_is_what_the_library_decodes() -> None:
    for kind in Kind:
        if kind.name in PLAIN:
            continue
        block = np.zeros((1, NUMBERS[int(kind)].nbytes), np.uint8)
        if NUMBERS[int(kind)].decoded:
            assert dequantize(block, kind).shape == (1, NUMBERS[int(kind)].elements)
        else:
            with pytest.raises(NotImplementedError):
                dequantize(block, kind)


def packed(kind: Kind, rows: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of a type: by the library's quantiser where it has one, otherwise random blocks."""
    values = rng.normal(size=(rows, width)).astype(np.float32)
    if kind.name in PLAIN - {"F32", "F16", "BF16"}:
        return (values * 50).astype(np.dtype({"F": "f", "I": "i"}[kind.name[0]] + str(int(kind.name[1:]) // 8)))
    try:
        return quantize(values, kind)
    except NotImplementedError:
        elements, nbytes = gguf.GGML_QUANT_SIZES[kind]
        return rng.integers(0, 256, (rows, width // elements * nbytes), np.uint8)


@pytest.mark.parametrize("kind", DECODED, ids=lambda kind: kind.name)
def test_rows_and_columns_equal_the_whole_decoded_at_once(tmp_path: Path, kind: Kind) -> None:
    rng = np.random.default_rng(int(kind))
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "never-heard-of")
    want: dict[str, torch.Tensor] = {}
    for name, shape in {"matrix": (23, 512), "cube": (3, 5, 256), "vector": (256,)}.items():
        data = packed(kind, int(np.prod(shape[:-1])), shape[-1], rng)
        data = data.reshape(*shape[:-1], data.shape[-1])
        writer.add_tensor(name, data, raw_dtype=kind)
        with np.errstate(all="ignore"):
            decoded = data.astype(np.float32) if data.dtype.kind in "fi" else dequantize(data, kind)
        want[name] = torch.from_numpy(np.array(decoded, np.float32))
    close(writer)
    checkpoint = open_local(tmp_path / "w.gguf")
    assert {name: info.shape for name, info in checkpoint.tensors.items()} == {
        n: tuple(t.shape) for n, t in want.items()
    }
    for seed in range(3):
        selections = list(random_selections(want, seed))
        for selection, found in zip(selections, checkpoint.read(selections), strict=True):
            np.testing.assert_array_equal(found, expected(want[selection.tensor], selection), str(selection))
    info = checkpoint.tensors["matrix"]
    assert info.nbytes == gguf.GGUFReader(tmp_path / "w.gguf").tensors[0].n_bytes
    assert (info.encoding.name if info.encoding else "plain") == ("plain" if kind.name in PLAIN else kind.name)


@pytest.mark.parametrize("width", [64, 512, 1024, 1536])
def test_any_width_that_divides_a_tensor(tmp_path: Path, width: int) -> None:
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "never-heard-of")
    whole = add(writer, "w", np.random.default_rng(0).normal(size=(12, 512)), Kind.Q4_0).reshape(-1, width)
    close(writer)
    checkpoint = open_local(tmp_path / "w.gguf")
    rows, columns = np.arange(0, len(whole), 2), np.arange(3, width, 7)
    for r in (None, rows):
        for c in (None, columns):
            (found,) = checkpoint.read([Selection("w", r, c, width)])
            want = whole[slice(None) if r is None else r][:, slice(None) if c is None else c]
            np.testing.assert_array_equal(found, want)


def test_few_rows_cost_few_bytes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "never-heard-of")
    add(writer, "w", np.random.default_rng(0).normal(size=(200, 1024)), Kind.Q8_0)
    close(writer)
    checkpoint = open_local(tmp_path / "w.gguf")
    checkpoint.read([Selection("w", rows=np.array([5, 100, 199]))])
    assert checkpoint.cost().tensor_bytes == 3 * 1024 // 32 * 34
    checkpoint.read([Selection("w", rows=np.array([5, 100]), columns=np.array([0, 31, 700]))])
    assert checkpoint.cost().tensor_bytes == (3 * 32 + 2 * 2) * 34


def with_undecodable(path: Path, rows: int) -> Path:
    writer = gguf.GGUFWriter(path, "never-heard-of")
    add(writer, "good", np.ones((64, 256)), Kind.Q8_0)
    writer.add_tensor("bad", np.zeros((rows, 292), np.uint8), raw_dtype=Kind.Q8_K)
    close(writer)
    return path


def test_types_without_a_decoder(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedEncoding, match=r"'bad' is stored as Q8_K"):
        open_local(with_undecodable(tmp_path / "most.gguf", 100))
    checkpoint = open_local(with_undecodable(tmp_path / "few.gguf", 2))
    assert set(checkpoint.tensors) == {"good"}
    assert any("'bad' (Q8_K)" in note for note in checkpoint.notes)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("packed", Kind.Q4_0), ("plain", Kind.BF16)):
        writer = gguf.GGUFWriter(tmp_path / f"{name}.gguf", "never-heard-of")
        add(writer, "w", np.ones((2, 32)), kind)
        close(writer)
    monkeypatch.setattr("lineage_plugin.checkpoint.gguf_files.blocks.find_spec", lambda name: None)
    with pytest.raises(UnsupportedEncoding, match=r"lineage-plugin\[gguf\]"):
        open_local(tmp_path / "packed.gguf")
    (found,) = open_local(tmp_path / "plain.gguf").read([Selection("w")])
    np.testing.assert_array_equal(found, np.ones((2, 32)))
