"""From what was judged to the answer: the policy is applied, the verdict follows, and one sentence says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin.card import Declaration
from lineage_plugin.checkpoint.open import locate
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import PUBLIC_HUB, Comparison, Declared, ModelSummary, Report, Settings
from lineage_plugin.judge.verdict import verdict_of
from lineage_plugin.options import Options
from lineage_plugin.policy.apply import apply_policy
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.policy.types import Policy

__all__ = ["folder_of", "found_in_registry", "report_of", "sentence"]

_SHOWN_RELATIONS = {
    "identical": "has the weight files of",
    "derived": "shares learned weights with",
    "shared-init": "shares a common start with",
    "inconclusive": "depends in a way that fingerprints cannot tell on",
}


def report_of(
    model: str,
    suspect: ModelSummary,
    declaration: Declaration,
    comparisons: Sequence[Comparison],
    judged: Sequence[Finding],
    suspect_cost: Cost,
    policy: Policy | None,
    options: Options,
    *,
    card: str | None = None,
    name: str | None = None,
) -> Report:
    """Put a report together.

    Args:
        model: What the user typed for the model.
        suspect: The model as it was read.
        declaration: What the card declares.
        comparisons: The comparisons.
        judged: The findings as they were judged.
        suspect_cost: What reading the model cost.
        policy: What is made of the findings.
        options: Choices of the run.
        card: The card that was given instead of the model's own.
        name: What to call the model instead.

    Returns:
        The report; its findings are at the levels of the policy.
    """
    folder = folder_of(suspect.id)
    if name is not None:
        model, suspect = name, replace(suspect, id=name)
    cost = suspect_cost
    for comparison in comparisons:
        cost = cost + comparison.base_cost
    findings, used = (judged, None) if policy is None else apply_policy(policy, model, declaration, judged)
    return Report(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        suspect=suspect,
        declared=Declared(
            tuple(claim.id for claim in declaration.bases),
            declaration.effective_relation,
            declaration.license,
            declaration.file,
            declaration.line,
        ),
        comparisons=tuple(comparisons),
        findings=tuple(findings),
        verdict=verdict_of(findings, comparisons, judged),
        summary=sentence(suspect, declaration, comparisons, findings, judged),
        cost=cost,
        settings=Settings(options.bar, options.seed, options.exhaustive, options.budget, used, options.fingerprints),
        folder=folder,
        card=card,
        hub=_hub(suspect, comparisons, options),
    )


def _hub(suspect: ModelSummary, comparisons: Sequence[Comparison], options: Options) -> str:
    """Return the address of the Hub, if any model is of it: a commit tells."""
    if suspect.revision is None and all(comparison.base.revision is None for comparison in comparisons):
        return PUBLIC_HUB
    from lineage_plugin.checkpoint.hub import endpoint_of

    return endpoint_of(options.endpoint)


def folder_of(model: str) -> str | None:
    """Return the folder of a model on this machine, as its user named it; None for one of the Hub."""
    place = locate(model)
    if not isinstance(place, str):
        return None
    return place if Path(place).is_dir() else str(Path(place).parent)


def sentence(
    suspect: ModelSummary,
    declaration: Declaration,
    comparisons: Sequence[Comparison],
    findings: Sequence[Finding],
    judged: Sequence[Finding] = (),
) -> str:
    """Return the verdict in one sentence; ``judged`` are the findings before a policy changed their levels."""
    name = one_line(suspect.id, 200)
    # What is an error by itself comes before what a policy made one, what the weights refute before what could not be
    # looked at.
    grave = {found.message for found in judged if found.level == "error"}
    errors = sorted(
        (found for found in findings if found.level == "error"),
        key=lambda found: (found.message not in grave, found.code),
    )
    if errors:
        return f"{name}: {errors[0].message}."
    if not comparisons:
        if declaration.bases:
            return f"{name}: the card was read; no weights were compared."
        return f"{name} declares no base model, so there was nothing to compare."
    parts = []
    for comparison in comparisons:
        base = one_line(comparison.base.id, 200)
        if comparison.relation == "derived" and comparison.direction.indication == "base-from-suspect":
            parts.append(f"shares learned weights with {base}, but looks like its ancestor rather than its descendant")
            continue
        consistent = "consistent in part" if comparison.kind == "partial" else "consistent"
        parts.append(
            {
                "identical": f"has the same weight files as {base}",
                "derived": f"is {consistent} with {base} as its base: {comparison.summary}",
                "shared-init": f"shares a common start with {base}, but not what {base} learned",
                "unrelated": f"shows no trace of {base}: {comparison.summary}",
                "inconclusive": f"could not be decided against {base}: {comparison.summary}",
            }[comparison.relation]
        )
    return f"{name} {'; '.join(parts)}."


def found_in_registry(report: Report, models: int) -> str:
    """Say in one sentence what a registry has."""
    name = one_line(report.suspect.id, 200)
    among = "in a registry of one model" if models == 1 else f"among the {models:,} models of the registry"
    ids = {r: [one_line(c.base.id, 100) for c in report.comparisons if c.relation == r] for r in _SHOWN_RELATIONS}
    said = [f"{what} {', '.join(ids[r])}" for r, what in _SHOWN_RELATIONS.items() if ids[r]]
    return f"{name} {'; '.join(said)}, {among}." if said else f"{name} shows no relative {among}."
