"""The finding about ignore comments that do nothing: LIN213."""

from __future__ import annotations

from lineage_plugin.card.rules.registry import explains
from lineage_plugin.findings import Finding, finding

__all__ = ["without_effect"]


@explains("LIN213")
def without_effect(what: str, help: str, *, file: str, line: int, column: int) -> Finding:
    """Report an ignore comment, or a code in it, that has no effect.

    Why: a comment that ignores nothing looks as if something had been looked into and accepted. It hides a typing
    error in a code, or outlives what it was about, and then silences the next finding that nobody has seen.

    A comment needs a known code of the group LIN2xx and a reason. LIN213 itself may not be ignored, nor an error of
    LIN207 (what cannot be read) or of LIN202 (a base that cannot be opened). At the end of a line a comment is about
    the findings of that line, on a line of its own about the entry below it with all of its value, and ``ignore-file``
    is about the whole card. What it ignores stays in every report, as a note with the reason; a policy may forbid
    ignore comments.

    That there is nothing to ignore is only said of what was looked into: not of findings that need the Hub where the
    Hub was not asked.

    Example::

        base_model: owner/name  # lineage: ignore[LIN250]

    Repair::

        base_model: owner/name  # lineage: ignore[LIN205] the model was trained on a moving branch

    Args:
        what: What is wrong, lower case, without a full stop.
        help: What to do about it.
        file: Name of the card.
        line: Line of the comment.
        column: Its column.

    Returns:
        The finding.
    """
    return finding("LIN213", what, file=file, line=line, column=column, help=help)
