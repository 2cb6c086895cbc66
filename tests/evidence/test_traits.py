"""Grids, low rank, zeros, and the kind they make: against real casts, torch's quantiser and trained weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

from lineage_plugin.evidence.grid import CHANCE, grid, significant_bits
from lineage_plugin.evidence.lowrank import low_rank, rounding_error, spectrum, storage_step
from lineage_plugin.evidence.traits import Facts, dead_units, kind_of, semi_structured, sparsity

TYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}
NF4 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)


def stored(values, dtype="BF16"):
    return np.asarray(values).astype(TYPES[dtype]).astype(np.float32)


def gauss(seed=0, m=48, d=256, size=0.03):
    return (np.random.default_rng(seed).standard_normal((m, d)) * size).astype(np.float32)


def symmetric(w, bits, group):
    g = w.reshape(-1, group)
    scale = np.abs(g).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.rint(g / scale) * scale).reshape(w.shape)


def offset(w, bits, group):
    g = w.reshape(-1, group)
    low = g.min(axis=1, keepdims=True)
    scale = (g.max(axis=1, keepdims=True) - low) / (2**bits - 1)
    return (np.rint((g - low) / scale) * scale + low).reshape(w.shape)


def nf4(w, group):
    g = w.reshape(-1, group)
    scale = np.abs(g).max(axis=1, keepdims=True)
    return (NF4[np.abs((g / scale)[..., None] - NF4).argmin(-1)] * scale).reshape(w.shape)


def cast(w, kind, group, top):
    g = w.reshape(-1, group)
    scale = np.abs(g).max(axis=1, keepdims=True) / top
    return ((g / scale).astype(kind).astype(np.float32) * scale).reshape(w.shape)


def affine_by_torch(w, bits):
    torch = pytest.importorskip("torch")
    rows = torch.from_numpy(w)
    low, high = rows.amin(1), rows.amax(1)
    scale = (high - low) / (2**bits - 1)
    zero = torch.round(-low / scale).to(torch.int32)
    return torch.fake_quantize_per_channel_affine(rows, scale, zero, 0, 0, 2**bits - 1).numpy()


SCHEMES = {
    "int8 row": (lambda w: symmetric(w, 8, 256), 8, None, "row", 256),
    "int8 group": (lambda w: symmetric(w, 8, 32), 8, None, "group", 32),
    "int6 group": (lambda w: symmetric(w, 6, 16), 6, None, "group", 16),
    "int4 group": (lambda w: symmetric(w, 4, 128), 4, None, "group", 128),
    "int3 group": (lambda w: symmetric(w, 3, 64), 3, None, "group", 64),
    "int8 matrix": (lambda w: symmetric(w, 8, w.size), 8, None, "matrix", 48 * 256),
    "torch 8": (lambda w: affine_by_torch(w, 8), 8, None, "row", 256),
    "torch 4": (lambda w: affine_by_torch(w, 4), 4, None, "row", 256),
    "columns": (lambda w: symmetric(np.ascontiguousarray(w.T), 8, 48).T, 8, None, "column", 48),
    "offset 4": (lambda w: offset(w, 4, 64), 4, None, "group", 64),
    "offset 2": (lambda w: offset(w, 2, 64), 2, None, "group", 64),
    "NF4": (lambda w: nf4(w, 64), 4, "NF4", "group", 64),
    "E2M1": (lambda w: cast(w, ml_dtypes.float4_e2m1fn, 16, 6.0), 4, "E2M1", "group", 16),
    "E4M3": (lambda w: cast(w, ml_dtypes.float8_e4m3fn, 256, 448.0), 8, "E4M3", "row", 256),
    "E4M3 plain": (lambda w: w.astype(ml_dtypes.float8_e4m3fn).astype(np.float32), 8, "E4M3", "matrix", 48 * 256),
    "E5M2": (lambda w: cast(w, ml_dtypes.float8_e5m2, 256, 57344.0), 8, "E5M2", "row", 256),
    "ternary": (lambda w: np.clip(np.rint(w / 0.02), -1, 1) * 0.0213, 2, None, "matrix", 48 * 256),
    "binary": (lambda w: np.sign(w) * np.abs(w).mean(axis=1, keepdims=True), 1, None, "row", 256),
}


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("name", SCHEMES)
def test_quantisers_are_recognised(name, dtype):
    treat, bits, book, sharing, group = SCHEMES[name]
    found = grid(stored(treat(gauss()), dtype), dtype)
    assert found is not None
    assert (found.bits, found.book, found.sharing, found.group) == (bits, book, sharing, group)
    assert found.log10_chance < CHANCE


@pytest.mark.parametrize("name", ["int8 row", "int4 group", "NF4", "E4M3"])
def test_noise_is_the_error_of_the_quantiser(name):
    weights = gauss(5)
    rounded = SCHEMES[name][0](weights)
    found = grid(stored(rounded), "BF16")
    error = math.sqrt(np.mean((rounded - weights) ** 2) / np.mean(weights**2))
    assert found.noise == pytest.approx(error, rel=0.3)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_smooth_weights_lie_on_no_grid(dtype):
    rng = np.random.default_rng(3)
    shapes = [(64, 96), (128, 64), (16, 1000), (40, 27), (8, 17)]
    for index, shape in enumerate(shapes * 3):
        draw = (rng.standard_normal, lambda s: rng.standard_t(3, s), rng.random)[index // len(shapes)]
        for size in (1e-6, 0.02, 30.0):
            assert grid(stored(draw(shape) * size, dtype), dtype) is None


def test_storage_itself_is_no_grid():
    rng = np.random.default_rng(4)
    narrow = stored(1 + rng.random((64, 256)) * 0.05)
    assert np.unique(narrow).size < 16
    assert grid(narrow, "BF16") is None
    subnormal = stored(rng.standard_normal((64, 256)) * 3e-7, "F16")
    assert np.unique(subnormal).size < 64
    assert grid(subnormal, "F16") is None
    few = stored(rng.standard_normal((64, 256)) * 3e-8, "F16")
    assert np.unique(few).size < 8
    assert grid(few, "F16") is None
    spread = np.exp(3 * rng.standard_normal((24, 256))) * rng.choice([-1, 1], (24, 256)) * 4e-7
    assert grid(stored(spread, "F16"), "F16") is None
    for seed in range(8):
        nearly = 1 + np.random.default_rng(seed).random((24, 96)) * 0.1
        assert grid(stored(nearly * 10 ** (-6.5 + seed / 16), "F16"), "F16") is None
        assert grid(stored(1 + nearly * 0.05), "BF16") is None
    octave = stored(1 + rng.random((64, 256)))
    assert grid(octave, "BF16") is None
    # Conversions between storage types.
    for inner, outer in (("BF16", "F32"), ("F16", "F32"), ("BF16", "F16")):
        assert grid(stored(stored(gauss(), inner), outer), outer) is None


def test_padding_zeros_and_copies_are_no_grid():
    weights = stored(gauss(6))
    pruned = np.where(np.abs(weights) < np.quantile(np.abs(weights), 0.7), 0, weights)
    assert grid(pruned, "BF16") is None
    assert grid(np.full((32, 128), 0.5, np.float32), "BF16") is None
    assert grid(np.zeros((32, 128), np.float32), "BF16") is None
    assert grid(np.eye(64, dtype=np.float32), "BF16") is None
    assert grid(np.tile(weights[:, :32], 8), "BF16") is None
    constant = np.where(np.arange(48)[:, None] < 24, weights, np.float32(0.02))
    assert grid(constant, "BF16") is None
    padded = np.concatenate([stored(symmetric(gauss(7), 4, 64)), np.zeros((16, 256), np.float32)])
    assert grid(padded, "BF16").bits == 4


def test_a_pruned_and_quantised_matrix_is_on_a_grid():
    weights = gauss(8)
    weights[np.abs(weights) < 0.02] = 0
    assert grid(stored(symmetric(weights, 8, 256)), "BF16").bits == 8


@pytest.mark.parametrize("name", SCHEMES)
def test_training_on_leaves_the_grid(name):
    treated = SCHEMES[name][0](gauss())
    update = 0.003 * 0.03 * np.random.default_rng(1).standard_normal(treated.shape)
    assert grid(stored(treated + update, "F32"), "F32") is None
    assert grid(stored(treated + 10 * update), "BF16") is None


def test_what_is_no_matrix_of_numbers_gives_no_grid():
    assert grid(np.zeros((0, 4), np.float32), "BF16") is None
    assert grid(np.zeros(4, np.float32), "BF16") is None
    assert grid(gauss(), "I8") is None
    bad = gauss()
    bad[0, 0] = np.nan
    assert grid(bad, "F32") is None
    huge = np.full((16, 64), np.finfo(np.float32).max, np.float32) * np.sign(gauss(1, 16, 64))
    assert grid(huge, "F32").scheme == "binary"


def test_significant_bits():
    assert significant_bits(stored(gauss())) == 8
    assert significant_bits(stored(gauss(), "F16")) == 11
    assert significant_bits(gauss()) == 24
    assert significant_bits(np.array([0.0, 1.0, -4.0], np.float32)) == 1
    assert significant_bits(np.array([np.nan, 0.0], np.float32)) == 0


def trained_matrices():
    folder = Path(__file__).parents[2] / "examples"
    for path in sorted(folder.glob("*/model.safetensors")):
        with safe_open(path, "np") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                part = file.get_slice(name)
                if len(part.get_shape()) == 2 and part.get_dtype() in TYPES:
                    yield name, part.get_dtype(), file.get_tensor(name).astype(np.float32)


def test_trained_weights_lie_on_no_grid():
    seen = 0
    for name, dtype, matrix in list(trained_matrices())[::8]:
        for rows in (matrix[:64], np.ascontiguousarray(matrix.T[:64])):
            assert grid(rows, dtype) is None, name
            seen += 1
    assert seen >= 10


def product(rank, size, seed=0, m=128, d=256):
    """Weights in bf16, and the same with an update of given rank and relative size, stored in bf16."""
    rng = np.random.default_rng(seed)
    base = stored(rng.standard_normal((m, d)) * 0.03)
    update = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, d))
    return base, stored(base + update * (size * np.linalg.norm(base) / np.linalg.norm(update)))


def judged(base, suspect, dtype="BF16"):
    return spectrum(suspect - base, rounding_error(suspect, dtype))


@pytest.mark.parametrize("rank", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [0.02, 0.1, 0.5])
def test_rank_of_a_merged_adapter(rank, size):
    found = judged(*product(rank, size))
    if rank == 32 and size == 0.02:
        assert found.kind in ("low", "undecided")  # the smallest directions sink into the rounding
    else:
        assert (found.kind, found.rank) == ("low", rank)
        assert found.rest == pytest.approx(1.0, abs=0.1)


def test_rank_in_float32_and_half():
    rng = np.random.default_rng(2)
    base = gauss(1, 128, 256)
    update = (rng.standard_normal((128, 4)) @ rng.standard_normal((4, 256)) * 1e-4).astype(np.float32)
    assert (judged(base, base + update, "F32").kind, judged(base, base + update, "F32").rank) == ("low", 4)
    half = stored(base, "F16")
    merged = stored(half + update, "F16")
    assert (judged(half, merged, "F16").kind, judged(half, merged, "F16").rank) == ("low", 4)


def test_the_rounding_error_is_that_of_rounding():
    exact = gauss(9, 400, 400)
    for dtype in ("BF16", "F16"):
        for values in (exact, exact * 1e-4):
            kept = stored(values, dtype)
            expected = float(np.sqrt(np.mean(rounding_error(kept, dtype).astype(float) ** 2)))
            assert expected == pytest.approx(float(np.sqrt(np.mean((kept - values) ** 2))), rel=0.02)
    assert np.isnan(rounding_error(exact, "I8")).all()


def test_steps_are_the_distances_to_the_next_value():
    values = stored(gauss(9, 40, 40) * 10.0 ** np.random.default_rng(0).integers(-6, 3, (40, 40)), "F16")
    values[::7, 3] = 0.0
    steps = storage_step(values, 11, half=True)
    half = np.abs(values).astype(np.float16)
    assert np.array_equal(steps, np.nextafter(half, np.float16(np.inf)).astype(np.float32) - np.abs(values))
    wide = np.abs(values)
    assert np.array_equal(
        storage_step(values, 24), np.where(wide == 0, 0, np.nextafter(wide, np.float32(np.inf)) - wide)
    )


def test_full_updates_of_any_size_are_not_low():
    rng = np.random.default_rng(3)
    base = stored(gauss(10, 96, 160))
    decaying = np.exp(-np.arange(96) / 20.0)
    u, v = np.linalg.qr(rng.standard_normal((96, 96)))[0], np.linalg.qr(rng.standard_normal((160, 96)))[0]
    for update in (rng.standard_normal((96, 160)), (u * decaying) @ v.T):
        for size in (0.3, 0.1, 0.03, 0.01, 0.003, 0.001):
            changed = stored(base + update * (size * np.linalg.norm(base) / np.linalg.norm(update)))
            assert judged(base, changed).kind in ("full", "undecided")
        assert judged(base, stored(base + update / np.linalg.norm(update) * 10)).kind == "full"


def test_pure_rounding_and_no_change_are_not_low():
    exact = gauss(11, 128, 256)
    assert judged(exact, stored(exact)).kind == "undecided"
    kept = stored(exact)
    assert judged(kept, kept).kind == "untouched"
    broken = kept.copy()
    broken[3, 3] = np.inf
    assert judged(kept, broken).kind == "undecided"


def test_quantisation_hides_an_adapter():
    base, suspect = product(4, 0.05)
    quantised = stored(symmetric(suspect, 4, 64))
    assert judged(base, quantised).kind == "full"
    assert low_rank([quantised - base], [rounding_error(quantised, "BF16")]) is None


def test_small_matrices_are_undecided_or_low_only_when_rank_is_far_below():
    base, suspect = product(64, 0.1, m=64, d=96)
    assert judged(base, suspect).kind == "full"
    base, suspect = product(2, 0.1, m=64, d=64)
    assert judged(base, suspect).rank == 2
    base, suspect = product(1, 0.1, m=8, d=64)
    assert judged(base, suspect).kind == "undecided"


def test_low_rank_of_a_model_names_what_was_touched():
    q, v = product(4, 0.05, 1), product(8, 0.05, 2)
    up = stored(gauss(3))
    parts = [q, v, (up, up)]
    found = low_rank([b - a for a, b in parts], [rounding_error(b, "BF16") for _, b in parts], ["q", "v", "up"])
    assert (found.rank, found.low, found.changed) == (8, 2, 2)
    assert (found.touched, found.untouched) == (("q", "v"), ("up",))
    full = stored(up + gauss(4, size=0.003))
    parts.append((up, full))
    assert low_rank([b - a for a, b in parts], [rounding_error(b, "BF16") for _, b in parts]) is None


def test_zeros():
    weights = gauss(12)
    assert sparsity(weights) == 0.0
    weights[:, ::2] = 0
    weights[5] = -0.0
    assert sparsity(weights) == pytest.approx((weights == 0).mean())
    assert dead_units(weights).tolist() == [row == 5 for row in range(48)]
    assert sparsity(np.zeros((0, 3), np.float32)) == 0.0


def test_semi_structured_zeros():
    rng = np.random.default_rng(13)
    weights = gauss(13)
    order = np.argsort(rng.random((48, 64, 4)), axis=2)
    assert semi_structured(np.where(order.reshape(48, 256) < 2, weights, 0)) == (2, 4)
    assert semi_structured(np.where(order.reshape(48, 256) < 1, weights, 0)) == (1, 4)
    order = np.argsort(rng.random((48, 32, 8)), axis=2)
    assert semi_structured(np.where(order.reshape(48, 256) < 4, weights, 0)) == (4, 8)
    for share in (0.0, 0.5, 0.9, 1.0):
        assert semi_structured(np.where(rng.random((48, 256)) < share, 0, weights)) is None


PLAIN = Facts(compared=24, layers=8, base_layers=8, change=0.05)
INT4 = grid(stored(symmetric(gauss(), 4, 64)), "BF16")
LOW = low_rank([product(4, 0.05)[1] - product(4, 0.05)[0]], [rounding_error(product(4, 0.05)[1], "BF16")])


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({}, "finetune", ["further training"]),
        ({"compared": 0}, None, ["not known"]),
        ({"change": 0.0}, None, ["no value"]),
        ({"grids": (INT4,) * 20 + (None,) * 4}, "quantized", ["20 of 24", "4 bits", "64 weights"]),
        ({"grids": (INT4,) * 20, "base_grids": (INT4,) * 20}, "finetune", []),
        ({"grids": (INT4,) * 20, "change": 0.9}, "quantized", ["trained before"]),
        ({"grids": (INT4,) * 2 + (None,) * 22}, "finetune", []),
        ({"narrow_dtype": "F8_E4M3"}, "quantized", ["F8_E4M3"]),
        ({"narrow_dtype": "NF4", "base_narrow_dtype": "Q8_0"}, "quantized", ["stored as NF4, the base's as Q8_0"]),
        ({"narrow_dtype": "INT4", "grids": (INT4,) * 3, "change": 0.9}, "quantized", ["INT4", "trained before"]),
        ({"narrow_dtype": "INT4", "grids": (INT4, None), "zeros": 0.4}, "quantized", ["INT4"]),
        ({"narrow_dtype": "INT4", "zeros": 0.7}, "pruned", ["70%"]),
        ({"base_narrow_dtype": "INT4", "base_grids": (INT4,) * 3, "change": 0.05}, None, ["no more than its own"]),
        (
            {"base_narrow_dtype": "INT4", "base_grids": (INT4,) * 3, "change": 0.9},
            "finetune",
            ["more than the rounding"],
        ),
        ({"base_narrow_dtype": "Q4_K", "change": 0.05}, "finetune", ["Q4_K", "hides"]),
        ({"rounded": True}, None, ["another storage type"]),
        ({"rounded": True, "units_kept": 0.5}, "pruned", ["50%"]),
        ({"low_rank": LOW}, "adapter", ["rank 4", "1 of 1"]),
        ({"low_rank": LOW, "without_trace": ("7",)}, "partial", ["7", "rank 4"]),
        ({"zeros": 0.5}, "pruned", ["50%"]),
        ({"zeros": 0.5, "base_zeros": 0.5}, "finetune", []),
        ({"zeros": 0.5, "grids": (INT4,) * 24}, "pruned", ["50%", "4 bits"]),
        ({"zeros": 0.1, "grids": (INT4,) * 24}, "quantized", []),
        ({"zero_pattern": (2, 4), "zeros": 0.5}, "pruned", ["2 of every 4"]),
        ({"dead": 3}, "pruned", ["3 units"]),
        ({"layers": 12, "repeated": 4}, "upscaled", ["12 layers", "8", "4 of the base's repeated"]),
        ({"layers": 12, "without_trace": ("0", "11")}, "upscaled", ["0, 11"]),
        ({"layers": 12, "grids": (INT4,) * 24}, "upscaled", ["12 layers", "4 bits"]),
        ({"layers": 6, "dropped": 2}, "pruned", ["6 layers"]),
        ({"repeated": 2, "dropped": 2}, "partial", ["2 layers"]),
        ({"units_kept": 0.69}, "pruned", ["69%"]),
        ({"width_kept": 2.0}, "upscaled", ["2.00 times"]),
        ({"experts_from_dense": True, "layers": 12}, "upcycled", ["experts", "12 layers"]),
        ({"parents": 2, "experts_from_dense": True}, "merge", ["2 parents", "experts"]),
    ],
)
def test_kind(changes, kind, words):
    found, reason = kind_of(replace(PLAIN, **changes))
    assert found == kind
    assert all(word in reason for word in words), reason


def test_ternary_weights_are_quantised_not_pruned():
    weights = gauss(14)
    ternary = stored(np.clip(np.rint(weights / np.abs(weights).mean()), -1, 1) * 0.024)
    facts = replace(PLAIN, grids=(grid(ternary, "BF16"),), zeros=sparsity(ternary))
    assert facts.zeros > 0.25
    assert kind_of(facts)[0] == "quantized"
