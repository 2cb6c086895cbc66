"""The facts about licences, and the ways to find one: by id, by another spelling, by a model's id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

__all__ = ["Fact", "Family", "Kind", "Licence", "families", "family_licence", "find", "is_spdx", "licences", "stated"]

Kind = Literal[
    "attribution",
    "changes",
    "copy",
    "display",
    "name",
    "no-derivatives",
    "non-commercial",
    "notice",
    "output",
    "own-terms",
    "policy",
    "share-alike",
    "threshold",
    "use-restrictions",
]
"""What a fact is about.

``own-terms`` allows a derivative to have a licence of its own. ``non-commercial``, ``no-derivatives``, ``share-alike``
and ``use-restrictions`` limit which licence that can be. The others are duties, or limits of use that stay with the
model.
"""

LICENCE_CLASSES: Final = (
    "public domain",
    "permissive",
    "weak copyleft",
    "copyleft",
    "share-alike",
    "rail",
    "community",
    "non-commercial",
    "research",
    "no derivatives",
    "other",
)
"""``rail``: use restrictions that go on; ``community``: a vendor's own terms; ``other``: none of these, or not read."""

MAX_TEXT: Final = 200
"""Longest text that is looked up as a licence, in characters."""

_DATA: Final = Path(__file__).with_name("data")
_FILLERS: Final = frozenset({"agreement", "licence", "license", "licenses", "the", "version"})


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a licence says.

    Attributes:
        kind: What it is about.
        clause: The section of the licence.
        says: The clause in a few words of ours.
        url: The text of the licence.
        phrases: Wordings that the licence wants shown, any one of which does; empty where it asks for none.
        prefix: What the name of a derived model has to begin with, or None.
        under: For ``share-alike``, the ids of the licences that a derivative may have.
        derivatives: Whether a ``notice`` goes with derivatives by the words of the clause, not with copies alone.
        trained: Whether it is about models that were trained with it alone, and not about quantised copies.
    """

    kind: Kind
    clause: str
    says: str
    url: str
    phrases: tuple[str, ...] = ()
    prefix: str | None = None
    under: tuple[str, ...] = ()
    derivatives: bool = False
    trained: bool = False

    @property
    def source(self) -> str:
        """Clause and address, such as ``section 1.b.i of https://...``."""
        section = "section " if re.match(r"\d|[IVX]+\b", self.clause) else ""
        return f"{section}{self.clause} of {self.url}"


@dataclass(frozen=True, slots=True)
class Licence:
    """A licence.

    Attributes:
        id: The Hub's identifier; for a licence without one, the usual ``license_name``.
        name: Its full name.
        kind: One of :data:`LICENCE_CLASSES`.
        url: Its text, or the page that leads to it.
        hub: Whether the Hub takes the id as ``license``; otherwise it is ``license: other`` with a ``license_name``.
        spdx: Its identifier in the SPDX list, or None.
        read: Whether the clauses were read, in the text or in a public copy of it.
        aliases: Other spellings, as :func:`lookup_key` writes them.
        names: What texts call it, in lower case.
        facts: What it says; empty when its text was not read.
    """

    id: str
    name: str
    kind: str
    url: str
    hub: bool
    spdx: str | None
    read: bool
    aliases: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()

    def fact(self, kind: Kind) -> Fact | None:
        """Return the first fact of a kind, or None."""
        return next((fact for fact in self.facts if fact.kind == kind), None)

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of front matter that state it."""
        if self.hub:
            return (f"license: {self.id}",)
        return ("license: other", f"license_name: {self.id}", f"license_link: {self.url}")


@dataclass(frozen=True, slots=True)
class Family:
    """Models whose licence is known by their id.

    Attributes:
        pattern: Their ids; ``*`` stands for any characters but a slash.
        licence: Id of the licence.
        source: A page that says so.
    """

    pattern: str
    licence: str
    source: str


def lookup_key(text: str) -> str:
    """Return what different spellings of a licence have in common: lower case, hyphens, no filler words."""
    words = re.sub(r"[^a-z0-9+.]+", "-", text[:MAX_TEXT].casefold()).strip("-.").split("-")
    return "-".join(word for word in words if word not in _FILLERS) or "-".join(words)


@cache
def licences() -> Mapping[str, Licence]:
    """Return the licences by id, in the order of their ids."""
    return MappingProxyType({row["id"]: _licence(row) for row in _read("licences.json")["licences"]})


@cache
def families() -> tuple[Family, ...]:
    """Return the families of models, by pattern."""
    return tuple(Family(**row) for row in _read("families.json")["families"])


def find(text: str | None) -> Licence | None:
    """Return the licence that a text means, however it is spelt, or None."""
    if text is None:
        return None
    return licences().get(text) or _by_key().get(lookup_key(text))


def stated(licence: str | None, licence_name: str | None = None) -> Licence | None:
    """Return the licence that a card states.

    Args:
        licence: Its ``license``.
        licence_name: Its ``license_name``, which counts where ``license`` is ``other``.

    Returns:
        The licence, or None when there is none or it is not known here.
    """
    if licence is not None and licence.strip().casefold() == "other":
        return find(licence_name)
    return find(licence)


def is_spdx(text: str) -> bool:
    """Tell whether a text is an identifier of the SPDX list, whatever its case."""
    return text.strip().casefold() in _spdx()


def family_licence(model: str) -> Family | None:
    """Return the family that a model belongs to by its id; of several the one with the most specific pattern."""
    folded = model.casefold() if len(model) <= MAX_TEXT else ""
    owned = _by_owner().get(folded.partition("/")[0], ())
    found = [family for family, parts in owned if _matches(folded, parts)]
    return max(found, key=lambda family: (len(family.pattern.replace("*", "")), family.pattern), default=None)


@cache
def _by_owner() -> Mapping[str, list[tuple[Family, list[str]]]]:
    """Return families with the parts of their patterns, by owner: no pattern leaves the owner open."""
    found: dict[str, list[tuple[Family, list[str]]]] = {}
    for family in families():
        pattern = family.pattern.casefold()
        found.setdefault(pattern.partition("/")[0], []).append((family, pattern.split("*")))
    return found


def _matches(text: str, parts: list[str]) -> bool:
    """Tell whether a text is these parts with anything but slashes between them; quicker than to compile patterns."""
    head, *middle = parts
    if not middle:
        return text == head
    tail = middle.pop()
    rest = text[len(head) : len(text) - len(tail)]
    if not (text.startswith(head) and text.endswith(tail) and len(text) >= len(head) + len(tail)) or "/" in rest:
        return False
    for part in middle:
        _, found, rest = rest.partition(part)
        if not found:
            return False
    return True


def _licence(row: Mapping[str, Any]) -> Licence:
    facts = tuple(
        Fact(
            fact["kind"],
            fact["clause"],
            fact["says"],
            fact["url"],
            tuple(fact.get("phrases", ())),
            fact.get("prefix"),
            tuple(fact.get("under", ())),
            fact.get("derivatives", False),
            fact.get("trained", False),
        )
        for fact in row["facts"]
    )
    names, aliases = tuple(row["names"]), tuple(row["aliases"])
    plain = (row["id"], row["name"], row["class"], row["url"], row["hub"], row["spdx"], row["read"])
    return Licence(*plain, aliases, names, facts)


@cache
def _by_key() -> Mapping[str, Licence]:
    known = {}
    for licence in licences().values():
        for alias in (licence.id, *licence.aliases):
            known[lookup_key(alias)] = licence
    return known


@cache
def _spdx() -> frozenset[str]:
    return frozenset(_text("spdx.txt").split())


def _read(name: str) -> Any:
    return json.loads(_text(name))


def _text(name: str) -> str:
    return (_DATA / name).read_text(encoding="utf-8")
