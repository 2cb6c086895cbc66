"""Folders in memory, for what reads the small files beside a card."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from lineage_plugin.card import read_card
from lineage_plugin.card.beside import Beside
from lineage_plugin.card.gather import gather
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.findings import Finding


def reader(contents: Mapping[str, bytes | str | dict[str, object]]) -> Callable[[str, int], bytes | None]:
    """Return a function that reads these files."""

    def read(name: str, limit: int) -> bytes | None:
        content = contents.get(name)
        if content is None:
            return None
        if isinstance(content, dict):
            content = json.dumps(content, indent=2)
        data = content.encode() if isinstance(content, str) else content
        return data if len(data) <= limit else None

    return read


def beside(
    contents: Mapping[str, bytes | str | dict[str, object]],
    *more: str,
    text: str = "",
    gguf: Callable[[str], Mapping[str, object]] | None = None,
) -> Beside:
    """Gather from files with contents and names of others."""
    return gather(reader(contents), [*contents, *more, "README.md", ".gitattributes"], text=text, gguf=gguf)


def findings(
    card: str,
    contents: Mapping[str, bytes | str | dict[str, object]] | None = None,
    *more: str,
    hub: Mapping[str, HubModel] | None = None,
    name: str | None = None,
    gguf: Callable[[str], Mapping[str, object]] | None = None,
) -> list[Finding]:
    """Return what is found of a model: its card, and the files beside it."""
    contents = contents or {}
    adapter = reader(contents)("adapter_config.json", 1 << 20)
    _, found = read_card(
        card, adapter_config=adapter, beside=beside(contents, *more, text=card, gguf=gguf), hub=hub, name=name
    )
    return list(found)


def about(codes: str, found: list[Finding]) -> list[tuple[str, str, str | None, int | None, int | None]]:
    """Return the places of the findings of some codes."""
    return [(f.code, f.level, f.file, f.line, f.column) for f in found if f.code in codes.split()]


def alarms(found: list[Finding]) -> list[tuple[str, str]]:
    """Return errors and warnings."""
    return [(f.code, f.message) for f in found if f.level != "note"]
