"""From the links of all pairs to families, to a tree of each, and to what joins families.

A *family* is a connected component of the pairs that are identical or derived: each member shares learned weights with
another one, not necessarily with every one. Its *tree* is the maximum spanning tree by cosine (Kruskal's algorithm): of
all trees that join the members it has the largest cosines, so a branch says *nearest by weights*. That is no
parenthood. Updates are nearly orthogonal to what they start from, so that of a chain A, B, C the cosine of A and C is
about the product of the other two, and below both: where a chain or a common parent is among the models, the tree runs
through it. A parent that is absent leaves its children as neighbours, and a merge hangs on the nearer of its parents
alone.

Where the drawing begins is the *root* only where the cards say so and no weight speaks against it, or where the weights
indicate it; who came first is never more than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Literal

from lineage_plugin.family.claims import reversed_by
from lineage_plugin.family.types import Branch, Claim, Link, Tree

__all__ = ["families", "same_starts"]

_Rooted = Literal["declared", "indicated"]


def families(models: int, links: Sequence[Link], claims: Sequence[Claim]) -> tuple[Tree, ...]:
    """Find the families and choose a tree of each.

    Args:
        models: Number of models.
        links: All pairs.
        claims: What the models declare of each other.

    Returns:
        The families of two and more, the largest first, then in the order of their first members.
    """
    # Ties go to the pair that was given first, so that the same models make the same tree.
    kin = sorted(
        (link for link in links if link.relation in ("identical", "derived")),
        key=lambda link: (link.relation != "identical", -_cosine(link), *sorted((link.suspect, link.base))),
    )
    groups = _Groups(models)
    chosen = [link for link in kin if groups.join(link.suspect, link.base)]
    found = []
    for members in groups.all():
        if len(members) < 2:
            continue
        inside = [link for link in chosen if link.suspect in members]
        of_family = [link for link in links if link.suspect in members and link.base in members]
        found.append(_tree(members, inside, of_family, [c for c in claims if {c.model, c.base} <= set(members)]))
    return tuple(sorted(found, key=lambda tree: (-len(tree.members), min(tree.members))))


def same_starts(models: int, links: Sequence[Link], trees: Sequence[Tree]) -> tuple[tuple[int, ...], ...]:
    """Return groups of models that a common random start joins, beyond families: all members of what is joined."""
    groups = _Groups(models)
    for tree in trees:
        for branch in tree.branches:
            groups.join(branch.outer, branch.inner)
    before = {at: group for group in groups.all() for at in group}
    for link in links:
        if link.relation == "shared-init":
            groups.join(link.suspect, link.base)
    return tuple(group for group in groups.all() if group != before[group[0]])


def _tree(members: Sequence[int], chosen: Sequence[Link], links: Sequence[Link], claims: Sequence[Claim]) -> Tree:
    start, rooted, reason = _root(members, links, claims)
    near: dict[int, list[tuple[float, int]]] = {at: [] for at in members}
    for link in chosen:
        near[link.suspect].append((_cosine(link), link.base))
        near[link.base].append((_cosine(link), link.suspect))
    order, branches = [start], []
    waiting = [(start, cosine, at) for cosine, at in sorted(near[start], key=lambda one: (one[0], -one[1]))]
    while waiting:
        inner, cosine, at = waiting.pop()
        order.append(at)
        branches.append(Branch(at, inner, cosine))
        further = [(c, other) for c, other in near[at] if other != inner]
        waiting += [(at, c, other) for c, other in sorted(further, key=lambda one: (one[0], -one[1]))]
    return Tree(tuple(order), tuple(branches), start, rooted, reason)


def _root(members: Sequence[int], links: Sequence[Link], claims: Sequence[Claim]) -> tuple[int, _Rooted | None, str]:
    """Choose where the drawing begins, and say why."""
    indicated = {at: _indicated_ancestors(at, members, links) for at in members}
    by_pair = {frozenset((link.suspect, link.base)): link for link in links}
    declared: dict[int, set[int]] = {at: set() for at in members}
    for claim in claims:
        link = by_pair.get(frozenset((claim.model, claim.base)))
        if claim.standing == "supported" and link is not None and not reversed_by(link, claim.model):
            declared[claim.model].add(claim.base)
    named = set().union(*declared.values())
    sources = [at for at in members if at in named and not declared[at]]
    if len(sources) == 1:
        (root,) = sources
        if not indicated[root]:
            count = sum(bool(bases) for bases in declared.values())
            said = "the card of one member leads" if count == 1 else f"the cards of {count} members lead"
            return root, "declared", f"{said} to it, and the weights do not speak against it"
        return (*_middle(members, links), "the cards lead to one member, but the weights indicate an ancestor of it")
    if not sources and named:
        return (*_middle(members, links), "the cards declare each other as bases, in a circle")
    if len(sources) > 1:
        why = "the cards lead to several members that declare no base here"
    else:
        why = "no card among them says which came first"
    try:
        origin = _indicated_origin(members, indicated, links)
    except CycleError:
        return (*_middle(members, links), f"{why}, and what the weights indicate goes in a circle")
    if origin is not None:
        return origin, "indicated", "the weights indicate that all others come from it, which is no evidence"
    return (*_middle(members, links), why if len(sources) > 1 else f"{why}, and the weights do not indicate one")


def _indicated_origin(members: Sequence[int], indicated: Mapping[int, set[int]], links: Sequence[Link]) -> int | None:
    """Return the member that all others come from by what the weights indicate, from step to step; None without one.

    Args:
        members: The members; copies of one model count once.
        indicated: The indicated ancestors of each.
        links: The pairs of the family.

    Raises:
        CycleError: When the indications go in a circle.
    """
    position = {at: place for place, at in enumerate(members)}
    groups = _Groups(len(members))
    for link in links:
        if link.relation == "identical":
            groups.join(position[link.suspect], position[link.base])
    above: dict[int, set[int]] = {groups.find(place): set() for place in position.values()}
    for at, ancestors in indicated.items():
        above[groups.find(position[at])] |= {groups.find(position[one]) for one in ancestors}
    TopologicalSorter(above).prepare()
    # Without a circle every way up ends where there is no ancestor: at the only such place, if there is one only.
    free = [place for place, ancestors in above.items() if not ancestors]
    return members[free[0]] if len(free) == 1 and len(above) > 1 else None


def _middle(members: Sequence[int], links: Sequence[Link]) -> tuple[int, None]:
    """Return the member that is nearest to all others together: a place to begin, no root."""
    total = dict.fromkeys(members, 0.0)
    for link in links:
        if link.relation in ("identical", "derived"):
            total[link.suspect] += _cosine(link)
            total[link.base] += _cosine(link)
    return min(members, key=lambda at: (-total[at], at)), None


def _indicated_ancestors(at: int, members: Iterable[int], links: Sequence[Link]) -> set[int]:
    """Return the members that the weights indicate as ancestors of one of them."""
    found = set()
    for link in links:
        if link.suspect == at and link.direction == "suspect-from-base":
            found.add(link.base)
        elif link.base == at and link.direction == "base-from-suspect":
            found.add(link.suspect)
    return found & set(members)


def _cosine(link: Link) -> float:
    return 0.0 if link.cosine is None else link.cosine


class _Groups:
    """Sets that are joined (union-find)."""

    def __init__(self, size: int) -> None:
        self._above = list(range(size))

    def find(self, at: int) -> int:
        while self._above[at] != at:
            self._above[at] = self._above[self._above[at]]
            at = self._above[at]
        return at

    def join(self, one: int, other: int) -> bool:
        """Join two sets; return whether they were two."""
        a, b = sorted((self.find(one), self.find(other)))
        self._above[b] = a
        return a != b

    def all(self) -> list[tuple[int, ...]]:
        """Return the sets, members in order, by their first member."""
        found: dict[int, list[int]] = {}
        for at in range(len(self._above)):
            found.setdefault(self.find(at), []).append(at)
        return [tuple(members) for members in found.values()]
