"""The file of a fingerprint: what is written is read, what is damaged is refused, and the page about it is enough."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UsageError
from lineage_plugin.fingerprint.file import MAX_FILE, is_fingerprint, read_fingerprint, to_bytes
from lineage_plugin.fingerprint.grids import LEAST_STEP, quantise_axes, quantise_energy, quantise_strength
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.types import Fingerprint, Shelf, Source, StreamSketch, Strip, TokenizerSketch

from .test_sketch import slow_bits

ROOT = Path(__file__).parents[2]
WHERE = "some/lineage.fingerprint.safetensors"

# Fingerprints made up ------------------------------------------------------------------------------------------------


def energies(rng: np.random.Generator, layers: int, measured: int) -> tuple[np.ndarray, np.ndarray]:
    """Energies on their grids, some missing, of layers of very different spread."""
    rows = []
    for spread in rng.choice([0.0, 1e-4, 0.1, 3.0, 200.0], layers):
        values = rng.normal(rng.choice([-30.0, 0.0, 8.0]), spread, measured)
        rows.append(quantise_energy(values, rng.random(measured) < rng.choice([0.0, 0.7, 1.0])))
    steps = np.array([step for _, step in rows], np.float32)
    return np.array([values for values, _ in rows], np.float32).reshape(layers, measured), steps


def strip(
    rng: np.random.Generator, role: str, layers: int, held: int, bits: int = 16, measured: int = 2, axes: int = 0
) -> Strip:
    energy, step = energies(rng, layers, measured)
    rows = layers if axes else 0
    packed = bool(rng.random() < 0.3)
    return Strip(
        role=role,
        dim=int(rng.integers(1, 1 << 20)),
        odd=bool(rng.random() < 0.5),
        bits=rng.integers(0, 256, (layers, held, bits // 8), dtype=np.uint8),
        energy=energy,
        step=step,
        axes=quantise_axes(rng.uniform(-1, 1, (rows, 16, axes))),
        strength=quantise_strength(np.exp(rng.normal(0, 20, (rows, axes)))),
        shared=int(rng.integers(-1, 40)) if packed else None,
        packing="Q4_K, Q6_K" if packed else "",
    )


def shelf(
    rng: np.random.Generator, layers: tuple[int, ...], held: int, strips: tuple[Strip, ...], **more: object
) -> Shelf:
    count = len(layers)
    values: dict[str, object] = {
        **{"kind": "mlp", "part": 0, "units": held + 3, "block": 1 + held // 2, "swap": True},
        "usable": np.ones((count, held), bool),
        "clone": np.zeros((count, held), bool),
        "repeats": np.arange(count, dtype=np.int64),
    }
    return Shelf(layers=layers, strips=strips, **{**values, **more})  # type: ignore[arg-type]


def fingerprint(shelves: tuple[Shelf, ...] = (), **more: object) -> Fingerprint:
    source = Source("owner/name", None, "safetensors", {"model.safetensors": (10, None)}, 1, None, "lineage-plugin 1")
    values: dict[str, object] = {"source": source, "family": "llama", "exact": True, "layers": 4, "width": 64}
    return Fingerprint(shelves=shelves, **{**values, **more})  # type: ignore[arg-type]


_words = st.text("abcdefghij0123456789_-.", min_size=1, max_size=12).map(lambda text: "a" + text)
_lines = st.sampled_from(["safetensors", "GGUF Q4_K_M", "Gewichte, größer", "模型 3", "a [b](c) <d> `e`", "x" * 200])
_digests = st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)
_counts = st.integers(0, (1 << 53) - 1)


@st.composite
def shelves(draw: st.DrawFn, part: int) -> Shelf:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    held = draw(st.sampled_from([1, 2, 7, 16, 33]))
    layers = tuple(
        sorted(draw(st.sets(st.integers(0, draw(st.sampled_from([8, 1 << 20])) - 1), min_size=1, max_size=9)))
    )
    count = len(layers)
    roles = draw(st.lists(_words, min_size=1, max_size=4, unique=True))
    strips = tuple(
        strip(
            rng,
            role,
            count,
            held,
            draw(st.sampled_from([8, 16, 64, 256, 1024])),
            draw(st.integers(0, held)),
            draw(st.integers(0, 16)) if held >= 16 else 0,
        )
        for role in roles
    )
    repeats = np.arange(count, dtype=np.int64)
    for at in range(count):
        repeats[at] = repeats[draw(st.integers(0, at))] if draw(st.booleans()) else at
    return shelf(
        rng,
        layers,
        held,
        strips,
        kind=draw(st.sampled_from(["mlp", "value", "query-key", "experts", "channels"])),
        part=part,
        units=draw(st.sampled_from([held, held + 1, 1 << 20])),
        block=draw(st.integers(1, held)),
        swap=draw(st.booleans()),
        usable=rng.random((count, held)) < draw(st.sampled_from([0.5, 1.0])),
        clone=rng.random((count, held)) < draw(st.sampled_from([0.0, 0.3])),
        repeats=repeats,
        ordered=draw(st.booleans()),
        names=tuple(f"layers.{n}.größe weight" for n in layers) if draw(st.booleans()) else (),
    )


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    stream = None
    if draw(st.booleans()):
        channels, rows = draw(st.sampled_from([1, 8, 130])), draw(st.integers(64, 1 << 20))
        stream = StreamSketch(
            width=channels + draw(st.integers(0, 9)),
            rows=rows,
            first=draw(st.integers(0, rows - 64)),
            flip=draw(st.booleans()),
            swap=draw(st.booleans()),
            bits=rng.integers(0, 256, (channels, draw(st.sampled_from([1, 2, 128]))), dtype=np.uint8),
            usable=rng.random(channels) < draw(st.sampled_from([0.5, 1.0])),
            quantised=draw(st.booleans()),
        )
    names = draw(st.lists(_words.map(lambda word: f"{word}/model.safetensors"), max_size=3, unique=True))
    source = Source(
        id=draw(st.sampled_from(["owner/name", "gpt2", "my model (2)", "größe", "model.Q4_K_M.gguf"])),
        revision=draw(st.none() | st.just("0123456789abcdef" * 2 + "01234567")),
        format=draw(_lines),
        files={name: (draw(_counts), draw(_digests)) for name in names},
        parameters=draw(_counts),
        architecture=draw(st.none() | _lines),
        tool=draw(_lines),
    )
    return Fingerprint(
        source=source,
        family=draw(_words),
        exact=draw(st.booleans()),
        layers=draw(st.sampled_from([0, 1, 3, 8, 1 << 20])),
        width=draw(st.sampled_from([0, 64, (1 << 31) - 1])),
        shelves=tuple(draw(shelves(part)) for part in range(draw(st.integers(0, 4)))),
        stream=stream,
        tokenizer=draw(st.none() | st.builds(TokenizerSketch, st.just("a/tokenizer.json"), _counts, _digests)),
        limits=tuple(draw(st.lists(_lines, max_size=3))),
        part=draw(st.sampled_from(["", "model.language_model", "größe."])),
    )


def assert_same(one: object, other: object, path: str = "fingerprint") -> None:
    """Field by field, arrays with their shapes and types."""
    assert type(one) is type(other), path
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.shape == other.shape, path
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), path
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name), f"{path}.{field.name}")
    elif isinstance(one, tuple):
        assert len(one) == len(other), path
        for at, (a, b) in enumerate(zip(one, other)):
            assert_same(a, b, f"{path}[{at}]")
    else:
        assert one == other, path


# Round trips ---------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(fingerprints())
def test_what_is_written_is_read(made: Fingerprint) -> None:
    data = to_bytes(made)
    read = read_fingerprint(data, WHERE)
    assert_same(read, made)
    assert to_bytes(read) == data
    assert is_fingerprint(data) and is_fingerprint(data[:128])
    # The tiny reader below is written from docs/fingerprint.md alone.
    assert_read_alike(tiny_reader(data), made)


def some_fingerprint() -> Fingerprint:
    """One with a bit of everything."""
    rng = np.random.default_rng(0)
    first = shelf(
        rng,
        (0, 1, 2, 3),
        16,
        (strip(rng, "up", 4, 16, 32, 8, 2), strip(rng, "gate", 4, 16, 16, 8, 0)),
        usable=rng.random((4, 16)) < 0.9,
        repeats=np.array([0, 1, 1, 3]),
    )
    second = shelf(rng, (1, 3), 5, (strip(rng, "v", 2, 5),), kind="value", clone=np.eye(2, 5, dtype=bool), swap=False)
    stream = StreamSketch(64, 100, 36, True, True, rng.integers(0, 256, (20, 4), dtype=np.uint8), np.arange(20) > 2)
    digest = "0123456789abcdef" * 4
    source = Source("owner/name", "f" * 40, "safetensors", {"b.bin": (3, digest), "a.bin": (4, None)}, 9, "X", "tool 1")
    tokenizer = TokenizerSketch("tokenizer.json", 5, digest)
    return fingerprint((first, second), source=source, stream=stream, tokenizer=tokenizer, limits=("Something.",))


def test_the_bytes_depend_on_nothing_else() -> None:
    made = some_fingerprint()
    data = to_bytes(made)
    turned = dict(reversed(made.source.files.items()))
    again = dataclasses.replace(made, source=dataclasses.replace(made.source, files=turned))
    assert to_bytes(again) == to_bytes(copy.deepcopy(made)) == data
    size = int.from_bytes(data[:8], "little")
    assert size % 8 == 0 and data[8 : 8 + size].startswith(b'{"__metadata__":{"format":"lineage-fingerprint/1",')
    assert list(json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["fingerprint"])["files"]) == [
        "a.bin",
        "b.bin",
    ]


def test_what_is_read_cannot_be_changed() -> None:
    def arrays(value: object) -> list[np.ndarray]:
        if isinstance(value, np.ndarray):
            return [value]
        parts = value if isinstance(value, tuple) else [getattr(value, f.name) for f in dataclasses.fields(value)]  # type: ignore[arg-type]
        return [
            a for p in parts if isinstance(p, (tuple, np.ndarray)) or dataclasses.is_dataclass(p) for a in arrays(p)
        ]

    found = arrays(read_fingerprint(to_bytes(some_fingerprint()), WHERE))
    assert len(found) > 20 and not any(array.flags.writeable for array in found)


def test_a_model_without_shelves_has_a_fingerprint() -> None:
    assert_same(read_fingerprint(to_bytes(fingerprint()), WHERE), fingerprint())


@pytest.mark.parametrize("name", ["examples/base", "examples/honest"])
def test_fingerprints_of_models_come_back(name: str) -> None:
    folder = ROOT / name
    made = fingerprint_of(open_local(folder))
    data = to_bytes(made)
    assert_same(read_fingerprint(data, WHERE), made)
    assert to_bytes(fingerprint_of(open_local(folder))) == data
    assert_read_alike(tiny_reader(data), made)


def test_a_small_model_takes_16_kib() -> None:
    """Six layers with 12,672 bytes of sign bits: names, numbers and digests leave room below 16 KiB."""
    rng = np.random.default_rng(1)
    layers = tuple(range(6))
    made = (
        shelf(rng, layers, 64, tuple(strip(rng, role, 6, 64, 16, 32, 2) for role in "vo"), kind="value", units=64),
        shelf(rng, layers, 32, tuple(strip(rng, role, 6, 32, 16, 0, 0) for role in "qk"), kind="query-key", units=32),
        shelf(rng, layers, 272, tuple(strip(rng, role, 6, 272, 16, 32, 2) for role in ("up", "gate", "down"))),
    )
    digest = "0123456789abcdef" * 4
    source = Source(
        **{"id": "some-owner/some-model-200m", "revision": digest[:40], "format": "safetensors"},
        **{"files": {"model.safetensors": (7875416, digest)}, "parameters": 3934656},
        **{"architecture": "LlamaForCausalLM", "tool": "lineage-plugin 0.1.0"},
    )
    stream = StreamSketch(192, 4096, 1024, True, True, np.zeros((128, 4), np.uint8), np.ones(128, bool))
    tokenizer = TokenizerSketch("tokenizer.json", 259363, digest)
    data = to_bytes(fingerprint(made, source=source, layers=6, stream=stream, tokenizer=tokenizer))
    assert len(data) <= 16384
    assert int.from_bytes(data[:8], "little") < 1450


# The grids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.03, 1.0, 30.0, 550.0])
@pytest.mark.parametrize("middle", [-250.0, 0.0, 1.5, 30.0])
def test_energies_are_rounded_by_half_a_step(middle: float, spread: float) -> None:
    rng = np.random.default_rng(3)
    values = rng.uniform(middle - spread / 2, middle + spread / 2, 64)
    usable = rng.random(64) < 0.8
    rounded, step = quantise_energy(values, usable)
    assert math.log2(step) == round(math.log2(step)) and rounded.dtype == np.float32
    assert np.array_equal(np.isnan(rounded), ~usable)
    assert np.abs(rounded - values)[usable].max() <= step / 2
    assert step / 2 <= max(spread / 250, np.abs(values).max() * 2.0**-15, LEAST_STEP / 2)
    again, same = quantise_energy(rounded.astype(np.float64), usable)
    assert same == step and np.array_equal(again, rounded, equal_nan=True)


def test_energies_that_are_none() -> None:
    rounded, step = quantise_energy(np.array([np.nan, np.inf, -np.inf, 1.0]), np.array([True, True, True, False]))
    assert np.isnan(rounded).all() and step == LEAST_STEP
    assert quantise_energy(np.empty(0), np.empty(0, bool))[0].shape == (0,)
    with pytest.raises(ValueError, match="are none"):
        quantise_energy(np.array([0.0, 1e9]), np.array([True, True]))


def test_axes_and_strengths_are_rounded_once() -> None:
    rng = np.random.default_rng(4)
    axes = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    rounded = quantise_axes(axes)
    assert np.abs(rounded - axes).max() <= 0.5 / 127 + 1e-7 and np.array_equal(quantise_axes(rounded), rounded)
    strength = np.exp(rng.normal(0, 30, 1000))
    kept = quantise_strength(strength)
    inside = (strength > 1e-37) & (strength < 3e38)
    assert (np.abs(kept - strength)[inside] <= strength[inside] / 256).all()
    assert np.array_equal(quantise_strength(kept), kept)
    assert quantise_strength(np.array([-1e-9, 0.0])).tolist() == [0.0, 0.0]
    assert np.isfinite(quantise_strength(np.array([1e300]))).all()


# What is not written -------------------------------------------------------------------------------------------------


def with_id(name: str) -> Fingerprint:
    made = fingerprint()
    return dataclasses.replace(made, source=dataclasses.replace(made.source, id=name))


@pytest.mark.parametrize(
    "name",
    ["/home/me/model", "C:\\models\\x", "C:x", "..", ".", "", "a/b/c", "~/x/", "a\nb", "a\x1b[31mb", "../x", "a//b"],
)
def test_paths_are_not_written(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        to_bytes(with_id(name))
    assert str(caught.value).isprintable() and "plain name" in str(caught.value)


def changed(**values: object) -> Fingerprint:
    """A fingerprint whose only strip has other values."""
    rng = np.random.default_rng(5)
    made = strip(rng, "up", 2, 16, 16, 4, 2)
    return fingerprint((shelf(rng, (0, 1), 16, (dataclasses.replace(made, **values),)),))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"energy": np.full((2, 4), 0.1, np.float32), "step": np.full(2, 0.5, np.float32)}, "energy"),
        ({"energy": np.full((2, 4), np.inf, np.float32)}, "energy"),
        ({"energy": np.tile(np.float32([0, 100, 200, 300]), (2, 1)), "step": np.ones(2, np.float32)}, "energy"),
        ({"step": np.full(2, 0.3, np.float32), "energy": np.full((2, 4), np.nan, np.float32)}, "step"),
        ({"axes": np.full((2, 16, 2), 0.3, np.float32)}, "axes"),
        ({"axes": np.full((2, 16, 2), -128 / 127, np.float32)}, "axes"),
        ({"strength": np.full((2, 2), 1.001, np.float32)}, "strength"),
        ({"strength": np.zeros((2, 3), np.float32)}, None),
        ({"bits": np.zeros((2, 15, 2), np.uint8)}, None),
        ({"bits": np.zeros((2, 16, 3), np.uint8)}, None),
        ({"strength": np.full((2, 2), np.nan, np.float32)}, None),
        ({"role": "a b"}, None),
        ({"packing": "Q4_K", "shared": None}, None),
        ({"dim": 0}, None),
    ],
)
def test_what_could_not_be_read_is_not_written(values: dict[str, object], field: str | None) -> None:
    with pytest.raises((ValueError, InputError), match=f"cannot hold '{field}'" if field else "."):
        to_bytes(changed(**values))


# The page is enough --------------------------------------------------------------------------------------------------


def tiny_reader(data: bytes) -> dict[str, object]:
    """Read a fingerprint as ``docs/fingerprint.md`` says, with the plain library and without checks."""
    size = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    assert metadata["format"] == "lineage-fingerprint/1"
    found = json.loads(metadata["fingerprint"])
    tensors = safetensors.numpy.load(data)
    used = dict.fromkeys(("scale", "strength", "axes", "energy", "bits"), 0)

    def take(name: str, *shape: int) -> np.ndarray:
        start, count = used[name], math.prod(shape)
        used[name] += count
        return tensors[name][start : start + count].reshape(shape) if count else np.zeros(shape, np.uint8)

    def mask(*shape: int) -> np.ndarray:
        count = math.prod(shape)
        packed = take("bits", (count + 7) // 8)
        return np.array([int(packed[n // 8]) >> (7 - n % 8) & 1 == 1 for n in range(count)]).reshape(shape)

    for one in found.get("shelves", []):
        held = one.setdefault("held", one["units"])
        one.setdefault("block", one["units"])
        spans = [span.split("-") for span in one.get("layers", f"0-{found['layers'] - 1}").split(",")]
        one["layers"] = [n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)]
        layers = len(one["layers"])
        one.setdefault("repeats", list(range(layers)))
        for at, (role, dim, odd, bits, measured, axes, *quantised) in enumerate(one["strips"]):
            packed = take("bits", layers, held, bits // 8)
            scale, code = take("scale", layers, 2).tolist(), take("energy", layers, measured).tolist()
            upper = take("strength", layers if axes else 0, axes)
            one["strips"][at] = {
                **{"role": role, "dim": dim, "odd": odd == 1, "bits": packed},
                "energy": [[(m + c) * 2.0**e if c else math.nan for c in row] for (m, e), row in zip(scale, code)],
                "step": [2.0**e for _, e in scale],
                "axes": take("axes", layers if axes else 0, 16, axes).astype(np.float64) / 127,
                "strength": np.frombuffer(
                    b"".join(b"\0\0" + int(u).to_bytes(2, "little") for u in upper.ravel()), "<f4"
                ).reshape(upper.shape),
                "quantised": quantised,
            }
        named = one.get("masks", [])
        one["usable"] = mask(layers, held) if "usable" in named else np.ones((layers, held), bool)
        one["clone"] = mask(layers, held) if "clone" in named else np.zeros((layers, held), bool)
    stream = found.get("stream")
    if stream:
        stream["packed"] = take("bits", stream["channels"], stream["bits"] // 8)
        stream["usable"] = mask(stream["channels"]) if "masks" in stream else np.ones(stream["channels"], bool)
    assert used == {name: tensors[name].size if name in tensors else 0 for name in used}
    return found


def assert_read_alike(read: dict, made: Fingerprint) -> None:  # type: ignore[type-arg]
    source = made.source
    assert (read["id"], read.get("revision"), read["format"]) == (source.id, source.revision, source.format)
    assert read["files"] == {name: list(about) for name, about in source.files.items()}
    assert (read["params"], read.get("arch"), read["tool"]) == (source.parameters, source.architecture, source.tool)
    assert (read["family"], read.get("exact", True), read["layers"]) == (made.family, made.exact, made.layers)
    assert (read["width"], read.get("part", ""), tuple(read.get("limits", ()))) == (made.width, made.part, made.limits)
    about = made.tokenizer
    assert read.get("tokenizer") == (about and [about.file, about.size, about.sha256])
    for one, other in zip(read["shelves"], made.shelves, strict=True):
        assert (one["kind"], one.get("part", 0), one["units"]) == (other.kind, other.part, other.units)
        assert (one["held"], one["block"], one.get("swap", True)) == (other.held, other.block, other.swap)
        assert one.get("ordered", False) == other.ordered and tuple(one.get("names", ())) == other.names
        assert tuple(one["layers"]) == other.layers and one["repeats"] == other.repeats.tolist()
        assert np.array_equal(one["usable"], other.usable) and np.array_equal(one["clone"], other.clone)
        for a, b in zip(one["strips"], other.strips, strict=True):
            assert (a["role"], a["dim"], a["odd"]) == (b.role, b.dim, b.odd)
            assert a["quantised"] == ([] if b.shared is None else [b.shared, b.packing])
            assert np.array_equal(a["bits"], b.bits) and a["step"] == b.step.tolist()
            energy = np.array(a["energy"], dtype=np.float64).reshape(b.energy.shape)
            assert np.array_equal(energy, b.energy.astype(np.float64), equal_nan=True)
            assert np.array_equal(a["axes"].astype(np.float32), b.axes) and np.array_equal(a["strength"], b.strength)
    stream, other_stream = read.get("stream"), made.stream
    assert (stream is None) == (other_stream is None)
    if other_stream is not None:
        numbers = (stream["width"], stream["rows"], stream["first"])
        assert numbers == (other_stream.width, other_stream.rows, other_stream.first)
        flags = (stream.get("flip", False), stream.get("swap", True), stream.get("quantised", False))
        assert flags == (other_stream.flip, other_stream.swap, other_stream.quantised)
        assert np.array_equal(stream["packed"], other_stream.bits)
        assert np.array_equal(stream["usable"], other_stream.usable)


def vectors_by_the_page(weights: Mapping[str, np.ndarray], layer: int, role: str, unit: int) -> np.ndarray:
    """A unit of the example: 6 query heads, 2 key-value heads, 16 channels each; rotary pairs lie half a head apart."""
    at = {name: weights[f"model.layers.{layer}.{name}_proj.weight"] for name in NAMES}
    if role in ("gate", "up"):
        return at[f"mlp.{role}"][unit]
    if role == "down":
        return at["mlp.down"][:, unit]
    if role == "v":
        return at["self_attn.v"][unit]
    if role == "o":
        head, channel = divmod(unit, 16)
        return np.concatenate([at["self_attn.o"][:, (3 * head + query) * 16 + channel] for query in range(3)])
    head, pair = divmod(unit, 8)
    heads = [head] if role == "k" else [3 * head, 3 * head + 1, 3 * head + 2]
    return np.concatenate([at[f"self_attn.{role}"][16 * h + c] for h in heads for c in (pair, pair + 8)])


NAMES = ("mlp.gate", "mlp.up", "mlp.down", "self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o")


def test_the_page_says_how_numbers_are_made() -> None:
    """Bits, energies, axes and stream of an example, computed from its weights as ``docs/fingerprint.md`` says."""
    folder = ROOT / "examples" / "base"
    loaded = safetensors.torch.load_file(folder / "model.safetensors")
    weights = {name: tensor.float().numpy() for name, tensor in loaded.items()}
    made = tiny_reader(to_bytes(fingerprint_of(open_local(folder))))
    seen = set()
    for one in made["shelves"]:
        for strip in one["strips"]:
            seen.add(strip["role"])
            for at, layer in enumerate(one["layers"]):
                vectors = [vectors_by_the_page(weights, layer, strip["role"], unit) for unit in range(one["held"])]
                assert {vector.shape[0] for vector in vectors} == {strip["dim"]}
                bits = 8 * strip["bits"].shape[2]
                for unit in range(0, one["held"], 11):
                    expected = slow_bits(vectors[unit].astype(np.float64), bits, unit)
                    assert np.unpackbits(strip["bits"][at, unit]).tolist() == expected
                for energy, vector in zip(strip["energy"][at], vectors):
                    assert abs(energy - np.log2(np.square(vector.astype(np.float64)).sum())) <= strip["step"][at] / 2
                for axis in range(strip["axes"].shape[2]):
                    first = np.stack(vectors[:16]).astype(np.float64)
                    values, directions = np.linalg.eigh(first @ first.T)
                    direction = directions[:, -1 - axis]
                    direction *= np.sign(direction[np.abs(direction).argmax()])
                    assert np.abs(strip["axes"][at, :, axis] - direction).max() <= 0.5 / 127 + 1e-6
                    assert strip["strength"][at, axis] == pytest.approx(values[-1 - axis], rel=1 / 256)
    assert seen == {"gate", "up", "down", "v", "o", "q", "k"}
    stream = made["stream"]
    rows = weights["model.embed_tokens.weight"][stream["first"] : stream["first"] + 64].astype(np.float64)
    assert stream["first"] == 256 - 64 and stream["width"] == 96 and stream["rows"] == 256
    for channel in range(stream["channels"]):
        column = (rows[:, channel] - math.fsum(rows[:, channel]) / 64).astype(np.float32)
        expected = slow_bits(column.astype(np.float64), stream["bits"], channel)
        assert np.unpackbits(stream["packed"][channel]).tolist() == expected


# Files by hand -------------------------------------------------------------------------------------------------------

DIGEST = "0123456789abcdef" * 4


def document() -> dict:  # type: ignore[type-arg]
    """A valid description."""
    return {
        **{"id": "owner/name", "format": "safetensors", "files": {"model.safetensors": [10, DIGEST]}, "params": 5},
        **{"tool": "someone's 1.0", "family": "llama", "layers": 4, "width": 8, "part": "model"},
        "shelves": [
            {
                **{"kind": "mlp", "units": 40, "held": 16, "layers": "0-2,7", "masks": ["usable", "clone"]},
                "strips": [["up", 8, 1, 16, 3, 2], ["down", 8, 1, 8, 0, 0, -1, "Q4_0"]],
                "repeats": [0, 1, 1, 0],
            },
            {
                "kind": "channels",
                "units": 2,
                "layers": "5",
                "names": ["conv.weight"],
                "strips": [["weight", 9, 0, 8, 1, 0]],
            },
        ],
        "stream": {"width": 8, "rows": 70, "first": 6, "channels": 5, "bits": 8, "masks": ["usable"]},
        "tokenizer": ["tokenizer.json", 7, None],
        "limits": ["Something was left out."],
    }


def tensors() -> dict[str, tuple[str, bytes]]:
    """Its tensors: dtype and data."""
    scale = np.zeros((9, 2), "<i2")
    scale[:, 1] = -3
    scale[:4, 0] = -5
    energy = np.array([[1, 2, 0], [1, 1, 1], [255, 1, 9], [0, 0, 1], [1, 0, 0]], np.uint8).ravel()[:13]
    bits = np.concatenate(
        [
            np.arange(4 * 16 * 2 + 4 * 16, dtype=np.uint8),  # two strips
            np.full(8 + 8, 0xA5, np.uint8),  # two masks of 64 units
            np.arange(2, dtype=np.uint8),  # one strip of two units
            np.arange(5, dtype=np.uint8),  # the stream
            np.array([0b10110000], np.uint8),  # its mask of five channels
        ]
    )
    strength = np.full(8, 0x3F80, "<u2")
    axes = (np.arange(4 * 16 * 2) % 100 - 50).astype(np.int8)
    return {
        "scale": ("I16", scale.tobytes()),
        "strength": ("U16", strength.tobytes()),
        "axes": ("I8", axes.tobytes()),
        "energy": ("U8", energy.tobytes()),
        "bits": ("U8", bits.tobytes()),
    }


WIDTH = {"I16": 2, "U16": 2, "I8": 1, "U8": 1, "F32": 4, "F64": 8, "BF16": 2, "BOOL": 1}


def assembled(
    described: object,
    parts: Mapping[str, tuple[str, bytes]],
    metadata: Mapping[str, object] | None = None,
    rank: int = 1,
) -> bytes:
    """A safetensors file with anything in it."""
    text = described if isinstance(described, str) else json.dumps(described)
    header: dict[str, object] = {
        "__metadata__": {"format": "lineage-fingerprint/1", "fingerprint": text} if metadata is None else metadata
    }
    data = b""
    for name, (kind, part) in parts.items():
        shape = [len(part) // WIDTH[kind]] + [1] * (rank - 1) if rank else []
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def described(change: Callable[[dict], object]) -> bytes:  # type: ignore[type-arg]
    """A file whose description was changed."""
    about = document()
    change(about)
    return assembled(about, tensors())


def put(*path: object, value: object) -> bytes:
    """A file with another value somewhere in its description."""

    def change(about: dict) -> None:  # type: ignore[type-arg]
        holder = about
        for key in path[:-1]:
            holder = holder[key]  # type: ignore[index]
        holder[path[-1]] = value

    return described(change)


def drop(*path: object) -> bytes:
    """A file that lacks something in its description."""

    def change(about: dict) -> None:  # type: ignore[type-arg]
        holder = about
        for key in path[:-1]:
            holder = holder[key]  # type: ignore[index]
        del holder[path[-1]]

    return described(change)


def stored(name: str, change: Callable[[bytearray], object] | None = None, kind: str | None = None) -> bytes:
    """A file with another tensor."""
    parts = tensors()
    data = bytearray(parts[name][1])
    if change is not None:
        change(data)
    return assembled(document(), {**parts, name: (kind or parts[name][0], bytes(data))})


def poke(name: str, at: int, *values: int) -> bytes:
    """A file with other bytes in a tensor."""

    def change(data: bytearray) -> None:
        data[at : at + len(values)] = bytes(values)

    return stored(name, change)


def test_files_by_hand_are_read() -> None:
    data = assembled(document(), tensors())
    read = read_fingerprint(data, WHERE)
    first, second = read.shelves
    assert first.layers == (0, 1, 2, 7) and first.repeats.tolist() == [0, 1, 1, 0] and first.block == first.units == 40
    assert np.array_equal(first.usable.ravel()[:8], [1, 0, 1, 0, 0, 1, 0, 1])
    assert first.strips[0].energy[0].tolist()[:2] == [-4 / 8, -3 / 8] and np.isnan(first.strips[0].energy[0, 2])
    assert first.strips[0].energy[2].tolist() == [250 / 8, -4 / 8, 4 / 8]
    assert first.strips[0].step.tolist() == [0.125] * 4 and (first.strips[0].strength == 1.0).all()
    assert first.strips[0].axes[0, 0, 0] == np.float32(-50 / 127)
    assert first.strips[1].shared == -1 and first.strips[1].packing == "Q4_0" and first.strips[0].packing == ""
    assert second.names == ("conv.weight",) and second.held == 2 and second.strips[0].energy.tolist() == [[0.125]]
    assert read.stream is not None and read.stream.usable.tolist() == [True, False, True, True, False]
    assert read.source.files == {"model.safetensors": (10, DIGEST)} and read.tokenizer is not None
    assert_read_alike(tiny_reader(data), read)
    # In our own order, the numbers are the same.
    assert_same(read_fingerprint(to_bytes(read), WHERE), read)


def test_other_writers_may_order_and_space_as_they_like(tmp_path: Path) -> None:
    """The library's own writer, another order of tensors, spaces, escapes, and defaults that are spelled out."""
    about = document()
    about["shelves"][0] |= {"part": 0, "block": 40, "swap": True, "ordered": False}
    about |= {"exact": True}
    arrays = {
        name: np.frombuffer(data, {"I16": "<i2", "U16": "<u2", "I8": "i1", "U8": "u1"}[kind])
        for name, (kind, data) in tensors().items()
    }
    text = json.dumps(dict(reversed(about.items())), indent=3)
    metadata = {"fingerprint": text, "format": "lineage-fingerprint/1"}
    data = safetensors.numpy.save(arrays, metadata)
    assert_same(read_fingerprint(data, WHERE), read_fingerprint(assembled(document(), tensors()), WHERE))
    assert is_fingerprint(data)
    file = tmp_path / "x.safetensors"
    file.write_bytes(to_bytes(some_fingerprint()))
    with safetensors.safe_open(file, "np") as opened:
        assert opened.metadata()["format"] == "lineage-fingerprint/1"


def test_only_fingerprints_say_that_they_are() -> None:
    data = to_bytes(fingerprint())
    assert is_fingerprint(assembled("{}", {}, {"format": "lineage-fingerprint/7", "fingerprint": "{}"}))
    assert not is_fingerprint(assembled("{}", {}, {"format": "pt"}))
    # What a model's metadata quote is no key of theirs.
    assert not is_fingerprint(assembled("{}", {}, {"format": "pt", "note": '"format":"lineage-fingerprint/1"'}))
    for other in (b"", b"\0", data[:8], data[8:], b"GGUF" + bytes(100), b"PK\x03\x04", b"\xff" * 200, b"{" * 200):
        assert not is_fingerprint(other)
    # Not even beyond the header.
    assert not is_fingerprint((2).to_bytes(8, "little") + b"{}" + data[8:])


PLAIN = assembled(document(), tensors())
SHELF, STRIP = ("shelves", 0), ("shelves", 0, "strips", 0)
LONG = list(range(5000))


def twice(text: str, key: str) -> str:
    return text.replace("{", f'{{"{key}": 1, ', 1)


def busy(shelves: int) -> bytes:
    """A file of 16 strips a shelf; 512 shelves are allowed."""
    strips = [[f"r{n}", 1, 0, 8, 0, 0] for n in range(16)]
    about = [{"kind": "m", "part": n, "units": 1, "layers": "0", "strips": strips} for n in range(shelves)]
    parts = {"scale": ("I16", bytes(4 * 16 * shelves)), "bits": ("U8", bytes(16 * shelves))}
    return assembled({**document(), "shelves": about, "stream": None}, parts)


HOSTILE: dict[str, tuple[bytes, str]] = {
    # The container
    "empty": (b"", "too few"),
    "only a length": (PLAIN[:8], "too few"),
    "cut in the header": (PLAIN[:200], "does not fit"),
    "cut in the data": (PLAIN[:-1], "truncated"),
    "a byte more": (PLAIN + b"\0", "belong to no tensor"),
    "a length of 2^64 - 1": (b"\xff" * 8 + PLAIN[8:], "limit"),
    "a pickle": (b"PK\x03\x04" + bytes(100), "pickle"),
    "GGUF": (b"GGUF" + bytes(100), "GGUF"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n" + bytes(99), "pointer"),
    "larger than any fingerprint": (bytes(MAX_FILE + 1), "more than"),
    "a checkpoint": (assembled("", {"w": ("F32", bytes(8))}, {"format": "pt"}), "no fingerprint"),
    "no metadata": (assembled("", {}, {}), "no fingerprint"),
    "the next version": (
        assembled(document(), tensors(), {"format": "lineage-fingerprint/2", "fingerprint": "{}"}),
        "'lineage-fingerprint/2', but this program reads lineage-fingerprint/1",
    ),
    "a version with an escape sequence": (
        assembled("", {}, {"format": "lineage-fingerprint/\x1b[31m2\n", "fingerprint": "{}"}),
        "reads lineage-fingerprint/1",
    ),
    "no description": (assembled("", {}, {"format": "lineage-fingerprint/1"}), "alone"),
    "a third text": (
        assembled("", {}, {"format": "lineage-fingerprint/1", "fingerprint": "{}", "x": "y"}),
        "alone",
    ),
    "metadata that are no text": (
        assembled("", {}, {"format": "lineage-fingerprint/1", "fingerprint": {}}),
        "__metadata__",
    ),
    # The tensors
    "an unknown tensor": (assembled(document(), {**tensors(), "weights": ("U8", b"abc")}), "'weights'"),
    "a tensor with an escape sequence": (assembled(document(), {**tensors(), "\x1b[31m": ("U8", b"a")}), "unprintable"),
    "20 tensors": (assembled(document(), {**tensors(), **{f"t{n}": ("U8", b"a") for n in range(20)}}), "'t0'"),
    "bits as BOOL": (stored("bits", kind="BOOL"), "'bits' of BOOL"),
    "axes as U8": (stored("axes", kind="U8"), "'axes' of U8"),
    "strength as BF16": (stored("strength", kind="BF16"), "'strength' of BF16"),
    "strength as F32": (stored("strength", kind="F32"), "'strength' of F32"),
    "tensors of rank 2": (assembled(document(), tensors(), rank=2), "rank 2"),
    "bits missing": (assembled(document(), {k: v for k, v in tensors().items() if k != "bits"}), "'bits' holds 0"),
    "energy missing": (
        assembled(document(), {k: v for k, v in tensors().items() if k != "energy"}),
        "'energy' holds 0",
    ),
    "a bit byte less": (stored("bits", lambda data: data.pop()), "'bits' holds"),
    "a bit byte more": (stored("bits", lambda data: data.append(0)), "'bits' holds"),
    "an energy more": (stored("energy", lambda data: data.append(1)), "'energy' holds"),
    "an axis more": (stored("axes", lambda data: data.append(1)), "'axes' holds"),
    "a strength more": (stored("strength", lambda data: data.extend(b"\0\0")), "'strength' holds"),
    "a scale less": (stored("scale", lambda data: data.pop() and data.pop()), "'scale' holds"),
    "a mask with padding": (poke("bits", -1, 0b10110100), "filled up with zeros"),
    "an infinite strength": (poke("strength", 0, 0x80, 0x7F), "not finite"),
    "a strength that is no number": (poke("strength", 0, 0xC0, 0x7F), "not finite"),
    "a negative strength": (poke("strength", 0, 0x80, 0xBF), "negative"),
    "an axis of -128": (poke("axes", 5, 0x80), "beyond 1"),
    "a step of 2^-13": (poke("scale", 2, 0xF3, 0xFF), "2^-12"),
    "a step of 2^300": (poke("scale", 2, 0x2C, 0x01), "2^8"),
    "energies that begin with 2": (poke("energy", 0, 2), "begin with 1"),
    "a scale without energies": (poke("scale", 4 * 4, 7), "begin with 1"),
    # The description
    "not JSON": (assembled("{'id': 1}", tensors()), "not valid JSON"),
    "not an object": (assembled("[]", tensors()), "not a JSON object"),
    "lone surrogates": (assembled('{"id": "\ud800"}', tensors()), "UTF-8"),
    "an escaped lone surrogate": (put("tool", value="\ud800"), "'tool'"),
    "a key twice": (assembled(twice(json.dumps(document()), "id"), tensors()), "twice"),
    "a shelf's key twice": (
        assembled(json.dumps(document()).replace('"kind"', '"units": 1, "kind"'), tensors()),
        "twice",
    ),
    "NaN": (assembled(json.dumps(document()).replace('"params": 5', '"params": NaN'), tensors()), "NaN"),
    "a number of 5,000 digits": (put("params", value=10**4000), "64 bits"),
    "100,000 deep": (assembled("[" * 30000 + "]" * 30000, {}), "nested"),
    "a million values": (assembled("[" + "0," * 500000 + "0]", {}), "too many"),
    "an unknown key": (put("weights", value=1), "unknown key 'weights'"),
    "an unknown key with an escape sequence": (put("\x1b[31m\n::error::x", value=1), "unknown key"),
    "a shelf's unknown key": (put(*SHELF, "colour", value=1), "shelf 0 has the unknown key 'colour'"),
    "the stream's unknown key": (put("stream", "colour", value=1), "the stream has the unknown key"),
    # Where it comes from
    "no id": (drop("id"), "'id'"),
    "an id that is a path": (put("id", value="/home/someone/model"), "'id'"),
    "an id that leaves its folder": (put("id", value="../model"), "'id'"),
    "an id with a line break": (put("id", value="owner/name\n::error::x"), "'id'"),
    "an id that is a number": (put("id", value=5), "'id'"),
    "a revision that is null": (put("revision", value=None), "'revision'"),
    "a format of two lines": (put("format", value="a\nb"), "'format'"),
    "a format of 300 characters": (put("format", value="a" * 300), "'format'"),
    "a tool that writes right to left": (put("tool", value="a\u202eb"), "'tool'"),
    "a tool that is empty": (put("tool", value=""), "'tool'"),
    "an architecture that commands": (put("arch", value="::error::x"), "'arch'"),
    "files as a list": (put("files", value=[]), "'files'"),
    "a file outside": (put("files", value={"../../etc/passwd": [1, None]}), "a file's name"),
    "a file without size": (put("files", value={"a": [None, None]}), "size of a file"),
    "a file of negative size": (put("files", value={"a": [-1, None]}), "size of a file"),
    "a short digest": (put("files", value={"a": [1, DIGEST[:-1]]}), "digest of a file"),
    "a digest in capitals": (put("files", value={"a": [1, DIGEST.upper()]}), "digest of a file"),
    "a digest with a line break": (put("files", value={"a": [1, DIGEST + "\n"]}), "digest of a file"),
    "parameters that are a fraction": (put("params", value=5.0), "'params'"),
    "parameters that are true": (put("params", value=True), "'params'"),
    "parameters beyond 2^53": (put("params", value=1 << 53), "'params'"),
    "a family with a space": (put("family", value="my llama"), "'family'"),
    "a part with an escape sequence": (put("part", value="\x1b[31m"), "'part'"),
    "exact as text": (put("exact", value="no"), "'exact'"),
    "a negative width": (put("width", value=-1), "'width'"),
    "endless layers": (put("layers", value=(1 << 20) + 1), "'layers'"),
    "limits as text": (put("limits", value="x"), "'limits'"),
    "a limit of two lines": (put("limits", value=["a\r\nb"]), "a limit"),
    "a hundred limits": (put("limits", value=["a"] * 100), "'limits'"),
    "a tokenizer without size": (put("tokenizer", value=["tokenizer.json"]), "tokenizer"),
    "a tokenizer outside": (put("tokenizer", value=["/etc/passwd", 1, None]), "tokenizer's file"),
    # Shelves
    "shelves as an object": (put("shelves", value={}), "'shelves'"),
    "5,000 shelves": (put("shelves", value=[document()["shelves"][1]] * 5000), "'shelves'"),
    "a shelf that is a list": (put("shelves", 0, value=[]), "not an object"),
    "a kind with a line break": (put(*SHELF, "kind", value="mlp\n"), "'kind'"),
    "no units": (put(*SHELF, "units", value=0), "'units'"),
    "two million units": (put(*SHELF, "units", value=1 << 21), "'units'"),
    "more held than there are": (put(*SHELF, "held", value=41), "'held'"),
    "5,000 held": (described(lambda d: d["shelves"][0].update(units=5000, held=5000)), "'held'"),
    "eight held more": (put(*SHELF, "held", value=24), "the description needs more"),
    "one held less": (put(*SHELF, "held", value=15), "mask"),
    "too few held for axes": (put(*SHELF, "held", value=7), "axes"),
    "a block of none": (put(*SHELF, "block", value=0), "'block'"),
    "a block beyond the units": (put(*SHELF, "block", value=41), "'block'"),
    "a negative part": (put(*SHELF, "part", value=-1), "'part'"),
    "swap as a number": (put(*SHELF, "swap", value=1), "'swap'"),
    "layers that decrease": (put(*SHELF, "layers", value="3,2,1,0"), "increasing"),
    "layers that repeat": (put(*SHELF, "layers", value="0-2,2"), "increasing"),
    "a range backwards": (put(*SHELF, "layers", value="3-0"), "increasing"),
    "negative layers": (put(*SHELF, "layers", value="-3-0"), "increasing"),
    "no layers": (put(*SHELF, "layers", value=""), "increasing"),
    "layers in Arabic digits": (put(*SHELF, "layers", value="٠-٣"), "increasing"),
    "layers with a line break": (put(*SHELF, "layers", value="0-3\n"), "increasing"),
    "layers as a list": (put(*SHELF, "layers", value=[0, 1, 2, 3]), "'layers'"),
    "a billion layers": (put(*SHELF, "layers", value="0-999999999"), "increasing"),
    "a million layers": (put(*SHELF, "layers", value="0-1000000"), "more than 4096"),
    "layers of a model without any": (
        described(lambda d: d.update(layers=0) or d["shelves"][0].pop("layers")),
        "layers",
    ),
    "a hundred thousand ranges": (put(*SHELF, "layers", value=",".join("0" * 100000)), "'layers'"),
    "more layers than bits": (put(*SHELF, "layers", value="0-4000"), "the description needs more"),
    "two shelves of one layer": (
        described(lambda d: d["shelves"].__setitem__(1, {**d["shelves"][1], "kind": "mlp", "layers": "7"})),
        "hold the same layer",
    ),
    "repeats of another length": (put(*SHELF, "repeats", value=[0, 1, 2]), "'repeats'"),
    "a repeat of a later layer": (put(*SHELF, "repeats", value=[1, 1, 2, 3]), "'repeats'"),
    "a repeat of a repeat": (put(*SHELF, "repeats", value=[0, 0, 1, 3]), "first copies"),
    "a negative repeat": (put(*SHELF, "repeats", value=[0, -1, 2, 3]), "'repeats'"),
    "an unknown mask": (put(*SHELF, "masks", value=["usable", "hidden"]), "'masks'"),
    "masks out of order": (put(*SHELF, "masks", value=["clone", "usable"]), "'masks'"),
    "a mask twice": (put(*SHELF, "masks", value=["usable", "usable"]), "'masks'"),
    "a mask that is a list": (put(*SHELF, "masks", value=[["usable"]]), "'masks'"),
    "a mask left out": (put(*SHELF, "masks", value=["usable"]), "filled up with zeros"),
    "too few names": (put("shelves", 1, "names", value=["a"] * 2), "'names'"),
    "names for some": (put(*SHELF, "names", value=["a"] * 3), "3 names for 4 layers"),
    "a name with an escape sequence": (put("shelves", 1, "names", value=["\x1b]0;x\x07"]), "a name"),
    "an empty name": (put("shelves", 1, "names", value=[""]), "a name"),
    # Strips
    "8,208 strips": (busy(513), "more than 8192 strips"),
    "no strips": (drop("shelves", 1, "strips"), "no strips"),
    "two strips of one role": (put("shelves", 0, "strips", 1, 0, value="up"), "two of one role"),
    "17 strips": (put(*SHELF, "strips", value=[["up", 8, 1, 8, 0, 0]] * 17), "'strips'"),
    "a strip of five values": (put(*STRIP, value=["up", 8, 1, 16, 3]), "6 or 8"),
    "a strip of seven values": (put(*STRIP, value=["up", 8, 1, 16, 3, 2, 1]), "6 or 8"),
    "a strip that is an object": (put(*STRIP, value={}), "6 or 8"),
    "a role with a space": (put(*STRIP, 0, value="u p"), "the role"),
    "a role of 100 letters": (put(*STRIP, 0, value="u" * 100), "the role"),
    "vectors of no length": (put(*STRIP, 1, value=0), "length of a vector"),
    "vectors of 2^31": (put(*STRIP, 1, value=1 << 31), "length of a vector"),
    "a sign of 2": (put(*STRIP, 2, value=2), "the sign"),
    "a sign that is true": (put(*STRIP, 2, value=True), "the sign"),
    "no bits": (put(*STRIP, 3, value=0), "number of bits"),
    "12 bits": (put(*STRIP, 3, value=12), "power of two"),
    "2,048 bits": (put(*STRIP, 3, value=2048), "number of bits"),
    "2^62 bits": (put(*STRIP, 3, value=1 << 62), "number of bits"),
    "32 bits that are not there": (put(*STRIP, 3, value=32), "the description needs"),
    "more energies than units": (put(*STRIP, 4, value=17), "number of energies"),
    "an energy that is not there": (put(*STRIP, 4, value=4), "the description needs"),
    "17 axes": (put(*STRIP, 5, value=17), "number of axes"),
    "axes of two units": (put("shelves", 1, "strips", 0, 5, value=1), "number of axes"),
    "an axis that is not there": (put(*STRIP, 5, value=3), "the description needs"),
    "a packing without a block": (put("shelves", 0, "strips", 1, 6, value=None), "block of the quantiser"),
    "a block of -2": (put("shelves", 0, "strips", 1, 6, value=-2), "block of the quantiser"),
    "a packing that is empty": (put("shelves", 0, "strips", 1, 7, value=""), "packing"),
    # The stream
    "a stream that is a list": (put("stream", value=[]), "not an object"),
    "more channels than there are": (put("stream", "channels", value=9), "'channels'"),
    "a channel that is not there": (put("stream", "channels", value=6), "the description needs"),
    "rows beyond the embedding": (put("stream", "first", value=7), "'first'"),
    "an embedding of 63 rows": (described(lambda d: d["stream"].update(rows=63, first=0)), "'rows'"),
    "24 bits a channel": (put("stream", "bits", value=24), "power of two"),
    "a stream without bits": (drop("stream", "bits"), "number of bits"),
    "a clone mask of the stream": (put("stream", "masks", value=["clone"]), "'masks'"),
    "flip as null": (put("stream", "flip", value=None), "'flip'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(name: str) -> None:
    data, phrase = HOSTILE[name]
    with pytest.raises(UnreadableCheckpoint) as caught:
        read_fingerprint(data, WHERE)
    message = str(caught.value)
    assert message.startswith(f"{WHERE}: ") and phrase in message
    assert message.isprintable() and len(message) < 400
    assert "safetensors." not in message.removeprefix(WHERE), "the remedy is that of a checkpoint"


def test_there_are_enough_hostile_files() -> None:
    assert len(HOSTILE) >= 60


# Bounds --------------------------------------------------------------------------------------------------------------


def widest() -> bytes:
    """A valid file near the limit with as many layers as fit."""
    count = 1000 * 1024 // 5
    shelves = [
        {
            "kind": "mlp",
            "part": n,
            "units": 1,
            "layers": f"0-{min(4096, count - at) - 1}",
            "strips": [["up", 1, 0, 8, 0, 0]],
        }
        for n, at in enumerate(range(0, count, 4096))
    ]
    count = sum(int(one["layers"][2:]) + 1 for one in shelves)  # type: ignore[index]
    parts = {"scale": ("I16", np.tile(np.array([0, -3], "<i2"), count).tobytes()), "bits": ("U8", bytes(count))}
    return assembled({**document(), "shelves": shelves, "stream": None}, parts)


def heaviest() -> bytes:
    """A valid file near the limit, many of its bytes energies and axes, which take four bytes each when read."""
    strips = [["up", 1, 0, 8, 0, 16], ["down", 1, 0, 8, 1024, 0]]
    layers = 100
    parts = {
        "scale": ("I16", bytes(4 * 2 * layers)),
        "strength": ("U16", bytes(2 * 16 * layers)),
        "axes": ("I8", bytes(256 * layers)),
        "energy": ("U8", bytes(1024 * layers)),
        "bits": ("U8", bytes(4096 * 2 * layers)),
    }
    shelves = [{"kind": "mlp", "units": 4096, "layers": f"0-{layers - 1}", "strips": strips}]
    return assembled({**document(), "shelves": shelves, "stream": None}, parts)


BOUNDED: dict[str, tuple[Callable[[], bytes], bool]] = {
    "widest": (widest, True),
    "busiest": (lambda: busy(512), True),
    "heaviest": (heaviest, True),
    "a megabyte of ranges": (lambda: put(*SHELF, "layers", value="0," * 500000), False),
    "a megabyte of repeats": (lambda: put(*SHELF, "repeats", value=[0] * 250000), False),
    "a megabyte of tensors": (lambda: assembled("", {f"{n}": ("U8", b"") for n in range(14000)}), False),
    "a megabyte of brackets": (lambda: assembled("[" * 1000000, {}), False),
    "a megabyte of files": (lambda: put("files", value={f"{n}": [1, None] for n in range(30000)}), True),
    "a megabyte of one text": (lambda: put("tool", value="\u202e" * 140000), False),
    "4,096 times all layers": (
        lambda: put(
            "shelves",
            value=[{"kind": "m", "part": n, "units": 4096, "strips": [["u", 1, 0, 1024, 9, 9]]} for n in range(4096)],
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_memory_and_time_are_bounded(name: str) -> None:
    make, fine = BOUNDED[name]
    data = make()
    assert len(data) <= MAX_FILE

    def read() -> bool:
        try:
            read_fingerprint(data, WHERE)
        except UnreadableCheckpoint:
            return False
        return True

    began = time.process_time()
    assert read() == fine
    assert time.process_time() - began < 2.0
    tracemalloc.start()
    try:
        read()
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


def test_a_typical_fingerprint_is_read_in_a_few_milliseconds() -> None:
    rng = np.random.default_rng(6)
    layers = tuple(range(80))
    made = (
        shelf(rng, layers, 16, (strip(rng, "up", 80, 16, 256, 16, 2),)),
        shelf(rng, layers, 16, (strip(rng, "v", 80, 16, 256, 16, 2),), kind="value"),
    )
    data = to_bytes(fingerprint(made, layers=80))
    assert len(data) < 128 << 10
    times = []
    for _ in range(20):
        began = time.perf_counter()
        read_fingerprint(data, WHERE)
        times.append(time.perf_counter() - began)
    assert min(times) < 0.005
