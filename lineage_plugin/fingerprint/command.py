"""Writing the fingerprint of a model to a file: what ``lineage fingerprint`` does."""

from __future__ import annotations

import sys
from pathlib import Path

from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.fingerprint.file import FILE, to_bytes
from lineage_plugin.fingerprint.known import named
from lineage_plugin.options import Options, Progress
from lineage_plugin.report.output import check_output, write_file
from lineage_plugin.report.phrases import plural, size

__all__ = ["write_fingerprint"]


def write_fingerprint(
    model: str, output: str | None, *, name: str | None, options: Options, progress: Progress | None = None
) -> int:
    """Write the fingerprint of a model, whole or not at all, and say what it cost.

    Args:
        model: Local folder or file, or ``owner/name[@revision]``.
        output: The file; None: beside a local model, or in the current folder.
        name: What to call a local model.
        options: Choices of the run.
        progress: Called while reading.

    Returns:
        The exit code 0.

    Raises:
        UsageError: When the call is wrong, the model is an adapter, or the file cannot be written.
        InputError: When the weights cannot be read.
        HubError: When the Hub does not deliver.
    """
    if output is not None:
        check_output(output)
    checkpoint = open_checkpoint(model, options=options)
    found = named(checkpoint, name, options, progress)
    data, cost = to_bytes(found), checkpoint.cost()
    place = Path(output) if output is not None else _beside(model) / FILE
    if output == "-":
        sys.stdout.buffer.write(data)
    else:
        write_file(place, data)
    units = sum(len(shelf.layers) * shelf.held for shelf in found.shelves)
    read = f"{size(cost.bytes_read)} read" + (f" in {plural(cost.requests, 'request')}" if cost.requests else "")
    print(
        f"{'standard output' if output == '-' else place}: {size(len(data))} for {plural(units, 'unit')} of "
        f"{plural(found.layers, 'layer')}; {read}",
        file=sys.stderr,
    )
    return 0


def _beside(model: str) -> Path:
    path = Path(model).expanduser()
    return path if path.is_dir() else path.parent if path.exists() else Path()
