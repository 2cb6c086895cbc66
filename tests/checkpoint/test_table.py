"""``docs/formats.md`` says what the code does."""

from __future__ import annotations

from pathlib import Path

from lineage_plugin.checkpoint.formats import formats
from lineage_plugin.checkpoint.schemes import schemes
from lineage_plugin.checkpoint.table import formats_table

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def test_the_page_holds_the_table_of_the_code() -> None:
    assert formats_table() in PAGE.read_text(encoding="utf-8"), "python -m lineage_plugin.checkpoint.table"


def test_every_format_and_scheme_has_its_row() -> None:
    for entry in (*formats(), *schemes()):
        assert entry.rows, entry.name
        for row in entry.rows:
            cells = (row.what, row.lazy, row.hub, row.needs, row.limits)
            assert all(cell and "|" not in cell and "\n" not in cell for cell in cells), row


def test_formats_are_told_apart() -> None:
    names = [format.name for format in formats()]
    assert len(set(names)) == len(names) and names[0] == "safetensors"
    suffixes = [suffix for format in formats() for suffix in format.suffixes]
    assert len(set(suffixes)) == len(suffixes)
