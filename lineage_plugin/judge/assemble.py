"""From the evidence about a pair to the comparison that a report shows."""

from __future__ import annotations

from lineage_plugin.anatomy import Anatomy
from lineage_plugin.checkpoint.types import Checkpoint, Cost
from lineage_plugin.evidence.calibrated import Calibrated
from lineage_plugin.evidence.pair import PairEvidence
from lineage_plugin.evidence.traits import kind_of
from lineage_plugin.judge.relation import ancestor_of, relation_of
from lineage_plugin.judge.types import (
    CalibratedEvidence,
    CalibratedStatistic,
    Comparison,
    Direction,
    Evidence,
    GroupEvidence,
    Inheritance,
    Interval,
    LayerEvidence,
    ModelSummary,
    Relation,
    Scrubbed,
    StageEvidence,
)
from lineage_plugin.options import DEFAULT_BAR

__all__ = ["compared", "identical", "summarise"]

_UNSEEN = "Distillation into fresh weights, training on the base's outputs and shared data leave no trace in weights."
_SYMMETRIC = (
    "Shared learned weights mean that one model descends from the other or both from a third; who came first is an "
    "indication only."
)
_SAME_DRAW = "A shared initialisation is told from descent by a calibrated statistic, not by the exact coins."


def summarise(checkpoint: Checkpoint, anatomy: Anatomy | None, *, digests: bool = False) -> ModelSummary:
    """Return a model as the report names it.

    Args:
        checkpoint: The model.
        anatomy: Its anatomy, for the family when the config names no architecture.
        digests: Whether to read local files for their digests.

    Returns:
        The summary.
    """
    architectures = checkpoint.config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    family = None if anatomy is None or anatomy.family == "unknown" else anatomy.family
    return ModelSummary(
        id=checkpoint.id,
        revision=checkpoint.revision,
        format=_format(checkpoint),
        parameters=sum(info.size for info in checkpoint.tensors.values()),
        architecture=named if isinstance(named, str) else family,
        sha256=checkpoint.digests(compute=digests),
    )


def _format(checkpoint: Checkpoint) -> str:
    """Return the format, and how most of the weights in it are quantised, such as ``gguf, Q4_K``."""
    sizes: dict[str, int] = {}
    for info in checkpoint.tensors.values():
        if info.encoding is not None:
            sizes[info.encoding.name] = sizes.get(info.encoding.name, 0) + info.size
    return ", ".join([checkpoint.format, *sorted(sizes, key=lambda name: -sizes[name])[:3]])


def identical(base: ModelSummary, costs: tuple[Cost, Cost]) -> Comparison:
    """Return the comparison of two models whose weight files have equal digests."""
    return Comparison(
        base=base,
        relation="identical",
        kind=None,
        summary="the weight files have the same sha256 digests",
        evidence=Evidence(0.0, 0, 0, exact=True),
        kept=Interval(1.0, 1.0, 1.0),
        inheritance=Inheritance(None, None, None),
        direction=Direction("unclear", 1.0, 1.0),
        layers=(),
        limits=("Identity was read off digests; no coin was tossed, and none is needed.",),
        suspect_cost=costs[0],
        base_cost=costs[1],
    )


def compared(
    evidence: PairEvidence,
    bar: float,
    base: ModelSummary,
    costs: tuple[Cost, Cost],
) -> Comparison:
    """Return the comparison that the evidence amounts to.

    Args:
        evidence: The evidence about the pair.
        bar: Decimal logarithm of the e-value from which dependence is claimed.
        base: The base as the report names it.
        costs: What reading each of them cost for this comparison.

    Returns:
        The comparison.
    """
    relation, reason = relation_of(evidence, bar)
    layers = tuple(
        LayerEvidence(row.suspect, row.base, row.count.coins, row.count.heads, row.cosine) for row in evidence.layers
    )
    kind, why = (None, "") if evidence.facts is None else kind_of(evidence.facts)
    return Comparison(
        base=base,
        relation=relation,
        kind=kind if relation == "derived" else None,
        summary=reason,
        evidence=Evidence(
            evidence.log10_e,
            evidence.count.coins,
            evidence.count.heads,
            evidence.exact,
            tuple(GroupEvidence(g.name, g.count.coins, g.count.heads, g.log10_e) for g in evidence.groups),
            tuple(StageEvidence(s.name, s.weight, s.count.coins, s.count.heads, s.log10_e) for s in evidence.stages),
        ),
        kept=Interval.of(evidence.kept),
        inheritance=_inheritance(evidence),
        direction=Direction(
            evidence.direction if relation == "derived" else "unclear",  # type: ignore[arg-type]
            evidence.kept.estimate,
            evidence.reverse.estimate,
        ),
        layers=layers,
        limits=_limits(evidence, relation, bar),
        suspect_cost=costs[0],
        base_cost=costs[1],
        scrubbed=_scrubbed(evidence),
        calibrated=_calibrated(evidence.calibrated),
        changes=_changes(evidence, why) if relation == "derived" else (),
    )


def _scrubbed(evidence: PairEvidence) -> Scrubbed | None:
    if not evidence.relabelled:
        return None
    if evidence.exact or evidence.calibrated is None:
        return Scrubbed(evidence.relabelled)
    null = evidence.calibrated.null
    basis = (
        f"{null.pairs:,} pairs of {null.models} independent models of {null.parameters[0]:,} to {null.parameters[1]:,} "
        f"parameters ({', '.join(null.families)})"
    )
    return Scrubbed(evidence.relabelled, basis)


def _calibrated(found: Calibrated | None) -> CalibratedEvidence | None:
    if found is None:
        return None
    null = found.null
    return CalibratedEvidence(
        log10_value=found.log10_calibrated,
        statistics=tuple(CalibratedStatistic(s.name, s.agreements, s.of, s.log10_value) for s in found.statistics),
        rate=null.rate,
        worst_share=null.worst_share,
        pairs=null.pairs,
        models=null.models,
        families=null.families,
        width=null.width,
        parameters=null.parameters,
    )


def _changes(evidence: PairEvidence, why: str) -> tuple[str, ...]:
    """Return what was done to the structure and the values, in plain phrases."""
    said = [] if evidence.layer_map is None else list(evidence.layer_map.describe())
    return (*said, why) if why else tuple(said)


def _inheritance(evidence: PairEvidence) -> Inheritance:
    ancestor = ancestor_of(evidence) or "base"
    found = evidence.descent if ancestor == "base" else evidence.ascent
    contrast = Interval(found.curve.contrast, found.curve.low, found.curve.high)
    return Inheritance(found.slope, found.low, found.high, found.curve.points, contrast, ancestor)


def _limits(evidence: PairEvidence, relation: Relation, bar: float) -> tuple[str, ...]:
    limits = list(evidence.limits)
    if bar != DEFAULT_BAR:
        limits.append(f"Dependence was to be claimed from an e-value of 10^{bar:g} on, not from 10^{DEFAULT_BAR:g}.")
    if relation == "derived":
        limits.append(_SYMMETRIC)
    if relation in ("derived", "shared-init"):
        limits.append(_SAME_DRAW)
    if evidence.equal and relation == "derived":
        limits.append("Every value that was read is the same in both models.")
    if relation in ("unrelated", "inconclusive") and evidence.log10_e < bar:
        limits.append(_UNSEEN)
    return tuple(dict.fromkeys(limits))
