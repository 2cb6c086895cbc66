"""Two quantised models: only what rounding commutes with is exchanged; and windows of dear matrices."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from lineage_plugin.anatomy import Anatomy, analyse
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.evidence.coins import draw_pairs, swap_statistics
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pairing import match_groups
from lineage_plugin.evidence.plan import WINDOW
from lineage_plugin.evidence.rounding import exchangeable
from lineage_plugin.evidence.window import narrow
from tests.evidence.test_plan import checkpoint

WIDTH, UNITS = 256, 512


def model(encodings: dict[str, Encoding], *, layers: int = 2, local: bool = True) -> Any:
    """A small Llama whose matrices of the given roles are quantised."""
    made = checkpoint(layers, local=local, width=WIDTH, units=UNITS, kv=128)
    tensors = {
        name: replace(info, encoding=next((e for key, e in encodings.items() if key in name), None))
        for name, info in made.tensors.items()
    }
    gains = [
        f"model.layers.{n}.{norm}" for n in range(layers) for norm in ("input_layernorm", "post_attention_layernorm")
    ]
    for name in (*gains, "model.norm"):
        tensors[f"{name}.weight"] = TensorInfo(f"{name}.weight", (WIDTH,), "BF16", "model.safetensors", 0, 2 * WIDTH)
    return SimpleNamespace(tensors=tensors, config=made.config, local=local)


def restricted(mine: dict[str, Encoding], others: dict[str, Encoding]) -> tuple[Anatomy, Anatomy, Anatomy]:
    suspect, base = model(mine), model(others)
    plain = analyse(base.tensors, base.config)
    both = exchangeable(
        (suspect.tensors, analyse(suspect.tensors, suspect.config)), (base.tensors, analyse(base.tensors, base.config))
    )
    return *both, plain


def groups(anatomy: Anatomy, name: str = "mlp") -> Any:
    return next(group for group in anatomy.groups if group.name == name)


def said(found: Anatomy, plain: Anatomy) -> list[str]:
    """The beginnings of the limits that the restriction added."""
    assert found.limits[: len(plain.limits)] == plain.limits
    return [limit.partition(",")[0] for limit in found.limits[len(plain.limits) :]]


ROWS = Encoding("a", 4, shared=(1, 32))
UNITS_SAID, CHANNELS_SAID = "Both models are quantised", "Token embeddings are quantised in both models"


def test_one_quantised_model_leaves_everything_as_it_was() -> None:
    one, other, plain = restricted({"proj": ROWS}, {})
    for found in (one, other):
        assert [g.block.tolist() for g in found.groups] == [g.block.tolist() for g in plain.groups]
        assert [v.odd for g in found.groups for v in g.vectors] == [v.odd for g in plain.groups for v in g.vectors]
        assert found.limits == plain.limits
    # Of each kind of unit only one of the models has rounded vectors.
    one, _, plain = restricted({"mlp": ROWS}, {"self_attn": ROWS})
    assert [g.block.tolist() for g in one.groups] == [g.block.tolist() for g in plain.groups]


def test_units_that_share_scales_stay_exchangeable() -> None:
    one, other, plain = restricted({"proj": ROWS}, {"proj": replace(ROWS, name="b", shared=(1, 48))})
    # Rows have their own scales; columns of down_proj lie in groups of 32 and of 48: blocks of 16 lie in both.
    assert np.array_equal(groups(one).block, np.arange(UNITS) // 16)
    assert np.array_equal(groups(one).block, groups(other).block)
    assert not any(v.odd for g in one.groups for v in g.vectors)
    assert said(one, plain) == said(other, plain) == [UNITS_SAID]
    # Key-value heads stay apart, too.
    heads = groups(plain, "value").block
    finer = groups(one, "value").block
    for label in np.unique(finer):
        assert np.unique(heads[finer == label]).size == 1
    pairs, mismatch = match_groups(one, other)
    assert mismatch is None and len(pairs) == len(plain.groups)


def test_columns_that_are_rounded_in_order_are_left_out() -> None:
    one, _, plain = restricted({"proj": replace(ROWS, shared=(1, 0))}, {"proj": ROWS})
    assert [v.role for v in groups(plain).vectors] == ["gate", "up", "down"]
    assert [v.role for v in groups(one).vectors] == ["gate", "up"]
    assert [v.role for v in groups(one, "value").vectors] == ["v"]
    assert np.array_equal(groups(one).block, groups(plain).block)


def test_one_scale_for_all_restricts_nothing_but_signs() -> None:
    whole = Encoding("a", 8, shared=(-1, -1))
    one, _, plain = restricted({"proj": whole}, {"proj": whole})
    assert [g.block.tolist() for g in one.groups] == [g.block.tolist() for g in plain.groups]
    tiles = Encoding("a", 8, shared=(128, 128))
    one, _, _ = restricted({"proj": tiles}, {"proj": whole})
    assert np.array_equal(groups(one).block, np.arange(UNITS) // 128)


def test_layers_are_restricted_alike() -> None:
    mixed = {"layers.0.mlp.down_proj": ROWS, "layers.1.mlp.down_proj": replace(ROWS, shared=(1, 64))}
    one, _, _ = restricted(mixed, {"down_proj": replace(ROWS, shared=(1, -1))})
    assert all(np.array_equal(g.block, np.arange(UNITS) // 32) for g in one.groups if g.name == "mlp")


def test_channels_are_left_alone_where_tokens_are_quantised() -> None:
    for mine, others, swap in ((ROWS, ROWS, False), (ROWS, None, True)):
        one, other, plain = restricted({"embed": mine}, {} if others is None else {"embed": others})
        for found in (one, other):
            assert found.stream is not None and found.stream.swap is swap
            # Units of the layers are not restricted, and no one may say so.
            assert [g.block.tolist() for g in found.groups] == [g.block.tolist() for g in plain.groups]
            assert [v.odd for g in found.groups for v in g.vectors] == [v.odd for g in plain.groups for v in g.vectors]
            assert said(found, plain) == [CHANNELS_SAID] * (not swap)
    both, _, plain = restricted({"embed": ROWS, "proj": ROWS}, {"embed": ROWS, "proj": ROWS})
    assert said(both, plain) == [UNITS_SAID, CHANNELS_SAID]


def absmax(matrix: NDArray[np.float32], size: int, levels: int = 7) -> NDArray[np.float32]:
    """Round to nearest with one scale per ``size`` columns of a row."""
    blocks = matrix.reshape(matrix.shape[0], -1, size)
    scale = np.abs(blocks).max(axis=2, keepdims=True) / levels
    return (np.round(blocks / scale) * scale).reshape(matrix.shape).astype(np.float32)


@pytest.mark.parametrize("size", [16, 32])
def test_rounding_commutes_with_the_exchanges_that_are_left(size: int) -> None:
    """Brute force: exchange, then round; and round, then exchange."""
    rng = np.random.default_rng(size)
    down = rng.standard_normal((40, UNITS)).astype(np.float32)
    encoding = Encoding("a", 4, shared=(1, size))
    one, _, _ = restricted({"down_proj": encoding}, {"down_proj": encoding})
    block = groups(one).block
    rounded = absmax(down, size)
    for i, j in draw_pairs(block, [size])[:64]:
        order = np.arange(UNITS)
        order[[i, j]] = [j, i]
        assert np.array_equal(absmax(down[:, order], size), rounded[:, order])
    # Across blocks it does not: the restriction is needed.
    order = np.arange(UNITS)
    order[[0, size]] = [size, 0]
    assert not np.array_equal(absmax(down[:, order], size), rounded[:, order])


def test_a_quantiser_that_minds_the_order_would_make_evidence() -> None:
    """Why ``shared`` of 0 leaves columns out: a bias that follows the place is the same in independent models.

    Here every second column is rounded up and the others down. Columns then lean towards all ones by their place, and
    coins over columns see it; rows are rounded independently of each other, and their coins are fair.
    """
    rng = np.random.default_rng(5)
    columns: list[bool] = []
    rows: list[bool] = []

    def weights() -> NDArray[np.float32]:
        drawn = rng.standard_normal((64, UNITS)).astype(np.float32)
        return np.where(np.arange(UNITS) % 2, np.ceil(drawn), np.floor(drawn)).astype(np.float32)

    for seed in range(30):
        a, b = weights(), weights()
        for mine, others, found in ((a.T, b.T, columns), (a, b, rows)):
            pairs = draw_pairs(np.zeros(mine.shape[0], np.int64), [seed])
            statistic = swap_statistics([mine], [others], [False], pairs)
            found.extend((statistic[statistic != 0] > 0).tolist())
    assert stats.binomtest(sum(rows), len(rows)).pvalue > 1e-3
    assert stats.binomtest(sum(columns), len(columns)).pvalue < 1e-9


def dear(encoding: Encoding | None) -> Any:
    made = checkpoint(2, local=False)
    return SimpleNamespace(
        tensors={n: replace(i, encoding=encoding if "proj" in n else None) for n, i in made.tensors.items()},
        config=made.config,
        local=False,
    )


def test_rows_that_lie_scattered_are_read_in_part() -> None:
    packed, plain = dear(Encoding("GPTQ", 4, shared=(1, 0), axis=1)), dear(None)
    for suspect, base in ((packed, plain), (plain, packed), (packed, packed)):
        models = Models(suspect, base, *(analyse(m.tensors, m.config) for m in (suspect, base)))
        found = narrow(models)
        for before, after in zip(models.sides, found.sides):
            for group, cut in zip(before[1].groups, after[1].groups):
                for old, new in zip(group.vectors, cut.vectors):
                    assert new.span == (WINDOW if old.axis == 0 else old.span)
                    assert replace(new, span=old.span).index is old.index
            assert after[1].stream is None and "first 64 inputs" in after[1].limits[-1]
        assert match_groups(found.suspect_anatomy, found.base_anatomy)[1] is None


def test_rows_that_lie_together_are_read_whole() -> None:
    rows = dear(Encoding("NF4", 4, shared=(1, 64)))
    models = Models(rows, dear(None), *(analyse(rows.tensors, rows.config) for _ in range(2)))
    assert narrow(models) is models


def test_small_matrices_are_read_whole() -> None:
    small = model({"proj": Encoding("GPTQ", 4, axis=1)}, local=False)
    tensors = {n: TensorInfo(i.name, i.shape, i.dtype, i.file, 0, 1000, i.encoding) for n, i in small.tensors.items()}
    small.tensors = tensors
    models = Models(small, small, *(analyse(small.tensors, small.config) for _ in range(2)))
    assert narrow(models) is models
