"""The weight formats, one module each.

Every module of this package whose name does not begin with an underscore defines ``FORMAT``. Adding a format is adding
a module: opening, file arguments, messages and the table in ``docs/formats.md`` find it here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache

from lineage_plugin.checkpoint.layout import NOT_WEIGHTS, Layout
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["Format", "Row", "choose", "formats", "is_weight_file", "weight_suffixes"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table in ``docs/formats.md``.

    Attributes:
        what: What is read, as people call it.
        lazy: Whether rows are read one by one.
        hub: How it is read over the Hub.
        needs: What has to be installed.
        limits: What is not read, and what is assumed.
    """

    what: str
    lazy: str
    hub: str
    needs: str
    limits: str


@dataclass(frozen=True, eq=False, slots=True)
class Format:
    """A format of weight files.

    Attributes:
        name: Name, as reports give it.
        rank: A model with files of several formats is opened in the one of the lowest rank.
        suffixes: How its files end, lower case.
        find: Chooses the weight files among all files of a model, the model named for messages; None when there are
            none of this format.
        open: Reads the headers.
        rows: What it reads, for the documentation.
    """

    name: str
    rank: int
    suffixes: tuple[str, ...]
    find: Callable[[Collection[str], str], Layout | None]
    open: Callable[[Source, Layout], Opened]
    rows: tuple[Row, ...]


@cache
def formats() -> tuple[Format, ...]:
    """Return all formats, the preferred ones first."""
    found: list[Format] = []
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found.append(importlib.import_module(f"{__name__}.{module.name}").FORMAT)
    return tuple(sorted(found, key=lambda format: (format.rank, format.name)))


@cache
def weight_suffixes() -> tuple[str, ...]:
    """Return how weight files of all formats end, lower case."""
    return tuple(suffix for format in formats() for suffix in format.suffixes)


def is_weight_file(name: str) -> bool:
    """Return whether a file looks like weights of some known format, by its name; training state does not."""
    bare = name.lower().rpartition("/")[2]
    return bare.endswith(weight_suffixes()) and not NOT_WEIGHTS.match(bare)


def choose(names: Collection[str], *, where: str, only: str | None = None) -> tuple[Format, Layout]:
    """Choose the weight files of a model and their format.

    Args:
        names: All files, with forward slashes.
        where: The model, for messages.
        only: The one file that is meant: a weight file or an index; None when the model as a whole is.

    Returns:
        The format and its files.

    Raises:
        InputError: When there are no weights, or it is not certain which files count; says what to do.
    """
    if only is not None:
        index = only.lower().endswith(".index.json")
        bare = only.lower().removesuffix(".index.json")
        # A file of any other name may be safetensors; its first bytes tell.
        format = next((f for f in formats() if bare.endswith(f.suffixes)), formats()[0])
        return format, Layout(only, ()) if index else Layout(None, (only,))
    for format in formats():
        layout = format.find(names, where)
        if layout is not None:
            return format, layout
    raise _nothing(names, where)


def _nothing(names: Collection[str], where: str) -> UnreadableCheckpoint:
    """Explain why there are no weights to read."""
    deeper = sorted(name for name in names if is_weight_file(name))
    if deeper:
        return UnreadableCheckpoint(
            where,
            "there are no weights at the top",
            f"Give the folder or file that is meant, as '{shown(f'{where}/{deeper[0]}', 160)}'.",
        )
    problem = "there are no weights" if names else "the folder is empty"
    return UnreadableCheckpoint(where, problem, "Add the weights; a card without weights is checked by `lineage lint`.")
