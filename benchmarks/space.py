"""Twenty visitors ask twenty different questions at once: answers, seconds and memory of the pages' workers.

Models have the shapes of 8B and 70B parameters (16 and 141 GB) and lie on a Hub on this machine with a delay on every
request; they are files with holes, in which only the rows that a comparison reads are data. The desk answers with its
default limits; then everybody asks again, which the kept answers serve. Memory is the largest sum of the proportional
set sizes (Linux: a page shared by several processes counts once) of this process's children, the workers, and of a
process that holds nothing but the desk.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import islice, permutations, zip_longest
from pathlib import Path
from typing import Any

for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
    os.environ.pop(_name, None)
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks import sparse  # noqa: E402
from benchmarks.fingerprints import SHAPES  # noqa: E402
from benchmarks.synthetic import gain  # noqa: E402
from lineage_plugin.checkpoint import Checkpoint, Selection, open_checkpoint  # noqa: E402
from lineage_plugin.checkpoint.wrapped import Wrapped  # noqa: E402
from lineage_plugin.evidence.gather import gather  # noqa: E402
from lineage_plugin.evidence.models import models_of  # noqa: E402
from lineage_plugin.judge.relation import is_decided  # noqa: E402
from lineage_plugin.options import DEFAULT_BAR, Options  # noqa: E402
from lineage_plugin.web.desk import Desk, Ticket  # noqa: E402
from lineage_plugin.web.jobs import Failed, Job  # noqa: E402
from lineage_plugin.web.settings import Settings  # noqa: E402
from tests.hub import LocalHub  # noqa: E402

Array = NDArray[Any]

ROLES = ("base", "child", "sibling", "other")
"""Two children of the base, and a model of another random start."""
RANK = 8


class Drawn(Wrapped):
    """A model of which every row is drawn when it is read, and noted.

    As in :mod:`benchmarks.synthetic` a model is a random start and what it learned; but each row has a seed of its own,
    so that it is the same whatever is read beside it.

    Args:
        checkpoint: Has the names and shapes.
        role: One of ``ROLES``.
    """

    local = False  # type: ignore[assignment]  # read as sparingly as over the Hub

    def __init__(self, checkpoint: Checkpoint, role: str) -> None:
        super().__init__(checkpoint)
        self.rows: dict[str, dict[int, Array]] = {}
        self._role = role
        self._numbers = {name: number for number, name in enumerate(checkpoint.tensors)}

    def read(self, selections: Sequence[Selection]) -> list[Array]:
        """Return the selected parts."""
        found = []
        for part in selections:
            extents = self.tensors[part.tensor].shape
            kept = self.rows.setdefault(part.tensor, {})
            if len(extents) == 1:
                kept[0] = gain(self._role, self._numbers[part.tensor], extents[0]).astype(ml_dtypes.bfloat16)
                whole = kept[0].astype(np.float32)[:, None]
                found.append(whole if part.rows is None else whole[part.rows])
                continue
            rows = range(extents[0]) if part.rows is None else part.rows.tolist()
            for row in rows:
                if row not in kept:
                    kept[row] = self._row(self._numbers[part.tensor], row, extents[1]).astype(ml_dtypes.bfloat16)
            values = np.stack([kept[row] for row in rows]).astype(np.float32)
            found.append(values if part.columns is None else values[:, part.columns])
        return found

    def _row(self, tensor: int, row: int, width: int) -> Array:
        start = 2 if self._role == "other" else 1
        learned = 3 if self._role == "other" else 5
        values = _noise(start, tensor, row, width) + _learned(learned, tensor, row, width)
        if self._role in ("child", "sibling"):
            own = 6 + 2 * ROLES.index(self._role)
            values += 0.5 * _learned(own, tensor, row, width) + 0.3 * _noise(own + 1, tensor, row, width)
        return np.asarray(values)

    def write(self, folder: Path) -> None:
        """Write the rows that were read to the files."""
        for name, rows in self.rows.items():
            info = self.tensors[name]
            with (folder / info.file).open("r+b") as out:
                for row, values in rows.items():
                    out.seek(info.offset + row * values.nbytes)
                    out.write(values.view(np.uint8).data)


def _noise(seed: int, tensor: int, row: int, width: int) -> Array:
    return np.float32(0.02) * np.random.default_rng([seed, tensor, row]).standard_normal(width, dtype=np.float32)


def _learned(seed: int, tensor: int, row: int, width: int) -> Array:
    rng = np.random.default_rng([seed, tensor, row, 1])
    loadings = rng.standard_normal(RANK, dtype=np.float32) * np.float32(rng.gamma(1.0) * 0.02 / np.sqrt(RANK))
    return np.asarray(loadings @ _directions(seed, tensor, width))


@cache
def _directions(seed: int, tensor: int, width: int) -> Array:
    return np.random.default_rng([seed, tensor]).standard_normal((RANK, width), dtype=np.float32)


def write_models(root: Path, name: str) -> None:
    """Write the models of one shape, as ``<name>/<role>``, with the rows that comparing any two of them reads."""
    shape, shards = SHAPES[name]
    drawn = {}
    for role in ROLES:
        folder = sparse.write(root / name / role, role, shape, shards, lambda checkpoint: None)
        drawn[role] = Drawn(open_checkpoint(str(folder), options=Options()), role)
    for suspect, base in permutations(ROLES, 2):
        gather(models_of(drawn[suspect], drawn[base]), Options(), partial(is_decided, bar=DEFAULT_BAR))
    for role in ROLES:
        drawn[role].write(root / name / role)
    _directions.cache_clear()


def questions(shapes: Sequence[str], visitors: int) -> list[Job]:
    """Return different questions, of all shapes in turn."""
    pairs = [[Job("compare", (f"{name}/{a}", f"{name}/{b}")) for a, b in permutations(ROLES, 2)] for name in shapes]
    mixed: Iterator[Job] = (job for jobs in zip_longest(*pairs) for job in jobs if job is not None)
    return list(islice(mixed, visitors))


def proportional(pid: int) -> int:
    """Return the proportional set size of a process and all that it has started, in bytes; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        below = Path(f"/proc/{pid}/task/{pid}/children")
        started = [
            int(child) for task in below.parents[1].iterdir() for child in (task / "children").read_text().split()
        ]
    except OSError:
        return 0
    own = next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return own + sum(proportional(child) for child in started)


def serve(endpoint: str, cache_folder: Path, jobs: Sequence[Job]) -> None:
    """Ask all questions at once, twice, and print what came of it, a JSON line a round."""
    with Desk(Settings(endpoint=endpoint, cache=cache_folder)) as desk:
        for _ in range(2):
            start = time.perf_counter()
            tickets: dict[int, Ticket] = {
                number: desk.ask(job, visitor=f"visitor {number}") for number, job in enumerate(jobs)
            }
            seconds: list[float] = []
            relations: dict[str, str] = {}
            kept = 0
            most = 0
            while tickets:
                for number, ticket in list(tickets.items()):
                    most = max(most, ticket.update().bytes_read)
                    try:
                        answer = ticket.answer()
                    except Failed as failed:
                        relations[" ".join(jobs[number].models)] = f"{failed.why}: {failed.message}"
                    else:
                        if answer is None:
                            continue
                        kept += answer.kept
                        relations[" ".join(jobs[number].models)] = answer.result.comparisons[0].relation  # type: ignore[union-attr]
                        seconds.append(time.perf_counter() - start)
                    del tickets[number]
                time.sleep(0.02)
            said = {"answered": len(seconds), "first": min(seconds, default=0.0), "kept": kept, "bytes": most}
            print(json.dumps({**said, "all": time.perf_counter() - start, "relations": relations}), flush=True)


def measure(endpoint: str, scratch: Path, jobs: Sequence[Job]) -> None:
    """Run the desk in a process of its own and print what it says and the most memory it took."""
    asked = json.dumps([job.models for job in jobs])
    command = [sys.executable, "-m", "benchmarks.space", "--serve", endpoint, str(scratch / "answers"), asked]
    peak, wrong = 0, 0
    with (scratch / "said").open("w+") as said, subprocess.Popen(command, stdout=said) as process:
        while process.poll() is None:
            peak = max(peak, proportional(process.pid))
            time.sleep(0.1)
        said.seek(0)
        rounds = [json.loads(line) for line in said]
    if process.returncode or len(rounds) != 2:
        raise SystemExit("the desk failed")
    print("| round | visitors | answered | from the cache | first, s | all, s | most MB read for one |")
    print("|---|---|---|---|---|---|---|")
    for name, one in zip(("new", "again"), rounds, strict=True):
        times = f"{one['first']:.1f} | {one['all']:.1f}"
        print(f"| {name} | {len(jobs)} | {one['answered']} | {one['kept']} | {times} | {one['bytes'] / 1e6:.1f} |")
    for pair, relation in rounds[0]["relations"].items():
        expected = "unrelated" if "other" in pair else "derived"
        if relation != expected:
            wrong += 1
            print(f"{pair}: {relation}, not {expected}")
    print(f"\nwrong answers: {wrong}; peak of the desk and its workers together: {peak / 1e6:.0f} MB")


def main() -> None:
    """Write, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20, help="questions at once (default: 20, at most 24)")
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=["8B", "70B"], metavar="SHAPE", help="shapes")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request waits (default: 0.05)")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        endpoint, folder, asked = arguments.serve
        serve(endpoint, Path(folder), [Job("compare", tuple(models)) for models in json.loads(asked)])
        return
    with tempfile.TemporaryDirectory() as name, LocalHub(Path(name, "hub"), fast_digests=True) as hub:
        hub.root.mkdir()
        for shape in arguments.only:
            write_models(hub.root, shape)
            for role in ROLES:
                # The Hub takes its digests at the first look; the real one has them ready.
                open_checkpoint(f"{shape}/{role}", options=Options(endpoint=hub.endpoint))
        hub.latency = arguments.latency
        measure(hub.endpoint, Path(name), questions(arguments.only, arguments.visitors))


if __name__ == "__main__":
    main()
