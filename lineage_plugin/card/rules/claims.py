"""The rule about what other files of a model say of its base: LIN204."""

from __future__ import annotations

from collections.abc import Iterator

from lineage_plugin.card.claims import copy_by_name
from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import one_line

__all__ = ["other_base_named"]


@rule("LIN204")
def other_base_named(card: Card) -> Iterator[Finding]:
    """Report a file of the model that names another base than the card does.

    Why: ``adapter_config.json`` is written by the training program and names the model that was loaded; the card is
    written by people. Where they differ one of them is wrong, or the base was loaded from a copy.

    A GGUF file names the base that the card of the converted model named, which is one generation further back where a
    fine-tune was converted. Its claim is therefore a note. So is an adapter's that reads like a copy of the declared
    base, such as its quantised version under another owner.

    Example::

        base_model: owner/name                      # in the card
        "base_model_name_or_path": "owner/other"    # in adapter_config.json

    Repair::

        base_model: owner/other

    If ``owner/other`` is a copy of the declared base, such as a quantised one, the card may stay as it is.
    """
    declaration = card.declaration
    if declaration.file != card.file:
        return
    declared = {claim.id.lower() for claim in declaration.bases}
    for claim in (*((declaration.adapter,) if declaration.adapter else ()), *declaration.stated):
        if claim.id.lower() in declared:
            continue
        converted = claim is not declaration.adapter
        copied = any(copy_by_name(claim.id, base.id) for base in declaration.bases)
        yield finding(
            "LIN204",
            f"{one_line(claim.file)} names the base {claim.id}, the card {_listed(declaration.bases)}",
            # Adapter files have lines to point at; weight files do not, and the card's is the line to change.
            file=card.file if converted else claim.file,
            line=declaration.line if converted else claim.line,
            help="Converters copy this from the card of the converted model: it may be the base of the declared base."
            if converted
            else "Declare the model that the adapter was trained on; if that was a copy of the base, keep the card.",
            level="note" if converted or copied else None,
        )


def _listed(bases: tuple[BaseClaim, ...]) -> str:
    shown = ", ".join(claim.id for claim in bases[:3])
    return shown + (", ..." if bases[3:] else "")
