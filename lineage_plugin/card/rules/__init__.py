"""The rules a model card is checked against.

A rule is a function from a :class:`Card` to findings, registered under its code::

    @rule("LIN203")
    def unknown_relation(card: Card) -> Iterator[Finding]:
        ...

Each module of this folder holds one group of rules and is found by being here; adding a rule touches one file. The
docstring of a rule says what it does and why, with an example and its repair.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lineage_plugin.card.rules.base import base_not_found
from lineage_plugin.card.rules.registry import Card, CardRule, apply_rules, rule, rules

__all__ = ["Card", "CardRule", "apply_rules", "base_not_found", "rule", "rules"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
