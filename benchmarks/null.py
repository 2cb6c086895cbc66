"""Is the null what we say it is? Coins of models that are independent, group by group.

Two sources. *Relabelled*: real trained weights against themselves, after a relabelling of one side drawn uniformly from
the symmetry group; independence of labels then holds by construction. *Independent*: models trained from different
seeds, every layer against every layer. A group is all coins of one kind in one pair of layers; its p-value is the
binomial one, made continuous by a uniform draw on its atom, so that it is exactly uniform under the null.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy import stats

from lineage_plugin.anatomy import analyse
from lineage_plugin.checkpoint import Checkpoint, open_checkpoint
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.ledger import Ledger
from lineage_plugin.evidence.pairing import match_groups
from lineage_plugin.evidence.plan import plan_rounds
from lineage_plugin.evidence.sample import Sample, read_probes
from lineage_plugin.options import Options


@dataclass(frozen=True)
class Group:
    """Coins of one kind in one pair of layers."""

    name: str
    coins: int
    heads: int


def samples_of(suspect: Path, base: Path) -> list[Sample]:
    """Read the default local sample of all groups of two models of one shape."""
    models = [open_checkpoint(str(path), options=Options()) for path in (suspect, base)]
    anatomies = [analyse(model.tensors, model.config) for model in models]
    pairs, mismatch = match_groups(anatomies[0], anatomies[1])
    if mismatch is not None:
        raise SystemExit(f"{suspect} and {base}: {mismatch}")
    read: list[Sample] = []
    checkpoints: tuple[Checkpoint, Checkpoint] = (models[0], models[1])
    for step in plan_rounds(*checkpoints, pairs, seed=0):
        read += read_probes(*checkpoints, step.probes, 0)
        if step.complete:
            break
    return read


def relabelled(sample: Sample, rng: np.random.Generator) -> Sample:
    """Draw a relabelling of the base's units from their symmetry group and apply it."""
    block = sample.probe.base.block[sample.probe.units]
    order = np.arange(block.shape[0])
    if sample.probe.base.swap:
        keys = rng.random(block.shape[0])
        order[np.argsort(block, kind="stable")] = np.lexsort((keys, block))
    sign = rng.choice(np.float32([-1, 1]), size=(block.shape[0], 1))
    base = tuple(part[order] * (sign if odd else 1) for part, odd in zip(sample.base, sample.odd, strict=True))
    return replace(sample, base=base)


def crossed(samples: Sequence[Sample]) -> Iterator[Sample]:
    """Set every layer of the suspect against every layer of the base, where the groups have one shape."""
    for mine, other in product(samples, samples):
        one, two = mine.probe.base, other.probe.base
        if one.name != two.name:
            continue
        if [a.shape for a in mine.suspect] == [b.shape for b in other.base]:
            yield replace(other, suspect=mine.suspect)


def coin_groups(samples: Sequence[Sample]) -> list[Group]:
    """Toss the coins of each sample on its own."""
    groups = []
    for sample in samples:
        ledger = Ledger()
        ledger.add([sample])
        groups += [Group(f"{t.name} {t.kind}", t.count.coins, t.count.heads) for t in ledger.tosses()]
    return groups


def p_values(groups: Sequence[Group], rng: np.random.Generator) -> np.ndarray:
    """Return the randomised binomial p-values: exactly uniform for fair coins."""
    heads = np.array([group.heads for group in groups])
    coins = np.array([group.coins for group in groups])
    return stats.binom.sf(heads, coins, 0.5) + rng.random(heads.shape[0]) * stats.binom.pmf(heads, coins, 0.5)


def e_values(groups: Sequence[Group]) -> np.ndarray:
    """Return the e-values, not their logarithms."""
    return np.power(10.0, [log10_e_value(group.heads, group.coins) for group in groups])


def _row(name: str, groups: Sequence[Group]) -> str:
    uniform = stats.kstest(p_values(groups, np.random.default_rng(1)), "uniform").pvalue
    e = e_values(groups)
    heads, coins = sum(g.heads for g in groups), sum(g.coins for g in groups)
    return f"| {name} | {len(groups):,} | {heads:,} of {coins:,} | {uniform:.2f} | {e.mean():.2f} | {e.max():.1f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=50, help="relabellings of each pair (default: 50)")
    parser.add_argument(
        "pairs",
        nargs="*",
        default=["examples/liar,examples/base", "examples/liar,examples/twin"],
        metavar="SUSPECT,BASE",
        help="independent models of one shape",
    )
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print("| null | groups | heads | KS p | mean E | largest E |\n|---|---|---|---|---|---|")
    real: list[Group] = []
    drawn: list[Group] = []
    for pair in arguments.pairs:
        suspect, base = (Path(part) for part in pair.split(",", 1))
        samples = samples_of(suspect, base)
        real += coin_groups(list(crossed(samples)))
        twins = samples_of(base, base)
        drawn += coin_groups([relabelled(s, rng) for _ in range(arguments.draws) for s in twins])
    for name, groups in (("independent models", real), ("relabelled uniformly", drawn)):
        print(_row(f"{name}, all", groups))
        for kind in sorted({g.name for g in groups}):
            print(_row(f"{name}, {kind}", [g for g in groups if g.name == kind]))


if __name__ == "__main__":
    main()
