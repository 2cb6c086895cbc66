"""The two models of a comparison, opened and analysed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lineage_plugin.anatomy import Anatomy, analyse
from lineage_plugin.anatomy.analyse import parts_of
from lineage_plugin.anatomy.compare import structure_mismatch
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.evidence.rounding import exchangeable

__all__ = ["Models", "main_part", "models_of"]

_DENOISERS = ("transformer", "unet", "prior", "decoder")
"""Components of diffusers pipelines that turn noise into a picture, the main one first."""

MOST_PARTS = 8
"""Parts of a composite that are considered."""


@dataclass(frozen=True, eq=False, slots=True)
class Models:
    """Suspect and base.

    Attributes:
        suspect: The suspect's checkpoint.
        base: The base's checkpoint.
        suspect_anatomy: The suspect's anatomy.
        base_anatomy: The base's anatomy.
    """

    suspect: Checkpoint
    base: Checkpoint
    suspect_anatomy: Anatomy
    base_anatomy: Anatomy

    @classmethod
    def of(cls, suspect: Checkpoint, base: Checkpoint, suspect_anatomy: Anatomy, base_anatomy: Anatomy) -> Models:
        """Return two models with their anatomies restricted to what rounding leaves exchangeable.

        Args:
            suspect: The suspect's checkpoint.
            base: The base's checkpoint.
            suspect_anatomy: The suspect's anatomy, as analysed.
            base_anatomy: The base's anatomy, as analysed.
        """
        return cls(suspect, base, *exchangeable((suspect.tensors, suspect_anatomy), (base.tensors, base_anatomy)))

    @property
    def sides(self) -> tuple[tuple[Checkpoint, Anatomy], tuple[Checkpoint, Anatomy]]:
        """Suspect and base, each with its anatomy."""
        return (self.suspect, self.suspect_anatomy), (self.base, self.base_anatomy)

    @property
    def local(self) -> bool:
        """Whether both are on this machine."""
        return self.suspect.local and self.base.local

    @property
    def exact(self) -> bool:
        """Whether coins of different groups may be pooled: both graphs are known."""
        return self.suspect_anatomy.exact and self.base_anatomy.exact

    @property
    def rounded(self) -> frozenset[Literal["suspect", "base"]]:
        """Which of the models are quantised in what is compared."""
        found: set[Literal["suspect", "base"]] = set()
        if _is_rounded(self.suspect, self.suspect_anatomy):
            found.add("suspect")
        if _is_rounded(self.base, self.base_anatomy):
            found.add("base")
        return frozenset(found)

    @property
    def spent(self) -> int:
        """Bytes of tensor data read so far, of the model of which more was read."""
        return max(self.suspect.cost().tensor_bytes, self.base.cost().tensor_bytes)


def models_of(suspect: Checkpoint, base: Checkpoint) -> Models:
    """Analyse two models, of composites the parts that belong together.

    A vision-language model is compared with its vision base by its vision tower and with its language base by its
    language model: the parts of one layout are tried, and those chosen whose structures agree best.

    Args:
        suspect: The suspect.
        base: The base.

    Returns:
        Both models with their anatomies.

    Raises:
        InputError: When the headers declare more units than any real model has.
    """
    denoisers = [_denoisers(model) for model in (suspect, base)]
    for name in denoisers[0]:
        if name in denoisers[1]:
            return Models.of(suspect, base, *(_component(model, name) for model in (suspect, base)))
    mine, others = (analyse(model.tensors, model.config) for model in (suspect, base))
    best, rank = (mine, others), _agreement(mine, others)
    if structure_mismatch(mine, others) is not None:
        for family, prefix in parts_of(suspect.tensors)[:MOST_PARTS]:
            for other, place in parts_of(base.tensors)[:MOST_PARTS]:
                if family == other:
                    pair = (
                        analyse(suspect.tensors, suspect.config, family=family, part=prefix),
                        analyse(base.tensors, base.config, family=family, part=place),
                    )
                    if _agreement(*pair) > rank:
                        best, rank = pair, _agreement(*pair)
    return Models.of(suspect, base, *best)


def main_part(model: Checkpoint) -> Anatomy:
    """Return the anatomy of the part that makes a model what it is, when there is no other to set it against.

    That is the denoiser of a diffusion pipeline, and of a composite whose layout as a whole is not known the largest
    part whose layout is.

    Args:
        model: The model.

    Returns:
        Its anatomy.

    Raises:
        InputError: When the headers declare more units than any real model has.
    """
    for name in _denoisers(model):
        return _component(model, name)
    whole = analyse(model.tensors, model.config)
    if whole.family != "unknown":
        return whole
    parts = [
        analyse(model.tensors, model.config, family=family, part=prefix)
        for family, prefix in parts_of(model.tensors)[:MOST_PARTS]
    ]
    return max((part for part in parts if part.groups), key=lambda part: part.layers * part.width, default=whole)


def _is_rounded(model: Checkpoint, anatomy: Anatomy) -> bool:
    return any(model.tensors[v.tensor].encoding is not None for group in anatomy.groups for v in group.vectors)


def _denoisers(model: Checkpoint) -> tuple[str, ...]:
    """Return the components that turn noise into a picture; none for what is no diffusion pipeline.

    Most pipelines share a text encoder and an image decoder that neither has trained; descent is that of the denoiser.
    """
    if model.config.get("_class_name") is None:
        return ()
    return tuple(name for name in _DENOISERS if any(tensor.startswith(f"{name}.") for tensor in model.tensors))


def _component(model: Checkpoint, name: str) -> Anatomy:
    tensors = {key: info for key, info in model.tensors.items() if key.startswith(f"{name}.")}
    found = analyse(tensors, model.config)
    said = f"Of a diffusion pipeline the denoiser ({name}) was compared; the other components are often shared."
    return replace(found, part=name, limits=(*found.limits, said))


def _agreement(mine: Anatomy, others: Anatomy) -> tuple[bool, bool, bool, bool]:
    """Return how far two structures agree, the most important first."""
    usable = bool(mine.groups and others.groups)
    return (
        usable and mine.family == others.family,
        usable and mine.width == others.width,
        usable and mine.layers == others.layers,
        usable and structure_mismatch(mine, others) is None,
    )
