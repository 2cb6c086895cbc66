"""Are coins fair in every stage that searches before it tosses? Each stage as it is, on models relabelled uniformly.

In each draw the base's hidden units, heads and residual channels change places and signs by a uniform draw from its
symmetry group. Independence of labels then holds by construction, whatever the two models share, so two sources of
models are used: *independent* ones, and a *copy*, in which every search finds what it looks for. Models are cut down to
a few layers and units, so that a draw takes milliseconds.

Under the null most searches find nothing, and what tosses no coin proves nothing. Of independent models, therefore, the
stages are run *eager*, too: with the bars at zero, so that the best of all wrong answers is taken each time.

The traps are models that repeat or sort their own units *after* the labels were drawn. Each is run with the rule that
holds it off, and without (``broken``). Repeats are then seen to lift the mean e-value above 1. Sorting does so only
where large units point the same way in both models (``tests/evidence/test_ledger_rules.py``); in these it does not.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from threadpoolctl import threadpool_limits

from benchmarks.derivations import depth, experts
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.derivations.width import units_pruned
from benchmarks.scrubs import scrub
from lineage_plugin.checkpoint import Cost, FileInfo, Selection, TensorInfo
from lineage_plugin.evidence import basis, ledger, stage_layers, stage_units
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.frame import Frame, frame_of
from lineage_plugin.evidence.gather import gather
from lineage_plugin.evidence.models import Models, models_of
from lineage_plugin.evidence.stage_layers import align_by_layer
from lineage_plugin.evidence.stage_stream import find_basis, shared_tokens, toss_channels
from lineage_plugin.evidence.stage_units import align_by_unit
from lineage_plugin.judge.relation import is_decided
from lineage_plugin.options import Options

__all__ = ["STAGES", "TRAPS", "Draws", "Memory", "cut", "eager", "in_memory", "pair_of", "relabelled", "run_stages"]

ALPHAS = (0.5, 0.1, 0.01, 0.001)
"""Levels at which Ville's inequality is checked."""
EVERYTHING = ("signs", "permute", "residual")
UNITS_ALONE = ("signs", "permute")


class Memory:
    """A checkpoint whose tensors are arrays; satisfies :class:`lineage_plugin.checkpoint.Checkpoint`.

    Args:
        tensors: float32 arrays by name.
        config: Content of ``config.json``.
    """

    id, revision, local, format = "memory", None, True, "memory"
    files: Mapping[str, FileInfo] = {}
    weight_files: tuple[str, ...] = ()

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]], config: Mapping[str, Any]) -> None:
        self._arrays = dict(tensors)
        self.config: Mapping[str, object] = dict(config)
        self.tensors: Mapping[str, TensorInfo] = {
            name: TensorInfo(name, tuple(a.shape), "F32", "memory", 0, a.nbytes) for name, a in tensors.items()
        }

    def read(self, selections: Sequence[Selection]) -> list[NDArray[np.float32]]:
        """Return copies of the selected parts."""
        found = []
        for selection in selections:
            array = self._arrays[selection.tensor]
            columns = 1 if array.ndim <= 1 else array[0].size
            block = array.reshape(-1, selection.width if selection.width is not None else columns)
            block = block if selection.rows is None else block[selection.rows]
            block = block if selection.columns is None else block[:, selection.columns]
            found.append(np.array(block, dtype=np.float32))
        return found

    def text(self, name: str, limit: int = 1 << 20) -> str | None:
        """Return None: there are no files."""
        return None

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return None: there are no files."""
        return None

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return nothing: there are no files."""
        return {}

    def cost(self) -> Cost:
        """Return nothing: memory is free."""
        return Cost()


def cut(model: Model, layers: int, units: int, tokens: int) -> Model:
    """Return the first layers of a model, with the first units of each and the first token rows."""
    blocks = []
    for block in model.blocks()[:layers]:
        axes = {suffix: model.layout.block[suffix] for suffix in block}
        blocks.append(
            {
                suffix: array[tuple(slice(units) if kind == "unit" else slice(None) for kind in axes[suffix])]
                for suffix, array in block.items()
            }
        )
    outside = {
        name: array[:tokens] if model.layout.outside[name][0] == "token" else array
        for name, array in model.outside().items()
    }
    fewer = model.with_blocks(blocks, outside, units=min(units, model.size("units")))
    return Model(fewer.tensors, dict(fewer.config) | {"vocab_size": tokens})


def relabelled(model: Model, rng: np.random.Generator, which: Sequence[str] = EVERYTHING) -> Model:
    """Draw a relabelling from the symmetry group of a model and apply it."""
    tensors = scrub(model.tensors, model.config, which, int(rng.integers(1 << 62)))
    return Model({name: np.asarray(array, np.float32) for name, array in tensors.items()}, model.config)


def in_memory(suspect: Model, base: Model) -> Models:
    """Return both models as the stages take them."""
    return models_of(Memory(suspect.tensors, suspect.config), Memory(base.tensors, base.config))


def pair_of(names: str, layers: int = 2, units: int = 48, tokens: int = 64) -> tuple[Model, Model]:
    """Read ``SUSPECT,BASE`` and cut both down."""
    one, other = (cut(read_model(Path(part)), layers, units, tokens) for part in names.split(",", 1))
    return one, other


@contextlib.contextmanager
def eager(bar: float = 1e-6) -> Iterator[None]:
    """Let every search give its best answer, however poor: the bars are lowered to (nearly) nothing."""
    with _patched(
        (stage_layers, "LEAST_SCORE", bar),
        (stage_units, "LEAST_SCORE", bar),
        (basis, "CLEAR", -np.inf),
        (basis, "NEARLY", 1.0),
    ):
        yield


@contextlib.contextmanager
def _patched(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    before = [(place, name, getattr(place, name)) for place, name, _ in changes]
    for place, name, value in changes:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


Tossed = tuple[int, int, float]
"""Coins, heads, ``log10 E``."""


@dataclass(eq=False)
class Draws:
    """What one stage tossed in each draw."""

    coins: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    log10_e: list[float] = field(default_factory=list)

    def add(self, tossed: Tossed) -> None:
        """Add one draw."""
        self.coins.append(tossed[0])
        self.heads.append(tossed[1])
        self.log10_e.append(tossed[2])

    @property
    def e_values(self) -> NDArray[np.float64]:
        """The e-values; 1 where no coin was tossed."""
        return np.power(10.0, self.log10_e)

    @property
    def mean(self) -> tuple[float, float]:
        """Mean e-value and its standard error."""
        e = self.e_values
        return float(e.mean()), float(e.std(ddof=1) / np.sqrt(e.shape[0]))

    @property
    def tossed(self) -> float:
        """Share of the draws in which there were coins."""
        return float(np.mean(np.array(self.coins) > 0))

    def exceed(self, alpha: float) -> int:
        """Return how many draws reach ``1 / alpha``."""
        return int((self.e_values >= 1 / alpha).sum())

    def uniform(self) -> float | None:
        """P-value of the Kolmogorov-Smirnov test of the randomised binomial p-values; None without coins."""
        coins, heads = np.array(self.coins), np.array(self.heads)
        some = coins > 0
        if not some.any():
            return None
        rng = np.random.default_rng(0)
        p = stats.binom.sf(heads[some], coins[some], 0.5)
        p += rng.random(int(some.sum())) * stats.binom.pmf(heads[some], coins[some], 0.5)
        return float(stats.kstest(p, "uniform").pvalue)

    def row(self, name: str) -> str:
        """Return a line of the table."""
        mean, error = self.mean
        ks = self.uniform()
        over = " | ".join(f"{self.exceed(alpha) / len(self.coins):.4f}" for alpha in ALPHAS)
        return (
            f"| {name} | {len(self.coins):,} | {self.tossed:.2f} | {sum(self.heads):,} of {sum(self.coins):,} | "
            f"{'' if ks is None else f'{ks:.2f}'} | {mean:.3f} ± {error:.3f} | {over} |"
        )


HEADER = (
    "| stage | draws | with coins | heads | KS p | mean E | "
    + " | ".join(f"E >= {1 / alpha:g}" for alpha in ALPHAS)
    + " |\n|"
    + "---|" * (6 + len(ALPHAS))
)

NOTHING: Tossed = (0, 0, 0.0)


def _of_count(coins: int, heads: int) -> Tossed:
    return coins, heads, log10_e_value(heads, coins)


def _frame(models: Models, options: Options) -> Frame | None:
    tokens = shared_tokens(models)
    found = None if tokens is None else find_basis(models, tokens, options)
    if found is None:
        return None
    return frame_of(found, ((models.suspect, models.suspect_anatomy), (models.base, models.base_anatomy)))


def toss_layers(models: Models, options: Options, frame: Frame | None = None) -> Tossed:
    """Align layers and toss the coins of the units that the search did not look at."""
    stage = align_by_layer(models, options, frame)
    found = None if stage is None else stage.tally.evidence(options, complete=True, describe=False)
    return NOTHING if found is None else (found.count.coins, found.count.heads, found.log10_e)


def toss_units(models: Models, options: Options, frame: Frame | None = None) -> Tossed:
    """Match units and toss the sign coins of what they write."""
    stage = align_by_unit(models, options, frame)
    found = None if stage is None else stage.tally.evidence(options, complete=True, describe=False)
    return NOTHING if found is None else (found.count.coins, found.count.heads, found.log10_e)


def toss_stream(models: Models, options: Options, *, matched: bool) -> Tossed:
    """Toss the coins of the channels, in stored order or matched."""
    tokens = shared_tokens(models)
    ways = () if tokens is None else toss_channels(models, tokens, options)
    # Without a sign symmetry nothing is matched.
    if len(ways) < 2:
        return NOTHING if matched or not ways else _of_count(ways[0].count.coins, ways[0].count.heads)
    count = ways[1 if matched else 0].count
    return _of_count(count.coins, count.heads)


def toss_in_basis(models: Models, options: Options, *, toss: Callable[..., Tossed]) -> Tossed:
    """Recover the basis, then toss in it."""
    frame = _frame(models, options)
    return NOTHING if frame is None else toss(models, options, frame)


def toss_everything(models: Models, options: Options) -> Tossed:
    """Gather as a comparison does: the stored order until it decides, then all stages that are needed."""
    found = gather(models, options, partial(is_decided, bar=options.bar))
    count = found.count
    # The coins of all stages hang together: only their weighted average has a law that is known.
    return count.coins, count.heads, found.log10_e


STAGES: Mapping[str, Callable[[Models, Options], Tossed]] = {
    "layers": toss_layers,
    "units": toss_units,
    "channels": partial(toss_stream, matched=False),
    "channels matched": partial(toss_stream, matched=True),
    "basis, layers": partial(toss_in_basis, toss=toss_layers),
    "basis, units": partial(toss_in_basis, toss=toss_units),
    "escalate": toss_everything,
}
"""Every stage, and the weighted average of all."""

TABLES: Sequence[tuple[str, Sequence[str], Sequence[str], bool]] = (
    ("independent, eager", EVERYTHING, tuple(STAGES), True),
    ("independent", EVERYTHING, ("escalate",), False),
    ("copies", EVERYTHING, ("channels", "channels matched", "basis, units", "escalate"), False),
    # In the stored basis the units of a copy are found, too; its channels are then no null.
    ("copies, units alone", UNITS_ALONE, ("units", "basis, units"), False),
)
"""Title, relabelling, stages, whether eager."""

BAR = 2.0
"""Bar of the runs of ``escalate``: the lowest that is allowed, so that stages are skipped and descriptions made."""


def run_stages(
    pair: tuple[Model, Model],
    draws: int,
    *,
    which: Sequence[str] = EVERYTHING,
    stages: Sequence[str] = tuple(STAGES),
    seed: int = 0,
) -> dict[str, Draws]:
    """Run stages on many relabellings of the base.

    Args:
        pair: Suspect and base.
        draws: How many relabellings.
        which: Scrubs of :mod:`benchmarks.scrubs` that make up the relabelling.
        stages: Names in :data:`STAGES`.
        seed: Seed of the relabellings; the seed of the stages' own draws is the number of the draw.

    Returns:
        What each stage tossed.
    """
    rng = np.random.default_rng(seed)
    found = {name: Draws() for name in stages}
    with threadpool_limits(limits=1):
        for number in range(draws):
            models = in_memory(pair[0], relabelled(pair[1], rng, which))
            options = Options(bar=BAR, seed=number)
            for name in stages:
                found[name].add(STAGES[name](models, options))
    return found


def _upscaled(model: Model, rng: np.random.Generator) -> Model:
    """Every layer four times, each copy changed a little, as further training does."""
    order = [n for n in range(model.size("depth")) for _ in range(4)]
    return _nudged(depth.arranged(model, order, rng)[0], rng)


def _upcycled(model: Model, rng: np.random.Generator) -> Model:
    return experts.upcycled(model, 0.1, rng)


def _sorted(model: Model, rng: np.random.Generator) -> Model:
    return units_pruned(model, 1.0, sort=True)


def _nudged(model: Model, rng: np.random.Generator) -> Model:
    def noisy(a: NDArray[np.float32]) -> NDArray[np.float32]:
        size = 0.2 * np.sqrt(np.mean(np.square(a)))
        return np.asarray(a + size * rng.standard_normal(a.shape, dtype=np.float32), np.float32)

    return model.with_tensors({n: noisy(a) for n, a in model.tensors.items() if a.ndim == 2})


def _no_classes(groups: Sequence[object], *_: object) -> NDArray[np.int64]:
    return np.arange(len(groups), dtype=np.int64)


TRAPS: Mapping[str, tuple[Callable[[Model, np.random.Generator], Model], tuple[Any, str, Any]]] = {
    "upscaled": (_upscaled, (ledger, "repeat_classes", _no_classes)),
    "upcycled": (_upcycled, (ledger, "repeat_classes", _no_classes)),
    "sorted": (_sorted, (ledger, "is_sorted", lambda scores: False)),
}
"""What is done to both models after the labels were drawn, and what is taken away to see the rule at work."""


def run_trap(
    name: str, pair: tuple[Model, Model], draws: int, *, stages: Sequence[str], broken: bool = False, seed: int = 0
) -> dict[str, Draws]:
    """Run stages on models that repeat or sort their units.

    Args:
        name: A key of :data:`TRAPS`.
        pair: Suspect and base, as they were before.
        draws: How many relabellings of the base; the suspect is changed once.
        stages: Names in :data:`STAGES`.
        broken: Whether the rule is taken away.
        seed: Seed of the relabellings.

    Returns:
        What each stage tossed.
    """
    change, rule = TRAPS[name]
    rng = np.random.default_rng(seed)
    suspect = change(pair[0], rng)
    found = {stage: Draws() for stage in stages}
    with _patched(*([rule] if broken else [])), threadpool_limits(limits=1):
        for number in range(draws):
            # Labels first, then the change: what repeats or is sorted afterwards hangs on them.
            base = change(relabelled(pair[1], rng), rng)
            models = in_memory(suspect, base)
            for stage in stages:
                found[stage].add(STAGES[stage](models, Options(bar=BAR, seed=number)))
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000, help="relabellings in all for each table (default: 10000)")
    parser.add_argument("--copies", nargs="*", default=["examples/honest,examples/base"], metavar="SUSPECT,BASE")
    parser.add_argument(
        "--traps", type=int, default=1000, help="relabellings for each trap; 0 for none (default: 1000)"
    )
    parser.add_argument("--only", nargs="*", choices=STAGES, default=list(STAGES), help="stages (default: all)")
    parser.add_argument(
        "pairs",
        nargs="*",
        default=["examples/liar,examples/base", "examples/liar,examples/twin"],
        metavar="SUSPECT,BASE",
        help="independent models of the layouts of benchmarks/derivations",
    )
    arguments = parser.parse_args()
    with threadpool_limits(limits=1):
        for title, which, every, all_in in TABLES:
            stages = [name for name in every if name in arguments.only]
            pairs = arguments.copies if title.startswith("copies") else arguments.pairs
            total = {name: Draws() for name in stages}
            for number, names in enumerate(pairs):
                with eager() if all_in else contextlib.nullcontext():
                    count = max(1, arguments.draws // len(pairs))
                    found = run_stages(pair_of(names), count, which=which, stages=stages, seed=number)
                for name, drawn in found.items():
                    for tossed in zip(drawn.coins, drawn.heads, drawn.log10_e, strict=True):
                        total[name].add(tossed)
            if not stages:
                continue
            print(f"\n{title} ({', '.join(pairs)})\n\n{HEADER}")
            for name, drawn in total.items():
                print(drawn.row(name), flush=True)
        if not arguments.traps:
            return
        print(f"\ntraps ({arguments.pairs[0]})\n\n{HEADER}")
        for trap in TRAPS:
            for broken in (False, True):
                with eager():
                    found = run_trap(
                        trap,
                        pair_of(arguments.pairs[0], units=32),
                        arguments.traps,
                        stages=("escalate", "layers", "units"),
                        broken=broken,
                    )
                for name, drawn in found.items():
                    print(drawn.row(f"{trap}{', broken' if broken else ''}: {name}"), flush=True)


if __name__ == "__main__":
    main()
