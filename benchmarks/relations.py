"""Right and wrong answers on pairs of known lineage, with confidence intervals.

Reads manifests in the form of the zoo's (`pairs` of suspect, base and relation; models lie beside the manifest) and
compares every pair in both orders.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from scipy import stats

from lineage_plugin.api import compare
from lineage_plugin.judge.types import Comparison


def interval(hits: int, trials: int) -> str:
    """Return a share with its exact (Clopper-Pearson) 95% interval."""
    found = stats.binomtest(hits, trials).proportion_ci(method="exact")
    return f"{hits}/{trials} ({100 * found.low:.0f} to {100 * found.high:.0f}%)"


def main() -> None:
    """Compare, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path, help="zoo.json or lab.json")
    parser.add_argument("--verbose", action="store_true", help="print every pair")
    arguments = parser.parse_args()
    table: Counter[tuple[str, str]] = Counter()
    loudest = -1e9
    for manifest in arguments.manifests:
        for pair in json.loads(manifest.read_text())["pairs"]:
            folders = [manifest.parent / pair[side].split("/")[-1] for side in ("suspect", "base")]
            if not all((folder / "model.safetensors").is_file() for folder in folders):
                continue
            for suspect, base in (folders, folders[::-1]):
                found = compare(str(suspect), str(base)).comparisons[0]
                table[pair["relation"], found.relation] += 1
                if pair["relation"] == "unrelated":
                    loudest = max(loudest, found.evidence.log10_e)
                if arguments.verbose or found.relation != pair["relation"]:
                    print(_line(suspect.name, base.name, pair["relation"], found), flush=True)
    print("\n| truth | answered right | inconclusive | wrong |\n|---|---|---|---|")
    for truth in ("derived", "shared-init", "unrelated"):
        total = sum(count for (known, _), count in table.items() if known == truth)
        if total:
            right, open_ = table[truth, truth], table[truth, "inconclusive"]
            print(f"| {truth} | {interval(right, total)} | {open_} | {interval(total - right - open_, total)} |")
    print(f"\nlargest log10 E of an unrelated pair: {loudest:.1f}")


def _line(suspect: str, base: str, truth: str, found: Comparison) -> str:
    inheritance = found.inheritance
    numbers = (inheritance.slope, inheritance.low, inheritance.high, inheritance.contrast.estimate)
    shown = " ".join("-" if number is None else f"{number:.2f}" for number in numbers)
    return f"{suspect} on {base}: {truth}, answered {found.relation} ({found.summary}); slope and contrast {shown}"


if __name__ == "__main__":
    main()
