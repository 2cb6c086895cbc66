"""Whether the licence of a model goes with those of the models it is made from.

Adapters, quantised models and merges are judged as derivatives like fine-tunes, and a merge has the duties of all its
parents; that it is open whether an adapter is one, the findings say.
The judgement is a conservative reading of clauses: ``incompatible`` only where a clause leaves no doubt, ``ask a
lawyer`` wherever one would have to weigh something, and a licence whose text was not read is always weighed. It is no
legal advice: whether weights are protected, and by what, courts have hardly said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from lineage_plugin.licences.facts import Fact, Kind, Licence, stated

__all__ = ["Ancestor", "Judgement", "KnownBy", "Verdict", "judge", "worst"]

Verdict = Literal["compatible", "needs action", "ask a lawyer", "incompatible"]
"""From harmless to grave."""

KnownBy = Literal["the Hub", "its id"]

DUTIES: Final[tuple[Kind, ...]] = ("copy", "display", "name", "notice", "changes", "attribution", "use-restrictions")
"""Facts that ask something of whoever publishes a derivative."""

_OPEN: Final = ("public domain", "permissive", "weak copyleft", "copyleft", "share-alike")
"""Classes of licences that allow every use, commercial ones too."""
_FREE: Final = ("public domain", "permissive")
_FAMILY_IDS: Final = frozenset({"bsd", "cc", "gfdl", "gpl", "lgpl", "odbl", "openrail"})
"""Ids of the Hub for a family of licences, not for one of them."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A model that a model is made from, and the licence it is known to have.

    Attributes:
        id: Its id.
        licence: The licence as its card states it, or as its family has it; None when it is not known.
        licence_name: ``license_name`` of its card.
        known_by: How the licence is known; meaningless without one.
        via: The declared base through which it is an ancestor, or None when it is that base itself.
    """

    id: str
    licence: str | None
    licence_name: str | None = None
    known_by: KnownBy = "its id"
    via: str | None = None

    @property
    def known(self) -> Licence | None:
        """The licence with its facts, or None."""
        return stated(self.licence, self.licence_name)


@dataclass(frozen=True, slots=True)
class Judgement:
    """How the licence of a model goes with that of one ancestor.

    Attributes:
        ancestor: The ancestor.
        verdict: The outcome.
        reason: Why, in a few words without a full stop.
        source: The fact that decides, or None when no clause does.
        duties: What the ancestor's licence asks of whoever publishes the model.
    """

    ancestor: Ancestor
    verdict: Verdict
    reason: str
    source: Fact | None = None
    duties: tuple[Fact, ...] = ()


def judge(licence: Licence | None, relation: str | None, ancestors: Iterable[Ancestor]) -> tuple[Judgement, ...]:
    """Judge the licence of a model against those of its ancestors.

    Args:
        licence: The model's licence; None when it has none, or one that is not known here.
        relation: ``adapter``, ``finetune``, ``merge``, ``quantized``, or None when it is open.
        ancestors: Every model along the declared chain.

    Returns:
        One judgement for each ancestor, in their order.
    """
    return tuple(_judge(licence, relation, ancestor) for ancestor in ancestors)


def worst(judgements: Iterable[Judgement]) -> Verdict:
    """Return the gravest verdict; ``compatible`` when there is nothing to judge."""
    order = get_args(Verdict)
    return max((judgement.verdict for judgement in judgements), key=order.index, default="compatible")


def _judge(licence: Licence | None, relation: str | None, ancestor: Ancestor) -> Judgement:
    base = ancestor.known
    if base is None:
        what = (
            "its licence is not known" if ancestor.licence is None else "its licence is not one whose terms are known"
        )
        return Judgement(ancestor, "ask a lawyer", what)
    duties = _duties(base, relation)
    barred = base.fact("no-derivatives")
    if barred is not None:
        if relation == "quantized":
            reason = f"whether a quantised copy is a derivative that {base.id} forbids to share is not settled"
            return Judgement(ancestor, "ask a lawyer", reason, barred, duties)
        return Judgement(ancestor, "incompatible", f"{base.id} does not allow derivatives to be shared", barred, duties)
    if base.kind in _FREE:
        return Judgement(ancestor, "compatible", f"{base.id} leaves the licence of a derivative open", None, duties)
    if licence is None:
        return Judgement(
            ancestor, "ask a lawyer", "the model's own licence is not one whose terms are known", duties=duties
        )
    if licence.id == base.id:
        return Judgement(ancestor, "needs action", "the same licence, with its duties", None, duties)
    return _different(licence, base, ancestor, duties)


def _different(licence: Licence, base: Licence, ancestor: Ancestor, duties: tuple[Fact, ...]) -> Judgement:
    """Judge two licences that are not the same, where the base's is not a permissive one."""
    alike = base.fact("share-alike")
    if {licence.id, base.id} & _FAMILY_IDS:
        family = licence.id if licence.id in _FAMILY_IDS else base.id
        return Judgement(ancestor, "ask a lawyer", f"{family} names a family of licences, not one", None, duties)
    if alike is not None and licence.id in alike.under:
        return Judgement(ancestor, "needs action", f"{base.id} allows derivatives under {licence.id}", alike, duties)
    commercial = base.fact("non-commercial")
    if commercial is not None and licence.kind in (*_OPEN, "rail"):
        reason = f"{base.id} allows no commercial use, {licence.id} does"
        return Judgement(ancestor, "incompatible", reason, commercial, duties)
    if alike is not None and licence.kind in (*_FREE, "share-alike", "non-commercial", "no derivatives"):
        under = " or ".join(alike.under)
        return Judgement(ancestor, "incompatible", f"{base.id} wants derivatives under {under}", alike, duties)
    passed_on = base.fact("use-restrictions")
    if passed_on is not None and licence.kind in _OPEN:
        reason = f"{base.id} has terms of use that go with every derivative, {licence.id} allows every use"
        return Judgement(ancestor, "incompatible", reason, passed_on, duties)
    own = base.fact("own-terms")
    if own is not None and commercial is None:
        return Judgement(ancestor, "needs action", f"{base.id} allows a derivative terms of its own", own, duties)
    free_to_choose = own is not None or base.kind == "non-commercial"
    if commercial is not None and licence.kind == "non-commercial" and free_to_choose and not (passed_on or alike):
        return Judgement(ancestor, "needs action", "neither allows commercial use", commercial, duties)
    if not base.facts:
        return Judgement(
            ancestor, "ask a lawyer", f"the terms of {base.id} are not among those known here", None, duties
        )
    reason = f"whether {licence.id} keeps what {base.id} asks for takes a reading of both"
    return Judgement(ancestor, "ask a lawyer", reason, passed_on or alike or commercial, duties)


def _duties(base: Licence, relation: str | None) -> tuple[Fact, ...]:
    # A quantised copy is the model itself in another format, neither trained nor improved.
    copied = relation == "quantized"
    return tuple(fact for fact in base.facts if fact.kind in DUTIES and not (copied and fact.trained))
