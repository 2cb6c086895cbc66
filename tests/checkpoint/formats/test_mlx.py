"""MLX: what is read against what MLX wrote and decoded (``data/mlx.safetensors``)."""

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
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding
from tests.checkpoint.builders import expected, random_selections
from tests.hub import LocalHub

from .mlx_samples import SETTINGS, WRITTEN, save

EXPERTS = "mlp.switch_mlp.up_proj"
MODULES = [name.removeprefix("expected.") for name in load_file(WRITTEN) if name.startswith("expected.")]


def write(folder: Path, tensors: dict[str, torch.Tensor], settings: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization": settings}))


@pytest.mark.parametrize("module", [name for name in MODULES if name != EXPERTS])
def test_modes(tmp_path: Path, module: str) -> None:
    """Float by float; one rounding may differ where MLX fuses the product and the sum."""
    save(tmp_path)
    model = open_local(tmp_path)
    reference = load_file(WRITTEN)[f"expected.{module}"]
    name = f"{module}.weight"
    assert model.tensors[name].shape == tuple(reference.shape)
    encoding = model.tensors[name].encoding
    own = SETTINGS.get(module, SETTINGS)
    assert isinstance(own, dict) and encoding is not None
    assert (encoding.bits, encoding.shared) == (own["bits"], (1, 0))
    for selection in random_selections({name: reference}, 1):
        (found,) = model.read([selection])
        np.testing.assert_allclose(found, expected(reference, selection), rtol=3e-7, atol=1e-8)


def test_parts_are_not_listed(tmp_path: Path) -> None:
    save(tmp_path)
    names = set(open_local(tmp_path).tensors)
    assert names == {f"{m}.weight" for m in MODULES if m != EXPERTS} | {
        f"mlp.experts.{e}.up_proj.weight" for e in range(2)
    }


def test_experts_get_their_names_back(tmp_path: Path) -> None:
    save(tmp_path)
    model = open_local(tmp_path)
    stacked = load_file(WRITTEN)[f"expected.{EXPERTS}"]
    for expert, reference in enumerate(stacked):
        name = f"mlp.experts.{expert}.up_proj.weight"
        assert model.tensors[name].shape == tuple(reference.shape)
        for selection in random_selections({name: reference}, expert):
            np.testing.assert_allclose(model.read([selection])[0], expected(reference, selection), rtol=3e-7, atol=1e-8)


def test_mixtral_experts(tmp_path: Path) -> None:
    """mlx-lm renames w1, w2 and w3."""
    written = load_file(WRITTEN)
    tensors = {
        f"layers.0.block_sparse_moe.switch_mlp.{name}.{part}": written[f"{EXPERTS}.{part}"].clone()
        for name in ("gate_proj", "up_proj", "down_proj")
        for part in ("weight", "scales", "biases")
    }
    write(tmp_path, tensors, {"group_size": 64, "bits": 4})
    names = {f"layers.0.block_sparse_moe.experts.{e}.{w}.weight" for e in range(2) for w in ("w1", "w2", "w3")}
    assert set(open_local(tmp_path).tensors) == names


@pytest.mark.parametrize("settings", [{}, None, [], {"group_size": "64", "bits": True}, {"mode": 5, "bits": 1e9}])
def test_settings_that_say_nothing(tmp_path: Path, settings: object) -> None:
    """Without group size and bits their product is known, and nothing else."""
    save(tmp_path, settings)
    with pytest.raises(UnsupportedEncoding, match="group_size and bits"):
        open_local(tmp_path)


def test_exceptions_that_are_not_noted(tmp_path: Path) -> None:
    """The bits follow from the shape when the group size is the common one; modes from the scales."""
    save(tmp_path, {"group_size": 64, "bits": 4, "affine3": {"group_size": 32, "bits": 3}})
    model, written = open_local(tmp_path), load_file(WRITTEN)
    for module in MODULES:
        if module != EXPERTS:
            (found,) = model.read([Selection(f"{module}.weight")])
            np.testing.assert_allclose(found, written[f"expected.{module}"].numpy(), rtol=3e-7, atol=1e-8)


def test_over_the_hub(hub: LocalHub) -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 2**31, (512, 96), generator=generator, dtype=torch.int32).view(torch.uint32)
    scales = torch.randn((512, 16), generator=generator)
    tensors = {"a.weight": words, "a.scales": scales, "a.biases": -scales}
    write(hub.root / "owner/name", tensors, {"group_size": 64, "bits": 3})
    write(hub.root / "here", tensors, {"group_size": 64, "bits": 3})
    remote, local = open_hub("owner/name", endpoint=hub.endpoint, gap=256), open_local(hub.root / "here")
    before = remote.cost()
    for selection in (Selection("a.weight", rows=np.array([400, 401])), Selection("a.weight", columns=np.arange(5, 9))):
        np.testing.assert_array_equal(remote.read([selection])[0], local.read([selection])[0])
    (all_of_it,) = local.read([Selection("a.weight")])
    first = int.from_bytes(words[0].view(torch.uint8).numpy().tobytes(), "little")
    levels = [(first >> (3 * i)) & 7 for i in range(1024)]
    row = np.array(levels, np.float32) * np.repeat(scales[0].numpy(), 64) - np.repeat(scales[0].numpy(), 64)
    np.testing.assert_array_equal(all_of_it[0], row)
    assert remote.cost().since(before).bytes_read < remote.tensors["a.weight"].nbytes


@pytest.mark.parametrize(
    ("part", "shape"),
    [("scales", (2, 2)), ("scales", (3, 0)), ("biases", (3, 1)), ("scales", (3, 3)), ("scales", (3,))],
)
def test_shapes_that_do_not_fit(tmp_path: Path, part: str, shape: tuple[int, ...]) -> None:
    written = load_file(WRITTEN)
    tensors = {f"a.{p}": written[f"affine4.{p}"] for p in ("weight", "scales", "biases")}
    tensors[f"a.{part}"] = torch.zeros(shape)
    write(tmp_path, tensors, SETTINGS)
    with pytest.raises((UnreadableCheckpoint, UnsupportedEncoding), match=r"'a\.weight'"):
        open_local(tmp_path)


def test_names_that_are_taken(tmp_path: Path) -> None:
    written = load_file(WRITTEN)
    tensors = {f"{EXPERTS}.{p}": written[f"{EXPERTS}.{p}"] for p in ("weight", "scales", "biases")}
    write(tmp_path, {**tensors, "mlp.experts.1.up_proj.weight": torch.zeros(2, 2)}, {"group_size": 64, "bits": 4})
    with pytest.raises(UnreadableCheckpoint, match="there already"):
        open_local(tmp_path)
