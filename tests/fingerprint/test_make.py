"""Making fingerprints of real models: the same however stored, cheap over the Hub, and as good as the weights."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sparse
from benchmarks.conversions import CONVERSIONS
from benchmarks.derivations import depth
from benchmarks.derivations.layouts import read_model
from benchmarks.fingerprints import SHAPES, by_fingerprints, by_weights, differences, files
from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.errors import UsageError
from lineage_plugin.fingerprint.file import to_bytes
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.options import Options
from tests.hub import LocalHub

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("base", "honest", "liar", "twin")
ZOO = Path(os.environ.get("LINEAGE_ZOO", Path(__file__).parents[3] / "shared" / "zoo"))
PAIRS = json.loads((ZOO / "zoo.json").read_text())["pairs"] if (ZOO / "zoo.json").is_file() else []
OPTIONS = Options()
STORAGES = ("safetensors F32", "safetensors F16", "safetensors shards", "consolidated", "PyTorch .bin", "GGUF F16")


def made(folder: Path) -> Fingerprint:
    return fingerprint_of(open_checkpoint(str(folder), options=OPTIONS))


@cache
def example(name: str) -> Fingerprint:
    return files(EXAMPLES / name)[1]


# The same for the same weights --------------------------------------------------------------------------------------


def test_equal_to_the_byte() -> None:
    assert to_bytes(made(EXAMPLES / "base")) == to_bytes(made(EXAMPLES / "base")) == files(EXAMPLES / "base")[0]


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_changes_only_the_source(storage: str, tmp_path: Path) -> None:
    conversion = CONVERSIONS[storage]
    if conversion.missing():
        pytest.skip(f"needs {', '.join(conversion.missing())}")
    found = made(conversion(EXAMPLES / "base", tmp_path / "base"))
    assert differences(example("base"), found) == (0, [])
    assert to_bytes(replace(found, source=example("base").source)) == files(EXAMPLES / "base")[0]


def test_the_hub_changes_only_the_source() -> None:
    with LocalHub(EXAMPLES, mounts={"same/base": EXAMPLES / "base"}) as hub:
        found = fingerprint_of(open_checkpoint("same/base", options=Options(endpoint=hub.endpoint)))
    assert (found.source.id, example("base").source.id) == ("same/base", "base")
    assert found.source.revision is not None
    assert all(digest is not None for _, digest in found.source.files.values())
    assert to_bytes(replace(found, source=example("base").source)) == files(EXAMPLES / "base")[0]


def test_digests_of_local_files_are_those_of_the_hub() -> None:
    with LocalHub(EXAMPLES, mounts={"same/base": EXAMPLES / "base"}) as hub:
        found = fingerprint_of(open_checkpoint("same/base", options=Options(endpoint=hub.endpoint)))
    local = fingerprint_of(open_checkpoint(str(EXAMPLES / "base"), options=OPTIONS), digests=True)
    assert local.source.files == found.source.files


def test_another_model_is_another_fingerprint() -> None:
    bits, _ = differences(example("base"), example("liar"))
    total = sum(strip.bits.size * 8 for shelf in example("base").shelves for strip in shelf.strips)
    assert 0.4 < bits / total < 0.6


def test_a_path_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "secret").symlink_to(EXAMPLES / "base", target_is_directory=True)
    found = made(tmp_path / "secret")
    assert found.source.id == "secret"
    assert str(tmp_path).encode() not in to_bytes(found)


def test_an_adapter_has_none(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    target = "base_model.model.model.layers.0.mlp.up_proj"
    factors = {"lora_A": np.ones((4, 96), np.float32), "lora_B": np.ones((256, 4), np.float32)}
    save_file({f"{target}.{name}.weight": a for name, a in factors.items()}, tmp_path / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["up_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="an adapter has no fingerprint"):
        made(tmp_path)


# What it costs ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="files with holes")
def test_a_large_model_costs_megabytes(tmp_path: Path) -> None:
    """80 layers, 141 GB: the size of the file, and all that is sent for it."""
    shape, shards = SHAPES["70B"]
    sparse.write(tmp_path / "sparse" / "base", "base", shape, shards, fingerprint_of)
    with LocalHub(tmp_path, fast_digests=True) as hub:
        found = fingerprint_of(open_checkpoint("sparse/base", options=Options(endpoint=hub.endpoint)))
        assert hub.log.requests() <= 200
        assert hub.log.sent() <= 24_000_000
    assert len(to_bytes(found)) <= 128 << 10
    assert all(shelf.usable.all() for shelf in found.shelves)
    assert {shelf.kind: shelf.layers for shelf in found.shelves}["mlp"] == tuple(range(80))


# As good as the weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suspect", "base"), [*itertools.permutations(NAMES, 2)])
def test_examples(suspect: str, base: str) -> None:
    found = by_fingerprints(example(suspect), example(base))
    weights = by_weights(EXAMPLES / suspect, EXAMPLES / base)
    # Four layers of 96 channels: what tells a twin from a child is measured coarsely, and may remain open.
    assert found.relation in {weights.relation, "inconclusive" if weights.relation == "shared-init" else ""}
    if weights.log10_e >= OPTIONS.bar:
        assert 1 / 3 <= found.log10_e / weights.log10_e <= 3
    else:
        assert found.log10_e < 3


@pytest.mark.parametrize("change", ["upscaled", "dropped", "inserted", "wrapped", "reordered"])
def test_changed_depth(change: str, tmp_path: Path) -> None:
    model, layers = getattr(depth, change)(read_model(EXAMPLES / "honest"), np.random.default_rng(0))
    model.write(tmp_path / change)
    found = by_fingerprints(made(tmp_path / change), example("base"))
    assert found.relation == "derived"
    assert found.layers == {str(at): None if of is None else str(of) for at, of in enumerate(layers)}
    assert by_fingerprints(made(tmp_path / change), example("liar")).relation == "unrelated"


@pytest.mark.skipif(not PAIRS, reason="the zoo is not here")
@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: f"{p['suspect']}:{p['base']}")
def test_zoo(pair: dict[str, str]) -> None:
    folders = [ZOO / pair[side].removeprefix("zoo/") for side in ("suspect", "base")]
    for suspect, base in (folders, folders[::-1]):
        found = by_fingerprints(files(suspect)[1], files(base)[1])
        assert found.relation == pair["relation"]
        if pair["relation"] == "unrelated":
            assert found.log10_e < 3
        else:
            assert 1 / 3 <= found.log10_e / by_weights(suspect, base).log10_e <= 3


@pytest.mark.skipif(not PAIRS, reason="the zoo is not here")
def test_size_of_a_zoo_model() -> None:
    assert len(files(ZOO / "atlas")[0]) <= 16 << 10
