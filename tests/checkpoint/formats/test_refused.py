"""Formats that are recognised and refused: one line that names the format and what to do."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lineage_plugin.checkpoint.formats.refused import FORMAT, KINDS, kind_of
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import UnsupportedEncoding

from .refused_samples import NAMES


@pytest.mark.parametrize("word", NAMES)
def test_each_is_named_with_a_remedy(tmp_path: Path, word: str) -> None:
    for name in NAMES[word]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"{}" if name.endswith(".json") else bytes(64))
    with pytest.raises(UnsupportedEncoding, match=word) as caught:
        open_local(tmp_path)
    assert caught.value.code == "LIN303" and caught.value.remedy and "\n" not in str(caught.value)


def test_a_single_file_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"PK")
    with pytest.raises(UnsupportedEncoding, match="safetensors"):
        open_local(tmp_path / "weights.npz")


@pytest.mark.parametrize("beside", ["model.safetensors", "unet/model.safetensors", "weights/model.gguf"])
def test_weights_that_can_be_read_come_first(beside: str) -> None:
    names = ["model.tflite", "openvino_model.xml", "openvino_model.bin", beside]
    assert FORMAT.find(names, "model") is None
    assert FORMAT.find(names[:3], "model") is not None


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors", "flax_model.msgpack", "tf_model.h5"],
)
def test_what_is_read_is_not_refused(name: str) -> None:
    assert kind_of(name) is None


def test_kinds_are_told_apart() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert all(kind.remedy.endswith(".") for kind in KINDS)


@pytest.mark.parametrize("name", ["WhisperSpec", "TransformerSpec", "TransformerDecoderModelSpec"])
def test_models_of_ctranslate2(tmp_path: Path, name: str) -> None:
    # As model_spec.py of CTranslate2 begins a file: version, length of the name with its end, name, revision.
    start = struct.pack("<IH", 6, len(name) + 1) + name.encode() + b"\0" + struct.pack("<I", 3)
    (tmp_path / "model.bin").write_bytes(start + bytes(100))
    with pytest.raises(UnsupportedEncoding, match="CTranslate2"):
        open_local(tmp_path)
