"""The tree for people, in a terminal or a log.

Lines join models that are nearest by weights; dashed ones are a common random start, which makes no family. Colours and
signs only repeat what the words say.
"""

from __future__ import annotations

from rich.text import Text

from lineage_plugin.family import rows, words
from lineage_plugin.family.rows import Row
from lineage_plugin.family.types import Family
from lineage_plugin.report import outline, phrases
from lineage_plugin.report.text_report import LEVELS, MAX_WIDTH, MIN_WIDTH, Page
from lineage_plugin.text import one_line

__all__ = ["render"]

_LINES = {True: ("├─ ", "└─ ", "│  ", "┄"), False: ("|- ", "`- ", "|  ", "- -")}
_NAME = 34
"""Columns that are left for names, however deep they stand."""
_STANDINGS = {"supported": "green", "contradicted": "bold red", "undecided": "yellow", "not tested": "yellow"}


def render(family: Family, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a family for people.

    Args:
        family: The family.
        color: Whether to use ANSI colours.
        width: Columns to wrap to, within 40 to 110.
        unicode: Whether lines and signs may leave ASCII.

    Returns:
        The text, no trailing spaces.
    """
    page = Page(min(max(width, MIN_WIDTH), MAX_WIDTH), color, unicode)
    page.add(Text.assemble(("TREE: ", "bold"), words.summary(family)))
    page.blank()
    for number in range(len(family.trees)):
        _tree(page, family, number)
    _others(page, family)
    _starts(page, family)
    _bullets(page, "Not decided", words.open_pairs(family))
    page.blank()
    page.entry("Evidence", words.bound(family))
    page.entry("Read", words.cost(family))
    _bullets(page, "Limits", [one_line(limit, 400) for limit in family.limits])
    page.blank()
    for finding in family.findings:
        where = f"{outline.placed(finding.file, finding.line)}: " if finding.file else ""
        level = (f" [{finding.level}]", LEVELS[finding.level])
        page.add(Text.assemble(where, (finding.code, "bold"), level, f" {one_line(finding.message, 600)}"), indent=4)
        if finding.help:
            page.add(Text(f"help: {one_line(finding.help, 600)}"), first="    ", indent=4)
    if family.findings:
        page.blank()
        page.add(Text(f"{outline.counted(family.findings)}."))
    return page.text()


def _tree(page: Page, family: Family, number: int) -> None:
    tree = family.trees[number]
    members = phrases.plural(len(tree.members), "model")
    page.add(Text.assemble((words.heading(family, number), "bold"), f" of {members} that share learned weights"))
    page.add(Text(words.root(family, number)), first="  ", indent=2)
    page.blank()
    for row in rows.of_tree(family, number):
        _model(page, family, row)
    page.blank()


def _model(page: Page, family: Family, row: Row) -> None:
    """Write a model behind the lines that lead to it, and below it what is to be said of it."""
    fork, last, go_on, dash = _LINES[page.unicode]
    # Of a tree too deep for the page the lines nearest to its beginning are left out, and counted.
    deep = max(0, row.depth - (page.width - _NAME) // 3)
    lead = (f"+{deep} " if deep else "  ") + "".join("   " if ends else go_on for ends in row.last[deep:-1])
    first = lead + ((last if row.last[-1] else fork) if row.last else "")
    rest = lead + (("   " if row.last[-1] else go_on) if row.last else "") + "   "
    said = ""
    if row.place == "adapter":
        first = f"{lead}{dash}  "[: max(len(first), len(lead) + len(dash) + 1)]
        said = "  declared, not tested"
    elif row.branch is not None:
        said = f"  {words.branch(family, row.branch)}"
    details = words.details(family, row.at)
    name = Text.assemble((words.label(family, row.at), "bold"), (said, "green"), f"  ({details})" if details else "")
    page.add(name, first=first, indent=len(first), rest=rest[: len(first)].ljust(len(first)))
    claims = {words.claim(family, claim): claim for claim in family.claims if claim.model == row.at}
    for note in words.notes(family, row.at, row.inner):
        claim = claims.get(note)
        page.add(
            Text(note, "dim" if claim is None else _STANDINGS[claim.standing]), first=rest, indent=len(rest), rest=rest
        )


def _others(page: Page, family: Family) -> None:
    alone = rows.alone(family)
    if not alone:
        return
    page.add(Text(words.ALONE, "bold"))
    page.blank()
    for one in alone:
        for row in one:
            _model(page, family, row)
    page.blank()


def _starts(page: Page, family: Family) -> None:
    links = words.dashed(family)
    if not links:
        return
    dash = _LINES[page.unicode][3]
    page.add(Text.assemble(("Common random start", "bold"), f": {words.SAME_START}"))
    page.blank()
    for link in links:
        page.add(Text(words.start(family, link)), first=f"  {dash} ", indent=len(dash) + 3)
    page.blank()


def _bullets(page: Page, label: str, items: list[str]) -> None:
    bullet = "•" if page.unicode else "-"
    for item in items:
        page.add(Text(item), first=Text.assemble("  ", (label.ljust(12), "cyan"), f"{bullet} "), indent=16)
        label = ""
