r"""A synthetic population of models as fingerprints: families, relatives and strangers, made without any weights.

Two vectors at an angle :math:`\theta` have sign bits that agree with probability :math:`1 - \theta/\pi`, and bits of
different pseudo-random directions are independent given the vectors: for a Gaussian direction :math:`r`, the pair
:math:`(r \cdot x, r \cdot y)` is bivariate normal with the vectors' cosine :math:`c` as correlation, so the signs
differ with probability :math:`\arccos(c)/\pi` (Sheppard 1899). So a descendant that keeps :math:`c` has its parent's
bits, each flipped with that probability; ``tests/benchmarks/test_population.py`` sets this against sketches of vectors.

What makes the search hard in real models is kept: units of a layer have a direction in common, of a strength that
differs between layers; all models of one width share an axis along which units lie with either sign, as they do along
the mean of a normalised stream; channels of the stream follow the same few directions of the same tokens in all models
of a vocabulary; lengths of vectors have heavy tails; and most models have one of a few shapes.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.fingerprint.code import ENDS
from lineage_plugin.fingerprint.grids import LEAST_STEP, quantise_axes, quantise_energy, quantise_strength
from lineage_plugin.fingerprint.plan import AXES_UNITS
from lineage_plugin.fingerprint.types import Fingerprint, Shelf, Source, StreamSketch, Strip, TokenizerSketch

__all__ = [
    "KINDS",
    "SHAPES",
    "Change",
    "Model",
    "Shape",
    "descendant",
    "ends_of",
    "fingerprint_of",
    "founder",
    "layers_of",
]

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

CHANNELS, CHANNEL_BITS, TOKENS = 128, 32, 64
FIRST_UNITS, FIRST_BITS = 8, 16
"""What codes are made of; it is drawn first, so that it can be drawn alone."""
SHARED_AXIS = 0.1
"""Share of a vector's energy along the axis that all models of a width have."""
KINDS = ("fine-tuned", "depth changed", "up-scaled", "quantised", "MLP pruned", "experts", "new vocabulary")


@dataclass(frozen=True, slots=True)
class Shape:
    """A popular shape.

    Attributes:
        name: What has it.
        share: Share of all models.
        layers: Layers.
        width: Size of the residual stream.
        neurons: Of an MLP.
        channels: Value channels.
        head: Channels of a head.
        gated: Whether the MLP is gated; then it has ``up`` and ``gate``, else ``fc1``.
        units: Units that a fingerprint holds of each group.
        bits: Bits of a vector.
        vocabulary: Token rows.
    """

    name: str
    share: float
    layers: int
    width: int
    neurons: int
    channels: int
    head: int
    gated: bool = True
    units: int = 16
    bits: int = 256
    vocabulary: int = 32000


SHAPES = (
    Shape("7B or 8B", 0.30, 32, 4096, 14336, 1024, 128),
    Shape("7B of 28 layers", 0.20, 28, 3584, 18944, 512, 128, vocabulary=152064),
    Shape("1.5B", 0.12, 28, 1536, 8960, 256, 128, vocabulary=151936),
    Shape("0.5B", 0.10, 24, 896, 4864, 128, 64, vocabulary=151936),
    Shape("encoder of 12 layers", 0.10, 12, 768, 3072, 768, 64, gated=False, vocabulary=30522),
    Shape("2B", 0.06, 26, 2304, 9216, 1024, 256, vocabulary=256000),
    Shape("4B", 0.05, 32, 3072, 8192, 3072, 96, vocabulary=32064),
    Shape("13B", 0.04, 40, 5120, 13824, 5120, 128),
    Shape("70B", 0.03, 80, 8192, 28672, 1024, 128, units=8),
)


@dataclass(frozen=True, slots=True)
class Change:
    """How a model was made of another.

    Attributes:
        kind: One of :data:`KINDS`.
        kept: Cosine of its units with its parent's.
        layers: Layer of the parent that each layer was made of; -1 for a new one.
        units: Units of the parent's MLP that were kept, the first ones; empty: all.
        stream: Cosine of the channels of the stream; 0 for a new vocabulary.
        zeros: Share of units that are zero.
    """

    kind: str
    kept: float
    layers: tuple[int, ...]
    units: tuple[int, ...] = ()
    stream: float = 1.0
    zeros: float = 0.0


@dataclass(frozen=True, eq=False, slots=True)
class Model:
    """One model of the population.

    Attributes:
        number: Its number, from which all draws follow.
        shape: Its shape, or that of its first ancestor.
        parent: The model that it was made of; None for one that was trained from scratch.
        change: How it was made.
    """

    number: int
    shape: Shape
    parent: Model | None = None
    change: Change | None = None

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.shape.layers if self.change is None else len(self.change.layers)

    @property
    def founder(self) -> Model:
        """The first ancestor."""
        return self if self.parent is None else self.parent.founder


def founder(number: int, shape: Shape) -> Model:
    """Return a model that was trained from scratch."""
    return Model(number, shape)


def descendant(number: int, parent: Model, kind: str, kept: float) -> Model:
    """Return a model that was made of another.

    Args:
        number: Its number.
        parent: The other.
        kind: One of :data:`KINDS`.
        kept: Cosine of its units with the parent's.

    Returns:
        The model. Layers that are dropped, repeated or put in are an eighth to a quarter of all, at random places;
        up-scaled models are the first three quarters of the layers and the last three quarters. Pruned MLPs have
        three quarters of their neurons.
    """
    rng = _rng(number, 1 << 20)
    layers, change = list(range(parent.layers)), Change(kind, kept, tuple(range(parent.layers)), stream=kept)
    if kind == "depth changed":
        for _ in range(int(rng.integers(-(-len(layers) // 8), len(layers) // 4 + 1))):
            at, how = int(rng.integers(len(layers))), int(rng.integers(3))
            layers[at : at + 1] = ([], [layers[at], layers[at]], [layers[at], -1])[how]
        change = Change(kind, kept, tuple(layers), stream=kept)
    elif kind == "up-scaled":
        cut = len(layers) * 3 // 4
        change = Change(kind, kept, (*layers[:cut], *layers[-cut:]), stream=kept)
    elif kind == "quantised":
        change = Change(kind, kept, change.layers, stream=kept, zeros=float(rng.choice([0.0, 0.02, 0.1])))
    elif kind == "MLP pruned":
        whole = np.flatnonzero(rng.random(4 * parent.shape.units) < 0.75)
        change = Change(kind, kept, change.layers, tuple(whole[: parent.shape.units].tolist()), kept)
    elif kind == "new vocabulary":
        change = Change(kind, kept, change.layers, stream=0.0)
    return Model(number, parent.shape, parent, change)


def fingerprint_of(model: Model) -> Fingerprint:
    """Return the whole fingerprint."""
    return _fingerprint(model, range(model.layers), model.shape.units, model.shape.bits)


def ends_of(model: Model) -> Fingerprint:
    """Return a fingerprint of no more than a code is made of: a hundredth of the work, and the same code."""
    front = range(min(ENDS, model.layers))
    back = range(max(ENDS, model.layers - ENDS), model.layers)
    return _fingerprint(model, [*front, *back], FIRST_UNITS, FIRST_BITS)


def layers_of(model: Model) -> Fingerprint:
    """Return a fingerprint of no more than a search looks at: all layers, but few units and bits."""
    return _fingerprint(model, range(model.layers), FIRST_UNITS, FIRST_BITS)


def _fingerprint(model: Model, layers: Sequence[int], units: int, bits: int) -> Fingerprint:
    shape, change = model.shape, model.change
    experts, pruned = change is not None and change.kind == "experts", change is not None and change.units
    neurons = shape.neurons * 3 // 4 if pruned else shape.neurons
    mlp = (("up", "gate") if shape.gated else ("fc1",))[: 2 if units == shape.units and bits == shape.bits else 1]
    quantised = change is not None and change.kind == "quantised"
    shelves = [
        _shelf(model, "experts" if experts else "mlp", neurons, neurons, mlp, layers, (units, bits)),
        _shelf(model, "value", shape.channels, shape.head, ("v",), layers, (units, bits)),
    ]
    vectors = _stream(model)
    held = CHANNELS if units == shape.units else FIRST_UNITS**2
    packed = np.packbits(vectors[:held] @ _token_directions() > 0, axis=1)
    return Fingerprint(
        source=Source(
            id=f"lab/{model.number}",
            revision=f"{model.number:040x}",
            format="safetensors",
            files={"model.safetensors": (model.number, None)},
            parameters=shape.width**2 * 12 * model.layers,
            architecture=None,
            tool="benchmark",
        ),
        family="llama" if shape.gated else "bert",
        exact=True,
        layers=model.layers,
        width=shape.width,
        shelves=tuple(shelves),
        stream=StreamSketch(
            width=shape.width,
            rows=shape.vocabulary,
            first=1024,
            flip=shape.gated,
            swap=True,
            bits=packed,
            usable=np.ones(held, dtype=bool),
            quantised=quantised,
        ),
        tokenizer=TokenizerSketch("tokenizer.json", shape.vocabulary, None),
    )


def _shelf(
    model: Model,
    kind: str,
    units: int,
    block: int,
    roles: Sequence[str],
    layers: Sequence[int],
    held: tuple[int, int],
) -> Shelf:
    count, bits = held
    stack = 0 if kind != "value" else 2
    usable = np.stack([_usable(model, stack, layer)[:count] for layer in layers])
    strips = []
    for at, role in enumerate(roles):
        found = np.stack([_bits(model, stack + at, layer, (count, bits)) for layer in layers])
        packed = np.packbits(found & usable[..., None], axis=2)
        strips.append(_strip(model, stack + at, role, layers, packed, usable))
    return Shelf(
        kind=kind,
        part=0,
        units=units,
        block=block,
        swap=True,
        layers=tuple(layers),
        strips=tuple(strips),
        usable=usable,
        clone=np.zeros(usable.shape, dtype=bool),
        repeats=np.arange(len(layers)),
    )


def _strip(
    model: Model, role: int, name: str, layers: Sequence[int], packed: NDArray[np.uint8], usable: BoolArray
) -> Strip:
    """Add what a code is not made of: heavy-tailed lengths and two principal directions."""
    quantised = model.change is not None and model.change.kind == "quantised"
    rng = _rng(model.founder.number, 2 << 24 | role)
    count = len(layers)
    energy, step = np.zeros((count, 0), dtype=np.float32), np.full(count, LEAST_STEP, dtype=np.float32)
    axes, strength = np.zeros((0, AXES_UNITS, 0), np.float32), np.zeros((0, 0), np.float32)
    if packed.shape[1] == model.shape.units:
        rows = [quantise_energy(rng.standard_t(4, size=of.shape[0]), of) for of in usable]
        energy, step = np.stack([row for row, _ in rows]), np.array([step for _, step in rows], dtype=np.float32)
    if packed.shape[1] == AXES_UNITS:
        axes = quantise_axes(np.linalg.qr(rng.normal(size=(count, AXES_UNITS, 2)))[0])
        strength = quantise_strength(np.sort(rng.uniform(2, 8, size=(count, 2)), axis=1)[:, ::-1])
    return Strip(
        role=name,
        dim=model.shape.width,
        odd=name in ("up", "v"),
        bits=packed,
        energy=energy,
        step=step,
        axes=axes,
        strength=strength,
        shared=1 if quantised else None,
        packing="Q4_K" if quantised else "",
    )


def _rng(number: int, what: int) -> np.random.Generator:
    """Return the generator of one draw; it takes microseconds, where a seed sequence takes twenty."""
    return np.random.Generator(np.random.Philox(key=number << 64 | what))


class _Draw:
    """Draws of one layer and role: what codes are made of comes out alike whether or not the rest is drawn.

    Args:
        number: Number of the model.
        what: Layer and role.
        held: Units and bits that are wanted.
    """

    def __init__(self, number: int, what: int, held: tuple[int, int]) -> None:
        self.held = held
        self._first = _rng(number, what)
        self._rest = None if held == (FIRST_UNITS, FIRST_BITS) else _rng(number, 1 << 24 | what)

    def normal(self, units: int | None = None, bits: int | None = None) -> FloatArray:
        """Draw standard normal numbers, ``[units, bits]``, as many as are held where no number is given."""
        found = self._first.standard_normal((units or FIRST_UNITS, bits or FIRST_BITS), dtype=np.float32)
        if self._rest is None:
            return found
        whole = self._rest.standard_normal((units or self.held[0], bits or self.held[1]), dtype=np.float32)
        whole[: found.shape[0], : found.shape[1]] = found[: whole.shape[0]]
        return whole


def _bits(model: Model, role: int, layer: int, held: tuple[int, int]) -> BoolArray:
    """Return the bits of one layer and role: ``[units, bits]``."""
    change = model.change
    source = -1 if change is None else change.layers[layer]
    draw = _Draw(model.number, role << 12 | layer, held)
    if model.parent is None or change is None or source < 0:
        return _fresh(model.shape, draw)
    pruned = bool(change.units) and role < 2
    theirs = _pruned(model, role, layer, held) if pruned else _bits(model.parent, role, source, held)
    level = NormalDist().inv_cdf(max(1e-12, np.arccos(change.kept) / np.pi))
    return theirs ^ (draw.normal() < level)


def _pruned(model: Model, role: int, layer: int, held: tuple[int, int]) -> BoolArray:
    """Return the bits of the parent's units that were kept."""
    assert model.parent is not None and model.change is not None
    whole = (model.shape.units, model.shape.bits)
    theirs = _fresh(model.shape, _Draw(model.number, (role + 9) << 12 | layer, whole))
    parents = _bits(model.parent, role, model.change.layers[layer], whole)
    # Units of another tile have other directions, so what moves here from there agrees by chance.
    moved = np.array(model.change.units)
    inside = moved < parents.shape[0]
    theirs[inside] = parents[moved[inside]]
    return theirs[: held[0], : held[1]]


def _fresh(shape: Shape, draw: _Draw) -> BoolArray:
    """Draw the bits of a trained layer: units with a direction in common, and along the axis of their width."""
    common = 10 ** (-1.2 + 0.8 * np.tanh(draw.normal(1, 1)[0, 0]))
    total = np.sqrt(1 - common - SHARED_AXIS) * draw.normal()
    total += np.sqrt(common) * draw.normal(units=1)
    total += np.sqrt(SHARED_AXIS) * draw.normal(bits=1) * _axis(shape.width)[: draw.held[1]]
    return total > 0


@functools.cache
def _axis(width: int) -> FloatArray:
    return _rng(width, 3 << 20).standard_normal(256, dtype=np.float32)


def _usable(model: Model, role: int, layer: int) -> BoolArray:
    """Say which of 16 units are not zero."""
    change, parent = model.change, model.parent
    usable = np.ones(16, dtype=bool)
    if change is not None and parent is not None and change.layers[layer] >= 0:
        usable = _usable(parent, role, change.layers[layer])
        if change.zeros:
            usable = usable & (_rng(model.number, 4 << 20 | role << 12 | layer).random(16) >= change.zeros)
    return usable


def _stream(model: Model) -> FloatArray:
    """Return the channels of the stream over the tokens, ``[128, 64]``: few directions hold most of their energy."""
    change = model.change
    rng = _rng(model.number, 5 << 20)
    fresh = rng.standard_normal((CHANNELS, TOKENS), dtype=np.float32) * _token_spectrum()
    if change is None or model.parent is None or change.stream == 0.0:
        return fresh
    kept = np.float32(change.stream)
    return kept * _stream(model.parent) + np.sqrt(1 - kept**2) * fresh


@functools.cache
def _token_spectrum() -> FloatArray:
    return (1.0 / np.sqrt(1.0 + np.arange(TOKENS))).astype(np.float32)


@functools.cache
def _token_directions() -> FloatArray:
    return _rng(0, 6 << 20).standard_normal((TOKENS, CHANNEL_BITS), dtype=np.float32)
