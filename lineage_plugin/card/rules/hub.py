"""Rules about what the Hub says of the declared bases: LIN202, LIN209. They are silent where it was not asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.card.located import Located
from lineage_plugin.card.reference import Reference, parse_reference
from lineage_plugin.card.rules.base import base_not_found
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, Level, finding
from lineage_plugin.fixes import Fix, SetItem
from lineage_plugin.text import one_line

__all__ = ["base_on_the_hub", "base_superseded"]

_NEW_SPELLING: Final = "The Hub redirects the old name only as long as no other repository takes it."
_OWNERLESS: Final = "Names without an owner are of the Hub's first years; it redirects them."
_OTHER_CASE: Final = "The Hub finds it either way; other tools compare ids letter by letter."


@rule("LIN202")
def base_on_the_hub(card: Card) -> Iterator[Finding]:
    """Report a declared base that the Hub does not have, does not show, or has under another name.

    Why: nobody can check a model against a base that cannot be opened, and the Hub's model tree shows no link to it.
    A name that was given up may be taken by somebody else, and the card then names their model.

    It is an error when there is no such model or revision, or when access is denied; a warning when the base was
    renamed, or when the Hub's answer cannot be used; a note when the Hub merely spells the id in another way, or when
    the base is gated, so that whoever reads it has to accept its terms first.

    ``lineage check`` reports the same code for a base that it cannot open: check the id for a typing error, accept the
    licence of a gated base and set ``HF_TOKEN``, or say with ``--base`` where a copy is. With ``--offline`` it is a
    warning there, and the verdict is "undecided": the base was not looked up. With ``--base`` it is a note: what was
    compared is what you named, not what the card names.

    Fix: writes the name that a renamed base has now.

    Example::

        base_model: owner/old-name

    Repair::

        base_model: owner/new-name
    """
    for claim in card.declaration.bases:
        model = (card.hub or {}).get(claim.id)
        if model is None:
            continue
        if model.state in ("missing", "denied"):
            yield base_not_found(claim, model.problem)
        elif model.state == "unknown":
            because = f": {one_line(model.problem, 160)}" if model.problem else ""
            yield finding(
                "LIN202",
                f"declared base {claim.id} could not be looked up on the Hub{because}",
                file=claim.file,
                line=claim.line,
                column=claim.column,
                help="Run again later, or check HF_ENDPOINT.",
                level="warning",
            )
        else:
            yield from _found(card, claim, model)


def _found(card: Card, claim: BaseClaim, model: HubModel) -> Iterator[Finding]:
    """Report what is to be said of a base that is there."""
    if model.id and model.id != claim.id:
        yield _renamed(card, claim, model.id)
    if claim.revision is not None and model.revisions.get(claim.revision, "") is None:
        line, column = _place_of_pin(card, claim)
        missing = base_not_found(claim, f"there is no revision '{one_line(claim.revision)}'")
        yield replace(missing, line=line, column=column)
    if model.gated:
        yield finding(
            "LIN202",
            f"base {claim.id} is gated: the Hub hands its files out to those who accepted its terms",
            file=claim.file,
            line=claim.line,
            column=claim.column,
            help="Whoever reads the base, `lineage check` included, needs HF_TOKEN of an account that accepted them.",
            level="note",
        )


def _renamed(card: Card, claim: BaseClaim, now: str) -> Finding:
    """Return the finding for a base that is called something else now."""
    level: Level = "warning"
    message, help_ = f"base {claim.id} was renamed; the Hub calls it {now}", _NEW_SPELLING
    if now.lower() == claim.id.lower():
        level, message, help_ = "note", f"the Hub spells the base {claim.id} as {now}", _OTHER_CASE
    elif "/" not in claim.id:
        # Nobody can take such a name, so what it stands for is certain.
        level, message, help_ = "note", f"the full name of the base {claim.id} is {now}", _OWNERLESS
    return finding(
        "LIN202",
        message,
        file=claim.file,
        line=claim.line,
        column=claim.column,
        help=f"Write {now}. {help_}",
        level=level,
        fix=_rename(card, claim, now),
    )


def _rename(card: Card, claim: BaseClaim, now: str) -> Fix | None:
    """Return the repair that writes a base's new name; None where the card does not name it, or names both."""
    if claim.file != card.file or any(
        other.id.lower() == now.lower() for other in card.declaration.bases if other != claim
    ):
        return None
    index = _index(card, claim)
    if index is None:
        return None
    written = parse_reference(_items(card, "base_model")[index].text or "")
    pinned = f"@{written.revision}" if isinstance(written, Reference) and written.revision else ""
    return Fix(f"Write {now} for {claim.id}", (SetItem("base_model", index, now + pinned),))


def _items(card: Card, key: str) -> tuple[Located, ...]:
    """Return the items of a list, or the one value that stands for it."""
    value = card.front_matter.get(key)
    return () if value is None else value.each


def _index(card: Card, claim: BaseClaim) -> int | None:
    """Return which item of ``base_model`` a claim is, or None when it is of another file."""
    places = [(item.line, item.column) for item in _items(card, "base_model")]
    place = (claim.line, claim.column)
    return places.index(place) if claim.file == card.file and place in places else None


def _place_of_pin(card: Card, claim: BaseClaim) -> tuple[int | None, int | None]:
    """Return line and column of the revision that a claim is pinned to, else those of the claim."""
    pins, index = _items(card, "base_model_revision"), _index(card, claim)
    if index is not None and len(pins) == len(_items(card, "base_model")):
        pin = pins[index]
        if (pin.text or "").strip() == claim.revision:
            return pin.line, pin.column
    return claim.line, claim.column


@rule("LIN209")
def base_superseded(card: Card) -> Iterator[Finding]:
    """Note a declared base whose own card names a successor.

    Why: the owner of the base recommends a newer model. The declaration is right all the same if the model was made
    from this one: leave it as it is, and think of the newer one for the next model.

    Example::

        base_model: owner/model-v1      # whose card says: new_version: owner/model-v2

    Repair::

        base_model: owner/model-v1      # stays: it names what the model was made from
    """
    ids = {card.name, *(claim.id for claim in card.declaration.bases)}
    ours = {id.lower() for id in ids if id is not None}
    for claim in card.declaration.bases:
        model = (card.hub or {}).get(claim.id)
        if model is None or model.new_version is None or model.new_version.lower() in {*ours, model.id.lower()}:
            continue
        yield finding(
            "LIN209",
            f"the card of base {claim.id} names a successor: {model.new_version}",
            file=claim.file,
            line=claim.line,
            column=claim.column,
            help=f"Keep the declaration if the model was made from {claim.id}; this is about your next one.",
        )
