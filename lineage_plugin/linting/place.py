"""Where a card is, and how the small files beside it are read: on this machine, or in a repository of the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

from lineage_plugin.checkpoint.files import inside, list_files, opened, read_exactly
from lineage_plugin.checkpoint.open import locate
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.options import Options
from lineage_plugin.text import one_line

__all__ = ["CARD", "CARD_LIMIT", "Place", "place_of"]

CARD = "README.md"
CARD_LIMIT = 4 << 20
"""Bytes of a card that are read."""
_NO_CARDS: Final = frozenset({".bin", ".gguf", ".json", ".jsonl", ".py", ".pt", ".safetensors", ".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class Place:
    """A card in its place.

    Attributes:
        asked: What the user typed.
        file: Name of the card, as findings call it.
        card: Its bytes, at most ``CARD_LIMIT`` of them; None when there is none.
        path: The file on this machine; None for a card on the Hub.
        revision: The commit of a model on the Hub.
        files: Names of the files of the model; None when it is not known which belong to it.
        read: Returns a small file of the model, at most so many bytes of it; None when there is none.
        header: Returns what a GGUF file says of itself; None where reading it would take more than the first page.
        cost: What reading has cost so far.
        name: The id that the model has, or will have, on the Hub; None when it is not known.
        given: The id that the user gave it; None where it is known otherwise, or not at all.
    """

    asked: str
    file: str
    card: bytes | None
    path: Path | None
    revision: str | None
    files: tuple[str, ...] | None
    read: Callable[[str, int], bytes | None]
    header: Callable[[str], Mapping[str, object]] | None
    cost: Callable[[], Cost]
    name: str | None = None
    given: str | None = None

    def text(self, name: str) -> str | None:
        """Return a small text file of the model, or None when there is none."""
        data = self.read(name, 1 << 20)
        return None if data is None else data.decode("utf-8", errors="replace")


def place_of(card_or_model: str, *, name: str | None = None, options: Options) -> Place:
    """Find a card.

    Args:
        card_or_model: A card file, a local model folder, or ``owner/name[@revision]``.
        name: The id that a local model has, or will have, on the Hub.
        options: ``offline``, ``token`` and ``endpoint`` count here.

    Returns:
        The card in its place; of a folder without one, a place without a card.

    Raises:
        UsageError: When it is neither a path nor an id, or an id while ``options.offline``.
        UnreadableCheckpoint: When the card cannot be read, or is a link that leads out of its folder.
        HubError: When the Hub does not deliver.
    """
    where = locate(card_or_model)
    # A mistyped path is no reason to ask the Hub, however much it looks like an id.
    if not isinstance(where, str) and ("/" not in where.repo or Path(where.repo.partition("/")[0]).is_dir()):
        raise UsageError(
            f"{one_line(card_or_model, 200)}: there is no such file or folder (a model of the Hub is owner/name)"
        )
    if not isinstance(where, str):
        if name is not None:
            raise UsageError(f"{where.repo}: is on the Hub under this id; --name is for models on this machine")
        if options.offline:
            raise UsageError(
                f"'{one_line(card_or_model, 200)}' is not on this machine: there is no such file or folder"
            )
        return _on_hub(card_or_model, where.repo, where.revision, options)
    path = Path(where)
    place = _in_folder(card_or_model, path, CARD) if path.is_dir() else _file(card_or_model, path)
    known = name or (None if place.files is None else _downloaded(path if path.is_dir() else path.parent, options))
    return replace(place, given=name, name=known)


def _downloaded(folder: Path, options: Options) -> str | None:
    """Return the id of a model that was downloaded or cloned from the Hub, as the folder around it tells."""
    snapshots = Path(os.path.abspath(folder)).parent  # noqa: PTH100  # resolve() would follow links out of the cache
    cached = snapshots.parent.name.split("--")
    if snapshots.name == "snapshots" and cached[0] == "models" and len(cached) == 3:
        return "/".join(cached[1:])
    if not os.path.lexists(folder / ".git"):
        return None
    from lineage_plugin.checkpoint.git import find_clone

    clone = find_clone(folder)
    if clone is None or clone.url is None:
        return None
    from lineage_plugin.checkpoint.hub import endpoint_of
    from lineage_plugin.checkpoint.pointers import model_id_of

    return model_id_of(clone.url, endpoint_of(options.endpoint))


def _file(asked: str, path: Path) -> Place:
    """Return the place of a card that was given by itself; what is beside a ``README.md`` belongs to it."""
    if not path.is_file():
        raise UsageError(f"{one_line(asked, 200)}: is no file and no folder")
    if path.suffix.lower() in _NO_CARDS:
        raise UsageError(f"{one_line(asked, 200)}: is no model card; give the card, or the folder of the model")
    if path.name.lower() == CARD.lower() or not _has_other_cards(path.parent):
        return _in_folder(asked, path.parent, path.name)
    return Place(asked, path.name, _card(path.parent, path.name), path, None, None, _nothing, None, Cost)


def _has_other_cards(folder: Path) -> bool:
    """Return whether a folder has several Markdown files: whose the other files are cannot be known then."""
    with os.scandir(folder) as entries:
        return len(list(islice((entry for entry in entries if entry.name.lower().endswith(".md")), 2))) > 1


def _in_folder(asked: str, folder: Path, file: str) -> Place:
    files = list_files(folder)

    # A card that is repaired is read again and again, and what lies beside it stays as it is.
    @cache
    def read(other: str, limit: int) -> bytes | None:
        if other not in files:
            return None
        with opened(inside(folder, other)) as (descriptor, stamp):
            return read_exactly(descriptor, 0, min(limit, stamp.size))

    @cache
    def header(other: str) -> Mapping[str, object]:
        from lineage_plugin.checkpoint.gguf_files.header import read_header
        from lineage_plugin.checkpoint.ledger import Ledger
        from lineage_plugin.checkpoint.local import LocalSource

        try:
            return read_header(LocalSource(asked, folder, dict(files), Ledger(asked)), other).values
        except LineageError:
            return {}

    return Place(asked, file, _card(folder, file), folder / file, None, tuple(files), read, header, Cost)


def _card(folder: Path, file: str) -> bytes | None:
    path = inside(folder, file)
    if not path.is_file():
        return None
    with opened(path) as (descriptor, stamp):
        return read_exactly(descriptor, 0, min(CARD_LIMIT, stamp.size))


def _on_hub(asked: str, repo: str, revision: str | None, options: Options) -> Place:
    from lineage_plugin.checkpoint.hub import connect
    from lineage_plugin.checkpoint.ledger import Ledger

    ledger = Ledger(repo)
    source = connect(repo, revision, token=options.token, endpoint=options.endpoint, ledger=ledger)
    card = source.data(CARD, CARD_LIMIT)
    return Place(
        asked, CARD, card, None, source.revision, tuple(source.files), source.data, None, lambda: ledger.cost(0), repo
    )


def _nothing(_: str, __: int) -> None:
    return None
