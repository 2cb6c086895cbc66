"""Search among 100,000 fingerprints: is the base found, is nothing else claimed, how long, and how much memory.

The registry is synthetic (``benchmarks/population.py``): models of a few popular shapes, three in ten made of others,
and the bases of 500 planted models, which are asked for: fine-tuned, changed in depth, up-scaled, quantised, with
pruned MLPs, turned into experts or with a new vocabulary, keeping a cosine of 0.3 to 0.99. Then models are asked for
whose whole families are in the registry, and a thousand that have no relative there. What is called a claim has an
e-value above the bar after it was divided by the number of entries: the code picked the candidates from all of them.

With ``--registry`` the entries are in a registry on disk, and candidates are fetched from there. Those that are not
planted have no more in it than codes are made of, 5 KB instead of up to 100: a hundred thousand whole ones are 6 GB.
What a candidate's coins need is then made while no time is taken.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.population import KINDS, SHAPES, Model, descendant, ends_of, fingerprint_of, founder, layers_of
from lineage_plugin.fingerprint.code import CODE_BYTES, search_code
from lineage_plugin.fingerprint.compare import compare_fingerprints
from lineage_plugin.fingerprint.file import read_fingerprint, to_bytes
from lineage_plugin.fingerprint.registry.catalogue import Catalogue
from lineage_plugin.fingerprint.registry.entries import entry_of
from lineage_plugin.fingerprint.registry.index import EXACT, Index
from lineage_plugin.fingerprint.registry.store import Registry
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.options import Options

__all__ = ["Answer", "planted", "population"]

ByteArray = NDArray[np.uint8]

ENTRIES, PLANTED, MEMBERS, STRANGERS = 100_000, 500, 200, 1000
SIZES = (1_000, 10_000, 100_000)
LARGE = (1_000_000, 2_000_000)
MOST = 4
"""Candidates whose coins are tossed."""
FAMILIES = 2_000
"""Models that have descendants: few have most of them."""
PLANTED_KINDS = {
    "fine-tuned": 200,
    "depth changed": 150,
    "up-scaled": 25,
    "quantised": 75,
    "MLP pruned": 20,
    "experts": 10,
    "new vocabulary": 20,
}


@dataclass
class Answer:
    """What became of some queries.

    Attributes:
        first: Queries whose first candidate, by score, was right.
        found: Queries whose relative was among the candidates.
        told: Queries whose relative had the highest e-value, above the bar.
        false: Claims about models that are no relatives.
        candidates: Number of candidates of each query.
        search: Seconds of each search by code.
        whole: Seconds of search, fetching and coins.
        missed: What was not told, in words.
    """

    first: int = 0
    found: int = 0
    told: int = 0
    false: int = 0
    candidates: list[int] = field(default_factory=list)
    search: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def population(entries: int, seed: int) -> tuple[list[Model], list[Model]]:
    """Return the models of a registry, the bases of the planted ones first, and those that have descendants in it."""
    rng = np.random.default_rng(seed)
    shares = np.array([shape.share for shape in SHAPES])
    shapes = rng.choice(len(SHAPES), size=entries, p=shares / shares.sum())
    models = [founder(1 + at, SHAPES[shapes[at]]) for at in range(entries * 7 // 10)]
    heads = models[PLANTED : PLANTED + min(FAMILIES, len(models) // 4)]
    members = list(heads)
    popular = 1.0 / np.arange(1, len(heads) + 1)
    while len(models) < entries:
        # A descendant of a popular base, or of one of the models that were made of it.
        if rng.random() < 0.7:
            parent = heads[rng.choice(len(heads), p=popular / popular.sum())]
        else:
            parent = members[rng.integers(len(members))]
        kind = rng.choice(["fine-tuned", "quantised", "depth changed"], p=[0.8, 0.15, 0.05])
        kept = float(np.clip(1 - rng.exponential(0.05), 0.3, 0.9999))
        models.append(descendant(1 + len(models), parent, str(kind), kept))
        members.append(models[-1])
    return models, members


def planted(bases: Sequence[Model], seed: int) -> list[Model]:
    """Return a descendant of each of some bases; of every kind the share kept is spread evenly over 0.3 to 0.99."""
    rng = np.random.default_rng([seed, 1])
    kinds = [kind for kind in KINDS for _ in range(PLANTED_KINDS[kind])]
    kept = np.concatenate([np.linspace(0.3, 0.99, PLANTED_KINDS[kind]) for kind in KINDS])
    order = rng.permutation(len(kinds))
    found = []
    for at, base in zip(order.tolist(), bases, strict=True):
        share = float(1 - 0.1 * (1 - kept[at])) if kinds[at] == "quantised" else float(kept[at])
        found.append(descendant(10_000_000 + base.number, base, kinds[at], share))
    return found


def codes_of(models: Sequence[Model]) -> ByteArray:
    """Return the codes of some models."""
    codes = np.empty((len(models), CODE_BYTES), dtype=np.uint8)
    for at, model in enumerate(models):
        codes[at] = search_code(ends_of(model))
    return codes


def ask(
    index: Index,
    models: Sequence[Model],
    queries: Sequence[Model],
    right: Callable[[Model, Model], bool],
    fetch: Fetch,
    most: int,
) -> Answer:
    """Search for some models and toss the coins of the candidates."""
    answer, options = Answer(), Options()
    bar = options.bar + np.log10(len(index))
    for model in queries:
        query = fingerprint_of(model)
        start = time.perf_counter()
        candidates = index.candidates(query, most)
        middle = time.perf_counter()
        rows = [candidate.row for candidate in candidates]
        fetch.prepare(rows)
        ready = time.perf_counter()
        found = fetch(rows)
        told = [(compare_fingerprints(query, of, options).log10_e, row) for of, row in zip(found, rows, strict=True)]
        answer.whole.append(time.perf_counter() - ready + middle - start)
        answer.search.append(middle - start)
        answer.candidates.append(len(candidates))
        relatives = [right(model, models[c.row]) for c in candidates]
        answer.first += bool(relatives and relatives[0])
        answer.found += any(relatives)
        answer.false += sum(e >= bar and not right(model, models[row]) for e, row in told)
        highest = max(told, default=(0.0, -1))
        if highest[0] >= bar and right(model, models[highest[1]]):
            answer.told += 1
        elif model.change is not None:
            score = candidates[0].score if candidates else 0.0
            answer.missed.append(
                f"{model.change.kind}, kept {model.change.kept:.2f}, {model.shape.name}: {any(relatives)} {score:.1f}"
                f" {model.change.layers}"
            )
    return answer


def _base(query: Model, entry: Model) -> bool:
    return query.parent is entry


def _relative(query: Model, entry: Model) -> bool:
    return query.founder is entry.founder


class Fetch:
    """Reads fingerprints of entries, from memory or from a registry.

    Args:
        models: The entries.
        stored: Where the registry is, and what it holds; None: nowhere.
    """

    def __init__(self, models: Sequence[Model], stored: tuple[Registry, Catalogue] | None) -> None:
        self._models = models
        self._stored = stored
        self._whole: dict[int, bytes] = {}

    def prepare(self, rows: Sequence[int]) -> None:
        """Make the whole fingerprints of some entries."""
        for row in rows:
            if row not in self._whole:
                self._whole[row] = to_bytes(fingerprint_of(self._models[row]))

    def __call__(self, rows: Sequence[int]) -> list[Fingerprint]:
        """Fetch and read the fingerprints of some entries."""
        if self._stored is not None and rows:
            registry, catalogue = self._stored
            assert all(registry.fetch(catalogue, rows))
        return [read_fingerprint(self._whole[row], str(row)) for row in rows]


def stored_in(folder: Path, models: Sequence[Model]) -> tuple[Registry, Catalogue]:
    """Write some models into a registry, unless they are there already; the first ones whole."""
    registry = Registry.open(folder, create=True)
    if len(registry) < len(models):
        makers = [fingerprint_of if at < PLANTED else ends_of for at in range(len(models))]
        registry.add(entry_of(to_bytes(make(of)), "entry") for make, of in zip(makers, models, strict=True))
    return registry, registry.codes()


def _print(name: str, asked: int, answer: Answer) -> None:
    times = [f"{1e3 * at(of):8.1f}" for of in (answer.search, answer.whole) for at in (np.median, _slowest)]
    print(
        f"{name:24} {asked:6} {answer.first:6} {answer.found:6} {answer.told:6} {answer.false:6} "
        f"{np.mean(answer.candidates):6.2f} {max(answer.candidates):4} " + " ".join(times),
        flush=True,
    )
    for line in answer.missed:
        print("    missed:", line)


def _slowest(seconds: Sequence[float]) -> float:
    return float(np.percentile(seconds, 99))


def _growth(
    codes: ByteArray, queries: Sequence[tuple[Model, int]], sizes: Sequence[int], exact: int, seed: int
) -> None:
    """Print time and memory of the search by code, and how often the planted base stays first, at several sizes."""
    rng = np.random.default_rng([seed, 2])
    asked = [(layers_of(model), row) for model, row in queries]
    print(f"\n{'entries':>10} {'ms':>8} {'99%':>8} {'bytes':>8} {'first':>8} {'load s':>8}")
    for size in sizes:
        held = np.empty((size, CODE_BYTES), dtype=np.uint8)
        held[: len(codes)] = codes[:size]
        for start in range(len(codes), size, 1 << 16):
            part = held[start : start + (1 << 16)]
            part[:] = rng.integers(0, 256, size=part.shape, dtype=np.uint8)
        start_time = time.perf_counter()
        index = Index(held, exact)
        load = time.perf_counter() - start_time
        del held
        seconds, first = [], 0
        for query, row in asked:
            begin = time.perf_counter()
            candidates = index.candidates(query, MOST)
            seconds.append(time.perf_counter() - begin)
            first += bool(candidates) and candidates[0].row == row
        print(
            f"{size:10,} {1e3 * np.median(seconds):8.1f} {1e3 * _slowest(seconds):8.1f} "
            f"{index.nbytes / size:8.0f} {first:4}/{len(asked)} {load:8.2f}",
            flush=True,
        )


def main() -> None:
    """Build the registry, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--entries", type=int, default=ENTRIES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=MOST, help="candidates whose coins are tossed")
    parser.add_argument(
        "--large", action="store_true", help="also search among 1 and 2 million entries (4 GB of memory)"
    )
    parser.add_argument("--codes", type=Path, help="file that keeps the codes from one run to the next")
    parser.add_argument("--registry", type=Path, help="folder of a registry that holds the entries; made if need be")
    parser.add_argument("--no-coins", action="store_true", help="leave out the coins: growth and large registries only")
    args = parser.parse_args()

    models, members = population(args.entries, args.seed)
    queries, stored = planted(models[:PLANTED], args.seed), None
    if args.registry is not None:
        stored = stored_in(args.registry, models)
        codes, named = stored[1].codes, {f"lab/{model.number}": model for model in models}
        models = [named[stored[1].key(row).id] for row in range(len(codes))]
    elif args.codes is not None and args.codes.exists():
        codes = np.load(args.codes)
    else:
        codes = codes_of(models)
        if args.codes is not None:
            np.save(args.codes, codes)
    index = Index(codes)
    print(f"{len(index):,} entries, {index.nbytes / len(index):.0f} bytes each, {args.most} candidates at most\n")
    if not args.no_coins:
        print(f"{'queries':24} {'asked':>6} {'first':>6} {'found':>6} {'told':>6} {'false':>6} ", end="")
        print(f"{'cand.':>6} {'most':>4} {'search':>8} {'99% ms':>8} {'whole':>8} {'99% ms':>8}")
        fetch = Fetch(models, stored)
        for kind in KINDS:
            some = [model for model in queries if model.change is not None and model.change.kind == kind]
            _print(f"planted, {kind}", len(some), ask(index, models, some, _base, fetch, args.most))
        rng = np.random.default_rng([args.seed, 3])
        parents = [members[at] for at in rng.integers(len(members), size=MEMBERS)]
        kept = rng.uniform(0.3, 0.99, size=MEMBERS)
        relatives = [
            descendant(20_000_000 + at, parent, str(rng.choice(KINDS)), float(kept[at]))
            for at, parent in enumerate(parents)
        ]
        _print("of families", MEMBERS, ask(index, models, relatives, _relative, fetch, args.most))
        shapes = rng.choice(len(SHAPES), size=STRANGERS, p=[shape.share for shape in SHAPES])
        strangers = [founder(30_000_000 + at, SHAPES[shape]) for at, shape in enumerate(shapes)]
        _print("strangers", STRANGERS, ask(index, models, strangers, _relative, fetch, args.most))
    sizes = [size for size in SIZES if size <= args.entries]
    rows = {model.number: row for row, model in enumerate(models)}
    asked = [(query, rows[query.parent.number]) for query in queries if query.parent is not None]
    # Planted entries come first, so that the smaller registries hold them, too.
    first = np.array([row for _, row in asked])
    codes = np.concatenate([codes[first], np.delete(codes, first, axis=0)])
    asked = [(query, row) for row, (query, _) in enumerate(asked)]
    _growth(codes, asked, sizes, EXACT, args.seed)
    print("\nAll alignments of all entries:")
    _growth(codes, asked, sizes, args.entries, args.seed)
    if args.large:
        _growth(codes, asked, LARGE, EXACT, args.seed)


if __name__ == "__main__":
    main()
