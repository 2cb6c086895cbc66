"""The example checkpoints: small, well-formed, really trained, and what their cards say of them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors import safe_open

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = ("base", "honest", "liar", "twin")
MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")


def front_matter(name: str) -> dict[str, Any]:
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    empty, matter, body = text.split("---\n", 2)
    assert empty == ""
    assert body.strip()
    value = yaml.safe_load(matter)
    assert isinstance(value, dict)
    return value


def config(name: str) -> dict[str, Any]:
    value = json.loads((EXAMPLES / name / "config.json").read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def header(name: str) -> dict[str, Any]:
    with (EXAMPLES / name / "model.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        value = json.loads(file.read(size))
    value.pop("__metadata__", None)
    assert isinstance(value, dict)
    return value


def matrix(name: str, tensor: str) -> np.ndarray:
    """Decode a bfloat16 matrix without the package: the upper halves of float32 values."""
    entry = header(name)[tensor]
    with (EXAMPLES / name / "model.safetensors").open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        file.seek(start + entry["data_offsets"][0])
        octets = file.read(entry["data_offsets"][1] - entry["data_offsets"][0])
    halves = np.frombuffer(octets, dtype="<u2").astype(np.uint32) << 16
    return halves.view(np.float32).reshape(entry["shape"])


def layers(name: str) -> list[str]:
    count = config(name)["num_hidden_layers"]
    return [f"model.layers.{layer}.{part}.weight" for layer in range(count) for part in MATRICES]


def cosine(one: str, two: str, tensor: str) -> float:
    a, b = matrix(one, tensor), matrix(two, tensor)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_together_they_are_small() -> None:
    files = [file for file in EXAMPLES.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 6_000_000
    assert {file.relative_to(EXAMPLES).parts[0] for file in files} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_files(name: str) -> None:
    assert {file.name for file in (EXAMPLES / name).iterdir()} == {"README.md", "config.json", "model.safetensors"}


@pytest.mark.parametrize("name", NAMES)
def test_header_is_whole_and_bfloat16(name: str) -> None:
    entries = header(name)
    assert {entry["dtype"] for entry in entries.values()} == {"BF16"}
    ends = sorted(entry["data_offsets"] for entry in entries.values())
    assert ends[0][0] == 0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
    with (EXAMPLES / name / "model.safetensors").open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    assert (EXAMPLES / name / "model.safetensors").stat().st_size == 8 + size + ends[-1][1]
    with safe_open(EXAMPLES / name / "model.safetensors", framework="np") as opened:
        assert set(opened.keys()) == set(entries)


@pytest.mark.parametrize("name", NAMES)
def test_all_values_are_finite(name: str) -> None:
    for tensor, entry in header(name).items():
        if len(entry["shape"]) == 2:
            assert np.isfinite(matrix(name, tensor)).all(), tensor


@pytest.mark.parametrize("name", NAMES)
def test_card(name: str) -> None:
    card = front_matter(name)
    assert card["license"] == "apache-2.0"
    assert card["library_name"] == "transformers"
    assert card["pipeline_tag"] == "text-generation"
    if name == "base":
        assert "base_model" not in card
    else:
        assert card["base_model"] == "examples/base"
        assert card["base_model_relation"] == "finetune"


@pytest.mark.parametrize("name", NAMES)
def test_card_tells_the_truth_in_its_text(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    truth = text.partition("## What it truly is")[2]
    assert truth
    assert ("The claim is false" in truth) == (name in ("liar", "twin"))


@pytest.mark.parametrize("name", ["honest", "liar", "twin"])
def test_config_and_shapes_are_those_of_the_base(name: str) -> None:
    assert config(name) == config("base")
    shapes = {tensor: entry["shape"] for tensor, entry in header("base").items()}
    assert {tensor: entry["shape"] for tensor, entry in header(name).items()} == shapes


def test_the_weights_are_what_the_cards_say() -> None:
    # Independent random matrices of n elements have a cosine of about n**-0.5, here 0.02 at most.
    names = layers("base")
    assert min(cosine("honest", "base", tensor) for tensor in names) > 0.7
    assert max(abs(cosine("liar", "base", tensor)) for tensor in names) < 0.1
    twins = [cosine("twin", "base", tensor) for tensor in names]
    assert 0.02 < np.mean(twins) < 0.7


def test_the_base_has_learned() -> None:
    # Rows of a fresh initialisation have equal energy, up to 2 / sqrt(2 * width): training must have spread them.
    width = config("base")["hidden_size"]
    fresh = np.sqrt(2 / width)
    spread = [np.log((matrix("base", tensor) ** 2).sum(axis=1)).std() for tensor in layers("base")]
    assert np.mean(spread) > 1.5 * fresh
