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

__all__ = ["COLLECTION", "SCHEMA", "render", "render_all", "schema", "to_dict"]

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
        "created": _text(report.created),
        "suspect": _model(report.suspect),
        "declared": {
            "bases": [_text(base) for base in declared.bases],
            "relation": _text(declared.relation),
            "license": _text(declared.license),
            "source": {"file": _text(declared.file), "line": _integer(declared.line)},
        },
        "comparisons": [_comparison(comparison) for comparison in report.comparisons],
        "merge": None if report.merge is None else _merge(report.merge),
        "closest": None if report.closest is None else _closest(report.closest),
        "findings": [_finding(finding) for finding in report.findings],
        "licences": [_licence(licence) for licence in report.licences],
        "chain": [{"model": _text(link.model), "bases": [_text(base) for base in link.bases]} for link in report.chain],
        "verdict": report.verdict,
        "summary": _text(report.summary),
        "cost": _cost(report.cost),
        "settings": {
            "bar": _number(settings.bar),
            "seed": int(settings.seed),
            "exhaustive": bool(settings.exhaustive),
            "fingerprints": settings.fingerprints,
            "budget": _integer(settings.budget),
            "policy": None if settings.policy is None else _policy(settings.policy),
        },
    }


def _licence(found: LicenceOutcome) -> dict[str, Any]:
    return {
        "model": _text(found.model),
        "via": _text(found.via),
        "licence": _text(found.licence),
        "known_by": _text(found.known_by),
        "outcome": found.outcome,
        "reason": _text(found.reason),
        "source": _text(found.source),
        "duties": [_text(duty) for duty in found.duties],
    }


def _policy(use: PolicyUse) -> dict[str, Any]:
    return {
        "file": _text(use.file),
        "off": list(use.off),
        "excepted": [{"code": one.code, "reason": _text(one.reason), "expires": one.expires} for one in use.excepted],
        "levels": [{"code": change.code, "was": change.was, "now": change.now} for change in use.levels],
        "fail_on": use.fail_on,
        "undecided": use.undecided,
        "ignored": [_text(name) for name in use.ignored],
        "preset": _text(use.preset),
        "denied": list(use.denied),
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    inheritance, direction = comparison.inheritance, comparison.direction
    return {
        "base": _model(comparison.base),
        "part": _text(comparison.part),
        "relation": comparison.relation,
        "kind": comparison.kind,
        "summary": _text(comparison.summary),
        "changes": [_text(change) for change in comparison.changes],
        "evidence": _evidence(comparison.evidence),
        "kept": _interval(comparison.kept),
        "inheritance": {
            "slope": _number(inheritance.slope),
            "low": _number(inheritance.low),
            "high": _number(inheritance.high),
            "curve": [[_number(share), _number(kept)] for share, kept in inheritance.curve],
            "contrast": _interval(inheritance.contrast),
            "ancestor": inheritance.ancestor,
        },
        "direction": {
            "indication": direction.indication,
            "suspect_on_base": _number(direction.suspect_on_base),
            "base_on_suspect": _number(direction.base_on_suspect),
        },
        "layers": [
            {
                "suspect": _text(layer.suspect),
                "base": _text(layer.base),
                "coins": int(layer.coins),
                "heads": int(layer.heads),
                "cosine": _number(layer.cosine),
            }
            for layer in comparison.layers
        ],
        "scrubbed": None if comparison.scrubbed is None else _scrubbed(comparison.scrubbed),
        "calibrated": None if comparison.calibrated is None else _calibrated(comparison.calibrated),
        "limits": [_text(limit) for limit in (searched(comparison), *comparison.limits) if limit],
        "cost": {
            **_cost(comparison.suspect_cost + comparison.base_cost),
            "suspect": _cost(comparison.suspect_cost),
            "base": _cost(comparison.base_cost),
        },
    }


def _model(model: ModelSummary) -> dict[str, Any]:
    # A server may call anything a digest; what has not the form of one is left out.
    digests = {_text(name): digest.lower() for name, digest in sorted(model.sha256.items())}
    return {
        "id": _text(model.id),
        "revision": _text(model.revision),
        "format": _text(model.format),
        "parameters": _integer(model.parameters),
        "architecture": _text(model.architecture),
        "sha256": {name: digest for name, digest in digests.items() if _DIGEST.match(digest)},
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "log10_e": _number(evidence.log10_e),
        "coins": int(evidence.coins),
        "heads": int(evidence.heads),
        "exact": bool(evidence.exact),
        "groups": [
            {
                "name": _text(group.name),
                "coins": int(group.coins),
                "heads": int(group.heads),
                "log10_e": _number(group.log10_e),
            }
            for group in evidence.groups
        ],
        "stages": [
            {
                "name": _text(stage.name),
                "weight": _number(stage.weight),
                "coins": int(stage.coins),
                "heads": int(stage.heads),
                "log10_e": _number(stage.log10_e) if stage.coins else None,
            }
            for stage in evidence.stages
        ],
    }


def _scrubbed(scrubbed: Scrubbed) -> dict[str, Any]:
    return {"how": [_text(phrase) for phrase in scrubbed.how], "calibrated_on": _text(scrubbed.calibrated_on)}


def _calibrated(calibrated: CalibratedEvidence) -> dict[str, Any]:
    return {
        "log10_value": _number(calibrated.log10_value),
        "rate": _number(calibrated.rate),
        "worst_share": _number(calibrated.worst_share),
        "pairs": int(calibrated.pairs),
        "models": int(calibrated.models),
        "families": [_text(family) for family in calibrated.families],
        "width": [int(end) for end in calibrated.width],
        "parameters": [int(end) for end in calibrated.parameters],
        "statistics": [
            {
                "name": _text(statistic.name),
                "agreements": int(statistic.agreements),
                "of": int(statistic.of),
                "log10_value": _number(statistic.log10_value),
            }
            for statistic in calibrated.statistics
        ],
    }


def _merge(merge: Merge) -> dict[str, Any]:
    return {
        "parents": [
            {
                "id": _text(parent.id),
                "weight": _number(parent.weight),
                "low": _number(parent.low),
                "high": _number(parent.high),
                "layers": [{"layer": _text(layer), **_interval(weight)} for layer, weight in parent.layers],
            }
            for parent in merge.parents
        ],
        "ancestor": _text(merge.ancestor),
        "scale": _interval(merge.scale),
        "unexplained": _number(merge.unexplained),
        "structure": merge.structure,
        "style": merge.style,
        "summary": _text(merge.summary),
    }


def _closest(closest: Closest) -> dict[str, Any]:
    return {
        "id": _text(closest.id),
        "reason": _text(closest.reason),
        "between": [_text(name) for name in closest.between],
        "ancestor": _text(closest.ancestor),
        "candidates": [
            {
                "id": _text(candidate.id),
                "coefficient": _number(candidate.coefficient),
                "low": _number(candidate.low),
                "high": _number(candidate.high),
                "weakest": _interval(candidate.weakest),
            }
            for candidate in closest.candidates
        ],
    }


def _interval(interval: Interval) -> dict[str, Any]:
    return {
        "estimate": _number(interval.estimate),
        "low": _number(interval.low),
        "high": _number(interval.high),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "level": finding.level,
        "message": _text(finding.message),
        "file": _text(finding.file),
        "line": _integer(finding.line),
        "column": _integer(finding.column),
        "help": _text(finding.help),
        "suggestion": [_text(line) for line in finding.suggestion],
        "fixable": finding.fixable,
        "fix": None if finding.fix is None else _text(finding.fix.title),
        "ignored": _text(finding.ignored),
    }


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "bytes_read": int(cost.bytes_read),
        "tensor_bytes": int(cost.tensor_bytes),
        "bytes_total": int(cost.bytes_total),
        "requests": int(cost.requests),
        "seconds": _number(cost.seconds),
    }


def _text(value: str | None) -> str | None:
    # Lone surrogates come from file names that are not UTF-8; strict JSON parsers refuse them.
    return None if value is None else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", str(value))


def _number(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(value)


def _integer(value: int | None) -> int | None:
    return None if value is None else int(value)
