"""Findings about bases that the card does not name: LIN102, and LIN105 where a registry has a nearer parent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lineage_plugin.card import Declaration
from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.findings import Finding, finding
from lineage_plugin.judge.types import Comparison, Relation
from lineage_plugin.text import one_line

__all__ = ["Known", "undeclared_findings"]

_PLAIN = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)[A-Za-z][A-Za-z0-9_.-]*\Z", re.ASCII | re.IGNORECASE)
_NAMED = 3
"""Further possible parents that a finding names."""


@dataclass(frozen=True, slots=True)
class Known:
    """A model of a registry that is a relative of the suspect.

    Attributes:
        id: Its id.
        relation: What the coins support.
        kind: What was done to it, where that is known.
        standing: How well it would do as a parent: 3 like one, 2 possibly, 1 like a sibling, 0 like a child.
        ahead: Whether it is clearly nearer than the next one.
        nearer: Whether it is clearly nearer than the declared base, and contained in the suspect whole.
    """

    id: str
    relation: Relation
    kind: str | None
    standing: int
    ahead: bool = False
    nearer: bool = False


def undeclared_findings(
    declaration: Declaration, comparisons: Sequence[Comparison], relatives: Sequence[Known], *, fenced: bool
) -> tuple[Finding, ...]:
    """Return what the relatives in a registry mean for the declaration.

    Args:
        declaration: What the card declares.
        comparisons: Those with the declared bases.
        relatives: Relatives that the registry has, the nearest first.
        fenced: Whether the card has a front matter.

    Returns:
        LIN102 when a possible parent was found and nothing that is declared is supported by the weights, LIN104 when it
        is the same model; LIN105 when a declared base is supported, and another model is clearly nearer.
    """
    declared = {claim.id for claim in declaration.bases} | {comparison.base.id for comparison in comparisons}
    parents = [one for one in relatives if one.standing > 0 and one.relation in ("derived", "identical")]
    supported = any(comparison.relation in ("derived", "identical") for comparison in comparisons)
    if not parents or any(one.id in declared for one in parents[:1]):
        return ()
    confirmed = supported or any(one.id in declared for one in parents)
    if parents[0].relation == "identical" and not confirmed:
        copy = one_line(parents[0].id, 200)
        help_ = "If this is a copy, say so in the card, or link to the original instead."
        message = f"the weight files are identical to those of {copy}"
        return (finding("LIN104", message, file=declaration.file, line=declaration.line, help=help_),)
    if not confirmed:
        return (_undeclared(parents, declaration, fenced),)
    nearer = next((one for one in parents if one.nearer and one.id not in declared), None)
    if nearer is None:
        return ()
    name = one_line(nearer.id, 200)
    return (
        finding(
            "LIN105",
            f"{name} is a closer parent than the declared base (an estimate, from fingerprints)",
            file=declaration.file,
            line=declaration.line,
            help=f"If the model was made from {name}, name that as base_model.",
        ),
    )


def _undeclared(parents: Sequence[Known], declaration: Declaration, fenced: bool) -> Finding:
    nearest = parents[0]
    name = one_line(nearest.id, 200)
    what = (
        f"the weight files are those of {name}"
        if nearest.relation == "identical"
        else f"the weights share what {name} learned"
    )
    if nearest.standing == 1:
        return finding(
            "LIN102",
            f"{what}, but not all of it: {name} may be a sibling of this model rather than its base",
            file=declaration.file,
            line=declaration.line,
            help="Declare as base_model what the model was made from.",
        )
    others = [one_line(one.id, 100) for one in parents[1 : 1 + _NAMED] if one.standing >= 2]
    open_ = others and not nearest.ahead and nearest.relation != "identical"
    doubt = f"{name} could not be told from {', '.join(others)}, which fit as well. " if open_ else ""
    action = "replace base_model in" if declaration.bases else "add this to"
    if not is_model_id(nearest.id):
        # Names in a registry may be any text. Nothing but an id of the Hub can be declared, or is fit to be pasted.
        return finding(
            "LIN102",
            f"{what}, which the card does not declare",
            file=declaration.file,
            line=declaration.line,
            help=f"{doubt}If the model was made from it, declare as base_model the id that it has on the Hub.",
        )
    return finding(
        "LIN102",
        f"{what}, which the card does not declare",
        file=declaration.file,
        line=declaration.line,
        help=f"{doubt}If the model was made from {name}, {action} the front matter of the card:",
        suggestion=_lines(nearest, fenced),
    )


def _lines(parent: Known, fenced: bool) -> tuple[str, ...]:
    """Return the lines that declare a parent, with fences where the card has no front matter."""
    relation = "quantized" if parent.kind == "quantized" else "finetune"
    # Ids without an owner may read as numbers or truth values in YAML.
    id = parent.id if "/" in parent.id or _PLAIN.match(parent.id) else f'"{parent.id}"'
    lines = (f"base_model: {id}", f"base_model_relation: {relation}")
    return lines if fenced else ("---", *lines, "---")
