"""A family as plain values, and back without loss; as :mod:`lineage_plugin.judge.plain` keeps a report."""

from __future__ import annotations

from typing import Any

from lineage_plugin.family.types import Family
from lineage_plugin.judge.plain import plain_of, value_of

__all__ = ["from_plain", "to_plain"]


def to_plain(family: Family) -> dict[str, Any]:
    """Return a family as dicts, lists, strings, finite numbers, booleans and None.

    Args:
        family: The family.

    Returns:
        What :func:`from_plain` makes the family of again, also after a way through JSON text.

    Raises:
        ValueError: When a field holds what its type does not allow.
    """
    plain: dict[str, Any] = plain_of(Family, family, "family")
    return plain


def from_plain(data: object) -> Family:
    """Return the family that :func:`to_plain` made the data of.

    Args:
        data: The data; nothing is taken for granted about it.

    Returns:
        The family, equal to the first one.

    Raises:
        ValueError: When a field is missing, unknown or of another type, or a number names no model.
    """
    family: Family = value_of(Family, data, "family")
    named = [
        *(at for link in family.links for at in (link.suspect, link.base)),
        *(at for claim in family.claims for at in (claim.model, claim.base)),
        *(at for tree in family.trees for at in (*tree.members, tree.start)),
        *(at for tree in family.trees for branch in tree.branches for at in (branch.outer, branch.inner)),
        *(at for start in family.starts for at in start),
    ]
    if any(not 0 <= at < len(family.models) for at in named):
        raise ValueError(f"family: a number names none of the {len(family.models)} models")
    return family
