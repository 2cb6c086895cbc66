"""What was read once is not read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations.layouts import read_model
from benchmarks.stages_null import Memory, in_memory, pair_of, relabelled
from lineage_plugin.checkpoint import Selection, open_checkpoint
from lineage_plugin.checkpoint.remembered import Remembered
from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.evidence.gather import gather
from lineage_plugin.options import Options
from tests.hub import LocalHub

EXAMPLES = Path(__file__).parents[2] / "examples"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Counting(Memory):
    """Notes what it is asked for."""

    def __init__(self, *arguments) -> None:  # type: ignore[no-untyped-def]
        super().__init__(*arguments)
        self.asked: list[Selection] = []

    def read(self, selections: Sequence[Selection]) -> list[np.ndarray]:
        self.asked += selections
        return super().read(selections)


@pytest.fixture
def model() -> Counting:
    found = read_model(EXAMPLES / "base")
    return Counting(found.tensors, found.config)


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


SELECTIONS = [
    Selection(EMBEDDING, rows(1, 5, 9)),
    Selection(EMBEDDING, None, rows(0, 3)),
    Selection(HEAD, rows(2), rows(4, 7)),
    Selection("model.norm.weight", None, None, 96),
    Selection(EMBEDDING, rows(1, 5, 9)),
    Selection(EMBEDDING, rows(0, 1), None, 48),
]


def test_it_returns_what_the_checkpoint_returns_in_order(model: Counting) -> None:
    expected = model.read(SELECTIONS)
    wrapped = Remembered(model)
    for _ in range(2):
        for one, other in zip(wrapped.read(SELECTIONS), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    some = [SELECTIONS[3], Selection(HEAD, rows(11)), SELECTIONS[0]]
    for one, other in zip(wrapped.read(some), model.read(some), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_is_read_twice_and_twins_in_one_call_once(model: Counting) -> None:
    wrapped = Remembered(model)
    wrapped.read(SELECTIONS)
    assert len(model.asked) == len(SELECTIONS) - 1
    wrapped.read(SELECTIONS)
    wrapped.read(SELECTIONS[::-1])
    assert len(model.asked) == len(SELECTIONS) - 1
    # Other rows, columns or width of one tensor are other parts.
    wrapped.read([Selection(EMBEDDING, rows(1, 5)), Selection(EMBEDDING, rows(1, 5, 9), rows(1))])
    wrapped.read([Selection(EMBEDDING, rows(0, 1)), Selection(EMBEDDING), Selection(EMBEDDING, rows())])
    assert len(model.asked) == len(SELECTIONS) - 1 + 5


def test_the_oldest_are_forgotten_and_large_blocks_never_kept(model: Counting) -> None:
    row = 4 * 96
    wrapped = Remembered(model, limit=2 * row)
    first, second, third = (Selection(EMBEDDING, rows(n)) for n in (1, 2, 3))
    wrapped.read([first, second, third])
    del model.asked[:]
    wrapped.read([second, third])
    assert not model.asked
    wrapped.read([first])
    assert model.asked == [first]
    (whole,) = wrapped.read([Selection(EMBEDDING)])
    assert whole.shape == (256, 96)
    del model.asked[:]
    # A block that does not fit displaces nothing.
    wrapped.read([third, first])
    assert not model.asked
    wrapped.read([Selection(EMBEDDING)])
    assert len(model.asked) == 1


def test_a_failed_read_leaves_nothing_behind(model: Counting) -> None:
    class Broke(Counting):
        broken = True

        def read(self, selections: Sequence[Selection]) -> list[np.ndarray]:
            if self.broken:
                raise BudgetExceeded("model", "the budget ended")
            return super().read(selections)

    found = read_model(EXAMPLES / "base")
    broke = Broke(found.tensors, found.config)
    wrapped = Remembered(broke)
    with pytest.raises(BudgetExceeded):
        wrapped.read(SELECTIONS)
    broke.broken = False
    for one, other in zip(wrapped.read(SELECTIONS), model.read(SELECTIONS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_else_is_the_checkpoints() -> None:
    plain = open_checkpoint(str(EXAMPLES / "base"), options=Options())
    wrapped = Remembered(plain)
    for name in ("id", "revision", "local", "format", "files", "weight_files", "tensors", "config"):
        assert getattr(wrapped, name) == getattr(plain, name), name
    assert wrapped.text("README.md") == plain.text("README.md")
    assert wrapped.data("config.json") == plain.data("config.json")
    assert wrapped.digests(compute=True) == plain.digests(compute=True)
    wrapped.read([Selection(EMBEDDING, rows(0))])
    assert wrapped.cost().tensor_bytes == plain.cost().tensor_bytes == 2 * 96


def test_evidence_is_the_same_to_the_bit() -> None:
    """A stage that wrote into what it was given would spoil the next one's."""
    suspect, base = pair_of("examples/honest,examples/base")
    models = in_memory(suspect, relabelled(base, np.random.default_rng(0)))
    kept = replace(models, suspect=Remembered(models.suspect), base=Remembered(models.base))
    plain = gather(models, Options(), lambda _: False)
    assert plain.stages and gather(kept, Options(), lambda _: False) == plain
    assert gather(kept, Options(), lambda _: False) == plain


def test_over_the_hub_a_second_look_costs_nothing(hub: LocalHub) -> None:
    target = hub.root / "team" / "base"
    target.mkdir(parents=True)
    for file in (EXAMPLES / "base").iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    wrapped = Remembered(open_checkpoint("team/base", options=Options(endpoint=hub.endpoint)))
    first = wrapped.read(SELECTIONS)
    spent = wrapped.cost()
    again = wrapped.read(SELECTIONS)
    assert (wrapped.cost().requests, wrapped.cost().bytes_read) == (spent.requests, spent.bytes_read)
    assert spent.requests > 0 and all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
