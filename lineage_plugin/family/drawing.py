"""The picture of a family as SVG, in the style of :mod:`lineage_plugin.report.drawing`.

A row a model. Lines lead from where a tree begins outwards: they join models that are nearest by weights and have no
arrows, for they say nothing of parents. Dashed lines at the left are a common random start. Kinds of models differ in
shape, and the description says in words what the picture shows. Names are escaped where marks are made.
"""

from __future__ import annotations

import itertools

from lineage_plugin.family import rows, words
from lineage_plugin.family.rows import Row
from lineage_plugin.family.types import Family
from lineage_plugin.report import shapes
from lineage_plugin.report.picture import shorten
from lineage_plugin.text import one_line

__all__ = ["picture"]

_LEFT = 40.0
"""Where trees begin; what is left of it is for the dashed lines."""
_LANES = 5
_STANDINGS = {
    "supported": "supported",
    "contradicted": "CONTRADICTED",
    "undecided": "not decided",
    "not tested": "not tested",
}
_LETTER = 6.2
"""Mean width of a letter."""


def picture(family: Family) -> str:
    """Draw a family.

    Args:
        family: The family.

    Returns:
        One ``<svg>`` element; its colours come from the style sheet of the reports.
    """
    blocks = _blocks(family)
    depth = max((row.depth for block in blocks for row in block), default=0)
    step = min(18.0, 140.0 / max(1, depth))
    places: dict[int, tuple[float, float]] = {}
    under, marks, texts = [], [], []
    y = 4.0
    for block in blocks:
        for row in block:
            x, middle = _LEFT + step * row.depth, y + 9
            places[row.at] = (x, middle)
            if row.inner is not None:
                above = places[row.inner]
                elbow = [(above[0], above[1]), (above[0], middle), (x, middle)]
                if row.place == "adapter":
                    under += [shapes.line(*a, *b, "half") for a, b in itertools.pairwise(elbow)]
                else:
                    under.append(shapes.polyline(elbow, "step"))
            marks.append(_mark(family, row, x, middle))
            lines = _lines(family, row)
            for number, line in enumerate(lines):
                room = int((shapes.WIDTH - x - 14) / _LETTER)
                kind = "value start" if number == 0 else "label start"
                texts.append(shapes.text(x + 11, middle + 4 + 13 * number, shorten(line, max(12, room)), kind))
            y += 13 * len(lines) + 11
        y += 7
    for number, link in enumerate(words.dashed(family)):
        lane = 6.0 + 5 * (number % _LANES)
        for at in (link.suspect, link.base):
            under.append(shapes.line(lane, places[at][1], places[at][0], places[at][1], "half"))
        under.append(shapes.line(lane, places[link.suspect][1], lane, places[link.base][1], "half"))
    return shapes.svg(y, "Family tree by weights", _said(family), [*under, *marks, *texts])


def _blocks(family: Family) -> list[list[Row]]:
    """Return trees and single models, those that a common start joins next to each other."""
    blocks = [rows.of_tree(family, number) for number in range(len(family.trees))] + rows.alone(family)
    first: dict[int, int] = {}
    keys = []
    for number, block in enumerate(blocks):
        group = next((at for at, start in enumerate(family.starts) if block[0].at in start), None)
        keys.append((number if group is None else first.setdefault(group, number), number))
    return [blocks[number] for _, number in sorted(keys)]


def _mark(family: Family, row: Row, x: float, y: float) -> str:
    """Draw a model: a square for a root, dots in a tree, rings for models in none."""
    name = words.label(family, row.at, 80)
    state = family.models[row.at].state
    if state == "not read":
        return shapes.cross(x, y, 4.0, f"{name}: not read")
    if state == "adapter":
        return shapes.diamond(x, y, 5.0, 1.0, f"{name}: adapter")
    if row.place == "alone":
        return shapes.ring(x, y, 5.0, 1.0, f"{name}: in no family")
    number = family.tree_of(row.at)
    if row.place == "start" and number is not None and family.trees[number].rooted is not None:
        return shapes.rect(x - 5, y - 5, 10, 10, "heads", f"{name}: root")
    return shapes.dot(x, y, 4.5, 1.0, name)


def _lines(family: Family, row: Row) -> list[str]:
    """Return what stands beside a model: its name, the branch, and what it declares of the others."""
    lines = [words.label(family, row.at)]
    if row.branch is not None:
        lines.append(words.branch(family, row.branch))
    member = family.models[row.at]
    if member.state == "not read":
        lines.append(f"not read: {one_line(member.reason, 120)}")
    lines += [
        f"declares {words.label(family, claim.base, 60)}: {_STANDINGS[claim.standing]}"
        for claim in family.claims
        if claim.model == row.at
    ]
    return lines


def _said(family: Family) -> str:
    """Say in words what the picture shows."""
    said = [words.summary(family)]
    for number, tree in enumerate(family.trees):
        said.append(words.root(family, number))
        said += [
            f"{words.label(family, one.outer, 80)} is nearest to {words.label(family, one.inner, 80)} "
            f"({words.branch(family, one)})."
            for one in tree.branches
        ]
    said += [f"Common random start: {words.start(family, link)}." for link in words.dashed(family)]
    return " ".join(said)
