"""A base with an adapter applied to it, computed row by row when it is read.

For a full model whose declared base is an adapter, and for adapters on top of adapters: neither the adapter nor its
base is what such a model was made from, but both together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.adapters.fits import locate_saved, weight_of
from lineage_plugin.adapters.modules import AdaptedModule, parts_of
from lineage_plugin.adapters.settings import AdapterSettings, read_settings
from lineage_plugin.adapters.update import effective_update
from lineage_plugin.adapters.view import View
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.types import Checkpoint, Cost, Selection, TensorInfo
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["Merged"]

FloatArray = NDArray[np.float32]


class Merged(View):
    """A base and an adapter; satisfies :class:`~lineage_plugin.checkpoint.types.Checkpoint`.

    It has no weight files of its own, so that its digests equal nobody's.

    Args:
        base: The base; another :class:`Merged` for adapters on top of each other.
        adapter: The adapter.

    Raises:
        UnsupportedEncoding: When the adapter is of a kind that cannot be applied, or does not fit the base.
        UnreadableCheckpoint: When its configuration cannot be parsed.
    """

    def __init__(self, base: Checkpoint, adapter: Checkpoint) -> None:
        super().__init__(base, {name: name for name in base.tensors})
        self._adapter = adapter
        self._settings = read_settings(adapter) or AdapterSettings()
        parts = parts_of(adapter.tensors)
        self._modules: dict[str, AdaptedModule] = {}
        self._whole: dict[str, str] = {}
        tensors = dict(self.tensors)
        for module in parts.modules:
            info = weight_of(module, self._settings, base.tensors)
            if info is None or len(info.shape) != 2 or self._settings.replication:
                where = f"{shown(adapter.id)}: {shown(module.path, 120)}"
                raise UnsupportedEncoding(where, f"this cannot be applied to {shown(base.id)}", "Merge it with PEFT.")
            self._modules[info.name] = module
            tensors[info.name] = replace(info, dtype="F32", encoding=None)
        for entry in parts.saved:
            place = None if entry.kept else locate_saved(entry, self._settings, base.tensors)
            if place is not None:
                self._whole[place.name] = entry.info.name
                tensors[place.name] = replace(entry.info, name=place.name)
        self._tensors = MappingProxyType(tensors)

    @property
    def id(self) -> str:
        """Both names."""
        return f"{self._checkpoint.id} + {self._adapter.id}"

    @property
    def local(self) -> bool:
        """Whether reading either is a memory access."""
        return self._checkpoint.local and self._adapter.local

    @property
    def weight_files(self) -> tuple[str, ...]:
        """None."""
        return ()

    def digests(self, *, compute: bool = False) -> dict[str, str]:
        """Return nothing: what is computed has no digest."""
        return {}

    def cost(self) -> Cost:
        """Return what both have spent."""
        return self._checkpoint.cost() + self._adapter.cost()

    def read(self, selections: Sequence[Selection]) -> list[FloatArray]:
        """Return the selected parts, of adapted weights with the update."""
        plain = [s for s in selections if s.tensor not in self._modules and s.tensor not in self._whole]
        whole = [s for s in selections if s.tensor in self._whole]
        unchanged = iter(self._checkpoint.read(plain))
        replaced = iter(self._adapter.read([replace(s, tensor=self._whole[s.tensor]) for s in whole]))
        found = []
        for selection in selections:
            if selection.tensor in self._modules:
                found.append(self._changed(selection))
            else:
                found.append(next(replaced if selection.tensor in self._whole else unchanged))
        return found

    def _changed(self, selection: Selection) -> FloatArray:
        """Return a part of an adapted weight: whole output channels, and then the columns wanted."""
        info = self.tensors[selection.tensor]
        if selection.width not in (None, info.shape[1]):
            every = self._changed(Selection(selection.tensor)).reshape(-1, selection.width or 1)
            rows = slice(None) if selection.rows is None else selection.rows
            return every[rows][:, slice(None) if selection.columns is None else selection.columns]
        module = self._modules[selection.tensor]
        turned = self._is_turned(module, info)
        outputs, inputs = selection.rows, selection.columns
        if turned:
            outputs, inputs = inputs, outputs
        asked = Selection(info.name, None, outputs) if turned else Selection(info.name, outputs)
        (weight,) = self._checkpoint.read([asked])
        weight = weight.T if turned else weight
        changed = weight + effective_update(self._adapter, module, self._settings, outputs, weight=weight)
        changed = changed if inputs is None else changed[:, inputs]
        return np.ascontiguousarray(changed.T if turned else changed)

    def _is_turned(self, module: AdaptedModule, info: TensorInfo) -> bool:
        """Whether the base stores ``[in, out]``: as the shapes have it, and as the adapter claims for a square."""
        if module.embedding or info.shape[0] == info.shape[1]:
            return self._settings.transposed and not module.embedding
        return info.shape[0] != module.outputs
