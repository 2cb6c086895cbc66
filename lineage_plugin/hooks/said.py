"""What the gate says beside what it raises, and that somebody sees it.

Everything goes to the logger ``lineage_plugin``. In a program that has set up logging it is shown as that program has
it; in any other one it goes to standard error, a line beginning with ``lineage:``.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["LOG", "be_seen"]

LOG = logging.getLogger("lineage_plugin")


class _Stream(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to the standard error of the moment, unless the program has set up logging since."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers:
            return
        self.stream = sys.stderr
        super().emit(record)


def be_seen() -> None:
    """Show what is said on standard error, as long as nothing else does."""
    if LOG.hasHandlers():
        return
    handler = _Stream()
    handler.setFormatter(logging.Formatter("lineage: %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
