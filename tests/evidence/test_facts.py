"""What is known about a derived pair: counted and measured again by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from benchmarks.derivations import depth, experts, width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import scrub
from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.evidence.facts import SILENT_COINS, is_silent, stored_rows
from lineage_plugin.evidence.gather import gather
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.evidence.models import Models, models_of
from lineage_plugin.evidence.pair import LayerCoins, PairEvidence
from lineage_plugin.evidence.pairing import match_groups
from lineage_plugin.evidence.sample import Probe, read_probes
from lineage_plugin.evidence.traits import Facts, kind_of
from lineage_plugin.judge.relation import is_decided
from lineage_plugin.options import Options

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def honest() -> Model:
    return read_model(EXAMPLES / "honest")


def models_at(suspect: Path, base: Path = EXAMPLES / "base") -> Models:
    return models_of(*(open_checkpoint(str(path), options=Options()) for path in (suspect, base)))


def found(model: Model, folder: Path) -> PairEvidence:
    model.write(folder)
    return gather(models_at(folder), Options(), partial(is_decided, bar=9.0))


def facts(model: Model, folder: Path) -> Facts:
    answer = found(model, folder).facts
    assert answer is not None
    return answer


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_a_copy_in_another_type_is_no_kind_of_derivation(stored: type, tmp_path: Path) -> None:
    for name, scale in (("wide", 1.0), ("narrow", 1.0), ("touched", 1.0 + 2.0**-6)):
        (tmp_path / name).mkdir()
        base = read_model(EXAMPLES / "base")
        kind = np.float32 if name == "wide" else stored
        # Values of their own in the wide copy, so that conversion has something to round.
        nudged = {key: (array * np.float32(1.0003)) for key, array in base.tensors.items()}
        save_file({k: np.asarray(a * scale, kind) for k, a in nudged.items()}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text((EXAMPLES / "base" / "config.json").read_text())
    for name, rounded in (("narrow", True), ("touched", False)):
        for pair in ((name, "wide"), ("wide", name)):
            models = models_at(*(tmp_path / one for one in pair))
            known = gather(models, Options(), partial(is_decided, bar=9.0)).facts
            assert known is not None and known.rounded is rounded
            assert (kind_of(known)[0] is None) is rounded


@pytest.mark.parametrize(("stored", "below"), [(ml_dtypes.bfloat16, 2.0**-10), (np.float16, 2.0**-13)])
def test_small_weights_set_to_zero_were_not_rounded(stored: type, below: float, tmp_path: Path) -> None:
    """Storage has finer steps near zero than those around one half: of half precision 2^-24, else none worth a word."""
    base = read_model(EXAMPLES / "base").tensors
    kept = {"base": base, "pruned": {n: np.where(np.abs(a) < below, 0, a) for n, a in base.items()}}
    for name, tensors in kept.items():
        (tmp_path / name).mkdir()
        save_file({n: a.astype(stored) for n, a in tensors.items()}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text((EXAMPLES / "base" / "config.json").read_text())
    for pair in (("base", "pruned"), ("pruned", "base")):
        known = gather(models_at(*(tmp_path / one for one in pair)), Options(), partial(is_decided, bar=9.0)).facts
        assert known is not None and not known.rounded
        assert known.zeros != known.base_zeros


def test_of_a_fine_tune(honest: Model, tmp_path: Path) -> None:
    known = facts(honest, tmp_path)
    assert (known.layers, known.base_layers, known.repeated, known.dropped) == (4, 4, 0, 0)
    assert known.without_trace == () and known.units_kept == known.width_kept == 1.0
    assert not known.experts_from_dense and known.narrow_dtype is None and known.zero_pattern is None
    # The same by hand, over the matrices whose units are rows of the file: all units are read of models so small.
    base = read_model(EXAMPLES / "base")
    rows = ("gate_proj", "up_proj", "v_proj")
    moved = total = 0.0
    for name, array in base.tensors.items():
        if any(row in name for row in rows):
            moved += float(((honest.tensors[name] - array).astype(np.float64) ** 2).sum())
            total += float((array.astype(np.float64) ** 2).sum())
    assert known.change == pytest.approx(np.sqrt(moved / total), rel=0.05)


def test_of_other_depth(honest: Model, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = facts(depth.arranged(honest, [0, None, 1, 1, 3], rng, 1.0)[0], tmp_path)
    assert (known.layers, known.base_layers, known.repeated, known.dropped) == (5, 4, 1, 1)
    assert known.without_trace == ("1",)


def test_of_other_widths_and_experts(honest: Model, tmp_path: Path) -> None:
    assert facts(width.units_pruned(honest, 0.75), tmp_path / "units").units_kept == pytest.approx(0.75)
    assert facts(width.heads_pruned(honest, 1), tmp_path / "heads").units_kept == pytest.approx(0.5)
    assert facts(width.stream_pruned(honest, 72), tmp_path / "stream").width_kept == pytest.approx(0.75)
    mixture = facts(experts.split(honest, np.random.default_rng(0)), tmp_path / "experts")
    # Experts of a quarter of the units each hold all of them together.
    assert mixture.experts_from_dense and mixture.units_kept == 1.0


def test_differences_are_not_taken_where_units_were_relabelled(honest: Model, tmp_path: Path) -> None:
    tensors = scrub(honest.tensors, honest.config, ("permute",), seed=1)
    known = facts(Model({n: np.asarray(a, np.float32) for n, a in tensors.items()}, honest.config), tmp_path)
    assert known.change is None and known.low_rank is None


def test_zeros_and_units_that_died(honest: Model, tmp_path: Path) -> None:
    changed = {}
    for name, array in honest.tensors.items():
        if "mlp" in name and "down" not in name:
            sparse = array.copy()
            sparse.reshape(-1, 4)[:, 1:3] = 0.0
            changed[name] = sparse
    known = facts(honest.with_tensors(changed), tmp_path / "sparse")
    assert known.zeros > 0.3 > 0.01 > known.base_zeros
    dead = {n: a.copy() for n, a in honest.tensors.items() if "gate_proj" in n or "up_proj" in n}
    for array in dead.values():
        array[5::8] = 0.0
    assert facts(honest.with_tensors(dead), tmp_path / "dead").dead == 2 * 4 * 32


def test_a_narrower_type_than_the_base_is_named(honest: Model, tmp_path: Path) -> None:
    honest.write(tmp_path)
    stored = {
        n: (16 * a).astype(ml_dtypes.float8_e4m3fn) if "proj" in n else a.astype(ml_dtypes.bfloat16)
        for n, a in honest.tensors.items()
    }
    save_file({n: np.ascontiguousarray(a) for n, a in stored.items()}, tmp_path / "model.safetensors")
    answer = gather(models_at(tmp_path), Options(), partial(is_decided, bar=9.0)).facts
    assert answer is not None and answer.narrow_dtype == "F8_E4M3"


def test_rows_are_kept_as_stored_and_columns_are_not() -> None:
    models = models_at(EXAMPLES / "honest")
    pairs, _ = match_groups(models.suspect_anatomy, models.base_anatomy)
    pair = next(p for p in pairs if p.base.name == "mlp" and p.base.layer == 1)
    probe = Probe(pair.suspect, pair.base, np.arange(8, 24), pair.roles)
    (sample,) = read_probes(models.suspect, models.base, [probe], 0)
    kept = {rows.role: rows for rows in stored_rows(sample)}
    assert set(kept) == {"gate", "up"}
    base = read_model(EXAMPLES / "base")
    for rows in kept.values():
        np.testing.assert_array_equal(rows.base, base.tensors[rows.base_tensor][8:24])


@pytest.mark.parametrize(
    ("coins", "heads", "cosine", "silent"),
    [
        (100, 52, 0.01, True),
        (100, 52, -0.01, True),
        (100, 52, 0.2, False),
        (100, 100, 0.01, False),
        (SILENT_COINS - 1, SILENT_COINS // 2, 0.01, False),
    ],
)
def test_a_silent_layer_has_the_coins_to_speak(coins: int, heads: int, cosine: float, silent: bool) -> None:
    assert is_silent(LayerCoins("3", "3", CoinCount(coins, heads), cosine)) is silent
