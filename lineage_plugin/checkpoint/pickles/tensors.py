"""The tensors of one PyTorch file: from the views that its pickle describes to places in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.dtypes import BITS
from lineage_plugin.checkpoint.names import in_command, shown
from lineage_plugin.checkpoint.pickles.archive import Archive, data_starts, read_archive, read_member
from lineage_plugin.checkpoint.pickles.machine import MAX_PICKLE, interpret
from lineage_plugin.checkpoint.pickles.names_allowed import STORAGES
from lineage_plugin.checkpoint.pickles.states import find_weights
from lineage_plugin.checkpoint.pickles.strided import is_contiguous, span, strided
from lineage_plugin.checkpoint.pickles.values import Storage, Strange, View
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsafeCheckpoint, UnsupportedEncoding

__all__ = ["File", "convert_with_torch", "read_file"]

_POINTER = b"version https://git-lfs"
_ARCHIVE = b"PK\x03\x04"
_CTRANSLATE2 = re.compile(rb"[\x01-\x0f]\0{3}.\0\w{1,40}Spec\0", re.DOTALL)
"""A version of 32 bits and the name of a specification, its length before it (``model_spec.py`` of CTranslate2)."""
_PREFIX = 64
_AHEAD = 64 << 10
"""Small members this close behind the pickle are read together with it."""
_BYTE_ORDER, _ALIGNMENT, _PICKLE = "byteorder", ".storage_alignment", "data.pkl"
_SMALL = 64
_USUAL_ALIGNMENT = 64
_ITEMSIZES = {"ComplexDouble": 16, "QInt32": 4}
"""Bytes of the types that safetensors has no name for, where it is not one."""
_EMPTY_EXTENT = 1 << 20
_EXPANDED = 1 << 20
"""Most elements of a tensor that repeats those of its storage."""


def convert_with_torch(file: str) -> str:
    """Return the sentence that says how to make safetensors of a file that torch can load safely."""
    name = in_command(file, "FILE")
    return (
        'Convert it: python -c "import torch, safetensors.torch as s; '
        f"t = torch.load('{name}', map_location='cpu', weights_only=True); "
        "s.save_file({k: v.clone().contiguous() for k, v in t.items()}, 'model.safetensors')\"."
    )


@dataclass(frozen=True, eq=False, slots=True)
class File:
    """The tensors of one file.

    Attributes:
        stored: Those that lie in the file as they are, by name.
        derived: The others.
        parts: The stored matrices that the others are made of, by names that no tensor has.
        notes: Plain sentences about what was chosen.
    """

    stored: Mapping[str, TensorInfo]
    derived: Mapping[str, Derived]
    parts: Mapping[str, TensorInfo]
    notes: tuple[str, ...]


def read_file(source: Source, name: str, files: int = 1) -> File:
    """Read what a file of ``torch.save`` holds, its numbers left aside.

    Args:
        source: The place.
        name: The file.
        files: How many files the checkpoint has.

    Raises:
        UnsafeCheckpoint: When it is not an archive of tensors but holds or asks for code.
        UnsupportedEncoding: When a tensor is stored in a way that is not read.
        UnreadableCheckpoint: When it is damaged.
        HubError: When the Hub does not deliver.
    """
    where = f"{source.where}/{shown(name)}"
    archive = _archive(source, name, where)
    _refuse_programs(archive)
    nearest = archive.members.get(_PICKLE)
    if nearest is None:
        raise UnreadableCheckpoint(
            where, "this is a zip archive without data.pkl, not a PyTorch checkpoint", "Give the file of the weights."
        )
    if not source.local and nearest.header <= _AHEAD:
        together = [archive.members[n] for n in (_PICKLE, _BYTE_ORDER, _ALIGNMENT) if n in archive.members]
        small = [m for m in together if m.stop <= nearest.header + min(nearest.size, MAX_PICKLE) + _AHEAD]
        source.bytes(name, 0, max((m.stop for m in small), default=_PREFIX))
    if source.bytes(name, 0, 4) != _ARCHIVE:
        raise UnreadableCheckpoint(where, "the zip archive does not begin at the start of the file")
    order = read_member(source, archive, _BYTE_ORDER, _SMALL)
    if order not in (None, b"little"):
        raise UnsupportedEncoding(where, "its numbers are not little-endian", "Save it again on another machine.")
    weights = find_weights(
        interpret(read_member(source, archive, _PICKLE, MAX_PICKLE) or b"", where=where), where=where
    )
    said = read_member(source, archive, _ALIGNMENT, _SMALL)
    alignment = _USUAL_ALIGNMENT if said is None else int(said) if said.isdigit() else 1
    places = _places(source, archive, weights.tensors, alignment, files)
    return _described(weights.tensors, places, archive, weights.notes, source.files[name].size)


def _archive(source: Source, name: str, where: str) -> Archive:
    if not source.local:
        # The end first: what the beginning says is of interest only when there is none.
        try:
            return read_archive(source, name, where=where)
        except UnreadableCheckpoint:
            if (problem := _foreign(source.bytes(name, 0, _PREFIX), where, name)) is not None:
                raise problem from None
            raise
    problem = _foreign(source.bytes(name, 0, _PREFIX), where, name)
    if problem is not None:
        raise problem
    return read_archive(source, name, where=where)


def _foreign(prefix: bytes, where: str, name: str) -> InputError | None:
    """Say what a file is that is no archive."""
    if prefix.startswith(_ARCHIVE):
        return None
    if prefix.startswith(_POINTER):
        return UnreadableCheckpoint(where, "this is a Git LFS pointer, not the weights", "Run `git lfs pull` first.")
    if prefix[:1] == b"\x80" and prefix[1:2] in (b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"):
        return UnsafeCheckpoint(
            where,
            "this is a plain pickle, as PyTorch wrote before version 1.6, which runs code when loaded",
            convert_with_torch(name),
        )
    if prefix.startswith((b"GGUF", b"ggml", b"lmgg", b"ggjt", b"tjgg")):
        return UnsupportedEncoding(where, "this is a file of llama.cpp, not of PyTorch", "Give the .gguf file.")
    if _CTRANSLATE2.match(prefix):
        return UnsupportedEncoding(where, "this is a model of CTranslate2", "Give the model that it was made from.")
    if not prefix:
        return UnreadableCheckpoint(where, "the file is empty", "Get the file again.")
    return UnreadableCheckpoint(where, "this is not a PyTorch checkpoint", "Give the file of the weights.")


def _refuse_programs(archive: Archive) -> None:
    """Refuse what ``torch.jit.save`` and ``torch.package`` write."""
    names = archive.members.keys()
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise UnsafeCheckpoint(
            archive.where,
            "this is a TorchScript program, not a state dict",
            "In a sandbox, save torch.jit.load(FILE).state_dict() with safetensors.torch.save_file.",
        )
    if ".data/extern_modules" in names or any(name.endswith(".py") for name in names):
        raise UnsafeCheckpoint(
            archive.where,
            "this is an archive of torch.package, which holds code",
            "In a sandbox, load it and save the state dict with safetensors.torch.save_file.",
        )


def _places(
    source: Source, archive: Archive, tensors: Mapping[str, View | Strange], alignment: int, files: int
) -> dict[Storage, int]:
    """Return where the numbers of each storage begin; all of them are in the archive."""
    members: dict[Storage, str] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Strange):
            raise UnsupportedEncoding(
                archive.where,
                f"'{shown(name, 120)}' is {shown(tensor.kind, 120)}, which is not read",
                "Save the state dict with plain tensors.",
            )
        storage = tensor.storage
        if storage in members:
            continue
        member = members[storage] = f"data/{storage.key}"
        found = archive.members.get(member)
        if found is None or found.size < storage.count * _itemsize(storage):
            raise UnreadableCheckpoint(
                archive.where,
                f"the numbers of '{shown(name, 120)}' are not in the archive, or not all of them",
                "Get the file again.",
            )
    starts = data_starts(source, archive, members.values(), alignment, files)
    return {storage: starts[member] for storage, member in members.items()}


def _itemsize(storage: Storage) -> int:
    code = STORAGES[storage.kind]
    if code is not None:
        return BITS[code] // 8
    return _ITEMSIZES.get(storage.kind.rpartition(".")[2].removesuffix("Storage"), 1)


def _described(
    tensors: Mapping[str, View | Strange],
    places: Mapping[Storage, int],
    archive: Archive,
    notes: tuple[str, ...],
    total: int,
) -> File:
    stored: dict[str, TensorInfo] = {}
    derived: dict[str, Derived] = {}
    parts: dict[str, TensorInfo] = {}
    for name, view in tensors.items():
        assert isinstance(view, View)  # noqa: S101 - the others have been refused
        info, count = _info(name, view, places[view.storage], archive, total)
        if info.size == 0 or is_contiguous(view.shape, view.strides):
            stored[name] = info
            continue
        # No name of a tensor has a character that cannot be printed.
        part = f"{name}\0{archive.file}"
        derived[name], parts[part] = strided(info, view.strides, view.offset, (places[view.storage], count), part)
    return File(stored, derived, parts, notes)


def _info(name: str, view: View, start: int, archive: Archive, total: int) -> tuple[TensorInfo, int]:
    """Check a view against its storage; return it and the number of elements that the storage has of its type."""

    def wrong(problem: str) -> UnreadableCheckpoint:
        return UnreadableCheckpoint(archive.where, f"tensor '{shown(name, 120)}' {problem}", "Get the file again.")

    if view.code is None:
        raise UnsupportedEncoding(
            archive.where,
            f"tensor '{shown(name, 120)}' is stored as {shown(view.dtype, 40)}, which is not read",
            "Save it in another type.",
        )
    itemsize = BITS[view.code] // 8
    count = view.storage.count * _itemsize(view.storage) // itemsize
    size = prod(view.shape)
    if any(extent > max(_EMPTY_EXTENT, total) for extent in view.shape):
        raise wrong(f"has the shape {shown(list(view.shape), 80)}, larger than the file")
    if size and view.offset + span(view.shape, view.strides) > count:
        raise wrong("goes on behind the end of its storage")
    if size > max(count, _EXPANDED):
        raise wrong("repeats the same few numbers")
    offset = start + min(view.offset, count) * itemsize
    return TensorInfo(name, view.shape, view.code, archive.file, offset, size * itemsize), count
