"""Which groups compare, and how structures that do not are put into words."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from lineage_plugin.anatomy import Anatomy, analyse, comparable, structure_mismatch
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
