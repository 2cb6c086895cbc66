"""The values that a family tree is made of; models are named by their number in :attr:`Family.models`, from 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import (
    DEFAULTS,
    PUBLIC_HUB,
    Evidence,
    Indication,
    Interval,
    ModelSummary,
    Relation,
    Settings,
)

__all__ = ["Branch", "By", "Claim", "Family", "Link", "Member", "Standing", "State", "Tree"]

NOTHING = Cost()

By: TypeAlias = Literal["digests", "fingerprints", "weights"]
State: TypeAlias = Literal["tested", "adapter", "not read"]
Standing: TypeAlias = Literal["supported", "contradicted", "undecided", "not tested"]


@dataclass(frozen=True, slots=True)
class Member:
    """One of the models.

    Attributes:
        name: What the user typed for it.
        model: The model as reports name it; of one that was not read the id is what was typed.
        state: ``tested``: it was compared with all others that were. ``adapter``: its weights are changes to another
            model's, which have no fingerprint; only what it declares is shown. ``not read``: see ``reason``.
        origin: Where the fingerprint is from: ``weights`` (made here), ``cache`` (made here before), or ``file`` (given
            by the user); None without one.
        reason: Why it was not compared; empty for one that was.
        declares: The bases that its card or its adapter configuration names.
        exit_code: What the failure to read it stands for: 2 for its files, 4 for the Hub, 0 where there was none.
        cost: What reading it cost.
    """

    name: str
    model: ModelSummary
    state: State
    origin: Literal["weights", "cache", "file"] | None = None
    reason: str = ""
    declares: tuple[str, ...] = ()
    exit_code: int = 0
    cost: Cost = NOTHING


@dataclass(frozen=True, slots=True)
class Link:
    """What the weights of two models say; every pair of tested models has one.

    Attributes:
        suspect: The model that was in the place of the suspect; it says nothing of who came first.
        base: The other one.
        relation: The relation.
        summary: The reason, in a few words.
        evidence: The coins. ``log10_e`` is of the e-value **divided by the number of tests** of the tree; that of a
            group of coins or of a stage is not divided.
        cosine: How near the weights are: the cosine of what the coins are tossed on, an estimate from the units that
            were compared; 1 for equal files, None where nothing could be compared.
        kept: Coefficient of the suspect on the base.
        reverse: Coefficient of the base on the suspect; without an interval where weights were compared.
        direction: Indication of who came first; ``unclear`` unless derived.
        kind: What was done, as far as the structure shows; None unless derived.
        changes: How the structure differs, in plain phrases.
        limits: What was assumed or left out for this pair.
        by: What was compared: ``digests`` (the files are equal), ``fingerprints``, or ``weights``, where a card names
            one of the two as the base of the other and fingerprints did not show descent.
    """

    suspect: int
    base: int
    relation: Relation
    summary: str
    evidence: Evidence
    cosine: float | None
    kept: Interval
    reverse: Interval
    direction: Indication = "unclear"
    kind: str | None = None
    changes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    by: By = "fingerprints"


@dataclass(frozen=True, slots=True)
class Claim:
    """A base that a model declares and that is one of the models here.

    Attributes:
        model: The model that declares it.
        base: The model that is taken for the base.
        id: The id as it is declared.
        file: The file that says so, such as ``README.md``.
        line: Its line; None where it has none.
        by_name: Whether the base is a local folder of the declared name, which may or may not hold that model.
        other_commit: The commit that is declared, where another one was compared; None otherwise.
        standing: ``supported``, ``contradicted`` or ``undecided`` by the weights; ``not tested`` for adapters. Only a
            comparison of weights contradicts, never one of fingerprints.
        reason: Why, in a few words.
    """

    model: int
    base: int
    id: str
    file: str
    line: int | None
    by_name: bool
    other_commit: str | None
    standing: Standing
    reason: str


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of a tree: two models of which none of the family is nearer by weights. It does not say parent and child.

    Attributes:
        outer: The end that is further from where the drawing begins.
        inner: The end that is nearer to it.
        cosine: How near their weights are; 1 for equal files.
    """

    outer: int
    inner: int
    cosine: float


@dataclass(frozen=True, slots=True)
class Tree:
    """Models that share learned weights, through each other.

    Attributes:
        members: The models, in the order of the drawing.
        branches: The maximum spanning tree of the pairs that are identical or derived, by cosine; in drawing order.
        start: Where the drawing begins.
        rooted: Why it begins there: ``declared`` (the cards say that the others come from it and no weight speaks
            against it), ``indicated`` (the weights indicate it), or None: it is the middle, and the tree has no root.
        reason: The same in a sentence.
    """

    members: tuple[int, ...]
    branches: tuple[Branch, ...]
    start: int
    rooted: Literal["declared", "indicated"] | None
    reason: str


@dataclass(frozen=True, slots=True)
class Family:
    """How several models are related.

    Attributes:
        created: When, as ISO 8601 in UTC.
        models: The models in the order given, each once.
        links: All pairs of tested models.
        claims: Declared bases among the models.
        trees: Families of two and more, the largest first.
        starts: Groups of models, of different families or of none, that are joined by a common random start.
        findings: What the weights say against a declaration; levels as in ``check``.
        pairs: Number of pairs of tested models.
        tests: Number of tests by which every e-value was divided: the pairs, and once more those that a card declares
            and whose weights could be compared, too; fixed before a coin was tossed.
        unread: Number of declared pairs whose weights were to be compared and could not be read; another run may read
            them.
        limits: What holds for the whole tree.
        cost: What it cost.
        settings: What the answer depends on besides the models.
        hub: Address of the Hub that ids are of.
    """

    created: str
    models: tuple[Member, ...]
    links: tuple[Link, ...] = ()
    claims: tuple[Claim, ...] = ()
    trees: tuple[Tree, ...] = ()
    starts: tuple[tuple[int, ...], ...] = ()
    findings: tuple[Finding, ...] = ()
    pairs: int = 0
    tests: int = 0
    unread: int = 0
    limits: tuple[str, ...] = ()
    cost: Cost = NOTHING
    settings: Settings = DEFAULTS
    hub: str = PUBLIC_HUB

    def link(self, one: int, other: int) -> Link | None:
        """Return what the weights of two models say; None where they were not compared."""
        for link in self.links:
            if {link.suspect, link.base} == {one, other}:
                return link
        return None

    def tree_of(self, model: int) -> int | None:
        """Return the number of the tree that a model is in; None where it is in none."""
        return next((number for number, tree in enumerate(self.trees) if model in tree.members), None)
