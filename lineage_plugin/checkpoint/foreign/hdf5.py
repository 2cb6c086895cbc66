"""The datasets of an HDF5 file, as far as Keras writes them.

Keras writes by h5py with its oldest format: superblock 0, groups as B-trees of names, contiguous datasets. That subset
is walked here. The HDF5 library reads all of it, but in C, from files that anyone may have made, and has had a long row
of memory errors; a crash or worse is no price for a name and an offset.

Source of the format: HDF5 File Format Specification, version 3.0 (docs.hdfgroup.org/hdf5/develop/_f_m_t3.html),
sections II.A (superblock), III.A (B-trees), III.B and III.C (symbol tables), III.D (local heaps) and IV.A (object
headers).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from lineage_plugin.checkpoint.foreign.window import Window
from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["SIGNATURE", "read_datasets"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = (1 << 64) - 1
_DEEPEST = 64
_MOST_OBJECTS = 1 << 15
_MOST_MESSAGES = 1 << 18
_LONGEST_NAME = 1024
_HIGHEST_RANK = 32
_DATASPACE, _DATATYPE, _LAYOUT, _FILTERS, _CONTINUED, _GROUP = 0x01, 0x03, 0x08, 0x0B, 0x10, 0x11
_NEWER = frozenset({0x02, 0x06, 0x0A})
"""Link info, link and group info: groups of the newer format."""
_REMEDY = "Load it where it was made and save it again as safetensors (`save_pretrained`, transformers before 5)."


@dataclass(slots=True)
class _Object:
    """What the header of an object says, not yet checked."""

    group: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    address: int | None = None
    nbytes: int = 0


class _Walk:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.messages = 0
        self.seen: set[int] = set()

    # Groups ---------------------------------------------------------------------------------------------------------

    def root(self) -> int:
        """Return the address of the root group's header."""
        head = self.window.take(0, 96)
        if head[:8] != SIGNATURE:
            raise self.window.damaged("it does not begin as HDF5")
        if head[8] != 0:
            raise self.newer(f"superblock {head[8]}")
        if head[13] != 8 or head[14] != 8 or int.from_bytes(head[24:32], "little") != 0:
            raise self.newer("other sizes of addresses, or a block before the file")
        return int.from_bytes(head[64:72], "little")

    def members(self, btree: int, heap: int) -> Iterator[tuple[str, int]]:
        """Yield the names of a group and the addresses of their headers."""
        head = self.window.take(heap, 32)
        if head[:4] != b"HEAP":
            raise self.window.damaged("a group has no names")
        size, start = int.from_bytes(head[8:16], "little"), int.from_bytes(head[24:32], "little")
        if start + size > self.window.size:
            raise self.window.damaged("names lie beyond its end")
        for node in self._nodes(btree, 0):
            head = self.window.take(node, 8)
            if head[:4] != b"SNOD":
                raise self.window.damaged("a group has no members")
            count = int.from_bytes(head[6:8], "little")
            entries = self.window.take(node + 8, 40 * count)
            for entry in (entries[at : at + 40] for at in range(0, len(entries), 40)):
                kind = int.from_bytes(entry[16:20], "little")
                if kind == 2:
                    raise self.newer("a soft link")
                offset = int.from_bytes(entry[:8], "little")
                yield self._name(start, size, offset), int.from_bytes(entry[8:16], "little")

    def _nodes(self, address: int, depth: int) -> Iterator[int]:
        """Yield the addresses of a group's symbol nodes."""
        self._once(address)
        head = self.window.take(address, 24)
        if head[:4] != b"TREE" or head[4] != 0 or depth > _DEEPEST:
            raise self.window.damaged("a group is no tree")
        level, count = head[5], int.from_bytes(head[6:8], "little")
        entries = self.window.take(address + 24, 16 * count + 8)
        for at in range(8, len(entries), 16):
            child = int.from_bytes(entries[at : at + 8], "little")
            if level:
                yield from self._nodes(child, depth + 1)
            else:
                self._once(child)
                yield child

    def _name(self, start: int, size: int, offset: int) -> str:
        if offset >= size:
            raise self.window.damaged("a name lies outside the names")
        raw = self.window.take(start + offset, min(_LONGEST_NAME + 1, size - offset)).partition(b"\0")
        try:
            name = raw[0].decode()
        except UnicodeDecodeError:
            raise self.window.damaged("a name is no text") from None
        if not raw[1] or not name or "/" in name or not is_printable_name(name):
            raise self.window.damaged("a name is too long or not printable")
        return name

    def _once(self, address: int) -> None:
        """Refuse what has been seen before: trees do not meet."""
        if address in self.seen:
            raise self.window.damaged("parts of it overlap")
        self.seen.add(address)
        if len(self.seen) > 4 * _MOST_OBJECTS:
            raise self.window.damaged("it holds too many parts")

    # Objects --------------------------------------------------------------------------------------------------------

    def object(self, address: int, name: str) -> _Object:
        """Read the header of a group or dataset."""
        self._once(address)
        head = self.window.take(address, 16)
        if head[:4] == b"OHDR":
            raise self.newer("newer object headers")
        if head[0] != 1:
            raise self.window.damaged(f"'{shown(name, 120)}' has no header")
        found = _Object()
        left = int.from_bytes(head[2:4], "little")
        blocks = [(address + 16, int.from_bytes(head[8:12], "little"))]
        while blocks and left > 0:
            at, size = blocks.pop(0)
            if size > self.window.size:
                raise self.window.damaged(f"the header of '{shown(name, 120)}' lies beyond its end")
            stop = at + size
            while at + 8 <= stop and left > 0:
                left -= 1
                self.messages += 1
                if self.messages > _MOST_MESSAGES:
                    raise self.window.damaged("it holds too many parts")
                kind, length = self.window.number(at, 2), self.window.number(at + 2, 2)
                if at + 8 + length > stop:
                    raise self.window.damaged(f"the header of '{shown(name, 120)}' is too short")
                if kind == _CONTINUED:
                    body = self.window.take(at + 8, 16)
                    place = int.from_bytes(body[:8], "little")
                    self._once(place)
                    blocks.append((place, int.from_bytes(body[8:], "little")))
                elif kind in (_DATASPACE, _DATATYPE, _LAYOUT, _FILTERS, _GROUP) or kind in _NEWER:
                    self._message(found, kind, self.window.take(at + 8, length), at + 8, name)
                at += 8 + length
        return found

    def _message(self, found: _Object, kind: int, body: bytes, at: int, name: str) -> None:
        # Padded, so that what is missing reads as zero and fails the checks.
        body = body.ljust(24, b"\0")
        if kind == _GROUP:
            found.group = (int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little"))
        elif kind == _DATASPACE:
            found.shape = self._shape(body, name)
        elif kind == _DATATYPE:
            found.dtype = _dtype(body)
        elif kind == _LAYOUT:
            if body[0] not in (3, 4) or body[1] > 1:
                raise self.newer(f"'{shown(name, 120)}' stored in chunks or compressed")
            if body[1] == 0:
                found.nbytes, found.address = int.from_bytes(body[2:4], "little"), at + 4
            else:
                found.address, found.nbytes = (
                    int.from_bytes(body[2:10], "little"),
                    int.from_bytes(body[10:18], "little"),
                )
        elif kind == _FILTERS:
            raise self.newer(f"'{shown(name, 120)}' compressed")
        else:
            raise self.newer("groups of the newer format")

    def _shape(self, body: bytes, name: str) -> tuple[int, ...]:
        version, rank = body[0], body[1]
        start = {1: 8, 2: 4}.get(version)
        if start is None or rank > _HIGHEST_RANK or start + 8 * rank > len(body):
            raise self.window.damaged(f"'{shown(name, 120)}' has no shape")
        return tuple(int.from_bytes(body[start + 8 * n : start + 8 * n + 8], "little") for n in range(rank))

    def newer(self, what: str) -> UnsupportedEncoding:
        return UnsupportedEncoding(self.window.where, f"this HDF5 file is not as Keras writes them ({what})", _REMEDY)


def _dtype(body: bytes) -> str | None:
    """Return the name of an IEEE float or a whole number in little-endian order, else None."""
    kind, size, big = body[0] & 0x0F, int.from_bytes(body[4:8], "little"), body[1] & 1
    precision = int.from_bytes(body[10:12], "little")
    if big or int.from_bytes(body[8:10], "little") != 0 or precision != 8 * size:
        return None
    if kind == 0:
        name = f"{'I' if body[1] & 8 else 'U'}{8 * size}"
        return name if size in (1, 2, 4, 8) else None
    exponent, mantissa = (body[12], body[13]), (body[14], body[15])
    floats = {
        (2, (10, 5), (0, 10)): "F16",
        (2, (7, 8), (0, 7)): "BF16",
        (4, (23, 8), (0, 23)): "F32",
        (8, (52, 11), (0, 52)): "F64",
    }
    return floats.get((size, exponent, mantissa)) if kind == 1 else None


def read_datasets(window: Window) -> dict[tuple[str, ...], TensorInfo]:
    """Return the numeric datasets of a file by their path.

    Datasets of text and the like are left out, and so are empty ones.

    Raises:
        UnreadableCheckpoint: When the file is damaged.
        UnsupportedEncoding: When it uses parts of HDF5 that Keras does not.
    """
    walk = _Walk(window)
    found: dict[tuple[str, ...], TensorInfo] = {}
    waiting: list[tuple[tuple[str, ...], int]] = [((), walk.root())]
    objects = 0
    while waiting:
        path, address = waiting.pop()
        name = "/".join(path)
        seen = walk.object(address, name)
        if seen.group is not None:
            for member, place in walk.members(*seen.group):
                objects += 1
                if objects > _MOST_OBJECTS or len(path) >= _DEEPEST or len(name) + len(member) >= _LONGEST_NAME:
                    raise window.damaged("it holds too many or too deep groups")
                if (*path, member) in found:
                    raise window.damaged(f"it holds '{shown(member, 120)}' twice")
                waiting.append(((*path, member), place))
        elif path:
            if path in found:
                raise window.damaged(f"it holds '{shown(name, 120)}' twice")
            if (info := _dataset(window, name, seen)) is not None:
                found[path] = info
    if not found:
        raise window.damaged("it holds no numbers")
    return found


def _dataset(window: Window, name: str, seen: _Object) -> TensorInfo | None:
    if seen.shape is None or seen.dtype is None or seen.address is None:
        return None
    nbytes = prod(seen.shape) * int(seen.dtype.lstrip("BFIU")) // 8
    if nbytes == 0:
        return None
    if seen.address == _UNDEFINED:
        raise window.damaged(f"'{shown(name, 120)}' was never written")
    if seen.nbytes != nbytes or seen.address + nbytes > window.size:
        raise window.damaged(f"the numbers of '{shown(name, 120)}' do not fit its shape")
    return TensorInfo(name, seen.shape, seen.dtype, window.name, seen.address, nbytes)
