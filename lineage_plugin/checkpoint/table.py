"""The table of formats in ``docs/formats.md``, made from the formats and schemes themselves."""

from __future__ import annotations

from lineage_plugin.checkpoint.formats import formats
from lineage_plugin.checkpoint.schemes import schemes

__all__ = ["formats_table"]

_HEADER = ("what", "rows one by one", "over the Hub", "needs", "limits")


def formats_table() -> str:
    """Return the table as Markdown: what is read, lazily or not, how over the Hub, what it needs, its limits."""
    rows = [row for format in formats() for row in format.rows] + [row for scheme in schemes() for row in scheme.rows]
    lines = [_HEADER, tuple("---" for _ in _HEADER)]
    lines += [(row.what, row.lazy, row.hub, row.needs, row.limits) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    print(formats_table(), end="")
