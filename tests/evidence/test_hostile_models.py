"""Models that lie or are too small: every stage leaves out what it cannot use, and none stumbles."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import scrub
from benchmarks.stages_null import in_memory
from lineage_plugin.evidence.combination import combine
from lineage_plugin.evidence.gather import gather
from lineage_plugin.evidence.pair import PairEvidence
from lineage_plugin.judge.relation import is_decided
from lineage_plugin.options import Options

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = Options()
EMBEDDING = "model.embed_tokens.weight"
Change = Callable[[np.ndarray], np.ndarray | None]


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    """The base, and relabelled copies of its child and of a stranger, so that all stages have to run."""
    read = {name: read_model(EXAMPLES / name) for name in ("base", "honest", "liar")}
    return {name: model if name == "base" else disguised(model, "permute") for name, model in read.items()}


def disguised(model: Model, *which: str) -> Model:
    tensors = scrub(model.tensors, model.config, which, seed=2)
    return Model({name: np.asarray(array, np.float32) for name, array in tensors.items()}, model.config)


def found(suspect: Model, base: Model) -> PairEvidence:
    return gather(in_memory(suspect, base), OPTIONS, partial(is_decided, bar=OPTIONS.bar))


def changed(model: Model, part: str, change: Change) -> Model:
    """Change every tensor whose name contains ``part``; None removes it."""
    tensors = {name: change(array.copy()) if part in name else array for name, array in model.tensors.items()}
    return Model({name: array for name, array in tensors.items() if array is not None}, model.config)


def first_rows(value: float, share: float) -> Change:
    def change(array: np.ndarray) -> np.ndarray:
        array[: max(1, int(share * array.shape[0]))] = value
        return array

    return change


LIES: dict[str, tuple[str, Change]] = {
    "a layer without a gate": ("layers.1.mlp.gate_proj", lambda array: None),
    "a layer of fewer units": ("layers.1.mlp.up_proj", lambda array: array[:100]),
    "a layer of fewer query heads": ("layers.1.self_attn.q_proj", lambda array: array[:32]),
    "a gain of the wrong length": ("layers.1.input_layernorm", lambda array: array[:50]),
    "a gain that is no number": ("input_layernorm", first_rows(np.nan, 1.0)),
    "three token rows": (EMBEDDING, lambda array: array[:3]),
    "no token rows": (EMBEDDING, lambda array: array[:0]),
    "embeddings without channels": (EMBEDDING, lambda array: array[:, :0]),
    "token rows that are no numbers": (EMBEDDING, first_rows(np.nan, 0.9)),
    "endless embeddings": (EMBEDDING, first_rows(np.inf, 1.0)),
    "one token over and over": (EMBEDDING, lambda array: np.repeat(array[:1], array.shape[0], axis=0)),
    "a layer of infinities": ("layers.1.", first_rows(np.inf, 1.0)),
    "a layer of zeros": ("layers.1.", first_rows(0.0, 1.0)),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("who", ["honest", "liar"])
def test_a_lie_costs_evidence_and_makes_none(models: dict[str, Model], who: str, lie: str) -> None:
    evidence = found(changed(models[who], *LIES[lie]), models["base"])
    assert math.isfinite(evidence.log10_e)
    if who == "honest":
        # Three of four layers are as they were.
        assert evidence.log10_e >= OPTIONS.bar and sum(row.cosine > 0.5 for row in evidence.layers) >= 3
    else:
        assert evidence.log10_e < 3


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_models_that_hold_nothing_show_nothing(models: dict[str, Model], value: float) -> None:
    empty = changed(models["honest"], "", first_rows(value, 1.0))
    for base in (models["base"], changed(models["base"], "", first_rows(value, 1.0))):
        evidence = found(empty, base)
        assert evidence.count.coins == 0 and evidence.log10_e == 0 and evidence.facts is None


def tiny(layers: int, units: int, width: int = 32, head: int = 16) -> Model:
    """A random model with one key-value head."""
    rng = np.random.default_rng([layers, units, width])

    def drawn(*shape: int) -> np.ndarray:
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)

    tensors = {EMBEDDING: drawn(64, width), "lm_head.weight": drawn(64, width), "model.norm.weight": 1 + drawn(width)}
    shapes = {
        "input_layernorm": (width,),
        "post_attention_layernorm": (width,),
        "mlp.gate_proj": (units, width),
        "mlp.up_proj": (units, width),
        "mlp.down_proj": (width, units),
        "self_attn.q_proj": (2 * head, width),
        "self_attn.k_proj": (head, width),
        "self_attn.v_proj": (head, width),
        "self_attn.o_proj": (width, 2 * head),
    }
    for layer in range(layers):
        for name, shape in shapes.items():
            values = drawn(*shape)
            tensors[f"model.layers.{layer}.{name}.weight"] = 1 + values if len(shape) == 1 else values
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": units,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": head,
        "vocab_size": 64,
    }
    return Model(tensors, config)


def child(base: Model, *which: str) -> Model:
    rng = np.random.default_rng(3)
    tensors = {
        name: (array + 0.01 * rng.standard_normal(array.shape)).astype(np.float32)
        for name, array in base.tensors.items()
    }
    return disguised(Model(tensors, base.config), *which) if which else Model(tensors, base.config)


@pytest.mark.parametrize("which", [("permute",), ("signs", "permute"), ("rotate",)])
def test_small_groups_are_loud_together_though_none_can_be_described(which: tuple[str, ...]) -> None:
    """Sixteen units a group: too few for one of them to be called alike, and enough for all of them."""
    base = tiny(12, 16)
    evidence = found(child(base, *which), base)
    assert evidence.log10_e >= OPTIONS.bar


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("which", [(), ("permute",), ("rotate",), ("signs", "permute", "rotate", "rescale")])
@pytest.mark.parametrize(("layers", "units", "width", "head"), [(1, 16, 32, 16), (1, 2, 4, 2), (3, 2, 2, 2)])
def test_the_smallest_models_pass_through_all_stages(
    layers: int, units: int, width: int, head: int, which: tuple[str, ...]
) -> None:
    base = tiny(layers, units, width, head)
    evidence = found(child(base, *which), base)
    assert math.isfinite(evidence.log10_e)
    # No pairing has more coins than there are units to swap and to flip.
    assert evidence.count.coins <= 2 * layers * (units + head) + 2 * width


@pytest.mark.parametrize("seed", range(12))
def test_models_that_huge_values_make_alike_have_no_weights(seed: int) -> None:
    """One reference full of huge values: the differences of all others from it are alike to the last bit."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((8, 4, 50))
    vectors[:, :, :3] += 1e30 * rng.standard_normal((8, 1, 3))
    gram = np.einsum("cid,cjd->cij", vectors, vectors)
    assert all(effect.estimate is None for effect in combine([gram]))
