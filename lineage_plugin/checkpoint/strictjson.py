"""JSON from files nobody vouches for.

``json.loads`` alone keeps the last of two equal keys, accepts NaN, and turns a hundred megabytes of brackets into
gigabytes of objects. Headers and shard indices are parsed with :func:`load_object`, which refuses all three.
"""

from __future__ import annotations

import json

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["bound", "load_object"]

_LONGEST_INTEGER = 20
"""Digits (with sign) of the largest 64-bit integer."""


_LONG = 4 << 20


class _Refused(ValueError):
    """What is wrong with the document, as a phrase."""


def load_object(
    data: bytes, *, where: str, what: str, values: int, containers: int, remedy: str = "", narrow: bool = False
) -> dict[str, object]:
    """Parse a JSON object strictly.

    Args:
        data: UTF-8 text.
        where: The file, for messages.
        what: What the text is, such as ``header``.
        values: Most strings, and most values in lists and objects. Together with ``containers`` it bounds the memory
            that the objects take.
        containers: Most lists and objects.
        remedy: What the user can do.
        narrow: Whether a long text may hold no characters beyond the basic plane. Python keeps a text at the width of
            its widest character, so one of them takes four bytes for every byte.

    Returns:
        The object.

    Raises:
        UnreadableCheckpoint: When the text is not UTF-8, not JSON, not an object, repeats a key, holds NaN or
            Infinity or an integer beyond 64 bits, is nested too deeply or holds more than it may.
    """
    try:
        bound(data, values, containers)
        document = json.loads(
            _decoded(data, narrow), object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer
        )
    except _Refused as error:
        raise UnreadableCheckpoint(where, f"the {what} {error}", remedy) from None
    except UnicodeDecodeError:
        raise UnreadableCheckpoint(where, f"the {what} is not UTF-8 text", remedy) from None
    except RecursionError:
        raise UnreadableCheckpoint(where, f"the {what} is nested too deeply", remedy) from None
    except ValueError:
        raise UnreadableCheckpoint(where, f"the {what} is not valid JSON", remedy) from None
    if not isinstance(document, dict):
        raise UnreadableCheckpoint(where, f"the {what} is not a JSON object", remedy)
    return document


def _decoded(data: bytes, narrow: bool) -> str:
    if narrow and len(data) > _LONG and (max(data) >= 0xF0 or b"\\ud" in data or b"\\uD" in data):
        raise _Refused("is long and holds characters beyond the basic plane")
    return data.decode("utf-8")


def bound(data: bytes, values: int, containers: int) -> None:
    """Refuse text that would grow into too many objects, before any of them is made.

    Only what stands outside strings counts: the metadata of adapters holds long strings full of brackets.

    Args:
        data: The text.
        values: Most strings, and most values in lists and objects.
        containers: Most lists and objects.

    Raises:
        ValueError: When there are more; its text continues a sentence about the document.
    """
    # Backslashes pair up from the left, so that these two replacements leave only the quotes that delimit strings.
    bare = data.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in data else data
    if bare.count(b'"') > 2 * values:
        raise _Refused("holds too many strings")
    outside = b"".join(bare.split(b'"')[::2])
    if outside.count(b"{") + outside.count(b"[") > containers or outside.count(b",") > values:
        raise _Refused("holds too many values")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"holds the key '{shown(key, 80)}' twice")
            seen.add(key)
    return unique


def _no_constant(name: str) -> object:
    raise _Refused(f"holds {name}, which is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise _Refused("holds an integer beyond 64 bits")
    return int(digits)
