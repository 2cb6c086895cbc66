"""Fingerprints of weights made by hand, without a checkpoint behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lineage_plugin.fingerprint.align import ShelfPair, pair_shelves, same_layers
from lineage_plugin.fingerprint.grids import quantise_axes, quantise_energy, quantise_strength
from lineage_plugin.fingerprint.sketch import sketch
from lineage_plugin.fingerprint.types import Fingerprint, Shelf, Source, StreamSketch, Strip

ODD = frozenset({"up", "down", "v", "o"})
"""Roles that a flip of the unit negates."""


def strip(role: str, vectors: np.ndarray, bits: int, *, measured: int = 32, shared: int | None = None) -> Strip:
    """Sketch and measure ``[layers, units, dim]`` vectors, as a fingerprint keeps them."""
    _, units, dim = vectors.shape
    rows = vectors.astype(np.float32)
    energy = np.log2(np.square(rows[:, :measured].astype(np.float64)).sum(axis=2))
    grid = [quantise_energy(layer, np.isfinite(layer)) for layer in energy]
    axes, strength = np.zeros((0, 16, 0), np.float32), np.zeros((0, 0), np.float32)
    if units >= 16 <= dim:
        found = [_principal(layer[:16].astype(np.float64)) for layer in rows]
        axes, strength = (np.stack(part) for part in zip(*found, strict=True))
    return Strip(
        role=role,
        dim=dim,
        odd=role in ODD,
        bits=np.stack([sketch(layer, bits)[0] for layer in rows]),
        energy=np.stack([part[0] for part in grid]),
        step=np.array([part[1] for part in grid], np.float32),
        axes=axes,
        strength=strength,
        shared=shared,
    )


def _principal(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    energy, directions = np.linalg.eigh(rows @ rows.T)
    return quantise_axes(directions[:, :-3:-1]), quantise_strength(energy[:-3:-1])


def bit_strip(role: str, bits: np.ndarray, *, shared: int | None = None) -> Strip:
    """A strip of given packed bits ``[layers, units, bytes]`` and of vectors that were not measured."""
    layers = bits.shape[0]
    nothing = np.zeros((layers, 0), np.float32)
    empty = np.zeros((0, 16, 0), np.float32), np.zeros((0, 0), np.float32)
    return Strip(role, 64, role in ODD, bits, nothing, np.ones(layers, np.float32), *empty, shared)


def shelf(
    strips: Sequence[Strip],
    *,
    kind: str = "mlp",
    part: int = 0,
    units: int | None = None,
    block: int | None = None,
    swap: bool = True,
    layers: Sequence[int] | None = None,
    repeats: Sequence[int] | None = None,
    clone: np.ndarray | None = None,
    usable: np.ndarray | None = None,
    ordered: bool = False,
    names: Sequence[str] = (),
) -> Shelf:
    """A shelf of strips; what is not given is unremarkable."""
    count, held = strips[0].bits.shape[:2]
    return Shelf(
        kind=kind,
        part=part,
        units=units or held,
        block=block or units or held,
        swap=swap,
        layers=tuple(range(count)) if layers is None else tuple(layers),
        strips=tuple(strips),
        usable=np.ones((count, held), bool) if usable is None else usable,
        clone=np.zeros((count, held), bool) if clone is None else clone,
        repeats=np.arange(count) if repeats is None else np.asarray(repeats, np.int64),
        ordered=ordered,
        names=tuple(names),
    )


def fingerprint(
    *shelves: Shelf, family: str = "llama", exact: bool = True, stream: StreamSketch | None = None
) -> Fingerprint:
    """A fingerprint of shelves."""
    source = Source("someone/model", None, "safetensors", {}, 1, None, "lineage-plugin test")
    layers = max((max(part.layers) + 1 for part in shelves), default=0)
    return Fingerprint(source, family, exact, layers, 64, shelves, stream)


def model(vectors: Mapping[str, np.ndarray], bits: int, **given: object) -> Fingerprint:
    """A fingerprint of one shelf: role by role ``[layers, units, dim]`` vectors."""
    return fingerprint(shelf([strip(role, rows, bits) for role, rows in vectors.items()], **given))  # type: ignore[arg-type]


def pair_of(suspect: Fingerprint, base: Fingerprint) -> ShelfPair:
    """The only comparable shelves of two fingerprints, layers of equal number."""
    (pair,) = same_layers(pair_shelves(suspect, base))
    return pair


def relabelled(part: Shelf, order: np.ndarray, flips: np.ndarray | None = None) -> Shelf:
    """Exchange the units of all layers, and flip some.

    Args:
        part: The shelf; its vectors must not have been measured.
        order: ``[units]`` or ``[layers, units]`` which unit stands where.
        flips: The same: 1, or 255 where the unit is negated after it was moved.
    """
    count, held = part.usable.shape
    order = np.broadcast_to(order, (count, held))
    strips = []
    for one in part.strips:
        bits = np.take_along_axis(one.bits, order[:, :, None], axis=1)
        if one.odd and flips is not None:
            bits = bits ^ np.broadcast_to(flips, (count, held))[:, :, None].astype(np.uint8)
        strips.append(replace(one, bits=bits))
    moved = (np.take_along_axis(mask, order, axis=1) for mask in (part.usable, part.clone))
    return replace(part, strips=tuple(strips), usable=next(moved), clone=next(moved))
