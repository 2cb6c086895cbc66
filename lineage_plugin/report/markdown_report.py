"""The report in GitHub-flavoured Markdown: for job summaries, pull requests, Hub discussions and checklists.

The verdict comes first, in a quotation that GitHub shows as an alert and others as what it is, then one table with a
row per base, one folded section per base with the sentences of the text report, and the findings. Everything a model
says passes through :mod:`~lineage_plugin.report.markup`; the only links are to the pages of this project.

:func:`fit` writes the longest form that a place has room for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import IntEnum

from lineage_plugin._links import DOCS
from lineage_plugin._version import __version__
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import CODES, Finding, gravest_first
from lineage_plugin.judge.types import Comparison, Evidence, ModelSummary, Report
from lineage_plugin.policy.words import policy_line
from lineage_plugin.report import outline, parents, phrases
from lineage_plugin.report.markup import code, fenced, html_code, row, text, verbatim
from lineage_plugin.report.picture import Bar, picture
from lineage_plugin.report.places import place
from lineage_plugin.text import ELLIPSIS

__all__ = ["evidence_cell", "fit", "heads_cell", "kept_cell", "relation_cell", "render", "render_all"]

_WIDTH = 90
"""Columns of pictures: a comment on GitHub shows about as many without scrolling."""

_HEADLINES = {"pass": ("✓", "TIP"), "fail": ("✗", "CAUTION"), "undecided": ("?", "WARNING"), "note": ("", "NOTE")}
_LEVELS = {"error": "✗", "warning": "!", "note": "i"}

_Section = Iterator[str]
"""Lines; an empty one ends a paragraph."""


class _Form(IntEnum):
    """How much is written, the longest first."""

    FULL = 0
    SHORT = 1
    TABLES = 2
    VERDICTS = 3


_LEFT_OUT = {
    _Form.SHORT: "the pictures of layers, and the details of models that pass",
    _Form.TABLES: "the details of every comparison",
    _Form.VERDICTS: "the details of every comparison, and the findings",
}


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a report as Markdown.

    Args:
        report: The report.
        color: Ignored.
        width: Ignored; Markdown is wrapped by who shows it.
        unicode: Whether signs and bars may leave ASCII.

    Returns:
        The Markdown.
    """
    return render_all([report], color=color, width=width, unicode=unicode)


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the reports on several models as one Markdown text: a table of all, then a section a model."""
    sections = [_lines(_model_section(report, _Form.FULL, unicode, titled=len(reports) > 1)) for report in reports]
    return _document(reports, sections, unicode, "")


def fit(reports: Sequence[Report], limit: int, *, unicode: bool = True) -> str:
    """Write the longest form that fits.

    In full; without pictures and without the details of models that pass; tables and findings; those of the first
    models only; verdicts; the number of models.

    Args:
        reports: The reports.
        limit: Bytes of UTF-8 there are, such as 1,048,576 for a job summary of GitHub and 65,536 for a comment.
        unicode: As for :func:`render`.

    Returns:
        The Markdown, which says what it leaves out.

    Raises:
        UsageError: When not even the number of models that are left out fits, for which 500 bytes always do.
    """
    for form in _Form:
        left = "" if form is _Form.FULL else f"Left out for want of room: {_LEFT_OUT[form]}. The JSON report has all."
        sections = [_lines(_model_section(report, form, unicode, titled=len(reports) > 1)) for report in reports]
        written = _document(reports, sections, unicode, left)
        if _size(written) <= limit:
            return written
        if form >= _Form.TABLES and (written := _first(reports, sections, unicode, left, limit)):
            return written
    written = f"{_omitted(reports)} The JSON report has all.\n"
    if _size(written) > limit:
        raise UsageError(f"no report fits into {limit} bytes; 500 hold at least the number of models")
    return written


def _first(reports: Sequence[Report], sections: Sequence[str], unicode: bool, left: str, limit: int) -> str:
    """Write as many models as fit, at least one and not all; nothing when none does."""
    low, high, best = 1, len(reports) - 1, ""
    while low <= high:
        number = (low + high) // 2
        said = f"{_omitted(reports[number:])} {left}".strip()
        written = _document(reports[:number], sections[:number], unicode, said, titled=True)
        if _size(written) <= limit:
            low, best = number + 1, written
        else:
            high = number - 1
    return best


def _omitted(reports: Sequence[Report]) -> str:
    verdicts = Counter[str](report.verdict for report in reports)
    said = ", ".join(f"{phrases.count(verdicts[verdict])} {verdict}" for verdict in _HEADLINES if verdicts[verdict])
    return f"Not shown for want of room: {phrases.plural(len(reports), 'model')} ({said})."


def _size(written: str) -> int:
    return len(written.encode("utf-8", errors="replace"))


def _lines(section: _Section) -> str:
    return "\n".join(section)


def _document(
    reports: Sequence[Report], sections: Sequence[str], unicode: bool, left: str, *, titled: bool = False
) -> str:
    parts = [*sections]
    if titled or len(reports) != 1:
        parts.insert(0, _lines(_overview(reports, unicode)))
    if left:
        parts.append(f"**Not all is shown.** {left}\n")
    parts.append(_footer(reports))
    written = "\n".join(parts)
    return written if unicode else written.replace(ELLIPSIS, "...")


def _overview(reports: Sequence[Report], unicode: bool) -> _Section:
    if not reports:
        yield from ("No model was checked.", "")
        return
    yield row(("Verdict", "Model", "Relation", "Base"))
    yield row(("---",) * 4)
    for report in reports:
        found = [(relation_cell(one), code(one.base.id, cell=True)) for one in report.comparisons[:4]]
        if len(report.comparisons) > 4:
            found.append((f"and {phrases.count(len(report.comparisons) - 4)} more", ""))
        if not found:
            found = [("not compared" if report.declared.bases else "none declared", "")]
        relations, bases = ("<br>".join(filter(None, column)) for column in zip(*found, strict=True))
        yield row((_tag(report, unicode), code(report.suspect.id, cell=True), relations, bases))
    yield ""


def _model_section(report: Report, form: _Form, unicode: bool, *, titled: bool) -> _Section:
    if titled:
        yield from (f"## {code(report.suspect.id)}", "")
    yield f"> [!{_HEADLINES[outline.headline(report).kind][1]}]"
    yield from (f"> **{_tag(report, unicode)}**: {text(phrases.summary(report))}", "")
    card = outline.declares(report.declared, code, _where)
    policy = text(policy_line(report.settings.policy))
    named = {"Model": _model(report.suspect), "Card": card, "Policy": policy}
    yield from ("<br>\n".join(f"**{label}** {said}" for label, said in named.items() if said), "")
    if report.comparisons:
        yield from _table(report)
    if form is _Form.FULL or (form is _Form.SHORT and report.verdict != "pass"):
        for comparison in report.comparisons:
            yield from _details(report, comparison, unicode, drawn=form is _Form.FULL)
        yield from _parents(report, unicode)
    if form is not _Form.VERDICTS:
        yield from _further_up(report)
        yield from _findings(report, unicode)


def _tag(report: Report, unicode: bool) -> str:
    kind, word = outline.headline(report)
    return f"{_HEADLINES[kind][0]} {word}".strip() if unicode else word


def _model(model: ModelSummary) -> str:
    name = code(model.id)
    if model.revision:
        name += f" at {code(model.revision[:12])}"
    details = ", ".join(text(detail) for detail in outline.details(model))
    return f"{name} ({details})" if details else name


def _where(file: str, line: int | None, column: int | None = None) -> str:
    return code(outline.placed(file, line, column))


def _table(report: Report) -> _Section:
    yield row(("Base", "Relation", "log10 E", "Heads", "Kept", "Read"))
    yield row(("---", "---", "--:", "--:", "---", "--:"))
    for comparison in report.comparisons:
        total = comparison.suspect_cost + comparison.base_cost
        yield row(
            (
                code(comparison.base.id, cell=True),
                relation_cell(comparison),
                evidence_cell(comparison.evidence),
                heads_cell(comparison.evidence),
                kept_cell(comparison),
                f"{phrases.size(total.bytes_read)} of {phrases.size(total.bytes_total)}",
            )
        )
    yield ""


def relation_cell(comparison: Comparison) -> str:
    """Return the relation in a few words, those that it rests on included."""
    rests = comparison.calibrated is not None and not comparison.evidence.exact
    label = text(phrases.relation(comparison, declared=False)[0], cell=True)
    return f"{label}, calibrated" if rests and comparison.relation in ("derived", "shared-init") else label


def evidence_cell(evidence: Evidence) -> str:
    """Return the logarithm of the e-value, rounded down."""
    tossed = evidence.coins or any(stage.coins for stage in evidence.stages)
    return phrases.tenths(evidence.log10_e) if tossed else "no coins"


def heads_cell(evidence: Evidence) -> str:
    """Return how many of the coins came up heads."""
    return f"{phrases.count(evidence.heads)}/{phrases.count(evidence.coins)}" if evidence.coins else "no coins"


def kept_cell(comparison: Comparison) -> str:
    """Return what is kept in a few words; the sentence is among the details."""
    if comparison.relation == "identical":
        return "all"
    if comparison.relation == "shared-init":
        return "the common start"
    if not phrases.kept(comparison):
        return "not estimated"
    estimate, low, high = comparison.kept.estimate, comparison.kept.low, comparison.kept.high
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return "not estimated" if estimate is None else phrases.percent(estimate)
    if comparison.relation == "unrelated":
        return phrases.at_most(high).lower()
    if comparison.relation == "derived" and estimate is not None and low > 1:
        return f"{estimate:.2f} times ({phrases.outward(low, high)})"
    bounds = f"{phrases.percent(low, toward='down')} to {phrases.percent(high, toward='up')}"
    if comparison.relation == "inconclusive" or estimate is None:
        return bounds
    return f"{phrases.percent(estimate)} ({bounds})"


def _details(report: Report, comparison: Comparison, unicode: bool, *, drawn: bool) -> _Section:
    declared = outline.is_declared(report, comparison)
    title = f"{'Declared base' if declared else 'Base'} {html_code(comparison.base.id)}"
    yield from (f"<details><summary>{title}: evidence and limits</summary>", "")
    yield f"- **Base**: {_model(comparison.base)}"
    for label, said, _ in outline.sentences(comparison, declared=declared):
        if said:
            yield f"- **{label}**: {text(said, 8000)}" if label else f"  - {text(said, 8000)}"
    yield f"- **Read**: {text(phrases.cost(comparison.suspect_cost, comparison.base_cost))}"
    if limits := outline.limits(report, comparison):
        yield "- **Limits**:"
        yield from (f"  - {text(limit, 2000)}" for limit in limits)
    yield ""
    if drawn:
        yield from _bars(picture(comparison.layers, width=_WIDTH, unicode=unicode))
    yield from ("</details>", "")


def _parents(report: Report, unicode: bool) -> _Section:
    if (merge := report.merge) is not None:
        yield from (f"<details><summary>Merge ({parents.ESTIMATE})</summary>", "")
        yield from _bars(parents.weights(merge, width=_WIDTH, unicode=unicode))
        yield from _paragraphs(
            parents.merge_summary(merge),
            parents.merge_scale(merge),
            parents.merge_style(merge),
            parents.merge_ancestor(merge),
        )
        yield from ("</details>", "")
    if (closest := report.closest) is not None:
        yield from (f"<details><summary>Closest parent ({parents.ESTIMATE})</summary>", "")
        yield from _paragraphs(parents.answer(closest))
        yield from _bars(parents.candidates(closest, width=_WIDTH))
        yield from _paragraphs(parents.candidates_legend(closest), parents.closest_ancestor(closest))
        yield from ("</details>", "")


def _paragraphs(*sentences: str) -> _Section:
    for said in filter(None, sentences):
        yield from (text(said), "")


def _bars(bars: Sequence[Bar]) -> _Section:
    """Write bars as a code block and lines of words as paragraphs."""
    drawn = [bar for bar in bars if bar.label or bar.bar]
    if drawn:
        labels, lengths = max(len(bar.label) for bar in drawn), max(len(bar.bar) for bar in drawn)
        shown = [f"{bar.label.ljust(labels)}  {bar.bar.ljust(lengths)}  {bar.note}".rstrip() for bar in drawn]
        yield from (*fenced(shown, "text"), "")
    yield from _paragraphs(*(bar.note for bar in bars if not (bar.label or bar.bar)))


def _further_up(report: Report) -> _Section:
    if report.chain:
        yield from ("**Chain**, as the cards on the Hub have it:", "")
        yield from (*(f"- {text(line, 900)}" for line in outline.chain(report)), "")
    if report.licences:
        yield from ("**Licences** along the declared chain:", "")
        yield from (*(f"- {text(line, 900)}" for line in outline.licences(report)), "")


def _findings(report: Report, unicode: bool) -> _Section:
    for finding in gravest_first(report.findings):
        sign = f"{_LEVELS[finding.level]} " if unicode else ""
        rule = CODES.get(finding.code)
        name = f"[{rule.code}]({rule.help_uri})" if rule else code(finding.code)
        where = _place(report, finding)
        fixable = " (fixable)" if finding.fixable else ""
        yield f"- {sign}**{finding.level}** {name}{where}: {text(finding.message, 600)}{fixable}"
        if finding.ignored is not None:
            yield from ("", f"  {text(outline.ignored(finding), 400)}")
        if finding.help:
            yield from ("", f"  Help: {text(finding.help, 600)}")
        if finding.suggestion:
            lines = (verbatim(line) for line in finding.suggestion)
            yield from ("", *fenced(lines, "yaml", indent=2))
    if report.findings:
        yield from ("", outline.total(report), "")
    elif not report.comparisons:
        yield from ("No findings.", "")


def _place(report: Report, finding: Finding) -> str:
    file = place(report, finding.file) or finding.file
    return f" {_where(file, finding.line, finding.column)}" if file else ""


def _footer(reports: Sequence[Report]) -> str:
    said = [f"lineage-plugin {__version__}."]
    for bar in sorted({report.settings.bar for report in reports if report.command != "lint"}):
        said.append(
            f"Dependence by coins is claimed from log10 E = {bar:g} on: for each pair of independent models, where the "
            f"coins are exact, the chance of ever reaching that is at most 1 in 10^{bar:g}."
        )
    if any(comparison.calibrated is not None for report in reports for comparison in report.comparisons):
        said.append("What is marked calibrated rests on other evidence.")
    said.append(f"[How it works]({DOCS}/method.md).")
    return f"<sub>{' '.join(said)}</sub>\n"
