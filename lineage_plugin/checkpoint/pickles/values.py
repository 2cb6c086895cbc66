"""The inert values that a pickle is interpreted into.

Besides these a pickle may make what Python has for data: dicts, lists, tuples, text, numbers. Nothing of it calls
anything when it is made, compared or thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Inert", "Name", "Ordered", "Storage", "Strange", "View"]


@dataclass(frozen=True, slots=True)
class Name:
    """An allowed name, not looked up anywhere.

    Attributes:
        path: Module and name with a dot between.
    """

    path: str


class Ordered(dict[object, object]):
    """An ``OrderedDict`` or ``Counter``, which unlike a dict may be given attributes; they are left aside."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers that lie in the archive.

    Attributes:
        key: Name of the member under ``data/``.
        kind: The storage class.
        count: Number of elements.
    """

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: a part of a storage, seen in some shape.

    Attributes:
        storage: Where its numbers are.
        dtype: Its type, named as in torch without ``torch.``.
        code: Its type, named as in safetensors; None where that has no name for it.
        offset: Its first element, counted in elements from the start of the storage.
        shape: Its extents.
        strides: Elements between neighbours along each axis.
    """

    storage: Storage
    dtype: str
    code: str | None
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Strange:
    """A tensor that is stored in a way that is not read.

    Attributes:
        kind: What it is, with an article.
    """

    kind: str


class Inert:
    """Something that is no tensor and not looked into."""

    __slots__ = ()
