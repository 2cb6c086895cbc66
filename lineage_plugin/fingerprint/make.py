"""From a checkpoint to its fingerprint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lineage_plugin._version import __version__
from lineage_plugin.anatomy import Anatomy
from lineage_plugin.anatomy.types import UnitGroup
from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.checkpoint.remembered import Remembered
from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.errors import UsageError
from lineage_plugin.evidence.channels import balanced_rows
from lineage_plugin.evidence.models import main_part
from lineage_plugin.evidence.order import is_sorted, order_score
from lineage_plugin.evidence.repeats import repeat_classes, repeated_units, search_elements, search_units
from lineage_plugin.evidence.rounding import common_block
from lineage_plugin.evidence.sample import read_units
from lineage_plugin.fingerprint.grids import quantise_axes, quantise_energy, quantise_strength
from lineage_plugin.fingerprint.plan import AXES_UNITS, ShelfPlan, axes_units, plan_shelves
from lineage_plugin.fingerprint.reading import LINE, MOST_LIMITS, SENTENCE
from lineage_plugin.fingerprint.sketch import sketch
from lineage_plugin.fingerprint.types import Fingerprint, Shelf, Source, StreamSketch, Strip, TokenizerSketch
from lineage_plugin.judge.assemble import summarise
from lineage_plugin.options import Progress
from lineage_plugin.text import one_line
from lineage_plugin.tokens.formats import FORMATS

__all__ = ["fingerprint_of"]

FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
ByteArray = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]

ONE_AXIS = 8
"""Units for which one principal direction is kept: the strongest eighth."""
TOKEN_ROWS = 64
FIRST_TOKEN = 1024
"""First of the token rows: beyond special tokens and bytes, and among the tokens that every vocabulary uses much."""
CHANNELS = 128
CHANNEL_BITS = 32
LAYERS_AT_ONCE = 8
"""Layers of a shelf that are read in one call."""


def fingerprint_of(
    checkpoint: Checkpoint, *, name: str | None = None, digests: bool = False, progress: Progress | None = None
) -> Fingerprint:
    """Make the fingerprint of a model.

    Args:
        checkpoint: The model.
        name: What to call a local model; None: its folder's name. A model of the Hub keeps its id.
        digests: Whether to read local files for their sha256; those of the Hub are known.
        progress: Called as layers are read.

    Returns:
        The fingerprint: the same for the same weights, wherever they are read from, but for id and digests.

    Raises:
        UsageError: When the model is an adapter, which has units of its base only.
        InputError: When the weights cannot be read.
        HubError: When the Hub does not deliver.
    """
    anatomy = main_part(checkpoint)
    if anatomy.family == "lora":
        raise UsageError(f"{checkpoint.id}: an adapter has no fingerprint of its own. Give its base, or merge it.")
    plans = plan_shelves(anatomy, checkpoint.tensors)
    total, done = sum(len(plan.groups) for plan in plans), 0
    reader = checkpoint if checkpoint.local else Remembered(checkpoint)
    shelves = []
    searched: dict[_Form, list[_Searched]] = {}
    for plan in plans:
        shelves.append(_shelf(reader, plan, anatomy, searched))
        done += len(plan.groups)
        if progress is not None:
            progress("reading layers", done, total)
    summary = summarise(checkpoint, anatomy, digests=digests)
    files = {f: (checkpoint.files[f].size, summary.sha256.get(f)) for f in checkpoint.weight_files}
    return Fingerprint(
        source=Source(
            id=_name(checkpoint, name),
            revision=checkpoint.revision,
            format=one_line(summary.format or checkpoint.format, LINE),
            files=files,
            parameters=summary.parameters or 0,
            # What a configuration says may be anything, and must not keep a model from having a fingerprint.
            architecture=one_line(summary.architecture or "", LINE) or None,
            tool=f"lineage-plugin {__version__}",
        ),
        family=anatomy.family,
        exact=anatomy.exact,
        layers=anatomy.layers,
        width=anatomy.width,
        shelves=tuple(shelves),
        stream=_stream(reader, anatomy),
        tokenizer=_tokenizer(checkpoint),
        limits=tuple(line for text in anatomy.limits[:MOST_LIMITS] if (line := one_line(text, SENTENCE))),
        part=anatomy.part,
    )


def _name(checkpoint: Checkpoint, name: str | None) -> str:
    if name is not None:
        return name
    if not checkpoint.local and is_model_id(checkpoint.id):
        return checkpoint.id
    # Of a path the last part: where a model lies on a machine is nobody's business.
    last = Path(checkpoint.id).absolute().name if checkpoint.local else checkpoint.id.rpartition("/")[2]
    return last or "model"


_Form = tuple[str, tuple[tuple[str, int, int], ...]]
"""Kind, and of each role name, elements of a vector and searched units: what must agree for units to be copies."""
_Searched = Sequence[FloatArray]
"""What repeats are found by: of each role the searched units, shortened."""


def _shelf(checkpoint: Checkpoint, plan: ShelfPlan, anatomy: Anatomy, searched: dict[_Form, list[_Searched]]) -> Shelf:
    """Read the units of all layers of a shelf, some layers at a time, and keep what the fingerprint holds.

    Args:
        checkpoint: The model.
        plan: What to read.
        anatomy: The model's anatomy.
        searched: Units of the shelves before, to which those of this one are added. Experts made of one MLP are copies
            in shelves of their own: the later ones are clones, since coins are merged inside a shelf only.
    """
    units = np.arange(plan.units, dtype=np.int64)
    layers: list[_Layer] = []
    for start in range(0, len(plan.groups), LAYERS_AT_ONCE):
        some = plan.groups[start : start + LAYERS_AT_ONCE]
        found = read_units(checkpoint, [(group, units, plan.roles) for group in some])
        layers += [_layer(plan, group, vectors) for group, vectors in zip(some, found, strict=True)]
    first = plan.groups[0]
    odd = tuple(first.by_role[role].odd for role in plan.roles)
    pairs = search_units(_pairs(plan), plan.units)[1]
    shape = tuple((role, row.dim, row.searched.shape[0]) for role, row in zip(plan.roles, layers[0].roles, strict=True))
    groups = searched.setdefault((first.name, shape), [])
    known = len(groups)
    groups += [[row.searched for row in layer.roles] for layer in layers]
    label = repeat_classes(groups, odd, pairs, first.flip)[known:] - known
    copied = label < 0
    return Shelf(
        kind=first.name,
        part=first.part,
        units=first.units,
        block=plan.block,
        swap=first.swap,
        layers=tuple(group.layer for group in plan.groups),
        strips=tuple(
            _strip(checkpoint, plan, role, [layer.roles[at] for layer in layers]) for at, role in enumerate(plan.roles)
        ),
        usable=np.stack([layer.usable for layer in layers]),
        clone=np.stack([layer.clone for layer in layers]) | copied[:, None],
        repeats=np.where(copied, np.arange(len(layers)), label),
        ordered=first.swap and is_sorted([layer.order for layer in layers]),
        names=() if anatomy.exact else tuple(group.vectors[0].tensor for group in plan.groups),
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Row:
    """What is kept of one role of one layer."""

    dim: int
    bits: ByteArray
    energy: FloatArray
    step: float
    axes: FloatArray
    strength: FloatArray
    searched: FloatArray


@dataclass(frozen=True, eq=False, slots=True)
class _Layer:
    """What is kept of one layer: vectors are read, looked at and let go."""

    roles: tuple[_Row, ...]
    usable: BoolArray
    clone: BoolArray
    order: Float64Array


def _layer(plan: ShelfPlan, group: UnitGroup, vectors: Sequence[FloatArray]) -> _Layer:
    chosen, _ = search_units(_pairs(plan), plan.units)
    roles, usable = [], np.ones(plan.units, dtype=bool)
    for role, part in zip(plan.roles, vectors, strict=True):
        bits, fine = sketch(part, plan.bits[role])
        # Where units may not change places, as rotary pairs, their energies mean something and say nothing of descent.
        few = part[: plan.measured]
        energy, step = quantise_energy(_energy(few), fine[: few.shape[0]])
        searched = part[np.ix_(chosen, search_elements(part.shape[1]))]
        roles.append(_Row(part.shape[1], bits, energy, step, *_axes(few), searched))
        usable &= fine
    return _Layer(tuple(roles), usable, repeated_units(vectors), order_score(vectors, group.block[: plan.units]))


def _pairs(plan: ShelfPlan) -> NDArray[np.int64]:
    """Return neighbours that may change places, as the search for repeats pairs them."""
    even = np.arange(0, plan.units - 1, 2, dtype=np.int64)
    even = even[even // plan.block == (even + 1) // plan.block]
    return np.stack([even, even + 1], axis=1)


def _energy(rows: FloatArray) -> Float64Array:
    """Return base-2 logarithms of the squared lengths; NaN for rows that have none."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        # One row after the other, so that the sum does not depend on how many there are.
        square = np.array([np.square(row.astype(np.float64)).sum() for row in rows], dtype=np.float64)
        energy: Float64Array = np.where(np.isfinite(square) & (square > 0), np.log2(square), np.nan)
    return energy


def _axes(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the strongest principal directions of the first units, as combinations of them, and their energies."""
    units = axes_units(rows.shape[0])
    part = rows[:units].astype(np.float64)
    with np.errstate(all="ignore"):
        gram = part @ part.T
    if not units or part.shape[1] < units or not np.isfinite(gram).all() or not gram.any():
        return np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    energy, directions = np.linalg.eigh(gram)
    count = units // ONE_AXIS
    strongest = directions[:, ::-1][:, :count]
    # An eigenvector has no sign; the first of its largest elements is made positive.
    peak = np.abs(strongest).argmax(axis=0)
    whole = np.zeros((AXES_UNITS, count))
    whole[:units] = strongest * np.sign(strongest[peak, np.arange(count)])
    return quantise_axes(whole), quantise_strength(energy[::-1][:count])


def _strip(checkpoint: Checkpoint, plan: ShelfPlan, role: str, rows: Sequence[_Row]) -> Strip:
    vectors = plan.groups[0].by_role[role]
    infos = [checkpoint.tensors[group.by_role[role].tensor] for group in plan.groups]
    axes = [row.axes for row in rows] if all(row.axes.size for row in rows) else []
    packed = {info.encoding for info in infos if info.encoding is not None}
    return Strip(
        role=role,
        dim=rows[0].dim,
        odd=vectors.odd,
        bits=np.stack([row.bits for row in rows]),
        energy=np.stack([row.energy for row in rows]),
        step=np.array([row.step for row in rows], dtype=np.float32),
        axes=np.stack(axes) if axes else np.zeros((0, AXES_UNITS, 0), np.float32),
        strength=np.stack([row.strength for row in rows]) if axes else np.zeros((0, 0), np.float32),
        shared=common_block({encoding.shared[vectors.axis] for encoding in packed}) if packed else None,
        packing=", ".join(sorted({encoding.name for encoding in packed})),
    )


def _stream(checkpoint: Checkpoint, anatomy: Anatomy) -> StreamSketch | None:
    """Sketch the first channels of the residual stream over a few token rows that lie side by side."""
    stream = anatomy.stream
    info = None if stream is None else checkpoint.tensors.get(stream.embedding)
    if stream is None or info is None or len(info.shape) != 2 or info.shape[0] < TOKEN_ROWS:
        return None
    first = min(FIRST_TOKEN, info.shape[0] - TOKEN_ROWS)
    (rows,) = checkpoint.read([Selection(stream.embedding, first + np.arange(TOKEN_ROWS, dtype=np.int64))])
    # Principal components in order of their size, as some pruning tools store them, are alike in independent models.
    in_order = is_sorted([order_score([rows.T], np.zeros(rows.shape[1], dtype=np.int64))])
    columns = rows[:, :CHANNELS].T.astype(np.float64)
    # What all tokens have in common is taken out; halves are added so that the sum is the same on every machine.
    total = columns
    while total.shape[1] > 1:
        half = total.shape[1] // 2
        total = total[:, :half] + total[:, half:]
    with np.errstate(invalid="ignore", over="ignore"):
        bits, usable = sketch((columns - total / TOKEN_ROWS).astype(np.float32), CHANNEL_BITS)
    # A widened model holds channels several times; they are told by what is left when shared directions are damped.
    known = np.where(np.isfinite(rows).all(axis=0), rows, np.float32(0.0))
    usable &= ~repeated_units([balanced_rows(known).T[:CHANNELS].astype(np.float32)])
    return StreamSketch(
        width=stream.width,
        rows=info.shape[0],
        first=first,
        flip=stream.flip,
        swap=stream.swap and not in_order,
        bits=bits,
        usable=usable,
        quantised=info.encoding is not None,
    )


def _tokenizer(checkpoint: Checkpoint) -> TokenizerSketch | None:
    for form in FORMATS:
        for file in form.find(checkpoint.files):
            info = checkpoint.files[file]
            return TokenizerSketch(file, info.size, info.sha256)
    return None
