"""What fingerprints are worth: their answers against those of the weights, their size, and what making them costs.

``pairs`` compares all pairs of manifests in the form of the zoo's, in both orders, by weights and by fingerprints.
``costs`` makes fingerprints of models in the shapes of 1B to 70B parameters over a Hub on this machine; see
:mod:`benchmarks.sparse` for what of these models is real. ``structures`` changes a model in every way of
:mod:`benchmarks.derive` and in every quantised format. ``storages`` holds the fingerprints of one model, stored in many
ways, against each other. The tables are what ``docs/fingerprint.md`` quotes.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
    os.environ.pop(_name, None)
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import numpy as np  # noqa: E402

from benchmarks import sparse  # noqa: E402
from benchmarks.conversions import CONVERSIONS  # noqa: E402
from benchmarks.formats import ROLES, family  # noqa: E402
from benchmarks.synthetic import Shape  # noqa: E402
from lineage_plugin.api import compare  # noqa: E402
from lineage_plugin.checkpoint import open_checkpoint  # noqa: E402
from lineage_plugin.evidence.pair import PairEvidence  # noqa: E402
from lineage_plugin.fingerprint.compare import compare_fingerprints  # noqa: E402
from lineage_plugin.fingerprint.file import read_fingerprint, to_bytes  # noqa: E402
from lineage_plugin.fingerprint.make import fingerprint_of  # noqa: E402
from lineage_plugin.fingerprint.types import Fingerprint  # noqa: E402
from lineage_plugin.judge.relation import relation_of  # noqa: E402
from lineage_plugin.judge.types import Comparison  # noqa: E402
from lineage_plugin.options import Options  # noqa: E402
from tests.hub import LocalHub  # noqa: E402

OPTIONS = Options(fingerprints="off")
REPEATS = 20
TOKENIZER_BYTES = 9_085_698
"""Size of the ``tokenizer.json`` beside models of this vocabulary; nothing of it is read."""
SHAPES = {
    "1B": (Shape(16, 2048, 8192, 32, 8, 64, 128256), 1),
    "8B": (Shape(32, 4096, 14336, 32, 8, 128, 128256), 4),
    "70B": (Shape(80, 8192, 28672, 64, 8, 128, 128256), 30),
    "405B": (Shape(126, 16384, 53248, 128, 8, 128, 128256), 191),
}
"""Shapes and numbers of shards; matrices of the output are not tied to those of the input."""


@dataclass(frozen=True)
class Answer:
    """What a comparison said: relation, evidence and which layer of the base each of the suspect's is."""

    relation: str
    log10_e: float
    layers: Mapping[str, str | None]

    def right(self, truth: Sequence[int | None]) -> str:
        """Say how many layers are where the truth has them."""
        found = sum(self.layers.get(str(at)) == (None if of is None else str(of)) for at, of in enumerate(truth))
        return f"{found}/{len(truth)}"


def by_weights(suspect: Path, base: Path) -> Answer:
    """Compare two local models by their weights."""
    found: Comparison = compare(str(suspect), str(base), options=OPTIONS).comparisons[0]
    return Answer(found.relation, found.evidence.log10_e, {row.suspect: row.base for row in found.layers})


def by_fingerprints(suspect: Fingerprint, base: Fingerprint) -> Answer:
    """Compare two models by their fingerprints."""
    found: PairEvidence = compare_fingerprints(suspect, base, OPTIONS)
    relation, _ = relation_of(found, OPTIONS.bar)
    return Answer(relation, found.log10_e, {row.suspect: row.base for row in found.layers})


@functools.cache
def files(folder: Path) -> tuple[bytes, Fingerprint, Fingerprint]:
    """Return the file of a model's fingerprint, what it reads as, and the fingerprint as it was made."""
    made = fingerprint_of(open_checkpoint(str(folder), options=OPTIONS))
    written = to_bytes(made)
    return written, read_fingerprint(written, folder.name), made


def seconds(suspect: Fingerprint, base: Fingerprint) -> list[float]:
    """Return process times of comparing two fingerprints, the shortest first."""
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        compare_fingerprints(suspect, base, OPTIONS)
        taken.append(time.process_time() - start)
    return sorted(taken)


def table(columns: str, rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table, row by row."""
    names = columns.split(" | ")
    print(f"| {columns} |\n|{'---|' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


# Pairs --------------------------------------------------------------------------------------------------------------


def pairs(manifests: Sequence[Path]) -> None:
    """Compare every pair of some manifests by weights, by fingerprints, and by one of each."""
    counted: Counter[tuple[str, str, str]] = Counter()
    differ, ratios, times, made = [], [], [], set()
    loudest = -math.inf
    for manifest in manifests:
        for pair in json.loads(manifest.read_text())["pairs"]:
            folders = [manifest.parent / pair[side].split("/")[-1] for side in ("suspect", "base")]
            if not all((folder / "model.safetensors").is_file() for folder in folders):
                continue
            for suspect, base in (folders, folders[::-1]):
                made |= {suspect, base}
                weights = by_weights(suspect, base)
                answer = by_fingerprints(files(suspect)[1], files(base)[1])
                mixed = by_fingerprints(files(suspect)[1], files(base)[2])
                counted[pair["relation"], weights.relation, answer.relation] += 1
                times.append(seconds(files(suspect)[1], files(base)[1]))
                if pair["relation"] == "unrelated":
                    loudest = max(loudest, answer.log10_e)
                if weights.log10_e >= OPTIONS.bar:
                    ratios.append(answer.log10_e / weights.log10_e)
                if weights.relation != answer.relation or mixed != answer:
                    relations = (pair["relation"], weights.relation, answer.relation, mixed.relation)
                    evidence = [f"{found.log10_e:.1f}" for found in (weights, answer, mixed)]
                    differ.append((f"{suspect.name} on {base.name}", *relations, *evidence))
    table(
        "truth | by weights | by fingerprints | ordered pairs",
        [(*answers, count) for answers, count in sorted(counted.items())],
    )
    print(f"\nOrdered pairs that differ: {len(differ)}\n")
    if differ:
        columns = "pair | truth | weights | fingerprints | fingerprint and weights"
        table(f"{columns} | log10 E: weights | fingerprints | fingerprint and weights", differ)
    sizes = sorted(len(files(folder)[0]) for folder in made)
    best, middle = (sorted(taken[at] for taken in times) for at in (0, REPEATS // 2))
    print()
    table(
        "what | least | median | most",
        [
            ("bytes of a fingerprint", sizes[0], sizes[len(sizes) // 2], sizes[-1]),
            ("ms of a comparison, best of its repeats", *_spread(best)),
            ("ms of a comparison, median of its repeats", *_spread(middle)),
            ("log10 E over that of the weights, where these claim", *_spread(sorted(ratios), 1.0)),
        ],
    )
    print(f"\nlargest log10 E of an unrelated pair by fingerprints: {loudest:.1f}")


def _spread(ordered: Sequence[float], unit: float = 1e-3) -> tuple[str, ...]:
    if not ordered:
        return ("-",) * 3
    return tuple(f"{value / unit:.2f}" for value in (ordered[0], ordered[len(ordered) // 2], ordered[-1]))


# Costs --------------------------------------------------------------------------------------------------------------


def costs(names: Sequence[str], latency: float) -> None:
    """Make fingerprints over the Hub and print their size, and what was sent for them; then compare them."""
    rows, compared = [], []
    for name in names:
        shape, shards = SHAPES[name]
        made: dict[str, Fingerprint] = {}
        with tempfile.TemporaryDirectory() as scratch, LocalHub(scratch, fast_digests=True) as hub:
            options = Options(endpoint=hub.endpoint)
            for role in ROLES:
                folder = sparse.write(Path(scratch, "sparse", role), role, shape, shards, fingerprint_of)
                (folder / "tokenizer.json").write_bytes(b" " * TOKENIZER_BYTES)
                # The Hub takes its digests at the first look; the real one has them ready.
                open_checkpoint(f"sparse/{role}", options=options)
                hub.log.clear()
                hub.latency = latency
                start, busy = time.perf_counter(), time.process_time()
                checkpoint = open_checkpoint(f"sparse/{role}", options=options)
                opening = hub.log.requests()
                made[role] = fingerprint_of(checkpoint)
                wall, busy = time.perf_counter() - start, time.process_time() - busy
                hub.latency = 0.0
                if role == "base":
                    tensors, size = checkpoint.cost().tensor_bytes, checkpoint.cost().bytes_total
                    held = ", ".join(f"{s.kind} {s.held} x {len(s.layers)}" for s in made[role].shelves)
                    requests = f"{hub.log.requests()} ({opening})"
                    cells = (f"{size / 1e9:.0f}", len(to_bytes(made[role])), f"{hub.log.sent() / 1e6:.2f}")
                    rows.append((name, shards, *cells, f"{tensors / 1e6:.2f}", requests, f"{wall:.1f}", held))
        for suspect, base in (("child", "base"), ("base", "child"), ("twin", "base"), ("other", "base")):
            answer, taken = by_fingerprints(made[suspect], made[base]), seconds(made[suspect], made[base])
            times = f"{1e3 * taken[0]:.1f} / {1e3 * taken[REPEATS // 2]:.1f}"
            compared.append((name, f"{suspect} on {base}", answer.relation, f"{answer.log10_e:.1f}", times))
    columns = "model | shards | GB | bytes of the fingerprint | MB sent, all | MB of tensors | requests (to open)"
    table(f"{columns} | seconds | units x layers", rows)
    print()
    table("model | pair | relation | log10 E | ms, best / median", compared)


# Structures ---------------------------------------------------------------------------------------------------------


def structures(models: Mapping[str, Path]) -> None:
    """Change the base in every way there is, and compare the outcome with the base and with an unrelated model."""
    with tempfile.TemporaryDirectory() as scratch:
        table(
            "change | base, by weights | by fingerprints | log10 E | of the weights | layers right | of the weights | "
            "twin, by weights | by fingerprints | unrelated, by weights | by fingerprints",
            (_change_row(name, folder, layers, models) for name, folder, layers in _changed(Path(scratch), models)),
        )


def _change_row(
    name: str, folder: Path, layers: Sequence[int | None] | None, models: Mapping[str, Path]
) -> Sequence[str]:
    cells: list[str] = []
    for role in ("base", "twin", "other"):
        weights = by_weights(folder, models[role])
        answer = by_fingerprints(files(folder)[1], files(models[role])[1])
        mark = "" if weights.relation == answer.relation else " (!)"
        cells += [weights.relation, f"{answer.relation}{mark}"]
        if role == "base":
            cells += [f"{answer.log10_e:.1f}", f"{weights.log10_e:.1f}"]
            cells += ["-", "-"] if layers is None else [answer.right(layers), weights.right(layers)]
    return (name, *cells)


def _changed(scratch: Path, models: Mapping[str, Path]) -> Iterable[tuple[str, Path, Sequence[int | None] | None]]:
    """Yield name, folder and layers (None: each its own) of every changed model."""
    # Imported here: they need torch, which the rest does without.
    from benchmarks.derivations.layouts import read_model
    from benchmarks.derive import DERIVATIONS, Sources

    base, child, other = (read_model(models[role]) for role in ("base", "child", "other"))
    for name, entry in DERIVATIONS.items():
        if entry.make is None or name.startswith("merge"):
            continue
        folder = scratch / name
        try:
            made = entry.make(Sources(base, other, child, child), np.random.default_rng([7, zlib.crc32(name.encode())]))
        except (ValueError, ZeroDivisionError, KeyError) as error:
            print(f"left out: {name}: {error}")
            continue
        made.model.write(folder)
        layers = made.layers["base"]
        yield name, folder, layers
    for name, conversion in CONVERSIONS.items():
        if conversion.quantised and conversion.fits(models["base"]) and not conversion.missing():
            yield f"child, {name}", conversion(models["child"], scratch / name.replace(" ", "-")), None


# Storages -----------------------------------------------------------------------------------------------------------


def storages(model: Path) -> None:
    """Make fingerprints of one model, stored in many ways, and say in what they differ."""
    with tempfile.TemporaryDirectory() as scratch, LocalHub(scratch, mounts={"same/hub": model}) as hub:
        first = fingerprint_of(open_checkpoint(str(model), options=OPTIONS))
        found = {
            "once more": fingerprint_of(open_checkpoint(str(model), options=OPTIONS)),
            "over the Hub": fingerprint_of(open_checkpoint("same/hub", options=Options(endpoint=hub.endpoint))),
        }
        for name, conversion in CONVERSIONS.items():
            if not conversion.quantised and conversion.fits(model) and not conversion.missing():
                folder = conversion(model, Path(scratch, name.replace(" ", "-")))
                found[name] = fingerprint_of(open_checkpoint(str(folder), options=OPTIONS))
        table("storage | units, stream and anatomy | fields of the source that differ", _same(first, found))


def _same(first: Fingerprint, found: Mapping[str, Fingerprint]) -> Iterable[Sequence[str]]:
    for name, other in found.items():
        source = [
            f.name for f in fields(first.source) if getattr(first.source, f.name) != getattr(other.source, f.name)
        ]
        bits, roles = differences(first, other)
        said = "equal" if not bits and not roles else f"{bits} sign bits differ; {', '.join(roles) or 'all else equal'}"
        yield name, said, ", ".join(source) or "-"


def differences(one: Fingerprint, other: Fingerprint) -> tuple[int, list[str]]:
    """Return how many sign bits of two fingerprints of one model differ, and what else of their units does."""
    forms = [
        [(s.form, s.layers, [(t.role, t.dim, t.odd, t.bits.shape) for t in s.strips]) for s in side.shelves]
        for side in (one, other)
    ]
    if forms[0] != forms[1]:
        return 0, ["shelves"]
    bits, what = 0, []
    for mine, theirs in zip(one.shelves, other.shelves, strict=True):
        for a, b in zip(mine.strips, theirs.strips, strict=True):
            bits += int(np.unpackbits(a.bits ^ b.bits).sum())
            for name in ("energy", "axes", "strength"):
                if not np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True):
                    what.append(f"{name} of {mine.kind} {a.role}")
        what += [
            name for name in ("usable", "clone", "repeats") if (getattr(mine, name) != getattr(theirs, name)).any()
        ]
    if one.stream is not None and other.stream is not None:
        bits += int(np.unpackbits(one.stream.bits ^ other.stream.bits).sum())
    elif one.stream is not other.stream:
        what.append("stream")
    return bits, what


def main() -> None:
    """Do what is asked for and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(required=True, metavar="WHAT")
    task = tasks.add_parser("pairs", help="answers on pairs of known lineage")
    task.add_argument("manifests", nargs="+", type=Path, help="zoo.json or lab.json; models lie beside it")
    task.set_defaults(run=lambda a: pairs(a.manifests))
    task = tasks.add_parser("costs", help="bytes and requests over the Hub")
    task.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES))
    task.add_argument("--latency", type=float, default=0.05, help="seconds a request waits (default: 0.05)")
    task.set_defaults(run=lambda a: costs(a.only, a.latency))
    examples = Path(__file__).parents[1] / "examples"
    for name, run, does in (
        ("structures", structures, "changed structures and quantised models"),
        ("storages", lambda models: storages(models["base"]), "one model, stored in many ways"),
    ):
        task = tasks.add_parser(name, help=does)
        task.add_argument("--models", type=Path, default=examples, metavar="FOLDER", help="default: examples")
        task.add_argument("--names", nargs=4, metavar=("BASE", "CHILD", "TWIN", "OTHER"), help="the models in it")
        task.set_defaults(run=lambda a, run=run: run(family(a.models, a.names)))
    warnings.simplefilter("ignore")
    arguments = parser.parse_args()
    run: Callable[[argparse.Namespace], None] = arguments.run
    run(arguments)


if __name__ == "__main__":
    main()
