"""AWQ: AutoAWQ's own packing in three layouts, and layers packed by hand, against a decoder that goes bit by bit.

The package was once held against ``dequantize_gemm`` of AutoAWQ 0.2.9 (the gemm file in ``data/``) and of GPTQModel
7.6.0 (a model of 4 million weights that it quantised), scales as float32: equal in every number. AutoAWQ has no decoder
of the two other layouts but CUDA kernels; they hold the same layers, packed by its ``from_linear``, and are compared
with gemm.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsupportedEncoding
from tests.hub import LocalHub

from .awq_samples import SAMPLES, make
from .gptq_samples import DATA, LAYER, copy, save
from .packed_reading import WEIGHT, WIDE, check, spent, window_of_a_wide_layer

GEMM = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


def field(row: NDArray[np.int32], place: int) -> int:
    return int(row[place // 8]) >> (4 * (place % 8)) & 15


def slow(kind: str) -> dict[str, NDArray[np.float32]]:
    """Both layers of a real folder, ``[outputs, inputs]``, number by number; 64 inputs a group."""
    stored = load_file(DATA / kind / "model.safetensors")
    found = {}
    for module in ("model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"):
        levels, zeros, scales = (stored[f"{module}.{part}"] for part in ("qweight", "qzeros", "scales"))
        inputs = 256 if "up" in module else 64
        weight = np.empty((32, inputs), np.float32)
        for n in range(32):
            for k in range(inputs):
                group = k // 64
                if kind == "awq-gemm":
                    place = n // 8 * 8 + _PLACES[n % 8]
                    level, zero = field(levels[k], place), field(zeros[group], place)
                    weight[n, k] = np.float32(scales[group, n]) * (level - zero)
                elif kind == "awq-gemv":
                    level, zero = field(levels[n], k), field(zeros[n], group)
                    weight[n, k] = np.float32(scales[n, group]) * (level - zero)
                else:
                    # Of 32 inputs, pairs go to four eights in turn; of an eight, even ones come before odd ones.
                    eight, pair, odd = k % 8 // 2, k % 32 // 8, k % 2
                    place = k % 64 // 32 * 32 + eight * 8 + odd * 4 + pair
                    word = k // 64 * 64 + n % 4 * 16 + place // 4
                    level = int(levels[n // 4, word]) >> (4 * (place % 4)) & 15
                    weight[n, k] = np.float32(scales[group, n]) * level + np.float32(zeros[group, n])
        found[module] = weight
    return found


@pytest.mark.parametrize("kind", ["awq-gemm", "awq-gemv", "awq-gemv-fast"])
def test_files_of_autoawq(kind: str) -> None:
    checkpoint = open_local(DATA / kind)
    for module, weight in slow(kind).items():
        check(checkpoint, f"{module}.weight", weight)
        encoding = checkpoint.tensors[f"{module}.weight"].encoding
        assert encoding is not None
        assert (encoding.name, encoding.bits, encoding.axis) == ("AWQ", 4, 1 if kind == "awq-gemm" else 0)
        assert encoding.shared == (1, 64 if "up" in module else -1)
    assert set(checkpoint.tensors) == {
        *(f"model.layers.0.mlp.{part}" for part in ("up_proj.weight", "up_proj.bias", "down_proj.weight")),
        "model.norm.weight",
    }


def test_layouts_hold_the_same_layers() -> None:
    gemm, gemv, fast = (slow(kind) for kind in ("awq-gemm", "awq-gemv", "awq-gemv-fast"))
    for module, weight in gemm.items():
        np.testing.assert_array_equal(weight, gemv[module])
        # The product of scale and zero point is rounded to half precision.
        np.testing.assert_allclose(fast[module], weight, rtol=0, atol=2**-11 * 15 * np.abs(weight).max())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8])
def test_layers_packed_by_hand(tmp_path: Path, bits: int) -> None:
    made = make(bits, seed=bits)
    check(open_local(save(tmp_path, made.tensors, {**GEMM, "bits": bits})), WEIGHT, made.weight)


@pytest.mark.parametrize("settings", [None, {"w_bit": 4, "q_group_size": 32, "version": "GEMM"}])
def test_settings_of_old_or_none(tmp_path: Path, settings: dict[str, object] | None) -> None:
    made = make()
    checkpoint = open_local(save(tmp_path, made.tensors, settings))
    check(checkpoint, WEIGHT, made.weight)
    encoding = checkpoint.tensors[WEIGHT].encoding
    assert encoding is not None and encoding.name == "AWQ"


def test_autoround_names_the_layout(tmp_path: Path) -> None:
    made = make()
    settings = {"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:auto_awq"}
    check(open_local(save(tmp_path, made.tensors, settings)), WEIGHT, made.weight)


def test_only_words_and_groups_that_count_are_read(tmp_path: Path) -> None:
    checkpoint = open_local(save(tmp_path, make().tensors, GEMM))
    assert spent(checkpoint, [3], None) == 64 * 4 + 2 * 2 + 2 * 4
    assert spent(checkpoint, None, [33, 34]) == 2 * 4 * 4 + 32 * 2 + 4 * 4
    assert spent(checkpoint, [3, 5], [33]) == 4 + 2 * 2 + 4
    plain = open_local(DATA / "awq-gemv")
    assert spent(plain, [3], None) == 32 * 4 + 4 * 2 + 4
    fast = open_local(DATA / "awq-gemv-fast")
    assert spent(fast, [3], [70]) == 2 + 2 + 2
    # Four outputs share their words.
    assert spent(fast, [3], None) == 256 * 2 + 4 * 2 + 4 * 2


def test_over_the_hub(hub: LocalHub) -> None:
    copy("awq-gemm", hub.root / "owner" / "name")
    checkpoint = open_hub("owner/name", endpoint=hub.endpoint)
    for module, weight in slow("awq-gemm").items():
        check(checkpoint, f"{module}.weight", weight)


def test_few_inputs_of_a_wide_layer_over_the_hub(hub: LocalHub) -> None:
    # A row of words for each input, a row of scales, a row of zero points.
    settings = {**GEMM, "group_size": 128}
    assert window_of_a_wide_layer(hub, make(*WIDE), settings) == 16 * 512 * 4 + 4096 * 2 + 512 * 4


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("qweight", np.zeros((64, 5), np.int32)),
        ("qweight", np.zeros((63, 4), np.int32)),
        ("qweight", np.zeros((64, 4), np.float32)),
        ("qweight", np.zeros((8, 64), np.int16)),
        ("qweight", np.zeros((2, 32, 4), np.int32)),
        ("qzeros", np.zeros((3, 4), np.int32)),
        ("qzeros", np.zeros((2, 0), np.int32)),
        ("scales", np.zeros((2, 31), np.float16)),
        ("scales", np.zeros((2, 32), np.int32)),
    ],
)
def test_tensors_that_contradict_each_other(tmp_path: Path, part: str, value: NDArray[np.generic]) -> None:
    tensors = {**make().tensors, f"{LAYER}.{part}": value}
    if part == "qweight" and value.shape == (63, 4):
        # 63 inputs are two groups of 32, the last one cut.
        assert open_local(save(tmp_path, tensors, GEMM)).tensors[WEIGHT].shape == (32, 63)
        return
    with pytest.raises(UnreadableCheckpoint, match="do not fit each other"):
        open_local(save(tmp_path, tensors, GEMM))


def test_layouts_of_one_kernel(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedEncoding, match="marlin"):
        open_local(save(tmp_path, make().tensors, {**GEMM, "version": "marlin"}))


@pytest.mark.parametrize("name", SAMPLES)
def test_mutations_are_refused_or_read(tmp_path: Path, name: str) -> None:
    SAMPLES[name](tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    file = tmp_path / "model.safetensors"
    good = file.read_bytes()
    size = 8 + int.from_bytes(good[:8], "little")
    rng, messages = np.random.default_rng(5), []
    for turn in range(60):
        if turn == 30:
            (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": {}}))
        bad = bytearray(good)
        for place in rng.integers(8, size, rng.integers(1, 4)):
            bad[place] = rng.choice(list(b'0123456789,"]}:'))
        file.write_bytes(bad)
        try:
            checkpoint = open_local(tmp_path)
            checkpoint.read([Selection(name, np.array([0])) for name, info in checkpoint.tensors.items() if info.size])
        except InputError as error:
            messages.append(str(error))
    assert messages and not [message for message in messages if "\n" in message]
