"""Rules about the declared relation: LIN203, LIN210."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from lineage_plugin.card.declaration import RELATIONS
from lineage_plugin.card.prose import says_fine_tuned
from lineage_plugin.card.rules.claims import is_recipe_of_base
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.card.weight_names import weight_names
from lineage_plugin.findings import Finding, Level, finding
from lineage_plugin.fixes import Fix, SetKey
from lineage_plugin.text import letters, one_line, quoted

__all__ = ["relation_does_not_fit", "unknown_relation"]

_MEANT: Final = {
    "awq": "quantized",
    "continued": "finetune",
    "dpo": "finetune",
    "gguf": "quantized",
    "gptq": "quantized",
    "instruct": "finetune",
    "lora": "adapter",
    "mergekit": "merge",
    "peft": "adapter",
    "qlora": "adapter",
    "quant": "quantized",
    "sft": "finetune",
}
"""Words that cards use for a relation and that no spelling distance leads from."""
_FORMS: Final = {
    "adaptor": "adapter",
    "finetuned": "finetune",
    "finetuning": "finetune",
    "merged": "merge",
    "quantisation": "quantized",
    "quantised": "quantized",
    "quantization": "quantized",
}
"""Other forms of the very words: what was meant is certain."""
_TRAINED: Final = frozenset(
    {"axolotl", "dpo", "generated_from_trainer", "grpo", "kto", "llama-factory", "lora", "orpo", "qlora", "sft", "trl"}
    | {"unsloth"}
)
"""Tags that training programs write."""


@rule("LIN203")
def unknown_relation(card: Card) -> Iterator[Finding]:
    """Report a ``base_model_relation`` that the Hub does not know.

    Why: nothing validates the value when the card is saved, and other tools look for the four known ones. They are
    case-sensitive.

    Fix: writes the relation where spelling or case alone is wrong.

    Example::

        base_model_relation: fine-tuned

    Repair::

        base_model_relation: finetune
    """
    value = card.front_matter.get("base_model_relation")
    if value is None or card.declaration.relation is not None or value.kind == "null":
        return
    text = (value.text or "").strip()
    if not text and value.kind == "string":
        return
    help_ = f"Use one of {', '.join(RELATIONS)}."
    if value.kind in ("list", "mapping"):
        message = f"base_model_relation is a {value.kind}, not one relation"
    else:
        message = f"base_model_relation {quoted(text)} is not known to the Hub"
        meant = _nearest(text)
        if meant is not None:
            help_ = f"Did you mean {meant}? {help_}"
    certain = _certain(text) if value.kind == "string" else None
    yield finding(
        "LIN203",
        message,
        file=card.file,
        line=value.line,
        column=value.column,
        help=help_,
        fix=_set(certain) if certain is not None else None,
    )


@rule("LIN210")
def relation_does_not_fit(card: Card) -> Iterator[Finding]:
    """Report a relation that the names of the model's files speak against, or that they show and the card leaves out.

    Why: the Hub's model tree sorts by ``base_model_relation``, and whoever loads the model needs to know whether it
    stands alone. The names of the files tell much of it: an ``adapter_config.json`` without whole weights is an
    adapter, a configuration of GPTQ or a file ``...Q4_K_M.gguf`` is quantised, a recipe of several models is a merge.

    It is a warning when the card says the contrary: adapter files alone and another relation, whole weights and no
    adapter but ``adapter``, a recipe of several models and not ``merge``. It is a note when the relation is left out,
    when quantised weights are called ``finetune``, which a fine-tune published in 4 bits may be, and when a merge
    names one base. What models are trained in, such as the FP8 of DeepSeek-V3 or the MXFP4 of gpt-oss, shows nothing.

    Fix: sets ``base_model_relation`` where the files tell it.

    Example::

        base_model_relation: finetune        # and adapter_config.json beside the card

    Repair::

        base_model_relation: adapter
    """
    bases, stated, beside = card.declaration.bases, card.declaration.relation, card.beside
    if not bases or card.declaration.file != card.file or beside.files is None:
        return
    shown = None if beside.relation == "merge" and is_recipe_of_base(card) else beside.relation
    value = card.front_matter.get("base_model_relation")
    if value is not None and stated is None and value.kind != "null" and (value.text or value.kind != "string"):
        return  # LIN203 has the word
    message, help_, level, repair = _misfit(card, stated, shown)
    if not message:
        return
    entry = card.front_matter.entry("base_model")
    at = value if value is not None and stated is not None else entry.key if entry is not None else None
    yield finding(
        "LIN210",
        message,
        file=card.file,
        line=at.line if at is not None else card.declaration.line,
        column=at.column if at is not None else None,
        help=help_,
        level=level,
        fix=_set(repair) if repair is not None else None,
    )


def _misfit(card: Card, stated: str | None, shown: str | None) -> tuple[str, str, Level, str | None]:
    """Return message, help, level and the relation to set; an empty message when all fits."""
    beside, bases = card.beside, card.declaration.bases
    file = one_line(beside.relation_file or "")
    if stated is None:
        if shown is None or (shown == "quantized" and _may_be_trained(card)):
            return "", "", "note", None
        message = f"base_model_relation is not stated; {file} shows {_an(shown)}"
        return message, f"Add `base_model_relation: {shown}`.", "note", shown
    if shown == "adapter" and stated != "adapter" and not (stated == "merge" and len(bases) > 1):
        message = f"the card says {stated}, but there are the files of an adapter ({file}) and no whole weights"
        return message, "Write `base_model_relation: adapter`.", "warning", "adapter"
    if stated == "adapter":
        whole = _whole_weights_alone(card)
        if whole is not None:
            message = (
                f"the card says adapter, but there are whole weights ({one_line(whole)}) and no file of an adapter"
            )
            help_ = "Write finetune if the adapter was merged into the weights; otherwise add its files."
            return message, help_, "warning", None
    if shown == "merge" and stated in ("adapter", "finetune", "quantized"):
        message = f"the card says {stated}, but the merge recipe in {file} takes several models"
        return message, "Write `base_model_relation: merge` and list the models.", "warning", "merge"
    if shown == "quantized" and stated == "finetune":
        message = f"the card says finetune, but the weights are quantised ({beside.quantisation}, {file})"
        help_ = "Write quantized if nothing else was done to the base; keep finetune if it was trained as well."
        return message, help_, "note", None
    if stated == "merge" and len(bases) == 1 and beside.recipe is None:
        message = "the card says merge, but names one base, and there is no merge recipe"
        return message, "List every model that was merged under base_model, and add the recipe.", "note", None
    return "", "", "note", None


def _may_be_trained(card: Card) -> bool:
    """Say whether the card has signs of training: quantised weights may then be those of a fine-tune of the base."""
    tags = card.front_matter.get("tags")
    items = () if tags is None else tags.each
    return any((item.text or "").lower() in _TRAINED for item in items) or says_fine_tuned(card.text)


def _whole_weights_alone(card: Card) -> str | None:
    """Return a file of whole weights when nothing else could be the adapter."""
    names = weight_names(card.beside.files or ())
    kind = card.beside.config.get("_class_name")
    if isinstance(kind, str) and ("control" in kind.lower() or "adapter" in kind.lower()):
        return None  # a ControlNet is an adapter under the name of whole weights
    if names.adapter is not None or names.other is not None or names.whole is None or card.declaration.is_adapter:
        return None
    # A GGUF file may hold an adapter whatever its name, and one part of several need not be the model.
    return None if "/" in names.whole or names.whole.lower().endswith(".gguf") else names.whole


def _set(relation: str) -> Fix:
    change = SetKey("base_model_relation", relation, after="base_model")
    return Fix(f"Set base_model_relation to {relation}", (change,))


def _an(relation: str) -> str:
    return {"adapter": "an adapter", "merge": "a merge", "quantized": "quantised weights"}[relation]


def _certain(text: str) -> str | None:
    """Return the relation that a value differs from in spelling or case alone."""
    word = letters(text)
    if word in RELATIONS:
        return word
    if word in _FORMS:
        return _FORMS[word]
    close = get_close_matches(word, RELATIONS, n=1, cutoff=0.85)
    return close[0] if close else None


def _nearest(text: str) -> str | None:
    """Return the relation that was probably meant."""
    word = letters(text)
    if word in _MEANT:
        return _MEANT[word]
    close = get_close_matches(word, RELATIONS, n=1, cutoff=0.6)
    return close[0] if close else None
