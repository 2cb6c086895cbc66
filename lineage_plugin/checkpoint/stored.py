"""The checkpoint that every format is opened into: stored tensors, those computed from them, and a place."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.dtypes import decode, storage_dtype, stored_values
from lineage_plugin.checkpoint.matrix import Block, block
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.strictjson import bound
from lineage_plugin.checkpoint.types import Cost, FileInfo, Selection, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["Opened", "StoredCheckpoint", "read_config"]

_MAX_CONFIG = 8 << 20
_MAX_VALUES, _MAX_CONTAINERS = 1 << 19, 1 << 14
"""Most values of a configuration (those of ImageNet name 21,000 classes, twice), and most lists and objects."""


@dataclass(frozen=True, eq=False, slots=True)
class Opened:
    """What a format found in the weight files.

    Attributes:
        format: Name of the format.
        weight_files: Names of the weight files.
        tensors: The stored tensors by name.
        derived: Tensors that are computed from stored ones, by name.
        hidden: Stored tensors that are parts of derived ones and none of the model's own.
        config: What stands in for ``config.json`` where the format carries its own, or ``config.json`` itself once it
            has been read; None before.
        metadata: What the files say about themselves.
        notes: Plain sentences about what was assumed or left aside.
    """

    format: str
    weight_files: tuple[str, ...]
    tensors: Mapping[str, TensorInfo]
    derived: Mapping[str, Derived] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    config: Mapping[str, object] | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_config(source: Source, name: str = "config.json") -> dict[str, object]:
    """Return ``config.json`` of a model, or an empty dict when there is none.

    Args:
        source: The model.
        name: Where it is; that of a component lies in the component's folder.

    Raises:
        UnreadableCheckpoint: When there is one but it is no JSON object.
        HubError: When the Hub does not deliver.
    """
    where = f"{source.where}/{shown(name)}"
    if name in source.files and source.files[name].size > _MAX_CONFIG:
        raise UnreadableCheckpoint(where, f"the file is larger than {_MAX_CONFIG} bytes", "A config is small.")
    data = source.data(name, _MAX_CONFIG)
    if data is None:
        return {}
    try:
        bound(data, _MAX_VALUES, _MAX_CONTAINERS)
        # Infinity is let pass: configs of state-space models hold it.
        document = json.loads(data.decode("utf-8", errors="replace").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise UnreadableCheckpoint(where, "this is not valid JSON", "Get the file again.") from None
    if not isinstance(document, dict):
        raise UnreadableCheckpoint(where, "this is not a JSON object", "Get the file again.")
    return document


class StoredCheckpoint:
    """An opened model; satisfies :class:`~lineage_plugin.checkpoint.types.Checkpoint`.

    Args:
        source: Where its bytes are.
        opened: What its format found.
        given: Whether the weight file was given, and not chosen among those of the model.
    """

    def __init__(self, source: Source, opened: Opened, *, given: bool = False) -> None:
        self._source = source
        self._opened = opened
        self._given = given
        self._config: Mapping[str, object] | None = None
        self._config_lock = threading.Lock()
        visible = {name: info for name, info in opened.tensors.items() if name not in opened.hidden}
        visible.update((name, derived.info) for name, derived in opened.derived.items())
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(visible)
        self.weight_files = tuple(sorted(opened.weight_files))

    def __repr__(self) -> str:
        place = f"{self._source.where}: {len(self.tensors)} tensors in {len(self.weight_files)} files"
        return f"<{type(self).__name__} {place}>"

    @property
    def id(self) -> str:
        """What the user called it."""
        return self._source.id

    @property
    def revision(self) -> str | None:
        """Commit hash for a model on the Hub, else None."""
        return self._source.revision

    @property
    def local(self) -> bool:
        """Whether reading is a memory access rather than a request."""
        return self._source.local

    @property
    def format(self) -> str:
        """Name of the weight format."""
        return self._opened.format

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files of the model by name."""
        return self._source.files

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the weight files say about themselves."""
        return self._opened.metadata

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left aside when it was opened."""
        return self._opened.notes

    @property
    def config(self) -> Mapping[str, object]:
        """``config.json``, or what the format has in its place; read when first asked for.

        Raises:
            UnreadableCheckpoint: When there is one but it is no JSON object.
        """
        with self._config_lock:
            if self._config is None:
                found = read_config(self._source) if self._opened.config is None else self._opened.config
                self._refuse_others(found)
                self._config = MappingProxyType(dict(found))
            return self._config

    def _refuse_others(self, config: Mapping[str, object]) -> None:
        """Refuse a model whose configuration names another weight file, which transformers takes before any other."""
        named = config.get("transformers_weights")
        if named is None or self._given or (named,) == self.weight_files:
            return
        raise UnreadableCheckpoint(
            f"{self._source.where}/config.json",
            f"transformers_weights names '{shown(named, 80)}' as the weights, which other tools do not look at",
            "Give that file, or remove the key.",
        )

    def text(self, name: str, limit: int = 1 << 20) -> str | None:
        """Return a small text file of the model; see :class:`Checkpoint`. Undecodable bytes become U+FFFD.

        Raises:
            UnreadableCheckpoint: When it is there but cannot be read.
            HubError: When the Hub does not deliver.
        """
        data = self.data(name, limit)
        return None if data is None else data.decode("utf-8", errors="replace")

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file of the model as it is stored; see :class:`Checkpoint`."""
        return self._source.data(name, limit)

    def read(self, selections: Sequence[Selection]) -> list[NDArray[np.float32]]:
        """Return the selected parts as float32 matrices, in order; see :class:`Checkpoint`.

        NaN and infinities are passed on. F64 is rounded to float32.

        Raises:
            KeyError: When there is no such tensor.
            ValueError: When rows, columns or width do not fit the tensor.
            UnsupportedEncoding: When a tensor's dtype is not decoded; nothing is read then.
            BudgetExceeded: When the budget does not hold all of it; nothing is read then.
            UnreadableCheckpoint: When a file cannot be read.
            HubError: When the Hub does not deliver.
        """
        parts = [block(selection, self.tensors[selection.tensor]) for selection in selections]
        computed = [self._opened.derived.get(selection.tensor) for selection in selections]
        wanted: list[Block] = []
        kinds: list[np.dtype[np.generic]] = []
        takes: list[int] = []
        for part, derived in zip(parts, computed, strict=True):
            needs = [part] if derived is None else [self._stored(selection) for selection in derived.needs(part)]
            wanted += needs
            kinds += [storage_dtype(b.info, self._path(b.info.file), whole=derived is not None) for b in needs]
            takes.append(len(needs))
        with self._source.ledger.timed():
            raw = self._source.gather(wanted, kinds)
            results, start = [], 0
            for part, derived, take in zip(parts, computed, takes, strict=True):
                mine = slice(start, start + take)
                start += take
                if derived is None:
                    results.append(decode(raw[mine][0], part.info.dtype))
                else:
                    values = zip(raw[mine], wanted[mine], strict=True)
                    with np.errstate(all="ignore"):
                        results.append(derived.compute(part, [stored_values(r, b.info.dtype) for r, b in values]))
            return results

    def _stored(self, selection: Selection) -> Block:
        return block(selection, self._opened.tensors[selection.tensor])

    def _path(self, file: str) -> str:
        """A file of the model as messages name it."""
        return f"{self._source.where}/{shown(file)}"

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of the weight files as far as known; with ``compute``, read local files to know them all.

        Hashing is no part of the byte budget.
        """
        return self._source.digests(self.weight_files, compute=compute)

    def cost(self) -> Cost:
        """Return what has been spent so far.

        ``bytes_read`` counts the bytes of weight files that arrived (headers, gaps between merged ranges and bytes that
        failed attempts wasted included; for local files the bytes of the elements read, not whole pages) and files
        hashed by ``digests``. ``tensor_bytes`` is the part of it after the headers, without hashing. ``seconds`` is the
        time spent inside the methods of this object and in opening it.
        """
        return self._source.ledger.cost(sum(self.files[name].size for name in self.weight_files))
