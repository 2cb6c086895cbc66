"""A family as rows, one a model, as every format draws it: from where a tree begins outwards, then what is in no tree.

An adapter, which is not tested, hangs on the base that it declares where that one is among the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lineage_plugin.family.types import Branch, Family
from lineage_plugin.family.words import others

__all__ = ["Row", "alone", "of_tree"]

Place: TypeAlias = Literal["start", "branch", "adapter", "alone"]


@dataclass(frozen=True, slots=True)
class Row:
    """A model in its place.

    Attributes:
        at: The model.
        place: ``start``: where a tree begins. ``branch``: at the outer end of a branch. ``adapter``: below the base
            that it declares. ``alone``: in no tree.
        branch: The branch that leads to it; None unless it is at the end of one.
        inner: The model that it hangs on; None where it begins.
        last: For each step from the beginning to it, whether it goes to the last of those that hang there.
    """

    at: int
    place: Place
    branch: Branch | None = None
    inner: int | None = None
    last: tuple[bool, ...] = ()

    @property
    def depth(self) -> int:
        """Steps from the beginning."""
        return len(self.last)


def of_tree(family: Family, number: int) -> list[Row]:
    """Return the rows of a tree."""
    tree = family.trees[number]
    inner: dict[int, list[Branch]] = {}
    for branch in tree.branches:
        inner.setdefault(branch.inner, []).append(branch)
    return _below(Row(tree.start, "start"), inner, _hung(family))


def alone(family: Family) -> list[list[Row]]:
    """Return the rows of the models in no tree, each with the adapters that hang on it."""
    hung = _hung(family)
    taken = {at for adapters in hung.values() for at in adapters}
    return [_below(Row(at, "alone"), {}, hung) for at in others(family) if at not in taken]


def _below(first: Row, branches: dict[int, list[Branch]], hung: dict[int, list[int]]) -> list[Row]:
    rows: list[Row] = []
    waiting = [first]
    while waiting:
        row = waiting.pop()
        rows.append(row)
        of = branches.get(row.at, [])
        below = [Row(one.outer, "branch", one, row.at) for one in of]
        below += [Row(at, "adapter", None, row.at) for at in hung.get(row.at, [])]
        ends = len(below) - 1
        waiting += [
            Row(one.at, one.place, one.branch, one.inner, (*row.last, number == ends))
            for number, one in reversed(list(enumerate(below)))
        ]
    return rows


def _hung(family: Family) -> dict[int, list[int]]:
    """Return the adapters by the first of their declared bases that was tested."""
    found: dict[int, list[int]] = {}
    seen: set[int] = set()
    for claim in family.claims:
        adapter = family.models[claim.model].state == "adapter" and family.models[claim.base].state == "tested"
        if adapter and claim.model not in seen:
            seen.add(claim.model)
            found.setdefault(claim.base, []).append(claim.model)
    return found
