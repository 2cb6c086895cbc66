"""Lets ``python -m lineage_plugin`` stand for ``lineage``."""

import sys

from lineage_plugin.cli import main

if __name__ == "__main__":
    sys.exit(main())
