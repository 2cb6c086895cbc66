"""The two libraries behind the registry, imported when they are first needed: LanceDB and Apache Arrow."""

from __future__ import annotations

import importlib
import os
from typing import Any

from lineage_plugin.errors import UsageError

__all__ = ["arrow", "lance", "parquet"]

_READING = {"LANCE_DEFAULT_BATCH_SIZE": "256", "LANCE_DEFAULT_IO_BUFFER_SIZE": str(256 << 20)}
"""How many rows and bytes Lance reads at once. By default 8,192 and 2 GiB: of fingerprints that is gigabytes."""


def lance() -> Any:
    """Return the module ``lancedb``.

    Raises:
        UsageError: When it is not installed.
    """
    # Lance reads them once, when it is used for the first time; what the user has set stands.
    for name, value in _READING.items():
        os.environ.setdefault(name, value)
    return _imported("lancedb")


def arrow() -> Any:
    """Return the module ``pyarrow``.

    Raises:
        UsageError: When it is not installed.
    """
    return _imported("pyarrow")


def parquet() -> Any:
    """Return the module ``pyarrow.parquet``.

    Raises:
        UsageError: When it is not installed.
    """
    return _imported("pyarrow.parquet")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"a registry needs {name.partition('.')[0]}, which cannot be imported. "
            "Install it: pip install 'lineage-plugin[registry]'"
        ) from error
