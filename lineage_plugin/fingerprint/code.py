r"""The search code: 512 bytes of a fingerprint, by which relatives are found among many models.

A code is a choice of sign bits, laid out alike for all models: the first 16 of a vector. Two models agree in each of
them with probability :math:`1 - \theta/\pi` (:mod:`lineage_plugin.fingerprint.sketch`): 1/2 when they are unrelated,
0.60 when 0.3 of the base is left.

=======  ======================================================================================
bytes    holds
=======  ======================================================================================
0-191    12 places of 16 bytes: the first 8 neurons of layers 0 to 5, then of the last six, the last one first
192-383  the same of the first 8 value channels
384-511  the first 64 channels of the residual stream
=======  ======================================================================================

Layers are counted from both ends because a change of depth moves those behind it; the stream keeps its place whatever
becomes of layers, neurons and experts. A unit that a model does not have is 16 zeros, as is one in 65,536 others. A
layer is named once: what is counted from the end is left empty where it lies among the first six.

Codes are for finding candidates. They are no evidence, and their score is no probability: coins decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.fingerprint.types import Fingerprint, Shelf, Strip

__all__ = ["CHANNELS", "CODE_BYTES", "ENDS", "UNITS", "CodeUnits", "code_units", "search_code"]

ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]

UNITS = 8
"""Units of a layer."""
ENDS = 6
"""Layers from either end."""
CHANNELS = 64
"""Channels of the residual stream."""
_UNIT_BYTES = 2
CODE_BYTES = (2 * 2 * ENDS * UNITS + CHANNELS) * _UNIT_BYTES

_NEURONS = ("mlp", "experts", "channels")
_ATTENTION = ("value", "query-key")
_ROLES = ("up", "v", "fc2", "o", "fc1", "gate", "down")
"""The order in which roles are kept when there is no room for all, so the first is there whatever the depth."""


@dataclass(frozen=True, eq=False, slots=True)
class CodeUnits:
    """The units of all layers that codes are made of; 16 zeros where there is none.

    Attributes:
        neurons: ``[layers, 8, 2]`` packed bits of units of the MLP, of the first expert or of unknown layers.
        values: ``[layers, 8, 2]`` of value channels, or of rotary pairs where there are none.
        stream: ``[64, 2]`` of channels of the residual stream.
    """

    neurons: ByteArray
    values: ByteArray
    stream: ByteArray


def search_code(fingerprint: Fingerprint) -> ByteArray:
    """Return the search code of a model.

    Args:
        fingerprint: The model.

    Returns:
        ``[512]``.
    """
    units = code_units(fingerprint)
    parts = [_ends(units.neurons), _ends(units.values), units.stream.reshape(-1)]
    return np.concatenate(parts)


def code_units(fingerprint: Fingerprint) -> CodeUnits:
    """Return the units of all layers, of which a code holds those at the ends.

    Args:
        fingerprint: The model.

    Returns:
        The units; layers are counted within each kind.
    """
    stream = np.zeros((CHANNELS, _UNIT_BYTES), dtype=np.uint8)
    sketch = fingerprint.stream
    if sketch is not None and sketch.bits.shape[1] >= _UNIT_BYTES:
        held = min(CHANNELS, sketch.bits.shape[0])
        stream[:held] = np.where(sketch.usable[:held, None], sketch.bits[:held, :_UNIT_BYTES], 0)
    return CodeUnits(_stack(fingerprint, _NEURONS), _stack(fingerprint, _ATTENTION), stream)


def _stack(fingerprint: Fingerprint, kinds: tuple[str, ...]) -> ByteArray:
    """Return the units of the first of some kinds that each layer has, layer by layer."""
    layers: dict[int, ByteArray] = {}
    shelves = [shelf for shelf in fingerprint.shelves if shelf.kind in kinds]
    for shelf in sorted(shelves, key=lambda shelf: (kinds.index(shelf.kind), *shelf.form)):
        strip = _leading(shelf)
        if strip is None:
            continue
        held = min(UNITS, shelf.held)
        bits = np.zeros((len(shelf.layers), UNITS, _UNIT_BYTES), dtype=np.uint8)
        bits[:, :held] = np.where(shelf.usable[:, :held, None], strip.bits[:, :held, :_UNIT_BYTES], 0)
        for layer, units in zip(shelf.layers, bits, strict=True):
            layers.setdefault(layer, units)
    if not layers:
        return np.zeros((0, UNITS, _UNIT_BYTES), dtype=np.uint8)
    return np.stack([layers[layer] for layer in sorted(layers)])


def _leading(shelf: Shelf) -> Strip | None:
    """Return the role that codes are made of: the first in a fixed order that has bits enough."""
    strips: Iterable[Strip] = (strip for strip in shelf.strips if strip.bits.shape[2] >= _UNIT_BYTES)
    order = {role: at for at, role in enumerate(_ROLES)}
    return min(strips, key=lambda strip: (order.get(strip.role, len(order)), strip.role), default=None)


def _ends(units: ByteArray) -> ByteArray:
    """Lay out the first layers and the last ones."""
    count = units.shape[0]
    places = np.zeros((2, ENDS, UNITS, _UNIT_BYTES), dtype=np.uint8)
    front, back = min(ENDS, count), min(ENDS, max(0, count - ENDS))
    places[0, :front] = units[:front]
    places[1, :back] = units[count - back :][::-1]
    return places.reshape(-1)
