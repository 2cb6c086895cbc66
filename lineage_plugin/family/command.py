"""``lineage tree``: find the family, write it, and say in the exit code what stands."""

from __future__ import annotations

import argparse
import sys
from functools import partial

from lineage_plugin.family.grow import exit_code, tree
from lineage_plugin.family.report import render
from lineage_plugin.family.words import summary
from lineage_plugin.options import Options, Progress
from lineage_plugin.report.output import deliver
from lineage_plugin.text import one_line

__all__ = ["run"]


def run(args: argparse.Namespace, options: Options, progress: Progress | None) -> int:
    """Run the command.

    Args:
        args: Its arguments.
        options: Choices of the run.
        progress: Called while reading.

    Returns:
        The exit code, see :func:`lineage_plugin.family.grow.exit_code`.

    Raises:
        UsageError: When there are too few or too many models, or the file cannot be written.
    """
    family = tree(args.models, options=options, progress=progress)
    deliver(partial(render, family, args.format), args.output)
    if args.output not in (None, "-") and not args.quiet:
        # Whoever reads the log only is told as well.
        sys.stderr.write(f"{summary(family)} The tree is in {one_line(args.output, 200)}.\n")
    return exit_code(family)
