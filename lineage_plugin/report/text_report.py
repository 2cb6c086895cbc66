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
import re
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.text import Text

from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import Closest, Comparison, Merge, ModelSummary, Report
from lineage_plugin.policy.words import policy_line, together
from lineage_plugin.report import outline, parents, phrases
from lineage_plugin.report.picture import Bar, picture
from lineage_plugin.report.places import place
from lineage_plugin.text import ELLIPSIS, one_line

__all__ = ["LEVELS", "MAX_WIDTH", "MIN_WIDTH", "Page", "render", "render_all"]

MIN_WIDTH = 40
MAX_WIDTH = 110
"""Longer lines are hard to read."""

_ADDRESS = re.compile(r"https?://\S+")
_LABEL = 12
"""Columns of the labels at the left of a section."""

_HEADLINES = {
    "pass": ("✓", "bold green"),
    "fail": ("✗", "bold red"),
    "undecided": ("?", "bold yellow"),
    "note": ("", "bold"),
}
LEVELS = {"error": "bold red", "warning": "yellow", "note": "cyan"}


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
    page = Page(min(max(width, MIN_WIDTH), MAX_WIDTH), color, unicode)
    _headline(page, report)
    _subject(page, report)
    for comparison in report.comparisons:
        _comparison(page, report, comparison)
    if report.merge is not None:
        _merge(page, report.merge)
    if report.closest is not None:
        _closest(page, report.closest)
    _findings(page, report)
    return page.text()


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write several reports: those of linted cards as one list of findings, others one below the other."""
    if not reports or any(report.command != "lint" for report in reports):
        return "\n".join(render(report, color=color, width=width, unicode=unicode) for report in reports)
    page = Page(min(max(width, MIN_WIDTH), MAX_WIDTH), color, unicode)
    told: set[tuple[str, str | None, int | None, str]] = set()
    for report in reports:
        policy = report.settings.policy
        for finding in report.findings:
            # What is wrong with the policy file is said once.
            about = (finding.code, finding.file, finding.line, finding.message)
            if policy is None or finding.file != policy.file or about not in told:
                told.add(about)
                _one_finding(page, report, finding)
    for use in together(report.settings.policy for report in reports):
        page.entry("Policy", policy_line(use))
    unknown = sum(licence.known_by is None for report in reports for licence in report.licences)
    if unknown:
        page.entry("Licences", f"{phrases.plural(unknown, 'base')} of unknown licence, with which none was compared.")
    found = sum(bool(report.findings) for report in reports)
    page.blank()
    page.add(Text(f"{phrases.plural(len(reports), 'card')}, {phrases.count(len(reports) - found)} without findings."))
    if found:
        page.add(Text(outline.total(*reports)))
    return page.text()


class Page:
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

    def add(self, content: Text, *, first: Text | str = "", indent: int = 0, rest: str | None = None) -> None:
        """Add a paragraph; ``first`` goes before its first line, ``indent`` spaces or ``rest`` before each other."""
        if not self.unicode and ELLIPSIS in content.plain:
            # Before wrapping, since it makes the text longer.
            content = Text("...").join(content.split(ELLIPSIS, allow_blank=True))
        for number, line in enumerate(self._wrapped(content, self.width - indent)):
            line.rstrip()
            lead = first if number == 0 else rest if rest is not None else " " * indent
            self._lines.append(Text.assemble(lead, line) if line.plain else Text())

    def _wrapped(self, content: Text, width: int) -> Iterator[Text]:
        """Yield the lines of a paragraph; an address that is longer than a line stays whole, on one of its own."""
        start = 0
        for found in _ADDRESS.finditer(content.plain):
            if len(found[0]) > width:
                yield from content[start : found.start()].wrap(self._console, width)
                yield content[found.start() : found.end()]
                start = found.end()
        if start < len(content) or not start:
            yield from content[start:].wrap(self._console, width)

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


def _headline(page: Page, report: Report) -> None:
    kind, word = outline.headline(report)
    sign, style = _HEADLINES[kind]
    tag = f"{sign} {word}" if page.unicode and sign else word
    page.add(Text.assemble((f"{tag}: ", style), phrases.summary(report)), indent=0)
    page.blank()


def _subject(page: Page, report: Report) -> None:
    page.entry("Model", _model(report.suspect))
    page.entry("Card", outline.declares(report.declared, one_line, outline.placed))
    page.entry("Policy", policy_line(report.settings.policy))
    _bullets(page, "Chain", outline.chain(report))
    _bullets(page, "Licences", outline.licences(report))
    page.blank()


def _model(model: ModelSummary) -> Text:
    name = one_line(model.id, 200)
    if model.revision:
        name += f" at {one_line(model.revision[:12], 12)}"
    details = ", ".join(outline.details(model))
    return Text.assemble((name, "bold"), f" ({details})" if details else "")


def _comparison(page: Page, report: Report, comparison: Comparison) -> None:
    declared = outline.is_declared(report, comparison)
    title = Text.assemble(("Declared base " if declared else "Base ", "bold"), _model(comparison.base))
    page.add(title, indent=4)
    for label, said, lead in outline.sentences(comparison, declared=declared):
        page.entry(label, Text.assemble((lead, "bold"), said.removeprefix(lead)))
    _layers(page, comparison)
    page.entry("Read", phrases.cost(comparison.suspect_cost, comparison.base_cost))
    _bullets(page, "Limits", outline.limits(report, comparison))
    page.blank()


def _merge(page: Page, merge: Merge) -> None:
    page.add(_estimated("Merge"), indent=4)
    _bars(page, "Weights", parents.weights(merge, width=page.width - _LABEL - 2, unicode=page.unicode))
    page.entry("Explained", parents.merge_summary(merge))
    page.entry("Scale", parents.merge_scale(merge))
    page.entry("Style", parents.merge_style(merge))
    page.entry("Ancestor", parents.merge_ancestor(merge))
    page.blank()


def _closest(page: Page, closest: Closest) -> None:
    page.add(_estimated("Closest parent"), indent=4)
    page.entry("Answer", parents.answer(closest))
    _bars(page, "Candidates", parents.candidates(closest, width=page.width - _LABEL - 2))
    page.entry("", parents.candidates_legend(closest))
    page.entry("Ancestor", parents.closest_ancestor(closest))
    page.blank()


def _estimated(title: str) -> Text:
    return Text.assemble((title, "bold"), f" ({parents.ESTIMATE})")


def _layers(page: Page, comparison: Comparison) -> None:
    _bars(page, "Layers", picture(comparison.layers, width=page.width - _LABEL - 2, unicode=page.unicode))


def _bars(page: Page, title: str, bars: Sequence[Bar]) -> None:
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


def _bullets(page: Page, label: str, items: Iterable[str]) -> None:
    bullet = "•" if page.unicode else "-"
    indent = _LABEL + 4
    for item in filter(None, items):
        lead = Text.assemble("  ", (label.ljust(_LABEL), "cyan"), f"{bullet} ")
        page.add(Text(item), first=lead, indent=indent)
        label = ""


def _findings(page: Page, report: Report) -> None:
    page.blank()
    for finding in report.findings:
        _one_finding(page, report, finding)
    if report.findings:
        page.blank()
        page.add(Text(outline.total(report)))
    elif not report.comparisons:
        page.add(Text("No findings."))


def _one_finding(page: Page, report: Report, finding: Finding) -> None:
    page.add(_finding(report, finding), indent=4)
    if finding.help:
        page.add(Text(f"help: {one_line(finding.help, 600)}"), first="    ", indent=4)
    if finding.ignored is not None:
        page.add(Text(outline.ignored(finding)), first="    ", indent=4)
    for line in finding.suggestion:
        page.verbatim(one_line(line, 300), indent=8)


def _finding(report: Report, finding: Finding) -> Text:
    file = place(report, finding.file) or finding.file
    if report.folder is None and file and file == finding.file and report.suspect.revision is not None:
        file = f"{one_line(report.suspect.id, 200)}/{file}"
    return Text.assemble(
        f"{outline.placed(file, finding.line, finding.column)}: " if file else "",
        (finding.code, "bold"),
        (f" [{finding.level}]", LEVELS[finding.level]),
        f" {one_line(finding.message, 600)}",
        " [fixable]" if finding.fixable else "",
    )
