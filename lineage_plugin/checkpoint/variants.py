"""Which safetensors files of one folder belong together, and which of several copies is taken.

Writers name the copies of one model alike: a stem, a variant behind a dot, a shard number::

    model.safetensors                          diffusion_pytorch_model.fp16.safetensors
    model-00001-of-00002.safetensors           diffusion_pytorch_model.fp16-00001-of-00002.safetensors
    model.safetensors.index.json               diffusion_pytorch_model.safetensors.index.fp16.json

(``_add_variant`` of transformers 5 and diffusers 0.42; their older names, ``...-00001-of-00002.fp16.safetensors`` and
``...safetensors.fp16.index.json``, are still on the Hub.) People who name files themselves put the precision behind
``_`` or ``-``: ``flux1-dev_fp8_e4m3fn.safetensors``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from lineage_plugin.checkpoint.layout import NOT_WEIGHTS, Layout
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["choose_files"]

_STANDARD = ("model", "diffusion_pytorch_model")
"""Stems that loaders look for, in this order."""
_ADAPTER = "adapter_model"
_MOST_SETS = 64
"""Most sets of weights that are taken together without an index."""

_WEIGHTS = re.compile(
    r"^(?P<stem>.+?)(?:-(?P<number>\d{5})-of-(?P<count>\d{5})(?:\.(?P<variant>\w+))?)?\.safetensors\Z", re.ASCII
)
_INDEX = re.compile(r"^(?P<stem>.+?)\.safetensors(?:\.(?P<before>\w+))?\.index(?:\.(?P<after>\w+))?\.json\Z", re.ASCII)
_PRECISIONS: tuple[tuple[str, int], ...] = (
    (r"(?:fp|f|float)32", 1),
    (r"(?:fp|f|float)16|half", 2),
    (r"bf16|bfloat16", 3),
    (r"(?:fp8|f8|float8)(?:_?e[45]m[23](?:fn)?)?(?:_?scaled)?|e[45]m[23](?:fn)?", 4),
    (r"int8|q8", 5),
    (r"int4|q4|nf4|fp4|nvfp4|mxfp4", 6),
)
"""Precisions as people write them, the most precise first; a half has three bits of significand more than a bfloat."""
_BEHIND = re.compile(rf"^(?P<stem>.+?)[._-](?P<variant>{'|'.join(words for words, _ in _PRECISIONS)})\Z", re.IGNORECASE)
_OTHER = 7


@dataclass(eq=False, slots=True)
class _Set:
    """The files of one stem and variant."""

    stem: str
    variant: str
    single: str | None = None
    index: str | None = None
    shards: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[int, str]:
        """Order of preference: what loaders take unasked, then the most precise."""
        if not self.variant:
            return 0, ""
        for words, rank in _PRECISIONS:
            if re.fullmatch(words, self.variant, re.IGNORECASE):
                return rank, self.variant
        return _OTHER, self.variant

    @property
    def label(self) -> str:
        """The set as messages name it."""
        return self.single or self.index or f"{self.stem}{'.' * bool(self.variant)}{self.variant}"

    def missing(self) -> str | None:
        """Return the name of a shard that the numbers promise and that is not there, or None.

        Beside an index one complete numbering is enough: others are what an earlier upload left.
        """
        if self.single is not None:
            return None
        gaps = [self._gap(count) for count in sorted({count for _, count in self.shards})]
        if self.index is not None and None in gaps:
            return None
        return next((gap for gap in gaps if gap is not None), None)

    def _gap(self, count: int) -> str | None:
        for number in range(1, count + 1):
            if (number, count) not in self.shards:
                variant = f".{self.variant}" if self.variant else ""
                return f"{self.stem}{variant}-{number:05d}-of-{count:05d}.safetensors"
        return None

    def files(self) -> tuple[str, ...]:
        return (self.single,) if self.single is not None else tuple(sorted(self.shards.values()))


def choose_files(names: Collection[str], *, where: str) -> Layout | None:
    """Choose the weight files among the files of one folder.

    The standard names come first: ``model``, then ``diffusion_pytorch_model``; a single file before shards, as loaders
    have it. Without them an index of any name counts if it is the only one, and otherwise all files are taken together;
    their tensors must not collide. Adapter weights count when there is nothing else. Of the variants of one stem
    the one without a name is taken, which loaders take unasked, then the most precise; an incomplete one only when
    none is complete.

    Args:
        names: Files of the folder, without folders.
        where: The folder, for messages.

    Returns:
        The files; None when there are none.

    Raises:
        UnreadableCheckpoint: When shards are missing, or too many files belong to nothing.
    """
    stems: dict[str, list[_Set]] = {}
    for found in _sets(names):
        stems.setdefault(found.stem, []).append(found)
    for variants in stems.values():
        variants.sort(key=lambda one: one.rank)
    for stem in _STANDARD:
        if stem in stems:
            return _one(stems[stem], where)
    indexed = [stem for stem, variants in stems.items() if any(one.index is not None for one in variants)]
    loose = sorted(stem for stem in stems if stem != _ADAPTER) or sorted(stems)
    if len(indexed) == 1:
        loose = indexed
    if len(loose) > _MOST_SETS:
        raise UnreadableCheckpoint(
            where, f"{len(loose)} weight files and no index: not clear which belong together", "Give one of the files."
        )
    chosen = [_one(stems[stem], where) for stem in loose]
    if not chosen:
        return None
    if len(chosen) == 1:
        return chosen[0]
    files = tuple(sorted(file for choice in chosen for file in choice.files))
    return Layout(None, files, tuple(note for choice in chosen for note in choice.notes))


def _one(variants: Sequence[_Set], where: str) -> Layout:
    """Take the best of the variants of one stem."""
    whole = [one for one in variants if one.missing() is None]
    # An index with nothing beside it may be a remainder, or name shards that lie elsewhere.
    best = next((one for one in whole if one.files()), (whole or list(variants))[0])
    missing = best.missing()
    if missing is not None and best.index is None:
        raise UnreadableCheckpoint(where, f"the shard '{shown(missing)}' is missing", "Get the missing file.")
    notes = []
    for one in variants:
        if one is not best:
            reason = "it is not complete" if one not in whole else "it is named as another variant of the same weights"
            notes.append(f"'{shown(one.label, 80)}' was left aside for '{shown(best.label, 80)}': {reason}.")
    index = best.index if best.single is None else None
    return Layout(index, best.files(), tuple(notes[:3]))


def _sets(names: Collection[str]) -> list[_Set]:
    """Sort file names into sets."""
    found: dict[tuple[str, str], _Set] = {}

    def of(stem: str, variant: str) -> _Set:
        stem, own = _split(stem)
        return found.setdefault((stem, variant or own), _Set(stem, variant or own))

    for name in sorted(names):
        if NOT_WEIGHTS.match(name):
            continue
        match = _WEIGHTS.match(name)
        if match is not None and match["number"] is not None:
            of(match["stem"], match["variant"] or "").shards[int(match["number"]), int(match["count"])] = name
        elif match is not None:
            of(match["stem"], "").single = name
        elif (match := _INDEX.match(name)) is not None:
            of(match["stem"], match["before"] or match["after"] or "").index = name
    return list(found.values())


def _split(stem: str) -> tuple[str, str]:
    """Split a stem from its variant; behind the names that loaders look for, any word is one."""
    for standard in (*_STANDARD, _ADAPTER):
        if stem.startswith(f"{standard}."):
            return standard, stem[len(standard) + 1 :]
    match = _BEHIND.match(stem)
    return (match["stem"], match["variant"]) if match is not None else (stem, "")
