"""The tree of arrays in a ``.msgpack`` file of Flax.

Flax writes nested maps whose leaves are arrays: an extension type 1 that wraps shape, name of the type and bytes
(flax/serialization.py; msgpack itself: github.com/msgpack/msgpack/blob/master/spec.md). Arrays of more than 2^30 bytes
are maps of one-dimensional pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from lineage_plugin.checkpoint.dtypes import BITS
from lineage_plugin.checkpoint.foreign.window import Window
from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["Leaf", "read_tree"]

Path = tuple[str, ...]

_DEEPEST = 64
_MOST_ENTRIES = 1 << 17
_LONGEST_KEY = 1024
_HIGHEST_RANK = 8
_CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _SCALAR = 1, 3
_TYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL", "uint8": "U8"},
    **{"int8": "I8", "int16": "I16", "uint16": "U16", "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64"},
}
_SIZED = {  # First byte: kind, bytes that give the length.
    **{0xC4: ("bin", 1), 0xC5: ("bin", 2), 0xC6: ("bin", 4), 0xC7: ("ext", 1), 0xC8: ("ext", 2), 0xC9: ("ext", 4)},
    **{0xD9: ("str", 1), 0xDA: ("str", 2), 0xDB: ("str", 4), 0xDC: ("array", 2), 0xDD: ("array", 4)},
    **{0xDE: ("map", 2), 0xDF: ("map", 4)},
}
_NUMBERS = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}


@dataclass(frozen=True, slots=True)
class Leaf:
    """An array of the tree.

    Attributes:
        shape: Its shape.
        pieces: What holds its elements, in order; more than one for arrays over 2^30 bytes.
    """

    shape: tuple[int, ...]
    pieces: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    """A value as far as its first bytes tell: its kind, its length or number, and where its content begins."""

    kind: str
    value: int
    start: int
    code: int = 0

    @property
    def end(self) -> int:
        return self.start + self.value if self.kind in ("bin", "ext", "str") else self.start


def read_tree(window: Window) -> dict[Path, Leaf]:
    """Return the arrays of a file by their path.

    Raises:
        UnreadableCheckpoint: When it is no tree of arrays, or damaged.
    """
    arrays: dict[Path, TensorInfo] = {}
    numbers: dict[Path, int] = {}
    position = _walk(window, arrays, numbers)
    if position != window.size:
        raise window.damaged(f"{window.size - position} bytes are left over")
    leaves = _join(window, arrays, numbers)
    if not leaves:
        raise window.damaged("it holds no arrays")
    return leaves


def _walk(window: Window, arrays: dict[Path, TensorInfo], numbers: dict[Path, int]) -> int:
    """Walk the maps; return the end."""
    root = _token(window, 0)
    if root.kind != "map":
        raise window.damaged("it does not begin with a map")
    open_maps: list[tuple[Path, int]] = [((), root.value)]
    position, entries = root.start, 0
    while open_maps:
        path, left = open_maps.pop()
        if left == 0:
            continue
        open_maps.append((path, left - 1))
        entries += 1
        if entries > _MOST_ENTRIES or len(open_maps) > _DEEPEST:
            raise window.damaged("it holds too many maps or entries")
        key = _token(window, position)
        if key.kind != "str" or key.value > _LONGEST_KEY:
            raise window.damaged("a key is no text")
        try:
            name = window.take(key.start, key.value).decode()
        except UnicodeDecodeError:
            raise window.damaged("a key is no text") from None
        here = (*path, name)
        if sum(map(len, here)) + len(here) > _LONGEST_KEY or not is_printable_name(name):
            raise window.damaged("a key is too long or not printable")
        if here in arrays or here in numbers:
            raise window.damaged(f"it holds '{shown('/'.join(here), 120)}' twice")
        value = _token(window, key.end)
        position = value.end
        if value.kind == "map":
            open_maps.append((here, value.value))
        elif value.kind == "ext" and value.code in (_ARRAY, _SCALAR):
            arrays[here] = _array(window, value, "/".join(here))
        elif value.kind == "number":
            numbers[here] = value.value
        elif value.kind == "array":
            raise window.damaged(f"'{shown('/'.join(here), 120)}' is a list, which Flax does not write")
    return position


def _token(window: Window, position: int) -> _Token:
    first = window.number(position, 1)
    start = position + 1
    if first <= 0x7F:
        return _Token("number", first, start)
    if first <= 0x8F:
        return _Token("map", first & 0x0F, start)
    if first <= 0x9F:
        return _Token("array", first & 0x0F, start)
    if first <= 0xBF:
        return _Token("str", first & 0x1F, start)
    if first in _SIZED:
        kind, width = _SIZED[first]
        length = int.from_bytes(window.take(start, width), "big")
        if kind == "ext":
            return _Token(kind, length, start + width + 1, window.number(start + width, 1))
        return _Token(kind, length, start + width)
    if 0xD4 <= first <= 0xD8:
        return _Token("ext", 1 << (first - 0xD4), start + 1, window.number(start, 1))
    if first in _NUMBERS:
        width = _NUMBERS[first]
        return _Token("number", int.from_bytes(window.take(start, width), "big"), start + width)
    if first >= 0xE0 or first in (0xC0, 0xC2, 0xC3):
        return _Token("number", int(first == 0xC3), start)
    raise window.damaged(f"0x{first:02x} at byte {position} begins no value")


def _array(window: Window, outer: _Token, name: str) -> TensorInfo:
    """Read what an array says about itself: ``[shape, type, bytes]``."""
    wrong = window.damaged(f"the array '{shown(name, 120)}' is malformed")
    triple = _token(window, outer.start)
    shape_token = _token(window, triple.start)
    if triple.kind != "array" or triple.value != 3 or shape_token.kind != "array" or shape_token.value > _HIGHEST_RANK:
        raise wrong
    position, shape = shape_token.start, []
    for _ in range(shape_token.value):
        extent = _token(window, position)
        if extent.kind != "number":
            raise wrong
        shape.append(extent.value)
        position = extent.end
    kind = _token(window, position)
    if kind.kind != "str" or kind.value > 32:
        raise wrong
    dtype = _TYPES.get(window.take(kind.start, kind.value).decode("ascii", "replace"))
    data = _token(window, kind.end)
    # Very old files hold the bytes as text.
    if dtype is None or data.kind not in ("bin", "str") or data.end != outer.end or data.end > window.size:
        raise wrong
    if prod(shape) * BITS[dtype] != 8 * data.value:
        raise wrong
    return TensorInfo(name, tuple(shape), dtype, window.name, data.start, data.value)


def _join(window: Window, arrays: Mapping[Path, TensorInfo], numbers: Mapping[Path, int]) -> dict[Path, Leaf]:
    """Put arrays together that are stored in pieces."""
    heads = {path[:-1] for path in numbers if path[-1] == _CHUNKED}
    leaves: dict[Path, Leaf] = {}
    pieces: dict[Path, dict[str, TensorInfo]] = {}
    extents: dict[Path, dict[str, int]] = {}
    for path, info in arrays.items():
        if path[:-2] in heads and path[-2] == "chunks":
            pieces.setdefault(path[:-2], {})[path[-1]] = info
        else:
            leaves[path] = Leaf(info.shape, (info,))
    for path, number in numbers.items():
        if path[:-2] in heads and path[-2:-1] == ("shape",):
            extents.setdefault(path[:-2], {})[path[-1]] = number
    for head in heads:
        mine, shape = pieces.get(head, {}), extents.get(head, {})
        order, axes = [str(n) for n in range(len(mine))], [str(n) for n in range(len(shape))]
        if not mine or set(order) != set(mine) or set(axes) != set(shape) or len(shape) > _HIGHEST_RANK:
            raise window.damaged(f"the pieces of '{shown('/'.join(head), 120)}' are not complete")
        whole = tuple(shape[axis] for axis in axes)
        parts = tuple(mine[number] for number in order)
        if prod(whole) != sum(part.size for part in parts) or len({part.dtype for part in parts}) > 1:
            raise window.damaged(f"the pieces of '{shown('/'.join(head), 120)}' do not make up its shape")
        leaves[head] = Leaf(whole, parts)
    return leaves
