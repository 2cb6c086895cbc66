"""``python -m lineage_plugin.fingerprint.seed`` prints the part of ``docs/bases.md`` that is made from the list."""

from __future__ import annotations

from lineage_plugin.fingerprint.seed import seed_table

if __name__ == "__main__":
    print(seed_table(), end="")
