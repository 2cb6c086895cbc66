"""Where a report goes: standard output as far as it can show it, or a file, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from lineage_plugin.errors import UsageError
from lineage_plugin.report import render_all

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report

__all__ = ["abandon", "check_output", "deliver", "publish", "wants_color", "write_file"]

_DESCRIBES = re.compile(
    r"readme\.md|\.lineage\.ya?ml|(?:.*[_.-])?config\.json|.*\.index\.json|model_index\.json|tokenizer.*"
)
"""Names of the files of a model that are no weights."""


def publish(reports: Sequence[Report], *, format: str, output: str | None) -> None:
    """Write a report, or several as one text, to standard output or a file.

    Args:
        reports: The reports.
        format: One of :func:`lineage_plugin.report.formats`.
        output: The file, or None or ``-`` for standard output.

    Raises:
        UsageError: When the file cannot be written.
    """
    deliver(partial(render_all, reports, format), output)


def deliver(write: Callable[..., str], output: str | None) -> None:
    """Write a text to standard output as it can show it, or to a file.

    Args:
        write: Makes the text; called with ``color``, ``width`` and ``unicode`` as :func:`lineage_plugin.report.render`
            is.
        output: The file, or None or ``-`` for standard output.

    Raises:
        UsageError: When the file cannot be written.
    """
    if output is not None and output != "-":
        text = write(color=False, width=100, unicode=True)
        write_file(Path(output), text.encode("utf-8", errors="replace"))
        return
    stream = sys.stdout
    if stream is None:  # started with standard output closed
        return
    text = write(
        color=wants_color(stream),
        width=shutil.get_terminal_size((80, 24)).columns,
        unicode=_can_encode(stream, "✓←█·•▁├└┄"),
    )
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        abandon(stream)


def abandon(stream: TextIO) -> None:
    """Give up on a stream whose reader has seen enough: what is left in the buffer must not fail when Python exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def check_output(output: str, what: str = "--output") -> None:
    """Refuse a place that cannot or should not be written to before work is spent on the report."""
    path = Path(output)
    if output == "-":
        return
    if not output or path.is_dir():
        raise UsageError(f"{what} {output!r}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UsageError(f"{what} {output}: the folder {path.parent} does not exist")
    if path.is_file() and _is_of_a_model(path):
        raise UsageError(f"{what} {output}: would overwrite a file of a model; name another one")


def _is_of_a_model(path: Path) -> bool:
    """Return whether a file is part of a model, by its name; a fingerprint of one is none."""
    from lineage_plugin.checkpoint.formats import is_weight_file
    from lineage_plugin.fingerprint.file import is_fingerprint

    if _DESCRIBES.fullmatch(path.name.lower()):
        return True
    if not is_weight_file(path.name):
        return False
    with path.open("rb") as file:
        return not is_fingerprint(file.read(4096))


def write_file(path: Path, data: bytes, what: str = "--output") -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Args:
        path: The file; a link keeps pointing where it points, and a device or a pipe is written to.
        data: Its content.
        what: What an error calls it before its name.

    Raises:
        UsageError: When it cannot be written.
    """
    import tempfile

    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(mode)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{what} {path}: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def wants_color(stream: TextIO) -> bool:
    """Return whether to colour: NO_COLOR forbids, FORCE_COLOR demands, else a terminal decides."""
    environment = os.environ
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    if sys.platform == "win32" and not {"WT_SESSION", "TERM_PROGRAM", "ANSICON"} & environment.keys():
        return False  # the old console prints escape sequences as they are
    return stream.isatty() and environment.get("TERM") != "dumb"


def _can_encode(stream: TextIO, signs: str) -> bool:
    try:
        signs.encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
