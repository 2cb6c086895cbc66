"""A process that builds a registry: ``python -m tests.fingerprint.registry.writer FOLDER SEED COUNT``.

It prints ``ready``, then the numbers of the entries of each transaction that has returned, a line each, and ``end``.
"""

from __future__ import annotations

import random
import sys
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


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
