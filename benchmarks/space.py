"""Twenty visitors ask twenty different questions at once: answers, seconds and memory of the pages.

Models have the shapes of 8B and 70B parameters (16 and 141 GB) and lie on a Hub on this machine with a delay on every
request; they are files with holes, in which only the rows that a comparison reads are data. The server is the Space's
own ``app.py`` with its default limits, and visitors come by gradio's own client, each from another address; then
everybody asks again, which the kept answers serve. Memory is the largest sum of the proportional set sizes (Linux: a
page shared by several processes counts once) of the server and all its workers.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, permutations, zip_longest
from pathlib import Path
from typing import Any

for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
    os.environ.pop(_name, None)
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

import ml_dtypes  # noqa: E402
import numpy as np  # noqa: E402
from gradio_client import Client  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402
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
from lineage_plugin.web.jobs import Job  # noqa: E402
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


@dataclass(frozen=True, slots=True)
class Said:
    """What one visitor was told.

    Attributes:
        relation: The relation, or why there is none.
        seconds: How long he waited.
        bytes_read: Bytes of weight files that his answer has cost.
    """

    relation: str
    seconds: float
    bytes_read: int = 0


@contextmanager
def pages(endpoint: str, scratch: Path) -> Iterator[tuple[str, int]]:
    """Start the server as a Space starts it; yields its address and the number of its process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRADIO_", "LINEAGE_"))}
    chosen = {"HF_ENDPOINT": endpoint, "LINEAGE_CACHE": str(scratch / "cache"), "SPACE_ID": "bench/pages"}
    app = Path(__file__).parents[1] / "space" / "app.py"
    with (scratch / "output").open("w+") as output:
        process = subprocess.Popen([sys.executable, app], env=clean | chosen, stdout=output, stderr=output)
        try:
            while not (found := re.search(r"http://[0-9.:]+", (scratch / "output").read_text())):
                if process.poll() is not None:
                    raise SystemExit(f"the server did not start: {(scratch / 'output').read_text()}")
                time.sleep(0.1)
            yield found[0], process.pid
        finally:
            process.terminate()
            process.wait()


def ask(clients: Sequence[Client], jobs: Sequence[Job]) -> list[Said]:
    """Let every visitor ask his question at the same time."""
    start = time.perf_counter()

    def one(client: Client, job: Job) -> Said:
        try:
            report = client.predict(*job.models, api_name="/compare")
        except AppError as error:
            return Said(str(error), time.perf_counter() - start)
        relation = str(report["comparisons"][0]["relation"])
        asked = [report["suspect"]["id"], report["comparisons"][0]["base"]["id"]]
        if asked != list(job.models):
            relation = f"the answer to another question: {asked}"
        return Said(relation, time.perf_counter() - start, report["cost"]["bytes_read"])

    with ThreadPoolExecutor(len(jobs)) as visitors:
        return list(visitors.map(one, clients, jobs))


def measure(endpoint: str, scratch: Path, jobs: Sequence[Job]) -> None:
    """Ask all questions twice through gradio's own client, each visitor from another address; print what came of it."""
    with pages(endpoint, scratch) as (address, server):
        peaks = [proportional(server)]
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                peaks.append(proportional(server))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            clients = [
                Client(address, headers={"x-forwarded-for": f"8.8.{number}.8"}, verbose=False)
                for number in range(len(jobs))
            ]
            rounds = {"new": ask(clients, jobs), "again": ask(clients, jobs)}
        finally:
            ended.set()
            watcher.join()
    print("| round | visitors | answered | wrong | first, s | median, s | all, s | most MB read for one |")
    print("|---|---|---|---|---|---|---|---|")
    for name, said in rounds.items():
        answered = [one for one in said if one.bytes_read]
        wrong = [
            f"{' '.join(job.models)}: {one.relation}"
            for job, one in zip(jobs, said, strict=True)
            if one.relation != ("unrelated" if "other" in " ".join(job.models) else "derived")
        ]
        seconds = sorted(one.seconds for one in said)
        times = f"{seconds[0]:.1f} | {statistics.median(seconds):.1f} | {seconds[-1]:.1f}"
        most = max((one.bytes_read for one in said), default=0) / 1e6
        print(f"| {name} | {len(jobs)} | {len(answered)} | {len(wrong)} | {times} | {most:.1f} |")
        print("".join(f"{line}\n" for line in wrong), end="")
    first, most = peaks[0] / 1e6, max(peaks) / 1e6
    print(f"\nmemory of the server and its workers: {first:.0f} MB at its start, {most:.0f} MB at most")


def main() -> None:
    """Write, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=20, help="questions at once (default: 20, at most 24)")
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=["8B", "70B"], metavar="SHAPE", help="shapes")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds a request waits (default: 0.05)")
    arguments = parser.parse_args()
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
