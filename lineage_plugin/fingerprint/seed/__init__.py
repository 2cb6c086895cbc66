"""The seed list: well-known base models that a registry can be built from, by id and commit.

``bases.jsonl`` beside this module holds facts, not weights: one JSON object a line, sorted by family and id. It is read
when first asked for, never on import. ``docs/bases.md`` explains it and shows :func:`seed_table`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby

from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.errors import InputError

__all__ = ["SeedEntry", "read_seed", "seed_entries", "seed_table"]

_FILE = "bases.jsonl"
_REQUIRED = {"id", "commit", "family", "gated"}
_OPTIONAL = {"note", "source"}
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_LONGEST_TEXT = 120
_COLUMNS = ("model", "commit", "gated", "source", "note")
_GATED = {True: "yes", False: "no", None: "?"}
_SHORT = 12


@dataclass(frozen=True, slots=True)
class SeedEntry:
    """One base model of the seed list.

    Attributes:
        id: ``owner/name`` on the Hub.
        commit: Commit of that repository, 40 hexadecimal digits; None where no public source names one.
        family: Short name of the family, under which the page lists it.
        gated: Whether the owner must grant access; None where that is not widely known.
        note: What a reader should know of it, such as "mirror"; may be empty.
        source: Where id and commit stand together, ``cache paths`` or a file of a public repository as
            ``owner/repository/path``; empty exactly where there is no commit.
    """

    id: str
    commit: str | None
    family: str
    gated: bool | None
    note: str = ""
    source: str = ""


@cache
def seed_entries() -> tuple[SeedEntry, ...]:
    """Return the seed list of the package, sorted by family, then id.

    Raises:
        InputError: The file in the installed package is damaged.
    """
    return read_seed(resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8"))


def read_seed(text: str, where: str = _FILE) -> tuple[SeedEntry, ...]:
    """Read a seed list and check every field of it.

    Args:
        text: Content of the file: one JSON object a line.
        where: Name of the file in error messages.

    Raises:
        InputError: A line is no entry, a model stands twice, or the order is not that of family and id.
    """
    entries: list[SeedEntry] = []
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        at = f"{where} line {number}"
        entry = _entry(line, at)
        if entry.id.lower() in seen:
            raise InputError(at, f"{entry.id} stands here twice")
        if entries and _order(entries[-1]) > _order(entry):
            raise InputError(at, f"{entry.id} is out of order", "Sort the lines by family, then id.")
        seen.add(entry.id.lower())
        entries.append(entry)
    return tuple(entries)


def seed_table() -> str:
    """Return the list as Markdown: what it holds in numbers, then one table for each family."""
    entries = seed_entries()
    commits = sum(entry.commit is not None for entry in entries)
    gated = sum(entry.gated is True for entry in entries)
    families = [(name, list(members)) for name, members in groupby(entries, key=lambda entry: entry.family)]
    parts = [
        f"{len(entries)} models of {len(families)} families: {commits} with a commit, "
        f"{len(entries) - commits} without; {gated} are known to be gated.\n"
    ]
    for name, members in families:
        rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *(_cells(entry) for entry in members)]
        parts.append(f"### {name}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows))
    return "\n".join(parts)


def _entry(line: str, at: str) -> SeedEntry:
    """Read one line."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(at, "not JSON") from None
    if not isinstance(fields, dict) or not _REQUIRED <= fields.keys() <= _REQUIRED | _OPTIONAL:
        raise InputError(at, f"not an object of {', '.join(sorted(_REQUIRED))} and at most note and source")
    id, commit, family, gated = (fields[name] for name in ("id", "commit", "family", "gated"))
    if not isinstance(id, str) or not is_model_id(id) or "/" not in id:
        raise InputError(at, "the id is no owner/name of the Hub")
    if commit is not None and not (isinstance(commit, str) and _COMMIT.match(commit)):
        raise InputError(at, "the commit is neither null nor 40 hexadecimal digits")
    if gated is not None and not isinstance(gated, bool):
        raise InputError(at, "gated is neither true, false nor null")
    for name in ("family", *_OPTIONAL & fields.keys()):
        if not _is_cell(fields[name]):
            raise InputError(at, f"{name} is no short line of text")
    if (commit is None) != ("source" not in fields):
        raise InputError(at, "a commit needs its source, and a source its commit")
    return SeedEntry(id, commit, family, gated, fields.get("note", ""), fields.get("source", ""))


def _is_cell(text: object) -> bool:
    """Return whether a text can stand in a cell of a Markdown table."""
    return isinstance(text, str) and 0 < len(text) <= _LONGEST_TEXT and text.isprintable() and "|" not in text


def _order(entry: SeedEntry) -> tuple[str, str]:
    return entry.family, entry.id


def _cells(entry: SeedEntry) -> tuple[str, ...]:
    commit = f"`{entry.commit[:_SHORT]}`" if entry.commit else "-"
    return f"`{entry.id}`", commit, _GATED[entry.gated], entry.source or "-", entry.note or "-"
