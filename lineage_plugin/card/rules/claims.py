"""The rule about what other files of a model, and the text of its card, say of its base: LIN204."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lineage_plugin.card.beside import Recipe
from lineage_plugin.card.claims import copy_by_name
from lineage_plugin.card.declaration import BaseClaim
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import one_line

__all__ = ["is_recipe_of_base", "other_base_named"]

MAX_GENERATIONS: Final = 8
"""Bases of bases looked at, as far as the Hub told them."""


@rule("LIN204")
def other_base_named(card: Card) -> Iterator[Finding]:
    """Report a file of the model that names another base than the card does.

    Why: ``adapter_config.json`` is written by the training program and names the model that was loaded, and a merge
    recipe is what the merging program was given; the card is written by people. Where they differ one of them is
    wrong, or the base was loaded from a copy.

    Everything else is a note: ``_name_or_path`` in config.json and ``name_or_path`` in tokenizer_config.json, which
    programs carry along from one generation to the next; the header of a GGUF file, which names the base that the card
    of the converted model named; and sentences of the card's text that programs write. So is a name that reads like a
    copy of the declared base, such as its quantised version under another owner, and a recipe that the card of a
    quantised model may have taken over from the model it quantises.

    Not reported are folders of somebody's disk, the model itself, the base of a declared base where the Hub tells it,
    and the base of a recipe when the card lists the models merged on it.

    Example::

        base_model: owner/name                      # in the card
        "base_model_name_or_path": "owner/other"    # in adapter_config.json

    Repair::

        base_model: owner/other

    If ``owner/other`` is a copy of the declared base, such as a quantised one, the card may stay as it is.
    """
    declaration = card.declaration
    if declaration.file != card.file or not declaration.bases:
        return
    known = {claim.id.lower() for claim in declaration.bases}
    if card.name:
        known.add(card.name.lower())
    if declaration.adapter is not None and declaration.adapter.id.lower() not in known:
        known.add(declaration.adapter.id.lower())
        yield _of_adapter(card, declaration.adapter)
    recipe = card.beside.recipe
    if recipe is not None:
        yield from _of_recipe(card, recipe, known)
        known.update(claim.id.lower() for claim in recipe.models)
        # The tokenizer of a merge is nobody's base.
        known.update(claim.id.lower() for claim in card.beside.claims if claim.file == recipe.file != card.file)
    known |= _ancestors(card)
    for claim in (*declaration.stated, *card.beside.claims):
        if claim.id.lower() in known or _is_copy(claim, declaration.bases):
            continue
        known.add(claim.id.lower())
        yield _carried_along(card, claim)


def is_recipe_of_base(card: Card) -> bool:
    """Say whether the merge recipe beside a card may be that of its base: carried over with the base's files or text.

    Programs that quantise copy the small files of the model, and people copy its card. Such a recipe does not name the
    declared base, which it made.

    Args:
        card: The card.
    """
    recipe, bases, relation = card.beside.recipe, card.declaration.bases, card.declaration.relation
    if recipe is None or len(bases) != 1 or relation == "merge":
        return False
    if any(claim.id.lower() == bases[0].id.lower() or copy_by_name(claim.id, bases[0].id) for claim in recipe.models):
        return False
    return recipe.file == card.file or relation == "quantized" or card.beside.quantisation is not None


def _of_adapter(card: Card, claim: BaseClaim) -> Finding:
    bases = card.declaration.bases
    return finding(
        "LIN204",
        f"{one_line(claim.file)} names the base {claim.id}, the card {_listed(bases)}",
        file=claim.file,
        line=claim.line,
        column=claim.column,
        help="Declare the model that the adapter was trained on; if that was a copy of the base, keep the card.",
        level="note" if _is_copy(claim, bases) else None,
    )


def _of_recipe(card: Card, recipe: Recipe, known: set[str]) -> Iterator[Finding]:
    bases = card.declaration.bases
    where = "the merge recipe in the text" if recipe.file == card.file else f"the merge recipe {one_line(recipe.file)}"
    if is_recipe_of_base(card):
        yield finding(
            "LIN204",
            f"{where} takes {_listed(recipe.models)}, the card declares {bases[0].id}",
            file=recipe.file,
            line=recipe.line,
            help=f"This is right if it is the recipe of {bases[0].id}; otherwise declare the models of the recipe.",
            level="note",
        )
        return
    named = {claim.id.lower() for claim in recipe.models}
    base = recipe.base.id.lower() if recipe.base is not None else None
    lists_models = any(claim.id.lower() in known and claim.id.lower() != base for claim in recipe.models)
    for claim in recipe.models:
        if claim.id.lower() in known or (claim.id.lower() == base and lists_models):
            continue
        yield finding(
            "LIN204",
            f"{where} takes {claim.id}, which the card does not declare",
            file=claim.file,
            line=claim.line,
            column=claim.column,
            help="List every model that was merged under base_model.",
            level="note" if _is_copy(claim, bases) else None,
        )
    if any(problem.file == recipe.file for problem in card.beside.problems):
        return  # A model that the recipe names by a folder may be any of the declared ones.
    tokenizers = {claim.id.lower() for claim in card.beside.claims if claim.file == recipe.file}
    for claim in bases:
        if claim.id.lower() in named | tokenizers or _is_copy(claim, recipe.models):
            continue
        yield finding(
            "LIN204",
            f"the card declares {claim.id}, which {where} does not take",
            file=card.file,
            line=claim.line,
            column=claim.column,
            help="Declare the models that were merged; the bases of those are found through their own cards.",
        )


def _carried_along(card: Card, claim: BaseClaim) -> Finding:
    bases = _listed(card.declaration.bases)
    if claim.file == card.file:
        message = f"the text of the card names the base {claim.id}, its front matter {bases}"
        help_ = "The sentence may come from the card of the base; otherwise correct one of the two."
    elif claim.file == "config.json":
        message = f"config.json names {claim.id} as the model that was loaded, the card {bases}"
        help_ = "Programs carry _name_or_path along: it may be the base of the declared base."
    elif claim.file == "tokenizer_config.json":
        message = f"tokenizer_config.json names {claim.id} as the origin of the tokenizer, the card {bases}"
        help_ = "Programs carry name_or_path along: it may be the base of the declared base."
    else:
        message = f"{one_line(claim.file)} names the base {claim.id}, the card {bases}"
        help_ = "Converters copy this from the card of the converted model: it may be the base of the declared base."
    if claim.line is not None:
        return finding(
            "LIN204", message, file=claim.file, line=claim.line, column=claim.column, help=help_, level="note"
        )
    # Weight files have no lines to point at, and the card's is the line to change.
    entry = card.front_matter.entry("base_model")
    line, column = (card.declaration.line, None) if entry is None else (entry.key.line, entry.key.column)
    return finding("LIN204", message, file=card.file, line=line, column=column, help=help_, level="note")


def _is_copy(claim: BaseClaim, of: tuple[BaseClaim, ...]) -> bool:
    return any(copy_by_name(claim.id, base.id) for base in of)


def _ancestors(card: Card) -> set[str]:
    """Return the bases of the declared bases, as far as the Hub told them, in lower case."""
    hub = {name.lower(): model for name, model in (card.hub or {}).items()}
    found: set[str] = set()
    front = [claim.id.lower() for claim in card.declaration.bases]
    for _ in range(MAX_GENERATIONS):
        bases = {base.lower() for name in front if name in hub for base in hub[name].bases}
        front = sorted(bases - found)
        found.update(front)
    return found


def _listed(bases: tuple[BaseClaim, ...]) -> str:
    shown = ", ".join(claim.id for claim in bases[:3])
    return shown + (", ..." if bases[3:] else "")
