"""Finding the stacks of layers in a list of tensor names.

Whatever stands before the layer number is kept as a prefix and not interpreted: ``model.layers.3.mlp.up_proj.weight``
is tensor ``mlp.up_proj.weight`` of layer 3 in the stack ``model.layers``, and so it is under ``language_model.model.``,
``module.`` or no prefix at all. Families recognise a stack by the names inside its layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["Layer", "Stack", "find_stacks", "is_float"]

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(0|[1-9][0-9]{0,5})\.")
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """The tensors of one layer.

    Attributes:
        index: Number of the layer in its stack.
        tensors: Tensors by their name inside the layer.
    """

    index: int
    tensors: Mapping[str, TensorInfo]

    def matrix(self, name: str, dimensions: int = 2) -> TensorInfo | None:
        """Return a floating-point tensor of the given number of dimensions, none of them empty, or None.

        Args:
            name: Name inside the layer.
            dimensions: Number of dimensions.
        """
        info = self.tensors.get(name)
        return info if info is not None and len(info.shape) == dimensions and is_float(info) else None

    def modules(self, parent: str) -> frozenset[str]:
        """Return the names directly below a module, such as ``{"q_proj", "k_proj"}`` below ``self_attn``."""
        start = parent + "."
        return frozenset(name[len(start) :].split(".", 1)[0] for name in self.tensors if name.startswith(start))


@dataclass(frozen=True, eq=False, slots=True)
class Stack:
    """Layers that follow one another.

    Attributes:
        prefix: Their names up to the layer number, such as ``model.layers``.
        layers: The layers by ascending index; indices may have gaps.
    """

    prefix: str
    layers: tuple[Layer, ...]

    @property
    def elements(self) -> int:
        """Number of weights in the stack."""
        return sum(info.size for layer in self.layers for info in layer.tensors.values())

    def has(self, *names: str) -> bool:
        """Return whether some layer holds all the named tensors."""
        return any(all(name in layer.tensors for name in names) for layer in self.layers)


def find_stacks(tensors: Mapping[str, TensorInfo]) -> tuple[Stack, ...]:
    """Group tensors by the first numbered layer in their names.

    Args:
        tensors: All tensors of a checkpoint by name.

    Returns:
        The stacks in order of their prefixes, those of a decoder last; tensors outside any stack are not in it.
    """
    found: dict[str, dict[int, dict[str, TensorInfo]]] = {}
    for name, info in tensors.items():
        match = _LAYER.search(name)
        if match is not None:
            layers = found.setdefault(name[: match.start(1) - 1], {})
            layers.setdefault(int(match[1]), {})[name[match.end() :]] = info
    return tuple(
        Stack(prefix, tuple(Layer(index, found[prefix][index]) for index in sorted(found[prefix])))
        for prefix in sorted(found, key=lambda prefix: ("decoder" in prefix, prefix))
    )


def is_float(info: TensorInfo) -> bool:
    """Return whether a tensor is stored as floating point and holds anything."""
    return (info.dtype in _FLOATS or info.dtype.startswith("F8_")) and all(extent > 0 for extent in info.shape)
