"""One writer at a time.

The lock is the operating system's, on a file in the registry's folder. It ends with the process that holds it, so one
that was killed blocks nobody. It holds between the processes of one machine; on a shared file system also between
machines, where that file system passes ``flock`` on (NFS from version 4, Lustre, GPFS; not all network drives).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import UsageError

__all__ = ["LOCK", "PATIENCE", "locked"]

LOCK = "registry.lock"
PATIENCE = 1800.0
"""Seconds to wait for other writers: longer than it takes to compact a registry of a million models."""


@contextmanager
def locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold the lock of a registry; nobody else writes meanwhile.

    Args:
        folder: The registry's folder.
        patience: Seconds to wait for it.

    Raises:
        UsageError: When others hold it for longer, or the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(str(folder / LOCK), timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{shown(folder)}: another process has been writing to the registry for {patience:.0f} s. Try again later."
        ) from None
    except NotImplementedError:
        raise UsageError(f"{shown(folder)}: this file system has no locks. Keep the registry on another one.") from None
    except OSError as error:
        raise UsageError(f"{shown(folder)}: the registry cannot be written to ({error.strerror or error})") from None
    try:
        yield
    finally:
        lock.release()
