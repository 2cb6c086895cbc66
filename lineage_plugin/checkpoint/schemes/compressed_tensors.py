"""compressed-tensors, what llm-compressor writes: whole numbers packed or not, NVFP4, MXFP4, MXFP6.

``X.weight`` is replaced by ``X.weight_packed`` (or keeps its name, as I8 or FP8) and ``X.weight_scale``. Source: the
library, ``compressors/*/base.py`` and ``quantization/lifecycle/forward_helpers.py``:

``pack-quantized``
    Words of 32 bits hold fields of 1 to 8, low bits first, of ``level + 2**(bits - 1)``. Zero points are packed down
    the rows. The number of columns follows from the groups; of the others ``X.weight_shape`` says it.
``int-quantized``, ``naive-quantized``
    I8 levels, zero points of the shape of the scales.
``nvfp4-pack-quantized``
    Two E2M1 floats a byte, an FP8 scale for 16, which is divided by ``X.weight_global_scale``.
``mxfp4-pack-quantized``, ``mxfp6-pack-quantized``
    Two E2M1 floats a byte, or four E2M3 floats in three, and exponents of two for 32.

FP8 weights (``float-quantized``, ``mxfp8-quantized``) are read by :mod:`lineage_plugin.checkpoint.schemes.fp8`. What is
in the files decides, not what the settings call it; those give only bits and group sizes. Any of these may have been
rounded by GPTQ, one column after the other, without a trace in the settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.schemes import Packed, Scheme, Unpacked
from lineage_plugin.checkpoint.schemes._grid import FLOATS, Grid, fit
from lineage_plugin.checkpoint.schemes._packing import E2M1, Fields
from lineage_plugin.checkpoint.schemes._parts import ACTIVATIONS, attention_scales, beside, matrices, misfit, whole
from lineage_plugin.checkpoint.schemes._scaled import Levels, Order, Scaled, Zeros
from lineage_plugin.checkpoint.types import Encoding, Selection, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["SCHEME"]

_PACKED = ".weight_packed"
_PARTS = ("scale", "zero_point", "global_scale", "shape", "g_idx")
"""What lies beside the levels, as ``X.weight_...``."""
_SPARSE = {"bitmask": "sparse-bitmask", "scale_packed": "marlin-24"}
"""Last parts of names that only formats with sparse weights have."""
_AT_ONCE = 128
"""Most shapes that are read at once; of more than a few hundred ranges the Hub reader would read the gaps, too."""
_ROTATED = "The weights were rotated before they were quantised; they are compared as they are stored."
_LARGEST = 1 << 40
"""No weight has more columns."""

E2M3 = np.array([m / 8 for m in range(8)] + [(1 + m / 8) * 2.0**e for e in range(3) for m in range(8)], np.float32)
E2M3 = np.concatenate([E2M3, -E2M3])
"""The value of each six-bit float with a sign, two exponent and three fraction bits (OCP Microscaling Formats 1.0)."""
E2M3.setflags(write=False)


@dataclass(frozen=True, eq=False, slots=True)
class _Weight:
    """The stored tensors of one weight.

    Attributes:
        module: What it belongs to.
        levels: The levels.
        scale: The scales.
        more: The others, by the last part of their names.
    """

    module: str
    levels: TensorInfo
    scale: TensorInfo
    more: Mapping[str, TensorInfo]

    @property
    def parts(self) -> list[TensorInfo]:
        """Everything but the levels."""
        return [self.scale, *self.more.values()]


@dataclass(frozen=True, slots=True)
class _Width:
    """Bits of a level, columns, and columns that share a scale."""

    bits: int
    columns: int


def _unpack(packed: Packed) -> Unpacked | None:
    _refuse_sparse(packed)
    found = list(_weights(packed))
    if not found:
        return None
    widths = _widths(packed, [weight for weight in found if weight.levels.dtype == "I32"])
    derived: dict[str, Derived] = {}
    hidden = set(attention_scales(packed.tensors))
    for weight in found:
        name = f"{weight.module}.weight"
        if weight.levels.name != name and name in packed.tensors:
            raise UnreadableCheckpoint(packed.where, f"'{shown(name, 120)}' is there twice, once packed", "Remove one.")
        if weight.levels.dtype == "I32":
            derived[name] = _packed_words(packed.where, weight, widths[weight.module])
        elif weight.levels.dtype == "U8":
            derived[name] = _packed_floats(packed.where, weight)
        else:
            derived[name] = _bytes(packed.where, weight)
        hidden |= {weight.levels.name, *(part.name for part in weight.parts)}
        hidden.update(beside(packed.tensors, weight.module, ACTIVATIONS))
    rotated = bool(packed.settings.get("transform_config"))
    return Unpacked(derived, frozenset(hidden), (_ROTATED,) if rotated else ())


def _weights(packed: Packed) -> Iterator[_Weight]:
    """Find the weights: packed levels, or levels of eight bits, with scales."""
    for name, info in packed.tensors.items():
        module = name.removesuffix(_PACKED)
        if module != name:
            known = info.dtype in ("I32", "U8")
        else:
            module = name.removesuffix(".weight")
            known = module != name and info.dtype == "I8"
        scale = packed.tensors.get(f"{module}.weight_scale")
        if not known or scale is None or len(info.shape) < 2 or info.size == 0:
            continue
        parts = {part: packed.tensors.get(f"{module}.weight_{part}") for part in _PARTS[1:]}
        yield _Weight(module, info, scale, {part: other for part, other in parts.items() if other is not None})


def _packed_words(where: str, weight: _Weight, found: _Width) -> Derived:
    """Return a weight of whole numbers, several in a word."""
    shape = (*weight.levels.shape[:-1], found.columns)
    offset = 1 << (found.bits - 1)
    levels = Levels(weight.levels.name, Fields(found.bits), offset=offset)
    grid = _grid(where, weight, shape)
    zeros, zero = None, weight.more.get("zero_point")
    if zero is not None:
        if zero.dtype == "I32":
            zeros = _packed_zeros(where, zero, shape, grid, found.bits)
        else:
            zeros = _plain_zeros(where, weight, zero, shape)
    order = _order(where, weight, grid, found.columns)
    return _matrix(weight, shape, levels, (grid,), Encoding(f"INT{found.bits}", found.bits), zeros=zeros, order=order)


def _bytes(where: str, weight: _Weight) -> Derived:
    """Return a weight of whole numbers of eight bits."""
    shape = weight.levels.shape
    grid = _grid(where, weight, shape)
    zero = weight.more.get("zero_point")
    zeros = None if zero is None else _plain_zeros(where, weight, zero, shape)
    order = _order(where, weight, grid, shape[-1])
    return _matrix(weight, shape, Levels(weight.levels.name), (grid,), Encoding("INT8", 8), zeros=zeros, order=order)


def _packed_floats(where: str, weight: _Weight) -> Derived:
    """Return a weight of floats of four or six bits."""
    words, groups = weight.levels.shape[-1], weight.scale.shape[-1] if weight.scale.shape else 1
    six = weight.scale.dtype in ("U8", "F8_E8M0") and words == 24 * groups
    if six:
        shape, fields, table = (*weight.levels.shape[:-1], words // 3 * 4), Fields(6, 8), E2M3
    else:
        shape, fields, table = (*weight.levels.shape[:-1], words * 2), Fields(4, 8), E2M1
    grid = _grid(where, weight, shape)
    scales: tuple[Grid, ...] = (grid,)
    overall = weight.more.get("global_scale")
    if overall is not None:
        laid = fit(overall, *matrices(shape)) if overall.dtype in FLOATS else None
        if laid is None or laid[0].shape[1] != 1:
            raise misfit(where, overall, shape)
        scales = (grid, laid[0])
    name = "MXFP6" if six else "MXFP4" if grid.kind == "E8M0" else "NVFP4"
    return _matrix(weight, shape, Levels(weight.levels.name, fields, table), scales, Encoding(name, fields.bits))


def _matrix(
    weight: _Weight,
    shape: tuple[int, ...],
    levels: Levels,
    scales: tuple[Grid, ...],
    encoding: Encoding,
    *,
    zeros: Zeros | None = None,
    order: Order | None = None,
) -> Derived:
    planes, height, width = matrices(shape)
    rows = -1 if scales[0].planes == scales[0].shape[0] == 1 else scales[0].block[0]
    encoding = Encoding(encoding.name, encoding.bits, (rows, 0))
    info = whole(f"{weight.module}.weight", shape, weight.levels, weight.parts, encoding)
    codec = Scaled(planes * height, width, levels, scales, divided=True, zeros=zeros, order=order)
    return Derived(info, codec)


def _grid(where: str, weight: _Weight, shape: tuple[int, ...]) -> Grid:
    laid = fit(weight.scale, *matrices(shape), _group(weight, shape))
    if laid is None:
        raise misfit(where, weight.scale, shape)
    return laid[0]


def _group(weight: _Weight, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns that share a scale: groups of whole columns, which are all of one size."""
    return 1, max(1, shape[-1] // max(1, weight.scale.shape[-1] if weight.scale.shape else 1))


def _plain_zeros(where: str, weight: _Weight, zero: TensorInfo, shape: tuple[int, ...]) -> Zeros:
    laid = None
    if zero.shape == weight.scale.shape:
        laid = fit(zero, *matrices(shape), _group(weight, shape), whole=True)
    if laid is None:
        raise misfit(where, zero, shape)
    return Zeros(laid[0])


def _packed_zeros(where: str, zero: TensorInfo, shape: tuple[int, ...], grid: Grid, bits: int) -> Zeros:
    planes, height, _ = matrices(shape)
    words = (*shape[:-2], Fields(bits).length(height), grid.shape[1])
    if zero.shape != words or grid.shape[0] != height or grid.planes != planes:
        raise misfit(where, zero, shape)
    return Zeros(Grid(zero.name, planes, grid.shape, (1, grid.block[1]), height), bits, 1 << (bits - 1))


def _order(where: str, weight: _Weight, grid: Grid, columns: int) -> Order | None:
    vector = weight.more.get("g_idx")
    if vector is None or grid.shape[1] == 1:
        return None
    if vector.shape != (columns,) or vector.dtype not in ("I32", "I64"):
        raise misfit(where, vector, weight.levels.shape)
    return Order(vector.name, grid.block[1], grid.shape[1], where)


def _widths(packed: Packed, weights: Sequence[_Weight]) -> dict[str, _Width]:
    """Find the bits and the columns of packed weights, by module.

    A word of 32 bits may hold fields that are not used, so that the words alone do not say how many columns there are.
    """
    known = _known(packed.settings)
    found: dict[str, _Width] = {}
    asked: dict[tuple[object, ...], list[_Weight]] = {}
    alone = len({bits for bits, _ in known}) <= 1
    for weight in weights:
        words, groups = weight.levels.shape[-1], weight.scale.shape[-1] if len(weight.scale.shape) > 1 else 1
        fits = {_Width(b, groups * g) for b, g in known if g and groups > 1 and Fields(b).length(groups * g) == words}
        if len(fits) == 1:
            found[weight.module] = fits.pop()
        else:
            # Weights packed alike have the same shape where there is only one number of bits.
            key = (weight.levels.shape, weight.scale.shape) if alone else (weight.module,)
            asked.setdefault(key, []).append(weight)
    first = [group[0] for group in asked.values()]
    for (weight, columns), group in zip(_read_columns(packed, first), asked.values(), strict=True):
        bits = _bits(packed.where, weight, columns, {b for b, _ in known})
        width = _Width(bits, weight.levels.shape[-1] * 32 // bits if columns is None else columns)
        found.update((other.module, width) for other in group)
    return found


def _known(settings: Mapping[str, object]) -> list[tuple[int, int | None]]:
    """Return the bits and group sizes that the settings speak of."""
    groups = settings.get("config_groups")
    found: list[tuple[int, int | None]] = []
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        bits, size = (
            (weights.get("num_bits"), weights.get("group_size")) if isinstance(weights, Mapping) else (None, None)
        )
        if type(bits) is int and 1 <= bits <= 8:
            found.append((bits, size if type(size) is int and 0 < size < _LARGEST else None))
    return list(dict.fromkeys(found))


def _read_columns(packed: Packed, weights: Sequence[_Weight]) -> Iterator[tuple[_Weight, int | None]]:
    """Read the numbers of columns of some weights; None where it is not stored."""
    for start in range(0, len(weights), _AT_ONCE):
        chunk = weights[start : start + _AT_ONCE]
        shapes = [weight.more.get("shape") for weight in chunk]
        stored = [s for s in shapes if s is not None and s.dtype in ("I32", "I64") and len(s.shape) == 1 and s.size < 8]
        values = iter(packed.read([Selection(info.name) for info in stored]))
        for weight, info in zip(chunk, shapes, strict=True):
            if info is None:
                yield weight, None
                continue
            yield weight, _columns(packed.where, weight, info, next(values) if info in stored else None)


def _columns(where: str, weight: _Weight, info: TensorInfo, values: NDArray[np.generic] | None) -> int:
    extents = [] if values is None else [int(n) for n in values.reshape(-1).tolist()]
    if len(extents) < 2 or extents[:-1] != list(weight.levels.shape[:-1]) or not 0 < extents[-1] < _LARGEST:
        raise UnreadableCheckpoint(
            where,
            f"'{shown(info.name, 100)}' says {shown(extents, 60)}, which does not fit the packed weight "
            f"({shown(list(weight.levels.shape), 60)})",
            "Get the files again.",
        )
    return extents[-1]


def _bits(where: str, weight: _Weight, columns: int | None, known: set[int]) -> int:
    """Return the bits of a level: of those that the settings name, or else of all, the one that fills the words."""
    words = weight.levels.shape[-1]
    if columns is None and len(known) == 1:
        return next(iter(known))
    tried = [*sorted(known), *(b for b in (4, 8, 2, 3, 5, 6, 7, 1) if not known)]
    fits = [bits for bits in tried if columns is not None and Fields(bits).length(columns) == words]
    if fits:
        return fits[0]
    if any(columns is not None and -(-columns // (32 // bits)) == words for bits in tried):
        raise UnsupportedEncoding(
            where,
            f"'{shown(weight.levels.name, 100)}' is packed with unused bits in each word, as old versions of "
            "compressed-tensors did",
            "Save it with a current version.",
        )
    raise UnreadableCheckpoint(
        where,
        f"'{shown(weight.levels.name, 100)}' ({shown(list(weight.levels.shape), 60)}) has not the words of "
        f"{'its' if columns is None else columns} columns in {' or '.join(map(str, tried[:8]))} bits",
        "Get the files and the config from one revision.",
    )


def _refuse_sparse(packed: Packed) -> None:
    for name in packed.tensors:
        module, _, last = name.rpartition(".")
        if last in _SPARSE and (
            f"{module}.compressed" in packed.tensors or f"{module}.weight_packed" in packed.tensors
        ):
            raise UnsupportedEncoding(
                packed.where,
                f"the weights are stored in the sparse format '{_SPARSE[last]}' of compressed-tensors",
                "Decompress it with compressed-tensors 0.9 and give the result.",
            )


SCHEME = Scheme(
    name="compressed-tensors",
    methods=frozenset({"compressed-tensors"}),
    unpack=_unpack,
    rows=(
        Row(
            "compressed-tensors: `pack-quantized` (1 to 8 bits), `int-quantized`, `float-quantized`, NVFP4, MXFP4, "
            "MXFP6, MXFP8, mixed",
            "yes",
            "header, then the rows and their scales",
            "-",
            "The sparse formats (`sparse-bitmask`, `sparse-24-bitmask`, `marlin-24`) are not read.",
        ),
    ),
)
