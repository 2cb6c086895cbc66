"""``docs/architectures.md`` says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineage_plugin.anatomy import Stream, UnitGroup, analyse
from lineage_plugin.anatomy.families import Family, families
from lineage_plugin.anatomy.table import architectures_table
from tests.anatomy.models import TINY, in_memory
from tests.anatomy.relabel import describe

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"


def test_the_page_holds_the_table_of_the_code() -> None:
    assert architectures_table() in PAGE.read_text(encoding="utf-8"), "python -m lineage_plugin.anatomy.table"


# Adapters are no models; tests/anatomy/test_lora.py looks at theirs.
@pytest.mark.parametrize("family", [f for f in families() if f.name != "lora"], ids=lambda family: family.name)
def test_the_table_names_the_units_that_models_of_the_family_have(family: Family) -> None:
    groups: list[UnitGroup] = []
    streams: list[Stream] = []
    for name, tiny in TINY.items():
        if tiny.family == family.name:
            checkpoint = in_memory(name)
            anatomy = analyse(describe(checkpoint.tensors), checkpoint.config)
            groups += anatomy.groups
            streams += [anatomy.stream] if anatomy.stream is not None else []
    assert {group.name for group in groups} == {name for name, _ in family.units}
    for name, how in family.units:
        ours = [group for group in groups if group.name == name]
        if not how.startswith("as in"):
            assert any(group.swap for group in ours) == ("swap" in how)
            assert any(group.flip for group in ours) == ("flip" in how)
    said = "" if family.stream is None else family.stream.symmetry
    assert any(stream.swap for stream in streams) == ("swap" in said)
    assert any(stream.flip for stream in streams) == ("flip" in said)
