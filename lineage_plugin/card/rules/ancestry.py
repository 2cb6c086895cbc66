"""The rule about chains of bases that lead back to where they began: LIN208."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding

__all__ = ["its_own_base"]

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_SHOWN: Final = 8
"""Most models of a circle that a message names."""


@rule("LIN208")
def its_own_base(card: Card) -> Iterator[Finding]:
    """Report a model that is declared as its own base, or whose chain of bases leads back to it.

    Why: nothing descends from itself. Such a card names no origin at all, and where two cards each name the other one
    at least one of them is wrong. Tools that follow the chain, for licences or for attribution, find no end of it.

    The name of the model is known on the Hub, or by ``--name``; ids are compared as the Hub does, without regard to
    case, and by the names that renamed models have now. Chains are followed where the Hub was asked. A copy of the
    same name under another owner is another model. A base that is an earlier commit of the same repository, pinned by
    its hash, is possible and therefore a note. So is a circle further up that this model is no part of: the fault lies
    in somebody else's card.

    Example::

        base_model: owner/name          # in the card of owner/name

    Repair::

        base_model: owner/what-it-was-made-from
    """
    hub = card.hub or {}
    own = _node(card.name, hub) if card.name else None
    above = _above(card, own, hub)
    told: set[frozenset[str]] = set()
    for claim in card.declaration.bases:
        start = _node(claim.id, hub)
        if start == own:
            yield _self_reference(card, claim)
            continue
        back = _way(start, own, above) if own is not None else None
        if back is not None and card.name is not None:
            yield finding(
                "LIN208",
                f"the chain of bases leads back to the model: {_listed([card.name, *_names(back, hub)])}",
                file=claim.file,
                line=claim.line,
                column=claim.column,
                help="One of these cards is wrong. Name the model that this one was made from.",
            )
            continue
        circle = _circle(start, above)
        if circle is None or frozenset(circle) in told:
            continue
        told.add(frozenset(circle))
        yield finding(
            "LIN208",
            f"the bases of {claim.id} run in a circle: {_listed(_names(circle, hub))}",
            file=claim.file,
            line=claim.line,
            column=claim.column,
            help="Check that the base is the model that this one was made from; its chain has no beginning.",
            level="note",
        )


def _self_reference(card: Card, claim: BaseClaim) -> Finding:
    earlier = claim.revision is not None and _COMMIT.fullmatch(claim.revision) is not None
    message = f"the model is declared as its own base: {claim.id}"
    help_ = "Name the model that it was made from, or remove base_model if it was trained from scratch."
    if earlier:
        message = f"an earlier commit of the model itself is declared as its base: {claim.id}"
        help_ = "The Hub knows models, not commits, and shows the model as its own base."
    return finding(
        "LIN208",
        message,
        file=claim.file,
        line=claim.line,
        column=claim.column,
        help=help_,
        level="note" if earlier else None,
    )


def _node(id: str, hub: Mapping[str, HubModel]) -> str:
    """Return what stands for a model: the id that it has now, in lower case."""
    model = hub.get(id)
    return ((model.id if model is not None else "") or id).lower()


def _above(card: Card, own: str | None, hub: Mapping[str, HubModel]) -> dict[str, tuple[str, ...]]:
    """Return the bases of every model, by what stands for them; those of the model itself as its card has them."""
    above = {_node(id, hub): tuple(_node(base, hub) for base in model.bases) for id, model in hub.items()}
    if own is not None:
        above[own] = tuple(_node(claim.id, hub) for claim in card.declaration.bases)
    return above


def _way(start: str, end: str, above: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """Return the shortest chain of bases from a model up to another one, both included; None: there is none."""
    came: dict[str, str | None] = {start: None}
    reached = [start]
    for node in reached:
        for base in above.get(node, ()):
            if base == end:
                way = [base]
                at: str | None = node
                while at is not None:
                    way.append(at)
                    at = came[at]
                return way[::-1]
            if base not in came:
                came[base] = node
                reached.append(base)
    return None


def _circle(start: str, above: Mapping[str, tuple[str, ...]]) -> list[str] | None:
    """Return the circle that is nearest to a model on its chain of bases, from one of its models back to it."""
    reached = {start: None}
    queue = [start]
    for node in queue:
        back = _way(node, node, above)
        if back is not None:
            return back
        fresh = [base for base in above.get(node, ()) if base not in reached]
        reached |= dict.fromkeys(fresh)
        queue += dict.fromkeys(fresh)
    return None


def _names(nodes: list[str], hub: Mapping[str, HubModel]) -> list[str]:
    """Return the ids of models as they are written."""
    written = {_node(id, hub): model.id or id for id, model in hub.items()}
    return [written.get(node, node) for node in nodes]


def _listed(ids: list[str]) -> str:
    shown = ids if len(ids) <= _SHOWN else [*ids[: _SHOWN - 1], "...", ids[-1]]
    return " -> ".join(shown)
