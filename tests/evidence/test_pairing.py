"""Which groups, and which units of them, are set against each other before any weight is looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.derivations import depth, experts, width
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.stages_null import in_memory
from lineage_plugin.evidence.pairing import GroupPair, kind, match_groups, pair_groups
from lineage_plugin.evidence.sample import read_units
from tests.evidence.builders import group

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(0)


class InOrder(np.random.Generator):
    """Deals out in order instead of at random."""

    def permutation(self, x, axis=0):  # type: ignore[no-untyped-def]
        return np.arange(x)


@pytest.fixture(scope="module")
def base() -> Model:
    return read_model(EXAMPLES / "base")


def paired(suspect: Model, base: Model) -> tuple[tuple[GroupPair, ...], str | None]:
    models = in_memory(suspect, base)
    return match_groups(models.suspect_anatomy, models.base_anatomy)


def test_equal_structures_pair_every_group_with_its_namesake(base: Model) -> None:
    pairs, mismatch = paired(base, base)
    assert mismatch is None
    assert [(p.suspect.key, p.base.key) for p in pairs] == [(p.base.key, p.base.key) for p in pairs]
    assert len(pairs) == 4 * 3
    assert all(p.partners is None and p.roles == tuple(v.role for v in p.base.vectors) for p in pairs)


@pytest.mark.parametrize("order", [(0, 1, 2, 1, 2, 3), (0, 3)])
def test_of_other_depth_the_layers_both_have(base: Model, order: tuple[int, ...]) -> None:
    pairs, mismatch = paired(depth.arranged(base, order, RNG)[0], base)
    assert mismatch is not None and mismatch.startswith("depth differs")
    assert {p.base.layer for p in pairs} == set(range(min(4, len(order))))
    assert all(p.suspect.layer == p.base.layer for p in pairs)


def test_every_expert_is_set_against_the_dense_layer(base: Model) -> None:
    pairs, _ = paired(experts.upcycled(base, 0.1, RNG), base)
    for layer in range(4):
        of_mlp = [p for p in pairs if p.base.layer == layer and p.base.name == "mlp"]
        assert [(p.suspect.name, p.suspect.part) for p in of_mlp] == [("experts", part) for part in range(4)]
        assert all(p.partners is None for p in of_mlp)


def test_the_other_way_round_every_expert_of_the_base_meets_the_dense_layer(base: Model) -> None:
    pairs, _ = paired(base, experts.upcycled(base, 0.1, RNG))
    assert len([p for p in pairs if p.base.name == "experts"]) == 4 * 4
    assert all(p.suspect.name == "mlp" for p in pairs if p.base.name == "experts")


def test_units_dealt_out_to_experts_meet_themselves(base: Model) -> None:
    """Fine-grained experts in order: partners are given for all units of the dense layer, -1 for other experts'."""
    models = in_memory(experts.split(base, InOrder(np.random.PCG64(0))), base)
    pairs, _ = match_groups(models.suspect_anatomy, models.base_anatomy)
    for layer in range(4):
        seen = np.zeros(256, dtype=int)
        for pair in (p for p in pairs if p.base.layer == layer and p.base.name == "mlp"):
            assert pair.partners is not None and pair.partners.shape == (256,)
            held = np.flatnonzero(pair.partners >= 0)
            seen[held] += 1
            mine = read_units(models.suspect, [(pair.suspect, pair.partners_of(held), ("gate", "up"))])[0]
            theirs = read_units(models.base, [(pair.base, held, ("gate", "up"))])[0]
            assert all(np.array_equal(a, b) for a, b in zip(mine, theirs))
        assert (seen == 1).all()


def test_pooled_heads_meet_the_heads_they_were_pooled_from(base: Model) -> None:
    models = in_memory(width.kv_pooled(base, 1), base)
    pairs, _ = match_groups(models.suspect_anatomy, models.base_anatomy)
    values = [p for p in pairs if p.base.name == "value"]
    assert len(values) == 4
    for pair in values:
        assert pair.partners is not None and pair.partners.tolist() == [*range(16), *range(16)]
        # O differs in how many query heads a channel serves, so only V is left.
        assert pair.roles == ("v",)
        (mine,) = read_units(models.suspect, [(pair.suspect, np.arange(16), ("v",))])[0]
        (theirs,) = read_units(models.base, [(pair.base, np.arange(32), ("v",))])[0]
        np.testing.assert_allclose(mine, (theirs[:16] + theirs[16:]) / 2, atol=1e-6)


def test_nothing_is_paired_across_widths_or_without_a_correspondence(base: Model) -> None:
    pairs, mismatch = paired(width.stream_pruned(base, 72), base)
    assert not pairs and mismatch is not None and "width" in mismatch
    pruned, mismatch = paired(width.units_pruned(base, 0.75), base)
    assert {p.base.name for p in pruned} == {"value", "query-key"} and mismatch is not None


def test_pair_groups() -> None:
    one = group(8, [("gate", 6, False), ("up", 6, True), ("down", 6, True)])
    wide = group(8, [("gate", 7, False), ("up", 7, True), ("down", 7, True)])
    assert pair_groups(one, wide) is None
    across = pair_groups(one, wide, same_width=False)
    assert across is not None and across.roles == ("gate", "up", "down") and across.partners is None
    assert across.partners_of(np.array([5, 2])).tolist() == [5, 2]
    plain = group(8, [("fc1", 6, False), ("fc2", 6, False)])
    assert pair_groups(plain, one) is None
    assert pair_groups(group(8, [("v", 6, True)], name="value"), one) is None
    expert = group(8, [("gate", 6, False), ("up", 6, True), ("down", 6, True)], name="experts")
    assert pair_groups(expert, one, experts=4) is not None
    assert kind(expert) == kind(one) == "mlp" and kind(plain) == "mlp"
