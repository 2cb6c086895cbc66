"""The gate before the upload: no weights leave this machine before their card has been held against them.

:func:`check_before_upload` is the check by itself; :class:`LineageApi` is a client of the Hub that makes it before
every upload; :func:`install_gate` guards a whole process, whoever uploads in it, and so does ``LINEAGE_GATE=strict`` in
the environment; :class:`LineageCallback` does it for trainers. What is stopped raises
:class:`~lineage_plugin.errors.UploadBlocked`.

One direction of data: :mod:`~lineage_plugin.hooks.staged` says which files go, :mod:`~lineage_plugin.hooks.preflight`
lays them out and hashes them, :mod:`~lineage_plugin.hooks.judge` asks about every model among them,
:mod:`~lineage_plugin.hooks.blocking` says what that stops, and :mod:`~lineage_plugin.hooks.watch` holds what is then
sent to what was cleared. Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lineage_plugin.errors import UploadBlocked
    from lineage_plugin.hooks.gate import Gate, gates, install_gate
    from lineage_plugin.hooks.hub_api import LineageApi, check_before_upload
    from lineage_plugin.hooks.preflight import Cleared
    from lineage_plugin.hooks.trainer import LineageCallback

__all__ = [
    "Cleared",
    "Gate",
    "LineageApi",
    "LineageCallback",
    "UploadBlocked",
    "check_before_upload",
    "gates",
    "install_gate",
]

_HOME = {
    "Cleared": "lineage_plugin.hooks.preflight",
    "Gate": "lineage_plugin.hooks.gate",
    "LineageApi": "lineage_plugin.hooks.hub_api",
    "LineageCallback": "lineage_plugin.hooks.trainer",
    "UploadBlocked": "lineage_plugin.errors",
    "check_before_upload": "lineage_plugin.hooks.hub_api",
    "gates": "lineage_plugin.hooks.gate",
    "install_gate": "lineage_plugin.hooks.gate",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        value = getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ImportError(f"{name} needs transformers: pip install transformers") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
