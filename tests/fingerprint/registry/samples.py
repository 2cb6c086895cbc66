"""Entries to fill registries with: the real fingerprint of an example, under many names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.fingerprint.file import to_bytes
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.registry.entries import Entry, entry_of
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.options import Options

EXAMPLES = Path(__file__).parents[3] / "examples"


def commit(number: int) -> str:
    return hashlib.sha1(b"%d" % number).hexdigest()


@cache
def example(name: str = "base") -> Fingerprint:
    return fingerprint_of(open_checkpoint(str(EXAMPLES / name), options=Options()), name=name)


def data(number: int, *, name: str = "base", tool: str = "lineage-plugin 1.2.0", family: str = "llama") -> bytes:
    found = example(name)
    source = replace(found.source, id=f"owner{number % 3}/model-{number}", revision=commit(number), tool=tool)
    return to_bytes(replace(found, source=source, family=family))


def entry(number: int, *, bases: Iterable[str] = (), name: str = "base", tool: str = "lineage-plugin 1.2.0") -> Entry:
    return entry_of(data(number, name=name, tool=tool), "sample", bases)
