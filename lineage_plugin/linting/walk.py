"""Which cards are meant: files, models, and whole folders of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lineage_plugin.card.weight_names import CONFIGURATIONS, weight_names
from lineage_plugin.errors import UsageError
from lineage_plugin.linting.place import CARD
from lineage_plugin.text import one_line

__all__ = ["cards_of"]

_MOST_ENTRIES: Final = 1_000_000
_DEEPEST: Final = 32
"""Folders below the one that was named; no repository is deeper."""


def cards_of(places: Sequence[str]) -> tuple[str, ...]:
    """Return the cards that are meant.

    Args:
        places: What the user typed: card files, model folders, folders of models or of cards, ids of the Hub.

    Returns:
        Card files, folders and ids, each once. A folder with weights or a configuration is a model and stands for
        itself. Any other one stands for the models and the cards with front matter in it and below it; where there are
        none, for the Markdown files below it; for itself where there are none of these either. Hidden folders, and
        folders without a card inside a model, are left out.

    Raises:
        UsageError: When a folder holds more files than anybody means.
    """
    found: dict[str, str] = {}
    for place in places:
        if not place.strip():
            raise UsageError("an empty name is no card and no folder")
        folder = Path(place)
        below = _below(place) if folder.is_dir() and not _is_model([entry.name for entry in folder.iterdir()]) else ()
        for card in below or (place,):
            found.setdefault(_key(card), card)
    return tuple(found.values())


def _key(card: str) -> str:
    """Return what two ways to name a card have in common: a folder stands for the card in it."""
    if not os.path.lexists(card):
        return card
    return os.path.normpath(os.path.dirname(card) if os.path.basename(card) == CARD else card)  # noqa: PTH119, PTH120


def _is_model(names: Sequence[str]) -> bool:
    return not CONFIGURATIONS.isdisjoint(names) or weight_names(names).any


def _below(folder: str) -> tuple[str, ...]:
    """Return the folders of models and of cards below a folder, or else its Markdown files."""
    models: list[str] = []
    others: list[str] = []
    inside: set[str] = set()
    for place, names in _walk(folder):
        is_model = _is_model(names)
        within = os.path.dirname(place) in inside  # noqa: PTH120  # half a second for 10,000 cards
        if is_model or within:
            inside.add(place)
        if (CARD in names and (is_model or _has_front_matter(Path(place, CARD)))) or (is_model and not within):
            models.append(place)
        others.extend(os.path.join(place, name) for name in names if name.lower().endswith(".md"))  # noqa: PTH118
    return tuple(models or others)


def _has_front_matter(card: Path) -> bool:
    try:
        with card.open("rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"---")
    except OSError:
        return True  # linting it says why it cannot be read


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders from one on, top first and in the order of their names, with the names of their files."""
    waiting = [(folder, 0)]
    seen = 0
    while waiting:
        place, depth = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders += [entry.name] if not entry.name.startswith(".") else []
                    else:
                        names.append(entry.name)
        except OSError as error:
            raise UsageError(f"{one_line(place, 200)}: cannot be listed ({error.strerror})") from None
        seen += len(folders) + len(names)
        if seen > _MOST_ENTRIES:
            raise UsageError(f"{one_line(folder, 200)}: holds over {_MOST_ENTRIES:,} files; name a smaller folder")
        if depth < _DEEPEST:
            waiting += [(os.path.join(place, name), depth + 1) for name in sorted(folders, reverse=True)]  # noqa: PTH118
        yield place, sorted(names)
