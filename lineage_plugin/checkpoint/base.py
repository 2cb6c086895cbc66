"""What checkpoints of all places have in common."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.dtypes import storage_dtype
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.matrix import Block, block
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.types import Cost, FileInfo, Selection, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["SafetensorsCheckpoint"]

_MAX_CONFIG = 8 << 20


class SafetensorsCheckpoint:
    """Base of the safetensors checkpoints; satisfies the reading side of :class:`Checkpoint` but for the bytes.

    Subclasses say where bytes come from: ``data``, ``digests`` and ``_read``.

    Args:
        id: What the user called it.
        where: The model as it is shown in messages.
        files: All files by name.
        weight_files: Names of the weight files.
        tensors: All tensors by name.
        ledger: The counters that opening has begun.
    """

    format = "safetensors"

    def __init__(
        self,
        id: str,
        where: str,
        files: Mapping[str, FileInfo],
        weight_files: Sequence[str],
        tensors: Mapping[str, TensorInfo],
        ledger: Ledger,
    ) -> None:
        self.id = id
        self.files: Mapping[str, FileInfo] = MappingProxyType(dict(files))
        self.weight_files = tuple(sorted(weight_files))
        self.tensors = tensors
        self._where = where
        self._ledger = ledger
        self._config: Mapping[str, object] | None = None
        self._config_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}: {len(self.tensors)} tensors in {len(self.weight_files)} files>"

    @property
    def config(self) -> Mapping[str, object]:
        """``config.json``, or an empty mapping; read when first asked for.

        Raises:
            UnreadableCheckpoint: When there is one but it is no JSON object.
        """
        with self._config_lock:
            if self._config is None:
                self._config = MappingProxyType(self._load_config())
            return self._config

    def _load_config(self) -> dict[str, object]:
        where = f"{self._where}/config.json"
        if "config.json" in self.files and self.files["config.json"].size > _MAX_CONFIG:
            raise UnreadableCheckpoint(where, f"the file is larger than {_MAX_CONFIG} bytes", "A config is small.")
        text = self.text("config.json", _MAX_CONFIG)
        if text is None:
            return {}
        try:
            # Infinity is let pass: configs of state-space models hold it.
            document = json.loads(text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            raise UnreadableCheckpoint(where, "this is not valid JSON", "Get the file again.") from None
        if not isinstance(document, dict):
            raise UnreadableCheckpoint(where, "this is not a JSON object", "Get the file again.")
        return document

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
        raise NotImplementedError

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
        kinds = [storage_dtype(part.info, self._path(part.info.file)) for part in parts]
        with self._ledger.timed():
            return self._read(parts, kinds)

    def _read(self, parts: list[Block], kinds: list[np.dtype[np.generic]]) -> list[NDArray[np.float32]]:
        raise NotImplementedError

    def _path(self, file: str) -> str:
        """A file of the model as messages name it."""
        return f"{self._where}/{shown(file)}"

    def cost(self) -> Cost:
        """Return what has been spent so far.

        ``bytes_read`` counts the bytes of weight files that arrived (headers, gaps between merged ranges and bytes that
        failed attempts wasted included; for local files the bytes of the elements read, not whole pages) and files
        hashed by ``digests``. ``tensor_bytes`` is the part of it after the headers, without hashing. ``seconds`` is the
        time spent inside the methods of this object and in opening it.
        """
        return self._ledger.cost(sum(self.files[name].size for name in self.weight_files))
