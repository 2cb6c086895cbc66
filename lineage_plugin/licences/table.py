"""The tables of ``docs/licences.md``, made from the data."""

from __future__ import annotations

import textwrap

from lineage_plugin.licences.facts import Licence, families, licences

__all__ = ["licences_table"]

_HEADER = ("licence", "class", "what counts for a derivative", "text")


def licences_table() -> str:
    """Return the licences whose terms are known as a Markdown table: class, facts with their clauses, source."""
    lines = [_HEADER, tuple("---" for _ in _HEADER)]
    lines += [_row(licence) for licence in licences().values() if licence.facts]
    names = ", ".join(f"`{licence.id}`" for licence in licences().values() if not licence.facts)
    without = f'Known by name, terms not read (judged "ask a lawyer" unless permissive): {names}.'
    known = len({family.licence for family in families()})
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in lines)
        + "\n\n"
        + textwrap.fill(without, 136, break_on_hyphens=False, break_long_words=False)
        + f"\n\nKnown by the ids of their models: {len(families())} patterns, {known} licences.\n"
    )


def _row(licence: Licence) -> tuple[str, ...]:
    facts = []
    for fact in licence.facts:
        shown = " or ".join(f'"{phrase}"' for phrase in fact.phrases) or (f'"{fact.prefix}"' if fact.prefix else "")
        facts.append(f"{fact.says} ({fact.clause})" + (f": {shown}" if shown else ""))
    where = f"`{licence.id}`" + ("" if licence.hub else " (`license: other`)")
    return where, licence.kind, "; ".join(facts), f"[text]({licence.url})" + ("" if licence.read else ", not re-read")


if __name__ == "__main__":
    print(licences_table(), end="")
