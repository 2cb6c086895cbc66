"""Alignment of units and layers: are the coins fair after the search, what does it find, and what does it cost?

``null``: units of independent models are matched with a heavy sign-even search, then sign coins are tossed.
``layers-null``: all layers against all, the best alignment chosen by half of the pairs, then the coins of the rest.
Every draw relabels the base uniformly (or draws both models anew), so the null holds by construction. Each is followed
by the broken version of itself: signs searched, or the searched pairs tossed.
``relatedness``: the score that aligns layers of relabelled models. ``unit-layer``: one layer of 8B size.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from scipy import stats

from lineage_plugin.anatomy import analyse
from lineage_plugin.checkpoint import Selection, open_checkpoint
from lineage_plugin.evidence.coins import draw_pairs, sign_statistics, swap_statistics
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.layers import align_layers, swap_scores
from lineage_plugin.evidence.units import match_units, relatedness
from lineage_plugin.options import Options

ODD = (False, True, True)
"""Gate, up, down of a gated MLP."""

ROLES = ((0,), (1,), (0, 1, 2))
"""What a search matches on: the best of these is taken."""

Layer = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Tosses:
    """Coins and heads of each draw."""

    coins: np.ndarray
    heads: np.ndarray

    @classmethod
    def of(cls, statistics: Sequence[np.ndarray]) -> Tosses:
        """Count the statistics of each draw."""
        return cls(
            np.array([int((s != 0).sum()) for s in statistics]), np.array([int((s > 0).sum()) for s in statistics])
        )

    @property
    def e_values(self) -> np.ndarray:
        """The e-value of each draw."""
        return np.power(10.0, [log10_e_value(int(k), int(n)) for k, n in zip(self.heads, self.coins, strict=True)])

    def uniform(self) -> float:
        """P-value of the Kolmogorov-Smirnov test that the randomised binomial p-values are uniform."""
        rng = np.random.default_rng(0)
        p = stats.binom.sf(self.heads, self.coins, 0.5)
        p += rng.random(p.shape[0]) * stats.binom.pmf(self.heads, self.coins, 0.5)
        return float(stats.kstest(p[self.coins > 0], "uniform").pvalue)


def mlp_layers(path: Path) -> list[Layer]:
    """Read gate, up and down of every layer (of every expert) of a model with gated MLPs, one row a unit."""
    model = open_checkpoint(str(path), options=Options())
    layers = []
    for group in analyse(model.tensors, model.config).groups:
        vectors = {v.role: v for v in group.vectors}
        if not {"gate", "up", "down"} <= set(vectors):
            continue
        roles = []
        for role in ("gate", "up", "down"):
            matrix = model.read([Selection(vectors[role].tensor, None, None, vectors[role].width)])[0]
            matrix = matrix if vectors[role].axis == 0 else matrix.T
            roles.append(np.ascontiguousarray(matrix[vectors[role].index].reshape(group.units, -1)))
        layers.append(tuple(roles))
    return layers


def relabelled(layer: Layer, rng: np.random.Generator, units: int | None = None) -> Layer:
    """Permute the units of a layer and flip their signs at random; keep a number of them."""
    order = rng.permutation(layer[0].shape[0])[:units]
    sign = rng.choice(np.float32([-1, 1]), size=(order.shape[0], 1))
    return tuple(part[order] * (sign if odd else 1) for part, odd in zip(layer, ODD, strict=True))


def gaussian(rng: np.random.Generator, units: int, dim: int) -> Layer:
    """Draw a layer whose units share a few directions, as those of trained layers do."""
    scale = np.exp(rng.normal(size=dim)).astype(np.float32)
    common = rng.normal(size=(3, 1, dim)).astype(np.float32)
    return tuple(scale * (rng.normal(size=(units, dim)).astype(np.float32) + 0.5 * common[role]) for role in range(3))


def unit_draw(suspects: Sequence[Layer], base: Layer, *, signed: bool) -> np.ndarray:
    """Match the base's units with those of the suspect layer and by the roles that fit best, then toss sign coins.

    Args:
        suspects: Layers to choose from.
        base: The base layer.
        signed: Whether the search sees signs: then the coins are not fair.

    Returns:
        The statistics of the sign coins.
    """
    best, chosen = -np.inf, None
    for layer in suspects:
        for roles in ROLES:
            even = [ODD[r] and not signed for r in roles]
            match = match_units([layer[r] for r in roles], [base[r] for r in roles], even=even)
            if match.base_rows.shape[0] and match.similarity[match.base_rows].mean() > best:
                best, chosen = match.similarity[match.base_rows].mean(), (layer, match)
    if chosen is None:
        return np.zeros(0)
    layer, match = chosen
    return sign_statistics([part[match.suspect_rows] for part in layer], [part[match.base_rows] for part in base], ODD)


def layer_draw(suspect: Sequence[Layer], base: Sequence[Layer], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Align layers by half of the pairs, with no bar worth the name, and toss coins.

    A base layer that several suspect layers are given to has one coin a unit: the statistics are added.

    Returns:
        Statistics by kind: ``held out`` swap coins, all ``sign`` coins, and the swap coins of the ``searched`` pairs.
    """
    units = base[0][0].shape[0]
    pairs = draw_pairs(np.zeros(units, np.int64), [int(rng.integers(1 << 30))])
    search, rest = pairs[::2], pairs[1::2]
    found = align_layers(swap_scores(suspect, base, ODD, search), least=0.5)
    tossed: dict[str, dict[int, np.ndarray]] = {"held out": {}, "sign": {}, "searched": {}}
    for mine, other in found.pairs:
        for kind, statistic in (
            ("held out", swap_statistics(suspect[mine], base[other], ODD, rest)),
            ("sign", sign_statistics(suspect[mine], base[other], ODD)),
            ("searched", swap_statistics(suspect[mine], base[other], ODD, search)),
        ):
            tossed[kind][other] = tossed[kind].get(other, 0.0) + statistic
    return {kind: np.concatenate([np.zeros(0), *by_layer.values()]) for kind, by_layer in tossed.items()}


def unit_null(
    models: Sequence[tuple[list[Layer], list[Layer]]], draws: int, units: int, seed: int, *, signed: bool
) -> Tosses:
    """Toss sign coins after unit matching, for relabelled real layers and for drawn ones in turn."""
    rng = np.random.default_rng(seed)
    statistics = []
    for draw in range(draws):
        if draw % 2:
            suspects, base = [gaussian(rng, units, 48) for _ in range(2)], gaussian(rng, units, 48)
        else:
            one, other = models[rng.integers(len(models))]
            suspects = [relabelled(one[i], rng, units) for i in rng.permutation(len(one))[:2]]
            base = other[rng.integers(len(other))]
        statistics.append(unit_draw(suspects, relabelled(base, rng, units), signed=signed))
    return Tosses.of(statistics)


def layer_null(
    models: Sequence[tuple[list[Layer], list[Layer]]], draws: int, units: int, seed: int
) -> dict[str, Tosses]:
    """Toss coins after layer alignment, for real models whose base is relabelled uniformly."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[np.ndarray]] = {"held out and sign": [], "searched": []}
    for _ in range(draws):
        one, other = models[rng.integers(len(models))]
        some = rng.permutation(one[0][0].shape[0])[:units]
        suspect = [tuple(part[some] for part in layer) for layer in one]
        tossed = layer_draw(suspect, [relabelled(layer, rng, units) for layer in other], rng)
        found["held out and sign"].append(np.concatenate([tossed["held out"], tossed["sign"]]))
        found["searched"].append(tossed["searched"])
    return {kind: Tosses.of(statistics) for kind, statistics in found.items()}


def mixture(base: Layer, other: Layer, share: float) -> Layer:
    """Mix two layers of unit vectors so that the cosine with the base is about ``share``."""
    parts = []
    for b, o in zip(base, other, strict=True):
        unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (b, o)]
        parts.append((share * unit[0] + np.sqrt(1 - share**2) * unit[1]).astype(np.float32))
    return tuple(parts)


def relatedness_table(base: list[Layer], other: list[Layer], child: list[Layer]) -> None:
    """Print the relatedness of equal and of other layers, units relabelled."""
    print("| suspect | by | layers that belong together | all others (largest) |\n|---|---|---|---|")
    rng = np.random.default_rng(3)
    cases: list[tuple[str, Callable[[int], Layer]]] = [
        ("independent", lambda i: other[i]),
        ("child", lambda i: child[i]),
    ]
    cases += [(f"share {s}", lambda i, s=s: mixture(base[i], other[i], s)) for s in (0.4, 0.3, 0.25, 0.2, 0.15)]
    for name, suspect in cases:
        for roles in ((0,), (0, 1, 2)):
            scores = np.empty((5, len(base), len(base)))
            for repeat, i, j in np.ndindex(*scores.shape):
                mine = relabelled(suspect(i), rng)
                arguments = [mine[r] for r in roles], [base[j][r] for r in roles]
                even = [ODD[r] for r in roles]
                scores[repeat, i, j] = relatedness(*arguments, even=even, sample=64, seed=int(rng.integers(1 << 30)))
            same = scores[:, np.eye(len(base), dtype=bool)]
            apart = scores[:, ~np.eye(len(base), dtype=bool)]
            by = "gate" if roles == (0,) else "gate, up, down"
            print(
                f"| {name} | {by} | {same.mean():.1f} (least {same.min():.1f}) "
                f"| {apart.mean():.1f} +- {apart.std():.1f} ({apart.max():.1f}) |"
            )


def unit_layer(units: int, dim: int, share: float) -> None:
    """Match one large layer, stored as bf16, by its gate and toss the sign coins of up and down; print the cost."""
    rng = np.random.default_rng(4)
    order = rng.permutation(units)
    sign = rng.choice(np.float32([-1, 1]), size=(units, 1))

    def stored(role: int) -> tuple[np.ndarray, np.ndarray]:
        base = np.empty((units, dim), ml_dtypes.bfloat16)
        suspect = np.empty_like(base)
        for rows in np.array_split(np.arange(units), 32):
            draw = rng.standard_normal((2, rows.shape[0], dim), dtype=np.float32)
            base[rows] = draw[0]
            kept = (share * draw[0] + np.sqrt(1 - share**2) * draw[1]) * (sign[rows] if ODD[role] else 1)
            suspect[np.argsort(order)[rows]] = kept
        return suspect, base

    roles = [stored(role) for role in range(3)]
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    start, used = time.perf_counter(), time.process_time()
    gate = [side.astype(np.float32) for side in roles[0]]
    match = match_units(gate[0], gate[1], even=False)
    del gate
    matched = time.perf_counter() - start
    heads = coins = 0
    for part in np.array_split(np.arange(match.base_rows.shape[0]), 16):
        mine = [roles[role][0][match.suspect_rows[part]].astype(np.float32) for role in (1, 2)]
        other = [roles[role][1][match.base_rows[part]].astype(np.float32) for role in (1, 2)]
        statistic = sign_statistics(mine, other, (True, True)) * sign[match.base_rows[part], 0]
        heads, coins = heads + int((statistic > 0).sum()), coins + int((statistic != 0).sum())
    right = float(np.mean(order[match.suspect_rows] == match.base_rows)) if coins else float("nan")
    print(
        f"{units:,} x {dim:,}, share {share}: matched {coins:,} ({right:.4f} rightly, dominant {match.dominant:.4f}) "
        f"in {matched:.1f} s; {heads:,} of {coins:,} coins heads; {time.perf_counter() - start:.1f} s in all "
        f"({time.process_time() - used:.1f} s of processor time); "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB, of it stored models {held:.2f} GB"
    )


def _row(name: str, tosses: Tosses) -> str:
    e = tosses.e_values
    error = e.std(ddof=1) / np.sqrt(e.shape[0])
    return (
        f"| {name} | {e.shape[0]:,} | {tosses.heads.sum():,} of {tosses.coins.sum():,} | {tosses.uniform():.2g} "
        f"| {e.mean():.3g} +- {error:.2g} | {e.max():.3g} |"
    )


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("null", "layers-null", "relatedness", "unit-layer"))
    parser.add_argument("--draws", type=int, default=10_000, help="draws of a null (default: 10000)")
    parser.add_argument("--units", type=int, default=64, help="units kept of a layer in a null (default: 64)")
    parser.add_argument("--seed", type=int, default=1, help="seed of a null")
    parser.add_argument("--share", type=float, default=0.5, help="share kept by the suspect of unit-layer")
    parser.add_argument("--size", default="14336,4096", help="units,dim of unit-layer")
    parser.add_argument("--child", type=Path, default=Path("examples/honest"), help="child of the first base")
    parser.add_argument(
        "pairs",
        nargs="*",
        default=["examples/liar,examples/base", "examples/liar,examples/twin"],
        metavar="SUSPECT,BASE",
        help="independent models with gated MLPs of one shape",
    )
    arguments = parser.parse_args()
    if arguments.what == "unit-layer":
        units, dim = (int(part) for part in arguments.size.split(","))
        unit_layer(units, dim, arguments.share)
        return
    paths = [tuple(Path(part) for part in pair.split(",", 1)) for pair in arguments.pairs]
    models = [(mlp_layers(suspect), mlp_layers(base)) for suspect, base in paths]
    if arguments.what == "relatedness":
        relatedness_table(models[0][1], models[0][0], mlp_layers(arguments.child))
        return
    print("| null | draws | heads | KS p | mean E | largest E |\n|---|---|---|---|---|---|")
    if arguments.what == "null":
        print(
            _row("matched sign-even", unit_null(models, arguments.draws, arguments.units, arguments.seed, signed=False))
        )
        broken = unit_null(models, min(200, arguments.draws), arguments.units, arguments.seed, signed=True)
        print(_row("matched by signs (broken)", broken))
    else:
        for kind, tosses in layer_null(models, arguments.draws, arguments.units, arguments.seed).items():
            print(_row(kind if kind != "searched" else "searched pairs (broken)", tosses))


if __name__ == "__main__":
    main()
