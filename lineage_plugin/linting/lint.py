"""The lint of a card: its own rules, the files beside it and, where it is asked, the Hub; no weight is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lineage_plugin.answer import report_of
from lineage_plugin.card.gather import gather
from lineage_plugin.card.reading import card_of, findings_of
from lineage_plugin.card.rules.licence import is_own, licence_judgements
from lineage_plugin.card.rules.registry import Card
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import ChainLink, LicenceOutcome, ModelSummary, Report
from lineage_plugin.linting.place import Place, place_of
from lineage_plugin.options import Options
from lineage_plugin.policy.apply import options_of

if TYPE_CHECKING:
    from lineage_plugin.linting.hub_facts import HubAnswers
    from lineage_plugin.policy.types import Policy

__all__ = ["Lint", "chain_of", "licences_of", "lint", "prepare"]

_ADAPTER = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Lint:
    """A card that can be linted again and again: as it is, and as repairs would make it.

    Attributes:
        place: The card in its place.
        hub: What the Hub said; None when it was not asked.
        partial: Whether files of the model may be elsewhere.
    """

    place: Place
    hub: HubAnswers | None
    partial: bool = False

    def findings(self, card: bytes | None) -> tuple[Finding, ...]:
        """Return the findings about a card in this place.

        Args:
            card: The bytes of the card; None: there is none.
        """
        return findings_of(self.read(card))

    def read(self, card: bytes | None) -> Card:
        """Return what the rules see of a card in this place.

        Args:
            card: The bytes of the card; None: there is none.
        """
        text = "" if card is None else card.decode("utf-8", errors="surrogateescape")
        place = self.place
        files = None if self.partial else place.files
        beside = gather(place.read, files, text=text, card=place.file, gguf=place.header)
        return card_of(
            card,
            file=place.file,
            adapter_config=place.text(_ADAPTER),
            name=place.name,
            beside=replace(beside, unread=self.partial),
            hub=None if self.hub is None else self.hub.models,
        )

    @property
    def cost(self) -> Cost:
        """What reading and asking cost."""
        return self.place.cost() + (Cost() if self.hub is None else self.hub.cost)


def prepare(
    card_or_model: str,
    *,
    name: str | None = None,
    hub_id: str | None = None,
    partial: bool = False,
    hub: bool = False,
    options: Options,
) -> Lint:
    """Find a card and, if it is wanted, ask the Hub about the bases that it declares.

    Args:
        card_or_model: A card file, a local model folder, or ``owner/name[@revision]``.
        name: The id that a local model has, or will have, on the Hub.
        hub_id: The id that the card is held to, where that is not ``name``; empty for a model that is on no Hub.
        partial: Whether files of the model may be elsewhere.
        hub: Whether the Hub is asked; of a model on the Hub it always is.
        options: Choices of the run.

    Returns:
        What is needed to lint it.

    Raises:
        UsageError: When there is no such file or folder, or the Hub would be needed while ``options.offline``.
        UnreadableCheckpoint: When the card cannot be read, or is a link that leads out of its folder.
        HubError: When the Hub does not deliver.
    """
    place = place_of(card_or_model, name=name, options=options)
    if hub_id is not None:
        place = replace(place, name=hub_id or None)
    alone = Lint(place, None, partial)
    if not hub and place.path is not None:
        return alone
    from lineage_plugin.linting.hub_facts import ask_hub

    declaration = alone.read(place.card).declaration
    return replace(alone, hub=ask_hub(declaration, options=options, name=place.name))


def lint(
    card_or_model: str,
    *,
    name: str | None = None,
    hub_id: str | None = None,
    partial: bool = False,
    hub: bool = False,
    policy: Policy | None = None,
    options: Options | None = None,
) -> Report:
    """Check a card alone; no weight is read.

    Args:
        card_or_model: A card file, a local model folder, or ``owner/name[@revision]``.
        name: The id that a local model has, or will have, on the Hub.
        hub_id: As for :func:`lineage_plugin.check`.
        partial: As for :func:`lineage_plugin.check`.
        hub: Whether to ask the Hub about the declared bases: are they there, what are they called now, where do they
            come from, what are their licences. Nothing is fetched for a card on this machine otherwise.
        policy: As for :func:`lineage_plugin.check`.
        options: Choices of the run.

    Returns:
        A report without comparisons.

    Raises:
        UsageError: When there is no such file or folder, or the Hub would be needed while ``options.offline``.
        UnreadableCheckpoint: When the card cannot be read, or is a link that leads out of its folder.
        HubError: When the Hub does not deliver.
    """
    options = options or options_of(policy)
    prepared = prepare(card_or_model, name=name, hub_id=hub_id, partial=partial, hub=hub, options=options)
    return report_on(prepared, prepared.place.card, policy=policy, options=options)


def report_on(prepared: Lint, card: bytes | None, *, policy: Policy | None, options: Options) -> Report:
    """Report on a card in its place.

    Args:
        prepared: The place.
        card: The card: the one that is there, or what repairs made of it.
        policy: What is made of the findings.
        options: Choices of the run.
    """
    place = prepared.place
    seen = prepared.read(card)
    summary = ModelSummary(place.asked, place.revision, None, None, None)
    report = report_of(
        place.asked, summary, seen.declaration, [], findings_of(seen), prepared.cost, policy, options, name=place.given
    )
    return replace(report, command="lint", licences=licences_of(seen), chain=chain_of(seen))


def chain_of(card: Card) -> tuple[ChainLink, ...]:
    """Return what the declared bases are made from in turn, as far as the Hub was asked and has them."""
    found: dict[str, ChainLink] = {}
    for model in (card.hub or {}).values():
        own = card.name is not None and card.name.lower() in (model.asked.lower(), model.id.lower())
        if model.state == "found" and not own:
            found.setdefault(model.id.lower(), ChainLink(model.id, model.bases))
    return tuple(found.values())


def licences_of(card: Card) -> tuple[LicenceOutcome, ...]:
    """Return how the licence goes with those along the chain; of declared bases whose licence is not known, that."""
    judgements = licence_judgements(card)
    if judgements is None:
        return ()
    judged = {judgement.ancestor.id for judgement in judgements}
    where = "here; --hub asks the Hub" if card.hub is None else "to the Hub"
    unknown = tuple(
        LicenceOutcome(claim.id, None, None, None, "ask a lawyer", f"its licence is not known {where}", None)
        for claim in card.declaration.bases
        if claim.id not in judged and not is_own(card, claim.id)
    )
    return unknown + tuple(
        LicenceOutcome(
            model=judgement.ancestor.id,
            via=judgement.ancestor.via,
            licence=judgement.ancestor.licence_name or judgement.ancestor.licence,
            known_by=judgement.ancestor.known_by if judgement.ancestor.licence else None,
            outcome=judgement.verdict,
            reason=judgement.reason,
            source=None if judgement.source is None else judgement.source.source,
            duties=tuple(f"{duty.says}: {duty.source}" for duty in judgement.duties),
        )
        for judgement in judgements
    )
