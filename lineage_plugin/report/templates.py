"""Pages of HTML are written by templates that escape whatever they are given."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

__all__ = ["as_ascii", "own_markup", "templates"]


@functools.cache
def templates(folder: str) -> jinja2.Environment:
    """Return the templates of a folder of the package.

    Args:
        folder: Its path below the package, such as ``report/html``.
    """
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("lineage_plugin", folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def own_markup(text: str) -> object:
    """Mark text that this package wrote as safe: pictures, style sheets, articles."""
    import markupsafe

    return markupsafe.Markup(text)  # noqa: S704


def as_ascii(page: str) -> str:
    """Return a page with character references for all letters beyond ASCII, so that no guess at an encoding can err."""
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")
