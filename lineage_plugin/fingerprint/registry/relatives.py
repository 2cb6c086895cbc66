"""Which of the models that a registry proposes are relatives, and which of these may be the parent.

Candidates are found by their codes, which is no evidence. Whether one is a relative is decided by coins, and since any
entry of the registry could have been the one, its e-value is divided by the number of entries: the probability that
*any* unrelated entry is ever claimed is then still at most the inverse of the bar (the mean of e-values is an e-value,
Vovk & Wang 2021, and a single one is at most their sum).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key

from lineage_plugin.evidence.pair import PairEvidence
from lineage_plugin.fingerprint.compare import compare_fingerprints
from lineage_plugin.fingerprint.nearness import lead, unit_cosines
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.relation import relation_of
from lineage_plugin.judge.types import Relation
from lineage_plugin.options import Options

__all__ = ["Relative", "relatives_among"]


WHOLE = 0.95
"""Coefficient of the suspect on a parent that the interval must reach: a child contains its parent whole."""


@dataclass(frozen=True, eq=False, slots=True)
class Relative:
    """An entry that is claimed to be a relative.

    Attributes:
        id: Its id.
        commit: Its commit, or what stands for it.
        fingerprint: Its fingerprint.
        relation: What the coins support.
        evidence: The evidence, its e-value divided by the number of entries.
        identical: Whether the weight files are the same.
    """

    id: str
    commit: str
    fingerprint: Fingerprint
    relation: Relation
    evidence: PairEvidence
    identical: bool = False

    @property
    def standing(self) -> int:
        """How well it would do as a parent: 3 like one, 2 possibly, 1 like a sibling, 0 like a child or no descent."""
        if self.identical:
            return 3
        if self.relation != "derived" or self.evidence.direction == "base-from-suspect":
            return 0
        if self.evidence.direction == "suspect-from-base":
            return 3
        # A child contains its parent whole.
        whole = (self.evidence.kept.high or 0.0) >= WHOLE
        return 2 if whole and self.evidence.direction != "siblings" else 1


def relatives_among(
    suspect: Fingerprint, entries: Sequence[tuple[str, str, Fingerprint]], tested: int, options: Options
) -> tuple[Relative, ...]:
    """Toss the coins of the candidates.

    Args:
        suspect: The model.
        entries: Id, commit and fingerprint of each candidate.
        tested: Number of entries that could have been candidates.
        options: Bar and seed.

    Returns:
        Those whose coins reach the bar, by their standing, and the nearest first among equals.
    """
    found = []
    digests = _digests(suspect)
    for id, commit, fingerprint in entries:
        evidence = compare_fingerprints(suspect, fingerprint, options)
        evidence = replace(evidence, log10_e=evidence.log10_e - math.log10(max(1, tested)))
        same = bool(digests) and digests == _digests(fingerprint)
        if same or evidence.log10_e >= options.bar:
            relation = "identical" if same else relation_of(evidence, options.bar)[0]
            found.append(Relative(id, commit, fingerprint, relation, evidence, same))
    return _ordered(suspect, found)


def _ordered(suspect: Fingerprint, found: Sequence[Relative]) -> tuple[Relative, ...]:
    cosines = {id(one): unit_cosines(suspect, one.fingerprint) for one in found}

    def order(one: Relative, other: Relative) -> int:
        # A copy that was hardly changed has no clear direction: possible parents are ranked by nearness alone.
        ranks = min(one.standing, 2), min(other.standing, 2)
        if ranks[0] != ranks[1]:
            return ranks[1] - ranks[0]
        if one.standing < 2 and one.evidence.kept.estimate != other.evidence.kept.estimate:
            # Of models that are not contained whole, a parent is contained most.
            return -1 if (one.evidence.kept.estimate or 0.0) > (other.evidence.kept.estimate or 0.0) else 1
        ahead = lead(cosines[id(one)], cosines[id(other)])
        return -1 if ahead > 0 else 1 if ahead < 0 else 0

    return tuple(sorted(found, key=cmp_to_key(order)))


def _digests(fingerprint: Fingerprint) -> list[str] | None:
    """Return the digests of the weight files; None unless all are known."""
    found = [digest for _, digest in fingerprint.source.files.values()]
    known = [digest for digest in found if digest is not None]
    return sorted(known) if known and len(known) == len(found) else None
