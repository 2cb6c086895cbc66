"""What a comparison over the network costs: bytes and requests, on checkpoints in the shapes of an 8B model.

Writes four sharded models of more than 1 GB each, serves them from the local Hub with a latency on every request and
compares them. Needs about 9 GB of disk. The table is what README and docs quote.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.synthetic import Shape, write
from lineage_plugin.api import compare
from lineage_plugin.judge.types import Report
from lineage_plugin.options import Options
from tests.hub import LocalHub


def row(name: str, report: Report) -> str:
    """Return one row of the table."""
    comparison = report.comparisons[0]
    costs = (comparison.suspect_cost, comparison.base_cost)
    tensor = "/".join(f"{cost.tensor_bytes / 1e6:.2f}" for cost in costs)
    requests = "/".join(str(cost.requests) for cost in costs)
    evidence = comparison.evidence
    return (
        f"| {name} | {comparison.relation} | {evidence.heads}/{evidence.coins} | {evidence.log10_e:.1f} | {tensor} | "
        f"{requests} | {max(cost.seconds for cost in costs):.1f} | {costs[0].bytes_total / 1e9:.2f} |"
    )


def main() -> None:
    """Write, serve, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4, help="layers of a model (default: 4)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request waits (default: 0.05)")
    parser.add_argument("--folder", type=Path, help="where the models are, or are to be written")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.folder or Path(scratch)
        shape = Shape(layers=arguments.layers)
        for role in ("base", "child", "twin", "other"):
            if not (root / "synthetic" / role).is_dir():
                write(root / "synthetic" / role, role, shape)
        print("| pair | relation | heads | log10 E | tensor MB suspect/base | requests suspect/base | seconds | GB |")
        print("|---|---|---|---|---|---|---|---|")
        with LocalHub(root, latency=arguments.latency, fast_digests=True) as hub:
            options = Options(endpoint=hub.endpoint)
            for role in ("child", "twin", "other"):
                print(row(role, compare(f"synthetic/{role}", "synthetic/base", options=options)), flush=True)


if __name__ == "__main__":
    main()
