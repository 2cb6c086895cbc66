"""The small files of a model whose weights cannot be read: its card still says what it says."""

from __future__ import annotations

from pathlib import Path

from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.open import locate
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.options import Options

__all__ = ["source_of"]


def source_of(ref: str, *, options: Options) -> Source:
    """Return where the files of a model are, without looking for weights among them.

    Args:
        ref: As for :func:`lineage_plugin.checkpoint.open.open_checkpoint`; it names a model that exists.
        options: ``token`` and ``endpoint`` count here.

    Returns:
        The folder, that of a file which is given by itself, or the repository; ``data`` reads files of it.

    Raises:
        UsageError: When ``ref`` is neither a path nor an id.
        HubError: When the Hub does not deliver.
    """
    place = locate(ref)
    ledger = Ledger(shown(ref))
    if isinstance(place, str):
        from lineage_plugin.checkpoint.local import LocalSource

        path = Path(place)
        return LocalSource(ref, path if path.is_dir() else path.parent, {}, ledger)
    from lineage_plugin.checkpoint.hub import connect

    return connect(place.repo, place.revision, token=options.token, endpoint=options.endpoint, ledger=ledger)
