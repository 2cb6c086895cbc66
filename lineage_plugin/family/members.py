"""The models of a tree, opened: each once, with its fingerprint and what it declares.

A fingerprint that a repository ships is its publisher's word and stands for a base only, never for a model that is
being examined; here every model is, so none of those is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lineage_plugin.adapters import is_adapter
from lineage_plugin.card import BaseClaim, claims_of_weights, read_card
from lineage_plugin.checkpoint import Checkpoint, open_checkpoint
from lineage_plugin.errors import LineageError
from lineage_plugin.family.types import Member
from lineage_plugin.fingerprint.known import fingerprint_file, is_near, made
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.assemble import summarise
from lineage_plugin.judge.types import ModelSummary
from lineage_plugin.linting.place import CARD_LIMIT
from lineage_plugin.options import Options, Progress
from lineage_plugin.subject import ignored_files, summary_of
from lineage_plugin.text import one_line

__all__ = ["Opened", "open_members", "same_files"]

_BARE = "an adapter holds changes to its base's weights only, so no fingerprint can be made of it"


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """A model with what it is compared by.

    Attributes:
        member: The model as the family shows it.
        fingerprint: Its fingerprint; None for an adapter, and where it could not be read.
        checkpoint: The model itself; None where only a fingerprint file was given.
        bases: The bases that it declares.
        notes: What is to be said of how it was read.
        merge: Whether it declares that it is a merge, or several bases.
    """

    member: Member
    fingerprint: Fingerprint | None = None
    checkpoint: Checkpoint | None = None
    bases: tuple[BaseClaim, ...] = ()
    notes: tuple[str, ...] = ()
    merge: bool = False

    def counted(self) -> Member:
        """Return the member with what reading it has cost by now."""
        return self.member if self.checkpoint is None else replace(self.member, cost=self.checkpoint.cost())


def open_members(models: Sequence[str], options: Options, progress: Progress | None) -> tuple[list[Opened], list[str]]:
    """Open models one after the other.

    Args:
        models: Paths and ids as the user gave them.
        options: Choices of the run.
        progress: Called while reading.

    Returns:
        The models, each once, and a sentence for each that was given again. What cannot be read is among them, with the
        reason.
    """
    found: dict[object, Opened] = {}
    said = []
    for number, ref in enumerate(models):
        if progress is not None:
            progress("opening models", number, len(models))
        one = _opened(ref, options, progress)
        key = _key(one)
        if key in found:
            first = found[key].member.name
            again = "twice" if first == ref else f"as {one_line(first, 120)}, too"
            said.append(f"{one_line(ref, 120)} was given {again}; it is shown once.")
        else:
            found[key] = one
    if progress is not None:
        progress("opening models", len(models), len(models))
    return list(found.values()), list(dict.fromkeys(said))


def _opened(ref: str, options: Options, progress: Progress | None) -> Opened:
    try:
        held = fingerprint_file(ref)
        if held is not None:
            shown = summary_of(held.fingerprint, held.id)
            by_word = (
                f"{one_line(ref, 120)} is a fingerprint file: that it is the model's own is the word of who made it."
            )
            return Opened(Member(ref, shown, "tested", "file", cost=held.cost), held.fingerprint, notes=(by_word,))
        return _read(ref, options, progress)
    except LineageError as error:
        code = error.exit_code
        reason = one_line(str(error).removeprefix(f"{ref}: "), 400)
        return Opened(Member(ref, ModelSummary(ref, None, None, None, None), "not read", reason=reason, exit_code=code))


def _read(ref: str, options: Options, progress: Progress | None) -> Opened:
    checkpoint = open_checkpoint(ref, options=options)
    declaration, _ = read_card(
        checkpoint.text("README.md", CARD_LIMIT), adapter_config=checkpoint.text("adapter_config.json")
    )
    # What converters write into the weights stands in where the card names nothing.
    bases = declaration.bases or claims_of_weights(checkpoint.metadata, checkpoint.weight_files[0])
    shown = summarise(checkpoint, None)
    notes = tuple(f"{one_line(ref, 120)}: {note}" for note in (*checkpoint.notes, *ignored_files(checkpoint)))
    declares = tuple(base.id for base in bases)
    merge = declaration.effective_relation == "merge" or len(bases) > 1
    if is_adapter(checkpoint):
        return Opened(Member(ref, shown, "adapter", None, _BARE, declares), None, checkpoint, bases, notes)
    kept = not checkpoint.local and is_near(checkpoint, options)
    fingerprint = made(checkpoint, options, progress)
    member = Member(ref, shown, "tested", "cache" if kept else "weights", "", declares)
    return Opened(member, fingerprint, checkpoint, bases, notes, merge)


def _key(one: Opened) -> object:
    """Return what tells whether two names lead to the same files at the same place."""
    if one.checkpoint is None:
        return one.member.name if one.member.state == "not read" else str(Path(one.member.name).resolve())
    if one.checkpoint.local:
        return str(Path(one.checkpoint.id).expanduser().resolve()), one.checkpoint.weight_files
    return one.checkpoint.id, one.checkpoint.revision, one.checkpoint.weight_files


def same_files(one: Opened, other: Opened) -> bool:
    """Return whether two models have the same weight files, by their digests.

    Files on this machine are read whole for that only where every bit of the fingerprints is the same; another
    configuration can make other fingerprints of the same files.
    """
    if one.fingerprint is None or other.fingerprint is None or _sizes(one) != _sizes(other):
        return False
    compute = _same_bits(one.fingerprint, other.fingerprint)
    return bool(found := _digests(one, compute)) and found == _digests(other, compute)


def _same_bits(one: Fingerprint, other: Fingerprint) -> bool:
    mine, theirs = ([(s.form, s.layers, *(t.role for t in s.strips)) for s in p.shelves] for p in (one, other))
    return mine == theirs and all(
        a.bits.tobytes() == b.bits.tobytes()
        for of_mine, of_theirs in zip(one.shelves, other.shelves, strict=True)
        for a, b in zip(of_mine.strips, of_theirs.strips, strict=True)
    )


def _sizes(one: Opened) -> list[int]:
    if one.checkpoint is not None:
        return sorted(one.checkpoint.files[name].size for name in one.checkpoint.weight_files)
    return sorted(size for size, _ in one.fingerprint.source.files.values()) if one.fingerprint is not None else []


def _digests(one: Opened, compute: bool) -> list[str]:
    """Return the digests of the weight files; none unless all are known, or ``compute`` lets them be read for it."""
    if one.checkpoint is not None:
        found = list(one.checkpoint.digests(compute=compute).values())
        return sorted(found) if len(found) == len(one.checkpoint.weight_files) else []
    known = [digest for _, digest in one.fingerprint.source.files.values()] if one.fingerprint is not None else []
    return [] if None in known else sorted(map(str, known))
