"""From the evidence about a pair to the comparison that a report shows."""

from __future__ import annotations

from lineage_plugin.anatomy import Anatomy
from lineage_plugin.checkpoint.types import Checkpoint, Cost
from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.gather import PairEvidence
from lineage_plugin.judge.lineage import SILENT_COINS, silent_layers
from lineage_plugin.judge.relation import ancestor_of, relation_of
from lineage_plugin.judge.types import (
    Comparison,
    Direction,
    Evidence,
    GroupEvidence,
    Inheritance,
    Interval,
    LayerEvidence,
    ModelSummary,
    Relation,
)
from lineage_plugin.options import DEFAULT_BAR

__all__ = ["compared", "identical", "summarise"]

_UNSEEN = "Distillation into fresh weights, training on the base's outputs and shared data leave no trace in weights."
_IDENTITY_ORDER = (
    "Units were compared in the order in which they are stored; units that were relabelled on purpose look unrelated "
    "although they were copied."
)
_SYMMETRIC = (
    "Shared learned weights mean that one model descends from the other or both from a third; who came first is an "
    "indication only."
)
_SAME_DRAW = "A shared initialisation is told from descent by a calibrated statistic, not by the exact coins."

_NARROW = frozenset({"F8_E4M3", "F8_E5M2"})


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
        format=checkpoint.format,
        parameters=sum(info.size for info in checkpoint.tensors.values()),
        architecture=named if isinstance(named, str) else family,
        sha256=checkpoint.digests(compute=digests),
    )


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
    models: tuple[Checkpoint, Checkpoint],
    costs: tuple[Cost, Cost],
) -> Comparison:
    """Return the comparison that the evidence amounts to.

    Args:
        evidence: The evidence about the pair.
        bar: Decimal logarithm of the e-value from which dependence is claimed.
        base: The base as the report names it.
        models: Suspect and base.
        costs: What reading each of them cost for this comparison.

    Returns:
        The comparison.
    """
    relation, reason = relation_of(evidence, bar)
    layers = tuple(
        LayerEvidence(row.suspect, row.base, row.count.coins, row.count.heads, row.cosine) for row in evidence.layers
    )
    silent = silent_layers(layers) if relation == "derived" else ()
    return Comparison(
        base=base,
        relation=relation,
        kind=_kind(models, silent) if relation == "derived" else None,
        summary=reason,
        evidence=Evidence(
            evidence.log10_e,
            evidence.count.coins,
            evidence.count.heads,
            evidence.exact,
            tuple(GroupEvidence(g.name, g.count.coins, g.count.heads, g.log10_e) for g in evidence.groups),
        ),
        kept=_interval(evidence.kept),
        inheritance=_inheritance(evidence),
        direction=Direction(
            evidence.direction if relation == "derived" else "unclear",  # type: ignore[arg-type]
            evidence.kept.estimate,
            evidence.reverse.estimate,
        ),
        layers=layers,
        limits=_limits(evidence, relation, silent, bar),
        suspect_cost=costs[0],
        base_cost=costs[1],
    )


def _inheritance(evidence: PairEvidence) -> Inheritance:
    ancestor = ancestor_of(evidence) or "base"
    found = evidence.descent if ancestor == "base" else evidence.ascent
    contrast = Interval(found.curve.contrast, found.curve.low, found.curve.high)
    return Inheritance(found.slope, found.low, found.high, found.curve.points, contrast, ancestor)


def _interval(effect: MatrixEffect) -> Interval:
    return Interval(effect.estimate, effect.low, effect.high)


def _kind(models: tuple[Checkpoint, Checkpoint], silent: tuple[LayerEvidence, ...]) -> str:
    suspect, base = ({info.dtype for info in model.tensors.values()} for model in models)
    if suspect & _NARROW and not base & _NARROW:
        return "quantized"
    return "partial" if silent else "finetune"


def _limits(
    evidence: PairEvidence, relation: Relation, silent: tuple[LayerEvidence, ...], bar: float
) -> tuple[str, ...]:
    limits = list(evidence.limits)
    if bar != DEFAULT_BAR:
        limits.append(f"Dependence was to be claimed from an e-value of 10^{bar:g} on, not from 10^{DEFAULT_BAR:g}.")
    if relation == "derived":
        limits.append(_SYMMETRIC)
    if relation in ("derived", "shared-init"):
        limits.append(_SAME_DRAW)
    if silent:
        names = ", ".join(row.base for row in silent)
        limits.append(f"Layers without a trace of the base: {names}.")
    if evidence.equal and relation == "derived":
        limits.append("Every value that was read is the same in both models.")
    at_chance = any(g.count.coins >= SILENT_COINS and g.log10_e < 0 for g in evidence.groups)
    if at_chance or evidence.log10_e < bar:
        limits.append(_IDENTITY_ORDER)
    if evidence.log10_e < bar:
        limits.append(_UNSEEN)
    return tuple(dict.fromkeys(limits))
