"""The findings as SARIF 2.1.0, for code scanning.

One run holds the findings of all models, since GitHub takes one run of a category. What GitHub asks for beyond the
standard is kept to: every result has one location, all places are relative (an address with another scheme than that of
the checkout makes it refuse the whole file), and at most 5,000 results are written, the worst first. Findings without a
file are shown at the model's card.

A file of a model on the Hub has a place relative to the Hub, on the main branch, so that an alert stays the same one
when a commit is added; ``hostedViewerUri`` is the page at the commit that was read.

Sources: OASIS, *Static Analysis Results Interchange Format (SARIF) Version 2.1.0*; GitHub, *SARIF support for code
scanning*.
"""

from __future__ import annotations

import hashlib
import json
import math
import os.path
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lineage_plugin._links import HOME
from lineage_plugin._version import __version__
from lineage_plugin.findings import CODES, Finding, Rule
from lineage_plugin.judge.types import PUBLIC_HUB, Comparison, Report
from lineage_plugin.report.facts import bases_named, moment
from lineage_plugin.report.hub import address, quoted, repository_of, server
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
_WORST_FIRST = {"error": 0, "warning": 1, "note": 2}


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
    found = [(report, finding) for report in reports for finding in report.findings]
    left_out = max(0, len(found) - MOST_RESULTS)
    if left_out:
        found = sorted(found, key=lambda pair: _WORST_FIRST[pair[1].level])[:MOST_RESULTS]
    properties: dict[str, Any] = {"models": [_model(report) for report in reports]}
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
        "results": _results(found),
        "properties": properties,
    }


def _rule(rule: Rule) -> dict[str, Any]:
    title = rule.title[:1].upper() + rule.title[1:]
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


def _results(found: Iterable[tuple[Report, Finding]]) -> list[dict[str, Any]]:
    codes = list(CODES)
    results: list[dict[str, Any]] = []
    seen: Counter[tuple[str, ...]] = Counter()
    lines: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for report, finding in found:
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
            "level": finding.level,
            "message": {"text": _message(finding)},
            "locations": [{"physicalLocation": where}],
            "partialFingerprints": {FINGERPRINT: key},
        }
        if where["artifactLocation"]["uriBaseId"] == "HUB":
            repository = repository_of(report.suspect)
            if repository is not None:
                file = finding.file or _card(report)
                result["hostedViewerUri"] = address(report, repository, report.suspect.revision, file=file)
        result["properties"] = {"model": one_line(report.suspect.id, 200), **_evidence(finding, report)}
        results.append(result)
        lines.setdefault((finding.code, uri, finding.line), []).append(result)
    for (_, _, line), alike in lines.items():
        # GitHub tells alerts apart by this one fingerprint, which its upload takes from the line's text. Where there is
        # no line to read, or several findings share one, that would be no fingerprint or the same for all.
        base = alike[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uriBaseId"]
        if line is None or base == "HUB" or len(alike) > 1:
            for result in alike:
                prints = result["partialFingerprints"]
                prints[_GITHUB] = f"{prints[FINGERPRINT][:16]}:1"
    return results


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


def _evidence(finding: Finding, report: Report) -> dict[str, Any]:
    """Return the numbers of the comparison that a finding is about; nothing when it cannot be told."""
    names = bases_named(finding, report)
    about = [one for one in report.comparisons if one.base.id in names] or list(report.comparisons)
    return _numbers(about[0]) if len(about) == 1 and finding.code.startswith("LIN1") else {}


def _numbers(comparison: Comparison) -> dict[str, Any]:
    evidence = comparison.evidence
    return {
        "base": one_line(comparison.base.id, 200),
        "relation": comparison.relation,
        "log10_e": float(evidence.log10_e) if math.isfinite(evidence.log10_e) else None,
        "coins": int(evidence.coins),
        "heads": int(evidence.heads),
        "exact": bool(evidence.exact),
        "bytes_read": int((comparison.suspect_cost + comparison.base_cost).bytes_read),
    }


def _model(report: Report) -> dict[str, Any]:
    revision = report.suspect.revision
    return {
        "id": one_line(report.suspect.id, 200),
        "revision": None if revision is None else one_line(revision, 80),
        "verdict": report.verdict,
        "summary": sentence(report.summary),
        "bytes_read": int(report.cost.bytes_read),
        "comparisons": [_numbers(one) for one in report.comparisons[:_MOST_COMPARISONS]],
    }
