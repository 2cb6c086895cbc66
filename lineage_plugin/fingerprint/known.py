"""Fingerprints that are at hand: given as a file, shipped beside the weights of a repository, or made before.

A fingerprint that a repository ships is its publisher's word. It is taken for the weights only while every weight file
of the repository has the digest that the fingerprint was made for, so it cannot be stale; it can still be forged, so it
stands for a base only, never for the model that is being checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lineage_plugin.checkpoint.assemble import assemble
from lineage_plugin.checkpoint.files import opened, read_exactly
from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.checkpoint.open import locate, open_checkpoint
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.types import Checkpoint, Cost
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UsageError
from lineage_plugin.fingerprint.cache import FingerprintCache
from lineage_plugin.fingerprint.file import FILE, MAX_FILE, is_fingerprint, read_fingerprint
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.options import Options, Progress
from lineage_plugin.text import one_line

__all__ = ["Held", "fingerprint_file", "is_near", "made", "named", "open_base"]

_PREFIX = 4096


@dataclass(frozen=True, eq=False, slots=True)
class Held:
    """A model of which the fingerprint is at hand.

    Attributes:
        id: What the user called it.
        fingerprint: Its fingerprint.
        origin: ``file``, ``repository`` or ``cache``.
        cost: What getting it cost.
        weights: Opens the model itself; None when only the file was given.
    """

    id: str
    fingerprint: Fingerprint
    origin: Literal["file", "repository", "cache"]
    cost: Cost
    weights: Callable[[], Checkpoint] | None = None


def fingerprint_file(ref: str) -> Held | None:
    """Return the fingerprint that a path leads to; None when it leads to anything else.

    Raises:
        UsageError: When ``ref`` is neither a path nor an id.
        UnreadableCheckpoint: When it is a fingerprint, and damaged.
    """
    place = locate(ref)
    if not isinstance(place, str) or not Path(place).is_file():
        return None
    path = Path(place)
    with opened(path) as (descriptor, stamp):
        start = read_exactly(descriptor, 0, _PREFIX)
        if not is_fingerprint(start):
            return None
        if stamp.size > MAX_FILE:
            raise UnreadableCheckpoint(ref, f"a fingerprint over the limit of {MAX_FILE:,} bytes")
        data = read_exactly(descriptor, 0, stamp.size)
    return Held(ref, read_fingerprint(data, ref), "file", Cost(len(data), 0, len(data)))


def open_base(ref: str, options: Options, repo: tuple[str, str | None] | None = None) -> Held | Checkpoint:
    """Return the fingerprint of a base where one is at hand, else the base itself.

    For a model on the Hub one request pins the commit. Its fingerprint is then looked for in the user's cache and in
    the repository itself; while one is found, no weight file is opened.

    Args:
        ref: Path or id, as the user gave it.
        options: ``fingerprints``, ``offline``, ``token``, ``endpoint`` and ``budget`` count here.
        repo: Id and revision of a repository, where it is one whatever lies in the current folder.

    Returns:
        The fingerprint, or the opened model.

    Raises:
        UsageError: When ``ref`` is neither a path nor an id.
        InputError: When there are no weights that can be read safely.
        HubError: When the Hub does not deliver.
    """
    if repo is None:
        given = fingerprint_file(ref)
        if given is not None:
            return given
        place = locate(ref)
        if isinstance(place, str) or place.path or options.offline:
            return open_checkpoint(ref, options=options)
        repo = place.repo, place.revision
    from lineage_plugin.checkpoint.hub import connect

    ledger = Ledger(repo[0], options.budget)
    source = connect(*repo, token=options.token, endpoint=options.endpoint, ledger=ledger)
    if options.fingerprints == "off" or options.exhaustive:
        return assemble(source)
    cached = _cache(options).get(source.id, source.revision or "")
    if cached is not None:
        return Held(source.id, cached, "cache", ledger.cost(0), lambda: assemble(source))
    shipped = _shipped(source)
    if shipped is None:
        return assemble(source)
    size = source.files[FILE].size
    return Held(source.id, shipped, "repository", ledger.cost(0) + Cost(size, 0, 0), lambda: assemble(source))


def _shipped(source: Source) -> Fingerprint | None:
    """Return the fingerprint that a repository ships, if it was made for the weight files that are there now."""
    if FILE not in source.files or source.files[FILE].size > MAX_FILE:
        return None
    try:
        found = read_fingerprint(source.data(FILE, MAX_FILE) or b"", f"{source.where}/{FILE}")
    except InputError:
        # What cannot be read proves nothing about the model; its weights do.
        return None
    there = {name: (info.size, info.sha256) for name, info in source.files.items() if is_weight_file(name)}
    stated = found.source.files
    fresh = bool(stated) and all(stated[name][1] and there.get(name) == stated[name] for name in stated)
    # Weights that the fingerprint does not know may be those that a loader takes.
    if not fresh or there.keys() - stated.keys() - {FILE}:
        return None
    # Which model at which commit this is, the Hub knows.
    return replace(found, source=replace(found.source, id=source.id, revision=source.revision))


def made(checkpoint: Checkpoint, options: Options, progress: Progress | None = None) -> Fingerprint:
    """Return the fingerprint of a checkpoint: from the cache, or made, and then kept there if it is of the Hub.

    With ``fingerprints`` "off" the cache is neither asked nor filled.
    """
    found = _cached(checkpoint, options)
    if found is None:
        found = fingerprint_of(checkpoint, progress=progress)
        if _is_cached(checkpoint, options):
            _cache(options).put(found)
    return found


def is_near(checkpoint: Checkpoint, options: Options) -> bool:
    """Return whether :func:`made` needs no network: the weights are here, or the fingerprint is in the cache."""
    return checkpoint.local or _cached(checkpoint, options) is not None


def _cached(checkpoint: Checkpoint, options: Options) -> Fingerprint | None:
    if not _is_cached(checkpoint, options):
        return None
    return _cache(options).get(checkpoint.id, checkpoint.revision or "")


def _is_cached(checkpoint: Checkpoint, options: Options) -> bool:
    """Return whether the cache is for a checkpoint: one of the Hub at a commit, unless fingerprints are off."""
    published = not checkpoint.local and checkpoint.revision is not None and is_model_id(checkpoint.id)
    return published and options.fingerprints != "off"


def _cache(options: Options) -> FingerprintCache:
    from lineage_plugin.checkpoint.hub import endpoint_of

    return FingerprintCache(endpoint_of(options.endpoint))


def named(checkpoint: Checkpoint, name: str | None, options: Options, progress: Progress | None = None) -> Fingerprint:
    """Return the fingerprint of a checkpoint as it is published: with the digests of all weight files.

    Args:
        checkpoint: The model.
        name: The id that a local model has, or will have, on the Hub; None: its folder's name.
        options: Choices of the run.
        progress: Called while reading.

    Raises:
        UsageError: When the name is no id, or the model is of the Hub and has its own; or when it is an adapter.
        InputError: When the weights cannot be read.
        HubError: When the Hub does not deliver.
    """
    if name is not None and not is_model_id(name):
        raise UsageError(f"{one_line(name, 100)}: is no model id to name a model by. Write owner/name.")
    if checkpoint.local:
        return fingerprint_of(checkpoint, name=name, digests=True, progress=progress)
    if name is not None:
        raise UsageError(f"{one_line(checkpoint.id, 200)}: a model of the Hub has its name; leave out the other one.")
    return made(checkpoint, options, progress)
