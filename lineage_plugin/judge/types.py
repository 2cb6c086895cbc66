"""The values a judgement is made of; their fields are those of the JSON report ``lineage-report/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.findings import Finding, Level
from lineage_plugin.options import DEFAULT_BAR, Fingerprints

if TYPE_CHECKING:
    from lineage_plugin.evidence.effects import MatrixEffect
    from lineage_plugin.report import FailOn

__all__ = [
    "PUBLIC_HUB",
    "CalibratedEvidence",
    "CalibratedStatistic",
    "Candidate",
    "ChainLink",
    "Closest",
    "Comparison",
    "Declared",
    "Direction",
    "Evidence",
    "Excepted",
    "GroupEvidence",
    "Inheritance",
    "Interval",
    "LayerEvidence",
    "LevelChange",
    "LicenceOutcome",
    "Merge",
    "MergeParent",
    "ModelSummary",
    "PolicyUse",
    "Relation",
    "Report",
    "Scrubbed",
    "Settings",
    "StageEvidence",
    "Verdict",
]

Relation = Literal["identical", "derived", "shared-init", "unrelated", "inconclusive"]
Verdict = Literal["pass", "fail", "undecided"]
PUBLIC_HUB = "https://huggingface.co"
Command = Literal["check", "compare", "lint", "scan"]
Indication = Literal["suspect-from-base", "base-from-suspect", "siblings", "unclear"]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95% confidence interval; all None when it could not be estimated."""

    estimate: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, effect: MatrixEffect) -> Interval:
        """Return an effect as the report shows it."""
        return cls(effect.estimate, effect.low, effect.high)


UNKNOWN = Interval(None, None, None)


@dataclass(frozen=True, slots=True)
class Excepted:
    """A finding that an exception of the policy made a note; ``expires`` is the last day, such as ``2027-03-31``."""

    code: str
    reason: str
    expires: str


@dataclass(frozen=True, slots=True)
class LevelChange:
    """The level that findings of a code had, and the one that the policy gave them."""

    code: str
    was: Level
    now: Level


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """What a policy did here.

    Attributes:
        file: The policy file, as it was named or found.
        off: Codes of findings that it left out.
        excepted: Findings that it excused.
        levels: Levels that it changed.
        fail_on: The lowest level of finding that fails by it; None when it does not say.
        undecided: What an undecided verdict counts as in the exit code.
        ignored: What it says and was not used, since the file came with the model and nobody named it.
        preset: The preset that it builds on; None without one.
        denied: Codes of findings that a comment in the card ignores, and that have their levels all the same.
    """

    file: str
    off: tuple[str, ...] = ()
    excepted: tuple[Excepted, ...] = ()
    levels: tuple[LevelChange, ...] = ()
    fail_on: FailOn | None = None
    undecided: Verdict = "undecided"
    ignored: tuple[str, ...] = ()
    preset: str | None = None
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the answer depends on besides the models.

    With it a run can be repeated to the digit; where ``fingerprints`` is ``auto``, if the same ones are at hand.
    ``policy`` says what a policy did to the findings; None without one.
    """

    bar: float = DEFAULT_BAR
    seed: int = 0
    exhaustive: bool = False
    budget: int | None = None
    policy: PolicyUse | None = None
    fingerprints: Fingerprints = "auto"


DEFAULTS = Settings()


@dataclass(frozen=True, slots=True)
class GroupEvidence:
    """The coins of one kind, such as ``mlp swap`` or ``value sign``."""

    name: str
    coins: int
    heads: int
    log10_e: float


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """What one stage of the search contributes: its weight in the average of e-values, its coins and its own e-value.

    Stages are ``identity`` (stored order), ``layers``, ``channels``, ``units`` and ``basis``.
    """

    name: str
    weight: float
    coins: int
    heads: int
    log10_e: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """All coins of a comparison.

    Attributes:
        log10_e: Decimal logarithm of the e-value, the weighted average over the stages; finite, uncapped, negative when
            the coins speak for independence.
        coins: Number of coins tossed in the stage that the comparison is described by.
        heads: Number of heads.
        exact: Whether the dependence of the models is exact: the coins are jointly fair under the null by symmetry
            alone, and the claim rests on them. ``derived`` and ``shared-init`` are always told apart by calibrated
            statistics.
        groups: The same by kind of coin.
        stages: Every stage that ran.
    """

    log10_e: float
    coins: int
    heads: int
    exact: bool
    groups: tuple[GroupEvidence, ...] = ()
    stages: tuple[StageEvidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Inheritance:
    """How the shared energy follows what the base learned.

    Attributes:
        slope: Elasticity of shared row energy on base row energy: near 1 for descent, near 0 for a shared draw.
        low: Lower end of its 95% interval.
        high: Upper end.
        curve: ``(share of directions, coefficient kept)`` along the base's singular directions, strongest first; of
            fingerprints the strongest eighth and all others; empty when it was not computed.
        contrast: Coefficient of the strongest tenth of the directions over that of the weaker half; of fingerprints
            that of the strongest eighth over that of all others.
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
    """What one layer says. ``suspect`` and ``base`` are layer names such as ``3`` or a tensor name.

    ``base`` is None for a layer of the suspect that corresponds to none of the base. The coins are those of the base's
    layer; where it became several, the first of them has the coins.
    """

    suspect: str
    base: str | None
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
class Scrubbed:
    """How units or channels were relabelled or transformed, as far as it was undone.

    Attributes:
        how: Plain phrases, such as ``MLP units stand in another order``.
        calibrated_on: What the calibrated evidence rests on, in words; None when the evidence is exact.
    """

    how: tuple[str, ...]
    calibrated_on: str | None = None


@dataclass(frozen=True, slots=True)
class CalibratedStatistic:
    """Comparisons that agree, of how many, and the decimal logarithm of their calibrated value."""

    name: str
    agreements: int
    of: int
    log10_value: float


@dataclass(frozen=True, slots=True)
class CalibratedEvidence:
    """Evidence that is not exact, kept apart from the e-value.

    Attributes:
        log10_value: Decimal logarithm of the calibrated value.
        statistics: What it is made of.
        rate: Rate of agreement that independent models are granted.
        worst_share: Largest rate seen among the independent pairs.
        pairs: Number of those pairs.
        models: Number of models they were made of.
        families: Their architectures.
        width: Smallest and largest width of their residual streams.
        parameters: Fewest and most parameters.
    """

    log10_value: float
    statistics: tuple[CalibratedStatistic, ...]
    rate: float
    worst_share: float
    pairs: int
    models: int
    families: tuple[str, ...]
    width: tuple[int, int]
    parameters: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Suspect against one base.

    Attributes:
        base: The base.
        relation: The relation that the evidence supports.
        kind: What was done to the base, as far as the weights show; None unless derived.
        summary: The relation in a few words.
        evidence: The coins.
        kept: Share of the base that is still there.
        inheritance: Whether the shared part follows what the base learned.
        direction: Indication of who came first.
        layers: Layer by layer; the suspect's layers in order.
        limits: What was assumed, left out or cannot be known.
        suspect_cost: What reading the suspect cost.
        base_cost: What reading the base cost.
        scrubbed: Relabellings that were undone; None when there were none.
        calibrated: Evidence that is not exact; None when it was not needed.
        changes: How the structure differs and what was done to the values: plain phrases, such as ``layers 2-3 appear
            twice`` or ``4-bit grid in groups of 32``.
        part: Prefix of the suspect's tensors that the comparison is about; "" for the whole model.
    """

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
    scrubbed: Scrubbed | None = None
    calibrated: CalibratedEvidence | None = None
    changes: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The whole answer: card and weights of one suspect against its bases.

    ``merge`` and ``closest`` are about several relatives together; None when there was one only. ``folder`` is the
    suspect's, as the caller named it (None for a model of the Hub), and ``card`` the card that was given instead of the
    suspect's own: the files of findings lie there (:func:`lineage_plugin.report.places.place`). ``hub`` is the address
    of the Hub that ids are of, ``command`` what was asked: only ``check`` holds a card against weights. ``licences`` is
    what ``lint`` says of the licences along the declared chain, ``chain`` what the cards on the Hub declare further up.
    """

    created: str
    suspect: ModelSummary
    declared: Declared
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict
    summary: str
    cost: Cost
    settings: Settings = DEFAULTS
    merge: Merge | None = None
    closest: Closest | None = None
    folder: str | None = None
    card: str | None = None
    hub: str = PUBLIC_HUB
    command: Command = "check"
    licences: tuple[LicenceOutcome, ...] = ()
    chain: tuple[ChainLink, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainLink:
    """What the card of a declared base, or of one further up, declares in turn.

    Attributes:
        model: The model, by the name it has on the Hub now.
        bases: The bases that its card declares; empty where the chain ends.
    """

    model: str
    bases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LicenceOutcome:
    """How the licence of the model goes with that of one model along its declared chain; no legal advice.

    Attributes:
        model: The model of the chain.
        via: The declared base through which it is in the chain; None when it is that base itself.
        licence: Its licence; None when it states none, or none is known here.
        known_by: ``the Hub``, or ``its id`` where the Hub was not asked and the model is a well-known one; None
            when it is not known.
        outcome: The outcome.
        reason: Why, in a few words.
        source: The clause that decides and where it is to be read; None when no clause does.
        duties: What that licence asks of whoever publishes the model, each with its clause and source.
    """

    model: str
    via: str | None
    licence: str | None
    known_by: str | None
    outcome: Literal["compatible", "needs action", "ask a lawyer", "incompatible"]
    reason: str
    source: str | None
    duties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MergeParent:
    """How much of one parent is in a merge: an estimate, not exact evidence.

    Attributes:
        id: The parent.
        weight: Its weight; None when it could not be estimated.
        low: Lower end of its 95% interval.
        high: Upper end.
        layers: Weight by layer.
    """

    id: str
    weight: float | None
    low: float | None
    high: float | None
    layers: tuple[tuple[str, Interval], ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """The suspect as a combination of its declared parents.

    Attributes:
        parents: The parents' weights; that of the common ancestor last when it is no parent itself.
        ancestor: The common ancestor, or None when the parents were set against each other alone.
        scale: Common factor of the combination: 1 for a linear merge, above 1 for SLERP.
        unexplained: Share of the suspect's change that no combination of the parents explains.
        structure: ``rounding``, ``sparse``, ``low-rank`` or ``dense``; None when nothing was estimated.
        style: ``linear``, ``slerp``, ``dare`` or ``ties``, a hint; None when it cannot be told.
        summary: All of it in one plain sentence.
    """

    parents: tuple[MergeParent, ...]
    ancestor: str | None
    scale: Interval
    unexplained: float | None
    structure: str | None
    style: str | None
    summary: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """One member of a family as a possible parent.

    Attributes:
        id: The member.
        coefficient: Its weight in the combination of all members; None when it could not be estimated.
        low: Lower end of its 95% interval.
        high: Upper end.
        weakest: Coefficient along the weakest directions of what sets it apart: near 1 for a parent.
    """

    id: str
    coefficient: float | None
    low: float | None
    high: float | None
    weakest: Interval = UNKNOWN


@dataclass(frozen=True, slots=True)
class Closest:
    """Which member of a family the suspect descends from: an estimate, not exact evidence.

    Attributes:
        id: The member, or None when it cannot be told.
        reason: Why, in a plain phrase.
        between: Two members between which the suspect lies, as a merge does.
        ancestor: The common ancestor, or None when it is not known.
        candidates: Every member's standing.
    """

    id: str | None
    reason: str
    between: tuple[str, ...]
    ancestor: str | None
    candidates: tuple[Candidate, ...]
