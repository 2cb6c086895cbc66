"""Opening local files that may be anything: pipes, devices, links to elsewhere, files that change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.types import FileInfo
from lineage_plugin.errors import UnreadableCheckpoint, UsageError

__all__ = ["Stamp", "changed", "inside", "list_files", "opened", "read_exactly"]

_MOST_FILES = 10_000
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a file from another: size, time of change and identity."""

    size: int
    mtime_ns: int
    inode: int


@contextmanager
def opened(path: Path, *, expect: Stamp | None = None) -> Iterator[tuple[int, Stamp]]:
    """Open a regular file for reading.

    Args:
        path: The file. Links are followed.
        expect: What the file was before; a change is an error.

    Yields:
        A file descriptor, closed at the end of the block, and the file's stamp.

    Raises:
        UnreadableCheckpoint: When it is missing, no regular file, not permitted, or no longer what it was.
    """
    where = shown(path)
    # Without O_NONBLOCK the opening of a pipe waits for a writer, which may never come.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = -1
    try:
        # Looked at before it is opened, since opening a device may do something; and after, since it may be exchanged.
        if stat.S_ISREG(path.stat().st_mode):
            descriptor = os.open(path, flags)
        if descriptor < 0 or not stat.S_ISREG((status := os.fstat(descriptor)).st_mode):
            raise UnreadableCheckpoint(where, "this is not a regular file", "Give a file or a folder of files.")
        found = Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
        if expect is not None and found != expect:
            raise changed(path)
        yield descriptor, found
    except OSError as error:
        raise UnreadableCheckpoint(where, _reason(error), "") from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def changed(path: Path) -> UnreadableCheckpoint:
    """Return the error for a file that is no longer what it was."""
    return UnreadableCheckpoint(shown(path), "the file changed while it was read", "Run again when it is complete.")


def read_exactly(descriptor: int, start: int, size: int) -> bytes:
    """Read ``size`` bytes of an open file from ``start``, or up to its end."""
    os.lseek(descriptor, start, os.SEEK_SET)
    pieces = []
    while size > 0 and (piece := os.read(descriptor, min(size, 1 << 24))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "reading it is not permitted"
    return f"it cannot be read ({shown(error.strerror or type(error).__name__, 80)})"


def list_files(folder: Path) -> dict[str, FileInfo]:
    """List the files of a model folder.

    Hidden folders, linked folders and folders more than four deep are left out, and so is everything after the first
    10,000 entries: weights lie at the top, and a check started in the wrong place should not walk a whole disk.

    Args:
        folder: The model folder.

    Returns:
        Regular files, and links to such, by name with forward slashes; the top first.

    Raises:
        UnreadableCheckpoint: When the folder cannot be listed.
    """
    files: dict[str, FileInfo] = {}
    waiting: list[tuple[Path, str, int]] = [(folder, "", 0)]
    seen = 0
    while waiting and seen < _MOST_FILES:
        place, prefix, depth = waiting.pop(0)
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    seen += 1
                    if seen > _MOST_FILES:
                        break
                    name = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if depth + 1 < _DEEPEST and not entry.name.startswith("."):
                            waiting.append((place / entry.name, name + "/", depth + 1))
                    elif (size := _regular_size(entry)) is not None:
                        files[name] = FileInfo(name, size)
        except OSError as error:
            if depth == 0:
                raise UnreadableCheckpoint(shown(folder), _reason(error)) from error
    return dict(sorted(files.items(), key=lambda item: (item[0].count("/"), item[0])))


def _regular_size(entry: os.DirEntry[str]) -> int | None:
    try:
        status = entry.stat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def inside(folder: Path, name: str) -> Path:
    """Return the path of a text file of a model, unless it is a link that leads out of it.

    A cloned repository may hold ``README.md -> /proc/self/environ``, and what is read from a card can end up in a
    report. Links into the ``blobs`` folder of the Hub's cache, which is how snapshots are stored, are allowed. Weights
    need no such rule: nothing but numbers of a valid safetensors file is taken from them.

    Args:
        folder: The model folder.
        name: A plain relative name.

    Raises:
        UnreadableCheckpoint: When it leads out.
        UsageError: When the path cannot be resolved.
    """
    path = folder / name
    try:
        home, target = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:
        raise UsageError(f"{shown(path)}: the path cannot be resolved") from error
    if target.is_relative_to(home):
        return path
    if home.parent.name == "snapshots" and target.parent == home.parent.parent / "blobs":
        return path
    raise UnreadableCheckpoint(
        shown(path), "this is a link that leads out of the model folder", "Replace it by the file."
    )
