"""Where the weights of a model are: the files, and what a shard index says about them."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from lineage_plugin.checkpoint.header import Header
from lineage_plugin.checkpoint.names import is_plain_path, is_printable_name, shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["NOT_WEIGHTS", "Layout", "Part", "TensorLimit", "join_headers", "parse_index", "read_index"]

_MAX_INDEX = 64 << 20
"""Largest shard index in bytes; that of a model of 90,000 tensors has 8 MB."""
_MAX_TENSORS = 1 << 18
"""Most tensors of all files together."""
NOT_WEIGHTS = re.compile(
    r"^(training_args|optimizer|scheduler|scaler|rng_state.*|random_states.*|.*_optim_states|lineage\.fingerprint)"
    r"\.(bin|pt|pth|pkl|safetensors)\Z"
)
"""Training state, and fingerprints, that bear the suffix of weights."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of several models in a repository: a component of a pipeline, a module behind an encoder.

    Attributes:
        prefix: What its tensors are named after, without the dot; empty for tensors that keep their names.
        folder: Where it lies, with a slash at the end; empty for the top.
        index: Name of its shard index, or None; in full, as ``unet/...``.
        files: Names of its weight files, in full.
    """

    prefix: str
    folder: str
    index: str | None
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the weights are.

    Attributes:
        index: Name of the shard index, or None.
        files: Names of the weight files, sorted; those of shards may be left out, or be too many, when an index says.
        notes: What was left aside, as sentences.
        guide: The file that says which folders belong together, or None.
        parts: The models that do; empty for a single model, which ``index`` and ``files`` describe.
    """

    index: str | None
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    guide: str | None = None
    parts: tuple[Part, ...] = ()


def read_index(source: Source, index: str, suffixes: tuple[str, ...], folder: str = "") -> dict[str, str]:
    """Read the shard index of a model or of a part of it.

    Args:
        source: The model.
        index: The file.
        suffixes: How the names of shards end.
        folder: Where the part lies, with a slash at the end; empty for the top.

    Returns:
        File name, as seen from the top, by tensor name.

    Raises:
        UnreadableCheckpoint: As in :func:`parse_index`, or when there is no such file or it is too large.
        HubError: When the Hub does not deliver.
    """
    where = f"{source.where}/{shown(index)}"
    known = source.files.get(index)
    if known is not None and known.size > _MAX_INDEX:
        raise UnreadableCheckpoint(where, f"an index of {known.size} bytes is over the limit of {_MAX_INDEX}")
    data = source.data(index, _MAX_INDEX)
    if data is None:
        raise UnreadableCheckpoint(where, "there is no such file")
    beside = {name[len(folder) :] for name in source.files if name.startswith(folder)}
    found = parse_index(data, beside, where=where, suffixes=suffixes)
    return {tensor: folder + file for tensor, file in found.items()} if folder else found


def parse_index(
    data: bytes, names: Collection[str] | None, *, where: str, suffixes: tuple[str, ...] = (".safetensors",)
) -> dict[str, str]:
    """Parse a shard index.

    Args:
        data: The file ``model.safetensors.index.json``, or that of another format.
        names: All files of the model; every shard must be among them. None when that cannot be told.
        where: The index, for messages.
        suffixes: How the names of shards end.

    Returns:
        File name by tensor name.

    Raises:
        UnreadableCheckpoint: When it is no index, names a file outside the model, or names one that is missing.
    """
    document = load_object(data, where=where, what="index", values=3 * _MAX_TENSORS, containers=1000, narrow=True)
    weight_map = document.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UnreadableCheckpoint(where, "there is no weight_map", "Get the index again.")
    shards: dict[str, None] = {}
    for tensor, file in weight_map.items():
        if not is_printable_name(tensor) or not isinstance(file, str):
            raise UnreadableCheckpoint(
                where, f"the entry '{shown(tensor, 120)}' is not a tensor name with a file name", "Get the index again."
            )
        shards[file] = None
    for file in shards:
        if not is_plain_path(file) or not file.endswith(suffixes):
            raise UnreadableCheckpoint(
                where, f"'{shown(file, 120)}' is not the plain name of a {suffixes[0][1:]} file in this model"
            )
        if names is not None and file not in names:
            raise UnreadableCheckpoint(where, f"the shard '{shown(file, 120)}' is missing", "Get the missing file.")
    return weight_map


class TensorLimit:
    """Counts the tensors of all files while their headers are read, perhaps side by side.

    Args:
        where: The model, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._count = 0

    def add(self, count: int) -> None:
        """Count the tensors of a file.

        Raises:
            UnreadableCheckpoint: When there are more than any real model has.
        """
        with self._lock:
            self._count += count
            if self._count > _MAX_TENSORS:
                raise UnreadableCheckpoint(self._where, f"there are more than {_MAX_TENSORS} tensors")


def join_headers(
    headers: Mapping[str, Header], weight_map: Mapping[str, str] | None, *, where: str, prefix: str = ""
) -> Mapping[str, TensorInfo]:
    """Join the tensors of all weight files.

    Tensors that the index does not name are kept, as transformers does.

    Args:
        headers: Header by file name.
        weight_map: What the index says, if there is one.
        where: The model, for messages.
        prefix: Put before the name of every tensor.

    Returns:
        All tensors by name, sorted by file and position.

    Raises:
        UnreadableCheckpoint: When two files hold a tensor of one name, or a file lacks one that the index promises.
    """
    tensors: dict[str, TensorInfo] = {}
    for file, header in sorted(headers.items()):
        for own, info in header.tensors.items():
            name = prefix + own
            if name in tensors:
                raise UnreadableCheckpoint(
                    where,
                    f"'{shown(tensors[name].file, 80)}' and '{shown(file, 80)}' both hold '{shown(own, 120)}'",
                    f"Give the one that is meant, as '{shown(where, 120)}/{shown(file, 80)}', or remove the copy.",
                )
            tensors[name] = replace(info, name=name) if prefix else info
    for own, file in (weight_map or {}).items():
        found = tensors.get(prefix + own)
        if found is None or found.file != file:
            raise UnreadableCheckpoint(
                where,
                f"the index promises the tensor '{shown(own, 120)}' in '{shown(file, 80)}', which does not hold it",
                "Get index and weights from the same revision.",
            )
    return MappingProxyType(tensors)
