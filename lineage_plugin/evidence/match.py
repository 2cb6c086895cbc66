"""Which groups of two models stand in the same place: identity order.

Layers are compared with the layer of the same number and units with the unit of the same number. Models whose structure
differs are not compared, and said so.
"""

from __future__ import annotations

from lineage_plugin.anatomy import Anatomy, comparable, structure_mismatch
from lineage_plugin.evidence.plan import GroupPair

__all__ = ["match_groups"]


def match_groups(suspect: Anatomy, base: Anatomy) -> tuple[tuple[GroupPair, ...], str | None]:
    """Return the comparable groups, or the reason why the structures cannot be compared.

    Args:
        suspect: Anatomy of the suspect.
        base: Anatomy of the base.

    Returns:
        The pairs, by layer, and None; or no pairs and a phrase such as ``depth differs: 6 layers against 8``.
    """
    mismatch = structure_mismatch(suspect, base)
    if mismatch is not None:
        return (), mismatch
    mine = {group.key: group for group in suspect.groups}
    pairs = tuple(
        GroupPair(mine[group.key], group)
        for group in base.groups
        if group.key in mine and comparable(mine[group.key], group)
    )
    return pairs, None
