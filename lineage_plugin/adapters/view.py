"""A checkpoint seen under other names: some of its tensors, renamed, with another configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.types import Checkpoint, Cost, FileInfo, Selection, TensorInfo

__all__ = ["View"]

FloatArray = NDArray[np.float32]


class View:
    """Some tensors of a checkpoint under other names; satisfies :class:`~lineage_plugin.checkpoint.types.Checkpoint`.

    Args:
        checkpoint: The checkpoint.
        names: For each tensor of the view, its name in the checkpoint.
        config: What stands in for its ``config.json``; None to keep it.
        beside: A checkpoint whose small files are used where this one has none, such as a tokenizer; None for none.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        names: Mapping[str, str],
        *,
        config: Mapping[str, object] | None = None,
        beside: Checkpoint | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._names = dict(names)
        self._config = config
        self._beside = beside
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {new: replace(checkpoint.tensors[old], name=new) for new, old in self._names.items()}
        )
        files = {} if beside is None else {n: f for n, f in beside.files.items() if n not in beside.weight_files}
        self.files: Mapping[str, FileInfo] = MappingProxyType({**files, **checkpoint.files})

    def read(self, selections: Sequence[Selection]) -> list[FloatArray]:
        """Return the selected parts."""
        return self._checkpoint.read([replace(s, tensor=self._names[s.tensor]) for s in selections])

    @property
    def id(self) -> str:
        """What the user called it."""
        return self._checkpoint.id

    @property
    def revision(self) -> str | None:
        """Commit hash for a model on the Hub, else None."""
        return self._checkpoint.revision

    @property
    def local(self) -> bool:
        """Whether reading is a memory access."""
        return self._checkpoint.local

    @property
    def format(self) -> str:
        """Name of the weight format."""
        return self._checkpoint.format

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Names of the files the tensors live in."""
        return self._checkpoint.weight_files

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration of the view."""
        return self._checkpoint.config if self._config is None else self._config

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the weight files say about themselves."""
        return self._checkpoint.metadata

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed or left aside when it was opened."""
        return self._checkpoint.notes

    def text(self, name: str, limit: int = 1 << 20) -> str | None:
        """Return a small text file, of the checkpoint or else of the one beside it."""
        data = self.data(name, limit)
        return None if data is None else data.decode("utf-8", errors="replace")

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file as it is stored, of the checkpoint or else of the one beside it."""
        found = self._checkpoint.data(name, limit)
        return found if found is not None or self._beside is None else self._beside.data(name, limit)

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return sha256 of the weight files as far as known."""
        return self._checkpoint.digests(compute=compute)

    def cost(self) -> Cost:
        """Return what has been spent so far."""
        return self._checkpoint.cost()
