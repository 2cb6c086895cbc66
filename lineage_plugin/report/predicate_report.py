"""The predicate of an in-toto attestation: what was checked and what came out, for a signing tool to wrap.

The text is the predicate alone, as ``actions/attest`` takes it under ``predicate-path``: the signer adds the subject
(the files and their digests) and :data:`PREDICATE_TYPE`. The values are those of the JSON report under the same names,
without what only people look at; a pair of models of which nothing was claimed has no verdict. ``docs/predicate.md``
describes them, ``lineage-predicate-1.schema.json`` beside this module for other programs.

Source: in-toto Attestation Framework, *Predicate* layer, v1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from lineage_plugin._links import DOCS
from lineage_plugin._version import __version__
from lineage_plugin.judge.types import Report, Verdict
from lineage_plugin.report import facts
from lineage_plugin.report.json_report import to_dict

__all__ = ["LIMITS", "PREDICATE_TYPE", "render", "render_all", "schema", "to_predicate"]

PREDICATE_TYPE = f"{DOCS}/predicate.md#v1"
"""The type of the predicate, for ``predicate-type``: a URI, and the page that describes it."""

LIMITS = (
    "A signature shows who ran the check and that nothing was changed since; it makes no answer right.",
    "An attested file is known to be what was checked only where its sha256 is listed.",
    "A base is identified by its revision or its sha256, never by its id.",
    *facts.LIMITS,
)
"""What no reader may take the predicate for."""

DIGESTS = True
"""The format is of use for the digests of what was checked: they are taken of local files, too."""


def render(report: Report, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a report as the predicate of an attestation.

    Args:
        report: The report.
        color: Ignored.
        width: Ignored.
        unicode: Ignored; the text is ASCII.

    Returns:
        The JSON text, ending in a newline.
    """
    return render_all((report,))


def render_all(reports: Sequence[Report], *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write the reports on several models as one predicate of the same shape."""
    return json.dumps(to_predicate(reports), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the predicate."""
    text = resources.files(__package__).joinpath("lineage-predicate-1.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def to_predicate(reports: Sequence[Report]) -> dict[str, Any]:
    """Return the predicate as plain dicts, lists, strings, numbers, booleans and None, in the order of the schema."""
    return {
        "tool": {"name": "lineage-plugin", "version": __version__},
        "models": [_model(to_dict(report), facts.verdict_on(report)) for report in reports],
        "limits": list(LIMITS),
    }


def _model(report: Mapping[str, Any], verdict: Verdict | None) -> dict[str, Any]:
    return {
        "created": report["created"],
        "suspect": _picked(report["suspect"], "id", "revision", "sha256"),
        "declared": report["declared"],
        "comparisons": [_comparison(comparison) for comparison in report["comparisons"]],
        "findings": [_finding(finding) for finding in report["findings"]],
        "verdict": verdict,
        "summary": report["summary"],
        "settings": report["settings"],
    }


def _finding(finding: Mapping[str, Any]) -> dict[str, Any]:
    ignored = () if finding["ignored"] is None else ("ignored",)
    return _picked(finding, "code", "level", "message", *ignored)


def _comparison(comparison: Mapping[str, Any]) -> dict[str, Any]:
    calibrated = comparison["calibrated"]
    return {
        "base": _picked(comparison["base"], "id", "revision", "sha256"),
        **_picked(comparison, "part", "relation", "kind"),
        "evidence": _picked(comparison["evidence"], "log10_e", "coins", "heads", "exact"),
        "kept": comparison["kept"],
        "calibrated": None if calibrated is None else _picked(calibrated, "log10_value", "pairs", "models"),
        "limits": comparison["limits"],
    }


def _picked(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}
