"""Runs the action: ``python .../action``, with the interpreter of its environment."""

from __future__ import annotations

import sys
from pathlib import Path

# This folder is no place to import from: its modules are those of a package. That package comes last, so that the
# lineage_plugin that was installed comes before the one that lies beside it.
sys.path = [*sys.path[1:], str(Path(__file__).resolve().parent.parent)]

from action.main import main  # noqa: E402
from lineage_plugin.cli import guarded  # noqa: E402

if __name__ == "__main__":
    # The log is read as UTF-8, whatever the locale of a self-hosted runner says.
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    sys.exit(guarded(lambda: main(sys.stdout)))
