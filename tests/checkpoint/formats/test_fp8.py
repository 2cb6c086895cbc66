"""FP8 and Model Optimizer checkpoints against the reference decoders: transformers, compressed-tensors, ml_dtypes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.entrypoints.convert import FP8BlockDequantizer, ModelOptNvfp4Converter
from compressed_tensors.quantization import QuantizationScheme
from compressed_tensors.quantization.quant_scheme import NVFP4
from safetensors.torch import load_file, save_file
from transformers import FineGrainedFP8Config
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.checkpoint.types import Checkpoint, Encoding
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding
from tests.checkpoint.builders import expected, random_selections
from tests.checkpoint.formats.fp8_samples import DOWN, E4M3, EXPERTS, MAKERS, UP, plain, write
from tests.hub import LocalHub

State = dict[str, torch.Tensor]


def check(checkpoint: Checkpoint, want: State, seed: int = 0) -> None:
    """The same names, shapes and numbers."""
    assert dict(sorted((name, info.shape) for name, info in checkpoint.tensors.items())) == dict(
        sorted((name, tuple(tensor.shape)) for name, tensor in want.items())
    )
    selections = list(random_selections(want, seed))
    for selection, found in zip(selections, checkpoint.read(selections), strict=True):
        np.testing.assert_array_equal(found, expected(want[selection.tensor], selection), err_msg=str(selection))


def by_transformers(stored: State, **scales: str) -> State:
    """What transformers' ``Fp8Dequantize`` makes of weights and their scales, in float32."""
    decode = Fp8Dequantize(SimpleNamespace(quantization_config=FineGrainedFP8Config()))
    return {
        weight: decode._dequantize_one(stored[weight], stored[scale], output_dtype=torch.float32)
        for weight, scale in scales.items()
    }


def encodings(checkpoint: Checkpoint) -> dict[str, Encoding]:
    return {name: info.encoding for name, info in checkpoint.tensors.items() if info.encoding is not None}


def test_blocks_as_transformers_writes_them(tmp_path: Path) -> None:
    stored = write(tmp_path, "deepseek-block")
    checkpoint = open_local(tmp_path)
    pairs = {f"{module}.weight": f"{module}.weight_scale_inv" for module in (UP, DOWN)}
    check(checkpoint, {**plain(), **by_transformers(stored, **pairs)})
    assert set(encodings(checkpoint).values()) == {Encoding("FP8", 8, (16, 16))}
    assert checkpoint.tensors[f"{UP}.weight"].nbytes == 48 * 64 + 3 * 4 * 4


def test_blocks_that_are_cut(tmp_path: Path) -> None:
    stored = write(tmp_path, "deepseek-cut")
    checkpoint = open_local(tmp_path)
    parts = {name: tensor for name, tensor in stored.items() if name.startswith(UP)}
    want = FP8BlockDequantizer(targets=[UP], dtype=torch.float32).process(dict(parts))
    check(checkpoint, {**plain(), **want})
    assert encodings(checkpoint) == {f"{UP}.weight": Encoding("FP8", 8, (128, 128))}
    # 128 is what blocks are when nothing is said.
    (tmp_path / "config.json").write_text("{}")
    check(open_local(tmp_path), {**plain(), **want})


def test_exponents(tmp_path: Path) -> None:
    stored = write(tmp_path, "mxfp8")
    assert stored[f"{UP}.weight_scale_inv"].dtype == torch.float8_e8m0fnu
    pairs = {f"{module}.weight": f"{module}.weight_scale_inv" for module in (UP, DOWN)}
    want = {**plain(), **by_transformers(stored, **pairs)}
    checkpoint = open_local(tmp_path)
    check(checkpoint, want)
    assert set(encodings(checkpoint).values()) == {Encoding("MXFP8", 8, (1, 32))}
    # Other writers store the exponents as bytes.
    for module in (UP, DOWN):
        stored[f"{module}.weight_scale_inv"] = stored[f"{module}.weight_scale_inv"].view(torch.uint8)
    save_file(stored, tmp_path / "model.safetensors")
    check(open_local(tmp_path), want)


def test_fused_experts(tmp_path: Path) -> None:
    stored = write(tmp_path, "experts")
    pairs = {f"{EXPERTS}.{name}": f"{EXPERTS}.{name}_scale_inv" for name in ("gate_up_proj", "down_proj")}
    checkpoint = open_local(tmp_path)
    want = {**plain(), **by_transformers(stored, **pairs)}
    check(checkpoint, want)
    for selection in (
        Selection(f"{EXPERTS}.gate_up_proj", rows=np.array([1])),
        Selection(f"{EXPERTS}.gate_up_proj", columns=np.array([0, 47, 48, 777])),
        Selection(f"{EXPERTS}.gate_up_proj", rows=np.array([0, 2]), columns=np.array([1, 100, 1535])),
        Selection(f"{EXPERTS}.gate_up_proj", rows=np.array([3, 4, 90]), width=32),
    ):
        (found,) = checkpoint.read([selection])
        np.testing.assert_array_equal(found, expected(want[selection.tensor], selection))


def test_one_scale_a_tensor(tmp_path: Path) -> None:
    """Mistral's names; the product by ml_dtypes and numpy."""
    stored = write(tmp_path, "mistral")
    want = plain()
    for name in ("layers.0.attention.wq", "layers.0.feed_forward.w1"):
        levels = stored[f"{name}.weight"].view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)
        want[f"{name}.weight"] = torch.from_numpy(levels.astype(np.float32) * stored[f"{name}.qscale_weight"].numpy())
    checkpoint = open_local(tmp_path)
    check(checkpoint, want)
    assert set(encodings(checkpoint).values()) == {Encoding("FP8", 8, (-1, -1))}


def test_one_scale_a_row(tmp_path: Path) -> None:
    """FBGEMM; of its fused experts the second has its scales the other way round."""
    stored = write(tmp_path, "fbgemm")
    want = plain()
    for module in (UP, DOWN):
        want[f"{module}.weight"] = stored[f"{module}.weight"].float() * stored[f"{module}.weight_scale"]
    scale = {name: stored[f"{EXPERTS}.{name}_scale"] for name in ("gate_up_proj", "down_proj")}
    want[f"{EXPERTS}.gate_up_proj"] = stored[f"{EXPERTS}.gate_up_proj"].float() * scale["gate_up_proj"]
    want[f"{EXPERTS}.down_proj"] = stored[f"{EXPERTS}.down_proj"].float() * scale["down_proj"].transpose(1, 2)
    checkpoint = open_local(tmp_path)
    check(checkpoint, want)
    assert encodings(checkpoint)[f"{UP}.weight"] == Encoding("FP8", 8, (1, -1))


def test_scales_beside_plain_numbers(tmp_path: Path) -> None:
    """ComfyUI: what has no scale stays what it is."""
    stored = write(tmp_path, "comfy")
    want = {**plain(), "blocks.1.plain.weight": stored["blocks.1.plain.weight"]}
    for name in ("blocks.0.attn", "blocks.0.conv"):
        want[f"{name}.weight"] = stored[f"{name}.weight"].float() * stored[f"{name}.scale_weight"]
    checkpoint = open_local(tmp_path)
    check(checkpoint, want)
    assert checkpoint.tensors["blocks.1.plain.weight"].dtype == "F8_E4M3"


def test_model_optimizer_fp8(tmp_path: Path) -> None:
    stored = write(tmp_path / "tensor", "modelopt-fp8")
    want = plain()
    for module in (UP, DOWN):
        want[f"{module}.weight"] = stored[f"{module}.weight"].float() * stored[f"{module}.weight_scale"]
    check(open_local(tmp_path / "tensor"), want)
    stored = write(tmp_path / "block", "modelopt-block")
    parts = {f"{UP}.weight": stored[f"{UP}.weight"], f"{UP}.weight_scale_inv": stored[f"{UP}.weight_scale"][:, 0, :, 0]}
    want = FP8BlockDequantizer(targets=[UP], dtype=torch.float32).process(parts)
    check(open_local(tmp_path / "block"), {**plain(), **want})


def test_model_optimizer_nvfp4(tmp_path: Path) -> None:
    """Through compressed-tensors' converter and its decoder, which rounds to bfloat16."""
    stored = write(tmp_path, "modelopt-nvfp4")
    checkpoint = open_local(tmp_path)
    assert set(encodings(checkpoint).values()) == {Encoding("NVFP4", 4, (1, 16))}
    for module in (UP, DOWN):
        parts = {name: tensor for name, tensor in stored.items() if name.startswith(module)}
        converted = ModelOptNvfp4Converter(targets=[module]).process(parts)
        state = {name.removeprefix(f"{module}."): tensor for name, tensor in converted.items()}
        # As a vector, which compressed-tensors itself writes: a scalar would leave the product of scales in bfloat16.
        state["weight_global_scale"] = state["weight_global_scale"].reshape(1)
        decode = BaseCompressor.get_value_from_registry("nvfp4-pack-quantized").decompress
        want = decode(state, QuantizationScheme(**NVFP4, targets=["Linear"]))["weight"]
        assert checkpoint.tensors[f"{module}.weight"].shape == tuple(want.shape)
        (found,) = checkpoint.read([Selection(f"{module}.weight")])
        assert torch.equal(torch.from_numpy(found).to(want.dtype), want)


def test_model_optimizer_mxfp4(tmp_path: Path) -> None:
    stored = write(tmp_path, "modelopt-mxfp4")
    codes = np.stack([stored[f"{UP}.weight"].numpy() & 15, stored[f"{UP}.weight"].numpy() >> 4], -1).reshape(24, 64)
    levels = codes.astype(np.uint8).view(ml_dtypes.float4_e2m1fn)
    scale = stored[f"{UP}.weight_scale"].numpy().view(ml_dtypes.float8_e8m0fnu).astype(np.float32)
    want = levels.astype(np.float32) * np.repeat(scale, 32, 1)
    check(open_local(tmp_path), {**plain(), f"{UP}.weight": torch.from_numpy(want)})


@pytest.mark.parametrize("name", MAKERS)
def test_over_the_hub(name: str, hub: LocalHub) -> None:
    folder = hub.root / "owner" / "name"
    write(folder, name)
    here, there = open_local(folder), open_hub("owner/name", endpoint=hub.endpoint, gap=0)
    assert there.tensors == here.tensors
    selections = [Selection(n, rows=np.array([1, 4])) for n, i in here.tensors.items() if i.shape[0] > 4]
    for mine, other in zip(here.read(selections), there.read(selections), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_row_costs_a_row(tmp_path: Path) -> None:
    write(tmp_path, "deepseek-block")
    checkpoint = open_local(tmp_path)
    before = checkpoint.cost()
    checkpoint.read([Selection(f"{UP}.weight", rows=np.array([3, 17, 18]), columns=np.array([0, 1, 40]))])
    # Nine levels of a byte, and four-byte scales of two block rows and two block columns.
    assert checkpoint.cost().since(before).bytes_read == 9 + 4 * 4


@pytest.mark.parametrize("scale", [torch.ones(5), torch.ones(7, 7), torch.ones(3, 4, dtype=torch.int32), torch.ones(0)])
def test_scales_that_do_not_fit(scale: torch.Tensor, tmp_path: Path) -> None:
    stored = write(tmp_path, "deepseek-block")
    save_file({**stored, f"{UP}.weight_scale_inv": scale}, tmp_path / "model.safetensors")
    with pytest.raises(UnreadableCheckpoint, match="does not fit its weight") as caught:
        open_local(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block", [[0, 128], [-1, 2], "128", [True, True], [1 << 70, 1], None, {}])
def test_settings_that_lie(block: object, tmp_path: Path) -> None:
    """The shape of the grid decides."""
    stored = write(tmp_path, "deepseek-block")
    settings = {"quant_method": "fp8", "weight_block_size": block, "config_groups": {"a": {"weights": 3}, "b": []}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": settings}))
    pairs = {f"{module}.weight": f"{module}.weight_scale_inv" for module in (UP, DOWN)}
    check(open_local(tmp_path), {**plain(), **by_transformers(stored, **pairs)})


def test_without_scales_nothing_is_derived(tmp_path: Path) -> None:
    tensors = {name: tensor.to(E4M3) for name, tensor in plain().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = open_local(tmp_path)
    assert {info.dtype for info in checkpoint.tensors.values()} == {"F8_E4M3"}
    check(checkpoint, tensors)


def test_scales_in_the_order_of_a_kernel_are_refused(tmp_path: Path) -> None:
    stored = write(tmp_path, "modelopt-nvfp4")
    stored[f"{UP}.comfy_quant"] = torch.zeros(9, dtype=torch.uint8)
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedEncoding, match="order of a kernel"):
        open_local(tmp_path)
    assert f"{UP}.weight" in load_file(tmp_path / "model.safetensors")
