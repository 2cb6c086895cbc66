"""Keras files: against what transformers converted them from, and against h5py; damaged, newer, compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.foreign.hdf5 import read_datasets
from lineage_plugin.checkpoint.foreign.window import Window
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.local import LocalSource, open_local
from lineage_plugin.checkpoint.types import FileInfo
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsupportedEncoding
from tests.hub import LocalHub

from .keras_samples import SAMPLES
from .reading import agrees
from .recorded_models import recorded, unpack


@pytest.mark.parametrize(
    ("model", "kind"), [("bert", "keras"), ("bert", "keras-shards"), ("gpt2", "keras"), ("vit", "keras")]
)
def test_recorded_models_equal_their_originals(tmp_path: Path, model: str, kind: str) -> None:
    """Names, shapes and numbers are those of the PyTorch model; variables that layers share are there once."""
    checkpoint = open_local(unpack(model, kind, tmp_path / "m"))
    assert checkpoint.format == "keras" and checkpoint.config["model_type"] == model
    assert set(checkpoint.tensors) == set(recorded(model))
    agrees(checkpoint, recorded(model))


def test_few_rows_cost_few_bytes(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(300, 2000)).astype(np.float32)
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file["bert/tf_bert_model/bert/pooler/dense/kernel:0"] = kernel
    checkpoint = open_local(tmp_path)
    (found,) = checkpoint.read([Selection("bert.pooler.dense.weight", rows=np.array([3, 1999]))])
    np.testing.assert_array_equal(found, kernel.T[[3, 1999]])
    cost = checkpoint.cost()
    assert cost.tensor_bytes == 2 * 300 * 4
    assert cost.bytes_read < 80_000 < 2_000_000 < cost.bytes_total


def test_plain_keras_models_keep_their_layers(tmp_path: Path) -> None:
    SAMPLES["plain"](tmp_path)
    checkpoint = open_local(tmp_path)
    with h5py.File(tmp_path / "model.h5") as file:
        layers = file["model_weights"]
        expected = {f"dense_{n}.weight": layers[f"dense_{n}/dense_{n}/kernel:0"][()].T for n in range(9)}
        expected |= {f"dense_{n}.bias": layers[f"dense_{n}/dense_{n}/bias:0"][()] for n in range(9)}
    assert set(checkpoint.tensors) == set(expected)
    agrees(checkpoint, expected)


def walked(path: Path) -> dict[str, tuple[tuple[int, ...], str, int]]:
    source = LocalSource("x", path.parent, {path.name: FileInfo(path.name, path.stat().st_size)}, Ledger("x"))
    found = read_datasets(Window(source, path.name, "HDF5 file"))
    return {"/".join(name): (info.shape, info.dtype, info.offset) for name, info in found.items()}


def test_the_walker_finds_what_h5py_finds(tmp_path: Path) -> None:
    """Hundreds of names (trees of several levels), deep groups, attributes that overflow headers, every number type."""
    path = tmp_path / "x.h5"
    rng = np.random.default_rng(0)
    names = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}
    with h5py.File(path, "w") as file:
        for n in range(700):
            file.create_dataset(f"layer_{n}/v", data=rng.normal(size=(2, 3)).astype(list(names.values())[n % 8]))
        file.create_dataset("/".join("abcdefgh" * 4), data=np.ones(3, np.float32))
        wide = file.create_dataset("wide", data=np.ones((2, 2), np.float32))
        for n in range(40):
            wide.attrs[f"attribute {n}"] = "text " * 50
        file["scalar"] = np.float32(3)
        file["empty"] = np.empty((0, 3), np.float32)
        file["text"] = "words"
        file["big"] = np.arange(3, dtype=">f4")
        file["truth"] = np.array([True, False])
        file["complex"] = np.ones(3, np.complex64)
    expected = {}

    def note(name: str, item: Any) -> None:
        known = {np.dtype(kind): label for label, kind in names.items()}
        if isinstance(item, h5py.Dataset) and item.size and item.dtype in known:
            expected[name] = (item.shape, known[item.dtype], item.id.get_offset())

    with h5py.File(path) as file:
        file.visititems(note)
    assert len(expected) == 703
    assert walked(path) == expected


def write(path: Path, **how: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("a", data=np.ones((64, 64), np.float32), **how)


@pytest.mark.parametrize("how", [{"chunks": (8, 8)}, {"compression": "gzip"}, {"maxshape": (None, 64)}])
def test_chunks_and_compression_are_refused(tmp_path: Path, how: dict[str, Any]) -> None:
    write(tmp_path / "model.h5", **how)
    with pytest.raises(UnsupportedEncoding, match="compressed") as caught:
        open_local(tmp_path)
    assert "save_pretrained" in str(caught.value)


def test_newer_files_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.h5", "w", libver="latest") as file:
        file["a"] = np.ones(3, np.float32)
    with pytest.raises(UnsupportedEncoding, match="superblock"):
        open_local(tmp_path)


@pytest.mark.parametrize("kind", ["soft", "external"])
def test_links_are_not_followed(tmp_path: Path, kind: str) -> None:
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file["a"] = np.ones(3, np.float32)
        file["b"] = h5py.SoftLink("/a") if kind == "soft" else h5py.ExternalLink("/etc/passwd", "/a")
    with pytest.raises(InputError):
        open_local(tmp_path)


def test_data_in_other_files_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(12))
    write(tmp_path / "model.h5")
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.create_dataset("a", shape=(3,), dtype="<f4", external=[(str(tmp_path / "secret"), 0, 12)])
    with pytest.raises(InputError):
        open_local(tmp_path)


def test_groups_in_a_circle(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "model.h5", "w") as file:
        group = file.create_group("a")
        group["v"] = np.ones(3, np.float32)
        group["again"] = file["/"]
    with pytest.raises(UnreadableCheckpoint, match="overlap"):
        open_local(tmp_path)


def test_other_archives(tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04")
    with pytest.raises(UnsupportedEncoding, match="Unpack it"):
        open_local(tmp_path)


def test_no_hdf5(tmp_path: Path) -> None:
    (tmp_path / "tf_model.h5").write_bytes(b"version https://git-lfs" + bytes(200))
    with pytest.raises(UnreadableCheckpoint, match="does not begin as HDF5"):
        open_local(tmp_path)


def test_over_the_hub_it_is_refused(hub: LocalHub) -> None:
    unpack("gpt2", "keras", hub.root / "owner/name")
    with pytest.raises(UnsupportedEncoding, match="hf download owner/name"):
        open_hub("owner/name", endpoint=hub.endpoint)
