"""The report for people, in a terminal or a log.

The verdict comes first, then one section per base that says what was found, how sure that is, where in the network, and
what was and was not read, and last the findings, one line each as a linter writes them. Colours and signs only repeat
what the words say. The wording is in :mod:`~lineage_plugin.report.phrases` and
:mod:`~lineage_plugin.report.searched`.

Everything a model says passes through :func:`~lineage_plugin.text.one_line`, and Rich's markup is never parsed:
each line is built as a :class:`rich.text.Text`.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import Closest, Comparison, Declared, Merge, ModelSummary, Report, Settings
from lineage_plugin.policy.words import policy_line
from lineage_plugin.report import parents, phrases, searched
from lineage_plugin.report.picture import Bar, picture
from lineage_plugin.text import ELLIPSIS, one_line

__all__ = ["render"]

MIN_WIDTH = 40
MAX_WIDTH = 110
"""Longer lines are hard to read."""

_LABEL = 12
"""Columns of the labels at the left of a section."""

_VERDICTS = {"pass": ("✓", "bold green"), "fail": ("✗", "bold red"), "undecided": ("?", "bold yellow")}
_RELATIONS = {"shared-init": "shared initialisation"}
_LEVELS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a report for people.

    Args:
        report: The report.
        color: Whether to use ANSI colours.
        width: Columns to wrap to, within 40 to 110.
        unicode: Whether signs and bars may leave ASCII.

    Returns:
        The text, lines separated by newlines, no trailing spaces.
    """
    page = _Page(min(max(width, MIN_WIDTH), MAX_WIDTH), color, unicode)
    _headline(page, report)
    _subject(page, report)
    for comparison in report.comparisons:
        named = {base.partition("@")[0] for base in report.declared.bases} | set(report.declared.bases)
        _comparison(page, comparison, report.settings, declared=comparison.base.id in named)
    if report.merge is not None:
        _merge(page, report.merge)
    if report.closest is not None:
        _closest(page, report.closest)
    _findings(page, report)
    return page.text()


class _Page:
    """Lines of styled text under construction, wrapped as they are added."""

    def __init__(self, width: int, color: bool, unicode: bool) -> None:
        self.width = width
        self.unicode = unicode
        self._lines: list[Text] = []
        # Given explicitly, no setting is looked up in the environment.
        self._console = Console(
            file=io.StringIO(),
            width=width,
            force_terminal=color,
            color_system="standard" if color else None,
            no_color=not color,
            legacy_windows=False,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def blank(self) -> None:
        """Add an empty line, unless the last one is."""
        if self._lines and self._lines[-1].plain:
            self._lines.append(Text())

    def add(self, content: Text, *, first: Text | str = "", indent: int = 0) -> None:
        """Add a paragraph; ``first`` goes before its first line, ``indent`` spaces before each other."""
        if not self.unicode and ELLIPSIS in content.plain:
            # Before wrapping, since it makes the text longer.
            content = Text("...").join(content.split(ELLIPSIS, allow_blank=True))
        for number, line in enumerate(content.wrap(self._console, self.width - indent)):
            line.rstrip()
            lead = first if number == 0 else " " * indent
            self._lines.append(Text.assemble(lead, line) if line.plain else Text())

    def verbatim(self, line: str, *, indent: int) -> None:
        """Add a line that is to be copied: it is not wrapped."""
        self._lines.append(Text(" " * indent + line))

    def entry(self, label: str, content: Text | str) -> None:
        """Add a labelled paragraph of a section; an empty one is left out."""
        content = Text(content) if isinstance(content, str) else content
        if content.plain:
            indent = _LABEL + 2
            self.add(content, first=Text.assemble("  ", (label.ljust(_LABEL), "cyan")), indent=indent)

    def text(self) -> str:
        """Return everything added."""
        for line in self._lines:
            self._console.print(line, soft_wrap=True)
        file = self._console.file
        written = file.getvalue() if isinstance(file, io.StringIO) else ""
        return "\n".join(line.rstrip() for line in written.split("\n"))


def _headline(page: _Page, report: Report) -> None:
    sign, style = _VERDICTS[report.verdict]
    word = report.verdict.upper()
    if _is_pair(report) and report.verdict == "pass":
        # Nothing was claimed, so nothing passed: name the relation instead.
        word, style = _RELATIONS.get(report.comparisons[0].relation, report.comparisons[0].relation).upper(), "bold"
        sign = ""
    tag = f"{sign} {word}" if page.unicode and sign else word
    page.add(Text.assemble((f"{tag}: ", style), phrases.summary(report)), indent=0)
    page.blank()


def _is_pair(report: Report) -> bool:
    return len(report.comparisons) == 1 and not report.declared.bases and not report.findings


def _subject(page: _Page, report: Report) -> None:
    page.entry("Model", _model(report.suspect))
    page.entry("Card", _declared(report.declared))
    page.entry("Policy", policy_line(report.settings.policy))
    page.blank()


def _model(model: ModelSummary) -> Text:
    name = one_line(model.id, 200)
    if model.revision:
        name += f" at {one_line(model.revision[:12], 12)}"
    details = [one_line(detail, 60) for detail in (model.architecture, model.format) if detail]
    if model.parameters is not None:
        details.insert(1 if model.architecture else 0, f"{phrases.parameters(model.parameters)} parameters")
    return Text.assemble((name, "bold"), f" ({', '.join(details)})" if details else "")


def _declared(declared: Declared) -> str:
    place = ""
    if declared.file:
        place = f" ({_place(declared.file, declared.line)})"
    if not declared.bases:
        return f"declares no base{place}" if declared.file else ""
    named = ", ".join(one_line(base, 120) for base in declared.bases[:8])
    more = f" and {len(declared.bases) - 8} more" if len(declared.bases) > 8 else ""
    relation = f", relation {one_line(declared.relation, 40)}" if declared.relation else ""
    terms = f", licence {one_line(declared.license, 40)}" if declared.license else ""
    return f"declares {'base' if len(declared.bases) == 1 else 'bases'} {named}{more}{relation}{terms}{place}"


def _comparison(page: _Page, comparison: Comparison, settings: Settings, *, declared: bool) -> None:
    title = Text.assemble(("Declared base " if declared else "Base ", "bold"), _model(comparison.base))
    page.add(title, indent=4)
    page.entry("Part", searched.part(comparison))
    label, found, consequence = phrases.relation(comparison, declared=declared)
    page.entry("Relation", Text.assemble((label, "bold"), f": {found} {consequence}".rstrip()))
    page.entry("Changes", searched.changes(comparison))
    page.entry("Relabelled", searched.relabelled(comparison))
    if comparison.relation != "identical" or comparison.evidence.coins:
        page.entry("Coins", phrases.coins(comparison.evidence, calibrated=comparison.calibrated is not None))
    page.entry("", _groups(comparison))
    page.entry("", searched.stages(comparison.evidence))
    page.entry("Calibrated", searched.calibrated(comparison))
    page.entry("Kept", phrases.kept(comparison))
    page.entry("Descent", phrases.descent(comparison))
    page.entry("", phrases.curve(comparison))
    if comparison.relation == "derived":
        page.entry("Direction", phrases.direction(comparison.direction))
    _layers(page, comparison)
    page.entry("Read", phrases.cost(comparison.suspect_cost, comparison.base_cost))
    limits = [searched.searched(comparison), *(one_line(limit, 400) for limit in comparison.limits)]
    limits.append(phrases.unread(comparison, settings))
    if comparison.relation in ("unrelated", "inconclusive") and not any("istillation" in limit for limit in limits):
        limits.append(phrases.UNSEEN)
    _bullets(page, "Limits", limits)
    page.blank()


def _groups(comparison: Comparison) -> str:
    groups = comparison.evidence.groups
    if len(groups) < 2:
        return ""
    parts = [
        f"{one_line(group.name, 40)} {phrases.count(group.heads)}/{phrases.count(group.coins)}" for group in groups[:8]
    ]
    more = f"; {len(groups) - 8} more kinds in the JSON report" if len(groups) > 8 else ""
    return f"Heads by kind: {'; '.join(parts)}{more}."


def _merge(page: _Page, merge: Merge) -> None:
    page.add(_estimated("Merge"), indent=4)
    _bars(page, "Weights", parents.weights(merge, width=page.width - _LABEL - 2, unicode=page.unicode))
    page.entry("Explained", parents.merge_summary(merge))
    page.entry("Scale", parents.merge_scale(merge))
    page.entry("Style", parents.merge_style(merge))
    page.entry("Ancestor", parents.merge_ancestor(merge))
    page.blank()


def _closest(page: _Page, closest: Closest) -> None:
    page.add(_estimated("Closest parent"), indent=4)
    page.entry("Answer", parents.answer(closest))
    _bars(page, "Candidates", parents.candidates(closest, width=page.width - _LABEL - 2))
    page.entry("", parents.candidates_legend(closest))
    page.entry("Ancestor", parents.closest_ancestor(closest))
    page.blank()


def _estimated(title: str) -> Text:
    return Text.assemble((title, "bold"), f" ({parents.ESTIMATE})")


def _layers(page: _Page, comparison: Comparison) -> None:
    _bars(page, "Layers", picture(comparison.layers, width=page.width - _LABEL - 2, unicode=page.unicode))


def _bars(page: _Page, title: str, bars: Sequence[Bar]) -> None:
    indent = _LABEL + 2
    labels = max((len(bar.label) for bar in bars), default=0)
    drawn = max((len(bar.bar) for bar in bars), default=0)
    for number, bar in enumerate(bars):
        content = Text(bar.note)
        if bar.label or bar.bar:
            # Words stand where others have their numbers, if there is room.
            fits = drawn and (bar.bar or labels + drawn + 4 + len(bar.note) <= page.width - indent)
            blocks = (bar.bar.ljust(drawn) + "  " if fits else "", "green")
            content = Text.assemble(f"{bar.label.ljust(labels)}  ", blocks, bar.note)
        page.entry(title if number == 0 else "", content)


def _bullets(page: _Page, label: str, items: Iterable[str]) -> None:
    bullet = "•" if page.unicode else "-"
    indent = _LABEL + 4
    for item in filter(None, items):
        lead = Text.assemble("  ", (label.ljust(_LABEL), "cyan"), f"{bullet} ")
        page.add(Text(item), first=lead, indent=indent)
        label = ""


def _findings(page: _Page, report: Report) -> None:
    page.blank()
    for finding in report.findings:
        page.add(_finding(finding), indent=4)
        if finding.help:
            page.add(Text(f"help: {one_line(finding.help, 600)}"), first="    ", indent=4)
        for line in finding.suggestion:
            page.verbatim(one_line(line, 300), indent=8)
    if report.findings:
        page.blank()
        levels = Counter[str](finding.level for finding in report.findings)
        page.add(Text(", ".join(phrases.plural(levels[level], level) for level in _LEVELS if levels[level]) + "."))
    elif not report.comparisons:
        page.add(Text("No findings."))


def _finding(finding: Finding) -> Text:
    place = ""
    if finding.file:
        place = _place(finding.file, finding.line) + ": "
    return Text.assemble(
        place,
        (finding.code, "bold"),
        (f" [{finding.level}]", _LEVELS[finding.level]),
        f" {one_line(finding.message, 600)}",
    )


def _place(file: str, line: int | None) -> str:
    # A name that ends in a colon must not make "::", which starts a command in a CI log.
    return one_line(file, 160).rstrip(": ") + (f":{line}" if line else "")
