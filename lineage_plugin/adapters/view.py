"""A checkpoint seen under other names: some of its tensors, renamed, with another configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.types import Checkpoint, FileInfo, Selection, TensorInfo
from lineage_plugin.checkpoint.wrapped import Wrapped

__all__ = ["View"]


class View(Wrapped):
    """Some tensors of a checkpoint under other names.

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
        super().__init__(checkpoint)
        self._names = dict(names)
        self._config = config
        self._beside = beside
        self._tensors = MappingProxyType(
            {new: replace(checkpoint.tensors[old], name=new) for new, old in self._names.items()}
        )
        files = {} if beside is None else {n: f for n, f in beside.files.items() if n not in beside.weight_files}
        self._files = MappingProxyType({**files, **checkpoint.files})

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors of the view."""
        return self._tensors

    @property
    def files(self) -> Mapping[str, FileInfo]:
        """All files of the checkpoint, and the small ones of the one beside it."""
        return self._files

    @property
    def config(self) -> Mapping[str, object]:
        """The configuration of the view."""
        return super().config if self._config is None else self._config

    def read(self, selections: Sequence[Selection]) -> list[NDArray[np.float32]]:
        """Return the selected parts."""
        return super().read([replace(s, tensor=self._names[s.tensor]) for s in selections])

    def text(self, name: str, limit: int = 1 << 20) -> str | None:
        """Return a small text file, of the checkpoint or else of the one beside it."""
        data = self.data(name, limit)
        return None if data is None else data.decode("utf-8", errors="replace")

    def data(self, name: str, limit: int = 1 << 20) -> bytes | None:
        """Return a small file as it is stored, of the checkpoint or else of the one beside it."""
        found = super().data(name, limit)
        return found if found is not None or self._beside is None else self._beside.data(name, limit)
