"""Every format: the example models, converted, are what they are converted from, and keep their relations.

Two of their four layers are enough for every relation, in half the time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from benchmarks.conversions import CONVERSIONS
from lineage_plugin import Options, compare
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.checkpoint.types import Selection
from lineage_plugin.judge.types import Comparison
from tests.hub import LocalHub

EXAMPLES = Path(__file__).parents[1] / "examples"
LAYERS = 2
OVER_THE_HUB = ("consolidated", "PyTorch shards", "GGUF Q4_0", "bitsandbytes NF4 double", "GPTQ 4 bits act-order")
QUANTISED_PAIRS = (
    ("GGUF Q4_0", "GGUF Q4_0"),
    ("bitsandbytes NF4 double", "bitsandbytes NF4 double"),
    ("AWQ 4 bits", "GGUF Q8_0"),
    ("compressed-tensors NVFP4", "GPTQ 4 bits act-order"),
)
SLOW = {"ONNX"}
"""An export takes longer than all other formats together; the format has tests of its own."""
FORMATS = [name for name in CONVERSIONS if name not in SLOW]

Get = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def get(tmp_path_factory: pytest.TempPathFactory) -> Get:
    """Return an example model, ``plain`` or in a format; each is made once."""
    root = tmp_path_factory.mktemp("formats")
    made: dict[tuple[str, str], Path] = {}

    def get(model: str, format: str) -> Path:
        if (model, format) in made:
            return made[model, format]
        target = root / f"{model} {format}"
        if format == "plain":
            target.mkdir()
            tensors = load_file(EXAMPLES / model / "model.safetensors")
            layer = re.compile(r"^model\.layers\.(\d+)\.")
            kept = {n: t for n, t in tensors.items() if not (match := layer.match(n)) or int(match[1]) < LAYERS}
            save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
            config = json.loads((EXAMPLES / model / "config.json").read_text())
            (target / "config.json").write_text(json.dumps({**config, "num_hidden_layers": LAYERS}))
        else:
            if lacking := CONVERSIONS[format].missing():
                pytest.skip(f"needs {', '.join(lacking)}")
            CONVERSIONS[format](get(model, "plain"), target)
        made[model, format] = target
        return target

    return get


def against(suspect: Path, base: Path) -> Comparison:
    return compare(str(suspect), str(base)).comparisons[0]


def fitting(format: str) -> str:
    """The kind of a converted child."""
    return "quantized" if CONVERSIONS[format].quantised else "finetune"


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_the_same_model(get: Get, format: str) -> None:
    """Names, shapes, and values up to what the format loses: the conversion is no other model by mistake."""
    plain, model = open_local(get("honest", "plain")), open_local(get("honest", format))
    assert set(model.tensors) == set(plain.tensors)
    bits = [info.encoding.bits for info in model.tensors.values() if info.encoding is not None]
    assert bool(bits) == CONVERSIONS[format].quantised
    # Half a step of 16 levels over the range of a group is a tenth of the spread of its numbers.
    exact = not bits and not format.endswith(" F16")
    allowed = 0.0 if exact else 0.15 if min(bits, default=16) < 8 else 0.04
    for name, info in plain.tensors.items():
        assert model.tensors[name].shape == info.shape
        (have,), (want,) = model.read([Selection(name)]), plain.read([Selection(name)])
        assert np.sqrt(np.mean((have - want) ** 2) / np.mean(want**2)) <= allowed


@pytest.mark.parametrize("format", FORMATS)
def test_the_child_is_derived(get: Get, format: str) -> None:
    found = against(get("honest", format), get("base", "plain"))
    assert (found.relation, found.kind) == ("derived", fitting(format))
    assert found.evidence.log10_e > 100


@pytest.mark.parametrize("format", FORMATS)
def test_the_stranger_is_unrelated(get: Get, format: str) -> None:
    found = against(get("liar", format), get("base", "plain"))
    assert (found.relation, found.kind) == ("unrelated", None)
    assert found.evidence.log10_e < 3


@pytest.mark.parametrize("format", [name for name in FORMATS if CONVERSIONS[name].quantised])
def test_the_twin_is_not_derived(get: Get, format: str) -> None:
    """Rounding takes what tells descent from a shared start; plain containers hold the very same values."""
    assert against(get("twin", format), get("base", "plain")).relation in ("shared-init", "inconclusive")


@pytest.mark.parametrize("format", OVER_THE_HUB)
def test_over_the_hub(get: Get, format: str, tmp_path: Path) -> None:
    mounts = {f"zoo/{model}": get(model, format) for model in ("honest", "liar")}
    with LocalHub(tmp_path, mounts={**mounts, "zoo/base": get("base", "plain")}) as hub:
        options = Options(endpoint=hub.endpoint)
        child, stranger = (compare(id, "zoo/base", options=options).comparisons[0] for id in mounts)
    assert (child.relation, stranger.relation) == ("derived", "unrelated")
    assert child.kind == fitting(format)
    assert child.suspect_cost.requests > 0


@pytest.mark.parametrize(("mine", "theirs"), QUANTISED_PAIRS)
def test_quantised_against_quantised(get: Get, mine: str, theirs: str) -> None:
    base = get("base", theirs)
    assert against(get("honest", mine), base).relation == "derived"
    assert against(get("liar", mine), base).relation == "unrelated"
    assert against(get("twin", mine), base).relation in ("shared-init", "inconclusive")


@pytest.mark.parametrize("format", ["GGUF Q4_0", "bitsandbytes int8", "GPTQ 4 bits", "compressed-tensors FP8 block"])
def test_a_copy_is_a_quantised_copy(get: Get, format: str) -> None:
    found = against(get("base", format), get("base", "plain"))
    assert (found.relation, found.kind) == ("derived", "quantized")


@pytest.mark.parametrize("format", [name for name in FORMATS if not CONVERSIONS[name].quantised])
def test_a_plain_copy_is_no_quantised_one(get: Get, format: str) -> None:
    found = against(get("base", format), get("base", "plain"))
    assert found.relation in ("derived", "identical")
    assert found.kind is None
