"""Reports on a family: one :class:`~lineage_plugin.family.types.Family`, written in several formats.

As in :mod:`lineage_plugin.report` the folder is the registry: a format is a module named ``<format>_report`` with
``render(family, *, color, width, unicode) -> str``, and none is imported before it is asked for.

Example:
    >>> from lineage_plugin.family.report import formats
    >>> formats()
    ('html', 'json', 'markdown', 'text')
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lineage_plugin.errors import UsageError
from lineage_plugin.report import formats_in

if TYPE_CHECKING:
    from lineage_plugin.family.types import Family

__all__ = ["formats", "render"]


def formats() -> tuple[str, ...]:
    """Return the names of the formats there are, sorted."""
    return formats_in(__path__)


def render(family: Family, format: str = "text", *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a family.

    Args:
        family: The family.
        format: One of :func:`formats`.
        color: Whether ANSI colours may be used; formats for programs ignore it.
        width: Columns to wrap to; formats for programs ignore it.
        unicode: Whether the report's own signs may leave ASCII; names taken from models are shown as they are.

    Returns:
        The text, ending in one newline.

    Raises:
        UsageError: When there is no such format.
    """
    if format not in formats():
        raise UsageError(f"no format {format!r} of a tree; there are {', '.join(formats())}")
    module = importlib.import_module(f"{__name__}.{format}_report")
    text: str = module.render(family, color=color, width=width, unicode=unicode)
    return text.rstrip("\n") + "\n"
