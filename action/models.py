"""Which models a run is about: those that were named, else those that the event changed, else all there are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from action.changes import changed_files
from action.github import Context
from action.inputs import MAX_MODELS, Inputs
from lineage_plugin.errors import UsageError
from lineage_plugin.policy.find import NAME
from lineage_plugin.targets import Target, all_models, changed_models, local
from lineage_plugin.text import one_line

__all__ = ["Notice", "Selection", "select"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the event itself that a reviewer has to know.

    Attributes:
        file: The file it is about.
        title: In a few words.
        message: In a sentence.
    """

    file: str
    title: str
    message: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What to look at, and why.

    Attributes:
        targets: The models.
        why: One sentence.
        notices: What else the event changed that decides about the answer.
    """

    targets: tuple[Target, ...]
    why: str
    notices: tuple[Notice, ...] = ()


def select(inputs: Inputs, context: Context) -> Selection:
    """Return the models that the run is about.

    Args:
        inputs: What the workflow asks for.
        context: The run.

    Raises:
        UsageError: When there are too many, or nothing is there to look at.
    """
    top = context.workspace
    changed = changed_files(context)
    notices, policy_changed = _notices(top, inputs, changed or ())
    if inputs.models:
        named = tuple(_named(top, name) for name in inputs.models)
        return Selection(named, "The models are those that the workflow names.", notices)
    if not any(entry.name != ".git" for entry in os.scandir(top)):
        raise UsageError("nothing is checked out: put a step with actions/checkout before this one, or name a model")
    if changed is None:
        targets = all_models(top)
        why = "All models of the repository: this event changed no files, or it cannot be told which."
    elif policy_changed:
        targets, why = all_models(top), "All models of the repository, since their policy changed."
    else:
        targets, why = (
            changed_models(top, changed),
            "The models are those whose weights, configuration or card changed.",
        )
    if len(targets) > MAX_MODELS:
        few = f"a job checks {MAX_MODELS} at most: name some of them in the input model"
        raise UsageError(f"{len(targets)} models; {few}")
    return Selection(targets, why, notices)


def _notices(top: Path, inputs: Inputs, changed: Iterable[str]) -> tuple[tuple[Notice, ...], bool]:
    """Return what the event changed of the rules, the one in effect first, and whether that one is among them."""
    names = {PurePosixPath(name).as_posix(): name for name in changed}
    found: list[Notice] = []
    title = "lineage policy changed"
    said = "The policy was changed: what it lets pass was decided by this change itself. Review it first."
    effective = Path(inputs.policy or NAME)
    in_effect = _inside(top, effective) & names.keys()
    if in_effect:
        found.append(Notice(min(in_effect), title, said))
    # A policy beside a model only makes stricter; a change of it is worth a word all the same.
    others = sorted(name for name in names if PurePosixPath(name).name == NAME and name not in in_effect)
    found += [Notice(name, title, "The policy beside a model was changed.") for name in others[:3]]
    for base in inputs.bases:
        if (top / base).exists():
            below = sorted(name for name in names if PurePosixPath(name).is_relative_to(PurePosixPath(base)))
            if below:
                words = f"The base {one_line(base, 100)} is a folder of the repository, and this change touched it."
                found.append(Notice(below[0], "lineage base changed", words))
    return tuple(found), bool(in_effect)


def _inside(top: Path, path: Path) -> set[str]:
    """Return a file's names in the repository: its own, and that of what it links to."""
    ways = {(top / path), Path(os.path.realpath(top / path))}
    roots = (top, Path(os.path.realpath(top)))
    found = set()
    for way in ways:
        for root in roots:
            if way.is_relative_to(root):
                found.add(PurePosixPath(os.path.normpath(way.relative_to(root))).as_posix())
    return found


def _named(top: Path, name: str) -> Target:
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(top):
        path = path.relative_to(top)
        return local(path)
    here = top / path
    if here.exists():
        return Target(name, "lint" if here.is_file() and path.suffix.lower() == ".md" else "check")
    first = PurePosixPath(name.partition("@")[0]).parts[:1]
    if first and (top / first[0]).is_dir():
        # A folder that is gone must not become a model of the Hub that has its name.
        where = f"there is no such folder or file in {one_line(first[0], 80)}/"
        raise UsageError(f"input model: {one_line(name, 120)}: {where}")
    return Target(name)
