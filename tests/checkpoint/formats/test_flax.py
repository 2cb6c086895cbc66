"""Flax files: against what transformers converted them from, in pieces, damaged, and over the Hub."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import msgpack
import numpy as np
import pytest

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding
from tests.hub import LocalHub

from .flax_samples import chunked, packed
from .reading import agrees
from .recorded_models import recorded, unpack


@pytest.mark.parametrize(
    ("model", "kind"), [("bert", "flax"), ("bert", "flax-shards"), ("gpt2", "flax"), ("vit", "flax")]
)
def test_recorded_models_equal_their_originals(tmp_path: Path, model: str, kind: str) -> None:
    """Names, shapes and numbers are those of the PyTorch model, kernels of linear and convolutional layers included."""
    checkpoint = open_local(unpack(model, kind, tmp_path / "m"))
    assert checkpoint.format == "flax" and checkpoint.config["model_type"] == model
    assert set(checkpoint.tensors) == set(recorded(model))
    agrees(checkpoint, recorded(model))


def test_bfloat16(tmp_path: Path) -> None:
    expected = {name: array.astype(ml_dtypes.bfloat16) for name, array in recorded("bert").items()}
    agrees(open_local(unpack("bert", "flax-bf16", tmp_path / "m")), expected)


def test_a_file_or_an_index_may_be_given(tmp_path: Path) -> None:
    folder = unpack("bert", "flax-shards", tmp_path / "m")
    assert set(open_local(folder / "flax_model.msgpack.index.json").tensors) == set(recorded("bert"))
    one = open_local(folder / "flax_model-00001-of-00002.msgpack")
    assert one.weight_files == ("flax_model-00001-of-00002.msgpack",) and one.tensors


def test_few_rows_cost_few_bytes(tmp_path: Path) -> None:
    tree = {"a": {"kernel": np.random.default_rng(0).normal(size=(300, 2000)).astype(np.float32)}}
    (tmp_path / "flax_model.msgpack").write_bytes(packed(tree))
    checkpoint = open_local(tmp_path)
    (found,) = checkpoint.read([Selection("a.weight", rows=np.array([3, 1999]))])
    np.testing.assert_array_equal(found, tree["a"]["kernel"].T[[3, 1999]])
    cost = checkpoint.cost()
    assert cost.tensor_bytes == 2 * 300 * 4
    assert cost.bytes_read < 8192 < cost.bytes_total


@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("leaf", ["kernel", "embedding"])
def test_arrays_in_pieces(tmp_path: Path, pieces: int, leaf: str) -> None:
    """Arrays of more than 2^30 bytes are cut without regard to rows."""
    array = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)
    (tmp_path / "flax_model.msgpack").write_bytes(packed({"params": {"a": {leaf: chunked(array, pieces)}}}))
    agrees(open_local(tmp_path), {"a.weight": array.T if leaf == "kernel" else array})


def test_training_state_is_left_out_and_equal_names_stay_apart(tmp_path: Path) -> None:
    one = np.ones((2, 2), np.float32)
    tree = {"params": {"a": {"scale": one, "weight": 2 * one}}, "opt_state": {"0": {"mu": one}}, "step": 5}
    (tmp_path / "flax_model.msgpack").write_bytes(packed(tree))
    checkpoint = open_local(tmp_path)
    agrees(checkpoint, {"a.weight": one, "params/a/weight": 2 * one})
    assert len(checkpoint.tensors) == 2


ARRAY = msgpack.ExtType(1, msgpack.packb(([2, 2], "float32", bytes(16))))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "points beyond"),
        (b"\x93\x01\x02\x03", "does not begin with a map"),
        (b"\xc1", "begins no value"),
        (packed({"a": 1}), "no arrays"),
        (msgpack.packb({"a": ARRAY}) + b"\x00", "left over"),
        (msgpack.packb({"a": ARRAY})[:-1], "malformed"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([2, 3], "float32", bytes(16))))}), "malformed"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([-2, -2], "float32", bytes(16))))}), "malformed"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([4], "object", bytes(16))))}), "malformed"),
        (msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb(([1 << 62, 4], "float32", b"")))}), "malformed"),
        (msgpack.packb({"a": [ARRAY]}), "a list"),
        (msgpack.packb({1: ARRAY}), "a key is no text"),
        (msgpack.packb({"a\x1b[31m": ARRAY}), "not printable"),
        (b"\x82\xa1a" + msgpack.packb(ARRAY) + b"\xa1a" + msgpack.packb(ARRAY), "twice"),
        (b"\x81\xa1a" * 100_000, "too many maps"),
        (b"\xdf\xff\xff\xff\xff", "points beyond"),
        (b"\x81\xdb\xff\xff\xff\xff", "a key is no text"),
        (packed({"a": {**chunked(np.ones((4, 4), np.float32), 2), "shape": {"0": 4, "1": 5}}}), "do not make up"),
        (packed({"a": {**chunked(np.ones((4, 4), np.float32), 2), "shape": {"0": 4, "2": 4}}}), "not complete"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "flax_model.msgpack").write_bytes(content)
    with pytest.raises(UnreadableCheckpoint, match=problem):
        open_local(tmp_path)


@pytest.mark.parametrize(
    ("file", "problem"),
    [("../x.msgpack", "plain name"), ("y.msgpack", "missing"), ("config.json", "plain name"), (3, "file name")],
)
def test_an_index_that_leads_astray(tmp_path: Path, file: object, problem: str) -> None:
    folder = unpack("bert", "flax-shards", tmp_path / "m")
    index = folder / "flax_model.msgpack.index.json"
    text = str(file) if not isinstance(file, str) else f'"{file}"'
    index.write_text(index.read_text().replace('"flax_model-00002-of-00002.msgpack"', text))
    with pytest.raises(UnreadableCheckpoint, match=problem):
        open_local(folder)


def test_over_the_hub_it_is_refused_before_a_weight_byte_is_read(hub: LocalHub) -> None:
    unpack("bert", "flax", hub.root / "owner/name")
    with pytest.raises(UnsupportedEncoding, match="hf download owner/name") as caught:
        open_hub("owner/name", endpoint=hub.endpoint)
    assert caught.value.code == "LIN303"
