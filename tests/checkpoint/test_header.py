"""The header parser against files that lie."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import safetensors.torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.checkpoint import header as module
from lineage_plugin.checkpoint.dtypes import BITS
from lineage_plugin.checkpoint.header import MAX_HEADER, header_size, parse_header
from lineage_plugin.errors import InputError, LineageError, UnreadableCheckpoint, UnsafeCheckpoint, UnsupportedEncoding

from .builders import entry, file_bytes, random_tensors

W = entry([2, 3], 0, 24)
DATA = bytes(24)


def parse(data: bytes) -> module.Header:
    return parse_header(data, len(data), file="model.safetensors", where="some/model.safetensors")


def raw(text: str) -> bytes:
    return file_bytes(text, DATA)


BAD: dict[str, tuple[bytes, type[InputError], str]] = {
    "empty": (b"", UnreadableCheckpoint, "0 bytes"),
    "shorter than the length field": (b"\x02\0\0", UnreadableCheckpoint, "too few"),
    "only a length field": ((2).to_bytes(8, "little"), UnreadableCheckpoint, "too few"),
    "length beyond the file": (file_bytes({"w": W}, DATA, length=5000), UnreadableCheckpoint, "does not fit"),
    "length over the cap": (file_bytes({"w": W}, DATA, length=MAX_HEADER + 1), UnreadableCheckpoint, "limit"),
    "length of 2**64 - 1": (file_bytes({"w": W}, DATA, length=2**64 - 1), UnreadableCheckpoint, "limit"),
    "length zero": (file_bytes({"w": W}, DATA, length=0), UnreadableCheckpoint, "start"),
    "length cuts the JSON": (file_bytes({"w": W}, DATA, length=20), UnreadableCheckpoint, "JSON"),
    "length reaches into the data": (file_bytes(json.dumps({"w": W}), DATA, length=70), UnreadableCheckpoint, "JSON"),
    "starts with a space": (raw(" " + json.dumps({"w": W})), UnreadableCheckpoint, "start"),
    "a list": (raw("[]"), UnreadableCheckpoint, "start"),
    "no JSON": (raw("{w: 1}"), UnreadableCheckpoint, "not valid JSON"),
    "two documents": (raw("{} {}"), UnreadableCheckpoint, "not valid JSON"),
    "not UTF-8": (file_bytes(b'{"\xff\xfe": 1}', DATA), UnreadableCheckpoint, "UTF-8"),
    "UTF-16": (file_bytes('{"w"}'.encode("utf-16-le"), DATA), UnreadableCheckpoint, "JSON"),
    "a key twice": (raw(f'{{"w": {json.dumps(W)}, "w": {json.dumps(W)}}}'), UnreadableCheckpoint, "twice"),
    "a field twice": (
        raw('{"w": {"dtype": "F32", "dtype": "F16", "shape": [2, 3], "data_offsets": [0, 24]}}'),
        UnreadableCheckpoint,
        "twice",
    ),
    "NaN as an offset": (raw('{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, NaN]}}'), InputError, "NaN"),
    "Infinity as an extent": (
        raw('{"w": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 4]}}'),
        InputError,
        "",
    ),
    "an integer of 5,000 digits": (
        raw('{"w": {"dtype": "F32", "shape": [' + "9" * 5000 + '], "data_offsets": [0, 24]}}'),
        UnreadableCheckpoint,
        "64 bits",
    ),
    "nested 50,000 deep": (raw('{"w": ' + "[" * 50_000 + "]" * 50_000 + "}"), UnreadableCheckpoint, "nested"),
    "nested 500,000 deep": (raw('{"w": ' + '{"a":' * 500_000 + "1" + "}" * 500_001), InputError, "nested"),
    "nested a million deep": (raw('{"w": ' + '{"a":' * 1_000_000), UnreadableCheckpoint, "too many values"),
    "two million values": (raw('{"w": [' + "0," * 2_000_000 + "0]}"), UnreadableCheckpoint, "too many values"),
    "two million strings": (raw('{"w": [' + '"a"' * 2_000_000 + "]}"), UnreadableCheckpoint, "too many strings"),
    "metadata is a list": (file_bytes({"__metadata__": [], "w": W}, DATA), UnreadableCheckpoint, "__metadata__"),
    "metadata holds numbers": (file_bytes({"__metadata__": {"a": 1}, "w": W}, DATA), InputError, "__metadata__"),
    "a tensor that is a string": (file_bytes({"w": "F32"}, DATA), UnreadableCheckpoint, "not described"),
    "no dtype": (file_bytes({"w": {"shape": [6], "data_offsets": [0, 24]}}, DATA), InputError, "not described"),
    "a further field": (file_bytes({"w": {**W, "strides": [1]}}, DATA), UnreadableCheckpoint, "not described"),
    "an unknown dtype": (file_bytes({"w": entry([6], 0, 24, "F33")}, DATA), UnreadableCheckpoint, "unknown dtype"),
    "a dtype with a line break": (file_bytes({"w": entry([6], 0, 24, "F\n32")}, DATA), InputError, "unknown dtype"),
    "a dtype that is a number": (file_bytes({"w": {**W, "dtype": 32}}, DATA), UnreadableCheckpoint, "unknown dtype"),
    "a shape that is a number": (file_bytes({"w": {**W, "shape": 6}}, DATA), UnreadableCheckpoint, "shape"),
    "a negative extent": (file_bytes({"w": {**W, "shape": [-2, -3]}}, DATA), UnreadableCheckpoint, "shape"),
    "a fractional extent": (file_bytes({"w": {**W, "shape": [2.0, 3]}}, DATA), UnreadableCheckpoint, "shape"),
    "true as an extent": (file_bytes({"w": entry([True, 6], 0, 24)}, DATA), UnreadableCheckpoint, "shape"),
    "65 dimensions": (file_bytes({"w": entry([1] * 65, 0, 4)}, DATA[:4]), UnreadableCheckpoint, "shape"),
    "a product of 2**64 that wraps to 0": (file_bytes({"w": entry([2**32, 2**32], 0, 0)}), InputError, "larger"),
    "an empty tensor of endless rows": (file_bytes({"w": entry([2**60, 0], 0, 0)}), UnreadableCheckpoint, "larger"),
    "one offset": (file_bytes({"w": {**W, "data_offsets": [24]}}, DATA), UnreadableCheckpoint, "data_offsets"),
    "a negative offset": (file_bytes({"w": {**W, "data_offsets": [-24, 0]}}, DATA), InputError, "data_offsets"),
    "offsets as text": (file_bytes({"w": {**W, "data_offsets": ["0", "24"]}}, DATA), InputError, "data_offsets"),
    "an end before the beginning": (file_bytes({"w": {**W, "data_offsets": [24, 0]}}, DATA), InputError, "before"),
    "fewer bytes than the shape needs": (file_bytes({"w": entry([2, 3], 0, 20)}, DATA[:20]), InputError, "20 bytes"),
    "more bytes than the shape needs": (file_bytes({"w": entry([2, 2], 0, 24)}, DATA), InputError, "24 bytes"),
    "three elements of four bits": (file_bytes({"w": entry([3], 0, 1, "F4")}, b"\0"), InputError, "1 bytes"),
    "data beyond the file": (file_bytes({"w": W}, DATA[:-1]), UnreadableCheckpoint, "truncated"),
    "bytes after the data": (file_bytes({"w": W}, DATA + b"\0"), UnreadableCheckpoint, "belong to no tensor"),
    "overlap": (file_bytes({"a": entry([6], 0, 24), "b": entry([3], 12, 24)}, DATA), InputError, "overlaps"),
    "the same bytes twice": (
        file_bytes({"a": entry([6], 0, 24), "b": entry([6], 0, 24)}, DATA),
        InputError,
        "overlaps",
    ),
    "a hole": (file_bytes({"a": entry([2], 0, 8), "b": entry([2], 16, 24)}, DATA), UnreadableCheckpoint, "hole"),
    "a hole at the start": (file_bytes({"a": entry([4], 8, 24)}, DATA), UnreadableCheckpoint, "hole"),
    "data but no tensor": (file_bytes({}, DATA), UnreadableCheckpoint, "belong to no tensor"),
    "an escape sequence in a name": (file_bytes({"\x1b[2Jw": W}, DATA), UnreadableCheckpoint, "unprintable"),
    "a line break in a name": (file_bytes({"a\n::error::b": W}, DATA), UnreadableCheckpoint, "unprintable"),
    "a lone surrogate in a name": (raw('{"\\ud800": ' + json.dumps(W) + "}"), UnreadableCheckpoint, "unprintable"),
    "a name of 2,000 characters": (file_bytes({"w" * 2000: W}, DATA), UnreadableCheckpoint, "too long"),
    "an LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 24\n",
        UnreadableCheckpoint,
        "git lfs pull",
    ),
    "a zip pickle": (b"PK\x03\x04" + DATA, UnsafeCheckpoint, "pickle"),
    "an old pickle": (b"\x80\x02\x8a\nl\xfc\x9cF" + DATA, UnsafeCheckpoint, "pickle"),
    "GGUF": (b"GGUF\x03\0\0\0" + DATA, UnsupportedEncoding, "GGUF"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_one_clear_line(name: str) -> None:
    data, kind, phrase = BAD[name]
    with pytest.raises(InputError) as caught:
        parse(data)
    message = str(caught.value)
    assert isinstance(caught.value, kind)
    assert caught.value.where == "some/model.safetensors"
    assert message.startswith("some/model.safetensors: ")
    assert phrase in message
    assert message.isprintable()
    assert len(message) < 500


def test_bad_files_are_bad_for_the_reference_implementation_too() -> None:
    """Only what we refuse on purpose is accepted by safetensors itself."""
    stricter = {
        "starts with a space",  # the format says it must not
        "a key twice",
        "a field twice",
        "a further field",
        "an escape sequence in a name",
        "a line break in a name",
        "a lone surrogate in a name",
        "a name of 2,000 characters",
        "65 dimensions",
        "an empty tensor of endless rows",
    }
    accepted = set()
    for name, (data, _, _) in BAD.items():
        try:
            safetensors.torch.load(data)
        except Exception:
            continue
        accepted.add(name)
    assert accepted <= stricter


def test_everything_the_reference_writes_is_read() -> None:
    for dtype in ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"):
        tensors = random_tensors(1, dtype)
        header = parse(safetensors.torch.save(tensors, metadata={"format": "pt", "note": "ümläut {[,"}))
        assert {n: t.shape for n, t in header.tensors.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
        assert {t.dtype for t in header.tensors.values()} == {dtype}
        assert header.metadata == {"format": "pt", "note": "ümläut {[,"}


def test_known_sizes_follow_the_names() -> None:
    for name, bits in BITS.items():
        digits = {"BOOL": 8, "BF16": 16}.get(name) or int("".join(c for c in name.split("_")[0] if c.isdigit()))
        assert bits == digits, name


def test_offsets_count_from_the_file_start() -> None:
    data = file_bytes({"b": entry([2], 8, 16), "a": entry([2], 0, 8), "s": entry([], 16, 20)}, bytes(20))
    header = parse(data)
    assert list(header.tensors) == ["a", "b", "s"]
    assert [t.offset - header.size for t in header.tensors.values()] == [0, 8, 16]
    assert header.tensors["s"].shape == ()
    assert header.tensors["s"].size == 1


def test_padding_and_empty_tensors_are_fine() -> None:
    header = parse(file_bytes(json.dumps({"e": entry([0, 8], 0, 0), "w": entry([1], 0, 4)}) + "   ", bytes(4)))
    assert header.tensors["e"].nbytes == 0
    assert parse(file_bytes({})).tensors == {}


def test_long_metadata_full_of_brackets_is_fine() -> None:
    text = json.dumps({f"tag{i}": [i, 'a\\b"c'] for i in range(200_000)})
    header = parse(file_bytes({"__metadata__": {"tags": text}, "w": W}, DATA))
    assert header.metadata["tags"] == text


def test_too_many_tensors_are_refused() -> None:
    many = {f"t{i}": entry([], 4 * i, 4 * i + 4) for i in range(module.MAX_TENSORS + 1)}
    with pytest.raises(UnreadableCheckpoint, match="tensors are more than"):
        parse(file_bytes(many, bytes(4 * len(many))))


def test_names_with_letters_of_any_script_are_kept() -> None:
    assert "層.0.重み" in parse(file_bytes({"層.0.重み": W}, DATA)).tensors


@pytest.mark.parametrize("filler", ["[[],", '{"a":1},', '"aaaa",', '"\\"",', "[", '"\\\\', "1,"])
def test_memory_stays_bounded_by_the_header(filler: str) -> None:
    """20 MB of the densest JSON do not become gigabytes of objects."""
    text = '{"w": [' + filler * (20_000_000 // len(filler))
    data = file_bytes(text, DATA)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableCheckpoint):
            parse(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(data)


VALID = safetensors.torch.save(random_tensors(2, "BF16", layers=1), metadata={"format": "pt"})


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_mutated_files_raise_nothing_else(data: st.DataObject) -> None:
    """Flip, cut, insert and repeat bytes of a valid file: it is read, or refused by one of our errors."""
    size = header_size(VALID, len(VALID), where="x")
    blob = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(blob) - 1, size + 8)))
        match data.draw(st.sampled_from(["flip", "digit", "cut", "insert", "repeat", "token"])):
            case "flip":
                blob[at] = data.draw(st.integers(0, 255))
            case "digit":
                blob[at] = ord(data.draw(st.sampled_from('0123456789-.eE,[]{}:"\\')))
            case "cut":
                del blob[at : at + data.draw(st.integers(1, 64))]
            case "insert":
                blob[at:at] = data.draw(st.binary(min_size=1, max_size=16))
            case "repeat":
                blob[at:at] = blob[at : at + data.draw(st.integers(1, 200))]
            case _:
                token = data.draw(st.sampled_from([b"null", b"NaN", b"1e999", b'"__metadata__":{},', b"true", b"-0"]))
                blob[at : at + len(token)] = token
        if data.draw(st.booleans()):
            # Keep the length field right, so that the JSON is reached.
            end = bytes(blob).find(b"}}", 8)
            blob[:8] = (max(end + 2 - 8, 0)).to_bytes(8, "little")
        if not blob:
            break
    try:
        header = parse(bytes(blob))
    except LineageError as error:
        refused = str(error)
    else:
        refused = None
    if refused is not None:
        assert refused.isprintable()
        return
    end = header.size
    for tensor in header.tensors.values():
        assert tensor.offset == end
        assert tensor.nbytes * 8 == tensor.size * BITS[tensor.dtype]
        end += tensor.nbytes
    assert end == len(blob)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(list(BITS)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "__metadata__", "w"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(JSON, st.binary(max_size=32))
def test_any_json_as_header_raises_nothing_else(document: object, data: bytes) -> None:
    text = json.dumps({"w": document})
    message = ""
    try:
        parse(file_bytes(text, data))
    except LineageError as error:
        message = str(error)
    assert message.isprintable()
