"""compressed-tensors against its library: every number, in any part."""

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
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding
from tests.checkpoint.builders import expected, random_selections
from tests.checkpoint.formats.compressed_tensors_samples import CASES, SAMPLES, act_order, experts, write
from tests.hub import LocalHub


def check(checkpoint: Checkpoint, want: dict[str, torch.Tensor], seed: int = 0) -> None:
    """The same names, shapes and numbers, after the rounding to the type that the library computes in."""
    assert dict(sorted((name, info.shape) for name, info in checkpoint.tensors.items())) == dict(
        sorted((name, tuple(tensor.shape)) for name, tensor in want.items())
    )
    selections = list(random_selections(want, seed))
    for selection, found in zip(selections, checkpoint.read(selections), strict=True):
        tensor = want[selection.tensor]
        assert found.dtype == np.float32
        rounded = torch.from_numpy(found).to(tensor.dtype).float().numpy()
        np.testing.assert_array_equal(rounded, expected(tensor, selection), err_msg=str(selection))


@pytest.mark.parametrize("case", CASES)
def test_every_format(case: str, tmp_path: Path) -> None:
    want = write(tmp_path, {case: CASES[case]})
    checkpoint = open_local(tmp_path)
    check(checkpoint, want)
    encoded = {name: info for name, info in checkpoint.tensors.items() if info.encoding is not None}
    assert encoded.keys() == {name for name in want if "proj" in name}
    stored = load_file(tmp_path / "model.safetensors")
    for name, info in encoded.items():
        parts = [t for n, t in stored.items() if n.startswith(name) and n != f"{name}_zeros"]
        assert info.nbytes == sum(t.numel() * t.element_size() for t in parts)
        assert info.encoding is not None
        assert info.encoding.bits == CASES[case].weights.num_bits
        assert info.encoding.shared[1] == 0


def test_mixed_precision(tmp_path: Path) -> None:
    cases = ("int4-group", "int8-packed-channel", "int3-channel-zeros", "int8-channel", "fp8-channel", "nvfp4", "mxfp6")
    want = write(tmp_path, {case: CASES[case] for case in cases})
    check(open_local(tmp_path), want)


def test_same_words_of_other_bits(tmp_path: Path) -> None:
    """Four bits in groups of 64 and eight in groups of 32 have words and scales of the same shapes."""
    four, eight = CASES["int4-group"].model_copy(deep=True), CASES["int4-group"].model_copy(deep=True)
    four.weights.group_size, eight.weights.num_bits = 64, 8
    want = write(tmp_path, {"four": four, "octo": eight})
    stored = load_file(tmp_path / "model.safetensors")
    shapes = [
        {tuple(t.shape) for n, t in stored.items() if n.endswith("weight_scale") and k in n} for k in ("four", "octo")
    ]
    assert shapes == [{(24, 1), (20, 2)}, {(24, 2), (20, 4)}]
    check(open_local(tmp_path), want)


def test_columns_in_the_order_of_their_groups(tmp_path: Path) -> None:
    want = act_order(tmp_path)
    check(open_local(tmp_path), want)


def test_stacked_experts(tmp_path: Path) -> None:
    want = experts(tmp_path)
    checkpoint = open_local(tmp_path)
    check(checkpoint, want)
    # One row per expert, by default.
    (name,) = want
    selection = Selection(name, rows=np.array([0, 2]), columns=np.array([5, 64, 65, 1000]))
    (found,) = checkpoint.read([selection])
    rounded = torch.from_numpy(found).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(rounded, expected(want[name], selection))


@pytest.mark.parametrize("case", ["int4-group-zeros", "int3-channel-zeros", "nvfp4"])
def test_over_the_hub(case: str, hub: LocalHub) -> None:
    folder = hub.root / "owner" / "name"
    want = write(folder, {case: CASES[case]})
    check(open_hub("owner/name", endpoint=hub.endpoint, gap=0), want)


def test_shapes_are_read_once_for_all_layers(tmp_path: Path) -> None:
    write(tmp_path, {"c": CASES["int4-channel"]}, layers=12)
    header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little") + 8
    opened = open_local(tmp_path)
    assert len([n for n in opened.tensors if "proj" in n]) == 24
    assert opened.cost().bytes_read - header == 2 * 16
    # Groups say how wide a matrix is.
    write(tmp_path, {"g": CASES["int4-group"]}, layers=12)
    header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little") + 8
    assert open_local(tmp_path).cost().bytes_read == header


def test_a_row_costs_a_row(tmp_path: Path) -> None:
    write(tmp_path, {"g": CASES["int4-group-zeros"]})
    checkpoint = open_local(tmp_path)
    before = checkpoint.cost()
    checkpoint.read([Selection("model.layers.0.self_attn.q_proj.weight", rows=np.array([3, 4]))])
    # 64 levels of four bits and two scales of two bytes a row, and the word of zero points of each of two groups.
    assert checkpoint.cost().since(before).bytes_read == 2 * (32 + 4) + 8


def test_without_settings(tmp_path: Path) -> None:
    """The stored shape says how many bits a level has."""
    for case in ("int4-group-zeros", "int8-packed-channel", "int3-channel-zeros"):
        folder = tmp_path / case
        want = write(folder, {case: CASES[case]})
        (folder / "config.json").write_text("{}")
        check(open_local(folder), want)


def test_rotated_weights_are_noted(tmp_path: Path) -> None:
    write(tmp_path, {"c": CASES["int8-channel"]})
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["transform_config"] = {"config_groups": {"u": {"type": "hadamard"}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert any("rotated" in note for note in open_local(tmp_path).notes)


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Change tensors of the first projection."""
    stored = load_file(folder / "model.safetensors")
    for part, tensor in changes.items():
        name = f"model.layers.0.self_attn.q_proj.{part}"
        stored.pop(name, None)
        if tensor is not None:
            stored[name] = tensor
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("int4-group", {"weight_scale": torch.ones(23, 2)}, "does not fit its weight"),
        ("int4-group", {"weight_scale": torch.ones(24, 2, dtype=torch.int32)}, "does not fit its weight"),
        ("int4-group", {"weight_scale": torch.ones(24, 3)}, "does not fit its weight"),
        ("int4-group-zeros", {"weight_zero_point": torch.ones(24, 2, dtype=torch.int32)}, "does not fit its weight"),
        ("int4-channel", {"weight_shape": torch.tensor([24, 1 << 60])}, "does not fit the packed weight"),
        ("int4-channel", {"weight_shape": torch.tensor([24, -64])}, "does not fit the packed weight"),
        ("int4-channel", {"weight_shape": torch.tensor([25, 64])}, "does not fit the packed weight"),
        ("int4-channel", {"weight_shape": torch.tensor([24, 6400])}, "has not the words"),
        ("nvfp4", {"weight_global_scale": torch.ones(2, 7)}, "does not fit its weight"),
        ("int4-group", {"weight": torch.ones(24, 64)}, "is there twice"),
        ("int4-group", {"weight_g_idx": torch.zeros(5, dtype=torch.int32)}, "does not fit its weight"),
    ],
)
def test_parts_that_contradict_each_other(
    case: str, changes: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    write(tmp_path, {case: CASES[case]})
    rewrite(tmp_path, **changes)
    with pytest.raises(UnreadableCheckpoint, match=message) as caught:
        open_local(tmp_path)
    assert "\n" not in str(caught.value)


def test_groups_that_do_not_exist(tmp_path: Path) -> None:
    SAMPLES["act-order"](tmp_path)
    rewrite(tmp_path, weight_g_idx=torch.full((64,), 2, dtype=torch.int32))
    checkpoint = open_local(tmp_path)
    with pytest.raises(UnreadableCheckpoint, match="groups that do not exist"):
        checkpoint.read([Selection("model.layers.0.self_attn.q_proj.weight")])


def test_an_order_that_was_never_set(tmp_path: Path) -> None:
    want = write(tmp_path, {"g": CASES["int4-group"]}, layers=1)
    rewrite(tmp_path, weight_g_idx=torch.full((64,), -1, dtype=torch.int32))
    check(open_local(tmp_path), want)


def test_sparse_formats_are_named(tmp_path: Path) -> None:
    mask = {"bitmask": torch.zeros(24, 8, dtype=torch.uint8), "compressed": torch.zeros(99)}
    save_file({f"model.layers.0.mlp.up_proj.{n}": t for n, t in mask.items()}, tmp_path / "model.safetensors")
    with pytest.raises(UnsupportedEncoding, match="sparse-bitmask"):
        open_local(tmp_path)


def test_old_packing_is_named(tmp_path: Path) -> None:
    """Ten fields of three bits in a word of 32: 64 columns take seven words, not six."""
    write(tmp_path, {"c": CASES["int3-channel-zeros"]})
    rewrite(tmp_path, weight_packed=torch.zeros(24, 7, dtype=torch.int32))
    with pytest.raises(UnsupportedEncoding, match="unused bits"):
        open_local(tmp_path)
