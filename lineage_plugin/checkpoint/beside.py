"""The small files of a model whose weights cannot be read: its card still says what it says."""

from __future__ import annotations

import os
from pathlib import Path

from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.open import parse_model_id
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
        HubError: When the Hub does not deliver.
    """
    path = Path(os.path.expanduser(ref))  # noqa: PTH111  # as open_checkpoint has it
    ledger = Ledger(shown(ref))
    if os.path.lexists(path):
        from lineage_plugin.checkpoint.local import LocalSource

        return LocalSource(ref, path if path.is_dir() else path.parent, {}, ledger)
    from lineage_plugin.checkpoint.hub import connect

    model = parse_model_id(ref)
    return connect(model.repo, model.revision, token=options.token, endpoint=options.endpoint, ledger=ledger)
