"""Quantised GGUF files of real trained models against their base: the relation and what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineage_plugin import Options, compare
from tests.hub import LocalHub
from tests.test_zoo import ZOO

from .gguf_builders import Kind, convert

pytestmark = pytest.mark.skipif(not (ZOO / "zoo.json").is_file(), reason="the zoo is not here")


@pytest.mark.parametrize("kind", [Kind.F16, Kind.Q8_0, Kind.Q4_0, Kind.Q5_1], ids=lambda kind: kind.name)
def test_converted_child_is_derived(tmp_path: Path, kind: Kind) -> None:
    child = convert(ZOO / "atlas-docs", tmp_path / "child.gguf", kind)
    found = compare(str(child), str(ZOO / "atlas")).comparisons[0]
    assert found.relation == "derived"
    assert found.evidence.log10_e > 100
    assert found.kind == ("finetune" if kind == Kind.F16 else "quantized")


def test_converted_stranger_is_unrelated(tmp_path: Path) -> None:
    stranger = convert(ZOO / "boreas", tmp_path / "stranger.gguf", Kind.Q8_0)
    found = compare(str(stranger), str(ZOO / "atlas")).comparisons[0]
    assert found.relation == "unrelated"
    assert found.evidence.log10_e < 3


@pytest.mark.parametrize(("suspect", "relation"), [("atlas-docs", "derived"), ("boreas", "unrelated")])
def test_both_quantised(tmp_path: Path, suspect: str, relation: str) -> None:
    mine = convert(ZOO / suspect, tmp_path / "mine.gguf", Kind.Q4_0)
    base = convert(ZOO / "atlas", tmp_path / "base.gguf", Kind.Q8_0)
    assert compare(str(mine), str(base)).comparisons[0].relation == relation


@pytest.mark.parametrize(("base", "other"), [("cygnus", "draco"), ("eridanus", "fornax")])
def test_other_layouts(tmp_path: Path, base: str, other: str) -> None:
    """Qwen2 and GPT-2: a model is its own descendant in another format, and none of a stranger."""
    same = convert(ZOO / base, tmp_path / "same.gguf", Kind.Q4_1)
    stranger = convert(ZOO / other, tmp_path / "stranger.gguf", Kind.Q4_1)
    assert compare(str(same), str(ZOO / base)).comparisons[0].relation == "derived"
    assert compare(str(stranger), str(ZOO / base)).comparisons[0].relation == "unrelated"


@pytest.mark.parametrize(("suspect", "relation"), [("atlas-docs", "derived"), ("boreas", "unrelated")])
def test_over_the_hub(hub: LocalHub, suspect: str, relation: str) -> None:
    path = convert(ZOO / suspect, hub.root / "owner" / "name" / "model-Q8_0.gguf", Kind.Q8_0)
    report = compare("owner/name", str(ZOO / "atlas"), options=Options(endpoint=hub.endpoint)).comparisons[0]
    assert report.relation == relation
    assert report.suspect_cost.tensor_bytes > 0
    if relation == "derived":
        assert report.suspect_cost.bytes_read < path.stat().st_size
