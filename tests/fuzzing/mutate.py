"""Damage done to files, reproducible from a seed.

Most damage is blind: bits, blocks, truncation, integers that code trips over. Blind damage to a container with
checksums or lengths only tests the container, so JSON is also damaged value by value, the header of a safetensors file
with its length kept right, and the members of a zip archive with their checksums kept right.
"""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
from collections.abc import Mapping

__all__ = ["mutate"]

_INTEGERS = (
    *(0, 1, 2, 3, 7, 127, 128, 255, 256, 4095, 65535, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32),
    *(1 << 40, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2, (1 << 64) - 65536),
)
_VALUES: tuple[object, ...] = (
    *(0, -1, 1, 2, 1 << 31, 1 << 40, 1 << 63, -(1 << 63), 1 << 64, 1e308, 0.5, -0.0, float("nan"), float("inf")),
    *(
        None,
        True,
        False,
        "",
        "a" * 3000,
        "\x00",
        "\x1b[31m",
        "\n",
        "\u202e",
        "\ud800",
        "../../etc/passwd",
        "/etc/passwd",
    ),
    *("__class__", "-1", "F32", "BF16", "I4", [], {}, [[]], {"": 0}, [0], [1 << 62, 1 << 62], [-1, 4], [0, 4], ["a"]),
)
_EDGE = 4096
_DIGITS = re.compile(rb"\d+")
_MOST_NODES = 2000


def mutate(files: Mapping[str, bytes], spare: Mapping[str, bytes], rng: random.Random) -> dict[str, bytes]:
    """Damage one file of a folder, now and then two.

    Args:
        files: The files of the folder by name.
        spare: Files of another sample, to splice parts from.
        rng: Where chance comes from.

    Returns:
        The damaged files only.
    """
    names = sorted(files)
    damaged: dict[str, bytes] = {}
    for _ in range(1 if rng.random() < 0.9 else 2):
        # Weights are damaged as often as all small files together.
        heavy = [name for name in names if not name.endswith((".json", ".md", ".txt"))]
        name = rng.choice(heavy if heavy and rng.random() < 0.6 else names)
        data = damaged.get(name, files[name])
        for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
            data = _damage(name, data, _alike(name, spare), rng)
        damaged[name] = data
    return damaged


def _alike(name: str, spare: Mapping[str, bytes]) -> bytes:
    """Return a file of the other sample of the same name, or else of the same kind."""
    if name in spare:
        return spare[name]
    suffix = name.rpartition(".")[2]
    return next((data for other, data in sorted(spare.items()) if other.endswith(suffix)), b"")


def _damage(name: str, data: bytes, other: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        try:
            if name.endswith(".json"):
                return _json(data, rng)
            if name.endswith(".safetensors"):
                return _safetensors(data, rng)
            if data[:2] == b"PK":
                return _zip(data, other, rng)
        except Exception:
            pass  # The damage so far has left nothing of the structure; zipfile raises whatever it likes then.
    return rng.choice(_BLIND)(data, other, rng)


# Blind damage -------------------------------------------------------------------------------------------------------


def _place(size: int, rng: random.Random) -> int:
    """Return a position: half the time near the beginning, a quarter near the end."""
    chance = rng.random()
    if chance < 0.5:
        return rng.randrange(min(size, _EDGE))
    if chance < 0.75:
        return size - 1 - rng.randrange(min(size, _EDGE))
    return rng.randrange(size)


def _bits(data: bytes, other: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\x00"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        changed[_place(len(data), rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _bytes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    if not data:
        return b"\xff"
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        changed[_place(len(data), rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _truncated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    if not data:
        return data
    return data[: _place(len(data), rng)] if rng.random() < 0.8 else data[_place(len(data), rng) :]


def _extended(data: bytes, other: bytes, rng: random.Random) -> bytes:
    extra = rng.choice((b"\x00", b"\xff", bytes([rng.randrange(256)]))) * rng.choice((1, 7, 8, 100, 5000))
    return data + extra if rng.random() < 0.7 else extra + data


def _block(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Copy, delete, move or zero a stretch."""
    if len(data) < 2:
        return data
    start = _place(len(data), rng)
    size = min(rng.choice((1, 2, 4, 8, 16, 64, 256, 1024)), len(data) - start)
    stretch, to = data[start : start + size], _place(len(data), rng)
    act = rng.randrange(5)
    if act == 0:
        return data[:start] + data[start + size :]
    if act == 1:
        return data[:to] + stretch + data[to:]
    if act == 2:
        return data[:to] + stretch + data[to + size :]
    if act == 3:
        return data[:start] + bytes(size) + data[start + size :]
    return data[:start] + stretch * rng.choice((2, 3, 50)) + data[start + size :]


def _integer(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Overwrite an integer, or what may be one, by one that code trips over or by its neighbour."""
    width = rng.choice((1, 2, 4, 8))
    if len(data) < width:
        return data
    start = min(_place(len(data), rng), len(data) - width)
    if rng.random() < 0.6:
        start -= start % width
    order = rng.choice(("little", "little", "big"))
    if rng.random() < 0.3:
        value = int.from_bytes(data[start : start + width], order) + rng.choice((-8, -1, 1, 8))  # type: ignore[arg-type]
    else:
        value = rng.choice((*_INTEGERS, len(data), len(data) - 1, len(data) + 1, len(data) - start))
    return data[:start] + (value % (1 << 8 * width)).to_bytes(width, order) + data[start + width :]  # type: ignore[arg-type]


def _length(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Overwrite something that looks like a length or an offset: a small integer of four or eight bytes."""
    width = rng.choice((4, 8))
    starts = range(rng.randrange(4), max(0, min(len(data), 2 * _EDGE) - width), 1)
    found = [
        at
        for at in rng.sample(starts, min(len(starts), 64))
        if 0 < int.from_bytes(data[at : at + width], "little") <= 2 * len(data)
    ]
    if not found:
        return _integer(data, other, rng)
    at = found[0]
    value = int.from_bytes(data[at : at + width], "little")
    value = rng.choice((value + 1, value - 1, 2 * value, value * 1000, *_INTEGERS)) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def _digits(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Overwrite a number that is written in digits."""
    found = list(_DIGITS.finditer(data[: 4 * _EDGE]))
    if not found:
        return _integer(data, other, rng)
    match = rng.choice(found)
    value = rng.choice((*_INTEGERS, -1, "00", "1e9", "9" * 400))
    return data[: match.start()] + str(value).encode() + data[match.end() :]


def _splice(data: bytes, other: bytes, rng: random.Random) -> bytes:
    if not data or not other:
        return _block(data, other, rng)
    return data[: _place(len(data), rng)] + other[_place(len(other), rng) :]


_BLIND = (_bits, _bytes, _bytes, _truncated, _extended, _block, _block, _integer, _integer, _length, _digits, _splice)


# Damage that keeps the container right ------------------------------------------------------------------------------


def _json(data: bytes, rng: random.Random) -> bytes:
    document = json.loads(data)
    changed = _tree(document, rng)
    text = json.dumps(changed)
    if rng.random() < 0.03:
        depth = rng.choice((50, 900, 100_000))
        text = text.replace("0", "[" * depth + "]" * depth, 1)
    return text.encode("utf-8", "surrogatepass")


def _tree(document: object, rng: random.Random) -> object:
    """Change some values of a tree of dicts and lists."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        nodes = _nodes(document)
        if not nodes:
            return rng.choice(_VALUES)
        holder, key = rng.choice(nodes)
        act = rng.randrange(9)
        if act <= 2:
            holder[key] = rng.choice(_VALUES)
        elif act == 3:
            del holder[key]
        elif act == 4 and isinstance(holder, dict):
            holder[rng.choice((*_names(), str(key) + "x", str(key)[:-1]))] = holder.pop(key)
        elif act == 5:
            value = holder[key]
            if isinstance(value, (int, float)):
                holder[key] = rng.choice(
                    (*_INTEGERS, value + 1, value - 1, -value, value * 2, float(value), str(value))
                )
            else:
                holder[key] = [value]
        elif act == 6:
            other, place = rng.choice(nodes)
            try:
                holder[key], other[place] = other[place], holder[key]
            except (KeyError, IndexError):
                continue
        elif act == 7:
            other, place = rng.choice(nodes)
            # A copy: otherwise a branch could end up inside itself.
            holder[key] = json.loads(json.dumps(other[place]))
        elif isinstance(holder, list):
            holder.extend([holder[key]] * rng.choice((1, 3, 100)))
        else:
            holder[str(rng.choice(_names()))] = json.loads(json.dumps(holder[key]))
    return document


def _names() -> tuple[str, ...]:
    return ("", "__metadata__", "weight", "a" * 2000, "\n", "\u202e", "model.layers.99.mlp.up_proj.weight")


def _nodes(document: object) -> list[tuple[dict[str, object] | list[object], object]]:
    """List the places of a tree where a value stands, those near the root first."""
    found: list[tuple[dict[str, object] | list[object], object]] = []
    waiting = [document]
    while waiting and len(found) < _MOST_NODES:
        holder = waiting.pop(0)
        if isinstance(holder, dict):
            places: list[object] = list(holder)
        elif isinstance(holder, list):
            places = list(range(len(holder)))
        else:
            continue
        for place in places:
            found.append((holder, place))
            waiting.append(holder[place])  # type: ignore[index]
    return found


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= len(data) - 8:
        raise ValueError("no header")
    header = _json(data[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _zip(data: bytes, other: bytes, rng: random.Random) -> bytes:
    members = _members(data)
    name = rng.choice(list(members))
    spare = _members(other).get(name, b"") if other[:2] == b"PK" and rng.random() < 0.2 else b""
    act = rng.randrange(12)
    if act == 0:
        del members[name]
    elif act == 1:
        members[rng.choice(("../x", "/etc/passwd", "archive/data.pkl", "archive/data/0", name + "x", ""))] = members[
            name
        ]
    else:
        members[name] = rng.choice(_BLIND)(members[name], spare, rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED if rng.random() < 0.95 else zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return packed.getvalue()


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > 1 << 22:
            raise ValueError("grows too large")
        return {info.filename: archive.read(info) for info in archive.infolist()}
