"""Reading a few inputs of all units, where whole rows are dear.

Packers that go along the columns (GPTQ, AWQ) scatter each row through the whole matrix, and over the Hub a row then
costs as much as the matrix. A few inputs of every row cost a few runs of bytes. A unit's vector is merely shortened by
it, on both sides alike, so that its coins are as fair as before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from lineage_plugin.anatomy.types import Anatomy, Vectors
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.plan import HUB_COLUMN_BYTES, WINDOW, is_scattered

__all__ = ["narrow"]

_Place = tuple[str, str]
"""Kind of group and role."""

_NOTE = f"Of matrices that are packed along their columns only the first {WINDOW[1]} inputs were read."


def narrow(models: Models) -> Models:
    """Shorten the vectors whose elements lie scattered through a large matrix, in all layers alike.

    Args:
        models: Suspect and base, at least one of them on the Hub.

    Returns:
        The same models; with anatomies that name fewer elements, and without their residual streams, to which whole
        vectors belong, where that was needed.
    """
    places = {place for checkpoint, anatomy in models.sides for place in _dear(models, checkpoint.tensors, anatomy)}
    if not places:
        return models
    return replace(
        models,
        suspect_anatomy=_narrowed(models.suspect_anatomy, places),
        base_anatomy=_narrowed(models.base_anatomy, places),
    )


def _dear(models: Models, tensors: Mapping[str, TensorInfo], anatomy: Anatomy) -> Iterator[_Place]:
    """Yield what is scattered in one model, rows that both models have in equal length."""
    widths = [{(g.name, v.role): v for g in a.groups for v in g.vectors} for _, a in models.sides]
    for group in anatomy.groups:
        for vectors in group.vectors:
            info = tensors[vectors.tensor]
            if vectors.axis == 0 and is_scattered(vectors, info) and info.nbytes > HUB_COLUMN_BYTES:
                pair = [side.get((group.name, vectors.role)) for side in widths]
                if all(v is not None and v.axis == 0 and v.span is None and v.width > WINDOW[1] for v in pair):
                    yield group.name, vectors.role


def _narrowed(anatomy: Anatomy, places: Collection[_Place]) -> Anatomy:
    groups = tuple(
        replace(g, vectors=tuple(_cut(v, (g.name, v.role) in places) for v in g.vectors)) for g in anatomy.groups
    )
    return replace(anatomy, groups=groups, stream=None, limits=(*anatomy.limits, _NOTE))


def _cut(vectors: Vectors, dear: bool) -> Vectors:
    return replace(vectors, span=WINDOW) if dear and vectors.axis == 0 else vectors
