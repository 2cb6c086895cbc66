"""The search by code: who is found, and who is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.population import KINDS, SHAPES, Change, Model, descendant, ends_of, founder, layers_of
from lineage_plugin.fingerprint.code import CODE_BYTES, search_code
from lineage_plugin.fingerprint.registry.index import CHANCE, PARTS, Index
from lineage_plugin.fingerprint.types import Fingerprint, Shelf

COUNT = 600
MODELS = [founder(1 + at, SHAPES[at % 3]) for at in range(COUNT)]


def codes(models: Sequence[Model]) -> np.ndarray:
    return np.stack([search_code(ends_of(model)) for model in models])


CODES = codes(MODELS)
INDEX = Index(CODES)


def shelves(fingerprint: Fingerprint, *kinds: str) -> tuple[Shelf, ...]:
    return tuple(shelf for shelf in fingerprint.shelves if shelf.kind in kinds)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_the_base_comes_first(kind: str, kept: float) -> None:
    for row in range(12):
        child = descendant(10_000 + row, MODELS[row], kind, kept)
        found = INDEX.candidates(layers_of(child))
        assert found and found[0].row == row, (row, kind, kept)
        assert all(a.score >= b.score for a, b in pairwise(found))


def test_strangers_have_about_one_candidate() -> None:
    counts = [len(INDEX.candidates(layers_of(founder(20_000 + at, SHAPES[at % 3])))) for at in range(60)]
    assert sum(counts) <= 60 * CHANCE


def test_it_says_what_agrees() -> None:
    base = layers_of(MODELS[7])
    stranger = layers_of(founder(9_999, MODELS[7].shape))
    only_stream = replace(stranger, stream=base.stream)
    assert [c.how for c in INDEX.candidates(only_stream, 1)] == [("residual stream",)]
    only_units = replace(base, stream=None)
    assert [c.how for c in INDEX.candidates(only_units, 1)] == [PARTS[:2]]


def test_the_number_of_candidates_is_limited() -> None:
    family = [descendant(30_000 + at, MODELS[0], "fine-tuned", 0.9) for at in range(10)]
    index = Index(np.concatenate([CODES, codes(family)]))
    rows = {0, *range(COUNT, COUNT + 10)}
    query = layers_of(descendant(40_000, MODELS[0], "fine-tuned", 0.9))
    found = index.candidates(query, 5)
    assert len(found) == 5 and {c.row for c in found} <= rows
    assert rows <= {c.row for c in index.candidates(query, 20)}


def test_registries_of_no_and_one_entry() -> None:
    query = layers_of(MODELS[0])
    assert Index(np.zeros((0, CODE_BYTES), dtype=np.uint8)).candidates(query) == []
    assert [c.row for c in Index(CODES[:1]).candidates(query)] == [0]
    assert len(Index(CODES[:1])) == 1


def test_the_narrow_count_finds_them_too() -> None:
    rng = np.random.default_rng(0)
    many = np.concatenate([CODES, rng.integers(0, 256, (50_000, CODE_BYTES), dtype=np.uint8)])
    index = Index(many, exact=1_000)
    for row in range(24):
        child = descendant(10_000 + row, MODELS[row], ("fine-tuned", "depth changed")[row % 2], 0.4)
        assert [c.row for c in index.candidates(layers_of(child), 1)] == [row]


def test_memory_is_little_more_than_the_codes() -> None:
    assert INDEX.nbytes <= (CODE_BYTES + 8) * len(INDEX)


def test_layers_that_moved_are_found_without_the_stream() -> None:
    for row in range(6):
        base = MODELS[row]
        # Two new layers come first, and the last two are gone.
        layers = (-1, -1, *range(base.layers - 2))
        child = Model(10_000, base.shape, base, Change("depth changed", 0.6, layers, stream=0.0))
        assert [c.row for c in INDEX.candidates(layers_of(child), 1)] == [row]


def test_opposite_bits_do_not_stand_before_relatives() -> None:
    # 256 disagreements of a layer would be 0 in a byte.
    child = codes([descendant(10_000, MODELS[0], "fine-tuned", 0.4)])
    index = Index(np.concatenate([child, np.repeat(~CODES[:1], 300, axis=0), CODES[1:]]))
    query = replace(layers_of(MODELS[0]), stream=None)
    assert [c.row for c in index.candidates(query, 1)] == [0]


def test_zeros_in_both_do_not_stand_before_relatives() -> None:
    others = CODES[1:301].copy().reshape(300, -1, 8, 2)
    others[:, :24, 4:] = 0
    whole = layers_of(descendant(10_000, MODELS[0], "fine-tuned", 0.9))
    query = replace(
        whole,
        shelves=tuple(replace(shelf, usable=shelf.usable & (np.arange(8) < 4)) for shelf in whole.shelves),
        stream=None,
    )
    index = Index(np.concatenate([CODES[:1], others.reshape(300, -1)]))
    assert [c.row for c in index.candidates(query, 1)] == [0]


@pytest.mark.parametrize("exact", [20, 10_000])
@pytest.mark.parametrize("row", [0, 1])
def test_entries_that_lack_a_part_are_neither_favoured_nor_hidden(row: int, exact: int) -> None:
    without = CODES.copy()
    # Half of the entries have no value channels; the query's have ones only, which zeros are not to be held against.
    without[::2, 192:384] = 0
    query = replace(layers_of(descendant(10_000, MODELS[row], "fine-tuned", 0.4)), stream=None)
    value = shelves(query, "value")[0]
    ones = replace(value, strips=(replace(value.strips[0], bits=np.full_like(value.strips[0].bits, 255)),))
    if row % 2 == 0:
        query = replace(query, shelves=(*shelves(query, "mlp"), ones))
    assert [c.row for c in Index(without, exact).candidates(query, 1)] == [row]


@pytest.mark.parametrize("kinds", [(), ("mlp",), ("value",)])
@pytest.mark.parametrize("stream", [False, True])
def test_what_both_lack_is_no_agreement(kinds: tuple[str, ...], stream: bool) -> None:
    def less(model: Model) -> Fingerprint:
        whole = layers_of(model)
        return replace(whole, shelves=shelves(whole, *kinds), stream=whole.stream if stream else None)

    index = Index(np.stack([search_code(less(model)) for model in MODELS[:100]]))
    strangers = [index.candidates(less(founder(20_000 + at, SHAPES[at % 3]))) for at in range(20)]
    assert sum(map(len, strangers)) <= 15
    for row in range(5):
        found = index.candidates(less(descendant(10_000, MODELS[row], "fine-tuned", 0.9)), 1)
        assert [c.row for c in found] == ([row] if kinds or stream else [])


def test_zero_units_in_both_are_no_agreement() -> None:
    def pruned(model: Model) -> Fingerprint:
        whole = layers_of(model)
        return replace(
            whole,
            shelves=tuple(
                replace(shelf, usable=shelf.usable & (np.arange(shelf.held) % 4 == 0)) for shelf in whole.shelves
            ),
            stream=None,
        )

    index = Index(np.stack([search_code(pruned(model)) for model in MODELS[:200]]))
    counts = [len(index.candidates(pruned(founder(20_000 + at, SHAPES[at % 3])))) for at in range(20)]
    assert sum(counts) <= 15


def test_directions_that_all_units_share_are_no_agreement() -> None:
    """Models of one recipe whose units lean the same way agree in far more than half of their bits."""
    rng = np.random.default_rng(5)
    # Twelve places of neurons, eight of value channels, and four tiles of 16 channels of the stream.
    lean = (rng.random((28, 1, 16)) < 0.5)[[*range(24), 24, 24, 25, 25, 26, 26, 27, 27]]

    def code() -> np.ndarray:
        bits = np.broadcast_to(lean, (32, 8, 16)) ^ (rng.random((32, 8, 16)) < 0.25)
        return np.packbits(bits.reshape(-1))

    held = np.stack([code() for _ in range(COUNT)])
    query = layers_of(MODELS[0])
    turned = code().reshape(32, 8, 2)
    mlp, value = shelves(query, "mlp")[0], shelves(query, "value")[0]

    def place(shelf: Shelf, units: np.ndarray) -> Shelf:
        bits = shelf.strips[0].bits.copy()
        bits[:6, :8, :2], bits[:-7:-1, :8, :2] = units[:6], units[6:]
        return replace(shelf, strips=(replace(shelf.strips[0], bits=bits),))

    assert query.stream is not None
    channels = query.stream.bits.copy()
    channels[:64, :2] = turned[24:].reshape(64, 2)
    query = replace(
        query,
        shelves=(place(mlp, turned[:12]), place(value, turned[12:24])),
        stream=replace(query.stream, bits=channels),
    )
    assert np.array_equal(search_code(query), turned.reshape(-1))
    agreement = 1 - np.unpackbits(held ^ turned.reshape(-1), axis=1).mean(axis=1)
    assert agreement.min() > 0.55
    assert len(Index(held).candidates(query)) <= 3
    assert [c.row for c in Index(np.concatenate([held, turned.reshape(1, -1)])).candidates(query, 1)] == [COUNT]


def test_scores_are_deviations_over_all_orders_of_the_units() -> None:
    """The stream alone: its trace against ten thousand orders of the channels of each tile, tried out."""
    rng = np.random.default_rng(3)
    base = layers_of(MODELS[0])
    query = replace(layers_of(descendant(10_000, MODELS[0], "fine-tuned", 0.5)), shelves=())
    assert base.stream is not None and query.stream is not None
    signs = [
        1.0 - 2.0 * np.unpackbits(side.bits[:64, :2], axis=1).reshape(4, 16, 16) for side in (base.stream, query.stream)
    ]
    tables = np.einsum("tib,tjb->tij", *signs)
    same = np.arange(16)
    tried = [sum(table[same, rng.permutation(16)].sum() for table in tables) for _ in range(10_000)]
    expected = (np.trace(tables, axis1=1, axis2=2).sum() - np.mean(tried)) / np.std(tried)
    found = INDEX.candidates(query, 1)[0]
    assert found.row == 0 and found.score == pytest.approx(expected, rel=0.03)
