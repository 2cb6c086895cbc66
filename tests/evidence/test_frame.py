"""Vectors of two models in common coordinates: gains folded, means taken, bases applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations import width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import scrub
from benchmarks.stages_null import in_memory
from lineage_plugin.evidence.basis import Basis
from lineage_plugin.evidence.coins import cosines
from lineage_plugin.evidence.frame import Frame, frame_of
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.sample import read_units
from lineage_plugin.evidence.stage_stream import find_basis, shared_tokens
from lineage_plugin.options import Options
from tests.evidence.builders import group

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def base() -> Model:
    """The base with gains that stand out: folding must be seen to matter."""
    model = read_model(EXAMPLES / "base")
    rng = np.random.default_rng(0)
    gains = {n: a * np.exp(rng.normal(0, 0.7, a.shape)).astype(np.float32) for n, a in model.tensors.items()}
    return model.with_tensors({n: a for n, a in gains.items() if "norm" in n})


def scrubbed(model: Model, *which: str) -> Model:
    tensors = scrub(model.tensors, model.config, which, seed=3)
    return Model({n: np.asarray(a, np.float32) for n, a in tensors.items()}, model.config)


def framed(models: Models) -> Frame:
    tokens = shared_tokens(models)
    assert tokens is not None
    basis = find_basis(models, tokens, Options())
    assert basis is not None
    return frame_of(basis, ((models.suspect, models.suspect_anatomy), (models.base, models.base_anatomy)))


def least_cosine(models: Models, frame: Frame) -> float:
    """The least cosine of any vector of the suspect with its counterpart."""
    found = []
    for mine, theirs in zip(models.suspect_anatomy.groups, models.base_anatomy.groups):
        roles = tuple(v.role for v in theirs.vectors)
        units = np.arange(theirs.units)
        a = frame.of_suspect(mine, roles, read_units(models.suspect, [(mine, units, roles)])[0])
        b = frame.of_base(theirs, roles, read_units(models.base, [(theirs, units, roles)])[0])
        found += [float(cosines(x, y).min()) for x, y in zip(a, b)]
    return min(found)


@pytest.mark.parametrize("which", ["residual", "rotate"])
def test_a_changed_basis_is_undone_for_every_vector(base: Model, which: str) -> None:
    models = in_memory(scrubbed(base, which), base)
    frame = framed(models)
    assert least_cosine(models, frame) > 0.999
    if which == "rotate":
        # A rotation is only possible with gains folded: without, what reads the stream does not correspond.
        unfolded = Frame(frame.basis, {}, {}, frame.centred)
        assert least_cosine(models, unfolded) < 0.9


def test_a_narrower_stream_is_compared_on_the_channels_it_kept(base: Model) -> None:
    models = in_memory(width.stream_pruned(base, 72), base)
    frame = framed(models)
    assert frame.basis.widths == (72, 96)
    assert least_cosine(models, frame) > 0.999


def identity(size: int) -> Basis:
    empty = np.empty((0, 2), np.int64)
    return Basis("identity", (size, size), (), 0, empty, np.empty(0, np.float32))


def test_gains_go_to_what_reads_or_writes_block_by_block() -> None:
    before, after = np.array([1, 2, 4], np.float32), np.array([1, -1, 0.5], np.float32)
    value = group(2, [("v", 3, True), ("o", 6, True)], name="value")
    v, o = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(12, dtype=np.float32).reshape(2, 6)
    frame = Frame(identity(3), {value.key: (before, after)}, {value.key: (before, None)}, centred=False)
    read, written = frame.of_suspect(value, ("v", "o"), (v, o))
    np.testing.assert_array_equal(read, v * before)
    np.testing.assert_array_equal(written, o * np.tile(after, 2))
    read, written = frame.of_base(value, ("v", "o"), (v, o))
    np.testing.assert_array_equal(read, v * before)
    np.testing.assert_array_equal(written, o)


def test_a_subtracted_mean_is_taken_from_every_vector() -> None:
    value = group(2, [("v", 3, False), ("o", 6, False)], name="value")
    rng = np.random.default_rng(1)
    v, o = rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(2, 6)).astype(np.float32)
    for taken in (Frame.of_suspect, Frame.of_base):
        read, written = taken(Frame(identity(3), {}, {}, centred=True), value, ("v", "o"), (v, o))
        np.testing.assert_allclose(read, v - v.mean(axis=1, keepdims=True), atol=1e-6)
        blocks = o.reshape(2, 2, 3)
        np.testing.assert_allclose(written, (blocks - blocks.mean(axis=2, keepdims=True)).reshape(2, 6), atol=1e-6)


def test_a_gain_that_is_not_finite_is_left_unfolded(base: Model) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    gain = "model.layers.1.post_attention_layernorm.weight"
    broken = base.with_tensors({gain: np.full_like(base.tensors[gain], np.nan)})
    models = in_memory(broken, base)
    frame = framed(models)
    mlp = next(g for g in models.suspect_anatomy.groups if g.key == ("mlp", 1, 0))
    (up,) = frame.of_suspect(mlp, ("up",), read_units(models.suspect, [(mlp, np.arange(8), ("up",))])[0])
    np.testing.assert_array_equal(up, base.tensors[name][:8])
