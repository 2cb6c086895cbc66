"""Are coins fair when the basis of the residual stream was searched for? Independent models, relabelled uniformly.

Each draw relabels the base: its residual channels (exchanged, and flipped where the norm allows it) and the hidden
units of one MLP (exchanged and flipped). Then everything is done as for a pair in question: channel coins, recovery of
the basis from embeddings of some tokens, and unit coins in that basis. The coins of channels and of units, and the
product of their e-values, must have mean 1 at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from lineage_plugin.anatomy import analyse
from lineage_plugin.anatomy.types import UnitGroup
from lineage_plugin.checkpoint import Checkpoint, Selection, open_checkpoint
from lineage_plugin.evidence.basis import recover_basis
from lineage_plugin.evidence.channels import channel_coins, match_channels
from lineage_plugin.evidence.coins import draw_pairs, sign_statistics, swap_statistics
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.options import Options


@dataclass(frozen=True)
class Parts:
    """What the simulation looks at: token embeddings, and one MLP's vectors over the residual stream.

    Attributes:
        embedding: ``[tokens, d]``.
        units: One ``[units, d]`` array a role.
        odd: For each role, whether a flip of the unit negates it.
        flip: Whether channels have a sign symmetry.
    """

    embedding: np.ndarray
    units: tuple[np.ndarray, ...]
    odd: tuple[bool, ...]
    flip: bool


@dataclass(frozen=True)
class Tossed:
    """Coins and heads of one draw, by kind."""

    counts: dict[str, tuple[int, int]]

    def log10_e(self, *kinds: str) -> float:
        """Return the e-value of some kinds counted apart and multiplied."""
        return sum(log10_e_value(heads, coins) for coins, heads in (self.counts.get(kind, (0, 0)) for kind in kinds))


def parts_of(path: Path, layer: int = 1) -> Parts:
    """Read what the simulation needs of a model."""
    model = open_checkpoint(str(path), options=Options())
    anatomy = analyse(model.tensors, model.config)
    stream = anatomy.stream
    if stream is None:
        raise SystemExit(f"{path}: the residual stream is not known")
    (embedding,) = model.read([Selection(stream.embedding)])
    group = next(g for g in anatomy.groups if g.layer == layer and g.name in ("mlp", "experts"))
    units = tuple(_vectors(model, group, role) for role in range(len(group.vectors)))
    return Parts(embedding, units, tuple(v.odd for v in group.vectors), stream.flip)


def _vectors(model: Checkpoint, group: UnitGroup, role: int) -> np.ndarray:
    vectors = group.vectors[role]
    (matrix,) = model.read([Selection(vectors.tensor, None, None, vectors.width)])
    if vectors.span is not None:
        span = slice(*vectors.span)
        matrix = matrix[:, span] if vectors.axis == 0 else matrix[span]
    matrix = matrix if vectors.axis == 0 else matrix.T
    return np.ascontiguousarray(matrix[vectors.index[:, 0]])


def relabelled(base: Parts, rng: np.random.Generator) -> Parts:
    """Draw a relabelling of channels and units from the symmetry group of the model and apply it."""
    width, units = base.embedding.shape[1], base.units[0].shape[0]
    order = rng.permutation(width)
    sign = rng.choice(np.float32([-1, 1]), width) if base.flip else np.ones(width, np.float32)
    moved = rng.permutation(units)
    flips = rng.choice(np.float32([-1, 1]), (units, 1))
    return replace(
        base,
        embedding=(base.embedding * sign)[:, order],
        units=tuple(
            (part[moved] * (flips if odd else 1) * sign)[:, order]
            for part, odd in zip(base.units, base.odd, strict=True)
        ),
    )


def toss(suspect: Parts, base: Parts, tokens: int, seed: int) -> tuple[Tossed, str]:
    """Toss the coins of a pair as the evidence would, and say which kind of basis was found."""
    flip = suspect.flip and base.flip
    count = min(suspect.embedding.shape[0], base.embedding.shape[0])
    rows = np.sort(np.random.default_rng(seed).permutation(count)[:tokens])
    a, b = suspect.embedding[rows], base.embedding[rows]
    coins = channel_coins(a, b, flip=flip, seed=seed)
    matched, _ = match_channels(a, b, flip=flip)
    searched = channel_coins(a, b, flip=flip, seed=seed, channels=matched)
    counts = {
        "channel swap": (coins.swap.coins, coins.swap.heads),
        "channel sign": (coins.sign.coins, coins.sign.heads),
        "matched channel sign": (searched.sign.coins, searched.sign.heads),
    }
    basis = recover_basis(a, b, flip=flip, rotate=flip)
    if basis is None:
        return Tossed(counts), "none"
    units = min(suspect.units[0].shape[0], base.units[0].shape[0])
    ours = [basis.apply(part[:units]) for part in suspect.units]
    theirs = [basis.restrict(part[:units]) for part in base.units]
    pairs = draw_pairs(np.zeros(units, np.int64), [seed])
    swap = swap_statistics(ours, theirs, base.odd, pairs)
    sign = sign_statistics(ours, theirs, base.odd)
    for kind, statistic in (("unit swap", swap), ("unit sign", sign)):
        counts[kind] = (int((statistic != 0).sum()), int((statistic > 0).sum()))
    return Tossed(counts), basis.kind


KINDS = ("channel swap", "channel sign", "matched channel sign", "unit swap", "unit sign")


def table(draws: Sequence[Tossed]) -> list[str]:
    """Return one line a kind of coin, and one for the product of all that may be multiplied."""
    rng = np.random.default_rng(1)
    lines = ["| coins | draws | heads | KS p | mean E | largest E |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        coins, heads = (np.array([draw.counts.get(kind, (0, 0))[side] for draw in draws]) for side in (0, 1))
        used = coins > 0
        if not used.any():
            continue
        p = stats.binom.sf(heads[used], coins[used], 0.5)
        p += rng.random(int(used.sum())) * stats.binom.pmf(heads[used], coins[used], 0.5)
        e = 10.0 ** np.array([draw.log10_e(kind) for draw in draws])
        lines.append(
            _line(kind, e, int(used.sum()), f"{heads.sum():,} of {coins.sum():,}", stats.kstest(p, "uniform").pvalue)
        )
    e = 10.0 ** np.array([draw.log10_e("channel swap", "channel sign", "unit swap", "unit sign") for draw in draws])
    return [*lines, _line("all, multiplied", e, len(draws), "", None)]


def _line(kind: str, e: np.ndarray, draws: int, heads: str, p: float | None) -> str:
    error = e.std() / np.sqrt(e.shape[0])
    uniform = "" if p is None else f"{p:.2f}"
    return f"| {kind} | {draws:,} | {heads} | {uniform} | {e.mean():.2f} ± {error:.2f} | {e.max():.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=5000, help="relabellings of each pair (default: 5000)")
    parser.add_argument("--tokens", type=int, default=128, help="token rows of each draw (default: 128)")
    parser.add_argument(
        "pairs",
        nargs="*",
        default=["examples/liar,examples/base", "examples/liar,examples/twin"],
        metavar="SUSPECT,BASE",
        help="independent models",
    )
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    draws: list[Tossed] = []
    found: dict[str, int] = {}
    for pair in arguments.pairs:
        suspect, base = (parts_of(Path(part)) for part in pair.split(",", 1))
        for seed in range(arguments.draws):
            tossed, kind = toss(suspect, relabelled(base, rng), arguments.tokens, seed)
            draws.append(tossed)
            found[kind] = found.get(kind, 0) + 1
    print("\n".join(table(draws)))
    print("bases found:", ", ".join(f"{kind} {count:,}" for kind, count in sorted(found.items())))


if __name__ == "__main__":
    main()
