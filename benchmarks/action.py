"""How long the GitHub Action takes for a model of the Hub: with nothing cached, and with its environment cached.

Writes a base and a child in the layer shapes of an 8B model (2.3 GB each), serves them from the local Hub with a delay
on every request, and runs a workflow with the action through a real runner. Installing takes packages from the package
index, so the first row depends on the network. Needs about 5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from benchmarks.synthetic import Shape, write
from tests.action.runner import ACTION, Run, Runner
from tests.hub import LocalHub

WORKFLOW = f"""
on: workflow_dispatch
permissions: {{}}
jobs:
  lineage:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v7
      - uses: {ACTION}@v1
        with:
          model: bench/child
          report-file: report.json
      - run: cat report.json
"""
_CARD = "---\nbase_model: bench/base\nbase_model_relation: finetune\n---\n"


def main() -> None:
    """Write, serve, run twice, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--latency", type=float, default=0.05, help="seconds before each answer (default 0.05)")
    arguments.add_argument("--runs", type=int, default=3, help="runs with the environment cached (default 3)")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in ("base", "child"):
            write(folder / "hub" / "bench" / model, model, Shape(layers=4))
        (folder / "hub" / "bench" / "child" / "README.md").write_text(_CARD, encoding="utf-8")
        (service := folder / "cache").mkdir()
        (work := folder / "work").mkdir()
        runner = Runner(work, service)
        runner.commit()
        print("| environment | whole job, s | installing, s | checking, s | verdict | log10 E | MB read | requests |")
        print("|---|---|---|---|---|---|---|---|")
        with LocalHub(folder / "hub", latency=options.latency, fast_digests=True) as hub:
            for number in range(1 + options.runs):
                started = time.perf_counter()
                run = runner.run(WORKFLOW, environment={"HF_ENDPOINT": hub.endpoint})
                print(row("cached" if number else "none", run, time.perf_counter() - started), flush=True)


def row(name: str, run: Run, seconds: float) -> str:
    """Return one row of the table."""
    if not run.ok:
        raise SystemExit(run.log)
    report, _ = json.JSONDecoder().raw_decode(run.log[run.log.index('{\n  "schema"') :])
    cost, evidence = report["cost"], report["comparisons"][0]["evidence"]
    installing, checking = run.seconds("install"), run.seconds("check")
    return (
        f"| {name} | {seconds:.1f} | {installing:.1f} | {checking:.1f} | {report['verdict']} | "
        f"{evidence['log10_e']:.1f} | {cost['bytes_read'] / 1e6:.1f} | {cost['requests']} |"
    )


if __name__ == "__main__":
    main()
