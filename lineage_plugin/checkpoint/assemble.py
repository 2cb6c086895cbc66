"""From a place to a checkpoint: choose the format, read the headers, unpack what is quantised, name it."""

from __future__ import annotations

from lineage_plugin.checkpoint.formats import choose
from lineage_plugin.checkpoint.original import rename_original
from lineage_plugin.checkpoint.schemes import unpack
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import StoredCheckpoint

__all__ = ["assemble"]


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
        format, layout = choose(source.files, where=source.where, only=only)
        opened = rename_original(source, unpack(source, format.open(source, layout)))
        return StoredCheckpoint(source, opened, given=only is not None)
