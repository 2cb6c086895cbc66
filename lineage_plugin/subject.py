"""A model that is being checked, compared with one base after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from lineage_plugin.adapters import is_adapter, prepare, settle, without_coins
from lineage_plugin.anatomy import Anatomy
from lineage_plugin.checkpoint import Checkpoint, Cost
from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.errors import UsageError
from lineage_plugin.evidence.evalue import log10_mean
from lineage_plugin.evidence.gather import gather
from lineage_plugin.evidence.models import Models, models_of
from lineage_plugin.evidence.pair import PairEvidence, StageCoins
from lineage_plugin.fingerprint.compare import compare_fingerprints
from lineage_plugin.fingerprint.known import Held, is_near, made
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.assemble import compared, identical, summarise
from lineage_plugin.judge.relation import is_decided, relation_of
from lineage_plugin.judge.types import Comparison, ModelSummary
from lineage_plugin.options import Options, Progress
from lineage_plugin.text import one_line

__all__ = ["Printed", "Subject", "ignored_files", "summary_of"]

_HALF = math.log10(2)
_SUSPECT = "The suspect was compared by a fingerprint file; that it is the model's own is the word of who made it."
_ORIGINS = {
    "file": "The base was compared by a fingerprint file; that it is the model's own is the word of who made it.",
    "repository": (
        "The base was compared by the fingerprint that its repository ships. It was made for the weight files that are "
        "there, by their digests, but its content is the publisher's word; --fingerprints off reads the weights."
    ),
    "cache": "The base was compared by a fingerprint that was made of this commit before.",
}


@dataclass(eq=False)
class Subject:
    """The suspect, analysed once however many bases it is compared with."""

    checkpoint: Checkpoint
    options: Options
    progress: Progress | None

    def __post_init__(self) -> None:
        self._anatomy: Anatomy | None = None
        self._fingerprint: Fingerprint | None = None
        # Opening counts for the first base; each further base is charged what was read for it.
        self._charged = Cost()

    def summary(self) -> ModelSummary:
        """Return the model as the report names it."""
        return summarise(self.checkpoint, self._anatomy, digests=self.options.exhaustive or self.options.digests)

    def fingerprint(self) -> Fingerprint:
        """Return the model's fingerprint, made once."""
        if self._fingerprint is None:
            self._fingerprint = made(self.checkpoint, self.options, self.progress)
        return self._fingerprint

    def against(self, base: Checkpoint | Held) -> Comparison:
        """Compare with a base: by its fingerprint first, where that is at hand, and by its weights where need be.

        Raises:
            UsageError: When the model is an adapter and only a fingerprint file of the base was given.
            InputError: When a file cannot be read or decoded.
            HubError: When the Hub does not deliver.
        """
        found = self._by_fingerprint(base) if isinstance(base, Held) else self._against(base)
        of_base = () if isinstance(base, Held) else base.notes
        said = [*self.checkpoint.notes, *ignored_files(self.checkpoint), *(f"Of the base: {n}" for n in of_base)]
        found = replace(found, limits=tuple(dict.fromkeys((*found.limits, *said))))
        return _with_digests(found, base, self.options)

    def _by_fingerprint(self, base: Held) -> Comparison:
        if is_adapter(self.checkpoint):
            if base.weights is None:
                help_ = "Give the base itself instead of its fingerprint."
                raise UsageError(f"{one_line(base.id, 200)}: an adapter is compared with its base's weights. {help_}")
            return self._against(base.weights())
        if self.is_copy_of(base.fingerprint):
            found = identical(summary_of(base.fingerprint, base.id), self._held_costs(base))
            return replace(found, limits=(*found.limits, _ORIGINS[base.origin]))
        if base.weights is not None and self.options.fingerprints == "auto" and not self._is_printed():
            # From afar a fingerprint of the suspect would cost several times what a comparison of weights samples.
            return self._against(base.weights())
        evidence = compare_fingerprints(self.fingerprint(), base.fingerprint, self.options)
        if base.weights is not None and self.options.fingerprints != "only":
            first = _halved(evidence, "fingerprint")
            if relation_of(first, self.options.bar)[0] != "derived":
                # What does not show descent may be re-ordered, or too little: only weights tell.
                return self._against(base.weights(), first)
            evidence = first
        found = _by_prints(evidence, self.options.bar, summary_of(base.fingerprint, base.id), self._held_costs(base))
        return replace(found, limits=(*found.limits, _ORIGINS[base.origin]))

    def _is_printed(self) -> bool:
        return self._fingerprint is not None or is_near(self.checkpoint, self.options)

    def is_copy_of(self, other: Fingerprint) -> bool:
        """Return whether a fingerprint was made of the same weight files; local ones are read if their sizes agree."""
        theirs = other.source.files.values()
        sizes = sorted(self.checkpoint.files[name].size for name in self.checkpoint.weight_files)
        if sizes != sorted(size for size, _ in theirs) or any(digest is None for _, digest in theirs):
            return False
        return sorted(self.checkpoint.digests(compute=True).values()) == sorted(str(digest) for _, digest in theirs)

    def charge(self) -> Cost:
        """Return what was read of the model since this was last asked."""
        now, before = self.checkpoint.cost(), self._charged
        self._charged = now
        return now.since(before)

    def _held_costs(self, base: Held) -> tuple[Cost, Cost]:
        total = sum(size for size, _ in base.fingerprint.source.files.values())
        return self.charge(), replace(base.cost, bytes_total=total)

    def _against(self, base: Checkpoint, first: PairEvidence | None = None) -> Comparison:
        suspect, options = self.checkpoint, self.options
        if same_digests(suspect, base, compute=False):
            return self._identical(base, None)
        prepared = prepare(suspect, base, seed=options.seed)
        if prepared is not None and prepared.models is None:
            return without_coins(prepared, summarise(base, None), self._costs(base), options.bar)
        models = models_of(suspect, base) if prepared is None or prepared.models is None else prepared.models
        self._anatomy = self._anatomy or models.suspect_anatomy
        bar = options.bar if first is None else options.bar + _HALF
        evidence = gather(models, options, partial(is_decided, bar=bar), self.progress)
        if first is not None:
            evidence = _added(first, evidence)
        # Digests of local files cost reading them whole, so they are taken only where the sample leaves no difference.
        if evidence.equal and same_digests(suspect, base, compute=True):
            return self._identical(base, models.base_anatomy)
        found = compared(evidence, options.bar, summarise(base, models.base_anatomy), self._costs(base))
        found = replace(found, part=models.suspect_anatomy.part, changes=(*found.changes, *_vocabularies(models)))
        return found if prepared is None else settle(prepared, found, options.bar)

    def _identical(self, base: Checkpoint, anatomy: Anatomy | None) -> Comparison:
        found = identical(summarise(base, anatomy), self._costs(base))
        mine, theirs = self.checkpoint.config, base.config
        keys = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        if not keys:
            return found
        # The same numbers are another model under another configuration.
        listed = ", ".join(one_line(key, 40) for key in keys[:6]) + (", ..." if keys[6:] else "")
        return replace(found, changes=(f"config.json differs from the base's in {listed}",))

    def _costs(self, base: Checkpoint) -> tuple[Cost, Cost]:
        return self.charge(), base.cost()


@dataclass(eq=False)
class Printed:
    """A suspect of which only the fingerprint was given."""

    held: Held
    options: Options
    progress: Progress | None

    def summary(self) -> ModelSummary:
        """Return the model as the report names it."""
        return summary_of(self.held.fingerprint, self.held.id)

    def fingerprint(self) -> Fingerprint:
        """Return the model's fingerprint."""
        return self.held.fingerprint

    def is_copy_of(self, other: Fingerprint) -> bool:
        """Return whether both fingerprints were made of the same weight files."""
        mine, theirs = ([d for _, d in side.source.files.values()] for side in (self.held.fingerprint, other))
        return bool(mine) and None not in mine and sorted(map(str, mine)) == sorted(map(str, theirs))

    def charge(self) -> Cost:
        """Return what reading the fingerprint cost."""
        return self.held.cost

    def against(self, base: Checkpoint | Held) -> Comparison:
        """Compare with a base, of whose weights no more is read than a fingerprint needs.

        Raises:
            UsageError: When the base is an adapter.
            InputError: When a file cannot be read or decoded.
            HubError: When the Hub does not deliver.
        """
        mine = self.held.fingerprint
        theirs = base.fingerprint if isinstance(base, Held) else made(base, self.options, self.progress)
        shown = summary_of(theirs, base.id)
        costs = self.held.cost, base.cost if isinstance(base, Held) else base.cost()
        if self.is_copy_of(theirs):
            found = identical(shown, costs)
        else:
            found = _by_prints(compare_fingerprints(mine, theirs, self.options), self.options.bar, shown, costs)
        of_base = (_ORIGINS[base.origin],) if isinstance(base, Held) else ()
        found = replace(found, limits=(*found.limits, _SUSPECT, *of_base))
        return _with_digests(found, base, self.options)


def summary_of(fingerprint: Fingerprint, id: str) -> ModelSummary:
    """Return a model as the report names it, from its fingerprint."""
    source = fingerprint.source
    return ModelSummary(
        id=id,
        revision=source.revision,
        format=source.format,
        parameters=source.parameters,
        architecture=source.architecture,
        sha256={name: digest for name, (_, digest) in source.files.items() if digest is not None},
    )


def _with_digests(found: Comparison, base: Checkpoint | Held, options: Options) -> Comparison:
    """Add the digests of a base on this machine where they are wanted; those of fingerprints and the Hub are known.

    They are read after the comparison, of whose cost they are no part, as those of the suspect are none.
    """
    if not options.digests or isinstance(base, Held):
        return found
    return replace(found, base=replace(found.base, sha256=base.digests(compute=True)))


def _by_prints(evidence: PairEvidence, bar: float, base: ModelSummary, costs: tuple[Cost, Cost]) -> Comparison:
    """Return the comparison that evidence from fingerprints alone amounts to."""
    found = compared(evidence, bar, base, costs)
    if found.relation != "unrelated":
        return found
    return replace(found, summary="the coins of units in their stored order fall as they would for independent models")


def _halved(evidence: PairEvidence, name: str) -> PairEvidence:
    """Give what one of two ways of looking has shown half of the average: either of them may make the claim."""
    whole = StageCoins(name, 0.5, evidence.count, evidence.log10_e)
    return replace(evidence, log10_e=evidence.log10_e - _HALF, stages=(whole,) if evidence.count.coins else ())


def _added(first: PairEvidence, evidence: PairEvidence) -> PairEvidence:
    """Average what fingerprints and then weights have shown; the weights describe the pair."""
    rest = tuple(replace(stage, weight=stage.weight / 2) for stage in evidence.stages)
    log10_e = evidence.log10_e - _HALF
    if first.stages:
        log10_e = log10_mean([first.stages[0].log10_e, evidence.log10_e], [0.5, 0.5])
    return replace(evidence, log10_e=log10_e, stages=(*first.stages, *rest))


def _vocabularies(models: Models) -> tuple[str, ...]:
    """Say whether the token embeddings have another number of rows; they are no evidence and only mentioned."""
    rows = []
    for checkpoint, anatomy in models.sides:
        info = checkpoint.tensors.get(anatomy.stream.embedding) if anatomy.stream is not None else None
        rows.append(info.shape[0] if info is not None else 0)
    if not all(rows) or rows[0] == rows[1]:
        return ()
    return (f"a vocabulary of {rows[0]:,} rows against the base's {rows[1]:,}",)


def ignored_files(suspect: Checkpoint) -> list[str]:
    """Say which weight files of the suspect no index or usual name makes part of the model."""
    names = sorted(name for name in suspect.files if is_weight_file(name) and name not in suspect.weight_files)
    if not names:
        return []
    shown = ", ".join(one_line(name, 60) for name in names[:3])
    more = ", ..." if names[3:] else ""
    return [f"{len(names)} other weight file{'s' * (len(names) > 1)} of the suspect not looked at: {shown}{more}"]


def same_digests(suspect: Checkpoint, base: Checkpoint, *, compute: bool) -> bool:
    if sorted(suspect.files[f].size for f in suspect.weight_files) != sorted(
        base.files[f].size for f in base.weight_files
    ):
        return False
    mine, others = suspect.digests(compute=compute), base.digests(compute=compute)
    if len(mine) != len(suspect.weight_files) or len(others) != len(base.weight_files):
        return False
    return sorted(mine.values()) == sorted(others.values())
