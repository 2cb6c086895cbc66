"""From a place to a checkpoint: choose the format, read the headers, unpack what is quantised, name it."""

from __future__ import annotations

from lineage_plugin.checkpoint.formats import choose, is_weight_file
from lineage_plugin.checkpoint.original import rename_original
from lineage_plugin.checkpoint.schemes import unpack
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import StoredCheckpoint, read_config
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["assemble"]


def _named_by_config(source: Source) -> str | None:
    """Return the weight file that ``config.json`` names, which transformers takes before any other.

    Raises:
        UnreadableCheckpoint: When it names something that is no weight file of the model.
    """
    if "config.json" not in source.files:
        return None
    try:
        name = read_config(source).get("transformers_weights")
    except UnreadableCheckpoint:
        return None  # said where the configuration is needed
    if name is None:
        return None
    if not isinstance(name, str) or name not in source.files or not is_weight_file(name):
        raise UnreadableCheckpoint(
            f"{source.where}/config.json", "transformers_weights names no weight file of the model", "Remove the key."
        )
    return name


def assemble(source: Source, only: str | None = None) -> StoredCheckpoint:
    """Open the checkpoint at a place.

    Args:
        source: The place.
        only: The one file of it that is meant; None for the model as a whole.

    Raises:
        InputError: When there are no weights that can be read safely; says what to do about it.
        HubError: When the Hub does not deliver.
    """
    with source.ledger.timed():
        format, layout = choose(source.files, where=source.where, only=only or _named_by_config(source))
        return StoredCheckpoint(source, rename_original(source, unpack(source, format.open(source, layout))))
