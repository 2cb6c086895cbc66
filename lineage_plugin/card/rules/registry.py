"""The registry of card rules: one function for each finding code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from types import MappingProxyType
from typing import TypeVar

from lineage_plugin.card.beside import Beside
from lineage_plugin.card.declaration import Declaration
from lineage_plugin.card.front_matter import FrontMatter
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.findings import CODES, Finding
from lineage_plugin.text import one_line

__all__ = ["Card", "CardRule", "apply_rules", "explains", "explanations", "in_order", "rule", "rules"]


@dataclass(frozen=True, slots=True)
class Card:
    """What the rules see of a model: its card, read, and no weights.

    Attributes:
        file: Name of the card.
        present: Whether the file exists.
        empty: Whether it holds nothing but white space.
        front_matter: Its front matter with positions.
        declaration: What card and adapter configuration declare.
        text: The whole text of the card, so far as it was read.
        name: The id that the model has, or will have, on the Hub, or None when it is not known.
        beside: What the files beside the card say.
        hub: What the Hub says of the bases, and of theirs in turn, by the id that names them; None when it was not
            asked.
    """

    file: str = "README.md"
    present: bool = True
    empty: bool = False
    front_matter: FrontMatter = field(default_factory=FrontMatter)
    declaration: Declaration = field(default_factory=Declaration)
    text: str = ""
    name: str | None = None
    beside: Beside = field(default_factory=Beside)
    hub: Mapping[str, HubModel] | None = None

    @property
    def relation(self) -> str | None:
        """The relation that the card declares or implies, else the one that the files show."""
        return self.declaration.effective_relation or self.beside.relation

    @property
    def called(self) -> str:
        """What sentences call the card: its name without its folder, fit to print."""
        return one_line(PurePath(self.file).name, 80)


CardRule = Callable[[Card], Iterable[Finding]]

_Function = TypeVar("_Function", bound=Callable[..., object])

_rules: dict[str, CardRule] = {}
_explained: dict[str, str] = {}


def rule(code: str) -> Callable[[CardRule], CardRule]:
    """Register a function as the rule of a finding code.

    Args:
        code: A key of :data:`lineage_plugin.findings.CODES` that has no rule yet.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: When the code is unknown or taken.
    """
    if code not in CODES:
        raise ValueError(f"{code} is not a finding code")
    if code in _rules:
        raise ValueError(f"{code} has a rule already")

    def register(function: CardRule) -> CardRule:
        _rules[code] = explains(code)(function)
        return function

    return register


def explains(code: str) -> Callable[[_Function], _Function]:
    """Make a function's docstring the page of a finding code; :func:`rule` does so, too.

    Args:
        code: A code that no rule finds by itself.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: When the code is unknown or explained already.
    """
    if code not in CODES:
        raise ValueError(f"{code} is not a finding code")
    if code in _explained:
        raise ValueError(f"{code} is explained already")

    def keep(function: _Function) -> _Function:
        _explained[code] = function.__doc__ or ""
        return function

    return keep


def rules() -> Mapping[str, CardRule]:
    """Return the registered rules by code, in the order of the codes."""
    return MappingProxyType(dict(sorted(_rules.items())))


def explanations() -> Mapping[str, str]:
    """Return the docstrings that explain finding codes."""
    return MappingProxyType(_explained)


def apply_rules(card: Card) -> tuple[Finding, ...]:
    """Check a card against every rule.

    Args:
        card: The card.

    Returns:
        The findings: those of the card first, then other files; by line and column, then code.
    """
    found = [finding for check in rules().values() for finding in check(card)]
    return in_order(found, card.file)


def in_order(findings: Iterable[Finding], file: str) -> tuple[Finding, ...]:
    """Return findings in the order of a report: those of the card, named ``file``, first; by place, then code."""
    return tuple(sorted(findings, key=lambda f: (f.file != file, f.file or "", f.line or 0, f.column or 0, f.code)))
