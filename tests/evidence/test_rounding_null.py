"""Two quantised models of independent origin: are the coins that are left fair, and would the others be?

``benchmarks/rounding_null.py`` runs the same simulation a thousand times a scheme.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmarks.rounding_null import SCHEMES, gptq, run, symmetric
from benchmarks.stages_null import pair_of
from lineage_plugin.anatomy import analyse
from lineage_plugin.anatomy.types import Anatomy, UnitGroup
from lineage_plugin.checkpoint.gguf_files.numbers import NUMBERS
from lineage_plugin.checkpoint.schemes.bitsandbytes import _shared
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.evidence.coins import draw_pairs, sign_statistics, swap_statistics
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.models import models_of
from lineage_plugin.evidence.rounding import exchangeable
from tests.evidence.test_rounding import UNITS, model

Matrix = NDArray[np.float32]
Quantiser = Callable[[Matrix], Matrix]

TWO_BITS = Encoding("a", 2, shared=(1, 32))
TILES = Encoding("b", 8, shared=(128, 128))


# Rounding and exchanging, in either order, by the libraries that people use.


def bitsandbytes(kind: str, nested: bool) -> Quantiser:
    functional = pytest.importorskip("bitsandbytes.functional")
    torch = pytest.importorskip("torch")

    def rounded(matrix: Matrix) -> Matrix:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            levels, state = functional.quantize_4bit(
                torch.from_numpy(matrix), blocksize=64, compress_statistics=nested, quant_type=kind
            )
            return np.asarray(functional.dequantize_4bit(levels, state).numpy())

    return rounded


def ggml(name: str) -> Quantiser:
    gguf = pytest.importorskip("gguf")
    kind = gguf.GGMLQuantizationType[name]
    return lambda matrix: np.asarray(gguf.dequantize(gguf.quants.quantize(matrix, kind), kind), np.float32)


def inside_and_across(size: int, extent: int, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """Yield some exchanges of two of ``extent`` lines, and whether both lie in one block of ``size``."""
    for inside in (True, False) * 6:
        block, length = int(rng.integers(extent // size)), size
        i, j = block * size + rng.choice(length, 2, replace=False)
        if not inside:
            j = (j + size) % extent
        order = np.arange(extent)
        order[[i, j]] = [j, i]
        yield order, inside


def differ(one: Matrix, other: Matrix) -> bool:
    # Means and sums of many scales depend on their order in the last digit.
    return not np.allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_1", "Q8_0", "TQ2_0"])
def test_ggml_rounds_runs_as_its_encoding_says(name: str) -> None:
    rounded, rng = ggml(name), np.random.default_rng(3)
    encoding = next(n.encoding for n in NUMBERS.values() if n.name == name)
    assert encoding is not None and encoding.shared[0] == 1
    matrix = rng.standard_normal((24, 768), dtype=np.float32)
    found = rounded(matrix)
    for order, inside in inside_and_across(encoding.shared[1], 768, rng):
        assert differ(rounded(np.ascontiguousarray(matrix[:, order])), found[:, order]) is not inside
    rows = rng.permutation(24)
    assert not differ(rounded(matrix[rows]), found[rows])


@pytest.mark.parametrize("shape", [(64, 1024), (128, 256), (64, 32)])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes_rounds_blocks_as_its_encoding_says(shape: tuple[int, int], nested: bool) -> None:
    rounded, rng = bitsandbytes("nf4", nested), np.random.default_rng(4)
    state: Any = SimpleNamespace(block=64, nested=256 if nested else 0)
    rows, columns = _shared(*shape, state)
    matrix = rng.standard_normal(shape, dtype=np.float32)
    found = rounded(matrix)
    if columns > 0:
        for order, inside in inside_and_across(columns, shape[1], rng):
            assert differ(rounded(np.ascontiguousarray(matrix[:, order])), found[:, order]) is not inside
    for order, inside in inside_and_across(max(rows, 2), shape[0], rng):
        if inside or rows == 1:
            assert not differ(rounded(matrix[order]), found[order])
        elif rows > 1:
            assert differ(rounded(matrix[order]), found[order])


@pytest.mark.parametrize("name", ["int4", "tiles", "tensor", "gptq"])
def test_the_schemes_of_the_simulation_are_what_they_say(name: str) -> None:
    rng = np.random.default_rng(5)
    matrix, fed = rng.standard_normal((32, 96), dtype=np.float32), rng.standard_normal((64, 96), dtype=np.float32)
    scheme = SCHEMES[name]
    found = scheme.rounded(matrix, fed)
    for axis, size in enumerate(scheme.shared(matrix.shape)):
        extent = matrix.shape[axis]
        for order, inside in inside_and_across(size if size > 1 else extent // 2, extent, rng):
            other = scheme.rounded(np.take(matrix, order, axis), fed if axis == 0 else fed[:, order])
            changed = differ(other, np.take(found, order, axis))
            # 0: the order counts, even among neighbours; 1 and -1: it never does.
            assert changed if size == 0 else not changed if inside or size in (1, -1) else changed


# Fair coins.


@pytest.mark.parametrize("name", SCHEMES)
def test_coins_of_two_rounded_models_are_fair(name: str) -> None:
    pair = pair_of("examples/liar,examples/base", layers=2, units=64, tokens=128)
    drawn = run(pair, name, 25, ways=("stored order",), seed=1)["stored order"]
    assert sum(drawn.coins) >= 25 * 50
    assert stats.binomtest(sum(drawn.heads), sum(drawn.coins)).pvalue > 1e-4
    # The mean of 25 e-values of expectation at most 1 exceeds 40 with a chance below 1 in 40, that of any seed alike.
    assert float(drawn.e_values.mean()) < 40


def test_signs_would_lean_with_the_levels() -> None:
    """Why no signs are tossed: two bits have one more level below zero than above, and all rows lean the same way."""
    rng = np.random.default_rng(6)
    signs: list[bool] = []
    swaps: list[bool] = []
    for seed in range(9):
        a, b = (symmetric(rng.standard_normal((1000, 4096), dtype=np.float32), 2, 16) for _ in range(2))
        found = sign_statistics([a], [b], [True])
        signs.extend((found[found != 0] > 0).tolist())
        # Exchanges mind no common lean: it is in all four terms.
        found = swap_statistics([a], [b], [False], draw_pairs(np.zeros(1000, np.int64), [seed]))
        swaps.extend((found[found != 0] > 0).tolist())
    assert log10_e_value(sum(signs), len(signs)) > 3
    assert stats.binomtest(sum(swaps), len(swaps)).pvalue > 1e-4


def test_gptq_leaves_larger_errors_in_later_columns() -> None:
    """Why 0 leaves columns out: what they lost tells their place, in every model alike."""
    errors = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        fed = (rng.standard_normal((512, 96)) @ (np.eye(96) + 0.1 * rng.standard_normal((96, 96)))).astype(np.float32)
        matrix = rng.standard_normal((256, 96), dtype=np.float32)
        errors.append(np.square(gptq(matrix, fed) - matrix).mean(axis=0))
    place = np.arange(96)
    for lost in errors:
        assert abs(stats.spearmanr(lost, place).statistic) > 0.5
    assert stats.spearmanr(*errors).statistic > 0.3


# Which exchanges are left: relabelling must be possible in one model, of all the vectors of a unit at once.


def both(mine: Any, others: Any) -> tuple[Anatomy, Anatomy]:
    return exchangeable(
        (mine.tensors, analyse(mine.tensors, mine.config)), (others.tensors, analyse(others.tensors, others.config))
    )


def of(anatomy: Anatomy, *names: str) -> UnitGroup:
    return next(group for group in anatomy.groups if group.name in names)


def experts(encoding: Encoding, count: int = 4) -> Any:
    """The dense model of :func:`model` with its MLPs as experts."""
    dense = model({"proj": encoding})
    tensors: dict[str, TensorInfo] = {}
    for name, info in dense.tensors.items():
        if ".mlp." not in name:
            tensors[name] = info
            continue
        stem, which = name.split(".mlp.")
        for number in range(count):
            part = {"gate": "w1", "up": "w3", "down": "w2"}[which.split("_")[0]]
            new = f"{stem}.block_sparse_moe.experts.{number}.{part}.weight"
            tensors[new] = replace(info, name=new)
    config = {**dense.config, "model_type": "mixtral", "num_local_experts": count}
    return SimpleNamespace(tensors=tensors, config=config, local=True)


def test_experts_against_a_dense_layer_are_restricted_alike() -> None:
    one, other = both(experts(TWO_BITS), model({"proj": TWO_BITS}))
    for found in (of(one, "experts"), of(other, "mlp")):
        assert np.array_equal(found.block, np.arange(UNITS) // 32)
        assert not found.flip


def test_different_matrices_rounded_on_the_two_sides_restrict_each_other() -> None:
    """Relabelling the suspect moves its gates, relabelling the base its outputs: neither commutes with its rounding."""
    one, other = both(model({"gate_proj": TILES}), model({"down_proj": TWO_BITS}))
    for found in (one, other):
        assert np.array_equal(of(found, "mlp").block, np.arange(UNITS) // 32)


def test_one_rounded_vector_takes_the_sign_of_the_unit() -> None:
    """Swap coins that see the sign of one vector and sign coins of another vector would depend on each other."""
    some = {"gate_proj": TWO_BITS, "up_proj": TWO_BITS}
    one, _ = both(model(some), model(some))
    assert not of(one, "mlp").flip


def test_scales_of_ones_own_in_one_layer_free_no_other_layer() -> None:
    mixed = {"layers.0.mlp.gate_proj": TILES, "layers.1.mlp.gate_proj": replace(TWO_BITS, shared=(1, 16))}
    one, _ = both(model(mixed), model(mixed))
    assert np.array_equal(of(one, "mlp").block, np.arange(UNITS) // 128)


def test_denoisers_are_restricted_too() -> None:
    plain = model({"proj": TWO_BITS})
    tensors = {f"transformer.{name}": replace(info, name=f"transformer.{name}") for name, info in plain.tensors.items()}
    pipeline: Any = SimpleNamespace(tensors=tensors, config={**plain.config, "_class_name": "A"}, local=True)
    for _, found in models_of(pipeline, pipeline).sides:
        assert not any(group.flip for group in found.groups)
