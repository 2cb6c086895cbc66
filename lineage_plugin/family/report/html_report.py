"""The tree as one HTML file that needs nothing else; see :mod:`lineage_plugin.family.page`."""

from __future__ import annotations

from lineage_plugin.family.page import page
from lineage_plugin.family.types import Family

__all__ = ["render"]


def render(family: Family, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a family as an HTML page.

    Args:
        family: The family.
        color: Ignored.
        width: Ignored.
        unicode: Ignored; the text is ASCII.

    Returns:
        The page.
    """
    return page(family)
