"""A quantised linear layer as GPTQ and AWQ write it: ``qweight``, ``qzeros`` and ``scales`` beside each other.

Both schemes, and the libraries that borrow their layouts (AutoRound), use these three names. Which of the two it is,
the settings say; without them the shapes do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes import Packed
from lineage_plugin.checkpoint.schemes._parts import whole
from lineage_plugin.checkpoint.types import Encoding, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["Groups", "Linear", "contradiction", "linears", "packing", "setting", "spoken_for"]

IntArray = NDArray[np.int64]

_LARGEST_SETTING = 1 << 31
_ROUND = frozenset({"auto-round", "auto_round", "autoround", "intel/auto-round"})
_ROTATED = ("theta", "pairs", "channel_scales")
"""What ParoQuant adds: rotations of the inputs, without which the levels are no weights."""


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """The stored tensors of a layer.

    Attributes:
        module: Name of the layer.
        qweight: Levels.
        qzeros: Zero points.
        scales: Scales.
        g_idx: Group of each input; None when it is not stored.
    """

    module: str
    qweight: TensorInfo
    qzeros: TensorInfo
    scales: TensorInfo
    g_idx: TensorInfo | None

    @property
    def weight(self) -> str:
        """Name of the weight that the layer had before."""
        return f"{self.module}.weight"

    @property
    def parts(self) -> tuple[TensorInfo, ...]:
        """All stored tensors, the levels first."""
        found = (self.qweight, self.qzeros, self.scales, self.g_idx)
        return tuple(info for info in found if info is not None)

    def info(self, shape: tuple[int, int], encoding: Encoding) -> TensorInfo:
        """Return the weight as later stages see it."""
        return whole(self.weight, shape, self.qweight, self.parts[1:], encoding)


@dataclass(frozen=True, slots=True)
class Groups:
    """Runs of inputs that share a scale and a zero point.

    Attributes:
        size: Inputs of a group; the last one may be cut.
        count: Number of groups.
    """

    size: int
    count: int

    def wanted(self, inputs: IntArray | None) -> IntArray | None:
        """Return the groups of some inputs, or None for all."""
        return None if inputs is None or self.count == 1 else np.unique(inputs // self.size)

    def places(self, inputs: IntArray | None, extent: int) -> IntArray:
        """Return which of the wanted groups each input belongs to.

        Args:
            inputs: The inputs, or None for all.
            extent: Number of all inputs.
        """
        names = np.arange(extent, dtype=np.int64) if inputs is None else inputs
        if self.count == 1:
            return np.zeros(names.size, np.int64)
        wanted = self.wanted(inputs)
        groups = names // self.size
        return groups if wanted is None else np.searchsorted(wanted, groups)

    @classmethod
    def of(cls, inputs: int, count: int, hint: int | None) -> Groups | None:
        """Return how a number of inputs is cut into groups; None when it cannot be.

        Args:
            inputs: Number of inputs.
            count: Number of groups.
            hint: Inputs of a group, as the settings have it; counts where it fits.
        """
        if not 0 < count <= inputs:
            return None
        for size in (hint or 0, -(-inputs // count)):
            if size > 0 and -(-inputs // size) == count:
                return cls(size, count)
        return None


def linears(packed: Packed) -> list[Linear]:
    """Return the layers that have a ``qweight``, ``qzeros`` and ``scales``.

    Raises:
        UnsupportedEncoding: When a layer is rotated, too.
    """
    found: list[Linear] = []
    for name, qweight in packed.tensors.items():
        module = name.removesuffix(".qweight")
        qzeros, scales = (packed.tensors.get(f"{module}.{part}") for part in ("qzeros", "scales"))
        # llm-awq calls what it subtracts scaled zeros.
        qzeros = qzeros or packed.tensors.get(f"{module}.scaled_zeros")
        if module == name or qzeros is None or scales is None:
            continue
        if any(f"{module}.{part}" in packed.tensors for part in _ROTATED):
            raise UnsupportedEncoding(
                packed.where,
                f"'{shown(module, 80)}' is rotated before it is quantised (ParoQuant), which is not decoded",
                "Give the unquantised weights.",
            )
        found.append(Linear(module, qweight, qzeros, scales, packed.tensors.get(f"{module}.g_idx")))
    return found


def spoken_for(settings: Mapping[str, object]) -> str | None:
    """Return which of the two layouts the settings speak of, ``gptq`` or ``awq``; None when of neither."""
    method = str(settings.get("quant_method", "")).lower()
    if method in _ROUND:
        return "awq" if "awq" in packing(settings) else "gptq"
    return method if method in ("gptq", "awq") else None


def packing(settings: Mapping[str, object]) -> str:
    """Return which layout the settings name, lower case; empty when they name none."""
    method = str(settings.get("quant_method", "")).lower()
    names = ("packing_format", "backend") if method in _ROUND else ("checkpoint_format", "format", "version")
    return next((value.lower() for name in names if isinstance(value := settings.get(name), str)), "")


def setting(settings: Mapping[str, object], *names: str) -> int | None:
    """Return the first of some settings that is a positive whole number of a sane size."""
    values = [settings.get(name) for name in names]
    return next((v for v in values if type(v) is int and 0 < v < _LARGEST_SETTING), None)


def contradiction(where: str, linear: Linear) -> UnreadableCheckpoint:
    """Return the error for a layer whose tensors do not fit each other."""
    shapes = ", ".join(f"{part.name.rpartition('.')[2]} {part.dtype} {list(part.shape)}" for part in linear.parts)
    return UnreadableCheckpoint(
        where,
        f"the tensors of '{shown(linear.module, 80)}' do not fit each other ({shown(shapes, 160)})",
        "Get the file again.",
    )
