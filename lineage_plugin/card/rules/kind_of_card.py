"""The rule about cards that are not a model's: LIN212."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lineage_plugin.card.located import Entry
from lineage_plugin.card.rules.registry import Card, rule
from lineage_plugin.card.weight_names import weight_names
from lineage_plugin.findings import Finding, finding
from lineage_plugin.text import one_line

__all__ = ["is_other_card", "other_card"]

_OF_MODELS: Final = frozenset(
    {"base_model", "base_model_relation", "library_name", "model-index", "model_name", "new_version", "pipeline_tag"}
)
_OF_DATASETS: Final = ("dataset_info", "configs", "size_categories", "annotations_creators")
_OFTEN_OF_DATASETS: Final = ("task_categories", "task_ids", "source_datasets", "language_creators", "multilinguality")
"""Keys that cards of models bear by mistake, too; they count where no weights lie beside."""
_SDKS: Final = frozenset({"docker", "gradio", "static", "streamlit"})
_OF_SPACES: Final = ("app_file", "sdk_version", "app_port", "colorFrom", "colorTo", "emoji")


@rule("LIN212")
def other_card(card: Card) -> Iterator[Finding]:
    """Report the card of a dataset or of a Space in the place of a model's.

    Why: the Hub reads other keys from each kind of card. What such a card says about a model counts for nothing, and a
    folder pushed with it shows up without base and licence. The findings about a missing base and a missing licence
    are left out, since their repair would make it worse. A card that bears a key of models, such as ``base_model``,
    ``library_name`` or ``pipeline_tag``, is taken for that of a model.

    Example::

        ---
        dataset_info:
          features: []
        ---

    Repair::

        ---
        base_model: owner/name
        library_name: transformers
        ---
    """
    kind = is_other_card(card)
    sign = _sign(card)
    if kind is None or sign is None:
        return
    yield finding(
        "LIN212",
        f'{card.called} is the card of a {kind}: it has the key "{one_line(sign.key.text, 40)}"',
        file=card.file,
        line=sign.key.line,
        column=sign.key.column,
        help="Give the card of the model. If it is one, remove the key and name the model's base or library.",
    )


def is_other_card(card: Card) -> str | None:
    """Return what a card is of when it is not of a model.

    Args:
        card: The card.

    Returns:
        ``dataset``, ``Space``, or None for the card of a model, for one that does not tell, and for one beside weights:
        whatever it says of itself, it is held to what a model's card has to say.
    """
    sign = _sign(card)
    if sign is None or (card.beside.files is not None and weight_names(card.beside.files).any):
        return None
    return "Space" if sign.key.text == "sdk" else "dataset"


def _sign(card: Card) -> Entry | None:
    """Return the entry that tells another kind of card."""
    front = card.front_matter
    keys = {entry.key.text for entry in front.entries}
    if keys & _OF_MODELS or card.declaration.bases:
        return None
    sdk = front.entry("sdk")
    if sdk is not None and (sdk.value.text or "").strip().lower() in _SDKS and keys.intersection(_OF_SPACES):
        return sdk
    for key in _OF_DATASETS:
        entry = front.entry(key)
        if entry is not None and (key != "configs" or _names_data(entry)):
            return entry
    if card.beside.files is not None and weight_names(card.beside.files).any:
        return None
    return next((entry for key in _OFTEN_OF_DATASETS if (entry := front.entry(key)) is not None), None)


def _names_data(entry: Entry) -> bool:
    """Say whether ``configs`` lists the parts of a dataset."""
    return any(
        inner.key.text in ("data_files", "data_dir", "config_name")
        for item in entry.value.items
        for inner in item.entries
    )
