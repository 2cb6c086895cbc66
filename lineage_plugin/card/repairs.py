"""Repairs of ``base_model`` where what is meant is certain.

A revision that goes with an entry goes with it still: where ``base_model_revision`` is in the way of that, there is no
repair.
"""

from __future__ import annotations

from collections.abc import Sequence

from lineage_plugin.card.located import Located
from lineage_plugin.card.reference import Reference, Rejection, parse_reference
from lineage_plugin.fixes import Change, Fix, RemoveItem, SetItem, SetKey

__all__ = ["address_to_id", "entry_removed", "ids_to_list"]

_KEY = "base_model"
_PINS = "base_model_revision"


def address_to_id(
    index: int, bases: int, reference: Reference, revision: Located | None, pin: Located | None
) -> Fix | None:
    """Return what writes the id instead of a web address.

    Args:
        index: Which entry of ``base_model`` it is, from 0.
        bases: How many entries there are.
        reference: The model that the address names.
        revision: The value of ``base_model_revision``, or None.
        pin: What that gives for this entry, or None.
    """
    if parse_reference(reference.id) != Reference(reference.id):
        return None
    changes: list[Change] = [SetItem(_KEY, index, reference.id)]
    title = f"Write the id {reference.id} instead of the web address"
    if reference.revision is not None and (pin is None or pin.text != reference.revision):
        if revision is not None and not revision.is_blank:
            return None
        # What the Hub gives when no revision is asked for need not be written.
        if reference.revision != "main":
            if bases > 1:
                return None
            changes.append(SetKey(_PINS, reference.revision, after=_KEY))
            title += f", and its revision as {_PINS}"
    return Fix(title, tuple(changes))


def entry_removed(index: int, items: Sequence[Located], revision: Located | None, what: str) -> Fix | None:
    """Return what removes an entry of ``base_model``, together with its revision.

    Args:
        index: Which one, from 0.
        items: All of them.
        revision: The value of ``base_model_revision``, or None.
        what: How the title calls the entry.
    """
    if all(item.is_blank for place, item in enumerate(items) if place != index):
        return None
    changes: list[Change] = [RemoveItem(_KEY, index)]
    if revision is not None and not revision.is_blank:
        if revision is None or len(revision.items) != len(items):
            return None
        changes.append(RemoveItem(_PINS, index))
    return Fix(f"Remove the {what} of {_KEY}", tuple(changes))


def ids_to_list(rejection: Rejection, bases: int, revision: Located | None) -> Fix | None:
    """Return what makes a list of several ids that are written as one.

    Args:
        rejection: Why they are no id.
        bases: How many entries ``base_model`` has.
        revision: The value of ``base_model_revision``, or None.
    """
    ids = tuple(dict.fromkeys(rejection.ids))
    if not ids or bases > 1 or (revision is not None and not revision.is_blank):
        return None
    if any(parse_reference(id_) != Reference(id_) for id_ in ids):
        return None
    if len(ids) == 1:
        return Fix(f"Write the id {ids[0]} once", (SetKey(_KEY, ids[0]),))
    return Fix(f"Write the {len(ids)} ids of {_KEY} as a list", (SetKey(_KEY, ids),))
