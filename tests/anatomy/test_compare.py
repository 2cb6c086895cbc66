"""Which groups compare, and how structures that do not are put into words."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lineage_plugin.anatomy import (
    Anatomy,
    UnitGroup,
    analyse,
    comparable,
    expert_slice,
    pooled_units,
    shared_roles,
    structure_mismatch,
)
from tests.anatomy.models import in_memory, saved
from tests.anatomy.relabel import describe, infos
from tests.anatomy.test_analyse import CONFIG, llama, run


def anatomy(name: str) -> Anatomy:
    return analyse(describe(in_memory(name).tensors), in_memory(name).config)


def test_a_group_compares_with_itself_and_with_the_next_layer() -> None:
    groups = run(llama()).groups
    assert all(comparable(group, group) for group in groups)
    assert comparable(groups[0], groups[3])
    assert not comparable(groups[0], groups[1])


@pytest.mark.parametrize(
    "change",
    [{"name": "value"}, {"swap": False}, {"vectors": ()}],
)
def test_groups_that_differ_in_kind_do_not_compare(change: dict[str, object]) -> None:
    group = run(llama()).groups[2]
    assert not comparable(group, replace(group, **change))  # type: ignore[arg-type]


def test_groups_that_differ_in_their_vectors_do_not_compare() -> None:
    group = run(llama()).groups[2]
    gate, up, down = group.vectors
    for vectors in (
        (up, gate, down),
        (gate, replace(up, odd=False), down),
        (gate, up, replace(down, span=(0, 31))),
        (gate, up, replace(down, span=None)),
        (replace(gate, width=64), up, down),
        (gate, up),
    ):
        assert not comparable(group, replace(group, vectors=vectors))


def test_block_structure_must_agree() -> None:
    other = run(llama(), CONFIG | {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16})
    ours = run(llama())
    assert ours.groups[0].units == other.groups[0].units
    assert not comparable(ours.groups[0], other.groups[0])
    assert structure_mismatch(ours, other) == "attention heads differ in layer 0"


def test_orientation_and_storage_do_not_matter() -> None:
    single = analyse(describe(saved("mixtral").tensors), saved("mixtral").config)
    stacked = anatomy("mixtral")
    assert structure_mismatch(single, stacked) is None
    by_key = {group.key: group for group in stacked.groups}
    assert all(comparable(group, by_key[group.key]) for group in single.groups)


def test_equal_structures_have_no_mismatch() -> None:
    assert structure_mismatch(run(llama()), run(llama("language_model.model."))) is None
    assert structure_mismatch(run(llama()), run(llama(), {})) is None, "groups that one model lacks are no mismatch"


def narrow() -> Anatomy:
    shapes = llama()
    for layer in (0, 1):
        at = f"model.layers.{layer}.mlp."
        shapes |= {
            f"{at}gate_proj.weight": (40, 32),
            f"{at}up_proj.weight": (40, 32),
            f"{at}down_proj.weight": (32, 40),
        }
    return run(shapes)


def test_mismatches_in_words() -> None:
    ours = run(llama())
    assert structure_mismatch(ours, anatomy("gpt2")) == "different layouts (llama against gpt2)"
    assert structure_mismatch(ours, run(llama(layers=(0, 1, 2)))) == "depth differs: 2 layers against 3"
    assert structure_mismatch(run(llama(layers=(0,))), ours) == "depth differs: 1 layer against 2"
    assert structure_mismatch(ours, run(llama(width=64))) == "width differs: 32 against 64"
    assert structure_mismatch(ours, narrow()) == "MLP width differs in layer 0: 48 against 40"
    assert structure_mismatch(ours, run(llama(layers=(5, 6)))) == "the layers are numbered differently"
    assert structure_mismatch(ours, replace(ours, groups=())) == "no comparable units"


def test_unknown_graphs() -> None:
    def chain(*sizes: int) -> Anatomy:
        return analyse(infos({f"l{i}.weight": (n, m) for i, (m, n) in enumerate(pairwise(sizes))}), {})

    assert structure_mismatch(chain(9, 16, 24, 7), chain(9, 16, 24, 7)) is None
    assert structure_mismatch(chain(9, 16, 24, 7), chain(9, 16, 24, 32, 7)) == (
        "different numbers of usable tensors: 2 against 3"
    )
    assert structure_mismatch(chain(9, 16, 24, 7), chain(9, 18, 24, 7)) == "shapes of the usable tensors differ"
    assert structure_mismatch(chain(9, 16), chain(9, 16)) == "no comparable units"


def heads(query: int, key_value: int, *, size: int = 8, width: int = 32, model_type: str = "llama") -> Anatomy:
    shapes = {name: shape for name, shape in llama(layers=(0,), width=width).items() if "self_attn" not in name}
    at = "model.layers.0.self_attn."
    shapes |= {f"{at}{name}_proj.weight": (key_value * size, width) for name in "kv"}
    shapes |= {f"{at}q_proj.weight": (query * size, width), f"{at}o_proj.weight": (width, query * size)}
    config = CONFIG | {"model_type": model_type, "num_attention_heads": query, "num_key_value_heads": key_value}
    return run(shapes, config | {"head_dim": size})


def named(anatomy: Anatomy, name: str, part: int = 0) -> UnitGroup:
    return next(group for group in anatomy.groups if group.name == name and group.part == part)


def test_units_of_unequal_number_share_roles() -> None:
    ours, theirs = run(llama()).groups[2], narrow().groups[2]
    assert not comparable(ours, theirs)
    assert shared_roles(ours, theirs) == ("gate", "up", "down")
    assert shared_roles(ours, ours) == ("gate", "up", "down")


def test_streams_of_unequal_width() -> None:
    ours, theirs = run(llama()).groups[2], run(llama(width=64)).groups[2]
    assert shared_roles(ours, theirs) == ()
    assert shared_roles(ours, theirs, same_width=False) == ("gate", "up", "down")


def test_experts_share_the_roles_of_a_dense_mlp() -> None:
    moe = anatomy("mixtral")
    expert = next(group for group in moe.groups if group.name == "experts")
    dense = next(group for group in anatomy("mistral").groups if group.name == "mlp")
    assert shared_roles(expert, dense) == shared_roles(dense, expert) == ("gate", "up", "down")


def test_kinds_that_share_nothing() -> None:
    value, pairs, gated = run(llama()).groups[:3]
    assert shared_roles(value, pairs) == shared_roles(value, gated) == shared_roles(gated, pairs) == ()
    plain = next(group for group in anatomy("starcoder2").groups if group.name == "mlp")
    assert shared_roles(gated, plain, same_width=False) == ()
    # (up + 1) is not odd in up
    assert "up" not in shared_roles(gated, replace(gated, vectors=tuple(replace(v, odd=False) for v in gated.vectors)))
    partial = anatomy("stablelm")
    turning, free = named(partial, "query-key"), named(partial, "query-key", 1)
    assert shared_roles(turning, free) == shared_roles(free, turning) == ()


def test_rotary_pairs_do_not_meet_free_channels_even_when_their_numbers_agree() -> None:
    """With two query heads a key head, a free channel has as many query rows as a pair has with one."""
    partial = analyse(describe(in_memory("phi3 partial").tensors), in_memory("phi3 partial").config)
    free, pairs = named(partial, "query-key", 1), named(heads(4, 4), "query-key")
    assert [v.index.shape[1] for v in free.vectors] == [2, 1]
    assert [v.index.shape[1] for v in pairs.vectors] == [2, 2]
    assert shared_roles(free, pairs) == ()


def test_pooled_heads_share_keys_and_values() -> None:
    many, few = heads(4, 4), heads(4, 2)
    assert shared_roles(named(many, "value"), named(few, "value")) == ("v",)
    assert shared_roles(named(many, "query-key"), named(few, "query-key")) == ("k",)


@pytest.mark.parametrize("name", ["value", "query-key"])
@pytest.mark.parametrize(("ours", "theirs"), [(2, 4), (1, 4), (4, 2), (4, 1), (4, 4)])
def test_units_of_pooled_heads(name: str, ours: int, theirs: int) -> None:
    a, b = named(heads(4, ours), name), named(heads(4, theirs), name)
    units = pooled_units(a, b)
    assert units is not None
    size = b.units // theirs
    assert units.shape == (b.units,)
    for unit, found in enumerate(units):
        head, channel = divmod(unit, size)
        assert found % size == channel
        # pooled: the head that takes it in; repeated: the first of its copies
        assert found // size == (head * ours // theirs if ours <= theirs else head * (ours // theirs))
    assert units.max() < a.units


def test_heads_that_do_not_pool() -> None:
    assert pooled_units(named(heads(6, 3), "value"), named(heads(6, 2), "value")) is None
    assert pooled_units(named(heads(4, 2, size=8), "value"), named(heads(4, 4, size=4), "value")) is None
    assert pooled_units(named(heads(4, 2), "value"), named(heads(4, 2), "query-key")) is None
    assert pooled_units(run(llama()).groups[2], run(llama()).groups[2]) is None
    odd = named(heads(4, 4), "value")
    blocks = odd.block.copy()
    blocks[:2] = [1, 0]
    assert pooled_units(replace(odd, block=blocks), odd) is None


def test_pooling_really_goes_where_pooled_units_say() -> None:
    """Average the key-value heads of each group, as the conversion does, and look for the rows."""
    rng = np.random.default_rng(2)
    many, few = named(heads(8, 8), "value"), named(heads(8, 2), "value")
    rows = rng.standard_normal((8, 8, 1024))
    pooled = rows.reshape(2, 4, 8, 1024).mean(1).reshape(-1, 1024)
    nearest = np.argmax(rows.reshape(-1, 1024) @ pooled.T, axis=1)
    units = pooled_units(few, many)
    assert units is not None
    assert np.array_equal(nearest, units)


def test_slices_of_a_dense_mlp() -> None:
    dense = run(llama()).groups[2]
    assert dense.units == 48
    shapes = {name: shape for name, shape in llama().items() if ".mlp." not in name}
    for layer in (0, 1):
        at = f"model.layers.{layer}.mlp.experts"
        shapes |= {f"{at}.gate_up_proj": (4, 24, 32), f"{at}.down_proj": (4, 32, 12)}
    experts = [g for g in run(shapes, CONFIG | {"model_type": "mixtral"}).groups if g.name == "experts" and not g.layer]
    slices = [expert_slice(expert, dense, len(experts)) for expert in experts]
    assert all(found is not None for found in slices)
    assert np.concatenate(slices).tolist() == list(range(48))  # type: ignore[arg-type]
    assert expert_slice(experts[0], dense, 3) is None
    assert expert_slice(experts[3], dense, 2) is None
    assert expert_slice(dense, experts[0], 4) is None
    assert expert_slice(replace(experts[0], part=9), dense, 4) is None
