"""The JSON report, schema ``lineage-report/1``.

The fields are those of :mod:`lineage_plugin.judge.types`; ``lineage-report-1.schema.json`` beside this module
describes them for other programs. The text is pure ASCII (everything else is escaped), so that nothing a model card
says can reach a terminal as a control sequence, and it is strict JSON: a number that is not finite is written as null.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from lineage_plugin._version import __version__
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import (
    CalibratedEvidence,
    Closest,
    Comparison,
    Evidence,
    Interval,
    LicenceOutcome,
    Merge,
    ModelSummary,
    PolicyUse,
    Report,
    Scrubbed,
)
from lineage_plugin.report.searched import searched

__all__ = [
    "COLLECTION",
    "SCHEMA",
    "cost_of",
    "evidence_of",
    "finding_of",
    "integer_of",
    "interval_of",
    "model_of",
    "number_of",
    "render",
    "render_all",
    "schema",
    "text_of",
    "to_dict",
]

SCHEMA = "lineage-report/1"
COLLECTION = "lineage-reports/1"

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a report as JSON.

    Args:
        report: The report.
        color: Ignored.
        width: Ignored.
        unicode: Ignored; the text is ASCII.

    Returns:
        The JSON text, indented by two, fields in the order of the schema, ending in a newline.
    """
    return json.dumps(to_dict(report), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the reports on several models as one JSON text, ``{"schema": "lineage-reports/1", "reports": [...]}``."""
    found = {"schema": COLLECTION, "reports": [to_dict(report) for report in reports]}
    return json.dumps(found, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the report."""
    text = resources.files(__package__).joinpath("lineage-report-1.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def to_dict(report: Report) -> dict[str, Any]:
    """Return a report as plain dicts, lists, strings, numbers, booleans and None, in the order of the schema."""
    declared, settings = report.declared, report.settings
    return {
        "schema": SCHEMA,
        "tool": {"name": "lineage-plugin", "version": __version__},
        "created": text_of(report.created),
        "suspect": model_of(report.suspect),
        "declared": {
            "bases": [text_of(base) for base in declared.bases],
            "relation": text_of(declared.relation),
            "license": text_of(declared.license),
            "source": {"file": text_of(declared.file), "line": integer_of(declared.line)},
        },
        "comparisons": [_comparison(comparison) for comparison in report.comparisons],
        "merge": None if report.merge is None else _merge(report.merge),
        "closest": None if report.closest is None else _closest(report.closest),
        "findings": [finding_of(finding) for finding in report.findings],
        "licences": [_licence(licence) for licence in report.licences],
        "chain": [
            {"model": text_of(link.model), "bases": [text_of(base) for base in link.bases]} for link in report.chain
        ],
        "verdict": report.verdict,
        "summary": text_of(report.summary),
        "cost": cost_of(report.cost),
        "settings": {
            "bar": number_of(settings.bar),
            "seed": int(settings.seed),
            "exhaustive": bool(settings.exhaustive),
            "fingerprints": settings.fingerprints,
            "budget": integer_of(settings.budget),
            "policy": None if settings.policy is None else _policy(settings.policy),
        },
    }


def _licence(found: LicenceOutcome) -> dict[str, Any]:
    return {
        "model": text_of(found.model),
        "via": text_of(found.via),
        "licence": text_of(found.licence),
        "known_by": text_of(found.known_by),
        "outcome": found.outcome,
        "reason": text_of(found.reason),
        "source": text_of(found.source),
        "duties": [text_of(duty) for duty in found.duties],
    }


def _policy(use: PolicyUse) -> dict[str, Any]:
    return {
        "file": text_of(use.file),
        "off": list(use.off),
        "excepted": [{"code": one.code, "reason": text_of(one.reason), "expires": one.expires} for one in use.excepted],
        "levels": [{"code": change.code, "was": change.was, "now": change.now} for change in use.levels],
        "fail_on": use.fail_on,
        "undecided": use.undecided,
        "ignored": [text_of(name) for name in use.ignored],
        "preset": text_of(use.preset),
        "denied": list(use.denied),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    inheritance, direction = comparison.inheritance, comparison.direction
    return {
        "base": model_of(comparison.base),
        "part": text_of(comparison.part),
        "relation": comparison.relation,
        "kind": comparison.kind,
        "summary": text_of(comparison.summary),
        "changes": [text_of(change) for change in comparison.changes],
        "evidence": evidence_of(comparison.evidence),
        "kept": interval_of(comparison.kept),
        "inheritance": {
            "slope": number_of(inheritance.slope),
            "low": number_of(inheritance.low),
            "high": number_of(inheritance.high),
            "curve": [[number_of(share), number_of(kept)] for share, kept in inheritance.curve],
            "contrast": interval_of(inheritance.contrast),
            "ancestor": inheritance.ancestor,
        },
        "direction": {
            "indication": direction.indication,
            "suspect_on_base": number_of(direction.suspect_on_base),
            "base_on_suspect": number_of(direction.base_on_suspect),
        },
        "layers": [
            {
                "suspect": text_of(layer.suspect),
                "base": text_of(layer.base),
                "coins": int(layer.coins),
                "heads": int(layer.heads),
                "cosine": number_of(layer.cosine),
            }
            for layer in comparison.layers
        ],
        "scrubbed": None if comparison.scrubbed is None else _scrubbed(comparison.scrubbed),
        "calibrated": None if comparison.calibrated is None else _calibrated(comparison.calibrated),
        "limits": [text_of(limit) for limit in (searched(comparison), *comparison.limits) if limit],
        "cost": {
            **cost_of(comparison.suspect_cost + comparison.base_cost),
            "suspect": cost_of(comparison.suspect_cost),
            "base": cost_of(comparison.base_cost),
        },
    }


def model_of(model: ModelSummary) -> dict[str, Any]:
    """Return a model in the order of the schema."""
    # A server may call anything a digest; what has not the form of one is left out.
    digests = {text_of(name): digest.lower() for name, digest in sorted(model.sha256.items())}
    return {
        "id": text_of(model.id),
        "revision": text_of(model.revision),
        "format": text_of(model.format),
        "parameters": integer_of(model.parameters),
        "architecture": text_of(model.architecture),
        "sha256": {name: digest for name, digest in digests.items() if _DIGEST.match(digest)},
    }


def evidence_of(evidence: Evidence) -> dict[str, Any]:
    """Return coins in the order of the schema."""
    return {
        "log10_e": number_of(evidence.log10_e),
        "coins": int(evidence.coins),
        "heads": int(evidence.heads),
        "exact": bool(evidence.exact),
        "groups": [
            {
                "name": text_of(group.name),
                "coins": int(group.coins),
                "heads": int(group.heads),
                "log10_e": number_of(group.log10_e),
            }
            for group in evidence.groups
        ],
        "stages": [
            {
                "name": text_of(stage.name),
                "weight": number_of(stage.weight),
                "coins": int(stage.coins),
                "heads": int(stage.heads),
                "log10_e": number_of(stage.log10_e) if stage.coins else None,
            }
            for stage in evidence.stages
        ],
    }


def _scrubbed(scrubbed: Scrubbed) -> dict[str, Any]:
    return {"how": [text_of(phrase) for phrase in scrubbed.how], "calibrated_on": text_of(scrubbed.calibrated_on)}


def _calibrated(calibrated: CalibratedEvidence) -> dict[str, Any]:
    return {
        "log10_value": number_of(calibrated.log10_value),
        "rate": number_of(calibrated.rate),
        "worst_share": number_of(calibrated.worst_share),
        "pairs": int(calibrated.pairs),
        "models": int(calibrated.models),
        "families": [text_of(family) for family in calibrated.families],
        "width": [int(end) for end in calibrated.width],
        "parameters": [int(end) for end in calibrated.parameters],
        "statistics": [
            {
                "name": text_of(statistic.name),
                "agreements": int(statistic.agreements),
                "of": int(statistic.of),
                "log10_value": number_of(statistic.log10_value),
            }
            for statistic in calibrated.statistics
        ],
    }


def _merge(merge: Merge) -> dict[str, Any]:
    return {
        "parents": [
            {
                "id": text_of(parent.id),
                "weight": number_of(parent.weight),
                "low": number_of(parent.low),
                "high": number_of(parent.high),
                "layers": [{"layer": text_of(layer), **interval_of(weight)} for layer, weight in parent.layers],
            }
            for parent in merge.parents
        ],
        "ancestor": text_of(merge.ancestor),
        "scale": interval_of(merge.scale),
        "unexplained": number_of(merge.unexplained),
        "structure": merge.structure,
        "style": merge.style,
        "summary": text_of(merge.summary),
    }


def _closest(closest: Closest) -> dict[str, Any]:
    return {
        "id": text_of(closest.id),
        "reason": text_of(closest.reason),
        "between": [text_of(name) for name in closest.between],
        "ancestor": text_of(closest.ancestor),
        "candidates": [
            {
                "id": text_of(candidate.id),
                "coefficient": number_of(candidate.coefficient),
                "low": number_of(candidate.low),
                "high": number_of(candidate.high),
                "weakest": interval_of(candidate.weakest),
            }
            for candidate in closest.candidates
        ],
    }


def interval_of(interval: Interval) -> dict[str, Any]:
    """Return an interval in the order of the schema."""
    return {
        "estimate": number_of(interval.estimate),
        "low": number_of(interval.low),
        "high": number_of(interval.high),
    }


def finding_of(finding: Finding) -> dict[str, Any]:
    """Return a finding in the order of the schema."""
    return {
        "code": finding.code,
        "level": finding.level,
        "message": text_of(finding.message),
        "file": text_of(finding.file),
        "line": integer_of(finding.line),
        "column": integer_of(finding.column),
        "help": text_of(finding.help),
        "suggestion": [text_of(line) for line in finding.suggestion],
        "fixable": finding.fixable,
        "fix": None if finding.fix is None else text_of(finding.fix.title),
        "ignored": text_of(finding.ignored),
    }


def cost_of(cost: Cost) -> dict[str, Any]:
    """Return a cost in the order of the schema."""
    return {
        "bytes_read": int(cost.bytes_read),
        "tensor_bytes": int(cost.tensor_bytes),
        "bytes_total": int(cost.bytes_total),
        "requests": int(cost.requests),
        "seconds": number_of(cost.seconds),
    }


def text_of(value: str | None) -> str | None:
    """Return a text that every parser of JSON takes; None stays None."""
    # Lone surrogates come from file names that are not UTF-8; strict JSON parsers refuse them.
    return None if value is None else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", str(value))


def number_of(value: float | None) -> float | None:
    """Return a number; None for one that is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def integer_of(value: int | None) -> int | None:
    """Return a whole number; None stays None."""
    return None if value is None else int(value)
