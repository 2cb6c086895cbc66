"""The values a judgement is made of; their fields are those of the JSON report ``lineage-report/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.findings import Finding
from lineage_plugin.options import DEFAULT_BAR

__all__ = [
    "Comparison",
    "Declared",
    "Direction",
    "Evidence",
    "GroupEvidence",
    "Inheritance",
    "Interval",
    "LayerEvidence",
    "ModelSummary",
    "Relation",
    "Report",
    "Settings",
    "Verdict",
]

Relation = Literal["identical", "derived", "shared-init", "unrelated", "inconclusive"]
Verdict = Literal["pass", "fail", "undecided"]
Indication = Literal["suspect-from-base", "base-from-suspect", "siblings", "unclear"]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95% confidence interval; all None when it could not be estimated."""

    estimate: float | None
    low: float | None
    high: float | None


UNKNOWN = Interval(None, None, None)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the answer depends on besides the models; with it a run can be repeated to the digit."""

    bar: float = DEFAULT_BAR
    seed: int = 0
    exhaustive: bool = False
    budget: int | None = None


DEFAULTS = Settings()


@dataclass(frozen=True, slots=True)
class GroupEvidence:
    """The coins of one kind, such as ``mlp swap`` or ``value sign``."""

    name: str
    coins: int
    heads: int
    log10_e: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All coins of a comparison.

    Attributes:
        log10_e: Decimal logarithm of the e-value; finite, uncapped, negative when the coins speak for independence.
        coins: Number of coins tossed.
        heads: Number of heads.
        exact: Whether the coins are jointly fair under the null by symmetry alone.
        groups: The same by kind of coin.
    """

    log10_e: float
    coins: int
    heads: int
    exact: bool
    groups: tuple[GroupEvidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Inheritance:
    """How the shared energy follows what the base learned.

    Attributes:
        slope: Elasticity of shared row energy on base row energy: near 1 for descent, near 0 for a shared draw.
        low: Lower end of its 95% interval.
        high: Upper end.
        curve: ``(share of directions, coefficient kept)`` along the base's singular directions, strongest first; empty
            when it was not computed.
        contrast: Coefficient of the strongest tenth of the directions over that of the weaker half.
        ancestor: Which model is taken as the ancestor in all of these; ``suspect`` when descent shows that way only.
    """

    slope: float | None
    low: float | None
    high: float | None
    curve: tuple[tuple[float, float], ...] = ()
    contrast: Interval = UNKNOWN
    ancestor: Literal["base", "suspect"] = "base"


@dataclass(frozen=True, slots=True)
class Direction:
    """An indication, never evidence, of who came first."""

    indication: Indication
    suspect_on_base: float | None
    base_on_suspect: float | None


@dataclass(frozen=True, slots=True)
class LayerEvidence:
    """What one layer says. ``suspect`` and ``base`` are layer names such as ``3`` or a tensor name."""

    suspect: str
    base: str
    coins: int
    heads: int
    cosine: float


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """A model as the report names it."""

    id: str
    revision: str | None
    format: str | None
    parameters: int | None
    architecture: str | None
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the card declares, and where."""

    bases: tuple[str, ...]
    relation: str | None
    license: str | None
    file: str | None
    line: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Suspect against one base."""

    base: ModelSummary
    relation: Relation
    kind: str | None
    summary: str
    evidence: Evidence
    kept: Interval
    inheritance: Inheritance
    direction: Direction
    layers: tuple[LayerEvidence, ...]
    limits: tuple[str, ...]
    suspect_cost: Cost
    base_cost: Cost
    scrubbed: Mapping[str, object] | None = None
    calibrated: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The whole answer: card and weights of one suspect against its bases."""

    created: str
    suspect: ModelSummary
    declared: Declared
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict
    summary: str
    cost: Cost
    settings: Settings = DEFAULTS
