"""The tree as GitHub-flavoured Markdown: a nested list, a table of the models, a table of the pairs.

Names of models are written by :mod:`lineage_plugin.report.markup`, so that nothing in them is read as markup.
"""

from __future__ import annotations

from lineage_plugin.family import rows, words
from lineage_plugin.family.rows import Row
from lineage_plugin.family.types import Family, Link
from lineage_plugin.report import outline, phrases
from lineage_plugin.report.markup import code, row, text
from lineage_plugin.text import one_line

__all__ = ["render"]

MOST_PAIRS = 100
"""Rows of the table of pairs; the JSON report has all."""


def render(family: Family, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a family as Markdown.

    Args:
        family: The family.
        color: Ignored.
        width: Ignored.
        unicode: Ignored.

    Returns:
        The text.
    """
    lines = ["## Family tree", "", text(words.summary(family)), ""]
    for number in range(len(family.trees)):
        lines += [f"### {words.heading(family, number)}", "", text(words.root(family, number)), ""]
        lines += [line for one in rows.of_tree(family, number) for line in _item(family, one)]
        lines.append("")
    alone = rows.alone(family)
    if alone:
        lines += [f"### {words.ALONE}", ""]
        lines += [line for block in alone for one in block for line in _item(family, one)]
        lines.append("")
    starts = words.dashed(family)
    if starts:
        lines += ["### Common random start", "", text(f"{words.SAME_START.capitalize()}."), ""]
        lines += [f"- {_name(family, one.suspect)} and {_name(family, one.base)}{_near(one)}" for one in starts]
        lines.append("")
    lines += _findings(family)
    lines += _pairs(family)
    lines += [text(words.bound(family)), "", f"Read: {text(words.cost(family))}", ""]
    if family.limits:
        lines += ["### What this does not show", "", *(f"- {text(one_line(one, 400))}" for one in family.limits)]
    return "\n".join(lines)


def _item(family: Family, one: Row) -> list[str]:
    """Return the item of a nested list: a model, and below it what is to be said of it."""
    indent = "  " * one.depth
    said = "declared, not tested" if one.place == "adapter" else ""
    if one.branch is not None:
        said = words.branch(family, one.branch)
    details = words.details(family, one.at)
    name = f"**{_name(family, one.at)}**" if one.place == "start" else _name(family, one.at)
    more = "".join(f", {text(part)}" for part in (said, details) if part)
    notes = [f"{indent}  - {text(note)}" for note in words.notes(family, one.at, one.inner)]
    return [f"{indent}- {name}{more}", *notes]


def _name(family: Family, at: int, *, cell: bool = False) -> str:
    return code(words.label(family, at), cell=cell)


def _near(link: Link) -> str:
    return "" if link.cosine is None else f" (cosine {link.cosine:.3f})"


def _findings(family: Family) -> list[str]:
    if not family.findings:
        return []
    lines = ["### Findings", ""]
    for found in family.findings:
        place = f" {code(outline.placed(found.file, found.line))}" if found.file else ""
        lines.append(f"- **{found.code}** ({found.level}){place}: {text(found.message)}")
    return [*lines, ""]


def _pairs(family: Family) -> list[str]:
    """Return the table of all pairs but those of which nothing was found, which are counted."""
    if not family.links:
        return []
    shown = [link for link in family.links if link.relation != "unrelated"]
    lines = ["### Pairs", "", text(words.counted(family.links)) + ".", ""]
    open_pairs = [f"- {text(said)}" for said in words.open_pairs(family)]
    listed = [link for link in shown if link.relation != "inconclusive"][:MOST_PAIRS]
    if listed:
        lines += [row(["One", "Other", "Relation", "Coins", "E-value", "Cosine"]), row(["---"] * 6)]
    for link in listed:
        coins = link.evidence
        tossed = f"{phrases.count(coins.heads)} of {phrases.count(coins.coins)} heads" if coins.coins else ""
        value = words.value(family, link)
        cosine = "" if link.cosine is None else f"{link.cosine:.3f}"
        one, other = (_name(family, at, cell=True) for at in (link.suspect, link.base))
        lines.append(row([one, other, words.RELATIONS[link.relation], tossed, value, cosine]))
    if listed:
        lines.append("")
    if open_pairs:
        lines += ["Not decided:", "", *open_pairs, ""]
    return lines
