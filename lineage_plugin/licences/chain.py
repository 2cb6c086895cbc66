"""The models that a model is made from, with their licences: from the Hub where it was asked, else by their ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from lineage_plugin.licences.facts import family_licence
from lineage_plugin.licences.judge import Ancestor

if TYPE_CHECKING:
    from lineage_plugin.card.hub_models import HubModel

__all__ = ["ancestors"]

MAX_ANCESTORS: Final = 256
"""Most models followed along a chain."""


def ancestors(bases: Iterable[str], hub: Mapping[str, HubModel] | None = None) -> tuple[Ancestor, ...]:
    """Follow a chain of bases.

    Args:
        bases: The ids that the card declares.
        hub: What the Hub says of them and of their bases in turn, by the id that names them; None: it was not asked.

    Returns:
        Every model whose licence is known, from the Hub or by its id, nearest first, each once; and those that the Hub
        has, but whose cards state none. One whose card could not be read may have a licence: it is left out. Chains
        that run in a circle end where they meet themselves.
    """
    queue: deque[tuple[str, str | None]] = deque((base, None) for base in bases)
    seen: set[str] = set()
    found: list[Ancestor] = []
    while queue and len(seen) < MAX_ANCESTORS:
        id, via = queue.popleft()
        if id.casefold() in seen:
            continue
        seen.add(id.casefold())
        model = hub.get(id) if hub else None
        if model is not None and model.state != "found":
            model = None
        family = family_licence(id)
        if model is not None and model.licence:
            found.append(Ancestor(id, model.licence, model.licence_name, "the Hub", via))
        elif family is not None:
            found.append(Ancestor(id, family.licence, None, "its id", via))
        elif model is not None and not model.problem:
            found.append(Ancestor(id, None, via=via))
        if model is not None:
            queue.extend((base, via or id) for base in model.bases)
    return tuple(found)
