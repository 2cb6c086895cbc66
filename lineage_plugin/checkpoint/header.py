"""The header of a safetensors file, validated.

A file is eight bytes of length (little endian), a JSON header of that length, and the data::

    {"__metadata__": {"format": "pt"}, "w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}

Offsets count from the end of the header; the tensors must cover the data without overlap and without holes. All of it
is checked here (the format's reference: the safetensors README), so that later stages may index the file blindly.

Tensor names with unprintable characters are refused, although the format allows them: no framework writes them, and
they would reach terminals and reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lineage_plugin.checkpoint.dtypes import BITS
from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsafeCheckpoint, UnsupportedEncoding

__all__ = ["LENGTH_BYTES", "MAX_HEADER", "MAX_TENSORS", "Header", "header_size", "parse_header"]

LENGTH_BYTES = 8
MAX_HEADER = 100_000_000
"""Largest header in bytes; the limit of the reference implementation."""
MAX_TENSORS = 1 << 16
"""Most tensors in one file. The largest real shards hold a few thousand."""
_MAX_RANK = 64
_EMPTY_EXTENT = 1 << 20
_MAX_VALUES = 24 * MAX_TENSORS
_MAX_CONTAINERS = 8 * MAX_TENSORS
_REMEDY = "Get the file again or save it again with safetensors."

_POINTER = b"version https://git-lfs"
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of one file says.

    Attributes:
        tensors: The tensors by name, in the order of their data.
        metadata: The file's ``__metadata__``.
        size: Bytes before the data: the length field and the JSON.
    """

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    size: int


def header_size(prefix: bytes, file_size: int, *, where: str) -> int:
    """Return how many bytes come before the data.

    Args:
        prefix: The first bytes of the file: 64 or all of it.
        file_size: Bytes in the file.
        where: The file, for messages.

    Returns:
        The size of the length field and the JSON together; never more than ``file_size``.

    Raises:
        UnreadableCheckpoint: When the file is no safetensors file, or its length field cannot be right.
        UnsafeCheckpoint: When it is a pickle under another name.
        UnsupportedEncoding: When it is a GGUF file under another name.
    """
    problem = _foreign(prefix, where)
    if problem is not None:
        raise problem
    if file_size < LENGTH_BYTES + 2 or len(prefix) < LENGTH_BYTES:
        raise UnreadableCheckpoint(where, f"{file_size} bytes are too few for a safetensors file", _REMEDY)
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if length > MAX_HEADER:
        raise UnreadableCheckpoint(
            where, f"the length field announces a header beyond the limit of {MAX_HEADER} bytes", _REMEDY
        )
    if length > file_size - LENGTH_BYTES:
        raise UnreadableCheckpoint(
            where, f"the header of {length} bytes does not fit into the file of {file_size} bytes", _REMEDY
        )
    if length < 2 or prefix[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
        raise UnreadableCheckpoint(where, "the header does not start with '{': not a safetensors file", _REMEDY)
    return LENGTH_BYTES + length


def parse_header(data: bytes, file_size: int, *, file: str, where: str) -> Header:
    """Parse and validate the header of a safetensors file.

    Args:
        data: The file's first bytes, the whole header at least.
        file_size: Bytes in the file.
        file: Name of the file inside the model, given to the tensors.
        where: The file, for messages.

    Returns:
        The header; every tensor lies inside the file.

    Raises:
        InputError: When the header breaks a rule of the format; a subclass as in :func:`header_size`.
    """
    size = header_size(data, file_size, where=where)
    document = load_object(
        data[LENGTH_BYTES:size],
        where=where,
        what="header",
        values=_MAX_VALUES,
        containers=_MAX_CONTAINERS,
        remedy=_REMEDY,
        narrow=True,
    )
    metadata = _metadata(document.pop("__metadata__", None), where)
    if len(document) > MAX_TENSORS:
        raise UnreadableCheckpoint(where, f"{len(document)} tensors are more than the {MAX_TENSORS} supported", _REMEDY)
    # No extent can be larger than the file has elements of four bits; empty tensors are held to that, too.
    extent = max(_EMPTY_EXTENT, 2 * file_size)
    tensors = [_tensor(name, entry, size, extent, file, where) for name, entry in document.items()]
    tensors.sort(key=lambda t: (t.offset, t.nbytes))
    end = size
    for tensor in tensors:
        if tensor.offset != end:
            fault = "overlaps the tensor before it" if tensor.offset < end else "leaves a hole before it"
            raise UnreadableCheckpoint(where, f"tensor '{shown(tensor.name)}' {fault}", _REMEDY)
        end += tensor.nbytes
    if end > file_size:
        raise UnreadableCheckpoint(
            where, f"the file is truncated: the header announces {end} bytes, the file has {file_size}", _REMEDY
        )
    if end < file_size:
        raise UnreadableCheckpoint(where, f"{file_size - end} bytes at the end belong to no tensor", _REMEDY)
    return Header(MappingProxyType({t.name: t for t in tensors}), MappingProxyType(metadata), size)


def _foreign(prefix: bytes, where: str) -> InputError | None:
    """Say what a file is that is not safetensors, for the kinds people really meet."""
    if prefix.startswith(_POINTER):
        return UnreadableCheckpoint(where, "this is a Git LFS pointer, not the weights", "Run `git lfs pull` first.")
    if prefix.startswith(b"GGUF"):
        return UnsupportedEncoding(where, "this is a GGUF file under another name", "Rename it to end in .gguf.")
    # A header of 640 bytes gives a safetensors file the first bytes of a pickle; its length field ends in zeros.
    if prefix.startswith(_PICKLES) and prefix[4 : LENGTH_BYTES + 1] != b"\0\0\0\0{":
        return UnsafeCheckpoint(
            where, "this is a pickle, which runs code when loaded", "Convert it to safetensors first."
        )
    return None


def _metadata(value: object, where: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UnreadableCheckpoint(where, "__metadata__ is not a map from text to text", _REMEDY)
    return value


def _tensor(name: str, entry: object, size: int, extent: int, file: str, where: str) -> TensorInfo:
    """Validate one entry by itself; how the tensors lie to each other is the caller's."""

    def wrong(problem: str) -> UnreadableCheckpoint:
        return UnreadableCheckpoint(where, f"tensor '{shown(name, 120)}' {problem}", _REMEDY)

    if not is_printable_name(name):
        raise wrong("has unprintable characters in its name, or too long a name")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise wrong("is not described by dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise wrong(f"has the unknown dtype {shown(dtype, 40)!r}")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(_is_count(n) for n in shape):
        raise wrong(f"has a shape that is not a list of at most {_MAX_RANK} non-negative integers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(n) for n in offsets):
        raise wrong("has data_offsets that are not two non-negative integers")
    begin, end = offsets
    if begin > end:
        raise wrong(f"ends at {end} before it begins at {begin}")
    info = TensorInfo(name, tuple(shape), dtype, file, size + begin, end - begin)
    if any(n > extent for n in shape):
        raise wrong(f"has the shape {shown(list(shape), 80)}, larger than the file")
    # Python integers do not overflow: 64 extents of 64 bits make a number of 4,096 bits at most.
    if info.size * BITS[dtype] != info.nbytes * 8:
        raise wrong(
            f"has data of {info.nbytes} bytes, which its shape {shown(list(shape), 80)} in {dtype} does not need"
        )
    return info


def _is_count(value: object) -> bool:
    # bool is an int in Python, and `true` is no extent.
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
