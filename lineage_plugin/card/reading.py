"""From the text of a card to its declaration and its findings, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lineage_plugin.card.beside import Beside
from lineage_plugin.card.declaration import BaseClaim, Declaration, declare
from lineage_plugin.card.front_matter import FrontMatter, read_front_matter
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.card.ignores import apply_ignores, read_ignores
from lineage_plugin.card.rules import Card, apply_rules
from lineage_plugin.card.rules.registry import in_order
from lineage_plugin.findings import Finding

__all__ = ["card_of", "findings_of", "read_card"]


def read_card(
    text: str | bytes | None,
    *,
    file: str = "README.md",
    adapter_config: str | bytes | None = None,
    adapter_file: str = "adapter_config.json",
    stated: tuple[BaseClaim, ...] = (),
    name: str | None = None,
    beside: Beside | None = None,
    hub: Mapping[str, HubModel] | None = None,
) -> tuple[Declaration, tuple[Finding, ...]]:
    """Read what a model declares about its origin, and check how it says so.

    Args:
        text: Content of the model card, or None when the model has none. Only its beginning is looked at.
        file: Name of the card, as the findings shall call it.
        adapter_config: Content of adapter_config.json, or None when the model has none.
        adapter_file: Its name, as the findings shall call it.
        stated: Bases that the weight files name, see :func:`lineage_plugin.card.claims.claims_of_weights`.
        name: The id that the model has, or will have, on the Hub.
        beside: What the files beside the card say.
        hub: What the Hub says of the bases; None when it was not asked.

    Returns:
        The declaration and the findings of every card rule, those of the card first, by line. No content raises.
    """
    card = card_of(
        text,
        file=file,
        adapter_config=adapter_config,
        adapter_file=adapter_file,
        stated=stated,
        name=name,
        beside=beside,
        hub=hub,
    )
    return card.declaration, findings_of(card)


def card_of(
    text: str | bytes | None,
    *,
    file: str = "README.md",
    adapter_config: str | bytes | None = None,
    adapter_file: str = "adapter_config.json",
    stated: tuple[BaseClaim, ...] = (),
    name: str | None = None,
    beside: Beside | None = None,
    hub: Mapping[str, HubModel] | None = None,
) -> Card:
    """Read a card; the arguments are those of :func:`read_card`.

    Returns:
        What the rules see of the model.
    """
    front_matter = FrontMatter() if text is None else read_front_matter(text)
    declaration = declare(front_matter, file=file, adapter_config=adapter_config, adapter_file=adapter_file)
    declaration = replace(declaration, stated=stated)
    return Card(
        file=file,
        present=text is not None,
        empty=text is not None and not text[:4096].strip() and len(text) <= 4096,
        front_matter=front_matter,
        declaration=declaration,
        text="" if text is None else text if isinstance(text, str) else text.decode("utf-8", "surrogateescape"),
        name=name,
        beside=beside or Beside(),
        hub=hub,
    )


def findings_of(card: Card) -> tuple[Finding, ...]:
    """Return the findings of every card rule, those of the card first, by line; what its comments ignore are notes."""
    findings = apply_rules(card)
    ignores = read_ignores(card.text, card.front_matter)
    if ignores:
        findings = in_order(apply_ignores(findings, ignores, file=card.file, untold=_untold(card)), card.file)
    return findings


def _untold(card: Card) -> frozenset[str]:
    """Return the codes whose findings need something that was not looked into."""
    codes: set[str] = set()
    if card.hub is None or any(model.state == "unknown" for model in card.hub.values()):
        codes |= {"LIN202", "LIN206", "LIN208", "LIN209", "LIN211"}
    if card.name is None:
        codes.add("LIN208")
    if card.beside.files is None or card.beside.unread:
        codes |= {"LIN204", "LIN206", "LIN210", "LIN211"}
    if card.declaration.is_adapter:
        codes.add("LIN204")  # weights have a word in it, too
    return frozenset(codes)
