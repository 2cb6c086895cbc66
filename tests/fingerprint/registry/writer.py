"""A process that builds a registry: ``python -m tests.fingerprint.registry.writer FOLDER SEED COUNT``.

It prints ``ready``, then the numbers of the entries of each transaction that has returned, a line each, and ``end``.

Without arguments it loads what takes longest and starts no thread, and makes such processes of itself: for each line
``OUTPUT FOLDER SEED COUNT`` one that prints into a pipe with a name. It prints their process ids, and for a line
``wait ID`` the exit code.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path

from lineage_plugin.fingerprint.registry.build import Model, Pinned, build
from lineage_plugin.fingerprint.registry.entries import Entry, Key
from lineage_plugin.fingerprint.registry.extra import lance
from lineage_plugin.fingerprint.registry.store import Added, Registry
from tests.fingerprint.registry.samples import commit, entry, example


class Telling(Registry):
    def add(self, entries: Iterable[Entry], *, force: bool = False, strict: bool = True) -> Added:
        some = list(entries)
        result = super().add(some, force=force, strict=strict)
        print(*(one.listing.id.rpartition("-")[2] for one in some), flush=True)
        return result


def pin(model: Model) -> Pinned:
    number = int(model.ref)
    return Pinned(Key(f"owner{number % 3}/model-{number}", commit(number)), lambda: entry(number))


def main(folder: str, seed: int, count: int) -> None:
    lance()
    example()
    draw = random.Random(seed)
    numbers = draw.sample(range(count), count)
    print("ready", flush=True)
    with Telling.open(Path(folder), create=True) as registry:
        while numbers:
            # Short builds: long ones would write sixteen at a time.
            some = [Model(str(numbers.pop())) for _ in range(min(len(numbers), draw.randint(1, 6)))]
            built = build(registry, some, pin, workers=2)
            assert not built.failures, built.failures
    print("end", flush=True)


def fork() -> None:
    importlib.import_module("lance_namespace")  # two thirds of the time that lancedb takes
    example()
    assert "lancedb" not in sys.modules and threading.active_count() == 1, "nothing that a fork may break"
    for line in sys.stdin:
        first, *rest = line.split()
        if first == "wait":
            print(os.waitstatus_to_exitcode(os.waitpid(int(rest[0]), 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            sys.stdin.close()
            os.dup2(os.open(first, os.O_WRONLY), 1)
            try:
                main(rest[0], int(rest[1]), int(rest[2]))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        fork()
