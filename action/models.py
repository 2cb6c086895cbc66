"""Which models a run is about: those that were named, else those that the event changed, else all there are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from action.changes import changed_files
from action.github import Context
from action.inputs import MAX_MODELS, Inputs
from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.errors import UsageError

__all__ = ["Selection", "Target", "select"]

_CARD = "README.md"
_TOLD_BY = re.compile(
    r"(?:.*\.index\.json|(?:.*_)?config\.json|mergekit_config\.ya?ml|\.lineage\.ya?ml)\Z", re.IGNORECASE
)
"""Files besides weights and card that say something about a model's lineage."""
_OF_A_MODEL = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n(?:(?!---).*\n)*?"
    r"(?:base_model(?:_relation|_revision)?|library_name|pipeline_tag|model-index)[ \t]*:"
)
"""Front matter that only model cards have: other READMEs may begin with three dashes, too."""
_HEAD = 64 << 10
_PIPELINE = "model_index.json"
_MOST_ENTRIES = 200_000


@dataclass(frozen=True, slots=True)
class Target:
    """A model to look at.

    Attributes:
        name: Folder or file, relative to the workspace where it lies there, or an id on the Hub.
        how: ``check`` it against its bases, or ``lint`` its card, since there are no weights.
    """

    name: str
    how: Literal["check", "lint"] = "check"


@dataclass(frozen=True, slots=True)
class Selection:
    """What to look at, and why.

    Attributes:
        targets: The models.
        why: One sentence.
        policies: Policy files that the event changed.
    """

    targets: tuple[Target, ...]
    why: str
    policies: tuple[str, ...] = ()


def select(inputs: Inputs, context: Context) -> Selection:
    """Return the models that the run is about.

    Args:
        inputs: What the workflow asks for.
        context: The run.

    Raises:
        UsageError: When there are too many.
    """
    changed = changed_files(context)
    policies = tuple(
        sorted(name for name in changed or () if PurePosixPath(name).name in (".lineage.yml", ".lineage.yaml"))
    )
    if inputs.policy is not None and changed is not None and PurePosixPath(inputs.policy).as_posix() in changed:
        policies = tuple(sorted({*policies, PurePosixPath(inputs.policy).as_posix()}))
    if inputs.models:
        named = tuple(_named(context.workspace, name) for name in inputs.models)
        return Selection(named, "The workflow names the models.", policies)
    if changed is None:
        targets = _all_models(context.workspace)
        why = "All models of the repository: this event changed no files, or it cannot be told which."
    else:
        targets = _of_files(context.workspace, changed)
        why = "Models whose weights, configuration or card changed."
    if len(targets) > MAX_MODELS:
        raise UsageError(
            f"{len(targets)} models; a job checks {MAX_MODELS} at most: name some of them in the input model"
        )
    return Selection(targets, why, policies)


def _named(workspace: Path, name: str) -> Target:
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(workspace):
        path = path.relative_to(workspace)
        name = str(path)
    inside = workspace / path
    if inside.is_dir() and not _has_weights(inside) and _is_card(inside / _CARD):
        return Target(name, "lint")
    return Target(name, "lint" if inside.is_file() and path.suffix.lower() == ".md" else "check")


def _of_files(workspace: Path, files: Iterable[str]) -> tuple[Target, ...]:
    """Return the models that files belong to."""
    found: dict[str, Target] = {}
    for file in files:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts or not (_tells(path.name) or is_weight_file(path.name)):
            continue
        # A folder that is gone held a model that is gone.
        folder = workspace / path.parent
        if folder.is_dir() and not folder.is_symlink():
            target = _around(workspace, path.parent)
            if target is not None:
                found.setdefault(target.name, target)
    return tuple(found[name] for name in sorted(found))


def _tells(name: str) -> bool:
    return name == _CARD or _TOLD_BY.match(name) is not None


def _around(workspace: Path, folder: PurePosixPath) -> Target | None:
    """Return the model that a folder is, or is a part of."""
    for place in (folder, *folder.parents):
        above = workspace / place.parent
        if place != PurePosixPath(".") and (above / _PIPELINE).is_file():
            return Target(place.parent.as_posix())
        if _has_weights(workspace / place):
            return Target(place.as_posix())
        if _is_card(workspace / place / _CARD):
            return Target(place.as_posix(), "lint")
    return None


def _has_weights(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return False
    weights = [name.lower() for name in names if is_weight_file(name)]
    # Files of other endings hold data as often as weights, unless something beside them speaks of a model.
    described = "config.json" in names or _is_card(folder / _CARD)
    return _PIPELINE in names or any(described or name.endswith((".safetensors", ".gguf")) for name in weights)


def _is_card(path: Path) -> bool:
    try:
        if not path.is_file() or path.is_symlink():
            return False
        with path.open("rb") as file:
            return _OF_A_MODEL.match(file.read(_HEAD).decode("utf-8", "replace")) is not None
    except OSError:
        return False


def _all_models(workspace: Path) -> tuple[Target, ...]:
    """Return every model of the workspace, parts of pipelines left out."""
    found: list[Target] = []
    seen = 0
    for folder, folders, files in os.walk(workspace):
        seen += len(folders) + len(files)
        if seen > _MOST_ENTRIES:
            raise UsageError(f"the repository has over {_MOST_ENTRIES:,} files: name the models in the input model")
        place = Path(folder).relative_to(workspace).as_posix()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "node_modules")
        if _PIPELINE in files or "pyvenv.cfg" in files:
            folders.clear()
        if _has_weights(Path(folder)):
            found.append(Target(place))
        elif _CARD in files and _is_card(Path(folder) / _CARD):
            found.append(Target(place, "lint"))
    return tuple(found)
