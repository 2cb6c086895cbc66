"""Fingerprints, registries and caches that others have written: nothing breaks, and nothing is taken on their word."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import yaml

from lineage_plugin import Options, check, compare, scan
from lineage_plugin.card import Declaration, read_card
from lineage_plugin.checkpoint import Cost, open_checkpoint
from lineage_plugin.cli import main
from lineage_plugin.errors import InputError
from lineage_plugin.fingerprint.cache import FingerprintCache, cache_folder
from lineage_plugin.fingerprint.code import search_code
from lineage_plugin.fingerprint.compare import compare_fingerprints
from lineage_plugin.fingerprint.file import FILE, MAX_FILE, read_fingerprint, to_bytes
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.registry.columns import table_of
from lineage_plugin.fingerprint.registry.entries import entry_of
from lineage_plugin.fingerprint.registry.index import Index
from lineage_plugin.fingerprint.registry.relatives import relatives_among
from lineage_plugin.fingerprint.registry.store import Registry
from lineage_plugin.fingerprint.types import Fingerprint
from lineage_plugin.judge.assemble import compared
from lineage_plugin.judge.undeclared import Known, undeclared_findings
from lineage_plugin.report import formats
from lineage_plugin.report.json_report import schema
from lineage_plugin.subject import summary_of
from tests.hub import TOKEN, LocalHub

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
LIAR = str(EXAMPLES / "liar")
VALIDATOR = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

Document = dict[str, Any]
Tensors = dict[str, np.ndarray]
KINDS = {"scale": "<i2", "strength": "<u2", "axes": "i1", "energy": "u1", "bits": "u1"}
DTYPES = {"scale": "I16", "strength": "U16", "axes": "I8", "energy": "U8", "bits": "U8"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@cache
def real(name: str = "base") -> Fingerprint:
    return fingerprint_of(open_checkpoint(str(EXAMPLES / name), options=Options()), name=f"acme/{name}", digests=True)


def taken_apart(data: bytes) -> tuple[Document, Tensors]:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, kind in KINDS.items():
        first, last = header.get(name, {"data_offsets": (0, 0)})["data_offsets"]
        tensors[name] = np.frombuffer(data[8 + size + first : 8 + size + last], kind).copy()
    return json.loads(header["__metadata__"]["fingerprint"]), tensors


def put_together(document: Document, tensors: Mapping[str, np.ndarray]) -> bytes:
    header: Document = {"__metadata__": {"format": "lineage-fingerprint/1", "fingerprint": json.dumps(document)}}
    data = b""
    for name, kind in KINDS.items():
        part = tensors[name].astype(kind).tobytes()
        if part:
            place = [len(data), len(data) + len(part)]
            header[name] = {"dtype": DTYPES[name], "shape": [tensors[name].size], "data_offsets": place}
            data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def forged(name: str = "base", **values: object) -> bytes:
    """The fingerprint of an example that says other things about itself."""
    document, tensors = taken_apart(to_bytes(real(name)))
    return put_together({**document, **values}, tensors)


def lineage(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


# --- values -------------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, -1, 2, 3, 8, 15, 16, 17, 100, 255, 256, 4096, 1 << 20, (1 << 31) - 1, (1 << 53) - 1)


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from places(part, (*path, key))


def change_any(document: Document, rng: random.Random) -> None:
    path = rng.choice(list(places(document)))
    parent: Any = document
    for key in path[:-1]:
        parent = parent[key]
    value = parent[path[-1]]
    if isinstance(value, bool):
        parent[path[-1]] = not value
    elif isinstance(value, int):
        parent[path[-1]] = rng.choice([*NUMBERS, value + 1, value - 1, 2 * value])
    elif isinstance(value, str):
        parent[path[-1]] = rng.choice(["up", "v", "mlp", "experts", "unknown", "x" * 64, "0-3", "0", "a: b"])
    elif isinstance(value, list) and value:
        value.insert(rng.randrange(len(value) + 1), copy.deepcopy(rng.choice(value)))
    elif isinstance(value, dict) and value:
        del value[rng.choice(list(value))]


def change_shelf(document: Document, rng: random.Random) -> None:
    """Lie about what units are and what may be done with them; sizes stay as they are."""
    shelf = rng.choice(document["shelves"])
    count, held = document["layers"], shelf.get("held", shelf["units"])
    strip = rng.choice(shelf["strips"])
    lies: list[Callable[[], object]] = [
        lambda: shelf.update(held=held, units=rng.choice([held, held + 1, 1 << 20])),
        lambda: shelf.update(block=rng.choice([1, 2, 3, 8, max(1, held // 2), shelf["units"]])),
        lambda: shelf.update(swap=not shelf.get("swap", True)),
        lambda: shelf.update(ordered=not shelf.get("ordered", False)),
        lambda: shelf.update(repeats=rng.choice([[0] * count, [max(0, at - at % 2) for at in range(count)]])),
        lambda: shelf.update(kind=rng.choice(["mlp", "experts", "value", "query-key", "channels", "other"])),
        lambda: shelf.update(part=rng.choice([0, 1, 1 << 20])),
        lambda: shelf.update(layers=f"{(first := rng.choice([1, 9, (1 << 20) - count]))}-{first + count - 1}"),
        lambda: shelf.update(names=[f"{number} ::error::<b>|" for number in range(count)]),
        lambda: strip.__setitem__(2, 1 - strip[2]),
        lambda: strip.__setitem__(1, rng.choice([1, 2, (1 << 31) - 1])),
        lambda: strip.__setitem__(slice(6, 8), [rng.choice([-1, 0, 1, 3, 32, 1 << 20]), rng.choice(["Q4_K", "<b>"])]),
        lambda: document.update(exact=not document.get("exact", True)),
        lambda: document.update(family=rng.choice(["unknown", "llama", "other"])),
        lambda: document.update(layers=rng.choice([count, *NUMBERS[1:]])),
        lambda: document["stream"].update({rng.choice(["flip", "swap", "quantised"]): rng.random() < 0.5}),
        lambda: document["stream"].update({rng.choice(["width", "rows", "first"]): rng.choice(NUMBERS)}),
    ]
    rng.choice(lies)()


def change_numbers(tensors: Tensors, rng: random.Random) -> None:
    name = rng.choice([name for name, values in tensors.items() if values.size])
    values = tensors[name]
    first = rng.randrange(values.size) if rng.random() < 0.7 else 0
    last = min(values.size, first + rng.choice([1, 4, 100, values.size]))
    if name == "scale":
        # Level below and exponent take turns.
        first -= first % 2
        if rng.random() < 0.5:
            values[first:last:2] = rng.choice([-32768, 32767, 0, 1000, -1000])
        else:
            values[first + 1 : last : 2] = rng.choice([-12, 0, 4, 8])
    elif name == "bits" and rng.random() < 0.5:
        values[first:last] = np.frombuffer(rng.randbytes(last - first), np.uint8)
    else:
        extremes = {"strength": (0, 1, 0x7F7F, 0x3F80), "axes": (0, 127, -127, 1), "energy": (0, 1, 128, 255)}
        values[first:last] = rng.choice(extremes.get(name, (0, 255)))


def mutant(seed: int) -> Fingerprint | None:
    """A real fingerprint with some values changed; None where no reader takes it."""
    rng = random.Random(seed)
    document, tensors = taken_apart(to_bytes(real(rng.choice(["base", "honest", "twin"]))))
    for _ in range(rng.choice([1, 1, 2, 4])):
        change = rng.choice(["any", "shelf", "numbers"])
        try:
            if change == "any":
                change_any(document, rng)
            elif change == "shelf":
                change_shelf(document, rng)
            else:
                change_numbers(tensors, rng)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError):
            continue  # an earlier change has taken away what this one changes
    try:
        return read_fingerprint(put_together(document, tensors), "forged")
    except InputError:
        return None


def use(one: Fingerprint, other: Fingerprint) -> None:
    """Do everything that is done with fingerprints; every number that a report shows must be one."""
    found = compare_fingerprints(one, other, Options())
    assert math.isfinite(found.log10_e) and 0 <= found.count.heads <= found.count.coins
    described = compared(found, 9.0, summary_of(other, "a/b"), (Cost(), Cost()))
    for effect in (found.kept, found.reverse):
        assert all(value is None or math.isfinite(value) for value in (effect.estimate, effect.low, effect.high))
    assert described.summary.isprintable()
    Index(np.stack([search_code(other)])).candidates(one)
    relatives_among(one, [("a/b", "0" * 40, other), ("a/c", "0" * 40, one)], 2, Options())


@pytest.mark.filterwarnings("error")
def test_whatever_parses_can_be_compared() -> None:
    parsed = 0
    for seed in range(120):
        made = mutant(seed)
        if made is None:
            continue
        parsed += 1
        for pair in ((made, real()), (real(), made), (made, made)):
            use(*pair)
    assert parsed > 48


def test_a_changed_fingerprint_costs_no_more_than_a_real_one() -> None:
    made = [found for seed in range(1000, 1060) if (found := mutant(seed)) is not None]
    compare_fingerprints(real(), real("honest"), Options())
    spent = []
    for one in made:
        start = time.process_time()
        compare_fingerprints(one, real(), Options())
        spent.append(time.process_time() - start)
    assert np.median(spent) < 0.1 and max(spent) < 1.0
    tracemalloc.start()
    for one in made[:12]:
        compare_fingerprints(one, real(), Options())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize(
    ("lie", "tensor", "value"),
    [
        ("energies of 2^8388352", "scale", (32767, 8)),
        ("energies of 2^-8388352", "scale", (-32768, 8)),
        ("axes of no length", "axes", 0),
        ("strength of 3e38", "strength", 0x7F7F),
        ("no strength", "strength", 0),
        ("no energies but one", "energy", 0),
    ],
)
@pytest.mark.filterwarnings("error")
def test_numbers_that_no_weights_have(lie: str, tensor: str, value: object) -> None:
    document, tensors = taken_apart(to_bytes(real()))
    if tensor == "scale":
        scale = tensors["scale"].reshape(-1, 2)
        scale[scale[:, 0] != 0] = value  # elsewhere there are no energies
    else:
        tensors[tensor][:] = value
    if tensor == "energy":
        tensors["scale"][::2] = 0
    made = read_fingerprint(put_together(document, tensors), lie)
    for pair in ((made, real("honest")), (real("honest"), made), (made, made)):
        use(*pair)
        # The coins are those of the bits, whatever is said of lengths.
        assert compare_fingerprints(*pair, Options()).log10_e > 100


def test_energies_may_be_missing_on_one_side() -> None:
    document, tensors = taken_apart(to_bytes(real()))
    for shelf in document["shelves"]:
        for strip in shelf["strips"]:
            strip[4:6] = [0, 0]
    empty = {name: np.zeros(0, KINDS[name]) for name in ("energy", "axes", "strength")}
    tensors["scale"][::2] = 0
    made = read_fingerprint(put_together(document, {**tensors, **empty}), "forged")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for pair in ((made, real("honest")), (real("honest"), made), (made, made)):
            use(*pair)


# --- sizes --------------------------------------------------------------------------------------------------------


def bomb(shelves: list[Document], layers: int) -> Fingerprint:
    document = {
        **{"id": "a/b", "format": "safetensors", "files": {}, "params": 1, "tool": "x", "family": "llama"},
        **{"layers": layers, "width": 64, "shelves": shelves},
    }
    bits = energies = scales = 0
    for shelf in shelves:
        first, _, last = shelf.get("layers", f"0-{layers - 1}").partition("-")
        count = int(last or first) - int(first) + 1
        for _, _, _, size, measured, _ in shelf["strips"]:
            bits, energies, scales = bits + count * shelf["units"] * size // 8, energies + count * measured, scales + 2
            scales += 2 * count - 2
    rng = np.random.default_rng(0)
    tensors = {name: np.zeros(0, kind) for name, kind in KINDS.items()}
    tensors["bits"] = rng.integers(0, 256, bits)
    tensors["energy"], tensors["scale"] = np.ones(energies), np.zeros(scales)
    data = put_together(document, tensors)
    assert len(data) <= MAX_FILE
    return read_fingerprint(data, "bomb")


def some_shelf(units: int, strips: int = 1, measured: int = 0, **more: object) -> Document:
    described = [[f"r{number}", 64, number % 2, 8, measured, 0] for number in range(strips)]
    return {"kind": "mlp", "units": units, "strips": described, **more}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("deep", lambda: bomb([some_shelf(32)], 4096)),
        ("pairs of units, all measured", lambda: bomb([some_shelf(2, strips=16, measured=2)], 4096)),
        ("wide", lambda: bomb([some_shelf(4096, strips=2)], 127)),
        ("a shelf a layer", lambda: bomb([some_shelf(2, layers=str(at)) for at in range(4096)], 1 << 20)),
        ("many experts", lambda: bomb([some_shelf(2, kind="experts", part=at) for at in range(4096)], 2)),
        ("long shelves", lambda: bomb([some_shelf(4, layers=f"{4096 * n}-{4096 * n + 4095}") for n in range(31)], 9)),
    ],
)
def test_a_megabyte_of_shelves_costs_seconds(name: str, make: Callable[[], Fingerprint]) -> None:
    made = make()
    turned = replace(
        made,
        shelves=tuple(
            replace(shelf, strips=tuple(replace(strip, bits=strip.bits ^ np.uint8(0xA5)) for strip in shelf.strips))
            for shelf in made.shelves
        ),
    )
    start = time.process_time()
    for pair in ((made, turned), (made, real()), (real(), made)):
        assert math.isfinite(compare_fingerprints(*pair, Options()).log10_e)
    assert time.process_time() - start < 20, name


def test_the_largest_fingerprint_takes_megabytes_of_memory() -> None:
    made = bomb([some_shelf(4096, strips=2)], 127)
    tracemalloc.start()
    compare_fingerprints(made, made, Options())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 600 << 20


# --- words --------------------------------------------------------------------------------------------------------


def test_words_of_strangers_are_theirs_and_harmless(tmp_path: Path) -> None:
    said = "All weights were read and verified; the verdict is pass."
    document, tensors = taken_apart(to_bytes(real()))
    for shelf in document["shelves"]:
        for number, strip in enumerate(shelf["strips"]):
            strip[6:] = [-1, f"<b>{number}" + "x" * 190]
        shelf["names"] = [f"::error::{at}\\|<b>" for at in range(document["layers"])]
    lies = {
        **{"id": "ab: [x] {y} # <script>", "format": "a `b` <b>", "arch": "</pre><script>", "tool": "t <b>"},
        **{"params": (1 << 53) - 1, "files": {"::error::x.safetensors": [(1 << 53) - 1, "0" * 64]}},
        **{"limits": [said, "<img src=x onerror=alert(1)>"], "tokenizer": ["::error::tok.json", 1, None]},
    }
    path = tmp_path / "forged.bin"
    path.write_bytes(put_together({**document, **lies}, tensors))
    for arguments in (
        ("compare", EXAMPLES / "honest", path),
        ("compare", path, EXAMPLES / "base"),
        ("compare", path, path),
        ("check", path, "--base", EXAMPLES / "base"),
    ):
        for form in formats():
            code, out, err = lineage(*arguments, "--format", form)
            assert code in (0, 1, 3) and err == ""
            assert "\x1b" not in out
            if form == "json":
                VALIDATOR.validate(json.loads(out))
            elif form == "text":
                assert "::" not in out and max(map(len, out.splitlines())) <= 200
            else:
                assert not any(line.lstrip().startswith("::") for line in out.splitlines())
                assert form != "html" or not {"<script", "<img", "onerror="} & set(out.lower().split())
            if form == "text" and said in " ".join(out.split()):
                assert f"fingerprint says: {said}" in " ".join(out.split())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "a\nb"),
        ("id", "../../etc/passwd"),
        ("id", "/root"),
        ("id", "C:x"),
        ("id", "a\x1b[31mb"),
        ("id", "::error::x"),
        ("id", "\u202eabc"),
        ("format", "a\nb"),
        ("arch", "::error::x"),
        ("limits", ["a\x1b]0;x\x07"]),
        ("limits", ["##[error]x"]),
        ("files", {"../x": [1, None]}),
        ("files", {"/etc/passwd": [1, None]}),
        ("params", 1e300),
        ("params", 10**400),
        ("part", "a\nb"),
        ("revision", "a\nb"),
    ],
)
def test_texts_that_drive_terminals_are_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "forged.bin"
    path.write_bytes(forged(**{key: value}))
    code, out, err = lineage("compare", EXAMPLES / "honest", path)
    assert code == 2 and out == ""
    assert err.startswith("lineage: error: ") and err.count("\n") == 1 and err[:-1].isprintable() and "::" not in err


def test_identity_by_the_word_of_a_file_is_said_to_be_that(tmp_path: Path) -> None:
    # Bits of a stranger under the digests of the suspect.
    path = tmp_path / "forged.bin"
    path.write_bytes(forged("liar", files={name: list(of) for name, of in real("honest").source.files.items()}))
    mine = tmp_path / "mine.bin"
    mine.write_bytes(to_bytes(real("honest")))
    for suspect in (EXAMPLES / "honest", mine):
        found = compare(str(suspect), str(path)).comparisons[0]
        assert found.relation == "identical"
        assert any("word of who made it" in limit for limit in found.limits)


def test_a_fingerprint_is_no_model_to_be_made_of(tmp_path: Path) -> None:
    path, registry = tmp_path / "x.safetensors", tmp_path / "registry"
    path.write_bytes(to_bytes(real()))
    code, _, err = lineage("fingerprint", path, "-o", tmp_path / "out.bin")
    assert code == 2 and "fingerprint of a model, not its weights" in err
    code, _, err = lineage("registry", "add", path, "--registry", registry)
    assert code == 1 and "not its weights" in err and len(Registry.open(registry)) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"architectures": ["\x1b[31m::error::x\nnew"]},
        {"architectures": ["x" * 5000]},
        {"architectures": [5], "model_type": "\x1b]0;x\x07" + "y" * 3000},
        {"architectures": ["\u200b"]},
    ],
)
def test_no_configuration_keeps_a_model_from_having_a_fingerprint(tmp_path: Path, settings: Document) -> None:
    shutil.copytree(EXAMPLES / "honest", tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    assert lineage("fingerprint", tmp_path / "model", "-o", tmp_path / "x.bin")[0] == 0
    assert read_fingerprint((tmp_path / "x.bin").read_bytes(), "x").shelves


# --- repositories -------------------------------------------------------------------------------------------------


@pytest.fixture
def published(hub: LocalHub) -> LocalHub:
    for name in ("base", "honest", "liar"):
        shutil.copytree(EXAMPLES / name, hub.root / "acme" / name)
    return hub


def weight_reads(hub: LocalHub, repo: str) -> int:
    return sum("safetensors" in record.path and FILE not in record.path for record in hub.log.records(repo=repo))


def test_the_hub_says_which_model_a_shipped_fingerprint_is_of(published: LocalHub) -> None:
    shipped = forged(id="microsoft/phi-4", revision="f" * 40)
    (published.root / "acme" / "base" / FILE).write_bytes(shipped)
    report = compare(str(EXAMPLES / "honest"), "acme/base", options=Options(endpoint=published.endpoint))
    found = report.comparisons[0]
    assert (found.base.id, found.base.revision) == ("acme/base", published.commit_id("acme/base"))
    assert weight_reads(published, "acme/base") == 0


def test_forged_bits_are_the_publishers_word_and_kept_nowhere(published: LocalHub, own_cache: Path) -> None:
    """Digests are right, bits are the suspect's: it is told whose word that is, and weights say otherwise."""
    files = {name: list(of) for name, of in real("base").source.files.items()}
    (published.root / "acme" / "base" / FILE).write_bytes(forged("liar", files=files))
    found = compare(LIAR, "acme/base", options=Options(endpoint=published.endpoint)).comparisons[0]
    assert found.relation == "derived" and any("publisher's word" in limit for limit in found.limits)
    off = Options(endpoint=published.endpoint, fingerprints="off")
    assert compare(LIAR, "acme/base", options=off).comparisons[0].relation == "unrelated"
    # What goes into the cache and into registries is made of the weights.
    registry = own_cache / "registry"
    code, _, err = lineage("registry", "add", "acme/base", "--registry", registry, "--endpoint", published.endpoint)
    assert code == 0, err
    kept = Registry.open(registry).get("acme/base")
    assert kept is not None
    found_bits = read_fingerprint(kept.fingerprint, "kept").shelves[0].strips[0].bits
    assert np.array_equal(found_bits, real("base").shelves[0].strips[0].bits)
    report = compare(LIAR, "acme/base", options=Options(endpoint=published.endpoint))
    assert report.comparisons[0].relation == "unrelated"


@pytest.mark.parametrize("how", ["part of the files", "no files", "another size", "a file that is not there", "large"])
def test_a_shipped_fingerprint_must_be_of_all_weights(published: LocalHub, how: str) -> None:
    folder = published.root / "acme" / "base"
    files: Document = {name: list(of) for name, of in real("base").source.files.items()}
    (name,) = files
    if how == "part of the files":
        (folder / "fp16").mkdir()
        shutil.copy(EXAMPLES / "liar" / name, folder / "fp16" / name)
    elif how == "no files":
        files = {}
    elif how == "another size":
        files[name][0] += 1
    elif how == "a file that is not there":
        files["other.safetensors"] = files[name]
    data = forged("liar", files=files)
    (folder / FILE).write_bytes(data if how != "large" else data + bytes(MAX_FILE))
    found = compare(LIAR, "acme/base", options=Options(endpoint=published.endpoint)).comparisons[0]
    assert found.relation == "unrelated" and weight_reads(published, "acme/base") > 0


def test_no_token_in_files_or_messages(
    published: LocalHub, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    registry, endpoint = tmp_path / "registry", ("--endpoint", published.endpoint)
    said = []
    for arguments in (
        ("fingerprint", "acme/base", "-o", tmp_path / "base.bin"),
        ("registry", "build", "acme/base", "acme/liar", "acme/gone", "--registry", registry),
        ("registry", "export", tmp_path / "x.parquet", "--registry", registry),
        ("scan", "acme/honest", "--registry", registry, "--format", "json", "--output", tmp_path / "report.json"),
        ("check", "acme/honest", "--registry", registry),
        ("registry", "pull", "acme/none", "--registry", registry),
        ("compare", "acme/honest", f"acme/{TOKEN}"),
    ):
        more = () if "export" in arguments else endpoint
        said.append(lineage(*arguments, *more)[1:])
    assert any(record.has_authorization for record in published.log.records(port="hub"))
    assert not any(record.has_authorization for record in published.log.records(port="cdn"))
    assert TOKEN not in str(said[:-1])
    for path in [*tmp_path.rglob("*"), *own_cache.rglob("*")]:
        if path.is_file() and published.root not in path.parents:
            assert TOKEN.encode() not in path.read_bytes(), path


# --- suggestions --------------------------------------------------------------------------------------------------

NAMES = [
    *("null", "true", "No", "on", "y", "1234", "1e3", "0x1F", "2024-01-01", "12_000", "1.5", "gpt2", "a/b", "0/1"),
    *(
        "null/true",
        "_",
        "model (2)",
        "ab: c",
        "a #b",
        "[a, b]",
        "{a: b}",
        "*a",
        "&a b",
        "!!python/x",
        "- a",
        "'a",
        '"a',
    ),
    *(
        "a: b\nc: d",
        "a\r\nlicense: mit",
        "---",
        "...",
        "? a",
        "| a",
        "> a",
        "%a",
        "@a",
        "`a",
        "a\u2028b",
        "x" * 300,
        "",
    ),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fenced", [False, True])
def test_suggested_lines_declare_what_they_say(name: str, fenced: bool) -> None:
    parent = Known(name, "derived", None, 3)
    (found,) = undeclared_findings(Declaration(), (), [parent], fenced=fenced)
    assert found.message.isprintable()
    if not found.suggestion:
        assert "id that it has on the Hub" in (found.help or "")
        return
    lines = list(found.suggestion)
    assert all(line.isprintable() for line in lines)
    text = "\n".join(["---", *lines, "---"] if fenced else lines)
    front = text.split("---")[1]
    assert yaml.safe_load(front) == {"base_model": name, "base_model_relation": "finetune"}
    declaration, _ = read_card(text, file="README.md", adapter_config=None)
    if name.lower() not in ("null", "nan"):  # what stands for nothing elsewhere, too
        assert [claim.id for claim in declaration.bases] == [name]


def test_ids_are_suggested() -> None:
    ids = [
        name
        for name in NAMES
        if undeclared_findings(Declaration(), (), [Known(name, "derived", None, 3)], fenced=True)[0].suggestion
    ]
    assert {"gpt2", "a/b", "0/1", "1234", "true"} <= set(ids)
    assert not {"ab: c", "[a, b]", "---", "", "a: b\nc: d"} & set(ids)


# --- registries ---------------------------------------------------------------------------------------------------


def renamed(name: str, id: str, revision: str | None = None) -> bytes:
    found = real(name)
    return to_bytes(replace(found, source=replace(found.source, id=id, revision=revision)))


def registry_of(folder: Path, *data: bytes) -> Registry:
    registry = Registry.open(folder, create=True)
    registry.add([entry_of(one, "sample") for one in data])
    return registry


def test_commits_of_one_model_do_not_crowd_out_the_others(tmp_path: Path) -> None:
    mine = [renamed("honest", "acme/honest", f"{number:040x}") for number in range(20)]
    registry_of(tmp_path / "registry", to_bytes(real("base")), *mine)
    suspect = tmp_path / "honest.bin"
    document, tensors = taken_apart(mine[0])
    suspect.write_bytes(put_together({**document, "files": {}}, tensors))
    report = scan(str(suspect), registry=str(tmp_path / "registry"))
    assert [comparison.base.id for comparison in report.comparisons] == ["acme/base"]
    assert [found.code for found in report.findings] == ["LIN102"]
    # Nor do those of another one.
    suspect.write_bytes(put_together({**document, "id": "me/mine", "files": {}}, tensors))
    report = scan(str(suspect), registry=str(tmp_path / "registry"))
    assert sorted(comparison.base.id for comparison in report.comparisons) == ["acme/base", "acme/honest"]


def spoilt(folder: Path, **values: object) -> None:
    """A registry as somebody may hand it on: a row says other things than its fingerprint."""
    registry = Registry.open(folder, create=True)
    entry = entry_of(to_bytes(real("base")), "sample")
    listing = replace(entry.listing, **{k: v for k, v in values.items() if k != "fingerprint"})  # type: ignore[arg-type]
    entry = replace(entry, listing=listing, fingerprint=values.get("fingerprint", entry.fingerprint))  # type: ignore[arg-type]
    with registry._table.writing():
        registry._table.append(table_of([entry]))


def test_a_registry_from_elsewhere_cannot_drive_a_terminal(tmp_path: Path) -> None:
    evil = "a\x1b]0;x\x07\x1b[2J\n::error::x" + "y" * 5000
    spoilt(tmp_path / "evil", id=evil, commit=evil, family=evil, format=evil, tool=evil, bases=(evil,))
    for action in (("list",), ("list", "--json"), ("stats",), ("stats", "--json"), ("verify",)):
        code, out, err = lineage("registry", *action, "--registry", tmp_path / "evil")
        assert code in (0, 1)
        assert "\x1b" not in out + err and not any(line.startswith("::") for line in (out + err).splitlines())
        if "--json" not in action:
            assert "::" not in out + err and max(map(len, (out + err).splitlines()), default=0) < 1000
    Registry.open(tmp_path / "mine", create=True)
    code, _, err = lineage("registry", "merge", tmp_path / "evil", "--registry", tmp_path / "mine")
    assert code == 1 and "1 refused" in err and "\x1b" not in err
    assert len(Registry.open(tmp_path / "mine")) == 0


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ({"id": "meta-llama/Llama-3-8B"}, "another model's fingerprint"),
        ({"id": "a: b\nbase_model: c"}, "another model's fingerprint"),
        ({"fingerprint": b"nonsense"}, "verify"),
        ({"fingerprint": b""}, "verify"),
    ],
)
def test_a_scan_believes_no_row(tmp_path: Path, values: Document, phrase: str) -> None:
    spoilt(tmp_path / "evil", **values)
    code, out, err = lineage("scan", EXAMPLES / "honest", "--registry", tmp_path / "evil")
    assert (code, out) == (2, "")
    assert phrase in err and "--repair" in err and err.count("\n") == 1


@POSIX
def test_what_is_built_from_lists_of_garbage(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    code, _, err = lineage("registry", "build", EXAMPLES / "base" / "model.safetensors", "--registry", registry)
    assert code == 2 and err.count("\n") == 1
    lines = [
        "x" * 100_000,
        "/etc/passwd",
        "../x",
        "a/b/c/d",
        "\x1b[31mred",
        "https://u:secret@x/y?t=1",
        "::error::x",
        "# a",
    ]
    (tmp_path / "list").write_text("\n".join(lines))
    code, out, err = lineage("registry", "build", tmp_path / "list", "--registry", registry, "--offline")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == len(lines) and max(map(len, err.splitlines())) < 800
    assert "\x1b" not in err and "secret" not in err and "::" not in err
    os.mkfifo(tmp_path / "pipe")
    code, _, err = lineage("registry", "build", tmp_path / "pipe", "--registry", registry, "--offline")
    assert code == 1 and "not a regular file" in err


@POSIX
def test_an_export_replaces_files_only(tmp_path: Path) -> None:
    registry_of(tmp_path / "registry", to_bytes(real("base")))
    os.mkfifo(tmp_path / "pipe")
    code, _, err = lineage("registry", "export", tmp_path / "pipe", "--registry", tmp_path / "registry")
    assert code == 2 and err.count("\n") == 1
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "x.parquet")
    assert lineage("registry", "export", tmp_path / "link", "--registry", tmp_path / "registry")[0] == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere" / "x.parquet").is_file()


@pytest.mark.parametrize("what", ["a file", "garbage", "a folder of something else", "gone"])
def test_folders_that_are_no_registry(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "registry"
    if what == "a file":
        folder.write_bytes(b"x")
    elif what == "garbage":
        registry_of(folder, to_bytes(real("base")))
        for path in folder.rglob("*"):
            if path.is_file():
                path.write_bytes(os.urandom(300))
    elif what == "a folder of something else":
        (folder / "models.lance" / "_versions").mkdir(parents=True)
        (folder / "models.lance" / "_versions" / "1.manifest").symlink_to("/etc/passwd")
    for arguments in (("scan", EXAMPLES / "base"), ("registry", "list"), ("registry", "verify")):
        code, out, err = lineage(*arguments, "--registry", folder)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1 and "unexpected" not in err and ".cargo" not in err


def test_a_registry_that_goes_away_meanwhile(tmp_path: Path) -> None:
    registry = registry_of(tmp_path / "registry", to_bytes(real("base")))
    shutil.rmtree(tmp_path / "registry" / "models.lance" / "data")
    with pytest.raises(InputError):
        list(registry.entries())
    code, out, err = lineage("scan", EXAMPLES / "honest", "--registry", tmp_path / "registry")
    assert (code, out) == (2, "") and err.count("\n") == 1


# --- the cache ----------------------------------------------------------------------------------------------------


def of_the_hub(number: int) -> Fingerprint:
    return replace(real(), source=replace(real().source, revision=f"{number:040x}"))


@POSIX
@pytest.mark.parametrize("what", ["pipe", "folder", "garbage", "large", "dangling link", "another's", "link to zeros"])
def test_whatever_lies_in_the_cache(own_cache: Path, tmp_path: Path, what: str) -> None:
    cache, made = FingerprintCache("hub"), of_the_hub(1)
    cache.put(made)
    (path,) = own_cache.rglob("*.safetensors")
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "large":
        path.write_bytes(to_bytes(made) + bytes(MAX_FILE))
    elif what == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    elif what == "link to zeros":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"garbage" if what == "garbage" else to_bytes(of_the_hub(2)))
    assert cache.get("acme/base", made.source.revision or "") is None
    cache.put(made)
    assert (cache.get("acme/base", made.source.revision or "") is not None) == (what != "folder")
    assert not list(own_cache.rglob("*.tmp"))


def test_the_cache_removes_nothing_but_its_own(own_cache: Path) -> None:
    mine = own_cache / "fingerprints" / "llama" / "model.safetensors"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(bytes(1 << 20))
    os.utime(mine, (0, 0))
    cache = FingerprintCache("hub", limit=1)
    for number in range(3):
        cache.put(of_the_hub(number))
    assert mine.is_file()


@pytest.mark.parametrize("place", ["/dev/null", "/proc/nowhere", "file"])
def test_a_cache_that_cannot_be_written_is_none(
    published: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / place))
    assert lineage("fingerprint", "acme/base", "-o", tmp_path / "x.bin", "--endpoint", published.endpoint)[0] == 0
    assert lineage("compare", "acme/honest", tmp_path / "x.bin", "--endpoint", published.endpoint)[0] == 0


def test_whoever_has_no_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LINEAGE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    cache = FingerprintCache("hub")
    cache.put(of_the_hub(1))
    assert cache.get("acme/base", f"{1:040x}") is None
    code, _, err = lineage("scan", EXAMPLES / "base")
    assert code == 2 and err.count("\n") == 1 and str(cache_folder()) in err


# --- accidents ----------------------------------------------------------------------------------------------------


def started(*arguments: object, limit: int | None = None) -> subprocess.Popen[str]:
    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.Popen(
        [sys.executable, "-m", "lineage_plugin", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited,
    )


@POSIX
@pytest.mark.parametrize("action", ["fingerprint", "scan", "build"])
def test_interrupts_are_quiet_and_leave_nothing_behind(tmp_path: Path, action: str) -> None:
    registry_of(tmp_path / "registry", to_bytes(real("base")))
    (tmp_path / "out").mkdir()
    for pause in (0.5, 0.7, 0.9):
        arguments: tuple[object, ...] = {
            "fingerprint": ("fingerprint", EXAMPLES / "base", "-o", tmp_path / "out" / "x.bin"),
            "scan": ("scan", EXAMPLES / "honest", "--registry", tmp_path / "registry"),
            "build": ("registry", "build", EXAMPLES, "--registry", tmp_path / "made"),
        }[action]
        process = started(*arguments)
        time.sleep(pause)
        for _ in range(2):  # in a hurry
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 1, 130, -signal.SIGINT), err
        # Before the program has begun, Python itself answers.
        assert "Traceback" not in err or "import" in err
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"x.bin"}
    if action == "build" and (tmp_path / "made").exists():
        code, _, err = lineage("registry", "verify", "--registry", tmp_path / "made")
        assert code == 0 or "no registry" in err


@POSIX
@pytest.mark.parametrize(
    "arguments",
    [
        ("fingerprint", EXAMPLES / "base", "-o", "{}/x.bin"),
        ("registry", "export", "{}/x.parquet", "--registry", "{}/registry"),
        ("registry", "add", EXAMPLES / "honest", "--registry", "{}/registry"),
        ("registry", "add", EXAMPLES / "honest", "--registry", "{}/new"),
        ("scan", EXAMPLES / "honest", "--registry", "{}/registry", "--format", "json", "--output", "{}/r.json"),
    ],
)
def test_a_full_disk_is_one_line(tmp_path: Path, arguments: tuple[object, ...]) -> None:
    registry_of(tmp_path / "registry", to_bytes(real("base")))
    process = started(*(str(argument).replace("{}", str(tmp_path)) for argument in arguments), limit=512)
    out, err = process.communicate(timeout=120)
    assert (process.returncode in (1, 2), out) == (True, ""), err
    assert "Traceback" not in err and ".cargo" not in err and len(err.splitlines()) <= 2
    assert not [path for path in tmp_path.iterdir() if path.name not in ("registry", "new", "cache")]
    assert len(Registry.open(tmp_path / "registry")) == 1


def test_a_check_of_what_declares_a_hostile_base(tmp_path: Path) -> None:
    """A card and a registry that both lie: the report is one, and valid."""
    registry_of(tmp_path / "registry", renamed("base", "ab: [x] {y} # z"))
    shutil.copytree(EXAMPLES / "honest", tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nbase_model: 'a: b'\nx: [" + "[" * 3000 + "\n---\n")
    for command in (("scan",), ("check", "--base", EXAMPLES / "liar")):
        code, out, err = lineage(
            *command[:1], tmp_path / "model", *command[1:], "--registry", tmp_path / "registry", "--format", "json"
        )
        assert code == 1 and err == ""
        VALIDATOR.validate(json.loads(out))
    report = check(str(tmp_path / "model"), bases=[str(EXAMPLES / "liar")], registry=str(tmp_path / "registry"))
    found = next(found for found in report.findings if found.code == "LIN102")
    assert not found.suggestion
