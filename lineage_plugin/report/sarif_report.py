"""The findings as SARIF 2.1.0, for code scanning.

One run holds the findings of all models, since GitHub takes one run of a category. What GitHub asks for beyond the
standard is kept to: every result has one location, all places are relative (an address with another scheme than that of
the checkout makes it refuse the whole file), and at most 5,000 results are written, the worst first. Findings without a
file are shown at the model's card.

A comparison that was not settled is a result under LIN101 of the kind ``open``, so that an alert about its base is not
taken for fixed: code scanning closes what a run does not repeat. It knows no kinds and shows the result as an alert, so
the rule is named for both, the level is ``none`` (the only one that SARIF has for an open result) and the message
begins with "Undecided".

A file of a model on the Hub has a place relative to the Hub, on the main branch, so that an alert stays the same one
when a commit is added; ``hostedViewerUri`` is the page at the commit that was read.

Sources: OASIS, *Static Analysis Results Interchange Format (SARIF) Version 2.1.0*, for kinds and levels 3.27.9 and
3.27.10; GitHub, *SARIF support for code scanning*.
"""

from __future__ import annotations

import hashlib
import json
import math
import os.path
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lineage_plugin._links import HOME
from lineage_plugin._version import __version__
from lineage_plugin.findings import CODES, Finding, Rule
from lineage_plugin.judge.types import PUBLIC_HUB, Comparison, Relation, Report
from lineage_plugin.report import outline
from lineage_plugin.report.facts import LIMITS, bases_named, moment, verdict_on
from lineage_plugin.report.hub import address, quoted, repository_of, server
from lineage_plugin.report.json_report import to_dict
from lineage_plugin.report.phrases import sentence
from lineage_plugin.report.places import place
from lineage_plugin.text import one_line

__all__ = ["FINGERPRINT", "MOST_RESULTS", "render", "render_all"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "lineageFinding/v1"

MOST_RESULTS = 5000
"""GitHub shows no more."""

_GITHUB = "primaryLocationLineHash"
_MOST_COMPARISONS = 64
_WORST_FIRST = {"error": 0, "warning": 1, "none": 2, "note": 3}

_OPEN = "LIN101"
"""The rule that a comparison which was not settled is a result of."""

_BY_EVIDENCE: Mapping[str, tuple[Relation, ...]] = {
    "LIN101": ("unrelated",),
    "LIN102": ("derived",),
    "LIN106": ("unrelated",),
    "LIN107": ("shared-init",),
    "LIN108": ("derived",),
    "LIN109": ("derived",),
}
"""Relations by whose evidence a finding of each code was made. What rests on digests, on estimates or on the direction
gets no numbers that are not its own."""


class _Said(NamedTuple):
    """What becomes a result: a finding, or that a comparison was not settled, in the words of one."""

    report: Report
    finding: Finding
    unsettled: Comparison | None = None

    @property
    def level(self) -> str:
        return self.finding.level if self.unsettled is None else "none"


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the findings of a report as SARIF.

    Args:
        report: The report.
        color: Ignored.
        width: Ignored.
        unicode: Ignored; the text is ASCII.

    Returns:
        The JSON text, ending in a newline; without findings it has a run without results.
    """
    return render_all((report,))


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the findings on several models as one run."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(reports)]}
    return json.dumps(log, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _run(reports: Sequence[Report]) -> dict[str, Any]:
    found = [one for report in reports for one in _said(report)]
    left_out = max(0, len(found) - MOST_RESULTS)
    if left_out:
        found = sorted(found, key=lambda one: _WORST_FIRST[one.level])[:MOST_RESULTS]
    properties: dict[str, Any] = {"models": [_model(report) for report in reports], "limits": list(LIMITS)}
    if left_out:
        properties["resultsLeftOut"] = left_out
    invocation: dict[str, Any] = {"executionSuccessful": True}
    if reports:
        start = min(moment(report.created) for report in reports)
        invocation["startTimeUtc"] = start.strftime("%Y-%m-%dT%H:%M:%SZ")
    hub = server(reports[0]) if reports else PUBLIC_HUB
    return {
        "tool": {
            "driver": {
                "name": "lineage-plugin",
                "version": __version__,
                "semanticVersion": __version__,
                "informationUri": HOME,
                "rules": [_rule(rule) for rule in CODES.values()],
            }
        },
        "invocations": [invocation],
        "originalUriBaseIds": {
            "%SRCROOT%": {"description": {"text": "The folder in which the check was started."}},
            "HUB": {"uri": f"{hub}/", "description": {"text": "The Hugging Face Hub."}},
        },
        "columnKind": "unicodeCodePoints",
        "results": _results(found),
        "properties": properties,
    }


def _said(report: Report) -> Iterator[_Said]:
    yield from (_Said(report, finding) for finding in report.findings)
    if report.command != "check":
        return  # nothing else holds a card against weights, so there is no finding of this code to keep
    declared = report.declared
    for one in report.comparisons[:_MOST_COMPARISONS]:
        if one.relation != "inconclusive":
            continue
        here = outline.is_declared(report, one) or len(report.comparisons) <= len(declared.bases)
        file, line = (declared.file, declared.line) if here else (None, None)
        base, why = one_line(one.base.id, 200), sentence(one.summary.removeprefix("inconclusive: "))
        message = f"Undecided whether the weights support {base} as the base{f': {why}' if why else ''}"
        help_ = "This neither confirms nor refutes it."
        yield _Said(report, Finding(_OPEN, "note", message, file, line, help_), one)


def _rule(rule: Rule) -> dict[str, Any]:
    title = rule.title[:1].upper() + rule.title[1:]
    if rule.code == _OPEN:
        title += ", or undecided"
    words = "".join(character if character.isalnum() else " " for character in rule.title).split()
    return {
        "id": rule.code,
        "name": "".join(word[:1].upper() + word[1:] for word in words),
        "shortDescription": {"text": title},
        "fullDescription": {"text": f"{title}."},
        "helpUri": rule.help_uri,
        "help": {
            "text": f"{title}. What it means and what to do: {rule.help_uri}",
            "markdown": f"{title}. [What it means and what to do]({rule.help_uri}).",
        },
        "defaultConfiguration": {"level": rule.level},
        "properties": {
            "tags": ["model-lineage", "supply-chain"],
            "problem.severity": "recommendation" if rule.level == "note" else rule.level,
        },
    }


def _results(found: Iterable[_Said]) -> list[dict[str, Any]]:
    codes = list(CODES)
    results: list[dict[str, Any]] = []
    seen: Counter[tuple[str, ...]] = Counter()
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in found:
        report, finding, _ = one
        where = _location(report, finding)
        uri = where["artifactLocation"]["uri"]
        # No line and no number enters: both change while the finding stays the same one.
        identity = (finding.code, uri, *bases_named(finding, report))
        ordinal = seen[identity]
        seen[identity] += 1
        key = hashlib.sha256(json.dumps([*identity, ordinal]).encode()).hexdigest()[:32]
        result: dict[str, Any] = {
            "ruleId": finding.code,
            "ruleIndex": codes.index(finding.code),
            "kind": "fail" if one.unsettled is None else "open",
            "level": one.level,
            "message": {"text": _message(finding)},
            "locations": [{"physicalLocation": where}],
            "partialFingerprints": {FINGERPRINT: key},
        }
        if one.unsettled is None and (suppressions := _suppressions(finding, report)):
            result["suppressions"] = suppressions
        if where["artifactLocation"]["uriBaseId"] == "HUB":
            repository = repository_of(report.suspect)
            if repository is not None:
                file = finding.file or _card(report)
                result["hostedViewerUri"] = address(report, repository, report.suspect.revision, file=file)
        result["properties"] = {"model": one_line(report.suspect.id, 200), **_evidence(one)}
        results.append(result)
        lines.setdefault((finding.code, uri, finding.line), []).append(result)
    for (code, _, line), alike in lines.items():
        # GitHub tells alerts apart by this one fingerprint, which its upload takes from the line's text. Where there is
        # no line to read, or several findings share one, that would be no fingerprint or the same for all. A base keeps
        # its alert from finding to open result, of which the line is known less closely.
        base = alike[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uriBaseId"]
        if line is None or base == "HUB" or len(alike) > 1 or code == _OPEN:
            for result in alike:
                prints = result["partialFingerprints"]
                prints[_GITHUB] = f"{prints[FINGERPRINT][:16]}:1"
    return results


def _suppressions(finding: Finding, report: Report) -> list[dict[str, str]]:
    """Return what keeps a finding from counting: a comment in the card, an exception of the policy."""
    reasons = {"inSource": finding.ignored, "external": _excuse(finding, report)}
    return [
        {"kind": kind, "status": "accepted", "justification": one_line(reason, 300)}
        for kind, reason in reasons.items()
        if reason is not None
    ]


def _excuse(finding: Finding, report: Report) -> str | None:
    """Return why an exception of the policy excused a finding; None when none did."""
    used = report.settings.policy
    # An exception is about all findings of a code on a model.
    reasons = () if used is None else (one.reason for one in used.excepted if one.code == finding.code)
    reason = next(iter(reasons), None)
    return None if reason is None else one_line(reason, 300) or "excepted by the policy"


def _message(finding: Finding) -> str:
    parts = [sentence(finding.message) or f"{CODES[finding.code].title}."]
    if finding.help:
        parts.append(sentence(finding.help))
    text = " ".join(filter(None, parts))
    lines = [one_line(line, 300) for line in finding.suggestion[:20]]
    if lines:
        text += "\nLines for the card's front matter:\n" + "\n".join(lines)
    # "[text](address)" is a link in a message of SARIF.
    return text.replace("](", "] (")


def _card(report: Report) -> str:
    return report.declared.file or "README.md"


def _location(report: Report, finding: Finding) -> dict[str, Any]:
    """Return where a finding is; one without a file is at the card, or where the card would be."""
    file = finding.file or report.card or _card(report)
    path = place(report, file)
    if path is None:
        repository = repository_of(report.suspect) or one_line(report.suspect.id, 200) or "model"
        artifact = {"uri": f"{quoted(repository)}/blob/main/{quoted(file)}", "uriBaseId": "HUB"}
    else:
        artifact = {"uri": _relative(path), "uriBaseId": "%SRCROOT%"}
    location: dict[str, Any] = {"artifactLocation": artifact}
    # Without a region the file as a whole is meant: the upload then does not read gigabytes of weights for a hash.
    if finding.line is not None and finding.line > 0:
        location["region"] = {"startLine": int(finding.line)}
        if finding.column is not None and finding.column > 0:
            location["region"]["startColumn"] = int(finding.column)
    return location


def _relative(path: str) -> str:
    """Return a path on this machine as a URI, as seen from the folder in which the check was started, if it is below.

    Places elsewhere keep their last parts only: a log of another machine is no use to the reader of an alert.
    """
    here = Path.cwd()
    # Not resolved: what a link is called here is what the repository calls it.
    whole = Path(os.path.normpath(here / path.replace("\0", "")))
    inside = whole.relative_to(here) if whole.is_relative_to(here) else Path(*whole.parts[1:][-2:])
    return quoted(inside.as_posix())


def _evidence(said: _Said) -> dict[str, Any]:
    """Return the numbers of the comparison that a result rests on; nothing when it cannot be told, or rests on none."""
    if said.unsettled is not None:
        return _numbers(said.unsettled)
    report, finding, _ = said
    names = bases_named(finding, report)
    about = [one for one in report.comparisons if one.base.id in names] or list(report.comparisons)
    if len(about) != 1 or about[0].relation not in _BY_EVIDENCE.get(finding.code, ()):
        return {}
    return _numbers(about[0])


def _numbers(comparison: Comparison) -> dict[str, Any]:
    evidence, calibrated = comparison.evidence, comparison.calibrated
    return {
        "base": one_line(comparison.base.id, 200),
        "relation": comparison.relation,
        "log10_e": _finite(evidence.log10_e),
        "coins": int(evidence.coins),
        "heads": int(evidence.heads),
        "exact": bool(evidence.exact),
        "calibrated": None
        if calibrated is None
        else {
            "log10_value": _finite(calibrated.log10_value),
            "pairs": int(calibrated.pairs),
            "models": int(calibrated.models),
        },
        "bytes_read": int((comparison.suspect_cost + comparison.base_cost).bytes_read),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _model(report: Report) -> dict[str, Any]:
    revision, verdict = report.suspect.revision, verdict_on(report)
    return {
        "id": one_line(report.suspect.id, 200),
        "revision": None if revision is None else one_line(revision, 80),
        **({} if verdict is None else {"verdict": verdict}),
        "summary": sentence(report.summary),
        "policy": _inert(to_dict(report)["settings"]["policy"]),
        "bytes_read": int(report.cost.bytes_read),
        "comparisons": [_numbers(one) for one in report.comparisons[:_MOST_COMPARISONS]],
    }


def _inert(value: Any) -> Any:
    """Return a value of which every text is one inert line."""
    if isinstance(value, dict):
        return {key: _inert(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_inert(inner) for inner in value]
    return one_line(value, 300) if isinstance(value, str) else value
