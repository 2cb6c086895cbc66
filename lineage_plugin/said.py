"""What the card of a model says that is being checked, with the files beside it and, where it is asked, the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin.card import BaseClaim, Declaration
from lineage_plugin.card.beside import Beside
from lineage_plugin.card.gather import RECIPES, gather
from lineage_plugin.card.reading import card_of, findings_of
from lineage_plugin.checkpoint import Checkpoint, Cost
from lineage_plugin.checkpoint.open import locate
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import ChainLink, LicenceOutcome
from lineage_plugin.linting.lint import chain_of, licences_of
from lineage_plugin.linting.place import CARD_LIMIT
from lineage_plugin.options import Options
from lineage_plugin.text import one_line

if TYPE_CHECKING:
    from lineage_plugin.checkpoint.source import Source

__all__ = ["Said", "card_file", "said_by"]

_BESIDE_REMOTE = frozenset({"config.json", *RECIPES})
"""Files of a model on the Hub that are read for its card: each one is a request."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a card says.

    Attributes:
        text: The card; None when there is none.
        declaration: What it declares.
        findings: Those of the card's rules.
        chain: What the declared bases come from in turn; empty when the Hub was not asked.
        licences: How its licence goes with theirs; empty when the Hub was not asked.
        cost: What asking the Hub cost.
    """

    text: str | None
    declaration: Declaration
    findings: tuple[Finding, ...]
    chain: tuple[ChainLink, ...] = ()
    licences: tuple[LicenceOutcome, ...] = ()
    cost: Cost = field(default_factory=Cost)

    def without(self, others: Sequence[Finding]) -> list[Finding]:
        """Return the findings but those that trying to read a base has brought, too: what happened then says more."""
        known = {(found.code, found.file, found.line) for found in others}
        return [found for found in self.findings if (found.code, found.file, found.line) not in known]


def said_by(
    model: Checkpoint | Source,
    ref: str,
    *,
    stated: tuple[BaseClaim, ...],
    card: str | None,
    id: str | None,
    partial: bool,
    hub: bool,
    options: Options,
) -> Said:
    """Read the card of a model.

    Args:
        model: The opened model, or where its files are when its weights cannot be read.
        ref: What the user typed for it.
        stated: Bases that the weight files name.
        card: A card elsewhere than in the model.
        id: The id on the Hub that the card is held to; None when there is none.
        partial: Whether files of the model may be elsewhere.
        hub: Whether the Hub is asked about the declared bases.
        options: Choices of the run.

    Raises:
        UsageError: When ``card`` cannot be read, or the Hub is asked in offline mode.
        HubError: When the Hub does not deliver.
    """
    text = card_file(card) if card is not None else _decoded(model.data("README.md", CARD_LIMIT))
    seen = card_of(
        text,
        file=card or "README.md",
        adapter_config=_decoded(model.data("adapter_config.json")),
        stated=stated,
        name=id,
        beside=_beside(model, ref, text, card, partial),
    )
    if not hub:
        return Said(text, seen.declaration, findings_of(seen))
    from lineage_plugin.linting.hub_facts import ask_hub

    answers = ask_hub(seen.declaration, options=options, name=id)
    seen = replace(seen, hub=answers.models)
    return Said(text, seen.declaration, findings_of(seen), chain_of(seen), licences_of(seen), answers.cost)


def card_file(path: str) -> str:
    """Return the text of a card that was given by its path.

    Raises:
        UsageError: When it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(CARD_LIMIT).decode("utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"{one_line(path, 200)}: the card cannot be read ({error.strerror})") from None


def _beside(model: Checkpoint | Source, ref: str, text: str | None, card: str | None, partial: bool) -> Beside:
    """Read what the files beside a card say; of a model on the Hub the few that are worth a request."""
    place = locate(ref)
    # Of a file that is given by itself, or under the card of another folder, the neighbours are not all known.
    alone = not Path(place).is_dir() if isinstance(place, str) else bool(place.path)
    files = None if partial or alone or card is not None else tuple(model.files)

    def read(name: str, limit: int) -> bytes | None:
        return model.data(name, limit) if model.local or name in _BESIDE_REMOTE else None

    # Headers of GGUF files were read elsewhere.
    return replace(gather(read, files, text=text or "", card=card or "README.md"), unread=True)


def _decoded(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", errors="replace")
