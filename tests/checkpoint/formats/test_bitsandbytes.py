"""bitsandbytes: what is read against what bitsandbytes itself makes of it, whole models and single matrices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsupportedEncoding
from tests.checkpoint.builders import expected, random_selections
from tests.hub import LocalHub

from .bitsandbytes_samples import SAMPLES, dequantised, four_bit, int8, save, weights

NAME = "model.layers.0.mlp.up_proj.weight"
STATE = f"{NAME}.quant_state.bitsandbytes__nf4"


def rounded(values: np.ndarray, like: torch.Tensor) -> np.ndarray:
    """Values as the reference gives them: bitsandbytes rounds to the type of the original weight."""
    return torch.from_numpy(values).to(like.dtype).float().numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize(
    ("shape", "block"),
    [
        ((160, 128), 64),  # more than 256 blocks: several nested scales
        ((24, 96), 32),
        ((24, 128), 128),
        ((40, 32), 64),  # a block holds two rows
        ((17, 80), 64),  # blocks end inside rows
        ((7, 33), 64),  # rows end inside bytes
        ((3, 10, 64), 64),
    ],
)
def test_four_bits(
    tmp_path: Path, shape: tuple[int, ...], block: int, kind: str, double: bool, dtype: torch.dtype
) -> None:
    """Every selection equals bitsandbytes' own dequantisation, bit for bit."""
    parts, reference = four_bit(NAME, weights(shape).to(dtype), kind, double=double, block=block)
    save(tmp_path, parts)
    model = open_local(tmp_path)
    assert list(model.tensors) == [NAME]
    assert model.tensors[NAME].shape == shape
    assert model.tensors[NAME].dtype == "F32"
    for selection in [
        *random_selections({NAME: reference}, 1),
        Selection(NAME, width=shape[-1], rows=np.array([2, 5])),
    ]:
        (found,) = model.read([selection])
        np.testing.assert_array_equal(rounded(found, reference), expected(reference, selection))


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float32])
def test_levels_in_other_types(tmp_path: Path, storage: torch.dtype) -> None:
    parts, reference = four_bit(NAME, weights((20, 64)), "nf4", double=True, storage=storage)
    assert parts[NAME].dtype == storage
    save(tmp_path, parts)
    for selection in random_selections({NAME: reference}, 2):
        (found,) = open_local(tmp_path).read([selection])
        np.testing.assert_array_equal(found, expected(reference, selection))


def test_levels_as_half_floats_are_refused(tmp_path: Path) -> None:
    save(tmp_path, four_bit(NAME, weights((20, 64)), "nf4", storage=torch.float16)[0])
    with pytest.raises(UnsupportedEncoding, match="stored as F16"):
        open_local(tmp_path)


def test_eight_bits(tmp_path: Path) -> None:
    """Bit for bit as bitsandbytes' ``int8_vectorwise_dequant``."""
    parts, reference = int8(NAME, weights((30, 48)))
    save(tmp_path, parts)
    model = open_local(tmp_path)
    assert list(model.tensors) == [NAME]
    for selection in random_selections({NAME: reference}, 3):
        (found,) = model.read([selection])
        np.testing.assert_array_equal(found, expected(reference, selection))


def tiny(kind: str) -> torch.nn.Module:
    import transformers

    common = {"vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "llama":
        config = transformers.LlamaConfig(
            **common, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4
        )
    else:
        config = transformers.GPT2Config(**common, n_embd=64, n_layer=2, n_head=4, n_positions=16)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_models_saved_by_transformers(tmp_path: Path, kind: str, bits: str) -> None:
    """Names, shapes and values are those of the model before it was quantised, Conv1D included."""
    import bitsandbytes
    import transformers

    original = tiny(kind)
    original.save_pretrained(tmp_path / "base")
    setting = (
        transformers.BitsAndBytesConfig(load_in_8bit=True)
        if bits == "int8"
        else transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    )
    quantised = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=setting, device_map="cpu", dtype=torch.float32
    )
    quantised.save_pretrained(tmp_path / "small")
    base, small = open_local(tmp_path / "base"), open_local(tmp_path / "small")
    assert {n: t.shape for n, t in small.tensors.items()} == {n: t.shape for n, t in base.tensors.items()}
    packed = [name for name, info in small.tensors.items() if info.encoding is not None]
    assert len(packed) == {"llama": 14, "gpt2": 8}[kind]
    for name in packed:
        module = quantised.get_submodule(name.removesuffix(".weight"))
        if bits == "int8":
            reference = bitsandbytes.functional.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
        else:
            reference = dequantised(module.weight.data, module.weight.quant_state)
        reference = reference.T if kind == "gpt2" else reference
        for selection in random_selections({name: reference}, 4):
            (found,) = small.read([selection])
            np.testing.assert_array_equal(found, expected(reference, selection))
        (exact,) = base.read([Selection(name)])
        (found,) = small.read([Selection(name)])
        assert np.corrcoef(exact.ravel(), found.ravel())[0, 1] > 0.99


# What shares a scale ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "block", "double", "shared"),
    [
        ((96, 128), 64, False, (1, 64)),
        ((40, 32), 64, False, (2, -1)),
        ((40, 64), 64, False, (1, -1)),
        ((17, 80), 64, False, (0, 0)),
        ((160, 128), 64, True, (128, 64)),
        ((60, 128), 64, True, (-1, 64)),
        ((40, 32), 64, True, (2, -1)),
        ((3, 16384), 64, True, (1, 64)),
        ((5, 4096 * 3), 64, True, (0, 64)),
    ],
)
def test_what_is_said_to_be_shared(
    tmp_path: Path, shape: tuple[int, int], block: int, double: bool, shared: tuple[int, int]
) -> None:
    """Exchanging rows, and columns, inside a block exchanges the levels and nothing else: the quantiser agrees."""
    weight = weights(shape)
    parts, reference = four_bit(NAME, weight, "nf4", double=double, block=block)
    save(tmp_path, parts)
    encoding = open_local(tmp_path).tensors[NAME].encoding
    assert encoding is not None and encoding.shared == shared and encoding.axis == 0
    rows, columns = shared

    def same(order: torch.Tensor, axis: int) -> bool:
        again = four_bit(NAME, weight.index_select(axis, order), "nf4", double=double, block=block)[1]
        return torch.allclose(again, reference.index_select(axis, order), rtol=1e-6, atol=0)

    reach = {1: shape[0], -1: shape[0]}.get(rows, rows)
    if rows:
        assert same(swapped(shape[0], 0, min(reach, shape[0]) - 1), 0)
    if columns:
        assert same(swapped(shape[1], 0, (shape[1] if columns < 0 else columns) - 1), 1)


def test_rows_with_nested_scales_of_their_own_do_matter(tmp_path: Path) -> None:
    """The claim above is not empty: across two groups of 256 an exchange changes other rows."""
    weight = weights((160, 128))
    weight[0] *= 5
    reference = four_bit(NAME, weight, "nf4", double=True)[1]
    order = swapped(160, 0, 159)
    again = four_bit(NAME, weight[order], "nf4", double=True)[1]
    assert not torch.allclose(again, reference[order], rtol=1e-6, atol=0)


def swapped(count: int, one: int, other: int) -> torch.Tensor:
    order = torch.arange(count)
    order[one], order[other] = other, one
    return order


# What it costs ------------------------------------------------------------------------------------------------------


def test_rows_cost_rows(tmp_path: Path) -> None:
    save(tmp_path, four_bit(NAME, weights((512, 256)), "nf4", double=True)[0])
    model = open_local(tmp_path)
    before = model.cost()
    model.read([Selection(NAME, rows=np.array([3, 400]))])
    spent = model.cost().since(before).tensor_bytes
    state = model._opened.tensors[STATE].nbytes
    # Two rows of levels, their 8 scales, 2 nested ones, the table of 256 and the state.
    assert spent == 2 * 128 + 8 + 2 * 4 + 256 * 4 + state


def test_over_the_hub(hub: LocalHub) -> None:
    """The same numbers; one state for each kind of module when opened, all in one go."""
    folder = hub.root / "owner/name"
    tensors, references = {}, {}
    for layer in range(6):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        parts, references[name] = four_bit(name, weights((600, 512), layer), "nf4", double=True)
        tensors |= parts
    save(folder, tensors)
    model = open_hub("owner/name", endpoint=hub.endpoint)
    opened = model.cost()
    for name, reference in references.items():
        selection = Selection(name, rows=np.array([5, 6, 599]))
        (found,) = model.read([selection])
        np.testing.assert_array_equal(found, expected(reference, selection))
    assert opened.requests <= 5
    assert model.cost().bytes_read < model.cost().bytes_total / 2


# Files that lie -----------------------------------------------------------------------------------------------------


def damaged(folder: Path, **changes: object) -> None:
    """Save a matrix whose state says something else."""
    parts, _ = four_bit(NAME, weights((20, 64)), "nf4", double=True)
    state = json.loads(bytes(parts[STATE].tolist()))
    text = json.dumps(state | changes)
    parts[STATE] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    save(folder, parts)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"shape": [20, 65]}, "bytes of levels"),
        ({"shape": [1 << 39, 1 << 39]}, "bytes of levels"),
        ({"shape": []}, "no shape"),
        ({"shape": [0, 64]}, "number of elements"),
        ({"shape": [-20, -64]}, "number of elements"),
        ({"shape": "20x64"}, "no shape"),
        ({"quant_type": "fp4"}, "not one of NF4"),
        ({"blocksize": 32}, "blocks"),
        ({"blocksize": 0}, "number of elements"),
        ({"blocksize": True}, "number of elements"),
        ({"nested_blocksize": 1}, "nested scales"),
        ({"nested_blocksize": None}, "number of elements"),
        ({"nested_offset": "a"}, "nested_offset"),
        ({"nested_offset": float("nan")}, "NaN"),
        ({"nested_offset": 1e999}, "Infinity"),
    ],
)
def test_states_that_cannot_be(tmp_path: Path, changes: dict[str, object], problem: str) -> None:
    damaged(tmp_path, **changes)
    with pytest.raises(UnreadableCheckpoint, match=problem):
        open_local(tmp_path)


@pytest.mark.parametrize("missing", ["", ".absmax", ".nested_quant_map", ".nested_absmax"])
def test_missing_parts(tmp_path: Path, missing: str) -> None:
    parts, _ = four_bit(NAME, weights((20, 64)), "nf4", double=True)
    del parts[NAME + missing]
    save(tmp_path, parts)
    with pytest.raises(UnreadableCheckpoint, match="up_proj"):
        open_local(tmp_path)


def test_a_layer_with_another_shape(tmp_path: Path) -> None:
    """The one assumption that saves requests is checked when the rows are read."""
    other = NAME.replace(".0.", ".1.")
    parts, reference = four_bit(NAME, weights((20, 64)), "nf4")
    save(tmp_path, parts | four_bit(other, weights((64, 20)), "nf4")[0])
    model = open_local(tmp_path)
    np.testing.assert_array_equal(model.read([Selection(NAME)])[0], reference.numpy())
    with pytest.raises(UnreadableCheckpoint, match="namesakes"):
        model.read([Selection(other, rows=np.array([1]))])


def test_layouts_of_one_gpu_are_refused(tmp_path: Path) -> None:
    parts, _ = int8(NAME, weights((12, 24)))
    parts[NAME.replace("weight", "weight_format")] = torch.tensor(2, dtype=torch.uint8)
    save(tmp_path, parts)
    with pytest.raises(UnsupportedEncoding, match="one kind of GPU"):
        open_local(tmp_path)


def test_scales_that_are_too_few(tmp_path: Path) -> None:
    parts, _ = int8(NAME, weights((12, 24)))
    parts[NAME.replace("weight", "SCB")] = torch.ones(11)
    save(tmp_path, parts)
    with pytest.raises(UnreadableCheckpoint, match="not one for each row"):
        open_local(tmp_path)


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples(tmp_path: Path, sample: str) -> None:
    """Every sample opens, and after any one byte changed it opens or is refused in one line."""
    SAMPLES[sample](tmp_path)
    model = open_local(tmp_path)
    assert any(info.encoding is not None for info in model.tensors.values())
    whole = (tmp_path / "model.safetensors").read_bytes()
    tensors = load_file(tmp_path / "model.safetensors")
    states = [name for name in tensors if ".quant_state." in name]
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for _ in range(40):
        if states and rng.random() < 0.5:
            changed = dict(tensors)
            name = states[rng.integers(len(states))]
            changed[name] = tensors[name].clone()
            changed[name][rng.integers(changed[name].numel())] = int(rng.integers(256))
            save_file(changed, tmp_path / "model.safetensors")
        else:
            raw = bytearray(whole)
            raw[rng.integers(len(raw))] = int(rng.integers(256))
            (tmp_path / "model.safetensors").write_bytes(raw)
        try:
            model = open_local(tmp_path)
            model.read([Selection(name, rows=np.array([0])) for name, info in model.tensors.items() if info.size])
        except InputError as error:
            lines.append(str(error))
    assert lines and all("\n" not in line for line in lines)
