"""GGUF headers, right ones and wrong ones; which file of many is read; splits; what the file claims; the Hub."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.gguf_files.header import MAX_HEADER
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import InputError, LineageError, UnreadableCheckpoint, UnsafeCheckpoint, UnsupportedEncoding
from tests.hub import LocalHub

from .gguf_builders import Kind, add, close
from .gguf_samples import SAMPLES

Writing = Callable[[gguf.GGUFWriter], object]


def write(path: Path, *more: Writing, kind: Kind = Kind.F32, rows: int = 4, **options: object) -> np.ndarray:
    """A file of one tensor ``w``; returns its numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "never-heard-of", **options)  # type: ignore[arg-type]
    for step in more:
        step(writer)
    values = add(writer, "w", np.random.default_rng(0).normal(size=(rows, 256)), kind)
    close(writer)
    return values


# Right ones -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_open_and_every_tensor_reads(tmp_path: Path, name: str) -> None:
    SAMPLES[name](tmp_path)
    checkpoint = open_local(tmp_path)
    assert checkpoint.format == "gguf"
    for tensor, info in checkpoint.tensors.items():
        (found,) = checkpoint.read([Selection(tensor)])
        assert found.dtype == np.float32
        assert found.size == info.size
    stored = sum(
        tensor.n_bytes for file in checkpoint.weight_files for tensor in gguf.GGUFReader(tmp_path / file).tensors
    )
    assert sum(info.nbytes for info in checkpoint.tensors.values()) == stored


def test_big_endian_files_hold_the_same_numbers(tmp_path: Path) -> None:
    for kind in (Kind.F32, Kind.F16, Kind.BF16):
        little = write(tmp_path / "little.gguf", kind=kind)
        # The library swaps what it is given as numbers; BF16 it is given as bytes.
        options = {"endianess": gguf.GGUFEndian.BIG}
        writer = gguf.GGUFWriter(tmp_path / "big.gguf", "never-heard-of", **options)
        if kind == Kind.BF16:
            raw = (little.view(np.uint32) >> 16).astype(">u2").view(np.uint8)
            writer.add_tensor("w", raw, raw_dtype=kind)
        else:
            writer.add_tensor("w", little.astype(np.float16 if kind == Kind.F16 else np.float32))
        close(writer)
        selection = Selection("w", np.array([0, 3]), np.array([1, 2, 200]))
        (found,) = open_local(tmp_path / "big.gguf").read([selection])
        np.testing.assert_array_equal(found, little[np.ix_([0, 3], [1, 2, 200])])


def test_big_endian_blocks(tmp_path: Path) -> None:
    """Scales of 16 bits are swapped, where the library's own conversion of files swaps them."""
    for kind, halves in (
        (Kind.Q4_0, (0,)),
        (Kind.Q8_0, (0,)),
        (Kind.Q4_K, (0, 2)),
        (Kind.Q6_K, (208,)),
        (Kind.MXFP4, ()),
    ):
        elements, nbytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = np.random.default_rng(0).integers(0, 120, (3, 256 // elements, nbytes), np.uint8)
        want = gguf.quants.dequantize(blocks.reshape(3, -1), kind)
        for at in halves:
            blocks[:, :, [at, at + 1]] = blocks[:, :, [at + 1, at]]
        writer = gguf.GGUFWriter(tmp_path / "big.gguf", "never-heard-of", endianess=gguf.GGUFEndian.BIG)
        writer.add_tensor("w", blocks.reshape(3, -1), raw_dtype=kind)
        close(writer)
        np.testing.assert_array_equal(open_local(tmp_path / "big.gguf").read([Selection("w")])[0], want)
    write_big_endian_q2 = gguf.GGUFWriter(tmp_path / "q2.gguf", "never-heard-of", endianess=gguf.GGUFEndian.BIG)
    write_big_endian_q2.add_tensor("w", np.zeros((2, 84), np.uint8), raw_dtype=Kind.Q2_K)
    close(write_big_endian_q2)
    with pytest.raises(UnsupportedEncoding, match="Q2_K in big-endian order"):
        open_local(tmp_path / "q2.gguf")


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_alignment(tmp_path: Path, alignment: int) -> None:
    values = write(tmp_path / "w.gguf", lambda w: w.add_custom_alignment(alignment))
    np.testing.assert_array_equal(open_local(tmp_path / "w.gguf").read([Selection("w")])[0], values)


def test_what_the_file_says_about_itself(tmp_path: Path) -> None:
    SAMPLES["single"](tmp_path)
    checkpoint = open_local(tmp_path)
    assert checkpoint.metadata["general.base_model.0.repo_url"] == "https://huggingface.co/owner/base"
    assert checkpoint.metadata["general.base_model.count"] == 1
    assert not any("tokens" in key for key in checkpoint.metadata)
    wanted = {"model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 8}
    assert wanted.items() <= checkpoint.config.items()


def test_claims_are_made_fit_to_show(tmp_path: Path) -> None:
    write(
        tmp_path / "w.gguf",
        lambda w: w.add_string("general.name", "evil\n::error::\x1b[31mred"),
        lambda w: w.add_string("general.license.name", "x" * 3000),
        lambda w: w.add_string("general.description", "y" * 100_000),
        lambda w: w.add_array("general.tags", [f"tag {n}" for n in range(60)]),
    )
    claims = open_local(tmp_path / "w.gguf").metadata
    assert claims["general.name"] == "evil : :error: :red"
    assert len(str(claims["general.license.name"])) == 500
    assert "general.description" not in claims
    assert claims["general.tags"][:2] == ["tag 0", "tag 1"]  # type: ignore[index]


# Which file -----------------------------------------------------------------------------------------------------------


def test_the_largest_model_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    values = write(tmp_path / "m-F32.gguf", kind=Kind.F32)
    write(tmp_path / "m-Q8_0.gguf", kind=Kind.Q8_0)
    write(tmp_path / "sub" / "m-Q4_0.gguf", kind=Kind.Q4_0)
    write(tmp_path / "mmproj-m-F32.gguf", kind=Kind.F32, rows=100)
    write(tmp_path / "m.imatrix.gguf", kind=Kind.F32, rows=100)
    checkpoint = open_local(tmp_path)
    assert checkpoint.weight_files == ("m-F32.gguf",)
    np.testing.assert_array_equal(checkpoint.read([Selection("w")])[0], values)
    (note,) = [note for note in checkpoint.notes if "left aside" in note]
    assert "'m-Q8_0.gguf'" in note
    assert "'sub/m-Q4_0.gguf'" in note
    assert open_local(tmp_path / "m-Q8_0.gguf").weight_files == ("m-Q8_0.gguf",)


def test_a_lone_projector_is_no_model(tmp_path: Path) -> None:
    write(tmp_path / "mmproj-F32.gguf")
    with pytest.raises(UnreadableCheckpoint, match="no weights"):
        open_local(tmp_path)
    assert set(open_local(tmp_path / "mmproj-F32.gguf").tensors) == {"w"}


def test_split_files_belong_together(tmp_path: Path) -> None:
    SAMPLES["split"](tmp_path)
    (tmp_path / "one").mkdir()
    parts = sorted(path.name for path in tmp_path.glob("*.gguf"))
    assert len(parts) == 3
    checkpoint = open_local(tmp_path)
    assert checkpoint.weight_files == tuple(parts)
    assert len(checkpoint.tensors) == 18
    (tmp_path / parts[1]).unlink()
    with pytest.raises(UnreadableCheckpoint, match=parts[1]):
        open_local(tmp_path)
    write(tmp_path / "small.gguf")
    assert open_local(tmp_path).weight_files == ("small.gguf",)


def test_parts_that_do_not_belong_together(tmp_path: Path) -> None:
    SAMPLES["split"](tmp_path)
    parts = sorted(tmp_path.glob("*.gguf"))
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(UnreadableCheckpoint, match="does not say that it is part 2 of 3"):
        open_local(tmp_path)
    parts[0].rename(tmp_path / "renamed.gguf")
    with pytest.raises(UnreadableCheckpoint, match="one of 3 parts"):
        open_local(tmp_path / "renamed.gguf")


def test_adapters_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "w.gguf", lambda w: w.add_type("adapter"))
    with pytest.raises(UnsupportedEncoding, match="adapter"):
        open_local(tmp_path / "w.gguf")


# Wrong ones -----------------------------------------------------------------------------------------------------------


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def info(name: str | bytes, extents: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, kind, offset)


ARCHITECTURE = pair("general.architecture", 8, text("llama"))


def made(
    *pairs: bytes, tensors: tuple[bytes, ...] = (info("w", (2, 4)),), data: int = 32, count: int | None = None
) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors) if count is None else count, len(pairs))
    head += b"".join((*pairs, *tensors))
    return head + bytes(-len(head) % 32 + data)


HUGE = 1 << 62
BAD: dict[str, tuple[bytes, type[InputError], str]] = {
    "an empty file": (b"", UnreadableCheckpoint, "not a GGUF file"),
    "only the magic": (b"GGUF", UnreadableCheckpoint, "beyond the end"),
    "another file": (b"anything at all", UnreadableCheckpoint, "not a GGUF file"),
    "an LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", UnreadableCheckpoint, "git lfs pull"),
    "a pickle": (b"PK\x03\x04" + bytes(100), UnsafeCheckpoint, "pickle"),
    "GGML": (b"tjgg" + bytes(100), UnsupportedEncoding, "before GGUF"),
    "version 1": (b"GGUF" + struct.pack("<I", 1) + bytes(100), UnsupportedEncoding, "version 1"),
    "version 0": (b"GGUF" + bytes(100), UnsupportedEncoding, "version 0"),
    "version 4": (b"GGUF" + struct.pack("<I", 4) + bytes(100), UnsupportedEncoding, "version 4"),
    "many tensors": (made(ARCHITECTURE, count=HUGE), UnreadableCheckpoint, "more than any real file"),
    "more tensors than there are": (made(ARCHITECTURE, count=2), UnreadableCheckpoint, "no name for a tensor"),
    "no architecture": (made(), UnreadableCheckpoint, "architecture"),
    "an architecture that is a number": (
        made(pair("general.architecture", 4, bytes(4))),
        UnreadableCheckpoint,
        "architecture",
    ),
    "no tensors": (made(ARCHITECTURE, tensors=()), UnreadableCheckpoint, "no tensors"),
    "a key twice": (made(ARCHITECTURE, ARCHITECTURE), UnreadableCheckpoint, "twice"),
    "a long key": (made(pair("k" * 1000, 4, bytes(4))), UnreadableCheckpoint, "1000 bytes long"),
    "a key that is no text": (made(text(b"\xff\xfe") + bytes(8)), UnreadableCheckpoint, "UTF-8"),
    "an unknown value type": (made(pair("k", 13, bytes(8))), UnreadableCheckpoint, "unknown type 13"),
    "a long text": (made(pair("k", 8, struct.pack("<Q", HUGE))), UnreadableCheckpoint, "beyond the end"),
    "a long list": (made(pair("k", 9, struct.pack("<IQ", 4, HUGE))), UnreadableCheckpoint, "beyond the end"),
    "a long list of texts": (made(pair("k", 9, struct.pack("<IQ", 8, HUGE))), UnreadableCheckpoint, "beyond the end"),
    "a list of lists": (made(pair("k", 9, struct.pack("<IQ", 9, 1))), UnreadableCheckpoint, "unsupported type 9"),
    "texts that lie": (
        made(pair("k", 9, struct.pack("<IQ", 8, 65) + struct.pack("<Q", HUGE) * 65)),
        UnreadableCheckpoint,
        "beyond the end",
    ),
    "an odd alignment": (
        made(ARCHITECTURE, pair("general.alignment", 4, struct.pack("<I", 24))),
        UnreadableCheckpoint,
        "power of two",
    ),
    "no alignment": (
        made(ARCHITECTURE, pair("general.alignment", 4, bytes(4))),
        UnreadableCheckpoint,
        "power of two",
    ),
    "an unnamed tensor": (made(ARCHITECTURE, tensors=(info("", (2, 4)),)), UnreadableCheckpoint, "no name"),
    "an escape sequence": (made(ARCHITECTURE, tensors=(info("\x1b[2J", (8,)),)), UnreadableCheckpoint, "no name"),
    "five dimensions": (
        made(ARCHITECTURE, tensors=(info("w", (1, 1, 2, 2, 2)),)),
        UnreadableCheckpoint,
        "5 dimensions",
    ),
    "a wide tensor": (
        made(ARCHITECTURE, tensors=(info("w", (HUGE, 2)),)),
        UnreadableCheckpoint,
        "larger than the file",
    ),
    "an overflowing tensor": (
        made(ARCHITECTURE, tensors=(info("w", (1 << 20,) * 4),)),
        UnreadableCheckpoint,
        "truncated",
    ),
    "a truncated tensor": (made(ARCHITECTURE, tensors=(info("w", (2, 5)),)), UnreadableCheckpoint, "truncated"),
    "an offset behind the end": (
        made(ARCHITECTURE, tensors=(info("w", (2, 4), 0, HUGE),)),
        UnreadableCheckpoint,
        "truncated",
    ),
    "an overlap": (
        made(ARCHITECTURE, tensors=(info("w", (8,)), info("v", (1,), 0, 16))),
        UnreadableCheckpoint,
        "overlaps",
    ),
    "a name twice": (
        made(ARCHITECTURE, tensors=(info("w", (4,)), info("w", (4,), 0, 16))),
        UnreadableCheckpoint,
        "two tensors",
    ),
    "a row of half a block": (
        made(ARCHITECTURE, tensors=(info("w", (16, 2), 2),)),
        UnreadableCheckpoint,
        "no multiple of 32",
    ),
    "an unknown number type": (
        made(ARCHITECTURE, tensors=(info("w", (8,), 4),)),
        UnsupportedEncoding,
        "'w' is stored as type 4",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_one_clear_line(tmp_path: Path, name: str) -> None:
    data, kind, phrase = BAD[name]
    (tmp_path / "w.gguf").write_bytes(data)
    with pytest.raises(InputError) as caught:
        open_local(tmp_path / "w.gguf")
    message = str(caught.value)
    assert isinstance(caught.value, kind)
    assert phrase in message
    assert message.isprintable()
    assert len(message) < 500


def test_the_frame_of_the_bad_ones_is_good(tmp_path: Path) -> None:
    (tmp_path / "w.gguf").write_bytes(made(ARCHITECTURE))
    assert open_local(tmp_path / "w.gguf").tensors["w"].shape == (4, 2)
    (tmp_path / "w.gguf").write_bytes(made(ARCHITECTURE, tensors=(info("w", (0, 5)), info("s", ()))))
    checkpoint = open_local(tmp_path / "w.gguf")
    assert {name: t.shape for name, t in checkpoint.tensors.items()} == {"w": (5, 0), "s": ()}
    assert [found.shape for found in checkpoint.read([Selection("w"), Selection("s")])] == [(5, 0), (1, 1)]


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    """A sparse file of a gigabyte: the strings that it announces have no bytes, and there are many."""
    path = tmp_path / "w.gguf"
    count = (1 << 30) // 8 - 1000
    path.write_bytes(made(pair("k", 9, struct.pack("<IQ", 8, count)), tensors=(), data=0))
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(UnreadableCheckpoint, match=f"longer than {MAX_HEADER}"):
        open_local(path)


@pytest.mark.parametrize("name", SAMPLES)
def test_damaged_files_end_in_one_line(tmp_path: Path, name: str) -> None:
    """Bytes of the header are changed at random: the file opens and reads, or says in one line why not."""
    SAMPLES[name](tmp_path)
    rng = random.Random(name)
    path = sorted(path for path in tmp_path.glob("*.gguf") if "mmproj" not in path.name)[0]
    data = path.read_bytes()
    messages: list[str] = []
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(min(len(data), 5000))
            damaged[at] = rng.choice([0, 1, 255, rng.randrange(256)])
        path.write_bytes(damaged[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
        try:
            checkpoint = open_local(tmp_path)
            checkpoint.read([Selection(tensor) for tensor in checkpoint.tensors])
        except LineageError as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert all(message.isprintable() for message in messages)


# Over the Hub ---------------------------------------------------------------------------------------------------------


def test_rows_are_read_by_range(hub: LocalHub) -> None:
    """A header of several megabytes, mostly a tokenizer, comes in steps; then only the blocks of the rows."""
    path = hub.root / "owner" / "name" / "model-Q8_0.gguf"
    tokens = [f"token number {n}" for n in range(100_000)]
    steps: list[Writing] = [
        lambda w: w.add_token_list(tokens),
        lambda w: w.add_token_merges(tokens),
        lambda w: w.add_token_scores([0.0] * len(tokens)),
    ]
    values = write(path, *steps, kind=Kind.Q8_0, rows=20_000)
    header = path.stat().st_size - values.size // 32 * 34
    assert header > 4 << 20
    checkpoint = open_hub("owner/name", endpoint=hub.endpoint, gap=0)
    opened = checkpoint.cost()
    assert header <= opened.bytes_read < header + (1 << 20)
    assert opened.requests <= 10
    rows = np.array([7, 12_000, 12_001, 19_999])
    (found,) = checkpoint.read([Selection("w", rows)])
    np.testing.assert_array_equal(found, values[rows])
    spent = checkpoint.cost().since(opened)
    assert spent.bytes_read <= rows.size * 256 // 32 * 34
    sent = [record for record in hub.log.records(port="cdn") if record.file.endswith(".gguf")]
    assert checkpoint.cost().bytes_read == sum(record.sent for record in sent)
    (found,) = checkpoint.read([Selection("w", rows, np.array([3, 250]))])
    np.testing.assert_array_equal(found, values[np.ix_(rows, [3, 250])])


def test_split_files_over_the_hub(hub: LocalHub, tmp_path: Path) -> None:
    folder = hub.root / "owner" / "name"
    folder.mkdir(parents=True)
    SAMPLES["split"](folder)
    local, remote = open_local(folder), open_hub("owner/name", endpoint=hub.endpoint)
    assert remote.weight_files == local.weight_files
    selections = [Selection(name) for name in local.tensors]
    for mine, theirs in zip(local.read(selections), remote.read(selections), strict=True):
        np.testing.assert_array_equal(mine, theirs)
