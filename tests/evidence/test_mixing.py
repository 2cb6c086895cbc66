"""What heads do as wholes: against the products written out, and on copies whose channels were mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import scrub
from benchmarks.stages_null import in_memory
from lineage_plugin.evidence.matched import values_are_mixed
from lineage_plugin.evidence.mixing import head_cosines, is_mixed
from tests.evidence.builders import group

EXAMPLES = Path(__file__).parents[2] / "examples"
LAYERS = [(str(n), str(n)) for n in range(4)]


def values(heads: int, size: int, dim: int, queries: int = 1):  # type: ignore[no-untyped-def]
    block = np.repeat(np.arange(heads), size)
    return group(heads * size, [("v", dim, True), ("o", queries * dim, True)], name="value", block=block)


@pytest.mark.parametrize("queries", [1, 3])
def test_head_cosines_are_those_of_the_products(queries: int) -> None:
    rng = np.random.default_rng(queries)
    heads, size, dim = 3, 4, 10
    pairs = [
        (
            rng.normal(size=(heads * size, dim)).astype(np.float32),
            rng.normal(size=(heads * size, queries * dim)).astype(np.float32),
        )
        for _ in range(2)
    ]
    found = head_cosines(values(heads, size, dim, queries), *pairs)

    def product(pair: tuple[np.ndarray, np.ndarray], head: int) -> np.ndarray:
        rows = slice(head * size, (head + 1) * size)
        written = pair[1][rows].astype(np.float64).reshape(size, queries, dim).sum(axis=1)
        return written.T @ pair[0][rows].astype(np.float64)

    for h in range(heads):
        for g in range(heads):
            one, other = product(pairs[0], h), product(pairs[1], g)
            expected = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
            assert found[h, g] == pytest.approx(expected, abs=1e-9)


def test_mixing_leaves_the_product_and_its_cosine() -> None:
    rng = np.random.default_rng(5)
    heads, size, dim = 2, 4, 16
    v, o = (rng.normal(size=(heads, size, dim)) for _ in range(2))
    mix = rng.normal(size=(heads, size, size)) + 2 * np.eye(size)
    mixed = (mix @ v, np.linalg.inv(mix).transpose(0, 2, 1) @ o)
    flat = [tuple(part.reshape(-1, dim).astype(np.float32) for part in pair) for pair in ((v, o), mixed)]
    found = head_cosines(values(heads, size, dim), flat[1], flat[0])  # type: ignore[arg-type]
    np.testing.assert_allclose(np.diag(found), 1.0, atol=1e-5)
    assert is_mixed([found], 0.0) and is_mixed([found[::-1]], 0.0)
    # Channels that correspond one by one explain the product by themselves.
    assert not is_mixed([found], 0.95)
    assert not is_mixed([], 0.0)


def test_zero_heads_have_no_cosine() -> None:
    empty = (np.zeros((8, 5), np.float32), np.zeros((8, 5), np.float32))
    ones = (np.ones((8, 5), np.float32), np.ones((8, 5), np.float32))
    found = head_cosines(values(2, 4, 5), empty, ones)
    assert not found.any() and not is_mixed([found], 0.0)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: read_model(EXAMPLES / name) for name in ("base", "honest", "liar")}


def disguised(model: Model, *which: str) -> Model:
    tensors = scrub(model.tensors, model.config, which, seed=2)
    return Model({n: np.asarray(a, np.float32) for n, a in tensors.items()}, model.config)


def test_mixed_channels_of_a_child_are_seen(models: dict[str, Model]) -> None:
    assert values_are_mixed(in_memory(disguised(models["honest"], "value-mix"), models["base"]), LAYERS, None)
    # Heads that changed places as well are found, too.
    both = disguised(models["honest"], "value-mix", "permute")
    assert values_are_mixed(in_memory(both, models["base"]), LAYERS, None)


def test_heads_of_a_stranger_are_not(models: dict[str, Model]) -> None:
    assert not values_are_mixed(in_memory(models["liar"], models["base"]), LAYERS, None)
    assert not values_are_mixed(in_memory(disguised(models["liar"], "value-mix"), models["base"]), LAYERS, None)
