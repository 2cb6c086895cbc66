"""Descent or a shared start, and direction: right and wrong answers on models of known lineage.

Run as ``python -m benchmarks.inheritance LAB...`` with manifests such as ``zoo.json`` or ``lab.json``. Every dependent
pair is compared in both orders by the tool as it is, and the answers are counted by family, with exact
(Clopper-Pearson) intervals. The two orders of a pair are not independent: intervals count pairs, and a pair is wrong
when either order is.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from lineage_plugin.api import compare
from lineage_plugin.errors import LineageError

TURNED = {"suspect-from-base": "base-from-suspect", "base-from-suspect": "suspect-from-base"}


@dataclass(frozen=True)
class Pair:
    """Two dependent models and what is true of them.

    Attributes:
        suspect: Folder of the suspect.
        base: Folder of the base.
        relation: ``derived`` or ``shared-init``.
        direction: What the direction should be; ``unclear`` where there is none.
        family: What the pair is counted under.
    """

    suspect: Path
    base: Path
    relation: str
    direction: str
    family: str


def pairs_of(manifest: Path) -> Iterator[Pair]:
    """Yield the dependent pairs of a manifest whose models are there and whose truth is one relation."""
    listed = json.loads(manifest.read_text())
    records = listed.get("records", {})
    for pair in listed["pairs"]:
        folders = [manifest.parent / pair[side].split("/")[-1] for side in ("suspect", "base")]
        if pair["relation"] not in ("derived", "shared-init") or "accept" in pair:
            continue
        if not all((folder / "model.safetensors").is_file() for folder in folders):
            continue
        direction = "suspect-from-base" if pair["relation"] == "derived" else "unclear"
        if "siblings" in pair.get("note", "") or "siblings" in str(pair.get("kind", "")):
            direction = "siblings"
        family = records.get(folders[1].name, {}).get("family", manifest.parent.name)
        yield Pair(folders[0], folders[1], pair["relation"], direction, family)


def answer(suspect: Path, base: Path) -> tuple[str, str]:
    """Return the relation and the direction that the tool says."""
    found = compare(str(suspect), str(base)).comparisons[0]
    return found.relation, found.direction.indication


def _interval(hits: int, trials: int) -> str:
    found = stats.binomtest(hits, trials).proportion_ci(method="exact")
    return f"{hits}/{trials} ({100 * found.low:.1f} to {100 * found.high:.1f}%)"


def main() -> None:
    """Compare, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labs", nargs="+", type=Path, metavar="LAB", help="manifest such as lab.json")
    parser.add_argument("--verbose", action="store_true", help="print every answer that is not right")
    arguments = parser.parse_args()
    relations: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    directions: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in (pair for manifest in arguments.labs for pair in pairs_of(manifest)):
        try:
            answers = [answer(pair.suspect, pair.base), answer(pair.base, pair.suspect)]
        except LineageError as error:
            print(f"{pair.suspect.name} on {pair.base.name}: {error}")
            continue
        said = {relation for relation, _ in answers}
        wrong = said - {pair.relation, "inconclusive"}
        verdict = "wrong" if wrong else "right" if said == {pair.relation} else "open"
        for family in (pair.family, "all"):
            relations[pair.relation, family][verdict] += 1
        ways = {answers[0][1], TURNED.get(answers[1][1], answers[1][1])}
        way = "unclear" if ways == {"unclear"} else "right" if ways <= {pair.direction, "unclear"} else "wrong"
        truth = pair.direction if pair.relation == "derived" else "shared start"
        if pair.relation in said:
            directions[truth][way] += 1
        if arguments.verbose and (verdict != "right" or way == "wrong"):
            names = f"{pair.suspect.name} on {pair.base.name}"
            print(f"{names}: {pair.relation}, {pair.direction}; said {answers}", flush=True)
    print("\n| truth | family | right | open | wrong |\n|---|---|---|---|---|")
    for (truth, family), count in sorted(relations.items()):
        total = sum(count.values())
        print(f"| {truth} | {family} | {count['right']} | {count['open']} | {_interval(count['wrong'], total)} |")
    print("\n| direction | right | unclear | wrong |\n|---|---|---|---|")
    for truth, count in sorted(directions.items()):
        print(f"| {truth} | {count['right']} | {count['unclear']} | {_interval(count['wrong'], sum(count.values()))} |")


if __name__ == "__main__":
    main()
