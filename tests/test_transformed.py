"""Changed and disguised copies of the shipped micro models, from file to report.

Every change is made three times: of a child of the base, of an unrelated model, and of a twin of the base (same random
start). The child must be recognised, with the right layers, disguise and exactness; the stranger must never be claimed,
and the twin never be called derived, however the search twists them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.derivations import depth, experts, width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import SCRUBS, scrub
from lineage_plugin.api import compare
from lineage_plugin.judge.types import Comparison
from lineage_plugin.options import Options

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("honest", "liar", "twin")
OPTIONS = Options(offline=True)
BAR = OPTIONS.bar

Layers = list[tuple[int, int | None]]


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def arranged(*order: int | None) -> Callable[[Model], Model]:
    return lambda model: depth.arranged(model, order, rng(), outputs=1.0)[0]


def disguised(*which: str) -> Callable[[Model], Model]:
    def change(model: Model) -> Model:
        tensors = scrub(model.tensors, model.config, which, seed=1)
        return Model({name: np.asarray(array, np.float32) for name, array in tensors.items()}, model.config)

    return change


@dataclass(frozen=True)
class Case:
    """A change, and what is to be said of a child that went through it.

    Attributes:
        change: What is done to the model.
        kind: What the child is called.
        layers: Base layer of each layer of the suspect.
        how: What is said to have been undone.
        changes: Words that the description of the changes contains.
        exact: Whether the claim is to rest on exact coins.
        kept: Most that the coefficient on the base may be.
    """

    change: Callable[[Model], Model]
    kind: str = "finetune"
    layers: tuple[int | None, ...] = (0, 1, 2, 3)
    how: frozenset[str] = frozenset()
    changes: tuple[str, ...] = ()
    exact: bool = True
    kept: float = 1.1


MOVED = frozenset({"MLP units stand in another order", "value channels stand in another order"})
FLIPPED = frozenset({"the signs of MLP units were flipped", "the signs of value channels were flipped"})
SCALED = frozenset({"MLP units were rescaled", "value channels were rescaled"})
ROTATED = frozenset({"the residual stream was rotated"})
MIXED = frozenset({"value channels were mixed inside their heads"})

CASES = {
    "upscaled": Case(arranged(0, 1, 2, 1, 2, 3), "upscaled", (0, 1, 2, 1, 2, 3), changes=("layers 1-2 appear twice",)),
    "dropped": Case(arranged(0, 1, 3), "pruned", (0, 1, 3), changes=("1 layer dropped: 2",)),
    "inserted": Case(
        arranged(0, None, 1, 2, None, 3), "upscaled", (0, None, 1, 2, None, 3), changes=("2 layers inserted: 1, 4",)
    ),
    "re-ordered": Case(
        arranged(0, 2, 1, 3), "finetune", (0, 2, 1, 3), changes=("the layers stand in another order: 0, 2, 1, 3",)
    ),
    "partial": Case(arranged(0, 1, None, 3), "partial", changes=("layers without a trace of the base: 2",)),
    "units pruned": Case(lambda m: width.units_pruned(m, 0.75), "pruned", changes=("75% of the base's hidden units",)),
    "value head pruned": Case(
        lambda m: width.heads_pruned(m, 1), "pruned", changes=("50% of the base's hidden units",)
    ),
    "heads pooled": Case(lambda m: width.kv_pooled(m, 1), "pruned"),
    "stream pruned": Case(
        lambda m: width.stream_pruned(m, 72),
        "pruned",
        how=frozenset({"72 of 96 channels kept"}),
        changes=("75% of the base's residual channels",),
    ),
    "upcycled": Case(
        lambda m: experts.upcycled(m, 0.1, rng()), "upcycled", changes=("experts made of the base's dense layers",)
    ),
    "fine-grained experts": Case(
        lambda m: experts.split(m, rng()),
        "upcycled",
        how=frozenset({"MLP units stand in another order"}),
        kept=1.5,  # what experts write was doubled
    ),
    "signs": Case(disguised("signs"), how=FLIPPED),
    "permute": Case(disguised("permute"), how=MOVED),
    "residual": Case(disguised("residual"), how=frozenset({"the residual stream was permuted and flipped in sign"})),
    "rotate": Case(disguised("rotate"), how=ROTATED),
    "value-mix": Case(disguised("value-mix"), how=MIXED),
    "rescale": Case(disguised("rescale"), how=SCALED),
    "signs and permute": Case(disguised("signs", "permute"), how=MOVED | FLIPPED),
    "all scrubs": Case(disguised(*SCRUBS), how=MOVED | FLIPPED | SCALED | ROTATED | MIXED, exact=False),
}
"""Disguises that leave one kind of coin stay exact: signs alone, orders alone, or units under a stream that was left as
it is, whose channels then have the coins."""


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: read_model(EXAMPLES / name) for name in ("base", *NAMES)}


def against_base(model: Model, folder: Path, base: Path = EXAMPLES / "base") -> Comparison:
    model.write(folder)
    (comparison,) = compare(str(folder), str(base), options=OPTIONS).comparisons
    return comparison


def layer_map(comparison: Comparison) -> Layers:
    return [(int(row.suspect), None if row.base is None else int(row.base)) for row in comparison.layers]


@pytest.mark.parametrize("name", CASES)
def test_a_changed_child_is_derived(name: str, models: dict[str, Model], tmp_path: Path) -> None:
    case = CASES[name]
    found = against_base(case.change(models["honest"]), tmp_path / "suspect")
    assert (found.relation, found.kind) == ("derived", case.kind)
    assert layer_map(found) == list(enumerate(case.layers))
    assert (set() if found.scrubbed is None else set(found.scrubbed.how)) == case.how
    assert all(any(words in change for change in found.changes) for words in case.changes)
    assert found.evidence.exact == case.exact
    assert (found.evidence.log10_e >= BAR) == case.exact
    if not case.exact:
        assert found.calibrated is not None and found.calibrated.log10_value >= BAR
        assert found.scrubbed is not None and found.scrubbed.calibrated_on
    # What was kept shows in the coefficient: the child lies near 1 whatever was undone.
    assert found.kept.estimate is not None and 0.6 < found.kept.estimate < case.kept


@pytest.mark.parametrize("name", CASES)
def test_a_changed_stranger_is_never_claimed(name: str, models: dict[str, Model], tmp_path: Path) -> None:
    found = against_base(CASES[name].change(models["liar"]), tmp_path / "suspect")
    assert found.relation in ("unrelated", "inconclusive")
    assert found.evidence.log10_e < 3
    assert found.calibrated is None or found.calibrated.log10_value < 3
    assert found.scrubbed is None and found.kind is None


@pytest.mark.parametrize("name", CASES)
def test_a_changed_twin_is_never_derived(name: str, models: dict[str, Model], tmp_path: Path) -> None:
    found = against_base(CASES[name].change(models["twin"]), tmp_path / "suspect")
    assert found.relation in ("shared-init", "inconclusive")
    assert found.kind is None


def with_tokenizer(folder: Path, order: np.ndarray) -> Path:
    """Write a tokenizer whose row r is the token that had number ``order[r]``."""
    vocabulary = {f"token{number}": row for row, number in enumerate(order.tolist())}
    model: dict[str, Any] = {"type": "BPE", "vocab": vocabulary, "merges": []}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": model}))
    return folder


def reordered(model: Model, order: np.ndarray) -> Model:
    rows = ("model.embed_tokens.weight", "lm_head.weight")
    return model.with_tensors({name: model.tensors[name][order] for name in rows})


@pytest.mark.parametrize("who", NAMES)
def test_tokens_are_matched_by_what_they_spell(who: str, models: dict[str, Model], tmp_path: Path) -> None:
    """The stream is rotated and the vocabulary stands in another order: only the tokenizers tell rows apart."""
    order = rng().permutation(256)
    models["base"].write(with_tokenizer(tmp_path / "base", np.arange(256)))
    suspect = reordered(disguised("rotate")(models[who]), order)
    found = against_base(suspect, with_tokenizer(tmp_path / "suspect", order), tmp_path / "base")
    if who == "honest":
        assert (found.relation, found.evidence.exact) == ("derived", True)
        assert found.scrubbed is not None and set(found.scrubbed.how) == ROTATED
        (tmp_path / "suspect" / "tokenizer.json").unlink()
        blind = against_base(suspect, tmp_path / "suspect", tmp_path / "base")
        assert blind.relation in ("unrelated", "inconclusive") and blind.evidence.log10_e < 3
    else:
        assert found.relation in (("unrelated", "inconclusive") if who == "liar" else ("shared-init", "inconclusive"))
