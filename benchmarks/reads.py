"""What a comparison over the network costs: bytes and requests, on checkpoints in the shapes of an 8B model.

Writes four sharded models of more than 1 GB each, serves them from the local Hub with a latency on every request and
compares them. Needs about 9 GB of disk. The table is what README and docs quote.

``--deep`` does the same with changed structures at full depth: 32 layers, up-scaled to 40, MLPs pruned to three
quarters. Rows are as long as those of an 8B model, which is what is paid for, but matrices have an eighth of them, so
that a model takes 1.3 GB.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.large import Disguise
from benchmarks.synthetic import Changes, Shape, write
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


DEEP = Shape(layers=32, units=1792, heads=8, kv_heads=2, vocabulary=4096)
"""Rows and depth of an 8B model."""


def deep_models() -> dict[str, tuple[str, Changes]]:
    """Return role and changes of the models of ``--deep`` by name."""
    rng = np.random.default_rng(0)
    return {
        "base": ("base", Changes()),
        "child": ("child", Changes()),
        "other": ("other", Changes()),
        # As SOLAR was made, by repeating layers of the middle: 24 from the front, 16 from the back.
        "upscaled": ("child", Changes(layers=[*range(24), *range(16, 32)])),
        "other-upscaled": ("other", Changes(layers=[*range(24), *range(16, 32)])),
        "pruned": ("child", Changes(units=np.sort(rng.permutation(DEEP.units)[: DEEP.units * 3 // 4]))),
        "relabelled": ("child", Changes(rewrite=Disguise(DEEP, "child", 1, rotate=False, mix=False))),
    }


def main() -> None:
    """Write, serve, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4, help="layers of a model (default: 4)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request waits (default: 0.05)")
    parser.add_argument("--folder", type=Path, help="where the models are, or are to be written")
    parser.add_argument("--deep", action="store_true", help="changed structures, at the depth of an 8B model")
    parser.add_argument("--budget", type=int, help="bytes of each model that may be read")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = arguments.folder or Path(scratch)
        shape = DEEP if arguments.deep else Shape(layers=arguments.layers)
        plain = {role: (role, Changes()) for role in ("base", "child", "twin", "other")}
        models = deep_models() if arguments.deep else plain
        for name, (role, changes) in models.items():
            if not (root / "synthetic" / name / "config.json").exists():
                write(root / "synthetic" / name, role, shape, changes=changes)
        print("| pair | relation | heads | log10 E | tensor MB suspect/base | requests suspect/base | seconds | GB |")
        print("|---|---|---|---|---|---|---|---|")
        with LocalHub(root, latency=arguments.latency, fast_digests=True) as hub:
            options = Options(endpoint=hub.endpoint, budget=arguments.budget)
            for name in list(models)[1:]:
                print(row(name, compare(f"synthetic/{name}", "synthetic/base", options=options)), flush=True)


if __name__ == "__main__":
    main()
