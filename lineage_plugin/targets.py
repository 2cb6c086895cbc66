"""Which folders of a tree of files are models; the tree may come from a stranger, such as a pull request's author."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from lineage_plugin.card.front_matter import read_front_matter
from lineage_plugin.card.weight_names import CONFIGURATIONS, is_licence_file
from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.local import BESIDE
from lineage_plugin.checkpoint.open import open_checkpoint
from lineage_plugin.errors import LineageError, UsageError
from lineage_plugin.options import Options

__all__ = ["CARD", "LARGEST", "Target", "all_models", "changed_models", "describes", "local"]

CARD = "README.md"
_PIPELINE = "model_index.json"
_OF_MODELS = frozenset(
    {"base_model", "base_model_relation", "base_model_revision", "library_name", "pipeline_tag", "model-index"}
)
"""Front matter that only model cards have: other READMEs may have some, too."""
_CERTAIN = re.compile(
    r"(?:.*\.(?:safetensors|gguf)|(?:pytorch|adapter|diffusion_pytorch|tf|flax)_model\b.*)\Z", re.IGNORECASE
)
"""Names that weights have and hardly anything else; other endings may be those of data."""
_TELLS = re.compile(
    r"readme\.md|.*\.index\.json|(?:.*[_.-])?config\.json|model_index\.json|mergekit_(?:moe_)?config\.ya?ml"
)
"""Files besides weights that say something about a model's lineage, in lower case."""
LARGEST = 64 << 20
"""Bytes of the largest file that describes a model."""
_CARD_BYTES = 1 << 20
_MOST_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class Target:
    """A model to look at.

    Attributes:
        name: Folder or file, relative to the workspace where it lies there, or an id on the Hub.
        how: ``check`` it against its bases, or ``lint`` its card, since there are no weights.
        card: The card that speaks for it, where that is not its own.
    """

    name: str
    how: Literal["check", "lint"] = "check"
    card: str | None = None


def local(path: Path, how: Literal["check", "lint"] = "check", card: Path | None = None) -> Target:
    """Return a folder or file of the workspace as a target: whatever it is called, it is a path."""
    name = path.as_posix()
    # A tilde would be taken for somebody's home, and blanks alone for nothing.
    return Target(
        f"./{name}" if name[0] in "~-" or not name.strip() else name, how, None if card is None else card.as_posix()
    )


def _model_around(workspace: Path, folder: Path) -> Target | None:
    """Return the model that a folder is, or is a part of.

    Args:
        workspace: The repository.
        folder: The folder, relative to it.

    Returns:
        The target; None when there is no model here or above.
    """
    for place in (folder, *folder.parents):
        target = _model_at(workspace, place)
        if target is not None:
            return target
    return None


def describes(name: str) -> bool:
    """Return whether a file, by its name, says something about a model: a card, a configuration, a tokenizer."""
    bare = name.lower().rpartition("/")[2]
    return _TELLS.fullmatch(bare) is not None or bare in BESIDE or is_licence_file(bare)


def all_models(workspace: Path, below: Path = Path()) -> tuple[Target, ...]:
    """Return every model of the workspace, or of a folder of it; a pipeline is one model.

    Raises:
        UsageError: When there are too many files to look through.
    """
    found: dict[Target, None] = {}
    seen = 0
    for folder, folders, files in os.walk(workspace / below):
        seen += len(folders) + len(files)
        if seen > _MOST_ENTRIES:
            raise UsageError(f"the repository has over {_MOST_ENTRIES:,} files: name the models one by one")
        place = Path(folder).relative_to(workspace)
        components = _components(Path(folder))
        # Nothing else is left out: what is hidden from this walk would not be checked.
        folders[:] = sorted(name for name in folders if name != ".git" and name not in components)
        target = _model_at(workspace, place)
        if target is not None:
            found[target] = None
    return tuple(found)


def changed_models(top: Path, files: Iterable[str]) -> tuple[Target, ...]:
    """Return the models that changed files belong to, and weights beside them that a check of the model leaves aside.

    Args:
        top: The repository.
        files: The changed files, relative to it; those that are gone may be among them.
    """
    changed = {PurePosixPath(file) for file in files if not _leads_out(file)}
    folders: dict[Path, list[str]] = {}
    found: dict[Target, None] = {}
    for file in sorted(changed):
        if (top / file).is_dir() and not (top / file).is_symlink():
            # What git lists as one path and is a folder is a submodule.
            found.update(dict.fromkeys(all_models(top, Path(file))))
        elif is_weight_file(file.name) or _TELLS.fullmatch(file.name.lower()):
            folders.setdefault(Path(file.parent), []).append(file.name)
    for folder, name in _linked(top, changed):
        folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        # A folder that is gone held a model that is gone.
        if not (top / folder).is_dir():
            continue
        target = _model_around(top, folder)
        if target is None:
            continue
        if target.how == "lint" and any(is_weight_file(name) for name in names):
            target = Target(target.name, "check", target.card)  # its weights are gone
        found[target] = None
        found.update(dict.fromkeys(_unread(top, folder, target, names)))
    return tuple(sorted(found, key=lambda target: target.name))


def _leads_out(file: str) -> bool:
    path = PurePosixPath(file)
    return not file or path.is_absolute() or ".." in path.parts


def _linked(top: Path, changed: set[PurePosixPath]) -> Iterator[tuple[Path, str]]:
    """Yield the links of models to changed files: their folders and names."""
    root = Path(os.path.realpath(top))
    for target in all_models(top):
        folder = top / target.name
        with os.scandir(folder if folder.is_dir() else folder.parent) as entries:
            for entry in entries:
                if entry.is_symlink():
                    real = Path(os.path.realpath(entry.path))
                    if real.is_relative_to(root) and PurePosixPath(real.relative_to(root).as_posix()) in changed:
                        yield Path(entry.path).parent.relative_to(top), entry.name


def _unread(top: Path, folder: Path, target: Target, names: Iterable[str]) -> list[Target]:
    """Return changed weight files that a check of their model leaves aside: a loader may take these instead."""
    if target.how == "lint" or top / target.name != top / folder:
        return []
    try:
        taken = set(open_checkpoint(str(top / folder), options=Options(offline=True)).weight_files)
    except LineageError:
        return []
    card = target.card or (f"{folder.as_posix()}/{CARD}" if (top / folder / CARD).is_file() else None)
    unread = [name for name in names if is_weight_file(name) and name not in taken and (top / folder / name).is_file()]
    return [local(folder / name, card=None if card is None else Path(card)) for name in sorted(unread)]


def _model_at(workspace: Path, place: Path) -> Target | None:
    folder = workspace / place
    if place != Path() and place.name in _components(folder.parent):
        return local(place.parent)
    names = _files(folder)
    if _has_weights(folder, names):
        return local(place, card=None if CARD in names else _card_above(workspace, place))
    if CARD not in names or not _is_model_card(folder / CARD):
        return None
    # A card with a configuration and no weights is a model whose weights are missing. Weights below are checked there.
    return local(place, "check" if CONFIGURATIONS & names else "lint")


def _card_above(workspace: Path, place: Path) -> Path | None:
    """Return the card of the nearest folder above that has one: it speaks for weights in a subfolder."""
    for above in place.parents:
        if above != place and _is_model_card(workspace / above / CARD):
            return above / CARD
    return None


def _files(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()


def _has_weights(folder: Path, names: frozenset[str]) -> bool:
    if _PIPELINE in names or any(name.endswith(".safetensors.index.json") for name in names):
        return True
    weights = [name for name in names if is_weight_file(name)]
    described = bool(CONFIGURATIONS & names) or (CARD in names and bool(weights) and _has_front_matter(folder / CARD))
    return any(described or _CERTAIN.match(name) for name in weights)


def _components(folder: Path) -> frozenset[str]:
    """Return the subfolders that belong to a pipeline, as its index names them."""
    path = folder / _PIPELINE
    try:
        if not path.is_file() or path.stat().st_size > _CARD_BYTES:
            return frozenset()
        index = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return frozenset()
    parts = index.items() if isinstance(index, dict) else ()
    return frozenset(name for name, value in parts if isinstance(value, list) and len(value) == 2 and "/" not in name)


def _has_front_matter(card: Path) -> bool:
    found = read_front_matter(_head(card))
    return found.line is not None or not found.readable


def _is_model_card(card: Path) -> bool:
    """Return whether a README is a model card: by its keys, or because it was to be one and cannot be read."""
    head = _head(card)
    found = read_front_matter(head)
    if not found.readable:
        return any(key.encode() in head for key in _OF_MODELS)
    return any(entry.key.value in _OF_MODELS for entry in found.entries)


def _head(card: Path) -> bytes:
    try:
        if not card.is_file():
            return b""
        with card.open("rb") as file:
            return file.read(_CARD_BYTES)
    except OSError:
        return b""
