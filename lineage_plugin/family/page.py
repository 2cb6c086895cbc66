"""A family as HTML: an article for a page of somebody else, and a page of its own.

Look and rules are those of :mod:`lineage_plugin.report.html_report`: no script, no network, ASCII. Everything a model
says passes through :func:`~lineage_plugin.text.one_line` and is escaped by the template.
"""

from __future__ import annotations

import re
from typing import Any

from lineage_plugin._links import DOCS, HOME
from lineage_plugin._version import __version__
from lineage_plugin.family import drawing, rows, words
from lineage_plugin.family.grow import exit_code
from lineage_plugin.family.rows import Row
from lineage_plugin.family.types import Family, Link
from lineage_plugin.findings import CODES
from lineage_plugin.report import html_report, outline, phrases
from lineage_plugin.report.hub import address
from lineage_plugin.report.templates import as_ascii, own_markup, templates
from lineage_plugin.text import one_line

__all__ = ["MOST_PAIRS", "fragment", "page"]

_TEMPLATES = "family/html"

MOST_PAIRS = 500
"""Rows of the table of pairs; the JSON report has all."""

_WIDTH = ".lineage-tree .drawing { max-width: 34rem; }\n"
"""A row a model: larger letters would make it long."""
_REPO = re.compile(r"[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_VERDICTS = {
    0: ("note", "\N{RIGHTWARDS ARROW}", "Tree"),
    1: ("fail", "\N{MULTIPLICATION X}", "A declared base is contradicted"),
    2: ("undecided", "?", "Not every model could be read"),
    3: ("undecided", "?", "Not everything is decided"),
    4: ("undecided", "?", "Not every model could be read"),
}
_KEYS = (
    ('class="step"', "Line: nearest by weights of the family; it does not say which came from which."),
    ('class="heads"', "Square: the root, as it is declared or indicated."),
    ('class="dot"', "Dot: a model of a family."),
    ('class="ring"', "Ring: a model in no family."),
    ('class="diamond"', "Diamond: an adapter, not tested."),
    ('class="cross"', "Cross: not read."),
    ('class="half"', "Dashed: a common random start at the left margin, or an adapter below its declared base."),
)


def fragment(family: Family) -> str:
    """Write a family as an ``<article>`` for a page that has a heading ``h1`` and the style sheet of the reports.

    Args:
        family: The family.

    Returns:
        The article in an element of class ``lineage-report``; ASCII.
    """
    return as_ascii(f'<div class="lineage-report">\n{_article(family, 1)}</div>\n')


def page(family: Family) -> str:
    """Write a family as a page of its own.

    Args:
        family: The family.

    Returns:
        The page; it needs no script, no network and no other file.
    """
    text: str = (
        templates(_TEMPLATES)
        .get_template("page.html")
        .render(
            models=phrases.plural(len(family.models), "model"),
            article=own_markup(_article(family, 0)),
            **html_report.page_styles(_WIDTH),
            version=__version__,
            home=HOME,
            docs=DOCS,
        )
    )
    return as_ascii(text)


def _article(family: Family, deep: int) -> str:
    svg = drawing.picture(family)
    kind, sign, word = _headline(family)
    pairs = [link for link in family.links if link.relation != "unrelated"]
    pairs += [link for link in family.links if link.relation == "unrelated"]
    text: str = (
        templates(_TEMPLATES)
        .get_template("article.html")
        .render(
            deep=deep,
            kind=kind,
            sign=sign,
            word=word,
            summary=words.summary(family),
            caution=words.caution(family),
            svg=own_markup(svg),
            key=" ".join(said for mark, said in _KEYS if mark in svg),
            findings=[
                {
                    "code": found.code,
                    "title": CODES[found.code].title,
                    "link": CODES[found.code].help_uri,
                    "level": found.level,
                    "place": outline.placed(found.file, found.line) if found.file else "",
                    "message": phrases.sentence(words.shortened(family, found.message)),
                    "help": one_line(words.shortened(family, found.help), 600),
                }
                for found in family.findings
            ],
            blocks=_blocks(family),
            starts=[words.start(family, link) for link in words.dashed(family)],
            same_start=phrases.sentence(words.SAME_START.capitalize()),
            undecided=words.open_pairs(family),
            bound=words.bound(family),
            counted=words.counted(family.links),
            pairs=[_pair(family, link) for link in pairs[:MOST_PAIRS]],
            more_pairs=max(0, len(pairs) - MOST_PAIRS),
            read=words.cost(family),
            created=f"{phrases.moment(family.created)}, lineage-plugin {__version__}",
            seed=str(family.settings.seed),
            command=words.command(family),
            limits=[one_line(words.shortened(family, limit), 400) for limit in family.limits],
        )
    )
    return text


def _headline(family: Family) -> tuple[str, str, str]:
    """Return kind, sign and words; what cannot be compared for its layout is a limit, and no open question."""
    code = exit_code(family)
    if code in (1, 2, 4) or words.is_open(family):
        return _VERDICTS[code]
    kind, sign, word = _VERDICTS[0]
    compared = len(family.links) > sum(map(words.not_comparable, family.links))
    return kind, sign, word if family.trees else "No family found" if compared else "Nothing compared"


def _blocks(family: Family) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "title": words.heading(family, number),
            "about": words.root(family, number),
            "models": [_model(family, row) for row in rows.of_tree(family, number)],
        }
        for number in range(len(family.trees))
    ]
    alone = [_model(family, row) for block in rows.alone(family) for row in block]
    if alone:
        found.append({"title": words.ALONE, "about": "", "models": alone})
    return [{**block, "joined": any(model["nearest"] for model in block["models"])} for block in found]


def _model(family: Family, row: Row) -> dict[str, Any]:
    model = family.models[row.at].model
    nearest = ""
    if row.inner is not None:
        how = "declared, not tested" if row.branch is None else words.branch(family, row.branch)
        nearest = f"{words.label(family, row.inner)} ({how})"
    # A commit tells a model of the Hub.
    of_hub = _REPO.fullmatch(model.id) and _COMMIT.fullmatch(model.revision or "")
    return {
        "name": words.label(family, row.at),
        "link": address(family, model.id, model.revision) if of_hub else "",
        "details": words.details(family, row.at),
        "nearest": nearest,
        "notes": words.notes(family, row.at, row.inner),
    }


def _pair(family: Family, link: Link) -> dict[str, str]:
    coins = link.evidence
    return {
        "one": words.label(family, link.suspect),
        "other": words.label(family, link.base),
        "relation": words.RELATIONS[link.relation],
        "heads": f"{phrases.count(coins.heads)} of {phrases.count(coins.coins)}" if coins.coins else "no coins",
        "value": words.value(family, link),
        "cosine": "" if link.cosine is None else f"{link.cosine + 0.0:.3f}",
    }
