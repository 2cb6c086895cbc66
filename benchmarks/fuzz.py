"""Damaged files by the thousand: whether any parser crashes, hangs, or allocates far more than a file can hold.

Every format with samples (``tests/checkpoint/formats/*_samples.py``) and every small file beside the weights is a
target. Each mutation damages the files of a valid folder, opens it as ``lineage`` would and reads a few rows. Anything
but one clear line is a finding, and so are more than 5 s of processor time and more than 512 MB of memory beyond what
valid files need. The table is what docs quote; the exit code is 1 when there are findings. See ``tests/fuzzing``.

The folder of a finding, kept with ``--keep``, becomes a test by being copied to ``tests/fuzzing/findings/TARGET/``.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzzing.targets import target_names
from tests.fuzzing.worker import Result, Runner

_MOST_PROCESSES = 2


def row(result: Result) -> str:
    """Return one row of the table."""
    if result.skipped:
        return f"| {result.target} | - | - | - | - | - | - | - | {result.skipped[:80]} |"
    each = 1000 * result.seconds / max(1, result.mutations)
    return (
        f"| {result.target} | {result.samples} | {result.mutations:,} | {result.opened:,} | "
        f"{result.mutations - result.opened - sum(result.times.values()):,} | {len(result.findings)} | "
        f"{1000 * result.slowest:.0f} | {result.peak / 1e6:.0f} | {each:.1f} ms each |"
    )


def details(result: Result) -> str:
    """Return what was found, a paragraph each."""
    lines: list[str] = []
    for finding in result.findings:
        times = result.times[finding.place]
        lines.append(f"{result.target}: {finding.place}, {times} times, first at {finding.sample} #{finding.index}")
        lines.append(f"    {finding.folder or 'not kept: give --keep FOLDER'}")
        lines += [f"    {line}" for line in finding.text.strip().splitlines()[-1:]]
    return "\n".join(lines)


def main() -> int:
    """Damage, open, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(target_names())}; all by default")
    parser.add_argument("--mutations", type=int, default=20_000, help="of each target (default 20000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where folders that led to a finding are kept")
    parser.add_argument("--processes", type=int, choices=range(1, _MOST_PROCESSES + 1), default=1)
    chosen = parser.parse_args()
    targets = chosen.targets or list(target_names())
    unknown = sorted(set(targets) - set(target_names()))
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(target_names())}")
    os.nice(5)

    def work(target: str) -> Result:
        with Runner(chosen.keep) as runner:
            try:
                result = runner.run(target, chosen.mutations, chosen.seed)
            except RuntimeError as error:
                print(error, file=sys.stderr)
                result = Result(target, skipped=str(error).splitlines()[0])
        print(f"{target}: done in {result.seconds:.0f} s", file=sys.stderr)
        return result

    with ThreadPoolExecutor(chosen.processes) as pool:
        results = list(pool.map(work, targets))
    print("| target | samples | mutations | opened | refused | findings | slowest, ms | peak, MB | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for result in results:
        print(row(result))
    found = [result for result in results if result.findings]
    for result in found:
        print(f"\n{details(result)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
