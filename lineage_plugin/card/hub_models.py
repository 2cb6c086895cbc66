"""What the Hub says about a model that a card names, without a byte of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["HubModel"]


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the Hub as its metadata describe it.

    Attributes:
        asked: The id that was asked for.
        state: ``found``; ``missing``: there is none, or none that may be seen; ``denied``: it is private or the token
            does not do; ``unknown``: the Hub could not be asked.
        problem: Why it was not found; of one that was found, why its licence could not be read; else empty.
        id: The id it has now; another one than ``asked`` when it was renamed.
        commit: The commit that its default branch is at.
        revisions: For each revision that a card pins it to, the commit, or None when there is no such revision.
        gated: Whether its files are handed out only to those who accepted its terms.
        licence: ``license`` of its card.
        licence_name: ``license_name`` of its card, for licences that have no id on the Hub.
        licence_link: ``license_link`` of its card.
        bases: The bases that its card declares, ids only.
        relation: The relation that its card declares.
        new_version: The model that its card names as its successor.
        config: The few values of its config.json that the Hub tells: ``model_type``, ``architectures``.
    """

    asked: str
    state: Literal["found", "missing", "denied", "unknown"]
    problem: str = ""
    id: str = ""
    commit: str | None = None
    revisions: Mapping[str, str | None] = field(default_factory=dict)
    gated: bool = False
    licence: str | None = None
    licence_name: str | None = None
    licence_link: str | None = None
    bases: tuple[str, ...] = ()
    relation: str | None = None
    new_version: str | None = None
    config: Mapping[str, object] = field(default_factory=dict)
