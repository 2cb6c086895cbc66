"""Common coordinates of two residual streams.

Vectors of two models can be set against each other once the suspect's residual stream is expressed in the channels of
the base. Norm gains stand between the stream and the matrices that read it; since a rotation of the stream is only
possible after they were folded into those matrices, they are folded in both models first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.stream import READS
from lineage_plugin.anatomy.types import Anatomy, Gain, UnitGroup
from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.evidence.basis import Basis

__all__ = ["Frame", "frame_of"]

FloatArray = NDArray[np.float32]
_Key = tuple[str, int, int]
_Gains = Mapping[_Key, tuple[FloatArray | None, FloatArray | None]]


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """How vectors over the two residual streams are brought into common coordinates.

    Attributes:
        basis: Map from the suspect's stream to the base's.
        suspect_gains: For each group of the suspect, the gains before its reading and after its writing vectors.
        base_gains: The same for the base.
        centred: Whether the mean over channels is taken from every vector: LayerNorm subtracts it from the stream, so
            it does nothing, and a rotated stream leaves it out.
    """

    basis: Basis
    suspect_gains: _Gains
    base_gains: _Gains
    centred: bool

    def of_suspect(
        self, group: UnitGroup, roles: Sequence[str], vectors: Sequence[FloatArray]
    ) -> tuple[FloatArray, ...]:
        """Return the suspect's vectors in the channels of the base, one ``[units, k * width]`` array a role."""
        folded = _fold(self.suspect_gains.get(group.key), roles, vectors)
        return tuple(self.basis.apply(self._centre(part, self.basis.widths[0])) for part in folded)

    def of_base(self, group: UnitGroup, roles: Sequence[str], vectors: Sequence[FloatArray]) -> tuple[FloatArray, ...]:
        """Return the base's vectors with gains folded, on the channels that the basis reaches."""
        folded = _fold(self.base_gains.get(group.key), roles, vectors)
        return tuple(self.basis.restrict(self._centre(part, self.basis.widths[1])) for part in folded)

    def _centre(self, part: FloatArray, width: int) -> FloatArray:
        if not self.centred:
            return part
        vectors = part.reshape(part.shape[0], -1, width)
        return np.ascontiguousarray((vectors - vectors.mean(axis=2, keepdims=True)).reshape(part.shape))


def frame_of(basis: Basis, models: Sequence[tuple[Checkpoint, Anatomy]]) -> Frame:
    """Read the gains of both models.

    Args:
        basis: Map from the first model's stream to the second's.
        models: Suspect and base with their anatomies, which must describe their streams.

    Returns:
        The frame.

    Raises:
        InputError: When a gain cannot be read.
        HubError: When the Hub does not deliver.
    """
    suspect, base = (_gains(checkpoint, anatomy) for checkpoint, anatomy in models)
    return Frame(basis, suspect, base, any(a.stream is not None and a.stream.norm == "layer" for _, a in models))


def _gains(checkpoint: Checkpoint, anatomy: Anatomy) -> _Gains:
    stream = anatomy.stream
    if stream is None:
        return {}
    wanted = sorted({gain.tensor for gain in (*stream.reads.values(), *stream.writes.values())})
    blocks = checkpoint.read([Selection(name, None, None, stream.width) for name in wanted])
    stored = {name: block.reshape(-1) for name, block in zip(wanted, blocks, strict=True)}

    def vector(gain: Gain | None) -> FloatArray | None:
        if gain is None:
            return None
        found = stored[gain.tensor] + np.float32(gain.plus_one)
        # A gain that is not finite would spoil every vector; unfolded they are merely less alike.
        return found if bool(np.isfinite(found).all()) else None

    keys = {*stream.reads, *stream.writes}
    return {key: (vector(stream.reads.get(key)), vector(stream.writes.get(key))) for key in keys}


def _fold(
    gains: tuple[FloatArray | None, FloatArray | None] | None, roles: Sequence[str], vectors: Sequence[FloatArray]
) -> list[FloatArray]:
    if gains is None:
        return list(vectors)
    before, after = gains
    folded = []
    for role, part in zip(roles, vectors, strict=True):
        gain = before if role in READS else after
        if gain is None:
            folded.append(part)
        else:
            width = gain.shape[0]
            scaled = part.reshape(part.shape[0], -1, width) * gain
            folded.append(np.ascontiguousarray(scaled.reshape(part.shape)))
    return folded
