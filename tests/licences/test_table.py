"""``docs/licences.md`` says what the data say."""

from __future__ import annotations

from pathlib import Path

from lineage_plugin.licences.facts import licences
from lineage_plugin.licences.table import licences_table

PAGE = Path(__file__).parents[2] / "docs" / "licences.md"


def test_the_page_holds_the_table_of_the_data() -> None:
    assert licences_table() in PAGE.read_text(encoding="utf-8"), "python -m lineage_plugin.licences.table"


def test_no_cell_breaks_the_table() -> None:
    for licence in licences().values():
        for text in (licence.url, *(fact.says + fact.clause for fact in licence.facts)):
            assert "|" not in text and "\n" not in text, licence.id
