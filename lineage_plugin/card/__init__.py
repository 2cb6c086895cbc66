r"""Model cards: what a model says about where it comes from, and where it says so.

    >>> from lineage_plugin.card import read_card
    >>> card = "---\nbase_model: owner/name\nbase_model_relation: finetuned\n---\n"
    >>> declaration, findings = read_card(card)
    >>> declaration.bases
    (BaseClaim(id='owner/name', revision=None, file='README.md', line=2, column=13),)
    >>> [(finding.code, finding.line) for finding in findings]
    [('LIN205', 2), ('LIN203', 3)]

The card is read in three steps, each an immutable value: ``front_matter`` (YAML with line numbers), ``declaration``
(the claims in it and in adapter_config.json) and ``rules`` (findings). :func:`read_card` takes all three. Cards are
written by strangers: none of it raises for bad content, follows a link or touches the network.
"""

from lineage_plugin.card.claims import claims_of_weights
from lineage_plugin.card.declaration import RELATIONS, BaseClaim, Declaration, declare
from lineage_plugin.card.front_matter import FrontMatter, read_front_matter
from lineage_plugin.card.located import Entry, Located, Problem
from lineage_plugin.card.reading import read_card
from lineage_plugin.card.reference import Reference, Rejection, parse_reference, parse_revision
from lineage_plugin.card.rules import Card, apply_rules, base_not_found, rule, rules

__all__ = [
    "RELATIONS",
    "BaseClaim",
    "Card",
    "Declaration",
    "Entry",
    "FrontMatter",
    "Located",
    "Problem",
    "Reference",
    "Rejection",
    "apply_rules",
    "base_not_found",
    "claims_of_weights",
    "declare",
    "parse_reference",
    "parse_revision",
    "read_card",
    "read_front_matter",
    "rule",
    "rules",
]
