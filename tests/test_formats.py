"""Every format: the example models, converted, are what they are converted from, and keep their relations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.conversions import CONVERSIONS
from lineage_plugin import Options, compare
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.checkpoint.types import Selection
from lineage_plugin.judge.types import Comparison
from tests.hub import LocalHub

EXAMPLES = Path(__file__).parents[1] / "examples"
BASE = EXAMPLES / "base"
LOCAL_ONLY = {"Flax", "Keras"}
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

Convert = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Return an example model in a format, made once."""
    root = tmp_path_factory.mktemp("formats")
    made: dict[tuple[str, str], Path] = {}

    def convert(format: str, model: str) -> Path:
        if lacking := CONVERSIONS[format].missing():
            pytest.skip(f"needs {', '.join(lacking)}")
        if (format, model) not in made:
            made[format, model] = CONVERSIONS[format](EXAMPLES / model, root / f"{len(made)}")
        return made[format, model]

    return convert


def against(suspect: Path, base: Path = BASE) -> Comparison:
    return compare(str(suspect), str(base)).comparisons[0]


@pytest.mark.parametrize("format", FORMATS)
def test_it_is_the_same_model(converted: Convert, format: str) -> None:
    """Names, shapes, and values up to what the format loses: the conversion is no other model by mistake."""
    plain, model = open_local(EXAMPLES / "honest"), open_local(converted(format, "honest"))
    assert set(model.tensors) == set(plain.tensors)
    bits = [info.encoding.bits for info in model.tensors.values() if info.encoding is not None]
    assert bool(bits) == CONVERSIONS[format].quantised
    for name, info in plain.tensors.items():
        assert model.tensors[name].shape == info.shape
        (have,), (want,) = model.read([Selection(name)]), plain.read([Selection(name)])
        error = np.sqrt(np.mean((have - want) ** 2) / np.mean(want**2))
        assert error <= (
            0.0 if not bits and format != "safetensors F16" else 0.15 if min(bits, default=16) < 8 else 0.04
        )


@pytest.mark.parametrize("format", FORMATS)
def test_the_child_is_derived(converted: Convert, format: str) -> None:
    found = against(converted(format, "honest"))
    assert found.relation == "derived"
    assert found.evidence.log10_e > 100
    assert found.kind == ("quantized" if CONVERSIONS[format].quantised else "finetune")


@pytest.mark.parametrize("format", FORMATS)
def test_the_stranger_is_unrelated(converted: Convert, format: str) -> None:
    found = against(converted(format, "liar"))
    assert (found.relation, found.kind) == ("unrelated", None)
    assert found.evidence.log10_e < 3


@pytest.mark.parametrize("format", FORMATS)
def test_the_twin_is_not_derived(converted: Convert, format: str) -> None:
    assert against(converted(format, "twin")).relation in ("shared-init", "inconclusive")


@pytest.mark.parametrize("format", [name for name in FORMATS if name in OVER_THE_HUB])
def test_over_the_hub(converted: Convert, format: str, tmp_path: Path) -> None:
    mounts = {f"zoo/{model}": converted(format, model) for model in ("honest", "liar")}
    with LocalHub(tmp_path, mounts={**mounts, "zoo/base": BASE}) as hub:
        options = Options(endpoint=hub.endpoint)
        child, stranger = (compare(id, "zoo/base", options=options).comparisons[0] for id in mounts)
    assert (child.relation, stranger.relation) == ("derived", "unrelated")
    assert child.kind == ("quantized" if CONVERSIONS[format].quantised else "finetune")
    assert child.suspect_cost.requests > 0


@pytest.mark.parametrize(("mine", "theirs"), QUANTISED_PAIRS)
def test_quantised_against_quantised(converted: Convert, mine: str, theirs: str) -> None:
    base = converted(theirs, "base")
    assert against(converted(mine, "honest"), base).relation == "derived"
    assert against(converted(mine, "liar"), base).relation == "unrelated"
    assert against(converted(mine, "twin"), base).relation in ("shared-init", "inconclusive")


@pytest.mark.parametrize("format", ["GGUF Q4_0", "bitsandbytes int8", "GPTQ 4 bits", "compressed-tensors FP8 block"])
def test_a_copy_is_a_quantised_copy(converted: Convert, format: str) -> None:
    found = against(converted(format, "base"))
    assert (found.relation, found.kind) == ("derived", "quantized")


@pytest.mark.parametrize("format", [name for name in FORMATS if not CONVERSIONS[name].quantised])
def test_a_plain_copy_is_no_quantised_one(converted: Convert, format: str) -> None:
    found = against(converted(format, "base"))
    assert found.relation in ("derived", "identical")
    assert found.kind is None
