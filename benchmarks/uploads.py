"""How long `lineage upload` takes before it sends anything: the first time, and for a folder that has not changed.

Writes a base and a child in the layer shapes of an 8B model (22 layers: 10 GB each, the child in five shards), serves
the base from the local Hub with a delay on every request, and runs the command in a process of its own. `--dry-run`
keeps sending out of the figures. Needs about 20 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.synthetic import Shape, write
from tests.hub import LocalHub

_CARD = "---\nlicense: mit\nbase_model: bench/base\nbase_model_relation: finetune\n---\n"


def main() -> None:
    """Write, serve, run, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--latency", type=float, default=0.05, help="seconds before each answer (default 0.05)")
    arguments.add_argument("--layers", type=int, default=22, help="layers of both models (default 22: 10 GB)")
    arguments.add_argument("--runs", type=int, default=3, help="runs of the unchanged folder (default 3)")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, shape = Path(name), Shape(layers=options.layers)
        write(folder / "hub" / "bench" / "base", "base", shape, 5)
        child = write(folder / "child", "child", shape, 5, _CARD)
        weights = sorted(child.glob("*.safetensors"))
        total = sum(path.stat().st_size for path in weights)
        started = time.perf_counter()
        subprocess.run(["openssl", "dgst", "-sha256", *map(str, weights)], check=True, capture_output=True)
        print(f"{total / 1e9:.1f} GB; openssl dgst -sha256 of it, one file after the other: ", end="")
        print(f"{time.perf_counter() - started:.1f} s\n")
        print("| folder | whole command, s | of it imports, s | verdict | requests | MB of the base read |")
        print("|---|---|---|---|---|---|")
        with LocalHub(folder / "hub", latency=options.latency, fast_digests=True) as hub:
            environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "LINEAGE_CACHE": str(folder / "cache")}
            for number in range(1 + options.runs):
                print(row("unchanged" if number else "new", child, hub, environment), flush=True)


def row(name: str, child: Path, hub: LocalHub, environment: dict[str, str]) -> str:
    """Return one row of the table."""
    hub.log.clear()
    command = [sys.executable, "-X", "importtime", "-m", "lineage_plugin", "upload", "bench/child", str(child)]
    started = time.perf_counter()
    run = subprocess.run(
        [*command, "--dry-run", "--format", "json"], check=True, env=environment, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    # Microseconds of each module by itself: "import time: self | cumulative | name".
    imports = sum(int(found) for found in re.findall(r"^import time: +(\d+) \|", run.stderr, re.MULTILINE)) / 1e6
    read = sum(record.sent for record in hub.log if record.port == "cdn") / 1e6
    verdict = json.loads(run.stdout)["verdict"]
    return f"| {name} | {seconds:.2f} | {imports:.2f} | {verdict} | {len(hub.log)} | {read:.2f} |"


if __name__ == "__main__":
    main()
