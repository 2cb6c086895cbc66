"""What Python runs at its start when ``LINEAGE_GATE`` is set: the gate is put up as soon as the Hub's client is loaded.

The wheel brings a line that does this, ``lineage_gate.pth`` (https://docs.python.org/3/library/site.html). Without the
variable it does nothing, and with it nothing is loaded before some code imports ``huggingface_hub``. A gate that is
wanted and cannot be put up makes that import fail: nothing is uploaded then. So nothing of this package is imported
here but by that import: what fails at the start of Python is printed, and then Python goes on without it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from types import ModuleType, TracebackType

__all__ = ["put_up"]

_CLIENT = "huggingface_hub"


class _Loader(importlib.abc.Loader):
    """Loads the client, then puts up the gate."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        put_up()
        # Not before: what cannot be put up is tried again, and fails again, with the next import.
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]

    def __getattr__(self, name: str) -> object:
        # Data files and sources of the package are asked of its loader.
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the client as it would be found without; to look for it is not to import it."""

    def __init__(self) -> None:
        self._inside = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _CLIENT or getattr(self._inside, "looking", False):
            return None
        self._inside.looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._inside.looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def put_up() -> None:
    """Install the gate that the environment asks for, and let what it stops end a program without a traceback.

    Raises:
        UsageError: When it asks for something that is no gate.
    """
    from lineage_plugin.errors import LineageError
    from lineage_plugin.hooks.gate import install_gate, mode_wanted

    try:
        mode = mode_wanted()
    except LineageError:
        _Reporting().install()
        raise
    if mode is not None:
        _Reporting().install()
        install_gate(mode=mode)


class _Reporting:
    """Shows errors of this package as they are meant to be read; all others as before."""

    def __init__(self) -> None:
        self._other = sys.excepthook

    def install(self) -> None:
        if not isinstance(sys.excepthook, _Reporting):
            sys.excepthook = self

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        from lineage_plugin.errors import LineageError

        if isinstance(error, LineageError) and os.environ.get("LINEAGE_DEBUG") != "1":
            print(f"lineage: error: {error}", file=sys.stderr)
        else:
            self._other(kind, error, trace)


if _CLIENT in sys.modules:
    put_up()
elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
