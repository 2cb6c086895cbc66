"""Which cards are meant: files, models, and whole folders of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lineage_plugin.errors import UsageError
from lineage_plugin.linting.place import CARD
from lineage_plugin.text import one_line

__all__ = ["cards_of"]

_MOST_ENTRIES: Final = 1_000_000
_MODEL: Final = ("config.json", "adapter_config.json", "model_index.json")
_WEIGHTS: Final = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".onnx", ".h5", ".msgpack")


def cards_of(places: Sequence[str]) -> tuple[str, ...]:
    """Return the cards that are meant.

    Args:
        places: What the user typed: card files, model folders, folders of models or of cards, ids of the Hub.

    Returns:
        Card files, folders and ids, each once. A folder that is a model, or holds a card with front matter, stands for
        itself. Any other one stands for the models below it, or where there are none for the Markdown files below it;
        for itself where there are none of these either. Hidden folders are left out.

    Raises:
        UsageError: When a folder holds more files than anybody means.
    """
    found: dict[str, None] = {}
    for place in places:
        path = Path(place)
        if path.is_dir() and not _is_model(path):
            found.update(dict.fromkeys(_below(path) or (place,)))
        else:
            found[place] = None
    return tuple(found)


def _is_model(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries if entry.is_file()}
    if any(name in _MODEL or name.endswith(_WEIGHTS) for name in names):
        return True
    return CARD in names and _has_front_matter(folder / CARD)


def _has_front_matter(card: Path) -> bool:
    with card.open("rb") as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"---")


def _below(folder: Path) -> tuple[str, ...]:
    """Return the cards of the models below a folder, or else its Markdown files."""
    models: list[str] = []
    others: list[str] = []
    for place, names in _walk(folder):
        if CARD in names:
            models.append(os.path.join(place, CARD))  # noqa: PTH118  # half a second for 10,000 cards
        others.extend(os.path.join(place, name) for name in names if name.lower().endswith(".md"))  # noqa: PTH118
    return tuple(models or others)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    seen = 0
    for place, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > _MOST_ENTRIES:
            raise UsageError(f"{one_line(folder, 200)}: holds over {_MOST_ENTRIES:,} files; name a smaller folder")
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, sorted(names)
