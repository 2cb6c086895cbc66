"""What a registry says about a model, all of it read off the model's fingerprint."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from lineage_plugin.fingerprint.code import search_code
from lineage_plugin.fingerprint.file import read_fingerprint
from lineage_plugin.text import one_line

__all__ = ["Entry", "Key", "Listing", "content_of", "entry_of", "replaces"]

_MOST_BASES = 64
_LONGEST_BASE = 200
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,5}", re.ASCII)


class Key(NamedTuple):
    """What names an entry.

    Attributes:
        id: Model id, or the name that a local model was given.
        commit: Commit on the Hub, 40 hexadecimal digits; of a local model 64, see :attr:`Listing.content`.
    """

    id: str
    commit: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a registry says about a model.

    Attributes:
        id: Model id, or the name that a local model was given.
        commit: Commit on the Hub. Of a model without one: its content, or the digest of its fingerprint where not all
            weight files have a known digest.
        family: Layout name.
        layers: Number of layers.
        width: Size of the residual stream; 0 when not known.
        parameters: Number of parameters.
        format: Weight format and quantisation.
        bases: Base models that its card declares.
        tool: Name and version of the program that made the fingerprint.
        sha256: Digest of the fingerprint's bytes.
        content: Digest of the sorted digests of the weight files, the same for all copies of the weights; empty where
            not all of them are known.
        added: When the entry came into this registry; None before.
    """

    id: str
    commit: str
    family: str
    layers: int
    width: int
    parameters: int
    format: str
    bases: tuple[str, ...]
    tool: str
    sha256: str
    content: str
    added: datetime | None = None

    @property
    def key(self) -> Key:
        """What names the entry."""
        return Key(self.id, self.commit)


@dataclass(frozen=True, eq=False, slots=True)
class Entry:
    """A model of a registry.

    Attributes:
        listing: What the registry says about it.
        fingerprint: The bytes of its fingerprint's file.
        code: Its search code, see :func:`lineage_plugin.fingerprint.code.search_code`.
    """

    listing: Listing
    fingerprint: bytes
    code: bytes


def entry_of(data: bytes, where: str, bases: Iterable[str] = ()) -> Entry:
    """Return the entry that a fingerprint makes.

    Args:
        data: The bytes of its file.
        where: Where they come from, for messages.
        bases: Base models that the model's card declares; made printable, and cut at 64.

    Raises:
        UnreadableCheckpoint: When it is no fingerprint.
    """
    found = read_fingerprint(data, where)
    source, digest = found.source, hashlib.sha256(data).hexdigest()
    content = content_of([known for _, known in source.files.values()], len(source.files))
    listing = Listing(
        id=source.id,
        commit=source.revision or content or digest,
        family=found.family,
        layers=found.layers,
        width=found.width,
        parameters=source.parameters,
        format=source.format,
        bases=_declared(bases),
        tool=source.tool,
        sha256=digest,
        content=content,
    )
    return Entry(listing, data, search_code(found).tobytes())


def replaces(new: str, old: str) -> bool:
    """Return whether a tool is a newer version of the same program than another one."""
    name, version = _tool(new)
    old_name, old_version = _tool(old)
    return name == old_name and version > old_version


def content_of(digests: Sequence[str | None], count: int) -> str:
    """Return the digest of all weights of a model.

    Args:
        digests: Digests of its weight files, in any order; None for one that is not known.
        count: Number of its weight files.

    Returns:
        64 hexadecimal digits; empty where not all files have a digest.
    """
    known = sorted(digest for digest in digests if digest is not None)
    return hashlib.sha256("\n".join(known).encode()).hexdigest() if known and len(known) == count else ""


def _declared(bases: Iterable[str]) -> tuple[str, ...]:
    cleaned = (one_line(base, _LONGEST_BASE) for base, _ in zip(bases, range(_MOST_BASES), strict=False))
    return tuple(dict.fromkeys(base for base in cleaned if base))


def _tool(text: str) -> tuple[str, tuple[int, ...]]:
    """Split ``lineage-plugin 1.2.0``; what follows the numbers of a version does not count."""
    name, _, version = text.partition(" ")
    match = _VERSION.match(version)
    return name, tuple(int(number) for number in match[0].split(".")) if match else ()
