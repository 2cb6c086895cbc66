"""The report as one HTML file: for a reader who opens it in a browser, prints it or passes it on.

It needs no script, no network and no other file, and its Content-Security-Policy allows nothing but its own style
sheet. The sentences are those of the other formats; the pictures are in :mod:`~lineage_plugin.report.drawing`, the
markup in ``html/page.html``. The text is ASCII (other letters are character references), so that no guess at
an encoding can damage it.

Everything a model says passes through :func:`~lineage_plugin.text.one_line` here and is escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from lineage_plugin._links import DOCS, HOME
from lineage_plugin._version import __version__
from lineage_plugin.findings import CODES, Finding, gravest_first
from lineage_plugin.judge.types import Comparison, GroupEvidence, Interval, Merge, ModelSummary, Report
from lineage_plugin.policy.words import policy_line
from lineage_plugin.report import cautions, drawing, outline, parents, phrases, searched
from lineage_plugin.report.hub import address
from lineage_plugin.report.places import place
from lineage_plugin.report.repeat import command
from lineage_plugin.report.templates import as_ascii, own_markup, templates
from lineage_plugin.text import one_line

__all__ = ["fragment", "page_styles", "render", "render_all", "sheet"]

_TEMPLATES = "report/html"

MOST_ROWS = 500
"""Rows of a table; the JSON report has all."""

_SIGNS = {"pass": "\N{CHECK MARK}", "fail": "\N{MULTIPLICATION X}", "undecided": "?", "note": "\N{RIGHTWARDS ARROW}"}
_KEYS = {
    "coins": {
        "half": "Dashed: one half, the line of chance.",
        "band": "Band: where chance keeps all layers with a probability of at least 99%.",
        "heads": "Blue: above the band, more heads than chance gives{given}.",
        "chance": "Grey: not above it.",
        "mark": "A dot on the lowest line is a layer without coins of its own.",
    },
    "map": {
        "dot": "Dot: tested, the fuller its colour the {more}.",
        "empty": "Empty square: no trace, its heads are not above the band of chance.",
        "ring": "Ring: repeats a layer, whose coins are counted once.",
        "diamond": "Diamond: not tested, or by too few coins to tell.",
        "cross": "Cross: new, no layer of the base.",
        "missing": "Grey column: a layer of the base that is missing.",
        "unread": "Grey column: a layer of the base to which no layer that was read corresponds.",
    },
    "curve": {
        "half": "1, dashed, is all. Descent: the left end is about as high as the right, or higher.",
        "part": "Of fingerprints the parts are known, not what lies between.",
    },
    "estimates": {
        "heads": "Bar: the estimate.",
        "whisker": "Thin line: its 95% interval.",
        "arrow": "An arrowhead: the interval goes on beyond the picture.",
    },
}
_KEPT = {
    "identical": "How much of the base is kept",
    "derived": "How much of the base is kept",
    "shared-init": "How much of the common start both still have",
    "unrelated": "How much could remain at most",
    "inconclusive": "How much of the base may be present",
}
_COMMAND_NOTES = {
    "same": (
        "With these settings, the same files and the same fingerprints at hand (or none) the numbers are the same to "
        "the digit, and so is the verdict, unless an ancestor or a registry was named besides."
    ),
    "numbers": (
        "With these settings and the same files this repeats the numbers, not the verdict: candidates, ancestors and "
        "registries have to be named besides, as they were, and what the Hub says of licences and of bases further up "
        "is not asked again."
    ),
    "registry": (
        "REGISTRY stands for the registry that was looked in. With the same one, these settings and the same files the "
        "numbers are the same to the digit; with another one they are not, since each e-value is divided by its number "
        "of models."
    ),
}
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9._-]{1,96}/[A-Za-z0-9._-]{1,96}")


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a report as an HTML page.

    Args:
        report: The report.
        color: Ignored.
        width: Ignored.
        unicode: Ignored; the text is ASCII.

    Returns:
        The page.
    """
    return render_all([report])


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the reports on several models as one HTML page: a table of contents, then a section a model."""
    page = (
        templates(_TEMPLATES)
        .get_template("page.html")
        .render(
            models=[_model_section(f"model-{number}", report) for number, report in enumerate(reports, 1)],
            **page_styles(),
            version=__version__,
            home=HOME,
            docs=DOCS,
        )
    )
    return as_ascii(page)


def fragment(report: Report, *, anchor: str = "report") -> str:
    """Write a report as an ``<article>`` for a page of somebody else, which has a heading ``h1`` and :func:`sheet`.

    It says what the page of its own says, for readers who have not heard of the method: with what the answer must not
    be taken for beside the verdict, and the tables folded away at the end.

    Args:
        report: The report.
        anchor: Its id, and the beginning of all others in it; no two articles of a page have the same.

    Returns:
        The article in an element of class ``lineage-report``.
    """
    article = templates(_TEMPLATES).get_template("article.html").module.article  # type: ignore[attr-defined]
    return as_ascii(f'<div class="lineage-report">\n{article(_model_section(anchor, report), 1, True)}</div>\n')


def sheet() -> str:
    """Return the style sheet of an article; no rule reaches beyond the class ``lineage-report``.

    Light or dark is as ``color-scheme`` has it where the article stands.
    """
    return f"{_file('report.css')}.lineage-report {{\n{drawing.style()}}}\n"


def page_styles(further: str = "") -> dict[str, object]:
    """Return ``sheet`` and ``policy`` of a page of its own: its style sheet, and the policy that allows nothing else.

    Args:
        further: Rules after the common ones.
    """
    # The style sheet is ASCII without "<": it needs no escaping, and its digest is that of what the browser sees.
    styles = f"\n{_file('page.css')}{sheet()}{further}"
    digest = base64.b64encode(hashlib.sha256(styles.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return {"sheet": own_markup(styles), "policy": policy}


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("html").joinpath(name).read_text(encoding="utf-8")


def _model_section(anchor: str, report: Report) -> dict[str, Any]:
    kind, word = outline.banner(report)
    repeated, repeats = command(report)
    return {
        "anchor": anchor,
        "verdict": kind,
        "word": word.capitalize(),
        "sign": _SIGNS[kind],
        "summary": phrases.summary(report),
        "caution": cautions.caution(report),
        "name": _name(report),
        "subject": _subject(report, report.suspect),
        "declares": _capital(outline.declares(report.declared, one_line, outline.placed)),
        "created": phrases.moment(report.created),
        "version": __version__,
        "policy": policy_line(report.settings.policy),
        "chain": outline.chain(report),
        "licences": outline.licences(report),
        "comparisons": [
            _comparison(one, report, f"{anchor}-base-{rank}") for rank, one in enumerate(report.comparisons, 1)
        ],
        "merge": None if report.merge is None else _merge(report.merge),
        "closest": _closest(report),
        "estimate": parents.ESTIMATE,
        "findings": [_finding(report, finding) for finding in gravest_first(report.findings)],
        "counted": outline.counted(report.findings),
        "settings": _settings(report) if report.command != "lint" else [],
        "command": repeated,
        "repeats": _COMMAND_NOTES[repeats],
    }


def _name(report: Report) -> str:
    """Return what a report is about: of a pair, where nobody declared anything, both models."""
    both = outline.is_pair(report) or (report.command == "compare" and len(report.comparisons) == 1)
    models = [report.suspect, *(one.base for one in report.comparisons if both)]
    return " and ".join(one_line(model.id, 200) or "unnamed" for model in models)


def _subject(report: Report, model: ModelSummary) -> dict[str, Any]:
    link = ""
    if _REPO.fullmatch(model.id) and _COMMIT.fullmatch(model.revision or ""):
        link = address(report, model.id, model.revision)  # a commit tells a model of the Hub
    return {
        "name": one_line(model.id, 200) or "unnamed",
        "link": link,
        "revision": one_line((model.revision or "")[:12], 12),
        "details": ", ".join(outline.details(model)),
    }


def _comparison(comparison: Comparison, report: Report, anchor: str) -> dict[str, Any]:
    declared = outline.is_declared(report, comparison)
    label, found, consequence = phrases.relation(comparison, declared=declared)
    coins = ""
    if comparison.relation != "identical" or comparison.evidence.coins:
        coins = phrases.coins(comparison.evidence, calibrated=comparison.calibrated is not None)
    kept, curve = phrases.kept(comparison), phrases.curve(comparison)
    rests = phrases.rests_on_calibration(comparison)
    bands = drawing.joint_bands(comparison.layers)
    # A picture stands beside a sentence only: what cannot be said is not shown.
    pictures = [
        ("coins", "How the coins fell, layer by layer", drawing.coins_by_layer(comparison.layers)),
        # Models without a relation have no layers that correspond to each other.
        (
            "map",
            "Layer against layer",
            "" if comparison.relation == "unrelated" else drawing.layer_map(comparison.layers, by_cosine=rests),
        ),
        (
            "curve",
            "What was learned, against what is faint",
            drawing.inheritance_curve(comparison.inheritance) if curve else "",
        ),
        (
            "estimates",
            _KEPT[comparison.relation],
            drawing.kept_share(comparison.kept, _KEPT[comparison.relation], kept) if kept else "",
        ),
    ]
    return {
        "anchor": anchor,
        "declared": declared,
        "base": _subject(report, comparison.base),
        "part": searched.part(comparison),
        "relation": comparison.relation,
        "label": _capital(label),
        "found": f"{found} {consequence}".strip(),
        "changes": searched.changes(comparison),
        "relabelled": searched.relabelled(comparison),
        "coins": coins,
        "kept": kept,
        "descent": phrases.descent(comparison),
        "curve": curve,
        "direction": phrases.direction(comparison.direction) if comparison.relation == "derived" else "",
        "calibrated": searched.calibrated(comparison),
        "stages": searched.stages(comparison.evidence),
        "pictures": [
            {"title": title, "svg": own_markup(svg), "key": _key(svg, kind, comparison)}
            for kind, title, svg in pictures
            if svg
        ],
        "groups": [_group(group) for group in comparison.evidence.groups[:MOST_ROWS]],
        "layers": [
            {
                "suspect": one_line(layer.suspect, 80) or "unnamed",
                "base": "none" if layer.base is None else one_line(layer.base, 80) or "unnamed",
                "heads": f"{phrases.count(layer.heads)} of {phrases.count(layer.coins)}" if layer.coins else "no coins",
                "chance": "{} to {}".format(*map(phrases.count, band)) if layer.coins > 0 else "",
                "cosine": f"{layer.cosine + 0.0:.2f}" if math.isfinite(layer.cosine) and layer.base is not None else "",
            }
            for layer, band in zip(comparison.layers[:MOST_ROWS], bands, strict=False)
        ],
        "more_layers": max(0, len(comparison.layers) - MOST_ROWS),
        "read": phrases.cost(comparison.suspect_cost, comparison.base_cost),
        "limits": outline.limits(report, comparison),
        "not_shown": cautions.not_shown(comparison),
    }


def _key(svg: str, kind: str, comparison: Comparison | None = None) -> str:
    """Explain the marks that a picture has, and what they do not show of this comparison."""
    given, more, besides = "", "more heads", ""
    if comparison is not None and phrases.rests_on_calibration(comparison):
        more = "larger the cosine"
        besides = "The answer does not rest on these coins." if kind == "coins" else ""
    elif comparison is not None and kind in ("coins", "map"):
        given = "" if comparison.evidence.exact else ", if the assumptions under Limits hold"
        if comparison.relation == "shared-init":
            besides = f"A shared random start alone gives full {'bars' if kind == 'coins' else 'dots'}."
    elif comparison is not None and kind == "estimates" and comparison.relation == "unrelated":
        besides = "Its right end is the most that could remain."
    said = [text.format(given=given, more=more) for mark, text in _KEYS[kind].items() if f'class="{mark}"' in svg]
    return " ".join(filter(None, [*said, besides]))


def _group(group: GroupEvidence) -> dict[str, str]:
    # Rounded down: 100.0% are all.
    share = phrases.percent(group.heads / group.coins, toward="down") if group.coins else ""
    return {
        "name": one_line(group.name, 60) or "unnamed",
        "coins": phrases.count(group.coins),
        "heads": phrases.count(group.heads),
        "share": share,
        "value": phrases.e_value(group.log10_e),
    }


def _merge(merge: Merge) -> dict[str, Any]:
    shown = merge.parents[: parents.MOST_ROWS]
    names = list(dict.fromkeys(layer for parent in shown for layer, _ in parent.layers))[:MOST_ROWS]
    held = [dict(parent.layers) for parent in shown]
    svg = drawing.estimates(shown, "Weight of each parent")
    return {
        "svg": own_markup(svg),
        "key": _key(svg, "estimates"),
        "rows": _rows(parents.weights(merge, width=200, unicode=False)),
        "summary": parents.merge_summary(merge),
        "notes": list(
            filter(None, (parents.merge_scale(merge), parents.merge_style(merge), parents.merge_ancestor(merge)))
        ),
        "parents": [one_line(parent.id, 60) or "unnamed" for parent in shown],
        "layers": [(one_line(name, 60) or "unnamed", [_weight(one.get(name)) for one in held]) for name in names],
    }


def _weight(weight: Interval | None) -> str:
    value = None if weight is None else weight.estimate
    return "" if value is None or not math.isfinite(value) or abs(value) >= 1e6 else f"{value + 0.0:.3f}"


def _closest(report: Report) -> dict[str, Any] | None:
    closest = report.closest
    if closest is None:
        return None
    rows = _rows(parents.candidates(closest, width=200))
    svg = drawing.estimates(closest.candidates, "Weight of each candidate") if rows else ""
    return {
        "svg": own_markup(svg),
        "key": _key(svg, "estimates"),
        "rows": rows,
        "answer": parents.answer(closest),
        "notes": list(filter(None, (parents.candidates_legend(closest), parents.closest_ancestor(closest)))),
    }


def _rows(bars: Iterable[Any]) -> list[tuple[str, str]]:
    return [(bar.label, bar.note) for bar in bars]


def _finding(report: Report, finding: Finding) -> dict[str, Any]:
    file = place(report, finding.file) or finding.file
    rule = CODES.get(finding.code)
    return {
        "code": one_line(finding.code, 20),
        "title": rule.title if rule else "",
        "link": rule.help_uri if rule else "",
        "level": finding.level,
        "place": outline.placed(file, finding.line, finding.column) if file else "",
        "message": phrases.sentence(finding.message),
        "fixable": finding.fixable,
        "ignored": _capital(outline.ignored(finding)),
        "help": _coded(one_line(finding.help, 600)),
        "suggestion": "\n".join(one_line(line, 300) for line in finding.suggestion),
    }


def _coded(text: str) -> object:
    """Show what stands between backticks as code; everything is escaped before."""
    import markupsafe

    return own_markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def _settings(report: Report) -> list[tuple[str, str]]:
    settings = report.settings
    bar = f"10^{settings.bar:g}"
    return [
        ("Evidence from which a relation is claimed", f"an e-value of {bar}"),
        ("Seed of all random draws", str(settings.seed)),
        ("Units read", "all" if settings.exhaustive else "a random sample"),
        ("Byte budget a model", "the plan's own" if settings.budget is None else phrases.size(settings.budget)),
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
