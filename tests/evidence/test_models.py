"""Which parts of two models are set against each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.evidence.models import models_of
from tests.evidence.test_plan import checkpoint


def pipeline(denoiser: str | None, *, named: bool = True) -> Any:
    """A diffusion pipeline: a text encoder of known layout, and a denoiser of convolutions."""
    encoder = checkpoint(2, local=True, width=64, units=128, kv=64)
    shapes: dict[str, tuple[int, ...]] = {f"text_encoder.{name}": info.shape for name, info in encoder.tensors.items()}
    if denoiser is not None:
        shapes |= {f"{denoiser}.blocks.{n}.conv{k}.weight": (96, 96, 3, 3) for n in range(3) for k in (1, 2)}
    tensors = {}
    for name, shape in shapes.items():
        size = 1
        for extent in shape:
            size *= extent
        tensors[name] = TensorInfo(name, shape, "F32", "model.safetensors", 0, 4 * size)
    config = {"_class_name": "P", "text_encoder": encoder.config} if named else {"text_encoder": encoder.config}
    return SimpleNamespace(tensors=tensors, config=config, local=True)


def test_pipelines_are_compared_by_their_denoiser() -> None:
    for name in ("unet", "transformer"):
        models = models_of(pipeline(name), pipeline(name))
        for anatomy in (models.suspect_anatomy, models.base_anatomy):
            assert anatomy.part == name and anatomy.groups
            assert all(v.tensor.startswith(f"{name}.") for g in anatomy.groups for v in g.vectors)
            assert f"the denoiser ({name})" in anatomy.limits[-1]


def test_without_a_common_denoiser_the_layers_that_are_known_are_compared() -> None:
    for one, other in (("unet", "transformer"), (None, None), ("unet", None)):
        models = models_of(pipeline(one), pipeline(other))
        assert models.suspect_anatomy.family == models.base_anatomy.family == "llama"
    models = models_of(pipeline("unet", named=False), pipeline("unet"))
    assert models.suspect_anatomy.family == "llama"
