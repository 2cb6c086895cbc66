"""What a report for people says, and in which order: the text, Markdown and HTML reports differ in their marks only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from lineage_plugin.findings import Finding, Level
from lineage_plugin.report import phrases, searched
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Comparison, Declared, ModelSummary, Report

__all__ = [
    "Headline",
    "Said",
    "banner",
    "best_match",
    "counted",
    "declares",
    "details",
    "headline",
    "ignored",
    "is_declared",
    "is_pair",
    "limits",
    "nothing_compared",
    "placed",
    "relation_alone",
    "sentences",
    "total",
    "warned",
]

_CANNOT_SHOW = frozenset({"LIN202", "LIN301", "LIN302", "LIN303", "LIN304"})
"""Errors that say that something could not be looked at, not that it is wrong."""
_MOST_BASES = 8
_MOST_GROUPS = 8
_MOST_LICENCES = 16


class Said(NamedTuple):
    """One statement about a comparison.

    Attributes:
        label: What it is about, such as ``Coins``; empty when it belongs to the one before.
        text: The sentences; empty when there is nothing to say.
        lead: The first words of the text, which stand out.
    """

    label: str
    text: str
    lead: str = ""


def is_pair(report: Report) -> bool:
    """Return whether two models were compared and nothing was declared: then nothing can pass or fail."""
    return len(report.comparisons) == 1 and not report.declared.bases and not report.findings


def best_match(report: Report) -> Comparison | None:
    """Return the comparison of a scan with the relative that comes first; None without any."""
    return next((one for one in report.comparisons if one.relation != "unrelated"), None)


def relation_alone(comparison: Comparison) -> str:
    """Return a relation in a few words."""
    return {"shared-init": "shared initialisation"}.get(comparison.relation, comparison.relation)


class Headline(NamedTuple):
    """The answer in a word or two.

    Attributes:
        kind: How it is shown; ``note`` is neither good nor bad.
        word: The words, in capitals.
    """

    kind: Literal["pass", "fail", "undecided", "note"]
    word: str


def headline(report: Report) -> Headline:
    """Return the verdict as people see it: what passed for want of anything to compare, or by policy, says so."""
    if report.command == "scan":
        # A scan asks which model it is, it tests nothing that somebody claimed.
        match = best_match(report)
        return Headline("note", "NO RELATIVE FOUND" if match is None else relation_alone(match).upper())
    if report.verdict != "pass":
        return Headline(report.verdict, report.verdict.upper())
    if is_pair(report):
        # Nothing was claimed, so nothing passed.
        return Headline("note", relation_alone(report.comparisons[0]).upper())
    if report.command == "lint":
        return Headline("note", "CARD ONLY")
    if not report.comparisons:
        return Headline("note", "NOTHING COMPARED")
    used = report.settings.policy
    if used is not None and (used.off or used.excepted or used.levels):
        return Headline("note", "PASS UNDER THE POLICY")
    return Headline("pass", "PASS")


def nothing_compared(report: Report) -> bool:
    """Return whether a check failed only because nothing could be compared: then the weights say nothing."""
    errors = {finding.code for finding in report.findings if finding.level == "error"}
    return (
        report.command == "check"
        and report.verdict == "fail"
        and not report.comparisons
        and bool(errors)
        and errors <= _CANNOT_SHOW
    )


def banner(report: Report) -> Headline:
    """Return the headline for a page, whose readers have not heard of the method and may pass on a word or two.

    A failure to compare is no failure of the model, a pass names the warnings beside it, and a pair without a trace is
    not called unrelated, which nobody can know.
    """
    kind, word = headline(report)
    if nothing_compared(report):
        return Headline("note", "NOTHING COMPARED")
    if is_pair(report) and report.comparisons[0].relation == "unrelated" and kind == "note":
        return Headline("note", "NO RELATION FOUND")
    warnings = warned(report)
    if kind == "pass" and warnings:
        return Headline("pass", f"PASS, WITH {phrases.plural(warnings, 'warning').upper()}")
    return Headline(kind, word)


def warned(report: Report) -> int:
    """Return the number of warnings."""
    return sum(finding.level == "warning" for finding in report.findings)


def is_declared(report: Report, comparison: Comparison) -> bool:
    """Return whether the card declares the base of a comparison."""
    return any(comparison.base.id in (base, base.partition("@")[0]) for base in report.declared.bases)


def details(model: ModelSummary) -> list[str]:
    """Return architecture, parameters and format of a model, as far as they are known."""
    found = [one_line(detail, 60) for detail in (model.architecture, model.format) if detail]
    if model.parameters is not None:
        found.insert(1 if model.architecture else 0, f"{phrases.parameters(model.parameters)} parameters")
    return found


def declares(declared: Declared, shown: Callable[[str, int], str], placed: Callable[[str, int | None], str]) -> str:
    """Say what a card declares; empty without a card.

    Args:
        declared: What it declares.
        shown: Makes a name of the card's fit to show, in at most so many characters.
        placed: Does so with a file and a line.
    """
    where = f" ({placed(declared.file, declared.line)})" if declared.file else ""
    if not declared.bases:
        return f"declares no base{where}" if where else ""
    named = ", ".join(shown(base, 120) for base in declared.bases[:_MOST_BASES])
    left = len(declared.bases) - _MOST_BASES
    said = (
        f"declares {'base' if len(declared.bases) == 1 else 'bases'} {named}{f' and {left} more' if left > 0 else ''}"
    )
    said += f", relation {shown(declared.relation, 40)}" if declared.relation else ""
    said += f", licence {shown(declared.license, 40)}" if declared.license else ""
    return said + where


def placed(file: str, line: int | None, column: int | None = None) -> str:
    """Return ``file:line:column``, as far as they are known."""
    # A name that ends in a colon must not make "::", which starts a command in a CI log.
    return one_line(file, 160).rstrip(": ") + (f":{line}" if line else "") + (f":{column}" if line and column else "")


def sentences(comparison: Comparison, *, declared: bool) -> Iterator[Said]:
    """Yield what there is to say of a comparison, in order, before its picture; some texts are empty."""
    yield Said("Part", searched.part(comparison))
    label, found, consequence = phrases.relation(comparison, declared=declared)
    yield Said("Relation", f"{label}: {found} {consequence}".rstrip(), label)
    yield Said("Changes", searched.changes(comparison))
    yield Said("Relabelled", searched.relabelled(comparison))
    if comparison.relation != "identical" or comparison.evidence.coins:
        yield Said("Coins", phrases.coins(comparison.evidence, calibrated=comparison.calibrated is not None))
    yield Said("", _groups(comparison))
    yield Said("", searched.stages(comparison.evidence))
    yield Said("Calibrated", searched.calibrated(comparison))
    yield Said("Kept", phrases.kept(comparison))
    yield Said("Descent", phrases.descent(comparison))
    yield Said("", phrases.curve(comparison))
    if comparison.relation == "derived":
        yield Said("Direction", phrases.direction(comparison.direction))


def _groups(comparison: Comparison) -> str:
    """Say how the coins of each kind fell; empty for a single kind."""
    found = comparison.evidence.groups
    if len(found) < 2:
        return ""
    parts = [
        f"{one_line(group.name, 40)} {phrases.count(group.heads)}/{phrases.count(group.coins)}"
        for group in found[:_MOST_GROUPS]
    ]
    left = len(found) - _MOST_GROUPS
    more = f"; {left} more kinds in the JSON report" if left > 0 else ""
    return f"Heads by kind: {'; '.join(parts)}{more}."


def limits(report: Report, comparison: Comparison) -> list[str]:
    """Return what was assumed, left out or cannot be known."""
    stated = [one_line(limit, 400) for limit in comparison.limits]
    said = [searched.searched(comparison), *stated, phrases.unread(comparison, report.settings)]
    silent = comparison.relation in ("unrelated", "inconclusive")
    if silent and not any("istillation" in limit for limit in said):
        said.append(phrases.UNSEEN)
    return list(filter(None, said))


def chain(report: Report) -> list[str]:
    """Say what the declared bases are made from in turn; empty where the Hub was not asked."""
    said = []
    for link in report.chain[:_MOST_LICENCES]:
        bases = ", ".join(one_line(base, 120) for base in link.bases[:_MOST_BASES])
        more = f" and {len(link.bases) - _MOST_BASES} more" if len(link.bases) > _MOST_BASES else ""
        what = f"declares {bases}{more}" if bases else "declares no base"
        said.append(f"{one_line(link.model, 120)} {what}")
    left = len(report.chain) - _MOST_LICENCES
    return [*said, *([f"and {left} more"] if left > 0 else [])]


def licences(report: Report) -> list[str]:
    """Say how the licence of the model goes with each of those along the declared chain; empty without any."""
    said = []
    for found in report.licences[:_MOST_LICENCES]:
        via = f", a base of {one_line(found.via, 120)}" if found.via else ""
        licence = f", {one_line(found.licence, 60)} (known from {found.known_by})" if found.licence else ""
        duties = "; ".join(one_line(duty.partition(": ")[0], 160) for duty in found.duties)
        asks = f". It asks: {duties}" if duties and found.outcome != "incompatible" else ""
        source = f". Source: {one_line(found.source, 300)}" if found.source else ""
        said.append(
            f"{one_line(found.model, 120)}{via}{licence}: {found.outcome}, {one_line(found.reason, 200)}{asks}{source}"
        )
    left = len(report.licences) - _MOST_LICENCES
    return [*said, *([f"and {left} more"] if left > 0 else []), *(["This is no legal advice."] if said else [])]


def ignored(finding: Finding) -> str:
    """Say that the card takes a finding back, and why; empty where it does not."""
    return "" if finding.ignored is None else f"taken back by the card: {one_line(finding.ignored, 300)}"


def counted(findings: Sequence[Finding]) -> str:
    """Return ``1 error, 2 notes``; empty without findings."""
    levels = Counter[str](finding.level for finding in findings)
    return ", ".join(phrases.plural(levels[level], level) for level in get_args(Level) if levels[level])


def total(*reports: Report) -> str:
    """Return what :func:`counted` does as a sentence, and how many of them ``lineage lint --fix`` would repair."""
    findings = [finding for report in reports for finding in report.findings]
    fixable = sum(finding.fixable for finding in findings)
    repairs = f"{fixable} fixable with --fix" if fixable and reports[0].command == "lint" else ""
    return (", ".join(filter(None, (counted(findings), repairs))) or "no findings") + "."
