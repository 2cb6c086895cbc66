"""MXFP4: what is read against the decoder of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import UnreadableCheckpoint
from tests.checkpoint.builders import expected, random_selections
from tests.hub import LocalHub

from .mxfp4_samples import SAMPLES, blocks, save

STEM = "model.layers.0.mlp.experts.gate_up_proj"


def stack(shape: tuple[int, int, int], largest: int = 140) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    levels, exponents = blocks(shape, 1, largest)
    reference = convert_moe_packed_tensors(levels, exponents, dtype=torch.float32)
    return {f"{STEM}_blocks": levels, f"{STEM}_scales": exponents}, reference


@pytest.mark.parametrize("largest", [31, 140, 255])
@pytest.mark.parametrize("shape", [(4, 6, 2), (1, 5, 3), (3, 1, 1)])
def test_experts(tmp_path: Path, shape: tuple[int, int, int], largest: int) -> None:
    """Bit for bit, in transformers' name and shape, from the smallest exponents to the largest."""
    tensors, reference = stack(shape, largest)
    save(tmp_path, tensors)
    model = open_local(tmp_path)
    assert list(model.tensors) == [STEM]
    info = model.tensors[STEM]
    assert info.shape == tuple(reference.shape) == (shape[0], 32 * shape[2], shape[1])
    selections = list(random_selections({STEM: reference}, 1))
    # The same tensor in other widths: an expert a row, pieces of rows, and one that fits no row.
    for width in (None, shape[1] * 2, info.size // shape[0] // 8, 1, 7 * shape[1] if info.size % 7 == 0 else 4):
        if width is None or info.size % width == 0:
            columns = width or info.size // shape[0]
            height = info.size // columns
            selections += [
                Selection(STEM, width=width),
                Selection(STEM, rows=np.arange(0, height, 2), width=width),
                Selection(STEM, rows=np.array([height - 1]), columns=np.arange(0, columns, 3), width=width),
            ]
    for selection in selections:
        (found,) = model.read([selection])
        np.testing.assert_array_equal(found, expected(reference, selection))


def test_bfloat16_is_the_same(tmp_path: Path) -> None:
    """transformers decodes to bfloat16 by default; nothing is lost by it."""
    tensors, _ = stack((2, 4, 2))
    save(tmp_path, tensors)
    reference = convert_moe_packed_tensors(tensors[f"{STEM}_blocks"], tensors[f"{STEM}_scales"])
    assert reference.dtype == torch.bfloat16
    selection = Selection(STEM, width=4)
    np.testing.assert_array_equal(open_local(tmp_path).read([selection])[0], expected(reference, selection))


def test_what_shares_a_scale(tmp_path: Path) -> None:
    """32 inputs of one output: scaling them by two moves the exponent of no other number."""
    tensors, reference = stack((2, 4, 2))
    tensors[f"{STEM}_scales"][0, 1, 0] += 1
    save(tmp_path, tensors)
    model = open_local(tmp_path)
    encoding = model.tensors[STEM].encoding
    assert encoding is not None and (encoding.shared, encoding.axis, encoding.bits) == ((32, 1), 1, 4)
    (found,) = model.read([Selection(STEM, width=4)])
    changed = found != expected(reference, Selection(STEM, width=4))
    assert np.flatnonzero(changed.any(axis=0)).tolist() == [1]
    assert np.flatnonzero(changed.any(axis=1)).max() < 32


def test_quark(tmp_path: Path) -> None:
    SAMPLES["quark"](tmp_path)
    model = open_local(tmp_path)
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        levels, exponents = blocks((12, 2), layer)
        # The same decoder; it turns the last two extents.
        reference = convert_moe_packed_tensors(levels[None], exponents[None], dtype=torch.float32)[0].T
        assert model.tensors[name].shape == (12, 64)
        for selection in random_selections({name: reference}, layer):
            np.testing.assert_array_equal(model.read([selection])[0], expected(reference, selection))


def test_few_outputs_cost_little(hub: LocalHub) -> None:
    """Outputs lie together: over the Hub some of them take some of the file."""
    tensors, reference = stack((4, 96, 24))
    save(hub.root / "owner/name", {**tensors, "z": torch.zeros(100_000)})
    model = open_hub("owner/name", endpoint=hub.endpoint, gap=1024)
    before = model.cost()
    selection = Selection(STEM, columns=np.array([3, 4]), width=96)
    np.testing.assert_array_equal(model.read([selection])[0], expected(reference, selection))
    assert model.cost().since(before).bytes_read < model.tensors[STEM].nbytes / 10


@pytest.mark.parametrize(
    ("levels", "exponents"),
    [((2, 3, 1, 16), (2, 3, 2)), ((2, 3, 1, 8), (2, 3, 1)), ((6, 16), (6,)), ((2, 0, 1, 16), (2, 0, 1))],
)
def test_shapes_that_do_not_fit(tmp_path: Path, levels: tuple[int, ...], exponents: tuple[int, ...]) -> None:
    tensors = {
        f"{STEM}_blocks": torch.zeros(levels, dtype=torch.uint8),
        f"{STEM}_scales": torch.zeros(exponents, dtype=torch.uint8),
    }
    save(tmp_path, tensors)
    with pytest.raises(UnreadableCheckpoint, match="no stack of MXFP4 blocks"):
        open_local(tmp_path)


def test_packed_and_not(tmp_path: Path) -> None:
    tensors, reference = stack((2, 4, 2))
    save(tmp_path, {**tensors, STEM: reference})
    with pytest.raises(UnreadableCheckpoint, match="twice"):
        open_local(tmp_path)
