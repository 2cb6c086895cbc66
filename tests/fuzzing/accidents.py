"""Targets that have accidents on purpose: what the harness must survive and report."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["ACCIDENTS"]


def _write(folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(range(64)))


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    while True:
        pass


def _memory() -> None:
    np.empty(600 << 20, np.uint8)


def _error() -> None:
    raise ZeroDivisionError


def _message() -> None:
    raise UnreadableCheckpoint("w.bin", "two\nlines")


_KINDS: dict[str, Callable[[], None]] = {
    **{"crash": _crash, "hang": _hang, "memory": _memory},
    **{"error": _error, "message": _message},
}


def _exercise(kind: str) -> Callable[[Path, random.Random], bool]:
    def use(folder: Path, rng: random.Random) -> bool:
        # Number 7 is the one; the harness says which it is.
        if rng.random() == random.Random("0/7").random():
            _KINDS[kind]()
        return True

    return use


ACCIDENTS = {f"accident-{kind}": ({"only": _write}, _exercise(kind)) for kind in _KINDS}
"""Samples and exercise by the name of the target."""
