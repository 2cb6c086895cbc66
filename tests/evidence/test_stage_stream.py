"""The residual stream: which token rows belong together, coins of the channels, and the basis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from benchmarks.derivations import width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import scrub
from benchmarks.stages_null import in_memory, pair_of, run_stages
from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.evidence.models import Models, models_of
from lineage_plugin.evidence.stage_stream import CHANNEL_TOKENS, find_basis, shared_tokens, toss_channels
from lineage_plugin.options import Options
from lineage_plugin.tokens import TokenMatch

EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = Options()
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As comparisons do: small decompositions wait for their threads otherwise."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    return {name: read_model(EXAMPLES / name) for name in ("base", "honest", "liar")}


def disguised(model: Model, *which: str) -> Model:
    tensors = scrub(model.tensors, model.config, which, seed=2)
    return Model({n: np.asarray(a, np.float32) for n, a in tensors.items()}, model.config)


def written(model: Model, folder: Path, tokenizer: str | None) -> Path:
    model.write(folder)
    if tokenizer is not None:
        (folder / "tokenizer.json").write_text(tokenizer)
    return folder


def tokenizer(order: np.ndarray) -> str:
    vocabulary = {f"t{number:03}": int(row) for number, row in enumerate(np.argsort(order))}
    return json.dumps({"added_tokens": [], "model": {"type": "BPE", "vocab": vocabulary, "merges": []}})


def opened(suspect: Path, base: Path) -> Models:
    return models_of(*(open_checkpoint(str(path), options=OPTIONS) for path in (suspect, base)))


def tokens_of(models: Models) -> TokenMatch:
    found = shared_tokens(models)
    assert found is not None
    return found


# --- tokens -------------------------------------------------------------------------------------------------------


def test_rows_in_another_order_are_matched_though_the_files_have_one_size(
    models: dict[str, Model], tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(256)
    one, other = tokenizer(order), tokenizer(np.arange(256))
    # The trap: sorted by spelling, the file of any order has the same number of digits.
    assert len(one) == len(other) and one != other
    pair = opened(
        written(models["honest"], tmp_path / "suspect", one), written(models["base"], tmp_path / "base", other)
    )
    found = tokens_of(pair)
    assert found.assumed is None and len(found) == 256
    np.testing.assert_array_equal(order[found.suspect], found.base)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model": {"vocab": 3}}', '{"model": null}', "\x00\xff"])
def test_a_damaged_tokenizer_leaves_rows_of_equal_number(
    models: dict[str, Model], tmp_path: Path, content: str | None
) -> None:
    """What lies beside the weights must not keep them from being looked at."""
    base = written(models["base"], tmp_path / "base", tokenizer(np.arange(256)))
    found = tokens_of(opened(written(models["honest"], tmp_path / "suspect", content), base))
    np.testing.assert_array_equal(found.suspect, np.arange(256))
    assert found.assumed


def test_rows_that_a_tokenizer_invents_are_left_out(models: dict[str, Model], tmp_path: Path) -> None:
    lying = {"model": {"type": "BPE", "vocab": {f"t{n:03}": 1000 + n for n in range(256)} | {"t001": 7}, "merges": []}}
    base = written(models["base"], tmp_path / "base", tokenizer(np.arange(256)))
    pair = opened(written(models["liar"], tmp_path / "suspect", json.dumps(lying)), base)
    found = tokens_of(pair)
    assert all(row < 256 for row in found.suspect.tolist())
    assert toss_channels(pair, found, OPTIONS) == () and find_basis(pair, found, OPTIONS) is None


def test_without_a_stream_there_are_no_tokens(models: dict[str, Model]) -> None:
    hidden = models["honest"].with_tensors({})
    tensors = {n: a for n, a in hidden.tensors.items() if n != EMBEDDING}
    assert shared_tokens(in_memory(Model(tensors, hidden.config), models["base"])) is None


# --- channels -----------------------------------------------------------------------------------------------------


def counts(suspect: Model, base: Model) -> list[tuple[CoinCount, CoinCount]]:
    pair = in_memory(suspect, base)
    return [(way.swap, way.sign) for way in toss_channels(pair, tokens_of(pair), OPTIONS)]


def test_channels_of_a_child_in_stored_order_and_matched(models: dict[str, Model]) -> None:
    stored, matched = counts(models["honest"], models["base"])
    assert stored == (CoinCount(48, 48), CoinCount(96, 96)) and matched == (CoinCount(), CoinCount(96, 96))
    # Moved but not flipped: only the match sees it.
    order = np.random.default_rng(0).permutation(96)
    moved = models["honest"].with_tensors({EMBEDDING: models["honest"].tensors[EMBEDDING][:, order]})
    stored, matched = counts(moved, models["base"])
    assert (stored[0] + stored[1]).heads < 100
    assert matched[1].coins >= 94 and matched[1].heads >= matched[1].coins - 1


def test_of_a_narrower_stream_only_the_match(models: dict[str, Model]) -> None:
    (matched,) = counts(width.stream_pruned(models["honest"], 72), models["base"])
    assert matched == (CoinCount(), CoinCount(72, 72))


@pytest.mark.parametrize("who", ["honest", "liar"])
def test_flipping_every_channel_turns_every_sign_and_nothing_else(models: dict[str, Model], who: str) -> None:
    suspect, base = models[who], models["base"]
    flipped = base.with_tensors({EMBEDDING: -base.tensors[EMBEDDING]})
    for (swap, sign), (new_swap, new_sign) in zip(counts(suspect, base), counts(suspect, flipped), strict=True):
        assert swap == new_swap and sign.coins
        assert new_sign == CoinCount(sign.coins, sign.coins - sign.heads)


def test_rows_that_are_not_finite_are_left_out(models: dict[str, Model]) -> None:
    broken = models["honest"].tensors[EMBEDDING].copy()
    broken[: 256 - 15] = np.nan
    assert counts(models["honest"].with_tensors({EMBEDDING: broken}), models["base"]) == []
    broken[:200] = models["honest"].tensors[EMBEDDING][:200]
    stored, _ = counts(models["honest"].with_tensors({EMBEDDING: broken}), models["base"])
    assert stored[1].heads == stored[1].coins > 90


def test_coins_of_channels_are_fair_though_the_match_is_right() -> None:
    """A copy whose stream was relabelled uniformly: its channels are found, and their signs are fair coins."""
    stages = ("channels", "channels matched")
    drawn = run_stages(pair_of("examples/honest,examples/base", 1, 8, 48), 100, which=("residual",), stages=stages)
    for name, found in drawn.items():
        assert found.tossed == 1.0
        p = found.uniform()
        assert p is not None and p > 1e-3, name
        mean, error = found.mean
        assert mean < 1 + 4 * error, name
    assert min(drawn["channels matched"].coins) > 80


# --- basis --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "kind"), [((), "identity"), (("residual",), "permutation"), (("rotate",), "rotation")]
)
def test_the_basis_is_found(models: dict[str, Model], which: tuple[str, ...], kind: str) -> None:
    pair = in_memory(disguised(models["honest"], *which), models["base"])
    found = find_basis(pair, tokens_of(pair), OPTIONS)
    assert found is not None and found.kind == kind


def test_units_play_no_part_in_the_basis(models: dict[str, Model]) -> None:
    """The reason that coins of units stay exact in a basis that was recovered."""
    suspect = disguised(models["honest"], "rotate")
    found = []
    for base in (models["base"], disguised(models["base"], "signs", "permute")):
        pair = in_memory(suspect, base)
        basis = find_basis(pair, tokens_of(pair), OPTIONS)
        assert basis is not None
        found.append(basis)
    assert all(np.array_equal(a, b) for a, b in zip(found[0].factors, found[1].factors, strict=True))


def test_few_tokens_cost_little(models: dict[str, Model]) -> None:
    """More token rows than are compared: only a part of them is read."""
    rng = np.random.default_rng(3)
    rows = rng.permutation(np.tile(np.arange(256), 8))
    noise = 0.01 * rng.normal(size=(rows.shape[0], 96))
    large = [
        m.with_tensors({EMBEDDING: (m.tensors[EMBEDDING][rows] + noise).astype(np.float32)})
        for m in (models["honest"], models["base"])
    ]
    pair = in_memory(*large)
    tokens = tokens_of(pair)
    assert len(tokens) == 2048
    assert toss_channels(pair, tokens, OPTIONS)[0].tokens <= CHANNEL_TOKENS
    basis = find_basis(pair, tokens, OPTIONS)
    assert basis is not None and basis.rows <= 512
