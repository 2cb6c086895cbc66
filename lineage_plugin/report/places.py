"""Where on this machine the file of a finding is: what an annotation, an alert or an editor can open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report

__all__ = ["place"]


def place(report: Report, file: str | None) -> str | None:
    """Return the path of a finding's file, with forward slashes, as seen from where the check was started.

    Args:
        report: The report that the finding is in.
        file: The file: relative to the model, below the model as messages name it, the card that was given, or the
            policy.

    Returns:
        The path, relative when the model was named by a relative path; None when the file is not on this machine, or is
        the whole folder.
    """
    if file is None:
        return None
    policy = report.settings.policy
    if file == report.card or (policy is not None and file == policy.file):
        return Path(file).as_posix()
    if report.folder is None:
        return None
    folder, path = Path(report.folder), Path(file)
    if path == folder:
        return None  # The model as a whole.
    return (path if path.is_relative_to(folder) else folder / path).as_posix()
