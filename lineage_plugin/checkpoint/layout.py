"""Which safetensors files of a model hold its weights.

The same rules serve folders and repositories: the standard names first (``model.safetensors``, then
``model.safetensors.index.json``), then whatever else is certain, and otherwise one line that says what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lineage_plugin.checkpoint.header import Header
from lineage_plugin.checkpoint.names import is_plain_path, is_printable_name, shown
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["MAX_INDEX", "NOT_WEIGHTS", "Layout", "find_weights", "join_headers", "parse_index"]

MAX_INDEX = 64 << 20
"""Largest shard index in bytes; that of a model of 90,000 tensors has 8 MB."""
_MAX_TENSORS = 1 << 20
_MAX_LOOSE_FILES = 64
"""Most weight files that are taken together without an index."""

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_model.safetensors"
_SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors\Z", re.ASCII)
NOT_WEIGHTS = re.compile(r"^(training_args|optimizer|scheduler|scaler|rng_state.*)\.(bin|pt|pth|pkl|safetensors)\Z")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the weights are.

    Attributes:
        index: Name of the shard index, or None.
        files: Names of the weight files, sorted; empty while an index has still to be read.
    """

    index: str | None
    files: tuple[str, ...]


def find_weights(names: Collection[str], *, where: str) -> Layout | None:
    """Choose the weight files among the files of a model.

    An index counts only when there is no ``model.safetensors``, as transformers has it. Without either, all safetensors
    files at the root are taken together; their tensors must not collide. Adapter weights count when there is nothing
    else.

    Args:
        names: All files, with forward slashes.
        where: The model, for messages.

    Returns:
        Where they are; None when there are none.

    Raises:
        UnreadableCheckpoint: When it is not certain which ones count.
    """
    root = sorted(name for name in names if "/" not in name)
    found = [n for n in root if n.endswith(".safetensors") and not NOT_WEIGHTS.match(n)]
    if _SINGLE in found:
        return Layout(None, (_SINGLE,))
    indices = [n for n in root if n.endswith(".safetensors.index.json")]
    if _INDEX in indices:
        return Layout(_INDEX, ())
    if len(indices) == 1:
        return Layout(indices[0], ())
    loose = [n for n in found if n != _ADAPTER]
    if loose:
        if len(loose) > _MAX_LOOSE_FILES:
            raise UnreadableCheckpoint(
                where,
                f"{len(loose)} weight files and no index: not clear which belong together",
                "Give one of the files.",
            )
        _check_numbering(loose, where)
        return Layout(None, tuple(loose))
    return Layout(None, tuple(found)) if found else None


def _check_numbering(names: list[str], where: str) -> None:
    """Refuse an incomplete set of ``stem-00001-of-00003.safetensors``."""
    sets: dict[tuple[str, int], set[int]] = {}
    for name in names:
        match = _SHARD.match(name)
        if match:
            sets.setdefault((match["stem"], int(match["count"])), set()).add(int(match["number"]))
    for (stem, count), numbers in sets.items():
        for number in range(1, min(count, _MAX_LOOSE_FILES + 1) + 1):
            if number not in numbers:
                missing = f"{stem}-{number:05d}-of-{count:05d}.safetensors"
                raise UnreadableCheckpoint(where, f"the shard '{shown(missing)}' is missing", "Get the missing file.")


def parse_index(data: bytes, names: Collection[str] | None, *, where: str) -> dict[str, str]:
    """Parse a shard index.

    Args:
        data: The file ``model.safetensors.index.json``.
        names: All files of the model; every shard must be among them. None when that cannot be told.
        where: The index, for messages.

    Returns:
        File name by tensor name.

    Raises:
        UnreadableCheckpoint: When it is no index, names a file outside the model, or names one that is missing.
    """
    document = load_object(data, where=where, what="index", values=3 * _MAX_TENSORS, containers=1000)
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
        if not is_plain_path(file) or not file.endswith(".safetensors"):
            raise UnreadableCheckpoint(
                where, f"'{shown(file, 120)}' is not the plain name of a safetensors file in this model"
            )
        if names is not None and file not in names:
            raise UnreadableCheckpoint(where, f"the shard '{shown(file, 120)}' is missing", "Get the missing file.")
    return weight_map


def join_headers(
    headers: Mapping[str, Header], weight_map: Mapping[str, str] | None, *, where: str
) -> Mapping[str, TensorInfo]:
    """Join the tensors of all weight files.

    Tensors that the index does not name are kept, as transformers does.

    Args:
        headers: Header by file name.
        weight_map: What the index says, if there is one.
        where: The model, for messages.

    Returns:
        All tensors by name, sorted by file and position.

    Raises:
        UnreadableCheckpoint: When two files hold a tensor of one name, or a file lacks one that the index promises.
    """
    tensors: dict[str, TensorInfo] = {}
    for file, header in sorted(headers.items()):
        for name, info in header.tensors.items():
            if name in tensors:
                raise UnreadableCheckpoint(
                    where,
                    f"'{shown(tensors[name].file, 80)}' and '{shown(file, 80)}' both hold '{shown(name, 120)}'",
                    "Give one of the files, or remove the copy.",
                )
            tensors[name] = info
        if len(tensors) > _MAX_TENSORS:
            raise UnreadableCheckpoint(where, f"there are more than {_MAX_TENSORS} tensors")
    for name, file in (weight_map or {}).items():
        if name not in tensors or tensors[name].file != file:
            raise UnreadableCheckpoint(
                where,
                f"the index promises the tensor '{shown(name, 120)}' in '{shown(file, 80)}', which does not hold it",
                "Get index and weights from the same revision.",
            )
    return MappingProxyType(tensors)
