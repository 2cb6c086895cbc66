"""Bytes, requests and memory of a comparison: bounded, whatever the size and depth of the models."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.large import Disguise
from benchmarks.synthetic import Changes, Shape, write
from lineage_plugin.api import compare
from lineage_plugin.evidence import stage_layers, stage_units, tally
from lineage_plugin.judge.types import Comparison
from lineage_plugin.options import Options
from tests.hub import LocalHub

WIDE = Shape(layers=6, width=2048, units=192, heads=2, kv_heads=2, head_dim=64, vocabulary=256)
"""Long rows and few of them: what is read shows as in a large model."""
LEAN = Shape(layers=6, width=64, units=256, heads=4, kv_heads=2, head_dim=16, vocabulary=256)
CHANGED = {
    "base": ("base", WIDE, Changes()),
    "other": ("other", WIDE, Changes()),
    "upscaled": ("child", WIDE, Changes(layers=[*range(4), *range(2, 6)])),
    "pruned": ("child", WIDE, Changes(units=np.arange(0, 192, 2))),
    "relabelled": ("child", WIDE, Changes(rewrite=Disguise(WIDE, "child", 1, rotate=False, mix=False))),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, (role, shape, changes) in CHANGED.items():
        write(root / "m" / name, role, shape, changes=changes)
    return root


def against_base(root: Path, hub: LocalHub, name: str, budget: int | None = None) -> Comparison:
    hub.log.clear()
    options = Options(endpoint=hub.endpoint, budget=budget)
    return compare(f"m/{name}", "m/base", options=options).comparisons[0]


def fetched(hub: LocalHub, repo: str) -> dict[str, list[tuple[int, int]]]:
    """Return the byte ranges of weight files that were sent, by file, in order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for record in hub.log.records(repo=repo, status=206):
        if record.file.endswith(".safetensors"):
            first, last = record.range.removeprefix("bytes=").split("-")
            found.setdefault(record.file, []).append((int(first), int(last) + 1))
    return {file: sorted(ranges) for file, ranges in found.items()}


@pytest.mark.parametrize(("name", "most"), [("other", 4_000_000), ("upscaled", 5_000_000), ("pruned", 5_000_000)])
def test_over_the_network_little_is_read_and_nothing_twice(models: Path, name: str, most: int) -> None:
    with LocalHub(models) as hub:
        found = against_base(models, hub, name)
        assert found.relation == ("unrelated" if name == "other" else "derived")
        for cost, repo in ((found.suspect_cost, f"m/{name}"), (found.base_cost, "m/base")):
            assert cost.bytes_read <= most
            assert cost.bytes_read < cost.bytes_total / 3
            for ranges in fetched(hub, repo).values():
                again = sum(max(0, stop - start) for (_, stop), (start, _) in pairwise(ranges))
                assert again == 0
    if name == "other":
        assert max(found.suspect_cost.requests, found.base_cost.requests) <= 40


@pytest.mark.parametrize("budget", [400_000, 5_000_000])
@pytest.mark.parametrize("name", ["other", "upscaled", "relabelled"])
def test_no_stage_reads_more_than_the_budget(models: Path, name: str, budget: int) -> None:
    with LocalHub(models) as hub:
        found = against_base(models, hub, name, budget)
    assert max(found.suspect_cost.bytes_read, found.base_cost.bytes_read) <= budget
    assert (found.relation == "derived") <= (name != "other")
    local = compare(str(models / "m" / name), str(models / "m" / "base"), options=Options(budget=budget))
    assert max(local.comparisons[0].suspect_cost.bytes_read, local.comparisons[0].base_cost.bytes_read) <= budget


def peak(suspect: Path, base: Path) -> tuple[Comparison, int]:
    """Return the comparison of two folders and the largest memory that it held, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        report = compare(str(suspect), str(base))
        return report.comparisons[0], tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_depth_beyond_what_is_documented(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if these were large models: what may be held is less than they are.
    monkeypatch.setattr(stage_units, "SMALL", 1 << 18)
    monkeypatch.setattr(stage_layers, "HELD_BYTES", 1 << 20)
    monkeypatch.setattr(tally, "STORED_BYTES", 1 << 20)
    seen = {}
    for layers in (6, 12):
        shape = Shape(**{**vars(LEAN), "layers": layers})
        base = write(tmp_path / f"base-{layers}", "base", shape)
        changes = Changes(rewrite=Disguise(shape, "child", 1))
        found, seen[layers] = peak(write(tmp_path / f"child-{layers}", "child", shape, changes=changes), base)
        assert found.relation == "derived"
        assert found.calibrated is not None
    assert seen[12] < 1.5 * seen[6]
    assert seen[12] < 64 << 20


def test_every_stage_says_that_it_works(tmp_path: Path) -> None:
    base = write(tmp_path / "base", "base", LEAN)
    child = write(tmp_path / "child", "child", LEAN, changes=Changes(rewrite=Disguise(LEAN, "child", 1)))
    calls: list[tuple[str, int, int]] = []
    compare(str(child), str(base), progress=lambda *call: calls.append(call))
    assert {stage for stage, _, _ in calls} >= {
        *("reading layers", "aligning layers", "comparing channels"),
        *("matching units", "recovering the basis"),
    }
    assert all(0 <= done <= total for _, done, total in calls)
    assert ("matching units", LEAN.layers, LEAN.layers) in calls


def test_the_disguise_of_the_benchmark_changes_no_output(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    shape = Shape(layers=2, width=32, units=48, heads=4, kv_heads=2, head_dim=8, vocabulary=64)
    logits = []
    for rewrite in (None, Disguise(shape, "child", 1, rotate=False, mix=False), Disguise(shape, "child", 1)):
        folder = write(tmp_path / str(len(logits)), "child", shape, dtype="F32", changes=Changes(rewrite=rewrite))
        model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            logits.append(model(torch.arange(40)[None]).logits)
    for disguised in logits[1:]:
        assert float((disguised - logits[0]).abs().max()) < 1e-4 * float(logits[0].std())
