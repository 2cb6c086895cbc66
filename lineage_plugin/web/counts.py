"""How many models each kind of question is about."""

from __future__ import annotations

from lineage_plugin.web.jobs import Failed, Job

__all__ = ["MOST_MODELS", "counted"]

MOST_MODELS = 8
"""Models of one family tree."""
_COUNTS = {"compare": (2, 2), "check": (1, 1), "scan": (1, 1), "tree": (2, MOST_MODELS)}


def counted(job: Job) -> None:
    """Refuse a question of another kind or about another number of models than there is.

    Raises:
        Failed: ``usage``.
    """
    least, most = _COUNTS.get(job.kind, (1, 0))
    if not least <= len(job.models) <= most:
        how_many = str(least) if least == most else f"{least} to {most}"
        raise Failed("usage", f"Name {how_many} {'model' if most == 1 else 'models'}, not {len(job.models)}.")
