"""Families, spanning trees, roots: from links made by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lineage_plugin.family.trees import families, same_starts
from lineage_plugin.family.types import Branch, Link, Tree
from tests.family.kit import claim, link


def shape(tree: Tree) -> set[frozenset[int]]:
    return {frozenset((one.outer, one.inner)) for one in tree.branches}


def test_the_tree_is_the_largest_of_all_spanning_trees() -> None:
    # All 125 trees of five models, by what they are: four pairs that join all.
    rng = np.random.default_rng(1)
    pairs = list(itertools.combinations(range(5), 2))
    for _ in range(8):
        weights = dict(zip(pairs, rng.random(len(pairs)), strict=True))
        (tree,) = families(5, [link(i, j, w) for (i, j), w in weights.items()], [])
        best, count = 0.0, 0
        for chosen in itertools.combinations(pairs, 4):
            reached = {0}
            for _ in range(4):
                reached |= {at for pair in chosen for at in pair if reached & set(pair)}
            if len(reached) == 5:
                count += 1
                best = max(best, sum(weights[pair] for pair in chosen))
        assert count == 125
        assert sum(one.cosine for one in tree.branches) == pytest.approx(best)
        assert sorted(tree.members) == [0, 1, 2, 3, 4]


def test_a_chain_with_orthogonal_updates_is_found_and_its_ends_are_not_joined() -> None:
    rng = np.random.default_rng(4)
    start = rng.standard_normal(20_000)
    steps = [0.4 * rng.standard_normal(20_000) for _ in range(3)]
    chain = [start, start + steps[0], start + steps[0] + steps[1]]
    sibling = start + steps[2]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    models = [*chain, sibling]
    links = [link(j, i, cosine(models[i], models[j])) for i, j in itertools.combinations(range(4), 2)]
    (tree,) = families(4, links, [])
    assert shape(tree) == {frozenset(p) for p in ((0, 1), (1, 2), (0, 3))}


def test_two_siblings_of_an_absent_parent_have_no_root() -> None:
    (tree,) = families(2, [link(1, 0, 0.8, direction="siblings")], [])
    assert (tree.rooted, tree.members) == (None, (0, 1))
    assert "no card" in tree.reason


def test_a_root_is_taken_from_the_cards_first() -> None:
    links = [link(1, 0), link(2, 0, 0.8), link(2, 1, 0.7)]
    (tree,) = families(3, links, [claim(1, 0), claim(2, 0)])
    assert (tree.start, tree.rooted) == (0, "declared")
    assert tree.branches == (Branch(1, 0, 0.9), Branch(2, 0, 0.8))
    # Not from a card that the weights contradict, or leave open.
    for standing in ("contradicted", "undecided", "not tested"):
        (tree,) = families(3, links, [claim(1, 0, standing), claim(2, 0, standing)])
        assert tree.rooted is None


def test_no_root_where_the_weights_point_the_other_way_than_the_card() -> None:
    links = [link(1, 0, direction="base-from-suspect")]
    (tree,) = families(2, links, [claim(1, 0)])
    # What the card says is not followed; the weights alone indicate the other one.
    assert (tree.start, tree.rooted) == (1, "indicated")
    links = [link(1, 0), link(2, 0, 0.8), link(0, 3, 0.95, direction="suspect-from-base")]
    (tree,) = families(4, links, [claim(1, 0), claim(2, 0)])
    assert tree.rooted is None
    assert "indicate an ancestor" in tree.reason


def test_cards_in_a_circle_make_no_root() -> None:
    (tree,) = families(2, [link(1, 0)], [claim(1, 0), claim(0, 1)])
    assert tree.rooted is None
    assert "circle" in tree.reason


def test_an_indicated_root_must_be_the_only_one_without_an_ancestor() -> None:
    first = link(1, 0, direction="suspect-from-base")
    (tree,) = families(2, [first], [])
    assert (tree.start, tree.rooted) == (0, "indicated")
    (tree,) = families(3, [first, link(2, 1, 0.8)], [])
    assert tree.rooted is None
    (tree,) = families(3, [first, link(2, 1, 0.8), link(2, 0, 0.7, direction="suspect-from-base")], [])
    assert (tree.start, tree.rooted) == (0, "indicated")


AFTER = "suspect-from-base"


@pytest.mark.parametrize(
    "links",
    [
        # One member beside a circle of the others; it has no ancestor, and nobody comes from it.
        [link(1, 2, direction=AFTER), link(2, 3, direction=AFTER), link(3, 1, direction=AFTER)]
        + [link(0, at, direction="siblings") for at in (1, 2, 3)],
        [link(1, 0), link(2, 0), link(1, 2, direction=AFTER), link(2, 1, direction=AFTER)],
        # Through two copies of one model.
        [
            link(1, 0, direction=AFTER),
            link(3, 1, direction=AFTER),
            link(0, 2, 1.0, "identical"),
            link(2, 3, 0.8, direction=AFTER),
        ],
    ],
)
def test_indications_in_a_circle_make_no_root(links: list[Link]) -> None:
    (tree,) = families(1 + max(link.suspect for link in links), links, [])
    assert tree.rooted is None
    assert "circle" in tree.reason


def test_all_come_from_an_indicated_root_from_step_to_step() -> None:
    (tree,) = families(4, [link(at + 1, at, direction=AFTER) for at in range(3)], [])
    assert (tree.start, tree.rooted) == (0, "indicated")


def test_a_merge_hangs_on_the_nearer_parent_and_two_declared_parents_make_no_root() -> None:
    links = [link(2, 0, 0.8), link(2, 1, 0.85), link(1, 0, 0.5)]
    (tree,) = families(3, links, [claim(2, 0), claim(2, 1)])
    assert shape(tree) == {frozenset((2, 1)), frozenset((2, 0))}
    assert tree.rooted is None
    assert "several" in tree.reason


def test_copies_are_joined_first_and_count_once() -> None:
    links = [
        link(1, 0, 1.0, "identical"),
        link(2, 0, 0.9, direction="suspect-from-base"),
        link(2, 1, 0.9, direction="suspect-from-base"),
    ]
    (tree,) = families(3, links, [])
    assert frozenset((0, 1)) in shape(tree)
    assert (tree.start, tree.rooted) == (0, "indicated")
    # Two copies alone have no root.
    (tree,) = families(2, links[:1], [])
    assert tree.rooted is None


def test_families_are_components_and_a_common_start_only_groups_them() -> None:
    links = [
        link(1, 0),
        link(3, 2),
        link(2, 0, 0.4, "shared-init"),
        link(4, 3, 0.3, "shared-init"),
        link(5, 0, 0.0, "unrelated"),
        link(6, 5, None, "inconclusive"),
    ]
    trees = families(7, links, [])
    assert [tree.members for tree in trees] == [(0, 1), (2, 3)]
    assert same_starts(7, links, trees) == ((0, 1, 2, 3, 4),)
    # Inside a family a common start is nothing new.
    assert same_starts(3, [link(1, 0), link(2, 1), link(2, 0, 0.3, "shared-init")], families(3, links[:1], [])) != ()
    kin = [link(1, 0), link(2, 1), link(2, 0, 0.3, "shared-init")]
    assert same_starts(3, kin, families(3, kin, [])) == ()


def test_a_long_chain_is_no_trouble() -> None:
    (tree,) = families(64, [link(at + 1, at, 0.9) for at in range(63)], [])
    assert len(tree.members) == 64
    assert len(tree.branches) == 63
