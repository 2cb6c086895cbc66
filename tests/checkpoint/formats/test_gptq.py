"""GPTQ: the libraries' own files and layers packed by hand, against a decoder that goes bit by bit.

The package was once held against GPTQModel 7.6.0 itself (``TorchLinear.dequantize_weight`` after
``convert_gptq_v1_to_v2_format_module``, scales as float32): equal in every number, on its four files in ``data/`` and
on six models of 4 million weights (2, 3, 4, 5 and 8 bits, v1 and v2, with act-order and without). The slow decoder
below equals the package on the files in ``data/``. Of AutoRound 0.15.1 four exports of one model (two GPTQ, two AWQ)
were decoded to the same numbers, within a level of what had been quantised.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import torch as torch_file
from safetensors.numpy import load_file, save_file

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsupportedEncoding
from tests.hub import LocalHub

from .gptq_samples import DATA, LAYER, REAL, SAMPLES, copy, make, pack, save
from .packed_reading import WEIGHT, WIDE, check, spent, window_of_a_wide_layer

V1 = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True}
V2 = {**V1, "checkpoint_format": "gptq_v2"}


def stream(words: NDArray[np.int32], bits: int, count: int) -> list[int]:
    """The fields of one column of words, low bits first."""
    whole = sum((int(word) & 0xFFFFFFFF) << (32 * i) for i, word in enumerate(words))
    return [whole >> (bits * i) & ((1 << bits) - 1) for i in range(count)]


def planes(words: NDArray[np.int32], bits: int, count: int) -> list[int]:
    """Runs of 32 fields: the low four bits of all, then what is above in planes of one or two bits."""
    found = [0] * count
    for run in range(count // 32):
        word, below = run * bits, 0
        for width in {5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}[bits]:
            for i, field in enumerate(stream(words[word : word + width], width, 32)):
                found[32 * run + i] |= field << below
            word, below = word + width, below + width
    return found


def slow(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Every quantised layer of a real folder, ``[inputs, outputs]``, number by number."""
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    plain = {torch.int32, torch.float16}
    every = torch_file.load_file(folder / "model.safetensors")
    stored, bits = {name: value.numpy() for name, value in every.items() if value.dtype in plain}, settings["bits"]
    reduced = settings.get("checkpoint_format", "gptq") == "gptq"
    fields, most = planes if bits in (5, 6, 7) else stream, (1 << bits) - 1
    found = {}
    for name in [name for name in stored if name.endswith(".qweight")]:
        module = name.removesuffix(".qweight")
        qzeros, scales = stored[f"{module}.qzeros"], stored[f"{module}.scales"]
        inputs, (count, outputs) = stored[name].shape[0] * 32 // bits, scales.shape
        groups = stored.get(f"{module}.g_idx", np.arange(inputs) // settings["group_size"])
        zeros = [fields(qzeros[group], bits, outputs) for group in range(count)]
        weight = np.empty((inputs, outputs), np.float32)
        for output in range(outputs):
            levels = fields(stored[name][:, output], bits, inputs)
            for k in range(inputs):
                zero = zeros[groups[k]][output] + reduced & most
                weight[k, output] = np.float32(scales[groups[k], output]) * (levels[k] - zero)
        found[module] = weight
    return found


# Round trips ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_files_of_the_libraries(name: str) -> None:
    checkpoint = open_local(DATA / name)
    turned = name == "gptq-conv1d"
    found = slow(DATA / name)
    assert len(found) == (4 if turned else 7)
    for module, weight in found.items():
        check(checkpoint, f"{module}.weight", weight if turned else np.ascontiguousarray(weight.T))
        encoding = checkpoint.tensors[f"{module}.weight"].encoding
        assert encoding is not None
        assert (encoding.name, encoding.axis, encoding.shared) == ("GPTQ", *((0, (0, 1)) if turned else (1, (1, 0))))
    assert not [name for name in checkpoint.tensors if name.endswith(("qweight", "qzeros", "scales", "g_idx"))]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_layers_packed_by_hand(tmp_path: Path, bits: int, reduced: bool, apart: bool) -> None:
    order = np.random.default_rng(1).permutation(96) // 32 if apart else None
    made = make(bits, 96, 64, 32, reduced=reduced, order=order, seed=bits)
    settings = {**(V1 if reduced else V2), "bits": bits, "desc_act": apart}
    check(open_local(save(tmp_path, made.tensors, settings)), WEIGHT, made.weight)


@pytest.mark.parametrize("word", [8, 16, 64])
def test_words_of_other_widths(tmp_path: Path, word: int) -> None:
    made = make(word=word, seed=word)
    check(open_local(save(tmp_path, made.tensors, V1)), WEIGHT, made.weight)


@pytest.mark.parametrize(("inputs", "group"), [(64, 64), (96, 64), (40, 16), (64, 16)])
def test_groups_of_any_size(tmp_path: Path, inputs: int, group: int) -> None:
    made = make(4, inputs, 8, group, stored_order=False)
    settings = {**V1, "group_size": -1 if group == inputs else group}
    check(open_local(save(tmp_path, made.tensors, settings)), WEIGHT, made.weight)


@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_planes(tmp_path: Path, bits: int) -> None:
    rng = np.random.default_rng(bits)
    levels = rng.integers(0, 1 << bits, 64)
    widths = {3: (2, 1), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1)}[bits]
    column = [
        pack((part[:, None] >> sum(widths[:i])) & ((1 << width) - 1), width)
        for part in levels.reshape(2, 32)
        for i, width in enumerate(widths)
    ]
    tensors = {
        f"{LAYER}.qweight": np.repeat(np.concatenate(column), 32, axis=1),
        f"{LAYER}.qzeros": np.zeros((1, bits), np.int32),
        f"{LAYER}.scales": np.ones((1, 32), np.float16),
    }
    folder = save(tmp_path, tensors, {**V2, "bits": bits, "checkpoint_format": "gptq_p"})
    check(open_local(folder), WEIGHT, np.repeat(levels[None].astype(np.float32), 32, axis=0))


def test_settings_in_a_file_of_their_own(tmp_path: Path) -> None:
    made = make(reduced=False)
    check(open_local(save(tmp_path, made.tensors, V2, beside=True)), WEIGHT, made.weight)


def test_settings_of_the_text_model(tmp_path: Path) -> None:
    made = make(reduced=False)
    folder = save(tmp_path, made.tensors, V2)
    config = json.loads((folder / "config.json").read_text())
    inner = {"text_config": {"quantization_config": config.pop("quantization_config")}}
    (folder / "config.json").write_text(json.dumps({**config, **inner}))
    check(open_local(folder), WEIGHT, made.weight)


def test_no_settings_at_all(tmp_path: Path) -> None:
    made = make(8)
    check(open_local(save(tmp_path, made.tensors, None)), WEIGHT, made.weight)


def test_layers_with_settings_of_their_own(tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(64) // 16
    made = make(8, group=16, order=order)
    others = {key.replace("up_proj", "down_proj"): value for key, value in make().tensors.items()}
    settings = {**V1, "desc_act": False, "dynamic": {"up_proj": {"bits": 8, "desc_act": True}}}
    checkpoint = open_local(save(tmp_path, {**others, **made.tensors}, settings))
    check(checkpoint, WEIGHT, made.weight)
    check(checkpoint, WEIGHT.replace("up_proj", "down_proj"), make().weight)


def test_embeddings_are_not_turned(tmp_path: Path) -> None:
    made = make(4, inputs=96, outputs=64)
    tensors = {name.replace(LAYER, "model.embed_tokens"): value for name, value in made.tensors.items()}
    checkpoint = open_local(save(tmp_path, tensors, V1))
    check(checkpoint, "model.embed_tokens.weight", np.ascontiguousarray(made.weight.T))


def test_negative_groups_count_from_the_end(tmp_path: Path) -> None:
    made = make()
    made.tensors[f"{LAYER}.g_idx"] = made.tensors[f"{LAYER}.g_idx"] - np.int32(2)
    check(open_local(save(tmp_path, made.tensors, V1)), WEIGHT, made.weight)


# What is read ---------------------------------------------------------------------------------------------------------


def test_only_words_and_groups_that_count_are_read(tmp_path: Path) -> None:
    checkpoint = open_local(save(tmp_path, make().tensors, {**V1, "desc_act": False}))
    # A word of levels, a scale and a word of zero points for each of two groups.
    assert spent(checkpoint, [3], None) == 8 * 4 + 2 * 2 + 2 * 4
    assert spent(checkpoint, None, [33, 34]) == 32 * 4 + 32 * 2 + 4 * 4
    assert spent(checkpoint, [3, 5], [33]) == 2 * 4 + 2 * 2 + 4
    apart = open_local(save(tmp_path / "apart", make().tensors, V1))
    assert spent(apart, [3, 5], [33]) == 2 * 4 + 2 * 2 * 2 + 2 * 4 + 4


def test_order_is_looked_at_once(tmp_path: Path) -> None:
    one = make()
    two = {name.replace("up_proj", "down_proj"): value for name, value in make(inputs=96).tensors.items()}
    told = open_local(save(tmp_path / "told", {**two, **one.tensors}, {**V1, "desc_act": False}))
    silent = open_local(save(tmp_path / "silent", {**two, **one.tensors}, V1))
    assert told.cost().tensor_bytes == 64 * 4
    assert silent.cost().tensor_bytes == 0


def test_settings_that_lie_about_the_order(tmp_path: Path) -> None:
    made = make(order=np.random.default_rng(3).permutation(64) // 32)
    check(open_local(save(tmp_path, made.tensors, {**V1, "desc_act": False})), WEIGHT, made.weight)


def test_over_the_hub(hub: LocalHub) -> None:
    copy("gptq-act-order", hub.root / "owner" / "name")
    checkpoint = open_hub("owner/name", endpoint=hub.endpoint)
    for module, weight in slow(DATA / "gptq-act-order").items():
        check(checkpoint, f"{module}.weight", np.ascontiguousarray(weight.T))


def test_few_inputs_of_a_wide_layer_over_the_hub(hub: LocalHub) -> None:
    # Two rows of words, a row of scales, a row of zero points, each in one piece.
    settings = {**V1, "group_size": 128, "desc_act": False}
    assert window_of_a_wide_layer(hub, make(*WIDE), settings) == 2 * 4096 * 4 + 4096 * 2 + 512 * 4


# Bad files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("qweight", np.zeros((9, 32), np.int32)),
        ("qweight", np.zeros((8, 31), np.int32)),
        ("qweight", np.zeros((8, 32), np.float32)),
        ("qweight", np.zeros((2, 4, 32), np.int32)),
        ("qzeros", np.zeros((3, 4), np.int32)),
        ("qzeros", np.zeros((2, 5), np.int32)),
        ("qzeros", np.zeros((2, 0), np.int32)),
        ("scales", np.zeros((2, 33), np.float16)),
        ("scales", np.zeros(64, np.float16)),
        ("scales", np.zeros((2, 32), np.int32)),
        ("g_idx", np.zeros(65, np.int32)),
        ("g_idx", np.zeros((64, 1), np.int32)),
        ("g_idx", np.zeros(64, np.float32)),
    ],
)
def test_tensors_that_contradict_each_other(tmp_path: Path, part: str, value: NDArray[np.generic]) -> None:
    tensors = {**make().tensors, f"{LAYER}.{part}": value}
    with pytest.raises(UnreadableCheckpoint, match="do not fit each other"):
        open_local(save(tmp_path, tensors, V1))


@pytest.mark.parametrize("group", [2, -3, 1 << 30, -(1 << 31)])
def test_groups_that_do_not_exist(tmp_path: Path, group: int) -> None:
    made = make()
    made.tensors[f"{LAYER}.g_idx"][5] = group
    checkpoint = open_local(save(tmp_path, made.tensors, V1))
    with pytest.raises(UnreadableCheckpoint, match="groups that do not exist"):
        checkpoint.read([Selection(WEIGHT)])
    assert checkpoint.read([Selection(WEIGHT, None, np.array([4, 6]))])[0].shape == (32, 2)


@pytest.mark.parametrize("settings", [{"checkpoint_format": "marlin"}, {"is_marlin_format": True}])
def test_layouts_of_one_kernel(tmp_path: Path, settings: dict[str, object]) -> None:
    tensors = {f"{LAYER}.B": np.zeros((4, 64), np.int32), f"{LAYER}.s": np.zeros((2, 32), np.float16)}
    with pytest.raises(UnsupportedEncoding, match="marlin"):
        open_local(save(tmp_path, tensors, {**V1, **settings}))


def test_rotated_weights(tmp_path: Path) -> None:
    tensors = {**make().tensors, f"{LAYER}.theta": np.zeros((8, 32), np.float16)}
    with pytest.raises(UnsupportedEncoding, match="rotated"):
        open_local(save(tmp_path, tensors, {"quant_method": "paroquant"}))


@pytest.mark.parametrize("bits", [True, 0, -4, 9, 4.0, "4", None, 1 << 80])
def test_settings_that_make_no_sense(tmp_path: Path, bits: object) -> None:
    made = make()
    settings = {**V1, "bits": bits, "group_size": bits, "dynamic": bits, "checkpoint_format": bits}
    check(open_local(save(tmp_path, made.tensors, settings)), WEIGHT, made.weight)


def test_more_groups_than_inputs(tmp_path: Path) -> None:
    tensors = make().tensors
    tensors[f"{LAYER}.qzeros"], tensors[f"{LAYER}.scales"] = np.zeros((65, 4), np.int32), np.zeros((65, 32), np.float16)
    with pytest.raises(UnreadableCheckpoint, match="do not fit each other"):
        open_local(save(tmp_path, tensors, V1))


@pytest.mark.parametrize("name", SAMPLES)
def test_mutations_are_refused_or_read(tmp_path: Path, name: str) -> None:
    SAMPLES[name](tmp_path)
    file = tmp_path / "model.safetensors"
    good = file.read_bytes()
    size = 8 + int.from_bytes(good[:8], "little")
    rng, messages = np.random.default_rng(4), []
    for _ in range(60):
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


def test_samples_are_read(tmp_path: Path) -> None:
    for name, write in SAMPLES.items():
        write(tmp_path / name)
        checkpoint = open_local(tmp_path / name)
        encodings = [info.encoding.name for info in checkpoint.tensors.values() if info.encoding is not None]
        assert encodings and set(encodings) == {"GPTQ"}
        assert all(np.isfinite(values).all() for values in checkpoint.read([Selection(n) for n in checkpoint.tensors]))


def test_parts_left_over_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, make().tensors, V1)
    stored = load_file(folder / "model.safetensors")
    save_file({n: v for n, v in stored.items() if not n.endswith("scales")}, folder / "model.safetensors")
    with pytest.raises(InputError):
        open_local(folder)
