"""The known layouts, one module each.

Every module of this package whose name does not begin with an underscore defines ``FAMILY``. Adding a layout is adding
a module: detection, analysis and the table in ``docs/architectures.md`` find it here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.anatomy.stream import StreamLayout

__all__ = ["Family", "families"]


@dataclass(frozen=True, eq=False, slots=True)
class Family:
    """A layout of tensor names and shapes.

    Attributes:
        name: Name of the layout, after its best-known model.
        claims: Whether a stack of layers is in this layout; looks at names only.
        analyse: Adds the groups of one layer.
        types: Model types whose attention is known to be what the names say; units of attention need it.
        rank: When several families claim a stack, the one of the highest rank has it.
        every_stack: Whether a model may consist of several stacks, such as an encoder and a decoder.
        stream: Where the residual stream is stored; None where it is not described.
        models: Examples of models, for the documentation.
        units: The groups, for the documentation: group name to a few words.
        notes: Particulars, for the documentation.
    """

    name: str
    claims: Callable[[Stack], bool]
    analyse: Callable[[Task, Layer], None]
    types: frozenset[str]
    rank: int = 0
    every_stack: bool = False
    stream: StreamLayout | None = None
    models: str = ""
    units: tuple[tuple[str, str], ...] = ()
    notes: str = ""


@cache
def families() -> tuple[Family, ...]:
    """Return all families, those of higher rank first, then by name."""
    found: list[Family] = []
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found.append(importlib.import_module(f"{__name__}.{module.name}").FAMILY)
    return tuple(sorted(found, key=lambda family: (-family.rank, family.name)))
