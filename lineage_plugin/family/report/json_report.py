"""The tree for other programs, schema ``lineage-tree/1``.

``lineage-tree-1.schema.json``, beside the schemas of the other reports, describes the fields. Models are named by their
number in ``models``, from 0. The text is ASCII and strict JSON, as that of :mod:`lineage_plugin.report.json_report`.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from lineage_plugin._version import __version__
from lineage_plugin.family.grow import exit_code
from lineage_plugin.family.types import Claim, Family, Link, Member, Tree
from lineage_plugin.family.words import summary
from lineage_plugin.report.json_report import (
    cost_of,
    evidence_of,
    finding_of,
    integer_of,
    interval_of,
    model_of,
    number_of,
    text_of,
)

__all__ = ["SCHEMA", "render", "schema", "to_dict"]

SCHEMA = "lineage-tree/1"


def render(family: Family, *, color: bool = False, width: int = 80, unicode: bool = True) -> str:
    """Write a family as JSON.

    Args:
        family: The family.
        color: Ignored.
        width: Ignored.
        unicode: Ignored; the text is ASCII.

    Returns:
        The JSON text, indented by two, ending in a newline.
    """
    return json.dumps(to_dict(family), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the report."""
    file = resources.files("lineage_plugin.report").joinpath("lineage-tree-1.schema.json")
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded


def to_dict(family: Family) -> dict[str, Any]:
    """Return a family as plain dicts, lists, strings, numbers, booleans and None, in the order of the schema."""
    settings = family.settings
    return {
        "schema": SCHEMA,
        "tool": {"name": "lineage-plugin", "version": __version__},
        "created": text_of(family.created),
        "summary": text_of(summary(family)),
        "models": [_member(member) for member in family.models],
        "trees": [_tree(tree) for tree in family.trees],
        "starts": [list(start) for start in family.starts],
        "claims": [_claim(claim) for claim in family.claims],
        "links": [_link(link) for link in family.links],
        "findings": [finding_of(finding) for finding in family.findings],
        "pairs": int(family.pairs),
        "tests": int(family.tests),
        "limits": [text_of(limit) for limit in family.limits],
        "exit_code": exit_code(family),
        "cost": cost_of(family.cost),
        "settings": {
            "bar": number_of(settings.bar),
            "seed": int(settings.seed),
            "budget": integer_of(settings.budget),
            "fingerprints": settings.fingerprints,
        },
        "hub": text_of(family.hub),
    }


def _member(member: Member) -> dict[str, Any]:
    return {
        "name": text_of(member.name),
        **model_of(member.model),
        "state": member.state,
        "origin": member.origin,
        "reason": text_of(member.reason),
        "declares": [text_of(base) for base in member.declares],
        "cost": cost_of(member.cost),
    }


def _tree(tree: Tree) -> dict[str, Any]:
    return {
        "members": list(tree.members),
        "branches": [
            {"outer": branch.outer, "inner": branch.inner, "cosine": number_of(branch.cosine)}
            for branch in tree.branches
        ],
        "start": tree.start,
        "rooted": tree.rooted,
        "reason": text_of(tree.reason),
    }


def _claim(claim: Claim) -> dict[str, Any]:
    return {
        "model": claim.model,
        "base": claim.base,
        "id": text_of(claim.id),
        "file": text_of(claim.file),
        "line": integer_of(claim.line),
        "by_name": claim.by_name,
        "other_commit": text_of(claim.other_commit),
        "standing": claim.standing,
        "reason": text_of(claim.reason),
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "suspect": link.suspect,
        "base": link.base,
        "relation": link.relation,
        "kind": link.kind,
        "by": link.by,
        "summary": text_of(link.summary),
        "evidence": evidence_of(link.evidence),
        "cosine": number_of(link.cosine),
        "kept": interval_of(link.kept),
        "reverse": interval_of(link.reverse),
        "direction": link.direction,
        "changes": [text_of(change) for change in link.changes],
        "limits": [text_of(limit) for limit in link.limits],
    }
